"""What every method owes, checked over all that are known by name, on features with and without a text tower."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.methods import named_methods
from hyperadapt.model import build_model
from hyperadapt.text import ClassText, class_text
from hyperadapt.training import TrainingSet, loss_terms, train
from manifolds.regularizers import GeneratorDraws, RecordedDraws, RecordingDraws
from tests.conftest import to_pixels

METHODS = named_methods()
TRAINED = [name for name, method in METHODS.items() if method.training is not None]
RESIDUAL = [name for name in METHODS if name not in ("clip-adapter", "xrvlm", "zero-shot-template")]
NAMES = ("red bird", "blue bird", "striped fish", "spotted fish", "tall flower")
SOURCES = ("stored", "tower")


def unit(*shape, seed):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture(params=SOURCES)
def scene(request, small_backbone, noise_images):
    """Classes and training images, as a feature set gives them or as a tower does."""
    if request.param == "stored":
        templates = unit(6, len(NAMES), 16, seed=1)
        classes = ClassText(NAMES, templates, normalize(templates.mean(0), dim=-1))
        return classes, ImageFeatures(unit(12, 16, seed=2)), None
    classes = class_text(small_backbone.text, NAMES, ["a photo of a {}.", "a drawing of a {}."])
    images = small_backbone.encode_images(torch.stack([to_pixels(i) for i in noise_images]), with_parts=True)
    return classes, images, images.parts.maps.shape[-1]


def context(classes, part_width):
    return BuildContext(classes, classes.weights.shape[1], part_width, 100.0)


def trained(name, scene, seed=1, steps=4):
    classes, images, part_width = scene
    method = METHODS[name]
    model = build_model(method, context(classes, part_width), seed)
    if method.training is not None:
        labels = torch.arange(len(images)) % len(classes)
        train(model, TrainingSet(images, labels, classes), replace(method.training, steps=steps, batch_size=10), seed)
    return model


def logits(model, images, classes):
    return next(model.scores([images], classes))


def other_classes(classes, count, seed=9):
    if classes.tower is not None:
        return class_text(
            classes.tower, [f"new thing {i}" for i in range(count)], ["a photo of a {}.", "a drawing of a {}."]
        )
    templates = unit(len(classes.templates), count, classes.weights.shape[1], seed=seed)
    return ClassText(tuple(f"new thing {i}" for i in range(count)), templates, normalize(templates.mean(0), dim=-1))


@pytest.mark.parametrize("name", METHODS)
def test_permuting_the_classes_permutes_the_logits(name, scene):
    classes, images, _ = scene
    model = trained(name, scene)
    for listed in (classes, other_classes(classes, 7)):
        order = np.random.default_rng(0).permutation(len(listed)).tolist()
        plain, permuted = logits(model, images, listed), logits(model, images, listed.select(order))
        torch.testing.assert_close(permuted, plain[:, order], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("count", [1, 2, 9])
def test_any_number_of_new_classes_is_scored(name, scene, count):
    _, images, _ = scene
    found = logits(trained(name, scene), images, other_classes(scene[0], count))
    assert found.shape == (len(images), count)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", METHODS)
def test_a_new_class_scores_the_same_whatever_stands_beside_it(name, scene):
    _, images, _ = scene
    model, new = trained(name, scene), other_classes(scene[0], 6)
    torch.testing.assert_close(
        logits(model, images, new)[:, [4, 1]], logits(model, images, new.select([4, 1])), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("name", METHODS)
def test_an_image_scores_the_same_alone_and_in_a_batch(name, scene):
    classes, images, _ = scene
    model = trained(name, scene)
    together = logits(model, images, classes)
    alone = torch.cat([logits(model, images[i : i + 1], classes) for i in range(len(images))])
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", RESIDUAL)
def test_before_training_a_residual_method_is_zero_shot_clip(name, scene):
    classes, images, part_width = scene
    model = build_model(METHODS[name], context(classes, part_width), seed=3)
    expected = 100.0 * images.pooled @ classes.weights.T
    torch.testing.assert_close(logits(model, images, classes), expected, atol=1e-4, rtol=1e-5)


def test_before_training_xrvlm_scores_new_classes_as_zero_shot_clip(scene):
    classes, images, part_width = scene
    model, new = build_model(METHODS["xrvlm"], context(classes, part_width), seed=3), other_classes(classes, 4)
    torch.testing.assert_close(logits(model, images, new), 100.0 * images.pooled @ new.weights.T, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_equal_seeds_give_equal_weights_and_other_seeds_others(name, scene):
    first, again, other = (trained(name, scene, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", TRAINED)
def test_training_lowers_the_loss_and_leaves_its_inputs_alone(name, scene):
    classes, images, part_width = scene
    kept = (images.pooled.clone(), classes.weights.clone(), classes.templates.clone())
    model = build_model(METHODS[name], context(classes, part_width), 1)
    labels = torch.arange(len(images)) % len(classes)
    settings = replace(METHODS[name].training, steps=60, batch_size=12)
    history = train(model, TrainingSet(images, labels, classes), settings, 1)
    assert sum(history[-1].values()) < sum(history[0].values())
    assert all(
        torch.equal(a, b) for a, b in zip(kept, (images.pooled, classes.weights, classes.templates), strict=True)
    )


@pytest.mark.parametrize("name", TRAINED)
def test_a_state_dict_carries_everything_that_was_trained(name, scene):
    classes, images, part_width = scene
    model = trained(name, scene)
    twin = build_model(METHODS[name], context(classes, part_width), seed=99)
    twin.load_state_dict(model.state_dict())
    for listed in (classes, other_classes(classes, 3)):
        assert torch.equal(logits(model, images, listed), logits(twin, images, listed))


@pytest.mark.parametrize("name", TRAINED)
def test_no_tower_weight_is_among_the_trained_ones(name, scene, small_backbone):
    model = trained(name, scene)
    towers = {p.data_ptr() for p in small_backbone.model.parameters()}
    assert model.trainable
    assert not towers & {p.data_ptr() for p in model.parameters()}
    assert all(p.grad is None for p in small_backbone.model.parameters())


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_draws_its_random_numbers_from_what_it_is_given_and_nothing_else(name, scene):
    """Equal numbers give equal losses whatever the global generator holds, and every number asked for is used."""
    classes, images, part_width = scene
    model = build_model(METHODS[name], context(classes, part_width), 1).train()
    labels = torch.arange(len(images)) % len(classes)
    recording = RecordingDraws(GeneratorDraws(torch.Generator().manual_seed(2)))
    torch.manual_seed(0)
    expected = loss_terms(model, classes, images, labels, recording)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    found = loss_terms(model, classes, images, labels, RecordedDraws(recording.numbers))
    assert {name: float(term.detach()) for name, term in found.items()} == {
        name: float(term.detach()) for name, term in expected.items()
    }
    assert torch.equal(torch.get_rng_state(), before)
