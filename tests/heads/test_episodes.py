"""Pseudo-novel episodes: two groups of classes in a step, each scored among its own names, none in evaluation."""

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.cosine import Cosine, CosineConfig
from hyperadapt.heads.hyperbolic import Hyperbolic, HyperbolicConfig
from hyperadapt.text import ClassText
from manifolds.regularizers import GeneratorDraws

HEADS = {"cosine": (Cosine, CosineConfig), "hyperbolic": (Hyperbolic, HyperbolicConfig)}


def unit(*shape, seed=0):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def scene(name, share):
    text, images = unit(1, 7, 16), ImageFeatures(unit(20, 16, seed=1))
    classes = ClassText(tuple("abcdefg"), text, text[0])
    head, config = HEADS[name]
    return head(config(withheld=share), BuildContext(classes, 16, None, 10.0)), images, classes


def draws(seed=0):
    return GeneratorDraws(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", HEADS)
def test_the_loss_is_that_of_two_tasks_with_their_own_names(name):
    head, images, classes = scene(name, 0.4)
    labels = torch.arange(20) % 7
    encoded = head.encode_classes(classes, draws())
    held = encoded.withheld
    assert int(held.sum()) == 3
    logits, parts = head.logits(images, encoded), []
    for group in (held, ~held):
        names, own = group.nonzero()[:, 0], group[labels]
        targets = torch.searchsorted(names, labels[own])
        parts.append(cross_entropy(logits[own][:, names], targets, reduction="sum"))
    found = head.losses(images, encoded, labels)["cross_entropy"]
    torch.testing.assert_close(found, sum(parts) / 20)


@pytest.mark.parametrize("name", HEADS)
def test_groups_change_with_the_draw_and_evaluation_has_none(name):
    head, _, classes = scene(name, 0.5)
    groups = {tuple(head.encode_classes(classes, draws(seed)).withheld.tolist()) for seed in range(8)}
    assert len(groups) > 4
    assert head.encode_classes(classes).withheld is None
    assert scene(name, 0.0)[0].encode_classes(classes, draws()).withheld is None


@pytest.mark.parametrize("name", HEADS)
def test_gradients_are_finite_where_names_are_left_out(name):
    head, images, classes = scene(name, 0.5)
    pooled = images.pooled.clone().requires_grad_()
    encoded = head.encode_classes(classes, draws())
    head.losses(ImageFeatures(pooled), encoded, torch.arange(20) % 7)["cross_entropy"].backward()
    assert torch.isfinite(pooled.grad).all()
    assert pooled.grad.abs().sum() > 0


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_impossible_shares_are_refused(share):
    with pytest.raises(InputError, match="withheld"):
        CosineConfig(withheld=share)
