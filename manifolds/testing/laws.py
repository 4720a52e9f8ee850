"""The register of laws and the comparisons they are stated in."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from manifolds.base import AbstractManifold
from manifolds.testing.samples import Sample

Check = Callable[[Sample], None]


@dataclass(frozen=True)
class Law:
    """A named statement about a manifold.

    Attributes:
        group: which family it belongs to: ``metric``, ``geodesics``, ...
        name: the statement, as a function name.
        reach: fraction of the largest radius up to which it is sampled; laws that add up distances stay nearer.
        check: asserts it on a sample.
        needs: names of operations a manifold must have for the law to apply.
    """

    group: str
    name: str
    reach: float
    check: Check
    needs: tuple[str, ...] = ()

    def applies(self, manifold: AbstractManifold) -> bool:
        """Whether the manifold has the operations that the law speaks of."""
        return all(hasattr(manifold, name) for name in self.needs)


LAWS: list[Law] = []


def law(group: str, reach: float = 1.0, needs: tuple[str, ...] = ()) -> Callable[[Check], Check]:
    """Register a check as a law of ``group``."""

    def register(check: Check) -> Check:
        LAWS.append(Law(group, check.__name__, reach, check, needs))
        return check

    return register


def assert_values(got: Tensor, wanted: Tensor, tolerance: Tensor | float, floor: Tensor | float = 0.0) -> None:
    """``|got - wanted| <= tolerance · |wanted| + floor``, everywhere, and nothing but numbers."""
    got, wanted = got.detach().double(), wanted.detach().double()
    assert got.shape == wanted.shape, f"shape {tuple(got.shape)} instead of {tuple(wanted.shape)}"
    assert bool(torch.isfinite(got).all()), "a value is not finite"
    excess = ((got - wanted).abs() - (tolerance * wanted.abs() + floor)).detach()
    if excess.numel():
        worst = int(excess.argmax())
        error = f"got {got.reshape(-1)[worst]:.9g}, wanted {wanted.reshape(-1)[worst]:.9g}, over by {excess.max():.3g}"
        assert float(excess.max()) <= 0.0, error


def assert_points(s: Sample, got: Tensor, wanted: Tensor, *through: Tensor, slack: Tensor | float = 0.0) -> None:
    """Points are as near as the roundings of the points they went ``through`` allow."""
    assert got.shape == wanted.shape, f"shape {tuple(got.shape)} instead of {tuple(wanted.shape)}"
    apart = s.manifold.dist(got, wanted)
    assert_values(apart, torch.zeros_like(apart), 0.0, s.spread(got, wanted, *through) + slack)


def assert_tangents(s: Sample, base: Tensor, got: Tensor, wanted: Tensor, *through: Tensor) -> None:
    """Tangent vectors at ``base`` agree up to roundings of themselves and of the points ``through`` which they came."""
    assert got.shape == wanted.shape, f"shape {tuple(got.shape)} instead of {tuple(wanted.shape)}"
    size = s.manifold.norm(base, wanted).double()
    apart = s.manifold.norm(base, got - wanted)
    floor = s.vectors(base, *through) * size + (s.spread(base, *through) if through else s.chart(base))
    assert_values(apart, torch.zeros_like(apart), 0.0, floor + 1e3 * torch.finfo(base.dtype).tiny)
