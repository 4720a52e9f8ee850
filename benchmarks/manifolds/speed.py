"""Time and memory, every library in the same run, rounds interleaved so that a busy machine hits all alike."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.manifolds.peers import Peer


class LiveMemory(TorchDispatchMode):
    """Peak bytes of tensor storages alive at once, counted as they come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        import weakref

        result = func(*args, **(kwargs or {}))
        for t in result if isinstance(result, tuple | list) else (result,):
            if isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in self.alive:
                storage = t.untyped_storage()
                key = storage.data_ptr()
                self.alive[key] = storage.nbytes()
                weakref.finalize(t, self.alive.pop, key, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


def points(*shape: int, seed: int, device: torch.device) -> Tensor:
    """Random points with norms up to 0.9."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator)
    return (x / x.norm(dim=-1, keepdim=True) * 0.9 * torch.rand(*shape[:-1], 1, generator=generator)).to(device)


def _timed(work: Callable[[], Any], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def _job(operation: Callable[..., Tensor], leaves: list[Tensor], backward: bool) -> Callable[[], Any]:
    def forward() -> None:
        with torch.no_grad():
            operation(*leaves)

    def both() -> None:
        torch.autograd.grad(operation(*leaves).sum(), leaves)

    return both if backward else forward


def race(
    peers: list[Peer], name: str, leaves: list[Tensor], rounds: int, backward: bool, slow_rounds: int | None = None
) -> dict[str, float | None]:
    """Median milliseconds of each library; ``slow_rounds`` for all but the first."""
    jobs = {p.name: _job(p.operations[name], leaves, backward) for p in peers if name in p.operations}
    times: dict[str, list[float]] = {n: [] for n in jobs}
    for i in range(rounds + 2):
        for k, (n, job) in enumerate(jobs.items()):
            if k and slow_rounds is not None and i >= slow_rounds + 1:
                continue
            elapsed = _timed(job, leaves[0].device)
            if i >= (1 if k and slow_rounds is not None else 2):
                times[n].append(elapsed)
    return {p.name: statistics.median(times[p.name]) if p.name in times else None for p in peers}


def memory(peers: list[Peer], name: str, leaves: list[Tensor]) -> dict[str, float | None]:
    """Peak MiB of tensors alive during forward and backward, beyond the inputs."""
    result: dict[str, float | None] = {}
    for peer in peers:
        result[peer.name] = None
        if name in peer.operations:
            with LiveMemory() as live:
                torch.autograd.grad(peer.operations[name](*leaves).sum(), leaves)
            result[peer.name] = live.peak / 2**20
    return result


def measure(peers: list[Peer], device: torch.device, rounds: int) -> list[dict[str, Any]]:
    """All rows: milliseconds, and for the distance matrix memory too."""
    peers = [p for p in peers if device.type == "cpu" or p.name != "geoopt math"]
    x, y = (points(4096, 512, seed=s, device=device).requires_grad_() for s in (0, 1))
    rows = []
    for name, leaves in (("dist", [x, y]), ("expmap0", [x]), ("mobius_add", [x, y])):
        for backward in (False, True):
            label = "forward and backward" if backward else "forward"
            values = race(peers, name, leaves, rounds, backward)
            rows.append({"quantity": f"{name} (4096, 512)", "condition": label, "unit": "ms", "values": values})
    x, y = (
        points(256, 512, seed=2, device=device).requires_grad_(),
        points(1000, 512, seed=3, device=device).requires_grad_(),
    )
    for backward in (False, True):
        label = "forward and backward" if backward else "forward"
        values = race(peers, "pairwise", [x, y], rounds, backward, slow_rounds=1)
        rows.append(
            {"quantity": "pairwise (256, 512) x (1000, 512)", "condition": label, "unit": "ms", "values": values}
        )
    values = memory(peers, "pairwise", [x, y])
    rows.append(
        {"quantity": "pairwise, tensors alive", "condition": "forward and backward", "unit": "MiB", "values": values}
    )
    return rows
