"""Worst relative errors against 80 digits, row by row of the table of promises."""

import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import torch
from torch import Tensor

from benchmarks.manifolds.peers import Peer
from manifolds import oracle, poincare

COUNT, DIM = 24, 512
ONE = mp.mpf(1)


def _directions(seed: int, count: int = COUNT, dim: int = DIM) -> Tensor:
    x = torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=-1, keepdim=True)


def _worst(got: Tensor, truths: list[Any]) -> float:
    if not bool(torch.isfinite(got).all()):
        return math.inf
    return max(oracle.relative(g, t) for g, t in zip(got.detach(), truths, strict=True))


def _truths(formula: Callable[..., Any], *arguments: Tensor) -> list[Any]:
    rows = zip(*([oracle.vector(r) for r in a] for a in arguments), strict=True)
    return [formula(*row, ONE) for row in rows]


def _judge(peers: list[Peer], name: str, arguments: tuple[Tensor, ...], truths: list[Any]) -> dict[str, float | None]:
    return {p.name: _worst(p.operations[name](*arguments), truths) if name in p.operations else None for p in peers}


def norms_and_near_pairs(peers: list[Peer]) -> list[dict[str, Any]]:
    """Distance, logarithm and transport of independent and of near pairs, float32."""
    rows = []
    for norm, label in ((0.9, "0.9"), (0.996, "0.996"), (0.999, "0.999"), (1 - 1e-5, "1-1e-5")):
        x, y = ((_directions(s) * norm).float() for s in (0, 1))
        rows.append(_row("dist", f"norm {label}", 2e-7, _judge(peers, "dist", (x, y), _truths(oracle.dist, x, y))))
    x, y = ((_directions(s) * 0.996).float() for s in (0, 1))
    v = (_directions(2) * 0.3 * (1 - 0.996**2)).float()
    rows.append(_row("logmap", "norm 0.996", 5e-7, _judge(peers, "logmap", (x, y), _truths(oracle.logmap, x, y))))
    rows.append(_row("transp", "norm 0.996", 5e-7, _judge(peers, "transp", (x, y, v), _truths(oracle.transp, x, y, v))))
    step = _directions(3) * 1e-3 * (1 - x.double().square().sum(-1, keepdim=True)) / 2
    near = poincare.expmap(x.double(), step).float()
    rows.append(
        _row("dist", "1e-3 apart at norm 0.996", 2e-7, _judge(peers, "dist", (x, near), _truths(oracle.dist, x, near)))
    )
    for gap, label in ((1e-5, "1-1e-5"), (1e-9, "1-1e-9")):
        x, y = (_directions(s) * (1 - gap) for s in (0, 1))
        errors = _judge(peers, "dist", (x, y), _truths(oracle.dist, x, y))
        rows.append(_row("dist", f"float64, norm {label}", None, errors))
    return rows


def polar_rows(peers: list[Peer]) -> list[dict[str, Any]]:
    """Distance between exponentials of tangent vectors at radius 60, value and gradient."""
    u, v = ((_directions(s, 6, 16) * 30.0).float() for s in (4, 5))

    def truth(a: Any, b: Any, _: Any) -> Any:
        with mp.workdps(200):
            s, t = oracle.length(a), oracle.length(b)
            cosine = oracle.dot(a, b) / (s * t)
            return mp.acosh(mp.cosh(2 * s) * mp.cosh(2 * t) - mp.sinh(2 * s) * mp.sinh(2 * t) * cosine)

    def slope(a: Any, b: Any, c: Any) -> Any:
        with mp.workdps(200):
            return oracle.gradient(lambda p, q: truth(p, q, c), (a, b), 0)

    values, slopes = _truths(truth, u, v), _truths(slope, u, v)
    value_errors, slope_errors = {}, {}
    for peer in peers:
        if "polar" not in peer.operations:
            value_errors[peer.name] = slope_errors[peer.name] = None
            continue
        leaf = u.clone().requires_grad_()
        distance = peer.operations["polar"](leaf, v)
        value_errors[peer.name] = _worst(distance, values)
        slope_errors[peer.name] = _worst(torch.autograd.grad(distance.sum(), leaf)[0], slopes)
    return [
        _row("distance from tangents", "radius 60", 3e-7, value_errors),
        _row("its gradient", "radius 60", 3e-7, slope_errors),
    ]


