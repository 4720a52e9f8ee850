"""Which pairs count, and means over them, with shapes that do not depend on values."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Relation = Bool[Tensor, "p c"]


def masked_mean(values: Float[Tensor, "*shape"], counted: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Mean of the values that count; zero, with a graph, where none does.

    Example:
        >>> masked_mean(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([True, False, True]))
        tensor(3.5000)
    """
    return torch.where(counted, values, 0.0).sum() / counted.sum().clamp(min=1)


def fraction(holds: Bool[Tensor, "*shape"], counted: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Share of what counts for which something holds; zero where nothing counts.

    Example:
        >>> fraction(torch.tensor([True, True, False]), torch.tensor([True, False, True]))
        tensor(0.5000)
    """
    return (holds & counted).sum() / counted.sum().clamp(min=1)


def least(cost: Float[Tensor, "n m"], pool: Bool[Tensor, "n m"]) -> Int[Tensor, " n"]:
    """The member of least cost of each row's pool, so a uniform draw where costs are; anything where it is empty.

    Example:
        >>> least(torch.tensor([[0.1, 0.2, 0.3]]), torch.tensor([[False, True, True]]))
        tensor([1])
    """
    if pool.shape[1] == 0:
        return torch.zeros(pool.shape[0], dtype=torch.int64, device=pool.device)
    return torch.where(pool, cost, torch.inf).argmin(1)


def related_pairs(parents: Float[Tensor, "p d"], children: Float[Tensor, "c d"], relation: Relation | None) -> Tensor:
    """The mask of related pairs: ``relation`` itself, or one True a row where parents and children are aligned.

    Args:
        parents: (P, D).
        children: (C, D).
        relation: bool (P, C), or None for aligned pairs, which need P = C.

    Raises:
        TypeError: the relation is not boolean.
        ValueError: it has another shape, or there is none and P differs from C.
    """
    p, c = parents.shape[0], children.shape[0]
    if relation is None:
        if p != c:
            raise ValueError(
                f"aligned pairs need as many parents as children, got {p} and {c}; "
                f"pass relation as a boolean matrix of shape ({p}, {c})"
            )
        return torch.ones(p, dtype=torch.bool, device=parents.device)
    if relation.dtype != torch.bool:
        raise TypeError(f"relation needs to be boolean, got {relation.dtype}; pass relation > 0")
    if tuple(relation.shape) != (p, c):
        raise ValueError(f"relation needs shape ({p}, {c}) for {p} parents and {c} children, got {(*relation.shape,)}")
    return relation
