# ruff: noqa: D103 - the name of a law is its statement
"""Laws of limits: curvature to zero, small distances, the rim of what can be stored."""

from typing import Any, cast

import torch
from torch import Tensor

from manifolds.base import AbstractManifold
from manifolds.euclidean import Euclidean
from manifolds.testing.laws import assert_values, assert_zero, is_curved, law, learns_curvature
from manifolds.testing.operations import Operation, calls, operations_of
from manifolds.testing.samples import Sample

FLAT = Euclidean()
POINTS, VECTORS = ("x", "y", "set"), ("u", "v")
# Their arguments are not lengths or features, so that the same numbers mean other things at another curvature.
APART = ("egrad2rgrad", "half_aperture", "cone_angle")


def _leaves(s: Sample) -> dict[str, Tensor]:
    """Features of order one for every role, the same at every curvature."""
    n = s.x.shape[-1] + s.manifold.features_offset
    first, second, third, u, v, w = s.noise(6, 2, n) / n**0.5
    rest = {"weights": s.noise(2, 3).abs() + 0.1, "time": torch.tensor(0.3, dtype=torch.float64)}
    rest |= {"matrix": s.noise(2, n), "way": s.noise(n), "normals": s.noise(2, n), "offsets": s.noise(2)}
    return {"x": first, "y": second, "u": u, "v": v, "w": w, "set": torch.stack([first, second, third], dim=-2), **rest}


def _in_features(m: AbstractManifold, row: Operation, leaves: dict[str, Tensor]) -> Tensor:
    """An operation as a function of features, with a result in features: comparable between manifolds."""
    placed = {role: m.expmap0(m.tangent0(leaves[role])) for role in POINTS}
    placed |= {role: m.transp0(placed["x"], m.tangent0(leaves[role])) for role in VECTORS}
    placed["w"] = m.tangent0(leaves["w"])
    result = row.of(m)(*(placed.get(role, leaves[role]) for role in row.roles))
    if row.result == "value":
        return result
    if row.result == "point":
        return m.features0(m.logmap0(result))
    return m.features0(result if row.result == "origin" else m.transp0back(placed[row.result], result))


def _value_and_slopes(m: AbstractManifold, row: Operation, leaves: dict[str, Tensor]) -> list[Tensor]:
    """The result, and the gradients of a weighted sum of it in every argument."""
    loose = {role: a.clone().requires_grad_() for role, a in leaves.items()}
    result = _in_features(m, row, loose)
    if not result.requires_grad:
        return [result]
    weight = torch.linspace(0.5, 1.5, result.numel(), dtype=torch.float64).reshape(result.shape)
    slopes = torch.autograd.grad((result * weight).sum(), [loose[role] for role in row.roles], materialize_grads=True)
    return [result.detach(), *slopes]


@law("limits", small=True, examples=3, needs=("with_curvature",))
def operations_and_gradients_tend_to_the_flat_ones(s: Sample) -> None:
    """Linearly in ``c``; the Busemann function with ``√c``. Features of order one, so the constants are too."""
    m: Any = s.manifold
    leaves = _leaves(s)
    size = max(1.0, *(float(a.abs().max()) for a in leaves.values()))
    for row in operations_of(FLAT):
        if not hasattr(m, row.name) or row.name in APART:
            continue
        flat = _value_and_slopes(FLAT, row, leaves)
        for c in (1e-3, 1e-6, 1e-12):
            rate = 4.0 * c**0.5 if row.name == "busemann" else 40.0 * c
            curved = _value_and_slopes(m.with_curvature(c), row, leaves)
            for got, wanted in zip(curved, flat, strict=False):
                assert_zero(got - wanted, (rate + 1e-12) * size**4, row.name)


@law("limits", small=True, examples=3, needs=("with_curvature", "half_aperture", "cone_angle"))
def cones_tend_to_the_flat_ones(s: Sample) -> None:
    """Angles as they are; apertures with ``K = k√c``, which keeps the cone's width in units of length."""
    leaves = _leaves(s)
    for c in (1e-3, 1e-6, 1e-12):
        m: Any = s.manifold.with_curvature(c)  # pyright: ignore[reportCallIssue]
        x, y = (m.expmap0(m.tangent0(leaves[role])) for role in ("x", "y"))
        size = 40.0 * c * max(1.0, float(leaves["set"].abs().max()) ** 4) + 1e-9
        assert_zero(m.cone_angle(x, y) - FLAT.cone_angle(leaves["x"], leaves["y"]), size)
        assert_zero(m.half_aperture(x, 0.01 * c**0.5) - FLAT.half_aperture(leaves["x"], 0.01), size)


