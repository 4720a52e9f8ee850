# ruff: noqa: D103 - the name of a law is its statement
"""Laws of hyperplanes, entailment cones and the Busemann function, stated by geodesics alone."""

from typing import Any

import torch
from torch import Tensor

from manifolds.testing.laws import assert_values, assert_zero, is_curved, law
from manifolds.testing.samples import Sample

CONES = ("half_aperture", "cone_angle")


def _normals(s: Sample) -> tuple[Tensor, Tensor]:
    """Three unit normals over the features and their offsets: through the origin, and on either side of it."""
    z = s.noise(3, s.x.shape[-1] + s.manifold.features_offset)
    offsets = torch.tensor([0.0, 0.4, -0.8], dtype=s.x.dtype) * s.length
    return z / z.norm(dim=-1, keepdim=True), offsets


def _on_plane(s: Sample, z: Tensor, r: Tensor, count: int, size: float) -> Tensor:
    """Seeded points of the plane with unit normal ``z``: geodesics leave its foot at right angles to it."""
    m = s.manifold
    free = s.noise(count, z.shape[-1]) * size
    foot = m.expmap0(m.tangent0(r * z)).expand(count, -1)
    return m.expmap(foot, m.transp0(foot, m.tangent0(free - (free @ z)[:, None] * z)))


@law("planes and cones", reach=0.9, needs=("hyperplane_distance",))
def plane_distance_is_odd_in_the_normal_and_blind_to_its_length(s: Sample) -> None:
    m: Any = s.manifold
    z, r = _normals(s)
    got = m.hyperplane_distance(s.x, z, r)
    floor = (s.relative(s.x) * s.length)[..., None] + s.spread(s.x)[..., None]
    assert_values(m.hyperplane_distance(s.x, -z, -r), -got, 8 * s.unit, floor)
    assert_values(m.hyperplane_distance(s.x, 5.0 * z, r), got, 8 * s.unit, floor)


@law("planes and cones", small=True, needs=("hyperplane_distance",))
def plane_distance_is_zero_on_the_plane_and_grows_along_the_normal(s: Sample) -> None:
    m: Any = s.manifold
    for z, r in zip(*_normals(s), strict=True):
        on = _on_plane(s, z, r, 20, s.length)
        assert_zero(m.hyperplane_distance(on, z[None], r[None])[:, 0], 4 * s.spread(on))
        off = m.expmap0(m.tangent0((r + 0.3 * s.length) * z))
        wanted = torch.full((1,), 0.6 * s.length, dtype=s.x.dtype)
        assert_values(m.hyperplane_distance(off, z[None], r[None]), wanted, 4 * s.relative(off), 4 * s.spread(off))


@law("planes and cones", small=True, examples=3, reach=0.1, needs=("hyperplane_distance",))
def plane_distance_is_the_least_distance_to_its_points(s: Sample) -> None:
    """No sampled point of the plane is nearer, and the nearest of many is hardly farther."""
    m: Any = s.manifold
    for z, r in zip(*_normals(s), strict=True):
        x = s.at(s.noise(4, z.shape[-1]) * (0.4 * s.length))
        plane = _on_plane(s, z, r, 20000, 0.6 * s.length)
        nearest = m.pairwise_dist(x, plane).amin(-1)
        got = m.hyperplane_distance(x, z[None], r[None])[:, 0].abs()
        assert bool((nearest >= got * (1.0 - s.relative(x)) - s.spread(x)).all())
        assert bool((nearest.square() - got.square() <= (0.3 * s.length) ** 2).all())


@law("planes and cones", small=True, reach=0.3, needs=CONES)
def the_cone_looks_away_from_the_origin(s: Sample) -> None:
    """Angle 0 beyond the apex on its ray, π before it; the end of a ray sways by its rounding over its distance."""
    m: Any = s.manifold
    ray, still = m.logmap0(s.x), torch.zeros_like(s.x[..., 0])
    for factor, wanted in ((1.5, 0.0), (3.0, 0.0), (0.5, torch.pi), (-1.0, torch.pi)):
        y = m.expmap0(factor * ray)
        sway = s.spread(s.x, y) / s.arc(m.dist(s.x, y)) + s.chart(s.x, y) / s.arc(m.dist(s.x, y))
        assert_values(m.cone_angle(s.x, y), still + wanted, 0.0, sway + 8 * s.unit)
    assert bool((m.cone_angle(s.x, s.x.clone()) == 0).all())


@law("planes and cones", small=True, reach=0.15, needs=CONES)
def cone_angle_is_that_between_logarithm_and_ray(s: Sample) -> None:
    m: Any = s.manifold
    ray, log = m.transp0(s.x, m.logmap0(s.x)), m.logmap(s.x, s.y)
    cosine = m.inner(s.x, ray, log) / (m.norm(s.x, ray) * m.norm(s.x, log))
    assert_zero(torch.cos(m.cone_angle(s.x, s.y)) - cosine, 4 * s.vectors(s.x, s.y) * s.stretch(s.x))


