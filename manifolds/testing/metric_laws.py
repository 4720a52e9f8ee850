# ruff: noqa: D103 - the name of a law is its statement
"""Laws of distance, geodesics, transport and isometries, for any manifold of the package's interface."""

import math
from typing import Any

import torch
from torch import Tensor

from manifolds import polar
from manifolds.testing.laws import assert_points, assert_tangents, assert_values, law
from manifolds.testing.samples import Sample


def turned(s: Sample, x: Tensor) -> Tensor:
    """``x`` turned about the origin by a seeded orthogonal matrix."""
    features = s.manifold.features0(s.manifold.logmap0(x))
    generator = torch.Generator().manual_seed(s.seed)
    square = torch.randn(features.shape[-1], features.shape[-1], dtype=torch.float64, generator=generator)
    matrix = torch.linalg.qr(square)[0].to(x.dtype)
    return s.manifold.expmap0(s.manifold.tangent0(features @ matrix))


@law("inverses", reach=0.4)
def expmap_undoes_logmap(s: Sample) -> None:
    end = s.manifold.expmap(s.x, s.manifold.logmap(s.x, s.y))
    assert_points(s, end, s.y, s.x, slack=s.swing(s.x, s.manifold.dist(s.x, s.y)))


@law("inverses", reach=0.4)
def logmap_undoes_expmap(s: Sample) -> None:
    end = s.manifold.expmap(s.x, s.u)
    assert_tangents(s, s.x, s.manifold.logmap(s.x, end), s.u, s.x, end)


@law("inverses")
def expmap0_undoes_logmap0(s: Sample) -> None:
    assert_points(s, s.manifold.expmap0(s.manifold.logmap0(s.x)), s.x)


@law("inverses")
def logmap_has_the_length_of_the_distance(s: Sample) -> None:
    length = s.manifold.norm(s.x, s.manifold.logmap(s.x, s.y))
    floor = s.chart(s.x, s.y) + 1e3 * torch.finfo(s.x.dtype).tiny
    assert_values(length, s.manifold.dist(s.x, s.y), s.vectors(s.x, s.y), floor)


@law("inverses", reach=0.6)
def maps_at_the_origin_are_maps_at_a_point(s: Sample) -> None:
    origin = s.manifold.origin(*s.x.shape, dtype=s.x.dtype)
    v = s.manifold.logmap0(s.y)
    assert_tangents(s, origin, s.manifold.logmap(origin, s.y), v, s.y)
    assert_points(s, s.manifold.expmap(origin, v), s.y)


@law("metric")
def distance_to_itself_is_exactly_zero(s: Sample) -> None:
    assert bool((s.manifold.dist(s.x, s.x.clone()) == 0).all())
    assert bool((s.manifold.sqdist(s.x, s.x.clone()) == 0).all())


@law("metric")
def distance_is_symmetric_bit_for_bit(s: Sample) -> None:
    assert torch.equal(s.manifold.dist(s.x, s.y), s.manifold.dist(s.y, s.x))


@law("metric")
def different_points_are_apart(s: Sample) -> None:
    apart = s.manifold.dist(s.x, s.y)
    first, second = (s.manifold.features0(s.manifold.logmap0(p)) for p in (s.x, s.y))
    differ = ((first - second).abs() > 1e-15).any(-1)
    assert bool((apart >= 0).all())
    assert bool((apart[differ] > 0).all())


@law("metric")
def triangle_inequality(s: Sample) -> None:
    m = s.manifold
    direct, detour = m.dist(s.x, s.z).double(), m.dist(s.x, s.y).double() + m.dist(s.y, s.z).double()
    assert bool((direct <= detour * (1.0 + s.relative(s.x, s.y, s.z))).all())


@law("metric")
def squared_distance_is_the_square(s: Sample) -> None:
    wanted = s.manifold.dist(s.x, s.y).square()
    assert_values(s.manifold.sqdist(s.x, s.y), wanted, s.relative(s.x, s.y), 1e3 * torch.finfo(s.x.dtype).tiny)


@law("metric")
def distance_from_the_origin(s: Sample) -> None:
    origin = s.manifold.origin(*s.x.shape, dtype=s.x.dtype)
    wanted = s.manifold.dist(origin, s.x)
    assert_values(s.manifold.dist0(s.x), wanted, s.relative(s.x), 1e3 * torch.finfo(s.x.dtype).tiny)


