"""Small models and training sets for the tests of the loop."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.adapters.zeroshot import ZeroShot, ZeroShotConfig
from hyperadapt.backbone import ImageFeatures
from hyperadapt.heads.base import AbstractHead
from hyperadapt.methods import load_method
from hyperadapt.model import FewShotModel, build_model
from hyperadapt.text import ClassText
from hyperadapt.training import TrainingSet

CLASS_NAMES = ("ant", "bee", "cat", "dog")


def unit(*shape, seed):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


class Linear(AbstractHead):
    """The plainest head: one matrix; its loss or its gradient can be spoilt at one step."""

    def __init__(self, poison_step=None, poison="loss"):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 4))
        self.poison_step, self.poison = poison_step, poison
        self.calls = 0

    def encode_classes(self, classes, draws=None):
        return None

    def logits(self, images, encoded):
        return images.pooled @ self.weight.T

    def losses(self, images, encoded, labels):
        self.calls += 1
        loss = cross_entropy(self.logits(images, encoded), labels)
        if self.calls - 1 != self.poison_step:
            return {"cross_entropy": loss}
        if self.poison == "loss":
            return {"cross_entropy": math.nan * loss}
        return {"cross_entropy": loss + (self.weight - self.weight.detach()).sum().sqrt()}


@dataclass(frozen=True)
class Scene:
    model: FewShotModel
    data: TrainingSet


def scene(n=12, views=1, names=(), **settings):
    """A linear head on random features of three classes."""
    x = unit(views * n, 4, seed=0)
    classes = ClassText(("a", "b", "c"), torch.eye(3, 4)[None], torch.eye(3, 4))
    adapter = ZeroShot(ZeroShotConfig(), BuildContext(classes, 4, None, 1.0))
    data = TrainingSet(ImageFeatures(x), torch.arange(n) % 3, classes, names)
    return Scene(FewShotModel(adapter, Linear(**settings)), data)


def method_scene(name, count=20, views=2, width=16, device="cpu"):
    """A method by name on stored features of four classes, untrained."""
    templates = unit(3, 4, width, seed=1)
    classes = ClassText(CLASS_NAMES, templates, normalize(templates.mean(0), dim=-1)).to(torch.device(device))
    images = ImageFeatures(unit(views * count, width, seed=2)).to(torch.device(device))
    labels = (torch.arange(count) % 4).to(device)
    counts = tuple(labels.bincount(minlength=4).tolist())
    model = build_model(load_method(name), BuildContext(classes, width, None, 20.0, count, counts), 3)
    model.prepare(images, labels, classes)
    return Scene(model, TrainingSet(images, labels, classes))
