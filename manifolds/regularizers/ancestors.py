"""The straight-through choice of two ancestors by each triplet, with its derivative in closed form.

Automatic differentiation of the one-hot choices would pass over all (triplet, candidate) pairs some forty times; here
the values at the chosen candidates are gathered, and the gradient takes one softmax a choice.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function

BLOCK = 4096
"""Triplets at a time, so that what is computed of them stays in a cache."""


def _blocks(count: int, problem: int) -> list[int]:
    """Lengths of blocks of about `BLOCK` that end where problems end, so that each is summed as it would be alone."""
    if problem <= BLOCK:
        whole = max(1, BLOCK // max(1, problem)) * problem
        return [min(whole, count - start) for start in range(0, count, max(1, whole))]
    starts = range(0, problem, BLOCK)
    return [min(BLOCK, problem - start) for start in starts] * (count // problem)


Indices = Int[Tensor, " t"]
Pairs = Float[Tensor, "t p"]


def chosen_gaps(
    closeness: Float[Tensor, "n p"], i: Indices, j: Indices, k: Indices, noise: Pairs, triple_noise: Pairs
) -> tuple[Float[Tensor, "3 t"], Int[Tensor, "t 2"]]:
    """How much closer i, j and k are to the ancestor of all three than to the ancestor of i and j.

    The ancestor of a set maximises the closeness of its farthest node plus noise. Forward the choice is hard; backward
    it is the softmax of what was maximised (straight-through Gumbel-softmax, Jang et al. 2017, arXiv 1611.01144).

    Args:
        closeness: (N, P), minus distance over temperature, node to candidate.
        i: int64 (T,), the first node of each triplet.
        j: the second.
        k: the third.
        noise: (T, P) Gumbel noise of the ancestors of i and j.
        triple_noise: (T, P), of the ancestors of all three.

    Returns:
        (3, T) gaps for i, j and k, differentiable in `closeness` any number of times; (T, 2) candidates chosen for the
        pair and for all three.

    Example:
        >>> i, j, k = torch.arange(3)[:, None]
        >>> closeness, quiet = torch.tensor([[0.0, -1.0], [0.0, -1.0], [-3.0, -1.0]]), torch.zeros(1, 2)
        >>> gaps, chosen = chosen_gaps(closeness, i, j, k, quiet, quiet)
        >>> gaps[:, 0].tolist(), chosen.tolist()
        ([-1.0, -1.0, 2.0], [[0, 1]])
    """
    # the compiler refuses functions with a pushforward or a rule of their own for vmap
    kind = _Reverse if torch.compiler.is_compiling() else _ChosenGaps
    return kind.apply(closeness, i, j, k, noise, triple_noise, len(i))  # pyright: ignore[reportReturnType]


def _reaches(closeness: Tensor, *nodes: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Closeness of i, j, k to each candidate, of the farther of i and j, and of the farthest of the three."""
    # index_select: the gradient of plain indexing is summed in an order that changes from run to run with threads
    rows = [closeness.index_select(0, index) for index in nodes]
    pair = torch.minimum(rows[0], rows[1])
    return rows, pair, torch.minimum(pair, rows[2])


def _gap(values: Tensor, chosen: Tensor) -> Tensor:
    first, second = values.gather(1, chosen).unbind(1)
    return second - first


def _share(first: Tensor, second: Tensor) -> Tensor:
    """Derivative of ``minimum(first, second)`` in ``first``: 1, 0, or a half where they are equal."""
    return 0.5 - 0.5 * torch.sign(first - second).detach()


def _softened(soft: Tensor, tangent: Tensor) -> Tensor:
    """The (symmetric) derivative of a softmax applied to a tangent or to a gradient."""
    weighted = soft * tangent
    return torch.addcmul(weighted, soft, weighted.sum(1, keepdim=True), value=-1)


def _gradient(closeness: Tensor, inputs: list[Tensor], chosen: Tensor, grads: Tensor) -> Tensor:
    """Gradient in `closeness` of triplets whose gaps have the gradients (3, T), made of differentiable operations."""
    i, j, k, noise, triple_noise = inputs
    rows, pair, triple = _reaches(closeness, i, j, k)
    columns = grads.unsqueeze(-1).unbind(0)
    total = torch.addcmul(torch.addcmul(columns[0] * rows[0], columns[1], rows[1]), columns[2], rows[2])
    soft_pair, soft_triple = torch.softmax(pair + noise, 1), torch.softmax(triple + triple_noise, 1)
    to_triple = _softened(soft_triple, total)
    from_triple = to_triple * _share(pair, rows[2])
    to_pair = from_triple - _softened(soft_pair, total)
    to_first = to_pair * _share(rows[0], rows[1])
    grad = torch.zeros_like(closeness)
    parts = [to_first, to_pair - to_first, to_triple - from_triple]
    if torch.is_grad_enabled():  # the choices are straight through in the next derivative as well
        turn = soft_triple - soft_pair
        parts = [part + column * (turn - turn.detach()) for part, column in zip(parts, columns, strict=True)]
    for index, column, part in zip((i, j, k), columns, parts, strict=True):
        grad = grad.index_add(0, index, part.scatter_add(1, chosen, torch.cat([-column, column], 1)))
    return grad


