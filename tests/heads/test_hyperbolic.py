"""Distance scores: the stated formula, their flat twin, and the ranking of the cosine where radii are equal."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.hyperbolic import Hyperbolic, HyperbolicConfig
from hyperadapt.methods import load_method, method_from_dict
from hyperadapt.text import ClassText
from manifolds import PoincareBall


def unit(*shape, seed=0):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def scene(**settings):
    text, images = unit(1, 6, 16), ImageFeatures(unit(9, 16, seed=1))
    classes = ClassText(tuple("abcdef"), text, text[0])
    head = Hyperbolic(HyperbolicConfig(**settings), BuildContext(classes, 16, None, 100.0))
    return head, images, classes


def scores(head, images, classes):
    return head.logits(images, head.encode_classes(classes)).detach()


def test_scores_are_negative_distances_over_the_temperature_mixed_with_the_cosine():
    head, images, classes = scene(curvature=0.5, image_radius=1.5, text_radius=0.8, temperature=0.1, cosine_share=0.3)
    ball = PoincareBall(0.5)
    for i, x in enumerate(images.pooled):
        for k, t in enumerate(classes.weights):
            distance = ball.dist(ball.expmap0(1.5 * x), ball.expmap0(0.8 * t))
            wanted = -0.7 * distance / 0.1 + 0.3 * 100.0 * (x @ t)
            torch.testing.assert_close(scores(head, images, classes)[i, k], wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("manifold", ["poincare", "euclidean"])
@pytest.mark.parametrize("curvature", [0.01, 1.0, 5.0])
def test_at_equal_radii_classes_are_ranked_as_by_the_cosine(manifold, curvature):
    head, images, classes = scene(manifold=manifold, curvature=curvature)
    by_cosine = (images.pooled @ classes.weights.T).argsort(dim=1)
    assert torch.equal(scores(head, images, classes).argsort(dim=1), by_cosine)


def test_the_flat_twin_is_the_limit_of_small_curvature():
    flat, images, classes = scene(manifold="euclidean")
    curved, _, _ = scene(curvature=1e-6)
    torch.testing.assert_close(scores(flat, images, classes), scores(curved, images, classes), rtol=1e-4, atol=1e-4)


def test_what_is_learnt_is_what_was_asked_for():
    head, images, classes = scene(learn_curvature=True, learn_temperature=True)
    head.losses(images, head.encode_classes(classes), torch.arange(9) % 6)["cross_entropy"].backward()
    assert all(p.grad is not None and p.grad.abs() > 0 for p in head.parameters())
    assert len(list(head.parameters())) == 4
    fixed, _, _ = scene(learn_radii=False)
    assert list(fixed.parameters()) == []


@pytest.mark.parametrize(("name", "value"), [("temperature", 0), ("curvature", -1), ("cosine_share", 1)])
def test_impossible_settings_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=name):
        HyperbolicConfig(**{name: value})


def test_a_control_changes_one_claim_of_adapter_and_head_alike():
    method = load_method("lathadapter-faithful")
    assert [control.name for control in method.controls()] == [
        "lathadapter-faithful-no-hierarchy",
        "lathadapter-faithful-euclidean",
    ]
    without, flat = method.controls()
    assert without.adapter.settings == replace(method.adapter.settings, hier_weight=0.0)
    assert flat.adapter.settings == replace(method.adapter.settings, manifold="euclidean")
    assert (without.head, without.training) == (method.head, method.training)
    both = method_from_dict({"name": "x", "adapter": {"type": "lathadapter"}, "head": {"type": "hyperbolic"}})
    twin = next(control for control in both.controls() if control.name == "x-euclidean")
    assert twin.adapter.settings.manifold == twin.head.settings.manifold == "euclidean"
    assert load_method("clip-adapter").controls() == []
    assert without.controls() == []
