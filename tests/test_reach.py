"""How far images go for new names: chosen on held-out training classes, used in lists with new names alone."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from hyperadapt import fit
from hyperadapt.__main__ import main
from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.classifier import FewShotClassifier
from hyperadapt.data import FeatureSource
from hyperadapt.errors import InputError
from hyperadapt.features import StoredFeatures
from hyperadapt.fit import choose_settings, fit_shots
from hyperadapt.methods import method_from_dict
from hyperadapt.model import build_model
from hyperadapt.protocols.base_to_novel import base_to_novel_task
from hyperadapt.protocols.few_shot import few_shot_task
from hyperadapt.protocols.run import run_seeds_together, run_task
from hyperadapt.reach import CUTS, FEWEST, PARTS, best_part, cuts
from tests.scenes import CLASS_NAMES, write_features

RECIPE = {
    "name": "reaching",
    "adapter": {
        "type": "lathadapter",
        "categories": "none",
        "images": "linear",
        "map_penalty": 0.01,
        "hier_weight": 0.0,
        "reach": "chosen",
    },
    "training": {"steps": 30, "learning_rate": 0.02, "warmup_epochs": 0},
}
METHOD = method_from_dict(RECIPE)


def features_at(folder, **changed):
    return StoredFeatures(FeatureSource(write_features(folder, **changed)), torch.device("cpu"))


@pytest.fixture
def features(tmp_path):
    return features_at(tmp_path / "set")


def turned(seed=3, width=24):
    """Arrays in which every image is its text, turned by one rotation that all classes share, and noise."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(np.eye(width) + 0.35 * rng.normal(size=(width, width)))
    texts = rng.normal(size=(5, len(CLASS_NAMES), width)) * 0.1 + rng.normal(size=(len(CLASS_NAMES), width))
    labels = np.repeat(np.arange(len(CLASS_NAMES)), 16)
    images = texts.mean(0)[labels] @ rotation + 0.4 * rng.normal(size=(len(labels), width))
    return {"images": images.astype(np.float32), "texts": texts.astype(np.float32)}


@pytest.mark.parametrize("classes", range(FEWEST, 41))
def test_every_cut_trains_on_two_classes_and_scores_two_others(classes):
    found = list(cuts(classes, 1))
    assert len(found) == CUTS
    for cut in found:
        assert sorted(cut.known + cut.held) == list(range(classes))
        assert min(len(cut.known), len(cut.held)) >= 2
        assert list(cut.known) == sorted(cut.known)
    assert found == list(cuts(classes, 1))
    if classes > 6:
        assert found != list(cuts(classes, 2))
        assert len(set(found)) > 1


def test_of_equal_parts_the_furthest_is_taken():
    assert best_part(torch.zeros(len(PARTS))) == 1.0
    for i, part in enumerate(PARTS):
        losses = torch.ones(len(PARTS))
        losses[i] = 0.5
        assert best_part(losses) == part


def built(features, labels=range(4), **settings):
    method = method_from_dict({**RECIPE, "adapter": {**RECIPE["adapter"], **settings}})
    classes = features.classes.select(labels)
    return build_model(method, BuildContext(classes, 24, None, 100.0), 1).eval()


def test_images_go_part_of_the_way_in_lists_with_a_new_name_and_all_of_it_elsewhere(features):
    adapter = built(features).adapter
    with torch.no_grad():
        adapter.images.bridges[0].change.copy_(torch.randn(24, 24, generator=torch.Generator().manual_seed(0)))
    images = ImageFeatures(features.classes.weights)
    frozen, full = images.pooled, normalize(images.pooled + images.pooled @ adapter.images.bridges[0].change, dim=-1)
    for part in PARTS:
        adapter.set_reach(part)
        for labels in ((0, 1, 2, 3), (3, 1)):
            seen = adapter.adapt_images(images, adapter.adapt_classes(features.classes.select(labels))).pooled
            torch.testing.assert_close(seen, full)
        for labels in ((4, 5), (0, 1, 2, 3, 6)):
            seen = adapter.adapt_images(images, adapter.adapt_classes(features.classes.select(labels))).pooled
            torch.testing.assert_close(seen, normalize((1 - part) * frozen + part * full, dim=-1))


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_the_part_that_explains_held_out_classes_best_is_chosen(features, monkeypatch, part):
    """Models of the cuts whose map takes images from where they are to beyond the texts, or past them."""
    texts = features.classes.weights

    def fitted(method, features, shots, labels, *_, **__):
        model = built(features, labels)
        model.adapter.adapt_images = lambda seen, classes: ImageFeatures(scored(seen, model.adapter.reach))
        return fit.Fitted(model, [], "")

    def scored(seen, reach):
        own = torch.cdist(seen.pooled, pooled).argmin(dim=1)
        right = texts[labels[own]]
        return normalize(right + (reach - part).abs() * normalize(torch.ones(24), dim=-1) * 5, dim=-1)

    task = base_to_novel_task(features, features.source.draw(4, 1))
    rows = task.shots.rows
    pooled = torch.cat([batch.pooled for batch in features.batches(rows, False)])
    labels = torch.tensor(task.labels)[torch.from_numpy(task.shots.labels)]
    monkeypatch.setattr(fit, "fit_shots", fitted)
    model = built(features, task.labels)
    told = choose_settings(METHOD, model, features, task.shots, task.labels, 1)
    assert f"reach {part:g} among 5 parts" in told
    assert float(model.adapter.reach) == part


