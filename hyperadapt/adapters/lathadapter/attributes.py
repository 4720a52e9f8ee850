"""Where attribute features come from: prompts through the text tower, with or without class names, or free vectors."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.adapters.lathadapter.config import LatHAdapterConfig
from hyperadapt.errors import InputError
from hyperadapt.text import ClassText

WORDS = (
    "color shape texture material pattern size part surface habitat background behavior age style wing tail head "
    "leaf petal edge stripe spot scale season light function structure posture outline ornament origin motion density"
)
"""What attributes may start from: one word each, in this order."""


class AbstractAttributes(nn.Module, ABC):
    """Learnable attributes in the joint space; none of their parameters belongs to a class."""

    @abstractmethod
    def forward(self, classes: ClassText) -> Float[Tensor, "m d"] | Float[Tensor, "k m d"]:
        """L2-normalised attribute features, (M, D), or (K, M, D) where every class has its own."""


class FeatureAttributes(AbstractAttributes):
    """Free vectors of the joint space (reading A2)."""

    def __init__(self, config: LatHAdapterConfig, context: BuildContext) -> None:
        super().__init__()
        if config.attribute_init == "words":
            raise InputError("attribute_init words needs a text tower, and these attributes are free vectors")
        self.vectors = nn.Parameter(torch.randn(config.attributes, context.embed_dim) / context.embed_dim**0.5)

    def forward(self, classes: ClassText) -> Float[Tensor, "m d"]:
        """The vectors, normalised."""
        return normalize(self.vectors, dim=-1)


class PromptAttributes(AbstractAttributes):
    """Token sequences through the frozen text tower: alone (A1), or each before every class name (A3)."""

    def __init__(self, config: LatHAdapterConfig, context: BuildContext, named: bool) -> None:
        super().__init__()
        tower, self.named = context.classes.prompt_tower, named
        tokens = torch.randn(config.attributes, config.prompt_length, tower.width) * 0.02
        if config.attribute_init == "words":
            for i, word in enumerate(WORDS.split()[: config.attributes]):
                known = tower.word_vectors(word)[: config.prompt_length]
                tokens[i, : len(known)] = known
        self.tokens = nn.Parameter(tokens)

    def forward(self, classes: ClassText) -> Float[Tensor, "m d"] | Float[Tensor, "k m d"]:
        """The prompts' features; (K, M, D) with class names."""
        tower = classes.prompt_tower
        texts = [name.replace("_", " ") + "." for name in classes.names] if self.named else [""]
        ids = tower.tokenize(texts, reserve=self.tokens.shape[1])
        features = tower.prompts(self.tokens[:, None], ids)
        return features.transpose(0, 1) if self.named else features[:, 0]


def build_attributes(config: LatHAdapterConfig, context: BuildContext) -> AbstractAttributes:
    """The attributes that the settings ask for.

    Raises:
        InputError: prompts or words without a text tower.
    """
    source = config.attribute_source
    if source == "auto":
        source = "prompts" if context.classes.takes_contexts else "features"
    if source == "features":
        return FeatureAttributes(config, context)
    return PromptAttributes(config, context, named=source == "named")
