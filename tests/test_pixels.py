"""Methods that change the image tower get its inputs: the views that cached features have, and only where they ask."""

import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from hyperadapt import registry
from hyperadapt.adapters.base import AbstractAdapter
from hyperadapt.backbone import ImageFeatures
from hyperadapt.classifier import FewShotClassifier
from hyperadapt.data import FeatureSource, ImageFolderSource
from hyperadapt.errors import InputError
from hyperadapt.features import StoredFeatures, TowerFeatures
from hyperadapt.fit import FitSettings, fit_shots, fit_source
from hyperadapt.methods import load_method, method_from_dict
from hyperadapt.model import build_model
from hyperadapt.pixels import ViewPixels
from hyperadapt.protocols.run import run_task
from hyperadapt.protocols.task import Exam, Task
from hyperadapt.training import TrainingSet, why_apart
from hyperadapt.training_config import TrainingConfig
from hyperadapt.views import View, ViewMaker
from tests.conftest import to_pixels
from tests.scenes import write_features, write_images

ROWS = np.array([3, 21, 7, 30, 12])
CPU = torch.device("cpu")


@dataclass(frozen=True)
class TintConfig:
    """No settings."""


class Tint(AbstractAdapter):
    """A colour added to every image before the frozen image tower; a pull towards the frozen features."""

    reads_pixels = True

    def __init__(self, config, context):
        super().__init__()
        self.colour = nn.Parameter(torch.zeros(3, 1, 1))

    def adapt_classes(self, classes):
        return classes

    def adapt_images(self, images, classes):
        visual = classes.prompt_tower.model.visual
        return ImageFeatures(normalize(visual(images.tower_input + self.colour).float(), dim=-1))

    def losses(self, batch):
        assert batch.frozen_classes.templates.shape[:2] == (1, len(batch.frozen_classes))
        return {"pull": (batch.images.pooled - batch.frozen_images.pooled).abs().mean()}

    def describe(self, batch, frozen, image_names):
        moved = (batch.images.pooled - batch.frozen_images.pooled).abs().amax(dim=1).tolist()
        return dict(zip(image_names, moved, strict=True))


@pytest.fixture(autouse=True)
def tint(monkeypatch):
    known = dict(registry.components())
    training = TrainingConfig(optimizer="sgd", learning_rate=1.0, steps=6, batch_size=4, warmup_epochs=0)
    told = {"summary": "", "source": "", "novel": "", "training": training, "sees_unlabelled_or_novel_data": False}
    flags = {"knows_split": False, "needs_tower": True, "starts_at_zero_shot": True}
    known["tint"] = registry.Component("tint", "adapter", TintConfig, Tint, **told, **flags)
    monkeypatch.setattr(registry, "components", lambda: known)


def tinted(**training):
    return method_from_dict({"name": "tint", "adapter": {"type": "tint"}, "training": training})


class Counting(ImageFolderSource):
    """An image folder that remembers which rows were decoded, and by whom they were asked for."""

    seen: list[int]

    def image(self, row):
        self.seen.append(row)
        return super().image(row)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photos") / "photos")


@pytest.fixture
def source(folder):
    counting = Counting(folder)
    counting.seen = []
    return counting


def task_of(features, shots=2):
    draw, labels = features.source.draw(shots, 1), tuple(range(4))
    return Task(features, labels, draw.train, (Exam("test", features, draw.test, features.classes),), draw.val)


def test_training_pixels_are_the_views_behind_the_cached_features(source, small_backbone):
    features = TowerFeatures(source, small_backbone, views=2)
    views = features.training_views(ROWS, seed=4, with_parts=False, with_pixels=True)
    assert len(views.pixels) == len(views) == 15
    again = small_backbone.encode_images(views.pixels[:])
    torch.testing.assert_close(again.pooled, views.pooled)
    some = views[torch.tensor([14, 2])]
    assert torch.equal(some.pixels, views.pixels[:][[14, 2]])
    assert torch.equal(views[3:5].tower_input, views.pixels[:][3:5])
    assert features.training_views(ROWS, seed=4, with_parts=False).pixels is None


def test_evaluation_pixels_are_those_behind_the_features_in_the_same_batches(source, small_backbone):
    features = TowerFeatures(source, small_backbone)
    rows = np.arange(32).repeat(3)[::-1].copy()
    batches = list(features.batches(rows, with_parts=True, with_pixels=True))
    assert [len(batch.pixels) for batch in batches] == [64, 32]
    for batch in batches:
        assert batch.parts is not None
        torch.testing.assert_close(small_backbone.encode_images(batch.pixels).pooled, batch.pooled)
    assert all(batch.pixels is None for batch in features.batches(rows, with_parts=False))


def test_pixels_travel_with_their_images(small_backbone, noise_images):
    pixels = torch.stack([to_pixels(image) for image in noise_images])
    images = replace(small_backbone.encode_images(pixels), pixels=pixels)
    assert [len(batch) for batch in images.split(5)] == [5, 5, 2]
    assert torch.equal(ImageFeatures.cat(images.split(5)).to(CPU).tower_input, pixels)
    assert ImageFeatures.cat([images, ImageFeatures(images.pooled)]).pixels is None
    with pytest.raises(InputError, match="needs pixels, got features alone"):
        _ = ImageFeatures(images.pooled).tower_input


