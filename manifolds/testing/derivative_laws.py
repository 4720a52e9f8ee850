# ruff: noqa: D103 - the name of a law is its statement
"""Laws of derivatives: right to second order, right in float32 to the last digits, never dead, never NaN."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manifolds.testing.laws import assert_values, assert_zero, installed, is_ball, law, learns_curvature
from manifolds.testing.operations import Operation, operations_of, roles_of
from manifolds.testing.samples import Sample

ORACLE = installed("mpmath", is_ball)
DIGITS = 4 * torch.finfo(torch.float32).eps


def _positions(s: Sample) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Arguments with ``y`` apart from ``x``, near it and equal to it."""
    roles = roles_of(s)
    step = s.u * (1e-3 * s.length / s.manifold.norm(s.x, s.u, keepdim=True))
    for name, y in (("apart", s.y), ("near", s.manifold.expmap(s.x, step)), ("equal", s.x.clone())):
        yield name, {**roles, "y": y.detach(), "set": torch.stack([s.x, y, s.z], dim=-2).detach()}


def _scaled(function: Callable[..., Tensor], arguments: list[Tensor]) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """The same function of numbers of order one, of order one: finite differences then need no units."""
    sizes = [float(a.abs().max()) or 1.0 for a in arguments]
    top = float(function(*arguments).detach().abs().max()) or 1.0

    def inner(*leaves: Tensor) -> Tensor:
        return function(*(size * leaf for size, leaf in zip(sizes, leaves, strict=True))) / top

    return inner, [(a / size).detach().requires_grad_() for a, size in zip(arguments, sizes, strict=True)]


def _checked(s: Sample, position: str) -> Iterator[tuple[Operation, Callable[..., Tensor], list[Tensor]]]:
    """The operations that have derivatives at a position, as functions of order one, and where to take them."""
    roles = dict(_positions(s))[position]
    for row in operations_of(s.manifold):
        if position != "apart" and ((not row.smooth and position == "equal") or not {"y", "set"} & {*row.roles}):
            continue
        function, leaves = _scaled(row.of(s.manifold), [roles[role] for role in row.roles])
        if function(*leaves).requires_grad:
            yield row, function, leaves


def _compare(s: Sample, order: int) -> None:
    check: Any = torch.autograd.gradcheck if order == 1 else torch.autograd.gradgradcheck
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s.seed)
        for position in ("apart", "near", "equal"):
            for row, function, leaves in _checked(s, position):
                if order == 2 and position == "near" and row.smooth:
                    continue
                assert check(function, leaves, eps=1e-6, atol=1e-5, rtol=1e-3, fast_mode=True), (row.name, position)


@law("derivatives", small=True, examples=3, reach=0.12)
def gradients_are_those_of_finite_differences(s: Sample) -> None:
    _compare(s, order=1)


@law("derivatives", small=True, examples=2, reach=0.08)
def second_derivatives_are_those_of_finite_differences(s: Sample) -> None:
    _compare(s, order=2)


@law("derivatives")
def distance_has_zero_subgradient_at_coinciding_points(s: Sample) -> None:
    for function in (s.manifold.dist, s.manifold.sqdist):
        x, y = s.x.clone().requires_grad_(), s.x.clone().requires_grad_()
        for grad in torch.autograd.grad(function(x, y).sum(), (x, y)):
            assert bool((grad == 0).all())
    origin = s.manifold.origin(*s.x.shape, dtype=s.x.dtype).requires_grad_()
    assert bool((torch.autograd.grad(s.manifold.dist0(origin).sum(), origin)[0] == 0).all())


@law("derivatives")
def no_gradient_is_dead(s: Sample) -> None:
    """Where the distance is not zero, or a vector can turn, something must move with the points."""
    m = s.manifold
    for function in (m.dist, m.sqdist, lambda x, y: m.inner(x, m.logmap(x, y)), lambda x, y: m.dist0(x)):
        x = s.x.clone().requires_grad_()
        value = function(x, s.y)
        (grad,) = torch.autograd.grad(value.sum(), x)
        resolved = value.detach().double() > s.length**2 * 1e-30
        assert bool(((grad != 0).any(-1) | ~resolved).all())
    y = s.x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(m.logmap0(y).sum(), y)
    assert bool((grad != 0).any(-1).all())


