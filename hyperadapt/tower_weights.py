"""A frozen tower run with other weights in some places, or with another attention; afterwards it is as it was."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from hyperadapt.errors import InputError
from hyperadapt.prompt_pass import in_turn, plain_transformer
from hyperadapt.text_tower import TextTower

REMEMBERED_BYTES = 2 * 2**30
TEMPLATE = "a photo of a {}."
"""The one prompt that methods which train towers use on every data set."""


class _Around(nn.Module):
    """A tower as a part, so that weights can be named whatever is called on it."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, run: Callable[[], Any]) -> Any:
        return run()


def with_weights(tower: nn.Module, weights: Mapping[str, Tensor], run: Callable[[], Any]) -> Any:
    """What `run` gives while some weights of a tower are others, with gradients to these.

    Args:
        tower: what `run` calls; its own weights are not written to.
        weights: by name inside the tower.
        run: anything that passes the tower.

    Example:
        >>> tower = nn.Linear(1, 1, bias=False).requires_grad_(False)
        >>> weight = tower.weight + 1
        >>> x = tower.weight.new_ones(1, 1)
        >>> bool(with_weights(tower, {"weight": weight}, lambda: tower(x)) == tower(x) + 1)
        True
    """
    named = {f"tower.{name}": weight for name, weight in weights.items()}
    return functional_call(_Around(tower), named, (run,))


@final
class OwnWeights(nn.Module):
    """Copies of some weights of a frozen tower, to be trained in their place.

    Args:
        weights: by name inside the tower.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, weight in weights.items():
            self.register_parameter(name.replace(".", "/"), nn.Parameter(weight.detach().clone()))

    def inside(self, tower: nn.Module, run: Callable[[], Any]) -> Any:
        """What `run` gives while the tower has these weights."""
        own = {name.replace("/", "."): weight for name, weight in self.named_parameters()}
        return with_weights(tower, own, run)


@contextmanager
def attending(blocks: Sequence[Any], attentions: Sequence[Callable[..., Any]]) -> Iterator[None]:
    """Blocks whose attention is computed by functions, each called as torch's attention is.

    Args:
        blocks: plain blocks of a transformer.
        attentions: one a block.
    """
    try:
        for block, attention in zip(blocks, attentions, strict=True):
            block.attn.forward = attention
        yield
    finally:
        for block in blocks:
            vars(block.attn).pop("forward", None)


@final
class Remembered:
    """Tensors that are made once, each by itself so that what is made does not depend on what else is asked for.

    Args:
        budget_bytes: memory; what comes after it is spent is made whenever it is asked for.
    """

    def __init__(self, budget_bytes: int = REMEMBERED_BYTES) -> None:
        self.budget_bytes = budget_bytes
        self._kept: dict[Hashable, Tensor] = {}
        self._left = budget_bytes

    def of(self, keys: Sequence[Hashable], make: Callable[[int], Tensor]) -> list[Tensor]:
        """One tensor a key.

        Args:
            keys: equal keys, equal tensors.
            make: from the position of a key to its tensor; called without gradients.
        """
        found = []
        for i, key in enumerate(keys):
            tensor = self._kept.get(key)
            if tensor is None:
                with torch.no_grad():
                    tensor = make(i)
                if tensor.nbytes <= self._left:
                    self._kept[key] = tensor
                    self._left -= tensor.nbytes
            found.append(tensor)
        return found

    def forget(self) -> None:
        """Let go of everything."""
        self._kept.clear()
        self._left = self.budget_bytes


def image_states(visual: Any, pixels: Float[Tensor, "n 3 h w"], until: int) -> Float[Tensor, "n s w"]:
    """Tokens of images before block `until` of a vision transformer."""
    return in_turn(visual.transformer.resblocks[:until], visual._embeds(pixels))


def image_features_from(visual: Any, states: Float[Tensor, "n s w"], first: int) -> Float[Tensor, "n d"]:
    """Features of images whose tokens before block `first` are known; not normalised."""
    pooled, _ = visual._pool(in_turn(visual.transformer.resblocks[first:], states))
    return pooled if visual.proj is None else pooled @ visual.proj


def text_transformer(tower: TextTower, method: str) -> Any:
    """The text tower, whose blocks are open_clip's own.

    Raises:
        InputError: naming the tower.
    """
    if not (tower.takes_contexts and plain_transformer(tower.tower.transformer)):
        raise InputError(
            f"{method} changes open_clip's own text transformers, got {type(tower.tower).__name__}; use a method that "
            "works on features"
        )
    return tower.tower


def image_transformer(tower: TextTower, method: str) -> Any:
    """The image tower beside a text tower, a vision transformer whose blocks are open_clip's own.

    Raises:
        InputError: naming the tower, such as a ResNet or one of timm.
    """
    visual = getattr(tower.model, "visual", None)
    if not plain_transformer(getattr(visual, "transformer", None)):
        raise InputError(
            f"{method} changes open_clip's own vision transformers, got {type(visual).__name__}; set its towers to "
            "text, or use another backbone"
        )
    return visual


def check_template(method: str, template: str) -> None:
    """Refuse a template without a place for the name.

    Raises:
        InputError: quoting it.
    """
    if template.count("{}") != 1:
        raise InputError(f"{method} needs a template with exactly one {{}} for the class name, got {template!r}")
