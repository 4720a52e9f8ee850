"""A step reads no number back from the device: it runs on tensors that have shapes and no values."""

import copy
from dataclasses import replace

import pytest
import torch

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.methods import load_method
from hyperadapt.model import build_model
from hyperadapt.text import class_text
from hyperadapt.training import loss_terms
from manifolds.regularizers import AbstractDraws
from tests.training.runs import ON_FEATURES, method_scene

NAMES = ("red bird", "blue bird", "tall flower")


class ShapesAlone(AbstractDraws):
    def rand(self, *shape):
        return torch.rand(*shape, device="meta")


def step(model, classes, images, labels):
    classes = replace(classes, templates=classes.templates.to("meta"), weights=classes.weights.to("meta"))
    terms = loss_terms(
        model.to("meta").train(), classes, images.to(torch.device("meta")), labels.to("meta"), ShapesAlone()
    )
    torch.stack(list(terms.values())).sum().backward()
    return [p.grad for p in model.parameters() if p.requires_grad and p.grad is not None]


@pytest.mark.parametrize("name", ON_FEATURES)
def test_a_step_on_features_waits_for_no_value(name):
    run = method_scene(name)
    found = step(run.model, run.data.classes, run.data.images[:8], run.data.labels[:8])
    assert found
    assert all(grad.device.type == "meta" for grad in found)


@pytest.mark.parametrize(
    "name", ["coop", "atprompt", "cocoop", "tcp", "mutual-learning", "lathadapter-faithful", "xrvlm"]
)
def test_a_step_through_the_text_tower_waits_for_no_value(name, small_backbone):
    text = copy.deepcopy(small_backbone.text)
    classes = class_text(text, NAMES, ["a photo of a {}."])
    model = build_model(load_method(name), BuildContext(classes, 32, None, 20.0), 1)
    images, labels = ImageFeatures(classes.weights), torch.arange(3)
    draws = type("Draws", (AbstractDraws,), {"rand": lambda _self, *shape: torch.rand(*shape)})()
    loss_terms(model, classes, images, labels, draws)  # the tower is probed and texts are placed with the first step
    text.model.to("meta")
    assert step(model, classes, images, labels)


def test_a_step_that_did_wait_would_be_seen():
    run = method_scene("prolip")
    adapt = run.model.adapter.adapt_images
    run.model.adapter.adapt_images = lambda images, classes: adapt(
        images[: int((images.pooled[:, 0] < 9).sum())], classes
    )
    with pytest.raises(RuntimeError, match="meta"):
        step(run.model, run.data.classes, run.data.images[:8], run.data.labels[:8])
