"""Attributes one can read: words and sentences near each, the categories and images that it joins, and their tree."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from hyperadapt.adapters.lathadapter.attributes import PromptAttributes
from hyperadapt.adapters.lathadapter.hierarchy import Nodes
from hyperadapt.adapters.lathadapter.phrases import PHRASES
from hyperadapt.text import ClassText
from manifolds.base import AbstractManifold

NEAREST = 5
"""How many words, sentences, classes and images are named for an attribute."""


@dataclass(frozen=True)
class Subject:
    """What the attributes are read on.

    Attributes:
        manifold: where the nodes are.
        nodes: training images, all their categories, and the attributes.
        attributes: the trained attributes.
        features: their features in the joint space, (M, D).
        classes: the training classes, frozen.
        image_names: one name an image.
    """

    manifold: AbstractManifold
    nodes: Nodes
    attributes: torch.nn.Module
    features: Float[Tensor, "m d"]
    classes: ClassText
    image_names: Sequence[str]


@torch.no_grad()
def read_attributes(subject: Subject) -> dict[str, Any]:
    """Every attribute in words, with what it joins, and the tree of attributes and categories.

    An image is joined with its category by the attribute whose larger distance to the two is least. A category hangs
    under the attribute that joins most of its images; attributes are joined to a binary tree by average linkage of
    their distances (Sokal and Michener 1958), for they share a radius and no one is above another by itself.

    Returns:
        `attributes`, a list, and `tree`, nested nodes with `children`; a node that joins others has the `height`, in
        units of distance, at which it does.
    """
    nodes, names = subject.nodes, subject.classes.names
    to_images = subject.manifold.pairwise_dist(nodes.attributes, nodes.images)
    to_categories = subject.manifold.pairwise_dist(nodes.attributes, nodes.categories)
    bridge = torch.maximum(to_images, to_categories[:, nodes.labels]).argmin(0)
    radius = subject.manifold.dist0(nodes.attributes)
    own: list[dict[int, list[str]]] = [{} for _ in range(len(nodes.attributes))]
    for m, label, name in zip(bridge.tolist(), nodes.labels.tolist(), subject.image_names, strict=True):
        own[m].setdefault(label, []).append(name)
    to_classes = subject.features @ subject.classes.weights.T
    found = []
    for m, joined in enumerate(own):
        most = sorted(joined.items(), key=lambda pair: -len(pair[1]))
        near = _nearest(-to_images[m], subject.image_names, to_images[m])
        found.append(
            {
                "attribute": m,
                "radius": round(float(radius[m]), 4),
                "joins": [{"category": names[k], "images": len(them), "names": them} for k, them in most],
                "nearest_images": near,
                "nearest_classes": _nearest(to_classes[m], names, to_classes[m]),
                **_words(subject, m),
            }
        )
    return {"attributes": found, "tree": _tree(subject, bridge)}


def _nearest(order: Float[Tensor, " n"], names: Sequence[str], values: Float[Tensor, " n"]) -> list[list[Any]]:
    """Names of the largest entries with a value each."""
    best = order.topk(min(NEAREST, len(names))).indices.tolist()
    return [[names[i], round(float(values[i]), 4)] for i in best]


def _words(subject: Subject, m: int) -> dict[str, Any]:
    """Sentences near an attribute, and words near the tokens of its prompt; nothing where there is no text tower."""
    tower = subject.classes.tower
    if tower is None:
        return {}
    sentences = subject.features[m] @ tower.encode(PHRASES).to(subject.features.device).T
    found: dict[str, Any] = {"nearest_phrases": _nearest(sentences, PHRASES, sentences)}
    if isinstance(subject.attributes, PromptAttributes):
        found["nearest_words"] = tower.nearest_words(subject.attributes.tokens[m], NEAREST)
    return found


def _tree(subject: Subject, bridge: Int[Tensor, " b"]) -> dict[str, Any]:
    """Attributes with their categories as leaves of the linkage; attributes without a category are left out."""
    nodes, names = subject.nodes, subject.classes.names
    parents: dict[int, list[str]] = {}
    for k, name in enumerate(names):
        own = Counter(bridge[nodes.labels == k].tolist())
        if own:
            parents.setdefault(own.most_common(1)[0][0], []).append(name)
    used = sorted(parents)
    trees: list[dict[str, Any]] = [
        {"attribute": m, "children": [{"category": name} for name in parents[m]]} for m in used
    ]
    if len(used) < 2:
        return trees[0] if trees else {"children": []}
    distances = subject.manifold.pairwise_dist(nodes.attributes[used]).double().cpu().numpy()
    for left, right, height, _ in linkage(squareform(np.asarray(distances), checks=False), "average"):
        trees.append({"height": round(float(height), 4), "children": [trees[int(left)], trees[int(right)]]})
    return trees[-1]