@law("derivatives", needs=("lambda_x",))
def logarithm_moves_with_its_end(s: Sample) -> None:
    """The differential of ``y -> log_x y`` at ``y = x`` is the identity, and minus that in ``x``."""
    for sign, index in ((1.0, 1), (-1.0, 0)):
        ends = [s.x.clone(), s.x.clone()]
        ends[index].requires_grad_()
        (grad,) = torch.autograd.grad((s.manifold.logmap(*ends) * s.v).sum(), ends[index])
        assert_zero((grad - sign * s.v).double().norm(dim=-1), s.relative(s.x) * s.v.double().norm(dim=-1) + s.tiny)


@law("derivatives", needs=("lambda_x",))
def a_short_step_moves_with_its_velocity(s: Sample) -> None:
    """The differential of ``v -> exp_x v`` at ``v = 0`` is the identity."""
    v = torch.zeros_like(s.x).requires_grad_()
    (grad,) = torch.autograd.grad((s.manifold.expmap(s.x, v) * s.v).sum(), v)
    assert_zero((grad - s.v).double().norm(dim=-1), s.relative(s.x) * s.v.double().norm(dim=-1) + s.tiny)


def _in_float32(s: Sample) -> list[Tensor]:
    """``x`` and ``y`` rounded to float32, as single vectors."""
    return [p[0].float() for p in (s.x, s.y)]


@law("derivatives", small=True, examples=3, reach=0.4, when=ORACLE)
def float32_gradients_are_those_of_eighty_digits(s: Sample) -> None:
    """Relative to the length of the gradient; of a vector, to the size of its Jacobian, whose rows may be short."""
    from manifolds import oracle

    m, c, points = s.manifold, oracle.mpf(float(s.manifold.curvature.detach())), _in_float32(s)
    truths = [oracle.vector(p) for p in points]

    def square(p: oracle.Vector, q: oracle.Vector) -> oracle.Number:
        return oracle.dist(p, q, c) ** 2

    def component(i: int) -> Callable[..., oracle.Number]:
        return lambda p, q: oracle.logmap(p, q, c)[i]

    rows = [component(i) for i in range(points[0].shape[-1])]
    for function, truth in ((m.dist, [lambda p, q: oracle.dist(p, q, c)]), (m.sqdist, [square]), (m.logmap, rows)):
        for index, slope in enumerate(torch.autograd.functional.jacobian(function, tuple(points))):
            wanted = [entry for row in truth for entry in oracle.gradient(row, truths, index)]
            error = oracle.relative(slope, wanted)
            assert error <= DIGITS, f"the gradient in argument {index} is off by {error:.3g}"


@law(
    "derivatives",
    small=True,
    examples=3,
    reach=0.4,
    when=installed("mpmath", lambda m: is_ball(m) and learns_curvature(m)),
)
def derivative_in_the_curvature_is_that_of_eighty_digits(s: Sample) -> None:
    import mpmath

    from manifolds import oracle

    x, y = _in_float32(s)
    p, q = oracle.vector(x), oracle.vector(y)
    curvature = s.manifold.curvature
    slope = torch.autograd.grad(s.manifold.dist(x, y), parameter := next(s.manifold.parameters()))[0]
    got = slope / torch.autograd.grad(curvature, parameter)[0]
    wanted = mpmath.diff(lambda k: oracle.dist(p, q, k), oracle.mpf(float(curvature.detach())))
    assert abs(float(got) / float(wanted) - 1.0) <= DIGITS


@law("derivatives", small=True, examples=3, reach=0.2)
def riemannian_hessian_of_half_the_squared_distance_at_its_zero_is_the_identity(s: Sample) -> None:
    """``⟨grad of f(exp_x tv), v⟩`` grows as ``t|v|²`` from ``f = d(x, ·)²/2``, by a Hessian product at ``t = 0``."""
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = (s.manifold.sqdist(s.x, s.manifold.expmap(s.x, t * s.u)) / 2.0)[0]
    (slope,) = torch.autograd.grad(value, t, create_graph=True)
    (bend,) = torch.autograd.grad(slope, t)
    assert_values(bend, s.manifold.norm(s.x, s.u)[0].square(), s.vectors(s.x)[0])