@law("metric")
def pairwise_distance_is_the_distance_of_all_pairs(s: Sample) -> None:
    x, y = s.x.reshape(-1, s.x.shape[-1]), s.y.reshape(-1, s.y.shape[-1])
    wanted = s.manifold.dist(x[:, None], y)
    got = s.manifold.pairwise_dist(x, y)
    if x.numel() == 0:
        assert got.shape == wanted.shape
        return
    assert_values(got, wanted, s.relative(x, y).max(), s.chart(x, y).max() + 1e3 * torch.finfo(x.dtype).tiny)


@law("metric")
def pairwise_distance_within_a_set_is_symmetric_with_zero_diagonal(s: Sample) -> None:
    x = torch.cat([s.x.reshape(-1, s.x.shape[-1]), s.y.reshape(-1, s.x.shape[-1])])
    for matrix in (s.manifold.pairwise_dist(x), s.manifold.pairwise_dist(x, x)):
        assert torch.equal(matrix, matrix.mT)
        assert bool((matrix.diagonal() == 0).all())


@law("isometries", reach=0.6)
def rotations_about_the_origin_keep_distances(s: Sample) -> None:
    got = s.manifold.dist(turned(s, s.x), turned(s, s.y))
    assert_values(got, s.manifold.dist(s.x, s.y), s.relative(s.x, s.y), 2 * s.spread(s.x, s.y))


@law("isometries", reach=0.3, needs=("mobius_add",))
def left_translations_keep_distances(s: Sample) -> None:
    m: Any = s.manifold
    moved = [m.mobius_add(s.z, p) for p in (s.x, s.y)]
    assert_values(m.dist(*moved), m.dist(s.x, s.y), s.relative(s.x, s.y), 2 * s.spread(s.x, s.y, s.z, *moved))


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
    assert_values(got, wanted, 0.0, s.vectors(s.x, s.y) * size + 1e3 * torch.finfo(s.x.dtype).tiny)


@law("transport", reach=0.5)
def transport_to_the_same_point_is_the_identity(s: Sample) -> None:
    assert_tangents(s, s.x, s.manifold.transp(s.x, s.x, s.u), s.u)


@law("transport", reach=0.5)
def transport_there_and_back_is_the_identity(s: Sample) -> None:
    there = s.manifold.transp(s.x, s.y, s.u)
    back = s.manifold.transp(s.y, s.x, there)
    floor = s.vectors(s.x, s.y) * s.manifold.norm(s.x, s.u).double() + 1e3 * torch.finfo(s.x.dtype).tiny
    apart = s.manifold.norm(s.x, back - s.u)
    assert_values(apart, torch.zeros_like(apart), 0.0, floor)


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


@law("gradient")
def gradient_of_the_distance_has_length_one(s: Sample) -> None:
    x = s.x.clone().requires_grad_()
    distance = s.manifold.dist(x, s.y)
    (grad,) = torch.autograd.grad(distance.sum(), x)
    length = s.manifold.norm(s.x, s.manifold.egrad2rgrad(s.x, grad))
    assert bool(torch.isfinite(length).all())
    resolved = distance.detach().double() > 1e-30
    wanted = torch.where(resolved, 1.0, length.double())
    assert_values(length, wanted, 0.0, s.vectors(s.x, s.y))


@law("gradient", reach=0.6)
def gradient_of_half_the_squared_distance_is_minus_the_logarithm(s: Sample) -> None:
    x = s.x.clone().requires_grad_()
    (grad,) = torch.autograd.grad((s.manifold.sqdist(x, s.y) / 2).sum(), x)
    assert_tangents(s, s.x, s.manifold.egrad2rgrad(s.x, grad), -s.manifold.logmap(s.x, s.y))


@law("models")
def distance_is_that_of_the_polar_form(s: Sample) -> None:
    u, v = (s.manifold.features0(s.manifold.logmap0(p)) for p in (s.x, s.y))
    c = float(s.manifold.curvature.detach().max())
    wanted = polar.dist(u, v, c) if c else 2.0 * (u.double() - v.double()).norm(dim=-1)
    size = s.spread(s.x, s.y)
    assert_values(s.manifold.dist(s.x, s.y), wanted, s.relative(s.x, s.y), size)


@law("models")
def unit_of_length_at_the_origin(s: Sample) -> None:
    u = s.manifold.features0(s.manifold.logmap0(s.x))
    wanted = 2.0 * torch.linalg.vector_norm(u.double(), dim=-1)
    assert_values(s.manifold.dist0(s.x), wanted, s.relative(s.x), 1e3 * torch.finfo(s.x.dtype).tiny)