def pairwise_rows(peers: list[Peer]) -> list[dict[str, Any]]:
    """Worst entry of a matrix with near pairs and a cluster, against float64 of the same points."""
    x = _directions(6, 64) * 0.996
    x[32:48] *= 0.9 / 0.996
    x[48:] = x[48] * 0.9 / 0.996 + 1e-4 * _directions(7, 16)
    x = x.float()
    y = torch.cat([x[:48] + 1e-4 * _directions(8, 48).float() * (1 - x[:48].norm(dim=-1, keepdim=True)), x[48:]])
    exact = poincare.dist(x.double()[:, None], y.double())
    errors: dict[str, float | None] = {}
    for peer in peers:
        errors[peer.name] = None
        if "pairwise" in peer.operations:
            error = (peer.operations["pairwise"](x, y).double() - exact).abs() / exact.clamp(min=1e-30)
            errors[peer.name] = (
                float(error[exact > 0].max()) if bool(torch.isfinite(error[exact > 0]).all()) else math.inf
            )
    return [_row("pairwise", "near pairs and a cluster", 2e-6, errors)]


def half_precision_rows(peers: list[Peer]) -> list[dict[str, Any]]:
    """``dist(exp0 u, -exp0 u)`` for a bfloat16 ``u`` at radius 4; points projected in bfloat16 that are not inside."""
    u = (_directions(9, 1, 64)[0] * 2.0).bfloat16()
    truth = 4.0 * float(u.double().norm())
    opposite, outside = {}, {}
    far = torch.randn(500, 64, generator=torch.Generator().manual_seed(10)).bfloat16()
    for peer in peers:
        opposite[peer.name] = outside[peer.name] = None
        if "expmap0" in peer.operations:
            x = peer.operations["expmap0"](u)
            opposite[peer.name] = abs(float(peer.operations["dist"](x, -x)) / truth - 1.0)
        if "projx" in peer.operations:
            stored = peer.operations["projx"](far).to(torch.bfloat16)
            outside[peer.name] = float((stored.double().norm(dim=-1) >= 1.0).double().mean())
    return [
        _row("opposite points", "bfloat16, radius 4", 1e-2, opposite),
        _row("projected points not inside", "bfloat16, share", 0.0, outside),
    ]


def special_gradients(peers: list[Peer]) -> list[dict[str, Any]]:
    """Length of the gradient of the distance at special points; the right values are in the condition."""
    cases = [
        ("x = y (0)", torch.tensor([0.3, 0.4]), torch.tensor([0.3, 0.4])),
        ("one rounding inside (1.68e7)", torch.tensor([1 - 2.0**-24, 0.0]), torch.tensor([0.5, 0.0])),
        ("on the boundary (finite)", torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.0])),
    ]
    rows = []
    for label, x, y in cases:
        values = {}
        for peer in peers:
            leaf = x.clone().requires_grad_()
            values[peer.name] = float(torch.autograd.grad(peer.operations["dist"](leaf, y), leaf)[0].norm())
        rows.append(_row("gradient of dist", label, None, values))
    values = {}
    for peer in peers:
        leaf = torch.zeros(2, requires_grad=True)
        values[peer.name] = float(torch.autograd.grad(peer.operations["logmap0"](leaf)[0], leaf)[0].norm())
    rows.append(_row("gradient of logmap0", "at 0 (1)", None, values))
    return rows


def _row(quantity: str, condition: str, target: float | None, values: dict[str, float | None]) -> dict[str, Any]:
    return {"quantity": quantity, "condition": condition, "target": target, "values": values}


def measure(peers: list[Peer]) -> list[dict[str, Any]]:
    """All rows."""
    parts = (norms_and_near_pairs, polar_rows, pairwise_rows, half_precision_rows, special_gradients)
    return [row for part in parts for row in part(peers)]
