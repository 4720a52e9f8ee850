"""The libraries side by side: one table of callables each, for curvature -1 in float32."""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version

import torch
from torch import Tensor

from manifolds import PoincareBall, polar


@dataclass(frozen=True)
class Peer:
    """A library's operations by name; what it does not have is left out."""

    name: str
    operations: dict[str, Callable[..., Tensor]] = field(default_factory=dict)


def ours() -> Peer:
    """This package."""
    ball = PoincareBall(1.0)
    return Peer(
        "manifolds",
        {
            "dist": ball.dist,
            "logmap": ball.logmap,
            "transp": ball.transp,
            "expmap0": ball.expmap0,
            "logmap0": ball.logmap0,
            "mobius_add": ball.mobius_add,
            "projx": ball.projx,
            "pairwise": ball.pairwise_dist,
            "polar": polar.dist,
        },
    )


def compiled() -> Peer:
    """This package through ``torch.compile``, for the operations whose speed is measured."""
    operations = ours().operations
    names = ("dist", "expmap0", "mobius_add", "pairwise")
    return Peer("compiled", {name: torch.compile(operations[name], fullgraph=True) for name in names})


def geoopt_ball() -> Peer:
    """Geoopt's PoincareBall, which projects its results."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import geoopt

        ball = geoopt.PoincareBall(c=1.0)
    return Peer(
        f"geoopt {version('geoopt')}",
        {
            "dist": ball.dist,
            "logmap": ball.logmap,
            "transp": ball.transp,
            "expmap0": ball.expmap0,
            "logmap0": ball.logmap0,
            "mobius_add": ball.mobius_add,
            "projx": ball.projx,
            "pairwise": lambda x, y: ball.dist(x[:, None], y),
            "polar": lambda u, v: ball.dist(ball.expmap0(u), ball.expmap0(v)),
        },
    )


def geoopt_functions() -> Peer:
    """Geoopt's functional layer, without projection."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from geoopt.manifolds.stereographic import math
    k = torch.tensor(-1.0)
    return Peer(
        "geoopt math",
        {
            "dist": lambda x, y: math.dist(x, y, k=k),
            "logmap": lambda x, y: math.logmap(x, y, k=k),
            "transp": lambda x, y, v: math.parallel_transport(x, y, v, k=k),
            "expmap0": lambda v: math.expmap0(v, k=k),
            "logmap0": lambda y: math.logmap0(y, k=k),
            "mobius_add": lambda x, y: math.mobius_add(x, y, k=k),
        },
    )


def hypll() -> Peer | None:
    """HypLL's functional layer, where it is installed."""
    if importlib.util.find_spec("hypll") is None:
        return None
    from hypll.manifolds.poincare_ball.math import diffgeom

    c = torch.tensor(1.0)
    return Peer(
        "HypLL",
        {
            "dist": lambda x, y: diffgeom.dist(x, y, c),
            "logmap": lambda x, y: diffgeom.logmap(x, y, c),
            "transp": lambda x, y, v: diffgeom.transp(x, y, v, c),
            "expmap0": lambda v: diffgeom.expmap0(v, c),
            "logmap0": lambda y: diffgeom.logmap0(y, c),
            "mobius_add": lambda x, y: diffgeom.mobius_add(x, y, c),
            "projx": lambda x: diffgeom.project(x, c),
            "pairwise": lambda x, y: diffgeom.cdist(x[None], y[None], c)[0],
            "polar": lambda u, v: diffgeom.dist(diffgeom.expmap0(u, c), diffgeom.expmap0(v, c), c),
        },
    )


def all_peers() -> list[Peer]:
    """Every library that can be imported, ours first."""
    found = [ours(), geoopt_ball(), geoopt_functions(), hypll()]
    return [peer for peer in found if peer is not None]
