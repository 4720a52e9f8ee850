"""What every method owes, checked over all that are known by name, on features with and without a text tower."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.methods import named_methods
from hyperadapt.model import build_model
from hyperadapt.text import ClassText, class_text
from hyperadapt.training import TrainingSet, loss_terms, train
from manifolds.regularizers import GeneratorDraws, RecordedDraws, RecordingDraws
from tests.conftest import to_pixels

METHODS = named_methods()
TRAINED = [name for name, method in METHODS.items() if method.training is not None]
RESIDUAL = [name for name, method in METHODS.items() if method.starts_at_zero_shot]
ZERO_SHOT_NOVEL = [name for name, method in METHODS.items() if method.novel.startswith("zero-shot")]
TOWER_ONLY = [name for name, method in METHODS.items() if method.needs_tower]
NAMES = ("red bird", "blue bird", "striped fish", "spotted fish", "tall flower")
SOURCES = ("stored", "tower")


def unit(*shape, seed):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture(scope="module")
def scenes(small_backbone, noise_images):
    """Classes and training images, as a feature set gives them and as a tower does."""
    templates = unit(6, len(NAMES), 16, seed=1)
    stored = ClassText(NAMES, templates, normalize(templates.mean(0), dim=-1))
    classes = class_text(small_backbone.text, NAMES, ["a photo of a {}.", "a drawing of a {}."])
    pixels = torch.stack([to_pixels(image) for image in noise_images])
    images = replace(small_backbone.encode_images(pixels, with_parts=True), pixels=pixels)
    return {
        "stored": (stored, ImageFeatures(unit(12, 16, seed=2)), None),
        "tower": (classes, images, images.parts.maps.shape[-1]),
    }


@pytest.fixture(params=SOURCES)
def scene(request, scenes):
    """One of the scenes; the tower's alone for a method that needs it."""
    if request.param == "stored" and request.node.callspec.params.get("name") in TOWER_ONLY:
        pytest.skip("the method learns prompts, and stored features have no text tower")
    return scenes[request.param]


def labels_of(images):
    return torch.arange(len(images)) % len(NAMES)


def context(classes, part_width):
    return BuildContext(classes, classes.weights.shape[1], part_width, 100.0, 12, (3, 3, 2, 2, 2))


def untrained(name, scene, seed=1):
    """A model as it is before the first step."""
    classes, images, part_width = scene
    model = build_model(METHODS[name], context(classes, part_width), seed)
    model.prepare(images, labels_of(images), classes)
    return model


def trained_anew(name, scene, seed=1):
    """A model after a few steps."""
    classes, images, _ = scene
    method, model = METHODS[name], untrained(name, scene, seed)
    if method.training is not None:
        data = TrainingSet(images, labels_of(images), classes)
        train(model, data, replace(method.training, steps=4, batch_size=10), seed)
    return model


TRAINED_ONCE = {}


