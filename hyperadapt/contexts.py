"""Learned vectors before a class name, and the fixed words that may stand among them."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperadapt.captions import Captions
from hyperadapt.text import ClassText
from hyperadapt.text_tower import NOT_DEEPER, TextTower

FIRST_WORDS = "a photo of a"
CONTEXT_STD, ATTRIBUTE_STD = 0.02, 0.01
Start = Literal["words", "random"]


def first_contexts(tower: TextTower, length: int, start: Start, owners: int = 1) -> Float[Tensor, "o m w"]:
    """Context vectors before training.

    Args:
        tower: the text tower.
        length: vectors a context.
        start: "words" takes the embeddings of "a photo of a", where the tokenizer makes `length` tokens of it, and
            random values otherwise; "random" is normal with a standard deviation of 0.02.
        owners: how many contexts there are.
    """
    contexts = torch.randn(owners, length, tower.width) * CONTEXT_STD
    words = tower.word_vectors(FIRST_WORDS) if start == "words" else contexts[0]
    if start == "words" and len(words) == length:
        return words.to(contexts).expand(owners, -1, -1).clone()
    return contexts


class PromptedNames(NamedTuple):
    """Class names that wait for what stands before them.

    Attributes:
        tower: the text tower.
        ids: (K, L) their tokens, with what follows a name.
    """

    tower: TextTower
    ids: Int[Tensor, "k l"]

    @staticmethod
    def of(classes: ClassText, reserve: int, ending: str = ".") -> "PromptedNames":
        """The names of some classes, or captions as they are, cut where they are too long.

        Args:
            classes: with a text tower.
            reserve: positions that will stand before each name.
            ending: what follows each name; nothing follows a caption.

        Raises:
            InputError: naming the first class whose name does not fit, or where there is no tower.
        """
        tower, captions = classes.prompt_tower, isinstance(classes, Captions)
        texts = classes.names if captions else [f"{name}{ending}" for name in classes.names]
        return PromptedNames(tower, tower.tokenize(texts, reserve, cut=captions))

    def features(
        self, before: Float[Tensor, "p k m w"], deeper: Mapping[int, Tensor] = NOT_DEEPER
    ) -> Float[Tensor, "p k d"]:
        """L2-normalised features of [start][vectors]{class}{ending}[end], with gradients to the vectors.

        Args:
            before: what stands before each name, or (P, 1, M, W) before all of them.
            deeper: what takes its place before some blocks, as in `TextTower.prompts`.
        """
        return self.tower.prompts(before, self.ids, deeper)


@final
class AttributeTokens(nn.Module):
    """Attribute words before a context, each after learned vectors of its own: shallow ATPrompt (arXiv 2412.09442).

    Args:
        tower: the text tower.
        words: one attribute each, such as "color".
        tokens: learned vectors before each word; they start normal with a standard deviation of 0.01.
    """

    words: Tensor

    def __init__(self, tower: TextTower, words: Sequence[str], tokens: int) -> None:
        super().__init__()
        vectors = [tower.word_vectors(word) for word in words]
        self.lengths = [len(vector) for vector in vectors]
        self.contexts = nn.Parameter(torch.randn(len(vectors), tokens, tower.width) * ATTRIBUTE_STD)
        self.register_buffer("words", torch.cat(vectors).to(self.contexts), persistent=False)

    @property
    def length(self) -> int:
        """How many positions it adds."""
        return len(self.words) + self.contexts.shape[0] * self.contexts.shape[1]

    def forward(self, contexts: Float[Tensor, "o m w"]) -> Float[Tensor, "o am w"]:
        """[vectors][word] of each attribute, then the contexts."""
        pieces = [piece for pair in zip(self.contexts, self.words.split(self.lengths), strict=True) for piece in pair]
        before = torch.cat(pieces).to(contexts.dtype).expand(len(contexts), -1, -1)
        return torch.cat([before, contexts], dim=1)
