"""TCP: what frozen CLIP says of a class becomes tokens of its prompt, in a middle layer of the text tower."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.adapters.kgcoop import distance_from_template
from hyperadapt.backbone import ImageFeatures
from hyperadapt.contexts import PromptedNames, Start, first_contexts
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig


@dataclass(frozen=True)
class TCPConfig:
    """Settings of TCP.

    Attributes:
        context_length: learned tokens before the class name, and tokens of the class that replace them.
        start: "random", or "words" ("a photo of a", where that makes `context_length` tokens), see `first_contexts`.
        layer: the block before which tokens are replaced, counted from 0; the last one of a tower that has fewer.
        reduction: by how much the net that makes tokens narrows the text feature.
        consistency: factor on the distance from the hand-made prompt.
    """

    context_length: int = 4
    start: Start = "random"
    layer: int = 8
    reduction: int = 4
    consistency: float = 8.0

    def __post_init__(self) -> None:
        if min(self.context_length, self.reduction) < 1 or min(self.layer, self.consistency) < 0:
            given = f"{self.context_length}, {self.reduction}, {self.layer} and {self.consistency}"
            needs = "context_length and reduction of at least 1, layer and consistency of at least 0"
            raise InputError(f"tcp needs {needs}, got {given}")


@register(
    "tcp",
    "adapter",
    TCPConfig,
    summary="tokens made of each class' frozen text feature, put into a middle layer of the text tower",
    source="Yao et al. 2024, arXiv 2311.18231",
    training=TrainingConfig(
        optimizer="adam", learning_rate=2e-3, epsilon=1e-3, weight_decay=5e-4, epochs=50, batch_size=32
    ),
    novel="tokens made of the new names' frozen features, with learned contexts",
    needs_tower=True,
)
class TCP(AbstractAdapter):
    """[start][contexts]{class}{ending}[end]; before block 8 contexts give way to W2 g(W1 w + b1) + b2 of each class.

    w is the frozen feature of the first template, which is also what class features are held near (as in KgCoOp), and
    the ending is what follows the name in that template. The release writes both for each data set, and for some puts
    words of the template between contexts and name, which are left out here. g is QuickGELU.
    Tokens are a class' own, so whole sequences pass the tower.
    """

    def __init__(self, config: TCPConfig, context: BuildContext) -> None:
        super().__init__()
        tower, width, length = context.classes.prompt_tower, context.embed_dim, config.context_length
        hidden = max(width // config.reduction, 1)
        self.layer, self.weight = min(config.layer, tower.layers - 1), config.consistency
        self.contexts = nn.Parameter(first_contexts(tower, length, config.start))
        self.narrow, self.widen = nn.Linear(width, hidden), nn.Linear(hidden, length * tower.width)

    def tokens(self, frozen: Float[Tensor, "k d"]) -> Float[Tensor, "k m w"]:
        """The tokens of classes with these frozen features."""
        hidden = self.narrow(frozen)
        return self.widen(hidden * (1.702 * hidden).sigmoid()).unflatten(-1, (self.contexts.shape[1], -1))

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """Prompts of the listed names."""
        names = PromptedNames.of(classes, self.contexts.shape[1], classes.ending)
        deeper = {self.layer: self.tokens(classes.templates[0])[None]}
        return classes.with_weights(names.features(self.contexts[None], deeper)[0])

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """The images as they are."""
        return images

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """How far the class features are from the template's."""
        return {"consistency": self.weight * distance_from_template(batch)}
