# ruff: noqa: D103 - the name of a law is its statement
"""Laws of geodesics, parallel transport and gradients, for any manifold of the package's interface."""

import math
from typing import Any

import torch
from torch import Tensor

from manifolds.testing.laws import assert_points, assert_tangents, assert_values, assert_zero, law
from manifolds.testing.samples import Sample


@law("geodesics", reach=0.4)
def geodesic_starts_and_ends(s: Sample) -> None:
    slack = s.swing(s.x, s.manifold.dist(s.x, s.y))
    assert_points(s, s.manifold.geodesic(0.0, s.x, s.y), s.x.expand_as(s.y), s.y)
    assert_points(s, s.manifold.geodesic(1.0, s.x, s.y), s.y, s.x, slack=slack)


@law("geodesics", reach=0.4)
def geodesic_has_constant_speed(s: Sample) -> None:
    t = abs(s.t)
    got = s.manifold.dist(s.x, s.manifold.geodesic(t, s.x, s.y))
    assert_values(got, t * s.manifold.dist(s.x, s.y), s.relative(s.x, s.y), s.spread(s.x, s.y))


@law("geodesics", reach=0.4)
def geodesic_reversed(s: Sample) -> None:
    t = abs(s.t)
    far = s.manifold.dist(s.x, s.y)
    there, back = s.manifold.geodesic(t, s.x, s.y), s.manifold.geodesic(1.0 - t, s.y, s.x)
    assert_points(s, there, back, s.x, s.y, slack=s.swing(s.x, far) + s.swing(s.y, far))


@law("geodesics", reach=0.4)
def the_middle_is_as_far_from_both_ends(s: Sample) -> None:
    middle = s.manifold.geodesic(0.5, s.x, s.y)
    first, second = (s.manifold.dist(middle, p) for p in (s.x, s.y))
    slack = 2 * s.spread(s.x, s.y, middle) + s.swing(s.x, s.manifold.dist(s.x, s.y))
    assert_values(first, second, s.relative(s.x, s.y), slack)


@law("geodesics", reach=0.4)
def distance_to_a_point_is_convex_along_a_geodesic(s: Sample) -> None:
    m, t = s.manifold, abs(s.t)
    ends = (1.0 - t) * m.dist(s.x, s.z).double() + t * m.dist(s.y, s.z).double()
    here = m.dist(m.geodesic(t, s.x, s.y), s.z).double()
    assert bool((here <= ends * (1.0 + s.relative(s.x, s.y, s.z)) + s.spread(s.x, s.y)).all())


@law("geodesics", reach=0.4)
def comparison_with_flat_triangles(s: Sample) -> None:
    m = s.manifold
    middle = m.geodesic(0.5, s.x, s.y)
    flat = (m.sqdist(s.x, s.z).double() + m.sqdist(s.y, s.z).double()) / 2 - m.sqdist(s.x, s.y).double() / 4
    here = m.dist(middle, s.z).double()
    slack = s.spread(s.x, s.y) * (2 * here + 1) + s.relative(s.x, s.y, s.z) * (m.sqdist(s.x, s.z) + m.sqdist(s.y, s.z))
    assert bool((here.square() <= flat + slack).all())


@law("geodesics", reach=0.5)
def four_points_are_thin(s: Sample) -> None:
    if s.root_c == 0.0:
        return
    m, w = s.manifold, s.manifold.expmap0(s.manifold.logmap0(s.z).neg() * 0.7)
    sums = torch.stack(
        [m.dist(s.x, s.y) + m.dist(s.z, w), m.dist(s.x, s.z) + m.dist(s.y, w), m.dist(s.x, w) + m.dist(s.y, s.z)]
    ).double()
    top = sums.sort(dim=0).values
    assert bool((top[2] - top[1] <= 2.0 * math.log(2.0) / s.root_c + s.relative(s.x, s.y, s.z) * top[2]).all())


@law("transport", reach=0.5)
def transport_keeps_inner_products(s: Sample) -> None:
    m = s.manifold
    got = m.inner(s.y, m.transp(s.x, s.y, s.u), m.transp(s.x, s.y, s.v))
    size = m.norm(s.x, s.u).double() * m.norm(s.x, s.v).double()
    wanted = m.inner(s.x, s.u, s.v)
    assert_values(got, wanted, 0.0, s.vectors(s.x, s.y) * size + s.tiny)


@law("transport", reach=0.5)
def transport_to_the_same_point_is_the_identity(s: Sample) -> None:
    assert_tangents(s, s.x, s.manifold.transp(s.x, s.x, s.u), s.u)


@law("transport", reach=0.5)
def transport_there_and_back_is_the_identity(s: Sample) -> None:
    there = s.manifold.transp(s.x, s.y, s.u)
    back = s.manifold.transp(s.y, s.x, there)
    floor = s.vectors(s.x, s.y) * s.manifold.norm(s.x, s.u).double() + s.tiny
    assert_zero(s.manifold.norm(s.x, back - s.u), floor)


@law("transport", reach=0.5)
def transport_turns_the_logarithm_around(s: Sample) -> None:
    m = s.manifold
    got = m.transp(s.x, s.y, m.logmap(s.x, s.y))
    assert_tangents(s, s.y, got, -m.logmap(s.y, s.x), s.x, s.y)


@law("transport", reach=0.5)
def transport_at_the_origin_is_transport(s: Sample) -> None:
    m = s.manifold
    origin = m.origin(*s.x.shape, dtype=s.x.dtype)
    at_origin = m.transp0back(s.x, s.u)
    assert_tangents(s, origin, at_origin, m.transp(s.x, origin, s.u))
    assert_tangents(s, s.x, m.transp0(s.x, at_origin), s.u)


