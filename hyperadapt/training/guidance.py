"""Loss terms that only guide: the step follows the other terms, and never against them."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn


@final
class Guidance:
    """Gradients of a step in two parts: of the terms that are followed, and of those that guide them.

    With g and h the two gradients of a parameter, g becomes g - min(0, <g, h>) h / <h, h>: nothing of a step along -g
    raises the guiding terms to first order, parameter by parameter (ProGrad, arXiv 2205.14865).

    Args:
        parameters: what is trained.
        names: of the guiding terms.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], names: frozenset[str]) -> None:
        self.parameters, self.names = list(parameters), names
        self._guiding: list[Tensor | None] = [None] * len(self.parameters)

    def backward(self, terms: dict[str, Tensor]) -> None:
        """Add the gradients of the followed terms to the parameters and keep those of the guiding ones."""
        guiding = [term for name, term in terms.items() if name in self.names]
        followed = [term for name, term in terms.items() if name not in self.names]
        torch.stack(followed).sum().backward(retain_graph=bool(guiding))
        if not guiding:
            return
        found = torch.autograd.grad(torch.stack(guiding).sum(), self.parameters, allow_unused=True)
        self._guiding = [
            new if kept is None else kept if new is None else kept + new
            for kept, new in zip(self._guiding, found, strict=True)
        ]

    def constrain(self) -> None:
        """Take out of each parameter's gradient what opposes the guiding one, and forget that."""
        for parameter, guiding in zip(self.parameters, self._guiding, strict=True):
            if parameter.grad is not None and guiding is not None:
                norm = torch.linalg.vector_norm(guiding)
                direction = guiding / norm.clamp(min=torch.finfo(guiding.dtype).tiny)
                parameter.grad.sub_((parameter.grad * direction).sum().clamp(max=0) * direction)
        self._guiding = [None] * len(self.parameters)
