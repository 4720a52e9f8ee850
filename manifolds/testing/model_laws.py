# ruff: noqa: D103 - the name of a law is its statement
"""Laws that tie a manifold to the textbook's models: polar form, hyperboloid, Klein's model, upper half-space, ball.

A manifold of one's own is compared through its features, which any model shares: ``u`` lies at distance ``2|u|`` in
direction ``u``. Textbook formulas lose digits with distance, so they are used in float64 at moderate radii.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from manifolds import charts, cones, means, polar
from manifolds.poincare import PoincareBall
from manifolds.testing.laws import assert_points, assert_tangents, assert_values, assert_zero, is_ball, is_curved, law
from manifolds.testing.samples import Sample


def on_hyperboloid(s: Sample, x: Tensor) -> tuple[Tensor, Tensor]:
    """Time and space part of a point on the unit hyperboloid, in float64, from its features alone."""
    u = s.features(x).double()
    radius = 2.0 * s.root_c * u.norm(dim=-1, keepdim=True)
    way = u / u.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    return torch.cosh(radius), torch.sinh(radius) * way


def product(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> Tensor:
    """Lorentz product ``⟨p_s, q_s⟩ - p₀q₀``."""
    return (p[1] * q[1]).sum(-1) - (p[0] * q[0]).squeeze(-1)


def pushed(chart: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    """The differential of ``chart`` at ``x``, applied to ``v``."""
    return (torch.func.vmap(torch.func.jacrev(chart))(x) @ v[..., None]).squeeze(-1)


@law("models")
def distance_is_that_of_the_polar_form(s: Sample) -> None:
    u, v = s.features(s.x), s.features(s.y)
    c = float(s.manifold.curvature.detach().max())
    wanted = polar.dist(u, v, c) if c else 2.0 * (u.double() - v.double()).norm(dim=-1)
    assert_values(s.manifold.dist(s.x, s.y), wanted, s.relative(s.x, s.y), s.spread(s.x, s.y))


@law("models")
def unit_of_length_at_the_origin(s: Sample) -> None:
    wanted = 2.0 * torch.linalg.vector_norm(s.features(s.x).double(), dim=-1)
    assert_values(s.manifold.dist0(s.x), wanted, s.relative(s.x), s.tiny)


@law("models", small=True, reach=0.2, when=is_curved)
def distance_is_that_of_the_hyperboloid(s: Sample) -> None:
    """``cosh(√c d) = -⟨p, q⟩``."""
    wanted = -product(on_hyperboloid(s, s.x), on_hyperboloid(s, s.y))
    got = torch.cosh(s.root_c * s.manifold.dist(s.x, s.y))
    assert_values(got, wanted, 0.0, s.relative(s.x, s.y) * s.stretch(s.x) * s.stretch(s.y))


@law("models", small=True, reach=0.15, when=is_ball)
def klein_coordinates_are_the_same_space(s: Sample) -> None:
    """``cosh(√c d) = (1 - c⟨k, l⟩)/√((1 - c|k|²)(1 - c|l|²))``; a rounding of ``k`` counts ``cosh²(√c ρ)`` times."""
    c = float(s.manifold.curvature.detach())
    k, q = charts.to_klein(s.x, c), charts.to_klein(s.y, c)
    loss = s.relative(s.x, s.y) * s.stretch(s.x, s.y).square()
    assert_zero(s.manifold.dist(charts.from_klein(k, c), s.x), loss * s.length)
    a, b = (1.0 - c * p.square().sum(-1) for p in (k, q))
    wanted = (1.0 - c * (k * q).sum(-1)) / (a * b).sqrt()
    assert_values(torch.cosh(s.root_c * s.manifold.dist(s.x, s.y)), wanted, loss)
    v = pushed(lambda x: charts.to_klein(x, c), s.x, s.u)
    square = v.square().sum(-1) / a + c * ((k * v).sum(-1) / a).square()
    assert_values(square.sqrt(), s.manifold.norm(s.x, s.u), loss)
    assert_tangents(s, s.x, pushed(lambda x: charts.from_klein(x, c), k, v), s.u, s.x, s.y)


@law("models", small=True, reach=0.2, when=is_ball)
def half_space_coordinates_are_the_same_space(s: Sample) -> None:
    """``d = (2/√c) asinh(|p - q|/(2√(p_n q_n)))`` and the metric is ``|dp|²/(c p_n²)``."""
    c = float(s.manifold.curvature.detach())
    p, q = charts.to_half_space(s.x, c), charts.to_half_space(s.y, c)
    rounded = s.relative(s.x, s.y) * 2 * s.length * s.stretch(s.x, s.y)  # |p|/(√c p_n) roundings, also at the origin
    assert_points(s, charts.from_half_space(p, c), s.x, slack=rounded)
    gap = (p - q).norm(dim=-1) / (2.0 * (p[..., -1] * q[..., -1]).sqrt())
    wanted = 2.0 * s.length * torch.asinh(gap)
    assert_values(s.manifold.dist(s.x, s.y), wanted, s.relative(s.x, s.y), rounded)
    v = pushed(lambda x: charts.to_half_space(x, c), s.x, s.u)
    loss = s.relative(s.x) * s.stretch(s.x)
    assert_values(v.norm(dim=-1) / (s.root_c * p[..., -1]), s.manifold.norm(s.x, s.u), loss)
    back = pushed(lambda x: charts.from_half_space(x, c), p, v)
    assert_zero(s.manifold.norm(s.x, back - s.u), loss * s.manifold.norm(s.x, s.u))


@law("models", needs=("to_ball", "from_ball"), when=is_curved)
def points_go_to_the_ball_and_come_back(s: Sample) -> None:
    m: Any = s.manifold
    ball = PoincareBall(m.curvature.detach())
    x, y = m.to_ball(s.x), m.to_ball(s.y)
    assert_points(s, m.from_ball(x), s.x, s.x)
    assert_values(ball.dist(x, y), m.dist(s.x, s.y), s.relative(s.x, s.y), 2 * s.spread(s.x, s.y))
    assert m.check_point(m.from_ball(x)) is None


@law("models", small=True, reach=0.25, needs=("to_ball", "from_ball"), when=is_curved)
def tangents_go_to_the_ball_and_come_back(s: Sample) -> None:
    m: Any = s.manifold
    x, ball = m.to_ball(s.x), PoincareBall(m.curvature.detach())
    v = pushed(m.to_ball, s.x, s.u)
    loss = s.vectors(s.x) * s.stretch(s.x)
    assert_values(ball.norm(x, v), m.norm(s.x, s.u), loss)
    assert_zero(m.norm(s.x, pushed(m.from_ball, x, v) - s.u), loss * m.norm(s.x, s.u))
    carried = ball.transp(x, m.to_ball(s.y), v)
    there = pushed(m.to_ball, s.y, m.transp(s.x, s.y, s.u))
    assert_zero(ball.norm(m.to_ball(s.y), carried - there), s.vectors(s.x, s.y) * s.stretch(s.x, s.y) * ball.norm(x, v))


@law("models", reach=0.9)
def results_are_points(s: Sample) -> None:
    m = s.manifold
    ends = (m.expmap(s.x, s.u), m.geodesic(s.t, s.x, s.y), m.expmap0(m.logmap0(s.y)), m.projx(s.z))
    for end in ends:
        assert m.check_point(end.detach()) is None


@law("models", small=True, reach=0.2, needs=("half_aperture", "cone_angle"), when=is_curved)
def cones_are_those_of_the_hyperboloid(s: Sample) -> None:
    """Le et al. 2019: ``sin(aperture) = 2K/|p_s|``, ``cos(angle) = (q₀ + p₀⟨p, q⟩)/(|p_s| √(⟨p, q⟩² - 1))``."""
    m: Any = s.manifold
    p, q = on_hyperboloid(s, s.x), on_hyperboloid(s, s.y)
    size, mixed = p[1].norm(dim=-1), product(p, q)
    aperture = torch.asin((0.2 / size).clamp(max=1.0))
    assert_values(m.half_aperture(s.x, 0.1), aperture, 4 * s.relative(s.x) * s.stretch(s.x))
    far = (mixed.square() - 1.0).sqrt()
    cosine = (q[0].squeeze(-1) + p[0].squeeze(-1) * mixed) / (size * far)
    # Numerator and denominator are differences of numbers of the size of the stretch.
    loss = s.relative(s.x, s.y) * s.stretch(s.x, s.y) ** 3 * (1.0 / (size * far) + 1.0 / far.square())
    assert_zero(torch.cos(m.cone_angle(s.x, s.y)) - cosine, loss)
    ball = [PoincareBall(m.curvature.detach()).expmap0(s.features(r)) for r in (s.x, s.y)]
    wanted = cones.cone_angle(*ball, c=float(m.curvature.detach()))
    slack = 2 * s.spread(s.x, s.y) / s.arc(m.dist(s.x, s.y)) * s.stretch(s.x, s.y)
    assert_zero(m.cone_angle(s.x, s.y) - wanted, slack)


@law("models", small=True, reach=0.3, needs=("midpoint",), when=is_curved)
def midpoint_is_lorentz_centroid_and_einstein_midpoint(s: Sample) -> None:
    m: Any = s.manifold
    points, weights = torch.stack([s.x, s.y, s.z], dim=-2), s.noise(2, 3).abs() + 0.1
    time, space = on_hyperboloid(s, points)
    time, space = (weights[..., None] * time).sum(-2), (weights[..., None] * space).sum(-2)
    radius = torch.asinh(
        space.norm(dim=-1, keepdim=True) / (time.square() - space.square().sum(-1, keepdim=True)).sqrt()
    )
    centroid = s.at(radius / (2.0 * s.root_c) * space / space.norm(dim=-1, keepdim=True))
    loss = s.relative(s.x, s.y, s.z) * s.stretch(s.x, s.y, s.z).square() * s.length
    assert_zero(m.dist(m.midpoint(points, weights), centroid), loss)
    c = float(m.curvature.detach())
    ball = PoincareBall(c)
    klein = charts.to_klein(ball.expmap0(s.features(points)), c)
    einstein = charts.from_klein(means.einstein_midpoint(klein, weights, c), c)
    assert_zero(m.dist(m.midpoint(points, weights), s.at(ball.logmap0(einstein))), loss)