def _frame(s: Sample, base: Tensor, v: Tensor) -> Tensor:
    """Coordinates of a tangent vector in an orthogonal frame that is carried from the origin."""
    return s.manifold.features0(s.manifold.transp0back(base, v)).detach()


def _angle(u: Tensor, v: Tensor) -> Tensor:
    """Angle in radians by which a vector of the plane turns from ``u`` to ``v``, counterclockwise."""
    return torch.atan2(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0], (u * v).sum(-1))


@law("transport", small=True, examples=5, reach=0.15)
def transport_around_a_triangle_turns_by_c_times_its_area(s: Sample) -> None:
    """In the plane; the area is the defect of the angles (Gauss and Bonnet), the turn against the way around."""
    m, flat = s.manifold, s.features(s.x).shape[-1] == 2
    corners = [p if flat else s.at(s.features(p)[..., :2]) for p in (s.x, s.y, s.z)]
    start, around = corners[0], m.logmap(corners[0], corners[1])
    inside = torch.zeros_like(s.x[..., 0])
    carried = around
    for i in range(3):
        here, following, last = corners[i], corners[(i + 1) % 3], corners[i - 1]
        inside = inside + _angle(*(_frame(s, here, m.logmap(here, p)) for p in (following, last)))
        carried = m.transp(here, following, carried)
    defect = torch.sign(inside) * torch.pi - inside
    turn = _angle(_frame(s, start, around), _frame(s, start, carried))
    gap = torch.remainder(turn + defect + torch.pi, 2 * torch.pi) - torch.pi
    assert_zero(gap, 4 * s.relative(*corners) * s.stretch(*corners))


@law("conformal factor and gradient", needs=("lambda_x",))
def conformal_factor_is_at_least_two_and_two_at_the_origin(s: Sample) -> None:
    m: Any = s.manifold
    assert bool((m.lambda_x(s.x) >= 2).all())
    assert bool((m.lambda_x(m.origin(*s.x.shape, dtype=s.x.dtype)) == 2).all())


@law("conformal factor and gradient", needs=("lambda_x",))
def conformal_factor_is_the_ratio_of_lengths(s: Sample) -> None:
    m: Any = s.manifold
    wanted = m.lambda_x(s.x).double() * s.u.double().norm(dim=-1)
    assert_values(m.norm(s.x, s.u), wanted, s.relative(s.x), s.tiny)
    back = m.egrad2rgrad(s.x, s.u).double() * m.lambda_x(s.x, keepdim=True).double().square()
    lost = s.tiny * m.lambda_x(s.x).double().square()
    assert_zero((back - s.u.double()).norm(dim=-1), s.relative(s.x) * s.u.double().norm(dim=-1) + lost)


@law("conformal factor and gradient", reach=0.4, needs=("lambda_x", "mobius_add"))
def conformal_factor_of_a_sum(s: Sample) -> None:
    """``1 - c|x ⊕ y|² = ab/(ab + c|x + y|²)``; the sum's rounding changes it by ``√c`` times the way it moves."""
    m: Any = s.manifold
    a, b = (2.0 / m.lambda_x(p).double() for p in (s.x, s.y))
    rest = a * b / (a * b + (s.root_c * (s.x.double() + s.y.double())).square().sum(-1))
    total = m.mobius_add(s.x, s.y)
    tolerance = s.relative(s.x, s.y, total) + s.root_c * s.spread(total)
    assert_values(m.lambda_x(total), 2.0 / rest, tolerance)


@law("conformal factor and gradient", reach=0.6)
def riemannian_gradient_pairs_with_vectors_as_the_euclidean_one(s: Sample) -> None:
    m, grad = s.manifold, s.noise(*s.x.shape)
    rise = m.egrad2rgrad(s.x, grad)
    got, size = m.inner(s.x, rise, s.u), m.norm(s.x, rise).double() * m.norm(s.x, s.u).double()
    assert_values(got, (grad.double() * s.u.double()).sum(-1), 0.0, s.vectors(s.x) * size + s.tiny)


@law("conformal factor and gradient")
def gradient_of_the_distance_has_length_one(s: Sample) -> None:
    x = s.x.clone().requires_grad_()
    distance = s.manifold.dist(x, s.y)
    (grad,) = torch.autograd.grad(distance.sum(), x)
    length = s.manifold.norm(s.x, s.manifold.egrad2rgrad(s.x, grad))
    assert bool(torch.isfinite(length).all())
    resolved = distance.detach().double() > 1e-30
    wanted = torch.where(resolved, 1.0, length.double())
    assert_values(length, wanted, 0.0, s.vectors(s.x, s.y))


@law("conformal factor and gradient", reach=0.6)
def gradient_of_half_the_squared_distance_is_minus_the_logarithm(s: Sample) -> None:
    x = s.x.clone().requires_grad_()
    (grad,) = torch.autograd.grad((s.manifold.sqdist(x, s.y) / 2).sum(), x)
    assert_tangents(s, s.x, s.manifold.egrad2rgrad(s.x, grad), -s.manifold.logmap(s.x, s.y))


@law("conformal factor and gradient", reach=0.6)
def gradient_of_half_the_squared_distance_is_as_long_as_the_distance(s: Sample) -> None:
    x = s.x.clone().requires_grad_()
    (grad,) = torch.autograd.grad((s.manifold.sqdist(x, s.y) / 2).sum(), x)
    length = s.manifold.norm(s.x, s.manifold.egrad2rgrad(s.x, grad))
    assert_values(length, s.manifold.dist(s.x, s.y), s.vectors(s.x, s.y), s.chart(s.x, s.y) + s.tiny)