@torch.library.custom_op("manifolds::chosen_gaps", mutates_args=())
def _forward(
    closeness: Tensor, i: Tensor, j: Tensor, k: Tensor, noise: Tensor, triple_noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Gaps and choices, a block of triplets at a time."""
    gaps, choices = [], []
    for inputs in zip(*(x.split(BLOCK) for x in (i, j, k, noise, triple_noise)), strict=True):
        rows, pair, triple = _reaches(closeness, *inputs[:3])
        chosen = torch.stack([pair.add_(inputs[3]).max(1).indices, triple.add_(inputs[4]).max(1).indices], dim=1)
        gaps.append(torch.stack([_gap(values, chosen) for values in rows]))
        choices.append(chosen)
    return torch.cat(gaps, 1), torch.cat(choices)


@_forward.register_fake
def _(closeness: Tensor, i: Tensor, j: Tensor, k: Tensor, noise: Tensor, triple_noise: Tensor) -> tuple[Tensor, Tensor]:
    return closeness.new_empty(3, len(i)), i.new_empty(len(i), 2)


@torch.library.custom_op("manifolds::chosen_gaps_gradient", mutates_args=())
def _backward(closeness: Tensor, inputs: list[Tensor], chosen: Tensor, grads: Tensor, problem: int) -> Tensor:
    """`_gradient`, a block of triplets at a time."""
    sizes = _blocks(len(chosen), problem)
    blocks = zip(
        zip(*(x.split(sizes) for x in inputs), strict=True), chosen.split(sizes), grads.split(sizes, 1), strict=True
    )
    total = torch.zeros_like(closeness)
    for part, picked, columns in blocks:
        total += _gradient(closeness, list(part), picked, columns)
    return total


@_backward.register_fake
def _(closeness: Tensor, inputs: list[Tensor], chosen: Tensor, grads: Tensor, problem: int) -> Tensor:
    return torch.empty_like(closeness)


class _Reverse(Function):
    """Gaps and choices with their gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        closeness: Tensor, i: Tensor, j: Tensor, k: Tensor, noise: Tensor, triple_noise: Tensor, problem: int
    ) -> Any:
        return _forward(closeness, i, j, k, noise, triple_noise)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.problem = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*tensors, output[1])
        ctx.save_for_forward(*tensors, output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        closeness, *inputs, chosen = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradient = _gradient(closeness, inputs, chosen, grads[0])
        else:
            gradient = _backward(closeness, inputs, chosen, grads[0], ctx.problem)
        return gradient, None, None, None, None, None, None


class _ChosenGaps(_Reverse):
    """The same with a derivative forward; a batch of problems is one problem with more nodes and more triplets."""

    generate_vmap_rule = False

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        closeness, i, j, k, noise, triple_noise, chosen = ctx.saved_tensors
        rows, pair, triple = _reaches(closeness, i, j, k)
        moves = [tangents[0].index_select(0, index) for index in (i, j, k)]
        of_pair = torch.lerp(moves[1], moves[0], _share(rows[0], rows[1]))
        of_triple = torch.lerp(moves[2], of_pair, _share(pair, rows[2]))
        turn = _softened(torch.softmax(triple + triple_noise, 1), of_triple)
        turn = turn - _softened(torch.softmax(pair + noise, 1), of_pair)
        parts = [_gap(move, chosen) + (values * turn).sum(1) for move, values in zip(moves, rows, strict=True)]
        return torch.stack(parts), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        b = info.batch_size
        *tensors, problem = arguments
        closeness, i, j, k, *noises = (
            x.expand(b, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(tensors, in_dims[:-1], strict=True)
        )
        first = closeness.shape[1] * torch.arange(b, device=closeness.device)[:, None]
        nodes = [(index + first).flatten() for index in (i, j, k)]
        flat = (closeness.flatten(0, 1), *nodes, *(x.flatten(0, 1) for x in noises))
        gaps, chosen = _ChosenGaps.apply(*flat, problem)
        return (gaps.unflatten(1, (b, -1)), chosen.unflatten(0, (b, -1))), (1, 0)
