# ruff: noqa: D103 - the name of a law is its statement
"""Laws of inverse maps, distance and isometries, for any manifold of the package's interface."""

from typing import Any

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


@law("inverses", reach=0.6)
def logmap0_undoes_expmap0(s: Sample) -> None:
    v = s.manifold.transp0back(s.x, s.u)
    end, origin = s.manifold.expmap0(v), s.manifold.origin(*s.x.shape, dtype=s.x.dtype)
    assert_tangents(s, origin, s.manifold.logmap0(end), v, end)


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
    assert bool((apart >= 0).all())
    if s.conformal:
        gap, floor = (s.x - s.y).abs().amax(-1), 8 * s.unit * s.x.abs().amax(-1)
    else:
        gap, floor = (s.features(s.x) - s.features(s.y)).norm(dim=-1), s.chart(s.x, s.y)
    underflow = torch.finfo(s.x.dtype).tiny ** 0.5
    assert bool((gap <= floor + underflow)[apart == 0].all())


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


@law("isometries", reach=0.6)
def a_mirror_through_the_origin_keeps_distances(s: Sample) -> None:
    features = [s.features(p) for p in (s.x, s.y)]
    mirror = torch.ones_like(features[0])
    mirror[..., 0] = -1.0
    for sign in (mirror, -torch.ones_like(mirror)):
        got = s.manifold.dist(*(s.at(sign * u) for u in features))
        assert_values(got, s.manifold.dist(s.x, s.y), s.relative(s.x, s.y), 2 * s.spread(s.x, s.y))


@law("isometries", reach=0.25)
def reflection_in_a_point_keeps_distances(s: Sample) -> None:
    m = s.manifold
    images = [m.expmap(s.z, -m.logmap(s.z, p)) for p in (s.x, s.y)]
    slack = sum(s.swing(s.z, m.dist(s.z, p)) for p in (s.x, s.y))
    assert_values(m.dist(*images), m.dist(s.x, s.y), s.relative(s.x, s.y), 2 * s.spread(s.x, s.y, s.z, *images) + slack)


@law("isometries", reach=0.9, needs=("with_curvature",))
def scaling_space_by_s_is_going_from_c_to_c_over_s_squared(s: Sample) -> None:
    """For coordinates that are lengths. A power of two scales without rounding: results differ by roundings alone."""
    for factor in (0.125, 64.0):
        twin = s.manifold.with_curvature(s.manifold.curvature.detach() / factor**2)  # pyright: ignore[reportCallIssue]
        roles = {role: a * factor if role in LENGTHS else a for role, a in roles_of(s).items()}
        for row, operation, arguments in calls(s):
            wanted = operation(*arguments).detach().double() * factor**row.degree
            got = row.of(twin)(*(roles[role] for role in row.roles))
            if wanted.numel():
                floor = s.relative(s.x, s.y, s.z).max() * wanted.abs().max() + s.tiny * max(1.0, factor**row.degree)
                assert_values(got, wanted, 0.0, floor, row.name)
