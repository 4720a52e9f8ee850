import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hyperadapt.__main__ import main
from hyperadapt.data.pairs import load_pairs
from hyperadapt.errors import InputError
from hyperadapt.methods import load_method, named_methods
from hyperadapt.retrieval.features import TowerPairFeatures, pair_features
from hyperadapt.retrieval.fit import build_pair_model, embedded, fit_pairs, score_pairs
from hyperadapt.training import RunFolder
from tests.scenes import write_images

DIRECTIONS = [f"{direction}@{k}" for direction in ("image_to_text", "text_to_image") for k in (1, 5, 10)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images with two captions each, most of them to train on."""
    root = tmp_path_factory.mktemp("pairs") / "zoo"
    write_images(root)
    lines = []
    for name in ("ant", "bee", "cat", "dog"):
        for i in range(8):
            for text in (f"a photo of {name} {i}", f"{name} number {i}."):
                line = {"image": f"{name}/{i:02d}.png", "caption": text, "category": name, "negatives": [f"no {text}"]}
                lines.append(json.dumps(line | {"split": "train" if i < 6 else "test"}))
    (root / "captions.jsonl").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def features(folder, small_backbone):
    return TowerPairFeatures(load_pairs(data=folder), small_backbone, views=1)


def short(name, steps=6, **changed):
    method = load_method(name)
    return replace(method, training=replace(method.training, steps=steps, batch_size=8, **changed))


def write_features(folder, seed=0):
    """Pairs whose captions lie another way than their images, by a rotation that can be learnt."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(120, 16))
    turned = images @ np.linalg.qr(rng.normal(size=(16, 16)))[0]
    folder.mkdir()
    np.savez(folder / "features.npz", images=images, captions=0.5 * images + turned, parts=np.repeat([0, 2], 60))
    (folder / "meta.json").write_text("{}")
    return folder


def test_zero_shot_recall_is_that_of_the_towers_own_features(features, small_backbone):
    part = features.pairs.part("test")
    images, captions = embedded(build_pair_model(load_method("zero-shot"), features, 1), features, part)
    pixels = torch.stack([small_backbone.preprocess(features.pairs.source.image(row)) for row in part.rows])
    torch.testing.assert_close(images, small_backbone.encode_images(pixels).pooled, atol=1e-5, rtol=1e-5)
    texts = small_backbone.text.encode([features.pairs.captions[i] for i in part.captions])
    assert torch.equal(captions, texts)


def test_every_method_that_takes_captions_trains_on_pairs_and_leaves_the_towers_alone(features, small_backbone):
    before, part = small_backbone.fingerprint, features.pairs.part("test")
    names = [name for name, method in named_methods().items() if method.takes_captions and method.training]
    assert {"clip-adapter-both", "coop", "dcar", "prolip"} <= set(names)
    for name in names:
        fitted = fit_pairs(short(name, steps=2), features, seed=1)
        found = score_pairs(fitted.model, features, part)
        assert (found.image_to_text.total, found.text_to_image.total) == (8, 16)
        assert fitted.history[0].keys() >= {"image_to_text", "text_to_image"}
    del small_backbone.__dict__["fingerprint"]
    assert small_backbone.fingerprint == before


def test_training_on_pairs_lowers_the_loss_and_finds_more(tmp_path):
    features = pair_features(load_pairs(features=write_features(tmp_path / "set")), "tiny", "cpu", views=0)
    part = features.pairs.part("train")
    plain = score_pairs(build_pair_model(load_method("zero-shot"), features, 1), features, part)
    fitted = fit_pairs(short("prolip", steps=150, learning_rate=1e-2), features, seed=1)
    assert fitted.history[-1]["image_to_text"] < fitted.history[0]["image_to_text"]
    found = score_pairs(fitted.model, features, part)
    assert found.image_to_text.hits[1] > plain.image_to_text.hits[1]


def test_equal_seeds_give_equal_weights_and_a_stopped_run_goes_on_to_the_same_bits(features, tmp_path):
    method = short("dcar", checkpoint_steps=2)
    whole = fit_pairs(method, features, seed=1).model.state_dict()

    class Stop(Exception):
        pass

    def stop(done, total):
        if total == 6 and done == 5:
            raise Stop

    with pytest.raises(Stop):
        fit_pairs(method, features, 1, stop, RunFolder(tmp_path / "run"))
    steps = []
    resumed = fit_pairs(
        method, features, 1, lambda done, total: steps.append((done, total)), RunFolder(tmp_path / "run")
    )
    assert (5, 6) in steps
    assert (4, 6) not in steps
    assert all(torch.equal(value, resumed.model.state_dict()[name]) for name, value in whole.items())
    other = fit_pairs(method, features, seed=2).model.state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in whole.items())


def test_methods_that_are_not_for_captions_are_refused(features):
    for name in ("taskres", "xrvlm", "tip-adapter"):
        with pytest.raises(InputError, match="is not for captions"):
            build_pair_model(load_method(name), features, 1)
    coop = load_method("coop")
    own = replace(coop, adapter=replace(coop.adapter, settings=replace(coop.adapter.settings, class_specific=True)))
    with pytest.raises(InputError, match="is not for captions"):
        build_pair_model(own, features, 1)


def run(*arguments, out):
    return main(["bench", "retrieval", *map(str, arguments), "--out", str(out), "--device", "cpu"])


def test_the_command_writes_hits_and_totals_of_both_directions_and_repeats_nothing(tmp_path, capsys):
    features, out = write_features(tmp_path / "set"), tmp_path / "out"
    recipe = tmp_path / "short.yaml"
    recipe.write_text("name: short\nadapter: {type: clip-adapter, sides: both}\ntraining: {steps: 3}\n")
    arguments = ["--features", features, "--methods", "zero-shot", recipe, "--seeds", 1, 2]
    assert run(*arguments, out=out) == 0
    records = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    assert len(records) == 4
    for record in records:
        assert list(record["recall"]) == DIRECTIONS
        assert {direction["total"] for direction in record["recall"].values()} == {60}
        assert record["candidates"] == {"images": 60, "captions": 60, "galleries": 1}
        assert record["training_images"] == (0 if record["method"]["name"] == "zero-shot" else 60)
    shown = capsys.readouterr().out
    assert "i2t R@1" in shown
    assert "t2i R@10" in shown
    assert run(*arguments, out=out) == 0
    assert "4 of 4 runs were found finished" in capsys.readouterr().err


def test_captions_that_are_cut_are_told(tmp_path, capsys):
    write_images(tmp_path / "zoo")
    lines = [{"image": "ant/00.png", "caption": "ant " * 60}, {"image": "bee/00.png", "caption": "bee"}]
    (tmp_path / "zoo" / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert run("--data", tmp_path / "zoo", "--methods", "zero-shot", "--seeds", 1, out=tmp_path / "out") == 0
    assert "1 of 2 captions are longer than the text tower reads" in capsys.readouterr().err


def test_input_that_cannot_be_used_is_one_line(tmp_path, capsys):
    assert run("--features", write_features(tmp_path / "set"), "--methods", "dcar", out=tmp_path / "out") == 2
    assert "text tower" in capsys.readouterr().err
    assert run("--data", tmp_path, "--methods", "zero-shot", out=tmp_path / "out") == 2
    assert "captions.jsonl" in capsys.readouterr().err
