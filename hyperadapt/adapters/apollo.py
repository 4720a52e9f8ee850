"""APoLLo: MaPLe's prompts, then adapters in which each modality attends to the other, steady under augmentation."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, normalize

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.adapters.maple import MaPLe, MaPLeConfig
from hyperadapt.augmented import ClassCaptions, ClassImages
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.shots import Shots
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig


@dataclass(frozen=True)
class APoLLoConfig:
    """Settings of APoLLo.

    Attributes:
        context_length, depth: as of MaPLe.
        heads: of each attention.
        hidden: width between the two layers after it.
        consistency_weight: of the losses between the branches.
        temperature: of the similarities of the clean branch.
        target_temperature: of those of the augmented branch, which the clean ones are to follow.
        images: folder with one folder a class of generated images; random views of the shots where left out.
        captions: JSON file with a list of texts for each class name; the templates of the data set where left out.
    """

    context_length: int = 2
    depth: int = 9
    heads: int = 8
    hidden: int = 2048
    consistency_weight: float = 2.0
    temperature: float = 0.2
    target_temperature: float = 0.04
    images: str | None = None
    captions: str | None = None

    def __post_init__(self) -> None:
        if min(self.heads, self.hidden, self.temperature, self.target_temperature) <= 0 or self.consistency_weight < 0:
            raise InputError(
                "apollo needs heads, hidden and temperatures > 0 and consistency_weight >= 0, got "
                f"{self.heads}, {self.hidden}, {self.temperature} and {self.target_temperature}, "
                f"{self.consistency_weight}"
            )


class CrossModalAdapter(nn.Module):
    """x + attention over features of its own modality + attention over the other one's + two layers, normalised.

    Each sum enters the next through a layer norm. What a part gives is divided by the root of the width, for features
    have length 1 and normed ones that root. The last map of every part starts at zero, so that features start as they
    are.

    Args:
        width: of a feature.
        heads: of each attention.
        hidden: width between the two layers.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        if width % heads:
            raise InputError(f"apollo needs heads that divide the width {width} of features, got {heads}")
        self.root = width**0.5
        self.to_own = nn.MultiheadAttention(width, heads)
        self.to_other = nn.MultiheadAttention(width, heads)
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        for last in (self.to_own.out_proj, self.to_other.out_proj, self.layers[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self, x: Float[Tensor, "n d"], own: Float[Tensor, "c d"], other: Float[Tensor, "c d"]
    ) -> Float[Tensor, "n d"]:
        """Adapted features, L2-normalised.

        Args:
            x: features, each adapted by itself.
            own: features of the same modality that are attended to first.
            other: features of the other modality.
        """
        for attention, norm, seen in zip((self.to_own, self.to_other), self.norms, (own, other), strict=True):
            keys = norm(seen)
            x = x + attention(norm(x), keys, keys, need_weights=False)[0] / self.root
        return normalize(x + self.layers(x) / self.root, dim=-1)


@register(
    "apollo",
    "adapter",
    APoLLoConfig,
    summary="MaPLe's prompts and adapters that attend across modalities, steady under augmentation (a reading)",
    source="Chowdhury et al. 2023, arXiv 2312.01564",
    training=TrainingConfig(
        optimizer="sgd", learning_rate=3.5e-3, momentum=0.9, weight_decay=5e-4, epochs=5, batch_size=4, warmup_epochs=1
    ),
    needs_tower=True,
)
class APoLLo(AbstractAdapter):
    """MaPLe, then a cross-modal adapter for either modality; L = CE + 2 (soft targets + Jensen-Shannon).

    A reading of the paper: the release does not run as described. Chosen here:
    the adapters attend to what is kept of the training classes, frozen class features and frozen class means of the
    shots, so that no score depends on which other classes are listed or which other images are in a batch, and new
    names are served by the same weights;
    norms stand before each part, what it gives is brought to the length of a feature, and last maps start at zero, so
    that training starts at MaPLe and stays near it at the paper's rate;
    the augmented branch takes, for each image, an image of its class (a generated one, else a random view of a shot)
    through the prompts and the adapter, and for each class a text (a caption, else a template) through the frozen tower
    and the adapter;
    in each modality a clean feature's similarities to the augmented ones (T 0.2) follow those of its own augmented
    partner (T 0.04, no gradient), and the scores of both branches are held together by their Jensen-Shannon divergence;
    dropout (0.1 in the paper) is left out.
    """

    reads_pixels = True
    reads_shots = True
    image_memory: Tensor
    text_memory: Tensor

    def __init__(self, config: APoLLoConfig, context: BuildContext) -> None:
        super().__init__()
        self.config, self.counts, self.logit_scale = config, context.counts, context.logit_scale
        self.maple = MaPLe(MaPLeConfig(config.context_length, config.depth), context)
        for name in ("image_memory", "text_memory"):
            self.register_buffer(name, torch.zeros(len(context.classes), context.embed_dim))
        sizes = (context.embed_dim, config.heads, config.hidden)
        self.image_adapter, self.text_adapter = CrossModalAdapter(*sizes), CrossModalAdapter(*sizes)
        self._images: ClassImages | None = None
        self._captions: ClassCaptions | None = None

    def prepare(self, images: ImageFeatures, labels: Int[Tensor, " n"], classes: ClassText) -> None:
        """Keep what the adapters attend to, and have at hand, for training alone, what the augmented branch takes."""
        self.image_memory.copy_(normalize(Shots.of(images, labels, self.counts).class_means(len(classes)), dim=-1))
        self.text_memory.copy_(classes.weights)
        self._images = ClassImages.of(images, labels, classes, self.config.images)
        self._captions = ClassCaptions.of(classes, self.config.captions)

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """MaPLe's prompts of the listed names, then the adapter."""
        return classes.with_weights(self._adapted_texts(self.maple.adapt_classes(classes).weights))

    def _adapted_texts(self, texts: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
        return self.text_adapter(texts, self.text_memory, self.image_memory)

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """The images through MaPLe's tower, then the adapter."""
        prompted = self.maple.adapt_images(images, classes)
        return ImageFeatures(self.image_adapter(prompted.pooled, self.image_memory, self.text_memory), prompted.parts)

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Soft targets in either modality, and the divergence between the scores of the branches."""
        if self._images is None or self._captions is None:
            raise InputError("apollo trains on images that prepare has seen; call prepare first")
        images, texts = batch.images.pooled, batch.classes.weights
        labels = batch.labels.cpu() if batch.host_labels is None else batch.host_labels
        pixels = self._images.drawn(labels, batch.draws, images.device)
        other_images = self.adapt_images(ImageFeatures(images.detach(), pixels=pixels), batch.classes).pooled
        other_texts = self._adapted_texts(self._captions.drawn(batch.draws))
        weight, scale = self.config.consistency_weight, self.logit_scale
        return {
            "steady_images": weight * self._soft_targets(images, other_images),
            "steady_texts": weight * self._soft_targets(texts, other_texts),
            "steady_scores": weight * jensen_shannon(scale * images @ texts.T, scale * other_images @ other_texts.T),
        }

    def _soft_targets(self, clean: Float[Tensor, "n d"], augmented: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """Cross entropy of similarities to the augmented features, from those of the augmented features themselves."""
        similar = augmented.detach() @ augmented.detach().T
        targets = (similar / self.config.target_temperature).softmax(dim=1)
        return cross_entropy(clean @ augmented.T / self.config.temperature, targets)


def jensen_shannon(scores: Float[Tensor, "b k"], others: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Mean Jensen-Shannon divergence between the softmax of scores and of others, in nats.

    Example:
        >>> round(float(jensen_shannon(torch.tensor([[50.0, 0.0]]), torch.tensor([[0.0, 50.0]]))), 4)
        0.6931
    """
    p, q = log_softmax(scores, dim=1), log_softmax(others, dim=1)
    middle = torch.logaddexp(p, q) - torch.tensor(2.0).log()
    return ((p.exp() * (p - middle) + q.exp() * (q - middle)).sum(dim=1) / 2).mean()
