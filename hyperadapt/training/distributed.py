"""Several processes on one run: the batch is split, its features are gathered, weights stay equal everywhere."""

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.nn.parallel import DistributedDataParallel

from hyperadapt.errors import InputError
from hyperadapt.heads.image_norm import ImageNorm

# 2026-11: torch 2.15 renamed the argument and warns of the old name
_RENAMED = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
NO_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _RENAMED else "broadcast_buffers": False}


class _Total(Function):
    """Sum over processes; the gradient is summed likewise, as each process holds a part of the loss."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


@dataclass(frozen=True)
class World:
    """The processes of a run; `ALONE` is the usual one.

    Attributes:
        rank: number of this process; 0 writes files.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    def share(self, count: int) -> slice:
        """The part of `count` rows that this process computes.

        Raises:
            InputError: when there are fewer rows than processes.

        Example:
            >>> World(0, 2).share(5), World(1, 2).share(5)
            (slice(0, 3, None), slice(3, 5, None))
        """
        if count < self.size:
            raise InputError(
                f"{self.size} processes need at least as many images a step, got {count}; start fewer processes or "
                "lower training.accumulate"
            )
        each, more = divmod(count, self.size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def gathered(self, own: Float[Tensor, "b d"], count: int) -> Float[Tensor, "n d"]:
        """The rows of all processes in order, with gradients to the process that each row came from."""
        if self.size == 1:
            return own
        place = self.share(count)
        return self.total(nn.functional.pad(own, (0, 0, place.start, count - place.stop)))

    def total(self, own: Tensor) -> Tensor:
        """Sum over processes, with gradients."""
        return own if self.size == 1 else _Total.apply(own)  # pyright: ignore[reportReturnType]

    @torch.no_grad()
    def mean(self, own: Tensor) -> Tensor:
        """Mean over processes, without gradients."""
        return own if self.size == 1 else _Total.apply(own) / self.size  # pyright: ignore[reportOperatorIssue, reportReturnType]

    def ask_first(self, read: Callable[[], bytes | None]) -> bytes | None:
        """What the first process finds, in every process; an input error of it is one of all.

        Args:
            read: called in the first process alone.
        """
        if self.size == 1:
            return read()
        found = b""
        if self.rank == 0:
            try:
                value = read()
                found = b"none" if value is None else b"data" + value
            except InputError as error:
                found = b"fail" + str(error).encode()
        device = torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else "cpu"
        length = torch.tensor([len(found)], device=device)
        distributed.broadcast(length, src=0)
        held = torch.frombuffer(bytearray(found or int(length)), dtype=torch.uint8).to(device)
        distributed.broadcast(held, src=0)
        answer = held.cpu().numpy().tobytes()
        if answer[:4] == b"fail":
            raise InputError(answer[4:].decode())
        return answer[4:] if answer[:4] == b"data" else None

    @contextmanager
    def shared_norms(self, model: nn.Module) -> Iterator[None]:
        """Image normalisation over the whole batch, for as long as a run lasts."""
        norms = [module for module in model.modules() if isinstance(module, ImageNorm)] if self.size > 1 else []
        try:
            for norm in norms:
                norm.total = self.total
            yield
        finally:
            for norm in norms:
                norm.total = None


ALONE = World()


def in_parallel(losses: nn.Module, idle: bool) -> DistributedDataParallel:
    """The module whose gradients are averaged over processes.

    Args:
        losses: returns a dictionary of loss terms.
        idle: whether some of its parameters are reached by no term.
    """
    device = next(p.device for p in losses.parameters())
    return DistributedDataParallel(
        losses,
        device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=idle,
        **NO_BUFFERS,
    )


@contextmanager
def process_group(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """The processes that `torchrun` started, or this one alone; gloo on the CPU, nccl on CUDA.

    Args:
        device: as asked for; on CUDA each process of a machine takes its own.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(distributed.get_rank(), size), device
    finally:
        distributed.destroy_process_group()
