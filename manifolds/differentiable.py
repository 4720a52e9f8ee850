"""Functions with derivatives of our own, in both directions, that compile and map over batches.

Automatic differentiation of the formulas would divide by lengths and keep intermediate tensors as large as the points.
Each function here states its derivative twice: pulled back for gradients, pushed forward for ``jacfwd`` and Hessians.
Both are made of differentiable functions again, so derivatives of any order follow.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def differentiable(
    forward: Callable[..., Any],
    pullback: Callable[..., Any],
    pushforward: Callable[..., Any],
    keeps_output: bool = False,
) -> Callable[..., Any]:
    """A function of tensors with its derivative.

    Args:
        forward: tensors to a tensor or a tuple of tensors.
        pullback: called with ``needs_input_grad``, the inputs and the outputs' gradients; gives those of the inputs.
        pushforward: called with the inputs and their tangents; gives the tangents of the outputs.
        keeps_output: hand the output to both after the inputs, where it costs more to compute than to keep.

    Example:
        >>> square = differentiable(lambda x: x * x, lambda need, x, g: 2 * x * g, lambda x, dx: 2 * x * dx)
        >>> torch.func.jacfwd(square)(torch.tensor(3.0)), torch.func.grad(square)(torch.tensor(3.0))
        (tensor(6.), tensor(6.))
    """

    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        kept = (*inputs, output) if keeps_output else inputs
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)

    def backward(ctx: Any, *grads: Tensor) -> Any:
        return pullback(ctx.needs_input_grad, *ctx.saved_tensors, *grads)

    def jvp(ctx: Any, *tangents: Tensor) -> Any:
        return pushforward(*ctx.saved_tensors, *tangents)

    members: dict[str, Any] = {
        "generate_vmap_rule": True,
        "forward": staticmethod(forward),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(backward),
    }
    reverse: Any = type(forward.__name__, (Function,), members)
    both: Any = type(forward.__name__, (Function,), {**members, "jvp": staticmethod(jvp)})

    def apply(*arguments: Any) -> Any:
        if not torch.compiler.is_compiling():
            return both.apply(*arguments)
        # the compiler refuses functions with a pushforward, and torch 2.14's breaks on one that nothing is kept for
        tracked = torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in arguments)
        return reverse.apply(*arguments) if tracked else forward(*arguments)

    return apply


def elementwise(forward: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function of every entry with its derivative.

    Example:
        >>> elementwise(lambda w: w.sin(), lambda w: w.cos())(torch.zeros(1))
        tensor([0.])
    """
    return differentiable(forward, lambda _need, w, grad: grad * slope(w), lambda w, tangent: tangent * slope(w))


def maps_over_batches(operator: Any, axes: int) -> None:
    """Let ``vmap`` map an opaque operator whose tensors broadcast in all but their last ``axes`` axes.

    Args:
        operator: made by ``torch.library.custom_op``, tensors out.
        axes: number of axes that are not batch axes.
    """

    def rule(_info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        depth = max(t.ndim - (d is not None) for t, d in zip(arguments, in_dims, strict=False) if isinstance(t, Tensor))
        moved = []
        for argument, d in zip(arguments, in_dims, strict=False):
            if d is not None:
                argument = argument.movedim(d, 0)
                fill = max(axes, depth) - argument.ndim + 1
                argument = argument.reshape(argument.shape[0], *(1,) * fill, *argument.shape[1:])
            moved.append(argument)
        result = operator(*moved)
        return result, (0,) * len(result) if isinstance(result, tuple) else 0

    operator.register_vmap(rule)
