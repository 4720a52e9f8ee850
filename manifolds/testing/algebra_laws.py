# ruff: noqa: D103 - the name of a law is its statement
"""Laws of Möbius addition, scalar multiplication and gyration, for manifolds that have them."""

from itertools import pairwise
from typing import Any

import torch

from manifolds.testing.laws import assert_points, assert_tangents, assert_values, assert_zero, law
from manifolds.testing.samples import Sample

GYRO = ("mobius_add", "gyration")


def _ops(s: Sample) -> Any:
    return s.manifold


@law("gyrogroup", needs=GYRO)
def zero_is_neutral(s: Sample) -> None:
    m, zero = _ops(s), torch.zeros_like(s.x)
    assert_points(s, m.mobius_add(zero, s.x), s.x)
    assert_points(s, m.mobius_add(s.x, zero), s.x)


@law("gyrogroup", needs=GYRO)
def minus_x_is_the_exact_inverse(s: Sample) -> None:
    m = _ops(s)
    assert bool((m.mobius_add(-s.x, s.x) == 0).all())
    assert bool((m.mobius_sub(s.x, s.x) == 0).all())


@law("gyrogroup", reach=0.3, needs=GYRO)
def left_cancellation(s: Sample) -> None:
    m = _ops(s)
    for p in (s.y, s.z):
        total = m.mobius_add(s.x, p)
        assert_points(s, m.mobius_add(-s.x, total), p, s.x, total)


@law("gyrogroup", reach=0.3, needs=GYRO)
def sum_associates_up_to_gyration(s: Sample) -> None:
    m = _ops(s)
    for y, z in ((s.y, s.z), (s.z, s.y)):
        inner, xy = m.mobius_add(y, z), m.mobius_add(s.x, y)
        assert_points(s, m.mobius_add(s.x, inner), m.mobius_add(xy, m.gyration(s.x, y, z)), xy, inner)


@law("gyrogroup", reach=0.3, needs=GYRO)
def sum_commutes_up_to_gyration(s: Sample) -> None:
    m = _ops(s)
    for p in (s.y, s.z):
        assert_points(s, m.mobius_add(s.x, p), m.gyration(s.x, p, m.mobius_add(p, s.x)), s.x, p)


@law("gyrogroup", reach=0.3, needs=GYRO)
def left_loop(s: Sample) -> None:
    m, zero = _ops(s), torch.zeros_like(s.x)
    for p in (s.y, s.z):
        total = m.mobius_add(s.x, p)
        got, wanted = m.gyration(total, p, s.u), m.gyration(s.x, p, s.u)
        turn = s.relative(s.x) + s.spread(s.x, p, total) * s.root_c
        assert_zero(m.norm(zero, got - wanted), 4 * turn * m.norm(zero, s.u).double() + s.tiny)


@law("gyrogroup", needs=GYRO)
def gyration_is_a_rotation(s: Sample) -> None:
    m, zero = _ops(s), torch.zeros_like(s.x)
    turned = m.gyration(s.x, s.y, s.u)
    assert_values(m.norm(zero, turned), m.norm(zero, s.u), s.relative(zero), s.tiny)
    size = (m.norm(zero, s.u) * m.norm(zero, s.v)).double()
    got, wanted = m.inner(zero, turned, m.gyration(s.x, s.y, s.v)), m.inner(zero, s.u, s.v)
    assert_values(got, wanted, 0.0, s.relative(zero) * size + s.tiny)
    assert_tangents(s, zero, m.gyration(s.y, s.x, turned), s.u)


@law("gyrogroup", needs=GYRO)
def gyration_is_linear(s: Sample) -> None:
    m, zero = _ops(s), torch.zeros_like(s.x)
    got = m.gyration(s.x, s.y, s.u + s.t * s.v)
    wanted = m.gyration(s.x, s.y, s.u) + s.t * m.gyration(s.x, s.y, s.v)
    floor = s.relative(zero) * (m.norm(zero, s.u) + m.norm(zero, s.v)).double() + s.tiny
    assert_zero(m.norm(zero, got - wanted), floor)


