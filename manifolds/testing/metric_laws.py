# ruff: noqa: D103 - the name of a law is its statement
"""Laws of inverse maps, distance and isometries, for any manifold of the package's interface."""

import torch

from manifolds.testing.laws import assert_points, assert_tangents, assert_values, law
from manifolds.testing.operations import LENGTHS, calls, roles_of
from manifolds.testing.samples import Sample


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
    floor = s.chart(s.x, s.y) + s.tiny
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
    assert_values(s.manifold.sqdist(s.x, s.y), wanted, s.relative(s.x, s.y), s.tiny)


@law("metric")
def distance_from_the_origin(s: Sample) -> None:
    origin = s.manifold.origin(*s.x.shape, dtype=s.x.dtype)
    wanted = s.manifold.dist(origin, s.x)
    assert_values(s.manifold.dist0(s.x), wanted, s.relative(s.x), s.tiny)


@law("metric")
def pairwise_distance_is_the_distance_of_all_pairs(s: Sample) -> None:
    x, y = s.x.reshape(-1, s.x.shape[-1]), s.y.reshape(-1, s.y.shape[-1])
    wanted = s.manifold.dist(x[:, None], y)
    got = s.manifold.pairwise_dist(x, y)
    if x.numel() == 0:
        assert got.shape == wanted.shape
        return
    assert_values(got, wanted, s.relative(x, y).max(), s.chart(x, y).max() + s.tiny)


@law("metric")
def pairwise_distance_within_a_set_is_symmetric_with_zero_diagonal(s: Sample) -> None:
    x = torch.cat([s.x.reshape(-1, s.x.shape[-1]), s.y.reshape(-1, s.x.shape[-1])])
    for matrix in (s.manifold.pairwise_dist(x), s.manifold.pairwise_dist(x, x)):
        assert torch.equal(matrix, matrix.mT)
        assert bool((matrix.diagonal() == 0).all())


@law("isometries", reach=0.6)
def rotations_about_the_origin_keep_distances(s: Sample) -> None:
    got = s.manifold.dist(s.turned(s.x), s.turned(s.y))
    assert_values(got, s.manifold.dist(s.x, s.y), s.relative(s.x, s.y), 2 * s.spread(s.x, s.y))


@law("isometries", reach=0.3, needs=("mobius_add",))
def left_translations_keep_distances(s: Sample) -> None:
    m: Any = s.manifold
    moved = [m.mobius_add(s.z, p) for p in (s.x, s.y)]
    assert_values(m.dist(*moved), m.dist(s.x, s.y), s.relative(s.x, s.y), 2 * s.spread(s.x, s.y, s.z, *moved))
