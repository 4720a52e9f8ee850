# ruff: noqa: D103 - the name of a law is its statement
"""Laws of geodesics, parallel transport and gradients, for any manifold of the package's interface."""

import math

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