@law("gyrogroup", needs=GYRO)
def gyration_keeps_orientation(s: Sample) -> None:
    n = s.x.shape[-1]
    x, y, axes = s.x[..., None, :], s.y[..., None, :], torch.eye(n, dtype=s.x.dtype)
    matrix = _ops(s).gyration(x, y, axes.expand(*s.x.shape, n)).double()
    assert_values(torch.linalg.det(matrix), torch.ones_like(matrix[..., 0, 0]), n * s.relative(s.x, s.y))


@law("gyrogroup", needs=GYRO)
def minus_distributes(s: Sample) -> None:
    m = _ops(s)
    assert torch.equal(-m.mobius_add(s.x, s.y), m.mobius_add(-s.x, -s.y))


@law("gyrogroup", reach=0.3, needs=GYRO)
def transport_is_a_scaled_gyration(s: Sample) -> None:
    m = _ops(s)
    for p in (s.y, s.z):
        ratio = m.lambda_x(s.x, keepdim=True) / m.lambda_x(p, keepdim=True)
        assert_tangents(s, p, m.transp(s.x, p, s.u), m.gyration(p, -s.x, s.u) * ratio)


@law("scalar multiplication", reach=0.6, needs=("mobius_scalar_mul",))
def one_and_minus_one(s: Sample) -> None:
    m = _ops(s)
    assert_points(s, m.mobius_scalar_mul(1.0, s.x), s.x)
    assert_points(s, m.mobius_scalar_mul(-1.0, s.x), -s.x)
    assert bool((m.mobius_scalar_mul(0.0, s.x) == 0).all())


@law("scalar multiplication", reach=0.3, needs=("mobius_scalar_mul",))
def scalars_multiply_and_add(s: Sample) -> None:
    m, t = _ops(s), s.t
    twice = m.mobius_scalar_mul(2.0, s.x)
    assert_points(s, m.mobius_scalar_mul(2.0 * t, s.x), m.mobius_scalar_mul(t, twice), twice)
    parts = m.mobius_add(m.mobius_scalar_mul(t, s.x), m.mobius_scalar_mul(1.0 - t, s.x))
    assert_points(s, parts, s.x, m.mobius_scalar_mul(1.0 - t, s.x))


@law("scalar multiplication", reach=0.3, needs=("mobius_scalar_mul",))
def twice_and_three_times_are_repeated_sums(s: Sample) -> None:
    m = _ops(s)
    twice = m.mobius_add(s.x, s.x)
    assert_points(s, m.mobius_scalar_mul(2.0, s.x), twice)
    assert_points(s, m.mobius_scalar_mul(3.0, s.x), m.mobius_add(s.x, twice))


@law("scalar multiplication", reach=0.9, needs=("mobius_scalar_mul",))
def larger_multiples_lie_farther_out(s: Sample) -> None:
    sizes = [_ops(s).mobius_scalar_mul(r, s.x).double().norm(dim=-1) for r in (0.0, 0.1, 0.5, 0.9, 1.0, 1.5)]
    for near, far in pairwise(sizes):
        assert bool((near <= far * (1 + 8 * s.unit)).all())
    for r, size in zip((-0.1, -0.9), (sizes[1], sizes[3]), strict=True):
        assert torch.equal(_ops(s).mobius_scalar_mul(r, s.x).double().norm(dim=-1), size)


@law("scalar multiplication", reach=0.5, needs=("mobius_scalar_mul",))
def distance_from_the_origin_scales(s: Sample) -> None:
    m = _ops(s)
    got = m.dist0(m.mobius_scalar_mul(s.t, s.x))
    assert_values(got, abs(s.t) * m.dist0(s.x).double(), s.relative(s.x), s.spread(s.x))


@law("scalar multiplication", reach=0.5, needs=("mobius_matvec",))
def a_multiple_of_the_identity_is_a_scalar(s: Sample) -> None:
    m = _ops(s)
    eye = torch.eye(s.x.shape[-1], dtype=s.x.dtype)
    assert_points(s, m.mobius_matvec(s.t * eye, s.x), m.mobius_scalar_mul(s.t, s.x), s.x)


@law("scalar multiplication", reach=0.5, needs=("mobius_matvec",))
def matrices_compose(s: Sample) -> None:
    m, n = _ops(s), s.x.shape[-1]
    first, second = s.noise(2, n, n) / (2 * n)
    inner = m.mobius_matvec(first, s.x)
    assert_points(s, m.mobius_matvec(second, inner), m.mobius_matvec(second @ first, s.x), s.x, inner)
