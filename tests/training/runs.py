"""Small models and training sets for the tests of the loop."""

import math
from dataclasses import dataclass, replace
from functools import cache

import open_clip
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.adapters.zeroshot import ZeroShot, ZeroShotConfig
from hyperadapt.backbone import ImageFeatures, load_backbone
from hyperadapt.heads.base import AbstractHead
from hyperadapt.methods import load_method, named_methods
from hyperadapt.model import FewShotModel, build_model
from hyperadapt.text import ClassText, class_text
from hyperadapt.training import TrainingSet
from tests.conftest import build_clip, to_pixels

CLASS_NAMES = ("ant", "bee", "cat", "dog")
TRAINED = [name for name, method in named_methods().items() if method.training is not None]
THROUGH_TOWERS = [name for name in TRAINED if load_method(name).needs_tower]
ON_FEATURES = [name for name in TRAINED if name not in THROUGH_TOWERS]


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
    """A method by name, untrained: on stored features of four classes, or on images where it needs the towers."""
    method, device = load_method(name), torch.device(device)
    if method.needs_tower:
        classes, images, part_width = through_towers(method, views * count, device)
    else:
        templates = unit(3, 4, width, seed=1)
        classes = ClassText(CLASS_NAMES, templates, normalize(templates.mean(0), dim=-1)).to(device)
        images, part_width = ImageFeatures(unit(views * count, width, seed=2)).to(device), None
    labels = (torch.arange(count) % 4).to(device)
    counts = tuple(labels.bincount(minlength=4).tolist())
    context = BuildContext(classes, classes.weights.shape[1], part_width, 20.0, count, counts)
    model = build_model(method, context, 3)
    model.prepare(images, labels, classes)
    return Scene(model, TrainingSet(images, labels, classes))


def through_towers(method, count, device):
    """Classes, images of noise and the width of their parts; the towers are new, as in a process that goes on."""
    model, tokenizer = small_clip(device)
    backbone = load_backbone(model, tokenizer=tokenizer, preprocess=to_pixels)
    classes = class_text(backbone.text, CLASS_NAMES, ["a photo of a {}.", "a drawing of a {}."])
    pixels = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(2)).to(device) - 0.5
    images = backbone.encode_images(pixels, with_parts=method.pools_parts)
    return classes, replace(images, pixels=pixels if method.reads_pixels else None), backbone.part_width


@cache
def small_clip(device):
    """The small model of the fixtures, and its tokenizer."""
    return build_clip().to(device), open_clip.SimpleTokenizer(context_length=24)
