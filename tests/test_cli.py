import json
import subprocess
import sys

import numpy as np
import pytest

from hyperadapt.__main__ import main
from hyperadapt.backbone import Backbone
from tests.scenes import write_features, write_images


def bench(*arguments, out):
    return main(["bench", "base-to-novel", *map(str, arguments), "--out", str(out), "--device", "cpu"])


def fast_recipe(folder):
    path = folder / "fast.yaml"
    path.write_text("name: fast\nadapter: {type: clip-adapter}\ntraining: {steps: 5}\n")
    return path


def results(out):
    return {path.name: json.loads(path.read_text()) for path in sorted(out.glob("*.json"))}


def test_help_answers_without_importing_torch():
    code = (
        "import sys; from hyperadapt.__main__ import parser; parser().format_help(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_writes_one_file_a_method_and_seed_and_prints_the_table(tmp_path, capsys):
    features, out = write_features(tmp_path / "set"), tmp_path / "out"
    assert bench("--features", features, "--methods", "zero-shot", fast_recipe(tmp_path), "--shots", 4, out=out) == 0
    found = results(out)
    assert len(found) == 6
    for record in found.values():
        assert record["protocol"] == "base-to-novel"
        assert record["counts"]["base"]["total"] == 4 * 10
        assert record["counts"]["novel"]["total"] == 3 * 10
        assert record["shots"] == 4
        assert len(record["data_fingerprint"]) == 64
        assert record["versions"]["torch"]
        assert record["seconds"]["train"] >= 0
        assert record["method"]["adapter"]["type"] in ("zero-shot", "clip-adapter")
    assert {record["seed"] for record in found.values()} == {1, 2, 3}
    shown = capsys.readouterr().out
    assert "zero-shot" in shown
    assert "fast" in shown
    assert "zero-shot top-1 over all 7 classes" in shown


def test_equal_seeds_give_equal_counts_in_the_files(tmp_path):
    features, recipe = write_features(tmp_path / "set"), fast_recipe(tmp_path)
    attributes = tmp_path / "attributes.yaml"
    attributes.write_text("name: attributes\nadapter: {type: lathadapter}\ntraining: {steps: 5}\n")
    for out in ("a", "b"):
        arguments = ["--features", features, "--methods", recipe, attributes, "--no-controls", "--shots", 4]
        assert bench(*arguments, "--seeds", 1, out=tmp_path / out) == 0
    first, second = results(tmp_path / "a"), results(tmp_path / "b")
    assert first.keys() == second.keys()
    for name in first:
        assert first[name]["counts"] == second[name]["counts"]
        assert first[name]["history"] == second[name]["history"]


def test_seeds_trained_together_have_the_counts_of_single_runs_and_say_so(tmp_path):
    features, recipe = write_features(tmp_path / "set"), fast_recipe(tmp_path)
    arguments = ["--features", features, "--methods", "zero-shot", recipe, "--shots", 4, "--seeds", 1, 2]
    assert bench(*arguments, out=tmp_path / "apart") == 0
    assert bench(*arguments, "--together", out=tmp_path / "together") == 0
    paths = sorted((tmp_path / "apart").glob("*.json"))
    assert len(paths) == 4
    for path in paths:
        apart, together = (json.loads((tmp_path / kind / path.name).read_text()) for kind in ("apart", "together"))
        assert apart["counts"] == together["counts"]
        assert apart["trained_with_seeds"] == []
        assert together["trained_with_seeds"] == ([] if apart["method"]["name"] == "zero-shot" else [1, 2])


def test_a_second_bench_on_the_same_images_never_runs_the_image_tower(tmp_path, monkeypatch):
    images = write_images(tmp_path / "photos")
    arguments = ["--data", images, "--methods", "zero-shot", fast_recipe(tmp_path), "--shots", 2, "--seeds", 1]
    assert bench(*arguments, out=tmp_path / "first") == 0
    calls = []
    encode = Backbone.encode_images
    monkeypatch.setattr(Backbone, "encode_images", lambda *a, **k: calls.append(1) or encode(*a, **k))
    assert bench(*arguments, out=tmp_path / "second") == 0
    assert not calls
    assert bench(*arguments, "--no-cache", out=tmp_path / "third") == 0
    assert calls
    first, *others = (
        [record["counts"] for record in results(tmp_path / name).values()] for name in ("first", "second", "third")
    )
    assert all(other == first for other in others)


def test_finished_runs_are_not_repeated_and_other_settings_are_not_mixed_up(tmp_path, capsys):
    features, out, recipe = write_features(tmp_path / "set"), tmp_path / "out", fast_recipe(tmp_path)
    bench("--features", features, "--methods", recipe, "--shots", 4, "--seeds", 1, out=out)
    (path,) = out.glob("*.json")
    before = path.stat().st_mtime_ns
    bench("--features", features, "--methods", recipe, "--shots", 4, "--seeds", 1, 2, out=out)
    assert path.stat().st_mtime_ns == before
    assert "1 of 2 runs were found finished" in capsys.readouterr().err
    recipe.write_text(recipe.read_text().replace("5", "6"))
    bench("--features", features, "--methods", recipe, "--shots", 4, "--seeds", 1, out=out)
    assert len(results(out)) == 3


BAD_FEATURES = {
    "NaN": ({"images": np.full((112, 24), np.nan, dtype=np.float32)}, ["images", "row 0"]),
    "another width": ({"texts": np.ones((5, 7, 20), dtype=np.float32)}, ["20", "24"]),
    "labels out of range": ({"labels": np.full(112, 9)}, ["labels", "9"]),
    "no texts": ({"texts": None}, ["no texts"]),
}


@pytest.mark.parametrize("case", BAD_FEATURES)
def test_a_bad_feature_set_is_one_line_and_status_2(case, tmp_path, capsys):
    changed, fragments = BAD_FEATURES[case]
    assert_refused(["--features", str(write_features(tmp_path / "set", **changed))], tmp_path, capsys, *fragments)


def assert_refused(arguments, tmp_path, capsys, *fragments):
    """One error line, status 2, nothing written."""
    out = tmp_path / "out"
    assert main(["bench", "base-to-novel", *arguments, "--out", str(out), "--device", "cpu"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hyperadapt: error: ")]
    assert len(lines) == 1
    assert all(fragment in lines[0] for fragment in fragments), lines[0]
    assert not out.exists()


def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SystemExit) as stopped:
            main(["bench", "base-to-novel", "--world", "birds", "--out", str(out)])
        assert stopped.value.code == 2
        assert "file is no folder; name another folder" in capsys.readouterr().err


def test_a_disk_that_fails_is_one_line_and_status_1(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "x.json")

    monkeypatch.setattr("hyperadapt.bench_commands.run_protocol", full)
    assert main(["bench", "base-to-novel", "--world", "birds", "--out", str(tmp_path)]) == 1
    found = capsys.readouterr().err
    assert "No space left on device" in found
    assert found.count("\n") == 1


def test_a_missing_folder(tmp_path, capsys):
    assert_refused(["--data", str(tmp_path / "nowhere")], tmp_path, capsys, "nowhere")
    assert_refused(["--features", str(tmp_path / "nowhere")], tmp_path, capsys, "nowhere")


def test_an_unknown_world(tmp_path, capsys):
    assert_refused(["--world", "dragons"], tmp_path, capsys, "dragons", "birds")


def test_an_empty_class(tmp_path, capsys):
    write_images(tmp_path / "photos")
    (tmp_path / "photos" / "hollow").mkdir()
    assert_refused(["--data", str(tmp_path / "photos")], tmp_path, capsys, "hollow")


def test_one_class_only(tmp_path, capsys):
    write_images(tmp_path / "photos", class_names=["ant"])
    assert_refused(["--data", str(tmp_path / "photos")], tmp_path, capsys, "class")


def test_a_corrupt_image_is_named(tmp_path, capsys):
    write_images(tmp_path / "photos")
    (tmp_path / "photos" / "bee" / "03.png").write_bytes(b"not an image")
    assert_refused(["--data", str(tmp_path / "photos"), "--shots", "2"], tmp_path, capsys, "03.png", "--skip-corrupt")


def test_corrupt_images_are_left_out_when_asked(tmp_path, capsys):
    write_images(tmp_path / "photos")
    (tmp_path / "photos" / "bee" / "03.png").write_bytes(b"not an image")
    arguments = ["--data", tmp_path / "photos", "--shots", 2, "--seeds", 1, "--methods", "zero-shot", "--skip-corrupt"]
    assert bench(*arguments, out=tmp_path / "out") == 0
    assert "03.png" in capsys.readouterr().err
    (record,) = results(tmp_path / "out").values()
    assert record["zero_shot_all_classes"]["total"] == 31


def test_a_split_file_that_names_absent_images(tmp_path, capsys):
    root = tmp_path / "flowers"
    (root / "jpg").mkdir(parents=True)
    rows = [[f"image_{i:05d}.jpg", i % 2, ("rose", "iris")[i % 2]] for i in range(6)]
    (root / "split_zhou_OxfordFlowers.json").write_text(
        json.dumps({"train": rows[:2], "val": rows[2:4], "test": rows[4:]})
    )
    assert_refused(["--data", str(root)], tmp_path, capsys, "image_00000.jpg")


def test_an_unknown_method_lists_the_known_ones(tmp_path, capsys):
    features = write_features(tmp_path / "set")
    assert_refused(
        ["--features", str(features), "--methods", "latadapter"], tmp_path, capsys, "latadapter", "lathadapter", "xrvlm"
    )


def test_a_class_name_too_long_for_the_towers_context(tmp_path, capsys):
    write_images(tmp_path / "photos", class_names=["ant", "_".join(["very"] * 40)])
    assert_refused(["--data", str(tmp_path / "photos"), "--shots", "2"], tmp_path, capsys, "very very", "room for")


def test_shots_larger_than_a_class_are_said_aloud(tmp_path, capsys):
    full = np.load(write_features(tmp_path / "set") / "features.npz", allow_pickle=False)
    features = write_features(tmp_path / "set", images=full["images"][8:], labels=full["labels"][8:])
    arguments = ["--features", features, "--shots", 9, "--seeds", 1, "--methods", "zero-shot"]
    assert bench(*arguments, out=tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "1 class has fewer than" in said
    assert "ant 8" in said


@pytest.mark.parametrize("shots", ["0", "-3"])
def test_impossible_shots(shots, tmp_path, capsys):
    assert_refused(["--features", str(write_features(tmp_path / "set")), "--shots", shots], tmp_path, capsys, shots)


def test_methods_that_need_a_text_tower_are_refused_by_name_before_anything_runs(tmp_path, capsys):
    features, out = write_features(tmp_path / "set"), tmp_path / "out"
    assert bench("--features", features, "--methods", "zero-shot", "coop", "maple", out=out) == 2
    said = capsys.readouterr().err
    assert "coop, maple" in said
    assert "leave them out" in said
    assert not out.exists() or not any(out.iterdir())


def test_a_template_for_features_is_refused(tmp_path, capsys):
    features = write_features(tmp_path / "set")
    assert_refused(["--features", str(features), "--template", "a {}"], tmp_path, capsys, "--template")


def test_no_cuda_where_there_is_none(tmp_path, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    features = write_features(tmp_path / "set")
    arguments = [
        "bench",
        "base-to-novel",
        "--features",
        str(features),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cuda",
    ]
    assert main(arguments) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_methods_lists_every_method_with_its_source(capsys):
    from hyperadapt.methods import named_methods

    assert main(["methods"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, method in named_methods().items():
        assert name in shown
        assert method.source.split(",")[0] in shown


@pytest.mark.shared_data
def test_the_real_aerial_features_give_the_known_zero_shot_accuracy(shared_data, tmp_path, capsys):
    features = shared_data / "features" / "whurs19-ViT-B-32"
    assert bench("--features", features, "--methods", "zero-shot", out=tmp_path / "out") == 0
    record = next(iter(results(tmp_path / "out").values()))["zero_shot_all_classes"]
    assert record["total"] == 1005
    assert 100 * record["correct"] / record["total"] == pytest.approx(81.3, abs=0.2)