@law("planes and cones", reach=0.9, needs=CONES)
def cones_narrow_with_the_radius(s: Sample) -> None:
    """``sin = 2K/sinh(√c ρ)``, in flat space ``2k/ρ``; right angles where that is more than one."""
    m: Any = s.manifold
    size = m.dist0(s.x).detach().double() * max(s.root_c, float(s.root_c == 0))
    lever = torch.sinh(size) if s.root_c else size
    for k in (0.01, 0.1, 1.0):
        sine = 2.0 * k / lever.clamp(min=1e-300)
        wanted = torch.where(sine < 1, torch.asin(sine.clamp(max=1.0)), torch.pi / 2)
        edge = 4.0 * (s.relative(s.x) * (1.0 + size)).sqrt() * ((sine - 1.0).abs() < 1e-3)
        assert_values(m.half_aperture(s.x, k), wanted, s.relative(s.x) * (1.0 + size), edge)


@law("planes and cones", reach=0.5, needs=(*CONES, "cone_violation"))
def violation_is_what_the_angle_exceeds_the_aperture_by(s: Sample) -> None:
    m: Any = s.manifold
    for k, extra in ((0.1, 0.0), (0.3, 0.2)):
        wanted = (m.cone_angle(s.x, s.y) - m.half_aperture(s.x, k) + extra).clamp(min=0.0)
        assert_values(m.cone_violation(s.x, s.y, k, extra), wanted, 8 * s.unit, 8 * s.unit)


@law("planes and cones", small=True, examples=3, needs=(*CONES, "cone_violation"))
def cones_are_transitive(s: Sample) -> None:
    """What lies in the cone of a point in my cone lies in mine (Ganea et al. 2018, section 3), by exhaustion."""
    m: Any = s.manifold
    x = s.at(s.noise(300, s.features(s.x).shape[-1]) * (0.8 * s.length))
    k = 0.3 if s.root_c else 0.3 * s.length
    x = x[m.half_aperture(x, k) < 1.5]
    excess = m.cone_angle(x[:, None], x) - m.half_aperture(x, k)[:, None]
    slack = s.relative(x).max() * s.stretch(x).max()
    surely, hardly = excess < -slack, excess < slack
    chained = (surely.double() @ surely.double()) > 0
    assert int(surely.sum()) > len(x)
    assert bool((hardly | ~chained).all())


@law("planes and cones", small=True, reach=0.4, needs=("busemann",))
def busemann_function_falls_by_t_along_its_ray(s: Sample) -> None:
    m: Any = s.manifold
    p = s.noise(s.features(s.x).shape[-1])
    p = p / p.norm()
    far = m.dist0(s.x).detach()
    for t in (-far, 0.0 * far, 0.1 * far, far):
        x = s.at(t[:, None] / 2.0 * p)
        floor = s.spread(x) * s.stretch(x).sqrt()
        assert_values(m.busemann(3.0 * p, x), -t, s.relative(x), floor)


@law("planes and cones", reach=0.5, needs=("busemann",))
def busemann_function_is_one_lipschitz(s: Sample) -> None:
    m: Any = s.manifold
    p = s.noise(s.features(s.x).shape[-1])
    first, second = m.busemann(p, s.x).double(), m.busemann(p, s.y).double()
    slack = s.relative(s.x, s.y) * (m.dist0(s.x) + m.dist0(s.y)).double() + s.chart(s.x, s.y) + s.tiny
    assert bool(((first - second).abs() <= m.dist(s.x, s.y).double() + slack).all())


@law("planes and cones", reach=0.5, needs=("busemann",))
def busemann_function_turns_with_its_direction(s: Sample) -> None:
    m: Any = s.manifold
    p = s.noise(s.features(s.x).shape[-1])
    assert_values(m.busemann(p @ s.rotation(), s.turned(s.x)), m.busemann(p, s.x), s.relative(s.x), 4 * s.spread(s.x))


@law("planes and cones", small=True, reach=0.15, needs=("busemann",), when=is_curved)
def busemann_function_is_the_limit_of_distances(s: Sample) -> None:
    """``d(x, q) - d(0, q)`` for ``q`` far along the ray; what is left is of order ``e^{2√c(ρ - T)}``."""
    m: Any = s.manifold
    p = s.noise(s.features(s.x).shape[-1])
    p = p / p.norm()
    reach = 0.9 * m.max_radius(torch.float64)
    q = s.at(reach / 2.0 * p)
    rest = 4.0 * s.length * torch.exp(2.0 * s.root_c * (m.dist0(s.x).detach() - reach))
    got = m.dist(s.x, q.expand_as(s.x)) - m.dist0(q)
    assert_values(got, m.busemann(p, s.x), 0.0, rest + s.relative(s.x, q) * reach + 2 * s.spread(s.x, q))


@law("planes and cones", small=True, reach=0.15, needs=("busemann",), when=is_curved)
def gradient_of_the_busemann_function_has_length_one(s: Sample) -> None:
    m: Any = s.manifold
    x = s.x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(m.busemann(s.noise(s.features(s.x).shape[-1]), x).sum(), x)
    length = m.norm(s.x, m.egrad2rgrad(s.x, grad))
    assert_values(length, torch.ones_like(length), s.vectors(s.x) * s.stretch(s.x))
