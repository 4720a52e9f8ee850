"""Small clusters of shots for the tests of what keeps or fits them."""

import torch
from torch.nn.functional import normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.methods import method_from_dict
from hyperadapt.model import build_model
from hyperadapt.text import ClassText

NAMES = ("ant", "bee", "cat")
LABELS = (2, 0, 0, 1, 2, 0, 1, 1, 2, 0, 1, 2)
COUNTS = (4, 4, 4)
WIDTH = 8
SCALE = 20.0


def unit(*shape, seed):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def text(names=NAMES, seed=1):
    templates = unit(1, len(names), WIDTH, seed=seed)
    return ClassText(tuple(names), templates, templates[0])


def images(labels, seed, spread=0.6):
    """Clusters around directions that differ from the texts, of unit length."""
    centres = unit(len(NAMES), WIDTH, seed=50)
    return normalize(centres[torch.tensor(labels)] + spread * unit(len(labels), WIDTH, seed=seed), dim=-1)


def shots(views=2, labels=LABELS):
    """Views of each training image, view-major, and the labels."""
    return ImageFeatures(torch.cat([images(labels, seed=60 + v) for v in range(views)])), torch.tensor(labels)


def context(classes, counts=COUNTS):
    return BuildContext(classes, WIDTH, None, SCALE, sum(counts), counts)


def prepared(kind, name, views=2, seed=1, labels=LABELS, **settings):
    """A model of one component with the shots shown to it, and the training classes."""
    classes = text()
    method = method_from_dict({"name": "t", kind: {"type": name, **settings}})
    model = build_model(method, context(classes, tuple(labels.count(k) for k in range(len(NAMES)))), seed).eval()
    model.prepare(*shots(views, labels), classes)
    return model, classes


def logits(model, pooled, classes):
    return next(model.scores([ImageFeatures(pooled)], classes))