def test_a_map_that_all_classes_share_reaches_new_ones(tmp_path):
    features = features_at(tmp_path / "turned", **turned())
    task = base_to_novel_task(features, features.source.draw(8, 1))
    model = fit_shots(METHOD, features, task.shots, task.labels, 1).model
    assert float(model.adapter.reach) >= 0.5


def test_the_losses_are_those_of_models_that_never_saw_the_classes(features):
    """The choice by hand, from fits of each cut."""
    task = base_to_novel_task(features, features.source.draw(4, 1))
    found = torch.zeros(len(PARTS), dtype=torch.float64)
    for cut in cuts(len(task.labels), 1):
        known, held = ([task.labels[i] for i in part] for part in (cut.known, cut.held))
        model = fit_shots(METHOD, features, task.shots.restrict(cut.known), known, 1, new_names=False).model
        change = model.adapter.images.bridges[0].change.detach()
        part = task.shots.restrict(cut.held)
        x = torch.cat([batch.pooled for batch in features.batches(part.rows, False)])
        y, t = torch.from_numpy(part.labels), features.classes.select(held).weights
        full = normalize(x + x @ change, dim=-1)
        scale = features.context(features.classes).logit_scale
        for i, reach in enumerate(PARTS):
            scores = scale * normalize((1 - reach) * x + reach * full, dim=-1) @ t.T
            found[i] += cross_entropy(scores.double(), y, reduction="sum")
    model = fit_shots(METHOD, features, task.shots, task.labels, 1).model
    assert float(model.adapter.reach) == PARTS[int(found.argmin())]


def test_nothing_is_held_out_where_no_new_name_is_scored(features):
    draw = features.source.draw(4, 1)
    outcome = run_task(METHOD, few_shot_task(features, draw), 1)
    assert outcome.selection == "reach 1 as set, for all names are trained on; no test image is used"
    assert run_task(METHOD, base_to_novel_task(features, draw), 1).selection.startswith("reach ")
    assert "likelihood" in run_task(METHOD, base_to_novel_task(features, draw), 1).selection


def test_a_head_that_chooses_too_has_its_say(features):
    method = method_from_dict({**RECIPE, "head": {"type": "tip-adapter"}})
    told = run_task(method, base_to_novel_task(features, features.source.draw(4, 1)), 1).selection
    assert "alpha" in told
    assert "validation images of the training classes; reach " in told


def test_too_few_classes_to_hold_some_out_are_told_of(features):
    shots = features.source.draw(4, 1).train.restrict(range(3))
    fitted = fit_shots(METHOD, features, shots, range(3), 1)
    assert "3 training classes are too few" in fitted.selection
    assert float(fitted.model.adapter.reach) == 1.0


def test_seeds_together_choose_as_they_do_alone(features):
    tasks = {seed: base_to_novel_task(features, features.source.draw(4, seed)) for seed in (1, 2)}
    together = run_seeds_together(METHOD, tasks)
    for seed, task in tasks.items():
        alone = run_task(METHOD, task, seed)
        assert together[seed].selection == alone.selection
        assert together[seed].counts == alone.counts


def test_it_is_saved_with_the_weights_and_serves_new_names(tmp_path, images_by_class):
    names, images, labels = images_by_class
    recipe = {**RECIPE, "adapter": {**RECIPE["adapter"], "map_penalty": 1.0}}
    classifier = FewShotClassifier("tiny", method=method_from_dict(recipe), views=1, device="cpu")
    classifier.fit(images, labels, names)
    classifier._model.adapter.set_reach(0.25)
    classifier.save_pretrained(tmp_path / "kept")
    again = FewShotClassifier.from_pretrained(tmp_path / "kept", "tiny", device="cpu")
    assert float(again._model.adapter.reach) == 0.25
    for listed in (None, ["a red circle", "a blue square"]):
        torch.testing.assert_close(again.logits(images[:3], listed), classifier.logits(images[:3], listed))


@pytest.fixture
def images_by_class(tmp_path):
    from PIL import Image

    colours = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200), "grey": (90, 90, 90)}
    images = [Image.new("RGB", (64, 64), colour) for colour in colours.values() for _ in range(2)]
    return list(colours), images, [k for k in range(4) for _ in range(2)]


def test_a_result_says_what_was_chosen(tmp_path):
    folder, recipe, out = write_features(tmp_path / "set"), tmp_path / "recipe.json", tmp_path / "out"
    recipe.with_suffix(".yaml").write_text(json.dumps(RECIPE))
    arguments = ["--features", str(folder), "--shots", "4", "--seeds", "1", "--out", str(out)]
    main(["bench", "base-to-novel", *arguments, "--methods", str(recipe.with_suffix(".yaml")), "--no-controls"])
    (found,) = (json.loads(path.read_text()) for path in out.glob("*.json"))
    assert found["selection"].startswith("reach ")
    assert found["selection"].endswith("; no test image is used")


def test_an_unknown_reach_is_refused():
    with pytest.raises(InputError, match="reach"):
        method_from_dict({**RECIPE, "adapter": {**RECIPE["adapter"], "reach": "half"}})
