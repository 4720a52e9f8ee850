"""The text side of a list of classes: templates and frozen class features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from hyperadapt.errors import InputError
from hyperadapt.text_tower import TextTower
from hyperadapt.transfer import sent


@dataclass(frozen=True)
class ClassText:
    """What the frozen text side says of a list of classes.

    Attributes:
        names: one readable name a class.
        templates: (T, K, D) L2-normalised text features, one row a template.
        weights: (K, D) L2-normalised class features that zero-shot scoring uses.
        tower: the text tower, for learned prompts; None where only stored features exist.
        attributes: (M, D) attribute features that an adapter attached, or None.
        own_attributes: (M, K, D) the same for each class, where an adapter has attributes of each class' own.
        frozen: (K, D) class features as they were before an adapter, where it attached them.
        ending: what follows the class name in the first template.
    """

    names: tuple[str, ...]
    templates: Float[Tensor, "t k d"]
    weights: Float[Tensor, "k d"]
    tower: TextTower | None = None
    attributes: Float[Tensor, "m d"] | None = None
    own_attributes: Float[Tensor, "m k d"] | None = None
    frozen: Float[Tensor, "k d"] | None = None
    ending: str = "."

    def __len__(self) -> int:
        return len(self.names)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ClassText":
        """Itself: copies of a model share the frozen features and the tower behind them."""
        return self

    def same_as(self, other: "ClassText") -> bool:
        """Whether names, tower and frozen features are equal."""
        if self.names != other.names or self.tower is not other.tower:
            return False
        pairs = [(self.weights, other.weights), (self.templates, other.templates)]
        return all(a is b or (a.shape == b.shape and a.device == b.device and torch.equal(a, b)) for a, b in pairs)

    @property
    def takes_contexts(self) -> bool:
        """Whether learned prompts can be made for these classes."""
        return self.tower is not None and self.tower.takes_contexts

    @property
    def prompt_tower(self) -> TextTower:
        """The text tower.

        Raises:
            InputError: where only stored features exist.
        """
        if self.tower is None:
            raise InputError(
                "learned prompts and changed towers need a text tower, and stored features have none; use images"
            )
        return self.tower

    def select(self, classes: Sequence[int]) -> "ClassText":
        """The same for some of the classes, in the order given."""
        index = sent(torch.as_tensor(list(classes), dtype=torch.long), self.weights.device)
        names = tuple(self.names[i] for i in classes)
        return replace(self, names=names, templates=self.templates[:, index], weights=self.weights[index])

    def with_weights(self, weights: Float[Tensor, "k d"]) -> "ClassText":
        """The same classes with adapted features."""
        return replace(self, weights=weights)

    def to(self, device: torch.device) -> "ClassText":
        """The same on another device; the tower stays where it is."""
        return replace(self, templates=self.templates.to(device), weights=self.weights.to(device))


def evenly_spaced(count: int, total: int) -> tuple[int, ...]:
    """`count` indices spaced evenly over `range(total)`; all of them when there are fewer.

    Example:
        >>> evenly_spaced(3, 9), evenly_spaced(4, 2)
        ((1, 4, 7), (0, 1))
    """
    count = min(count, total)
    return tuple((2 * i + 1) * total // (2 * count) for i in range(count))


def class_text(tower: TextTower, names: Sequence[str], templates: Sequence[str]) -> ClassText:
    """Encode every template for every class name; the class feature is the normalised mean over templates.

    Args:
        tower: the frozen text tower.
        names: class names; underscores become spaces, as in CoOp.
        templates: texts with one `{}`.

    Raises:
        InputError: for a template without `{}`, or a text that is too long for the tower.
    """
    for template in templates:
        if template.count("{}") != 1:
            raise InputError(f"a prompt template needs exactly one {{}} for the class name, got {template!r}")
    readable = [name.replace("_", " ") for name in names]
    features = tower.encode([template.format(name) for template in templates for name in readable])
    stacked = features.view(len(templates), len(readable), -1)
    weights = normalize(stacked.mean(dim=0), dim=-1)
    return ClassText(tuple(readable), stacked, weights, tower, ending=templates[0].partition("{}")[2])


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Names of which none stands for two classes, as what was trained for a class is found again by its name.

    Example:
        >>> told_apart(["crane", "crane (2)", "crane"])
        ('crane', 'crane (2)', 'crane (3)')
    """
    found: dict[str, None] = {}
    for name in names:
        own, number = name, 1
        while own in found:
            number += 1
            own = f"{name} ({number})"
        found[own] = None
    return tuple(found)
