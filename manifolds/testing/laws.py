"""The register of laws and the comparisons they are stated in."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from manifolds.base import AbstractManifold
from manifolds.testing.samples import Sample

Check = Callable[[Sample], None]
Condition = Callable[[AbstractManifold], bool]

GROUPS = (
    "gyrogroup",
    "scalar multiplication",
    "inverses",
    "metric",
    "isometries",
    "geodesics",
    "transport",
    "conformal factor and gradient",
    "models",
    "limits",
    "derivatives",
    "projection",
    "means",
    "planes and cones",
    "distributions and optimizers",
    "engineering",
    "accuracy",
)


def always(manifold: AbstractManifold) -> bool:
    """Every manifold."""
    return True


def is_curved(manifold: AbstractManifold) -> bool:
    """One curvature for all points, and not zero."""
    return manifold.curvature.ndim == 0 and float(manifold.curvature.detach()) > 0


def is_ball(manifold: AbstractManifold) -> bool:
    """Points are those of the Poincaré ball: conformal coordinates in which Möbius addition is defined."""
    return is_curved(manifold) and hasattr(manifold, "lambda_x") and hasattr(manifold, "mobius_add")


def learns_curvature(manifold: AbstractManifold) -> bool:
    """The curvature follows gradients."""
    return is_curved(manifold) and manifold.curvature.requires_grad


def installed(package: str, condition: Condition = always) -> Condition:
    """``condition``, where ``package`` can be imported."""
    return lambda manifold: find_spec(package) is not None and condition(manifold)


@dataclass(frozen=True)
class Law:
    """A named statement about a manifold.

    Attributes:
        group: which family it belongs to, one of ``GROUPS``.
        name: the statement, as a function name.
        check: asserts it on a sample.
        reach: fraction of the largest radius up to which it is sampled; laws that add up distances stay nearer.
        needs: names of operations a manifold must have for the law to apply.
        when: what else must be true of the manifold.
        examples: most samples that are worth their time; None where more samples see more.
        small: draw two points of two or three float64 features, apart from each other and from the origin.
    """

    group: str
    name: str
    check: Check
    reach: float = 1.0
    needs: tuple[str, ...] = ()
    when: Condition = always
    examples: int | None = None
    small: bool = False

    def applies(self, manifold: AbstractManifold) -> bool:
        """Whether the manifold has the operations that the law speaks of."""
        return all(hasattr(manifold, name) for name in self.needs) and self.when(manifold)


LAWS: list[Law] = []


def law(group: str, **options: Any) -> Callable[[Check], Check]:
    """Register a check as a law of ``group``; ``options`` are the other attributes of ``Law``."""
    if group not in GROUPS:
        raise ValueError(f"law asked for group {group!r}; known groups: {', '.join(GROUPS)}")

    def register(check: Check) -> Check:
        LAWS.append(Law(group, check.__name__, check, **options))
        return check

    return register


def assert_values(
    got: Tensor, wanted: Tensor, tolerance: Tensor | float, floor: Tensor | float = 0.0, name: str = "it"
) -> None:
    """``|got - wanted| <= tolerance · |wanted| + floor``, everywhere, and nothing but numbers."""
    got, wanted = got.detach().double(), wanted.detach().double()
    assert got.shape == wanted.shape, f"{name} has shape {tuple(got.shape)} instead of {tuple(wanted.shape)}"
    assert bool(torch.isfinite(got).all()), f"{name} has a value that is not finite"
    excess = ((got - wanted).abs() - (tolerance * wanted.abs() + floor)).detach()
    if excess.numel():
        worst = int(excess.argmax())
        pair = f"got {got.reshape(-1)[worst]:.9g}, wanted {wanted.reshape(-1)[worst]:.9g}, over by {excess.max():.3g}"
        assert float(excess.max()) <= 0.0, pair if name == "it" else f"{name}: {pair}"


def assert_zero(values: Tensor, floor: Tensor | float, name: str = "it") -> None:
    """``|values| <= floor``, everywhere."""
    assert_values(values, torch.zeros_like(values), 0.0, floor, name)


def assert_points(s: Sample, got: Tensor, wanted: Tensor, *through: Tensor, slack: Tensor | float = 0.0) -> None:
    """Points are as near as the roundings of the points they went ``through`` allow."""
    assert got.shape == wanted.shape, f"shape {tuple(got.shape)} instead of {tuple(wanted.shape)}"
    assert_zero(s.manifold.dist(got, wanted), s.spread(got, wanted, *through) + slack)


def assert_tangents(s: Sample, base: Tensor, got: Tensor, wanted: Tensor, *through: Tensor) -> None:
    """Tangent vectors at ``base`` agree up to roundings of themselves and of the points ``through`` which they came."""
    assert got.shape == wanted.shape, f"shape {tuple(got.shape)} instead of {tuple(wanted.shape)}"
    size = s.manifold.norm(base, wanted).double()
    floor = s.vectors(base, *through) * size + (s.spread(base, *through) if through else s.chart(base))
    assert_zero(s.manifold.norm(base, got - wanted), floor + s.tiny)