def test_pixels_are_decoded_once_while_the_budget_lasts_and_are_the_same_beyond_it(source):
    maker = ViewMaker(source, to_pixels, 32)
    views = [View(row, number, 5) for row in range(4) for number in (0, 1)]
    size = to_pixels(source.image(0)).nbytes
    expected = torch.cat([maker.pixels([view]) for view in views])
    for kept in (0, 3, 8):
        source.seen.clear()
        pixels = ViewPixels(maker, views, CPU, budget_bytes=kept * size + 1)
        for _ in range(3):
            assert torch.equal(pixels[:], expected)
            assert torch.equal(pixels[torch.tensor([5, 5, 1])], expected[[5, 5, 1]])
        assert len(source.seen) == 8 + 3 * len({5, 1} - set(range(kept))) + 2 * (8 - kept)


def test_expected_pixels_are_decoded_ahead_and_no_second_time(source):
    pixels = ViewPixels(ViewMaker(source, to_pixels, 32), [View(row) for row in range(8)], CPU, budget_bytes=0)
    pixels.expect([2, 6])
    waited = time.monotonic() + 20
    while sorted(source.seen) != [2, 6] and time.monotonic() < waited:
        time.sleep(0.01)
    assert sorted(source.seen) == [2, 6], "before anyone asked"
    assert len(pixels[torch.tensor([6, 2])]) == 2
    assert sorted(source.seen) == [2, 6]


def test_an_image_that_cannot_be_decoded_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"no image")
    pixels = ViewPixels(ViewMaker(ImageFolderSource(tmp_path), to_pixels, 32), [View(0), View(1)], CPU)
    with pytest.raises(InputError, match=r"x\.png"):
        pixels[:]


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"precision": "bf16"}], ids=str)
def test_a_method_on_pixels_trains_and_the_towers_stay(settings, source, small_backbone):
    before = small_backbone.fingerprint
    features = TowerFeatures(source, small_backbone, views=1)
    fitted = fit_shots(tinted(**settings), features, task_of(features).shots, range(4), 1)
    assert fitted.model.adapter.colour.detach().abs().max() > 1e-4
    assert fitted.history[-1]["pull"] > 0, "against the frozen features, from which the adapted ones have moved"
    del small_backbone.__dict__["fingerprint"]
    assert small_backbone.fingerprint == before


def test_a_run_on_pixels_is_scored_described_and_resumed_to_the_bit(source, small_backbone, tmp_path, monkeypatch):
    features = TowerFeatures(source, small_backbone, views=1)
    method = tinted(checkpoint_steps=2)
    whole, _ = fit_source(features, method, FitSettings(2, 1, tmp_path / "whole"))

    def stop(done, _total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_source(features, method, FitSettings(2, 1, tmp_path / "cut"), stop)
    cut, _ = fit_source(TowerFeatures(source, small_backbone, views=1), method, FitSettings(2, 1, tmp_path / "cut"))
    assert cut["history"] == whole["history"]
    for name in ("adapter.safetensors", "attributes.json", "history.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert (tmp_path / "whole" / "attributes.json").read_text().count(".png") == 8


def test_a_task_is_scored_through_the_adapted_tower(source, small_backbone):
    features = TowerFeatures(source, small_backbone, views=1)
    task = task_of(features)
    outcome = run_task(tinted(), task, 1)
    model = fit_shots(tinted(), features, task.shots, task.labels, 1).model
    test = task.exams[0].part
    pixels = torch.stack([to_pixels(source.image(row)) for row in test.rows])
    seen = normalize(small_backbone.model.visual(pixels + model.adapter.colour), dim=-1)
    right = (seen @ features.classes.weights.T).argmax(dim=1).numpy() == test.labels
    assert outcome.counts["test"].correct == right.sum()


def test_a_head_that_keeps_shots_keeps_them_adapted(source, small_backbone):
    features = TowerFeatures(source, small_backbone, views=17)
    method = replace(tinted(), head=load_method("tip-adapter").head, training=None)
    shots = task_of(features, shots=1).shots
    model = fit_shots(method, features, shots, range(4), 1).model
    expected = features.training_views(shots.rows, 1, with_parts=False).pooled.unflatten(0, (-1, 4)).mean(0)
    torch.testing.assert_close(model.head.keys, normalize(expected, dim=-1), atol=1e-5, rtol=1e-5)


def test_a_classifier_scores_given_images_through_the_adapted_tower(source, tokenizer, small_backbone):
    classifier = FewShotClassifier(
        small_backbone.model, tokenizer, to_pixels, method=tinted(learning_rate=30.0), views=0
    )
    shots = source.draw(2, 1).train
    images = [source.image(row) for row in shots.rows]
    classifier.fit(images, shots.labels, source.class_names)
    colour = classifier._model.adapter.colour
    seen = normalize(small_backbone.model.visual(torch.stack([to_pixels(i) for i in images]) + colour), dim=-1)
    expected = small_backbone.logit_scale * seen @ classifier._classes.weights.T
    torch.testing.assert_close(classifier.logits(images), expected.detach())


def test_runs_on_pixels_train_one_by_one_and_say_why(source, small_backbone):
    features = TowerFeatures(source, small_backbone, views=0)
    model = build_model(tinted(), features.context(features.classes), 1)
    data = TrainingSet(ImageFeatures(torch.zeros(4, 32)), torch.arange(4), features.classes)
    assert "image tower" in why_apart(model, data, TrainingConfig(steps=2))


def test_stored_features_have_no_pixels_and_say_so(tmp_path):
    features = StoredFeatures(FeatureSource(write_features(tmp_path / "set")), CPU)
    with pytest.raises(InputError, match=r"needs images, but .* holds stored features; use images"):
        fit_shots(tinted(), features, features.source.draw(2, 1).train, range(7), 1)
    with pytest.raises(InputError, match="needs images"):
        next(features.batches(np.arange(3), with_parts=False, with_pixels=True))
