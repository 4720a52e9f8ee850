# ruff: noqa: D103 - the name of a law is its statement
"""Laws of projection and accuracy: what can be stored, and that no digit is lost on the way."""

from typing import Any

import torch

from manifolds.testing.laws import assert_values, assert_zero, is_ball, law
from manifolds.testing.operations import calls
from manifolds.testing.samples import Sample

HALVES = (torch.bfloat16, torch.float16)
# Values come from float64 scalars: one rounding of the result, and of the sum where a vector is returned.
VALUE_ROUNDINGS, VECTOR_ROUNDINGS = 2.0, 8.0


@law("projection")
def projection_is_the_identity_inside(s: Sample) -> None:
    assert torch.equal(s.manifold.projx(s.x), s.x)


@law("projection")
def projection_is_idempotent_and_lands_on_the_manifold(s: Sample) -> None:
    for dtype in (torch.float64, torch.float32, *HALVES):
        for blow in (1.0, 1.5, 1e3):
            top = torch.finfo(dtype).max ** 0.75  # so that the length can be stored as well
            far = (s.x.double() * blow).clamp(-top, top).to(dtype)
            once = s.manifold.projx(far)
            assert once.dtype == dtype
            assert torch.equal(s.manifold.projx(once), once)
            assert s.manifold.check_point(once) is None, s.manifold.check_point(once)


@law("projection", when=is_ball)
def projection_lands_strictly_inside_in_the_same_direction(s: Sample) -> None:
    for dtype in (torch.float64, torch.float32, *HALVES):
        far = (s.x.double() * 1.5 + s.length * s.noise(*s.x.shape).double()).to(dtype)
        kept = s.manifold.projx(far).double()
        assert bool((s.root_c * kept.norm(dim=-1) < 1).all())
        way, kept_way = (p / p.norm(dim=-1, keepdim=True).clamp(min=1e-300) for p in (far.double(), kept))
        assert_zero((way - kept_way).norm(dim=-1), 2 * torch.finfo(dtype).eps)


@law("projection", needs=("with_curvature",))
def projection_commutes_with_scaling_bit_for_bit(s: Sample) -> None:
    far = s.x * 1.5 + s.length * s.noise(*s.x.shape)
    twin: Any = s.manifold.with_curvature(s.manifold.curvature.detach() / 16.0)  # pyright: ignore[reportCallIssue]
    assert torch.equal(twin.projx(far * 4.0), s.manifold.projx(far) * 4.0)


@law("projection", reach=0.9)
def results_can_be_stored(s: Sample) -> None:
    m = s.manifold
    for point in (m.expmap(s.x, s.u * 3.0), m.expmap(s.x, m.logmap(s.x, s.y) * 5.0), m.expmap0(m.logmap0(s.x) * 9.0)):
        assert torch.equal(m.projx(point), point)
        assert bool(torch.isfinite(m.dist(point, s.y)).all())


@law("projection", reach=0.4)
def projection_to_the_tangent_space_is_idempotent(s: Sample) -> None:
    """On the hyperboloid ``⟨x, v⟩`` is a difference of numbers ``cosh²`` times as large as ``v`` and its rounding."""
    m = s.manifold
    loss = s.vectors(s.x) * (1.0 if s.conformal else s.stretch(s.x))
    for v in (s.u, m.proju(s.x, s.noise(*s.x.shape))):
        assert_zero(m.norm(s.x, m.proju(s.x, v) - v), loss * m.norm(s.x, v).double() + s.tiny)


@law("accuracy", reach=0.45)
def a_step_goes_as_far_as_it_says(s: Sample) -> None:
    m = s.manifold
    full = m.norm(s.x, s.u, keepdim=True).detach()
    way = torch.where(full > 0, s.u / torch.where(full > 0, full, 1.0), 0.0)
    for h in (1e-8, 1e-6, 1e-4, 1e-2, 1.0, float(full.amax()) / s.length if full.numel() else 1.0):
        v = way * (h * s.length)
        end = m.expmap(s.x, v)
        assert_values(m.dist(s.x, end), m.norm(s.x, v), s.vectors(s.x, end), s.spread(s.x, end))


@law("accuracy")
def float32_is_float64_of_the_same_numbers(s: Sample) -> None:
    """Values to two roundings, vectors to eight: nothing of the input is lost in between, at any radius.

    The products of an inner product may be rounded: its condition is that of the lengths.
    """
    x, y = s.x.float(), s.y.float()
    if s.manifold.check_point(x) or s.manifold.check_point(y) or s.x.dtype == torch.float64:
        return
    floor = torch.finfo(torch.float32).tiny
    for row, operation, arguments in calls(s):
        if row.result == "point" or row.name == "transp":
            continue
        got, wanted = operation(*arguments), operation(*(a.double() for a in arguments))
        if row.name == "inner":
            lengths = s.manifold.norm(s.x, s.u).double() * s.manifold.norm(s.x, s.v).double()
            assert_zero(got - wanted, VECTOR_ROUNDINGS * s.unit * lengths + floor, row.name)
        elif row.result == "value":
            assert_values(got, wanted, VALUE_ROUNDINGS * s.unit, floor, row.name)
        else:
            error, size = (got - wanted).double().norm(dim=-1), wanted.norm(dim=-1)
            assert_zero(error, VECTOR_ROUNDINGS * s.unit * size + floor * s.stretch(s.x, s.y), row.name)


@law("accuracy", reach=0.3)
def half_precision_is_lifted(s: Sample) -> None:
    for dtype in HALVES:
        for row, operation, arguments in calls(s):
            if row.name in ("projx", "proju"):
                continue
            rounded = [a.to(dtype) for a in arguments]
            rounded = [
                s.manifold.projx(a) if role in ("x", "y", "set") else a
                for role, a in zip(row.roles, rounded, strict=True)
            ]
            if not all(bool(torch.isfinite(a).all()) for a in rounded):
                continue
            got, wanted = operation(*rounded), operation(*(a.float() for a in rounded))
            assert got.dtype == torch.float32, f"{row.name} gives {got.dtype} for {dtype}"
            if row.result == "point":  # pulled in where it could not be stored in ``dtype``
                kept = s.manifold.dist0(wanted) < 0.75 * s.manifold.max_radius(dtype)
                got, wanted = got[kept], wanted[kept]
            assert torch.equal(got, wanted), f"{row.name} of {dtype} is not that of the same numbers in float32"
            assert bool(torch.isfinite(got).all()), f"{row.name} of {dtype} is not finite"
