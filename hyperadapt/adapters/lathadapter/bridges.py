"""How attributes reach categories and images: attention, messages, and maps that leave them aside."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from hyperadapt.adapters.lathadapter.config import LatHAdapterConfig

Features = Float[Tensor, "n d"]
Attributes = Float[Tensor, "m d"] | Float[Tensor, "n m d"]


class AbstractBridge(nn.Module, ABC):
    """Features and attributes in, L2-normalised features out; any number of rows, with the same weights."""

    @abstractmethod
    def forward(self, features: Features, attributes: Attributes) -> Features:
        """Adapted features; attributes are shared, (M, D), or each row's own, (N, M, D)."""

    def penalty(self) -> Tensor | float:
        """Sum of squares that regularises the bridge, before its weight; zero for most."""
        return 0.0


class Attention(AbstractBridge):
    """f' = normalise(f + a * softmax(f Wq (A Wk)^T / sqrt(h)) A Wv); Wv starts at zero (readings B1 and B3)."""

    def __init__(self, config: LatHAdapterConfig, dim: int) -> None:
        super().__init__()
        self.residual, self.width = config.residual, config.attention_width
        self.query = nn.Linear(dim, self.width, bias=False)
        self.key = nn.Linear(dim, self.width, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.value.weight)

    def forward(self, features: Features, attributes: Attributes) -> Features:
        """A residual of attended attributes."""
        query, key = self.query(features), self.key(attributes)
        scores = query @ key.T if key.ndim == 2 else (query[:, None] * key).sum(-1)
        weights = (scores / self.width**0.5).softmax(dim=-1)
        attended = weights @ attributes if key.ndim == 2 else (weights[..., None] * attributes).sum(1)
        return normalize(features + self.residual * self.value(attended), dim=-1)


class Graph(AbstractBridge):
    """One round of messages to the attributes and back, over cosines clipped at zero (reading B4).

    With S the matrix of clipped cosines and degrees counted with the node itself, A' = A + S^T T and T' = T + a S A' Wv
    after symmetric normalisation, as in a graph convolution (Kipf and Welling, arXiv 1609.02907). Wv starts at zero.
    Attributes hear from all categories of the list, so a category's features depend on which others are listed.
    """

    def __init__(self, config: LatHAdapterConfig, dim: int) -> None:
        super().__init__()
        self.residual = config.residual
        self.value = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.value.weight)

    def forward(self, features: Features, attributes: Attributes) -> Features:
        """A residual of what comes back from the attributes."""
        own = attributes.ndim == 3
        shared = normalize(attributes.mean(0), dim=-1) if own else attributes
        edges = relu(features @ shared.T)
        of_features, of_attributes = 1 + edges.sum(1, keepdim=True), 1 + edges.sum(0, keepdim=True)
        edges = edges * (of_features * of_attributes).rsqrt()
        told = shared + edges.T @ features
        return normalize(features + self.residual * self.value(edges @ told), dim=-1)


class Bottleneck(AbstractBridge):
    """f' = normalise((1 - r) f + r relu(relu(f W1) W2)): attributes act through the hierarchy alone (reading B2)."""

    def __init__(self, config: LatHAdapterConfig, dim: int) -> None:
        super().__init__()
        self.ratio = config.bottleneck_ratio
        self.down, self.up = nn.Linear(dim, max(1, dim // 4), bias=False), nn.Linear(max(1, dim // 4), dim, bias=False)

    def forward(self, features: Features, attributes: Attributes) -> Features:
        """CLIP-Adapter's bottleneck and mix."""
        mixed = (1 - self.ratio) * features + self.ratio * relu(self.up(relu(self.down(features))))
        return normalize(mixed, dim=-1)


class NearIdentity(AbstractBridge):
    """f' = normalise(f + f E), with E zero at the start and its squared entries as penalty.

    The map that ProLIP (arXiv 2410.05270) trains, here on features of the joint space.
    """

    def __init__(self, config: LatHAdapterConfig, dim: int) -> None:
        super().__init__()
        self.change = nn.Parameter(torch.zeros(dim, dim))

    def forward(self, features: Features, attributes: Attributes) -> Features:
        """The map; attributes are left aside."""
        return normalize(features + features @ self.change, dim=-1)

    def penalty(self) -> Tensor:
        """|E|^2."""
        return self.change.square().sum()


class InTurn(AbstractBridge):
    """Bridges one after another; none at all is the identity."""

    def __init__(self, *bridges: AbstractBridge) -> None:
        super().__init__()
        self.bridges = nn.ModuleList(bridges)

    def forward(self, features: Features, attributes: Attributes) -> Features:
        """Each on the output of the one before."""
        for bridge in self.bridges:
            features = bridge(features, attributes)
        return features

    def penalty(self) -> Tensor | float:
        """Of all."""
        return sum(bridge.penalty() for bridge in self.bridges)  # pyright: ignore[reportCallIssue]


_CATEGORIES = {"attention": [Attention], "bottleneck": [Bottleneck], "graph": [Graph], "linear": [NearIdentity]}
_IMAGES = {"linear": [NearIdentity], "attention": [Attention], "linear and attention": [NearIdentity, Attention]}


def category_bridge(config: LatHAdapterConfig, dim: int) -> InTurn:
    """What the settings say happens to categories."""
    return InTurn(*(bridge(config, dim) for bridge in _CATEGORIES.get(config.categories, [])))


def image_bridge(config: LatHAdapterConfig, dim: int) -> InTurn:
    """What the settings say happens to images."""
    return InTurn(*(bridge(config, dim) for bridge in _IMAGES.get(config.images, [])))