@law("limits", small=True, examples=2, needs=("with_curvature",), when=learns_curvature)
def derivative_in_the_curvature_is_continuous_down_to_zero(s: Sample) -> None:
    leaves, twin = _leaves(s), cast(Any, s.manifold)

    def slope(row: Operation, c: float) -> float:
        m = twin.with_curvature(c)
        parameter = next(m.parameters())
        result = _in_features(m, row, leaves)
        if not result.requires_grad:
            return 0.0
        (per_parameter,) = torch.autograd.grad(result.sum(), parameter, allow_unused=True, materialize_grads=True)
        return float(per_parameter / torch.autograd.grad(m.curvature, parameter)[0])

    for row in operations_of(s.manifold):
        if row.name in ("half_aperture", "busemann"):
            continue
        limit, tiny, small = (slope(row, c) for c in (1e-12, 1e-7, 1e-4))
        scale = max(1.0, *(float(a.abs().max()) for a in leaves.values())) ** 6
        assert abs(tiny - limit) <= 1e-4 * scale, f"{row.name} has slopes {tiny} and {limit} near c = 0"
        assert abs(small - limit) <= 4e-2 * scale, f"{row.name} has slopes {small} and {limit} near c = 0"


@law("limits", small=True, examples=5)
def short_distances_are_those_of_the_features(s: Sample) -> None:
    """To first order: the error is quadratic in the lengths."""
    for size in (1e-2, 1e-4, 1e-6):
        u, v = (size * s.length * p for p in s.noise(2, 2, s.x.shape[-1] + s.manifold.features_offset))
        x, y = s.at(u), s.at(v)
        bend = 4.0 * (u.square().sum(-1) + v.square().sum(-1)) * s.root_c**2
        flat = 2.0 * (u - v).norm(dim=-1)
        assert_values(s.manifold.dist(x, y), flat, bend + s.relative(x, y), s.chart(x, y))
        end = s.features(s.manifold.expmap(x, s.manifold.logmap(x, y)))
        assert_zero((end - v).norm(dim=-1), s.spread(x, y) + s.chart(y))


@law("limits")
def values_and_gradients_are_finite_up_to_the_rim(s: Sample) -> None:
    for row, operation, arguments in calls(s):
        leaves = [a.detach().clone().requires_grad_() for a in arguments]
        result = operation(*leaves)
        assert bool(torch.isfinite(result).all()), f"{row.name} is not finite"
        if not result.requires_grad:
            continue
        grads = torch.autograd.grad(result.sum(), leaves, allow_unused=True)
        assert all(g is None or bool(torch.isfinite(g).all()) for g in grads), f"{row.name} has an infinite gradient"


@law("limits", small=True, examples=5, reach=0.9, when=is_curved)
def far_points_part_as_on_a_tree(s: Sample) -> None:
    """``d(x, y) - (ρ_x + ρ_y) - (2/√c) log sin(θ/2)`` vanishes as ``e^{-√c ρ}`` over ``sin²(θ/2)``."""
    u, v = s.features(s.x).double(), s.features(s.y).double()
    half = (u / u.norm(dim=-1, keepdim=True) - v / v.norm(dim=-1, keepdim=True)).norm(dim=-1) / 2.0
    near = torch.minimum(u.norm(dim=-1), v.norm(dim=-1)) * 2.0
    wanted = 2.0 * u.norm(dim=-1) + 2.0 * v.norm(dim=-1) + 2.0 * s.length * torch.log(half)
    rest = 4.0 * s.length * torch.exp(-2.0 * s.root_c * near) / half.square()
    resolved = rest < 0.1 * s.length
    gap = torch.where(resolved, s.manifold.dist(s.x, s.y) - wanted, 0.0)
    assert_zero(gap, rest.clamp(max=s.length) + s.relative(s.x, s.y) * wanted.abs() + 2 * s.spread(s.x, s.y))