def trained(name, scene, seed=1):
    """The same, trained once for all tests of a module: a copy that a test may change."""
    key = (name, id(scene), seed)
    if key not in TRAINED_ONCE:
        TRAINED_ONCE[key] = (trained_anew(name, scene, seed), scene)
    return copy.deepcopy(TRAINED_ONCE[key][0])


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
def test_a_new_class_scores_the_same_whatever_stands_beside_it_unless_classes_are_compared(name, scene):
    _, images, _ = scene
    model, new = trained(name, scene), other_classes(scene[0], 6)
    if model.head.compares_classes:
        apart = logits(model, images, new)[:, [4, 1]] - logits(model, images, new.select([4, 1]))
        assert apart.abs().max() > 1e-5
        return
    torch.testing.assert_close(
        logits(model, images, new)[:, [4, 1]], logits(model, images, new.select([4, 1])), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("name", [name for name in METHODS if not METHODS[name].knows_split])
def test_known_and_new_classes_in_one_list_score_as_they_do_apart(name, scene):
    """What does not know the split need not be told it: each class is scored by its own rule in any list."""
    classes, images, _ = scene
    model, new = trained(name, scene), other_classes(classes, 2)
    if model.head.compares_classes:
        pytest.skip("scores are relative to the other classes of a list")
    mixed = ClassText(
        (new.names[0], *classes.names[:3], new.names[1]),
        torch.cat([new.templates[:, :1], classes.templates[:, :3], new.templates[:, 1:]], dim=1),
        torch.cat([new.weights[:1], classes.weights[:3], new.weights[1:]]),
        classes.tower,
    )
    known, fresh = logits(model, images, classes), logits(model, images, new)
    apart = torch.cat([fresh[:, :1], known[:, :3], fresh[:, 1:]], dim=1)
    torch.testing.assert_close(logits(model, images, mixed), apart, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ZERO_SHOT_NOVEL)
def test_where_the_rule_for_new_classes_is_zero_shot_their_scores_are_those_of_clip(name, scene):
    classes, images, _ = scene
    new = other_classes(classes, 4)
    expected = 100.0 * images.pooled @ new.weights.T
    torch.testing.assert_close(logits(trained(name, scene), images, new), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("method", TOWER_ONLY)
def test_what_needs_a_text_tower_refuses_stored_features(method):
    templates = unit(2, len(NAMES), 16, seed=1)
    with pytest.raises(InputError, match="text tower"):
        build_model(METHODS[method], context(ClassText(NAMES, templates, templates[0]), None), 1)


def test_what_reads_pixels_says_that_it_needs_the_towers():
    assert all(METHODS[name].needs_tower for name in METHODS if METHODS[name].reads_pixels)


@pytest.mark.parametrize("name", METHODS)
def test_an_image_scores_the_same_alone_and_in_a_batch(name, scene):
    classes, images, _ = scene
    model = trained(name, scene)
    together = logits(model, images, classes)
    alone = torch.cat([logits(model, images[i : i + 1], classes) for i in range(len(images))])
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", RESIDUAL)
def test_before_training_a_residual_method_is_zero_shot_clip(name, scene):
    """As it stands when training begins: with its shots shown to what keeps them."""
    classes, images, _ = scene
    expected = 100.0 * images.pooled @ classes.weights.T
    torch.testing.assert_close(logits(untrained(name, scene, seed=3), images, classes), expected, atol=1e-4, rtol=1e-5)


def test_before_training_xrvlm_scores_new_classes_as_zero_shot_clip(scene):
    classes, images, part_width = scene
    model, new = build_model(METHODS["xrvlm"], context(classes, part_width), seed=3), other_classes(classes, 4)
    torch.testing.assert_close(logits(model, images, new), 100.0 * images.pooled @ new.weights.T, atol=1e-4, rtol=1e-5)


def in_float64(classes):
    return replace(classes, templates=classes.templates.double(), weights=classes.weights.double())


def assert_each_scores_in_its_type_and_both_alike(models, scenes):
    """Known classes and new ones, for a model on features in float32 and one on the same in float64."""
    for listed in (scenes[0][0], other_classes(scenes[0][0], 3)):
        plain = logits(models[0], scenes[0][1], listed)
        exact = logits(models[1], scenes[1][1], in_float64(listed))
        assert (plain.dtype, exact.dtype) == (torch.float32, torch.float64)
        assert torch.isfinite(exact).all()
        torch.testing.assert_close(plain.double(), exact, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in TOWER_ONLY])
def test_features_in_float64_are_scored_in_float64_and_as_those_in_float32(name, scenes):
    """Before the first step, after a choice of settings, under trained weights and when trained on them."""
    single = scenes["stored"]
    double = (in_float64(single[0]), ImageFeatures(single[1].pooled.double()), None)
    models = [untrained(name, single), untrained(name, double)]
    for model, (classes, images, _) in zip(models, (single, double), strict=True):
        model.select([images], labels_of(images), classes)
    assert_each_scores_in_its_type_and_both_alike(models, (single, double))
    models[0] = trained(name, single)
    models[1].load_state_dict(models[0].state_dict())
    assert_each_scores_in_its_type_and_both_alike(models, (single, double))
    found = logits(trained_anew(name, double), double[1], double[0])
    assert found.dtype == torch.float64
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", TRAINED)
def test_equal_seeds_give_equal_weights_and_other_seeds_others(name, scene):
    first, again, other = (trained_anew(name, scene, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", TRAINED)
def test_training_lowers_the_loss_and_leaves_its_inputs_alone(name, scene):
    classes, images, _ = scene
    kept = (images.pooled.clone(), classes.weights.clone(), classes.templates.clone())
    model, settings = untrained(name, scene), replace(METHODS[name].training, steps=60, batch_size=12)
    history = train(model, TrainingSet(images, labels_of(images), classes), settings, 1)
    assert sum(history[-1].values()) < sum(history[0].values())
    assert all(
        torch.equal(a, b) for a, b in zip(kept, (images.pooled, classes.weights, classes.templates), strict=True)
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_state_dict_carries_everything_that_was_learnt(name, scene):
    classes, images, part_width = scene
    model = trained(name, scene)
    twin = build_model(METHODS[name], context(classes, part_width), seed=99)
    twin.load_state_dict(model.state_dict())
    for listed in (classes, other_classes(classes, 3)):
        assert torch.equal(logits(model, images, listed), logits(twin, images, listed))


@pytest.mark.parametrize("name", TRAINED)
def test_texts_are_encoded_again_only_when_a_weight_has_changed(name, scene, monkeypatch):
    classes, images, _ = scene
    model, calls = trained(name, scene), []
    encode = type(model.head).encode_classes
    monkeypatch.setattr(
        type(model.head), "encode_classes", lambda *args: (calls.append(len(args[1])), encode(*args))[1]
    )
    twin = replace(classes, weights=classes.weights.clone())
    first, again = logits(model, images, classes), logits(model, images, twin)
    assert torch.equal(first, again)
    once = len(calls)
    logits(model, images, other_classes(classes, 3))
    more = len(calls)
    assert more > once
    with torch.no_grad():
        for parameter in model.trainable:
            parameter.add_(0.05)
    changed = logits(model, images, classes)
    assert len(calls) > more
    assert not torch.equal(changed, first)


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
    classes, images, _ = scene
    model, labels = untrained(name, scene).train(), labels_of(images)
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
