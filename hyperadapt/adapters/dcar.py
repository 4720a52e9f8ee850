"""DCAR: prompts in both towers for retrieval, captions whose tokens are weighed by their image, hard negatives."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.backbone import ImageFeatures
from hyperadapt.captions import Captions
from hyperadapt.errors import InputError
from hyperadapt.image_pass import ImagePass
from hyperadapt.registry import register
from hyperadapt.retrieval.losses import category_loss
from hyperadapt.retrieval.token_weights import TokenTable, token_weights
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig


@dataclass(frozen=True)
class DCARConfig:
    """Settings of DCAR.

    Attributes:
        prompts: learned tokens before a text, and as many among the image's; 0 leaves both towers alone.
        image_prompts: whether there are prompts in the image tower.
        reweighting: whether tokens of a text are weighed by what they have to do with its image.
        category_weight: factor on the loss over the negatives of a category.
        alpha: a negative of the image's own category weighs 1 + alpha there.
        generator_width: hidden width of the map from text to image prompts.
    """

    prompts: int = 4
    image_prompts: bool = True
    reweighting: bool = True
    category_weight: float = 1.0
    alpha: float = 1.0
    generator_width: int = 128

    def __post_init__(self) -> None:
        if self.prompts < 0 or self.generator_width < 1 or self.alpha < 0 or self.category_weight < 0:
            raise InputError(
                "dcar needs prompts, category_weight and alpha >= 0 and generator_width >= 1, got "
                f"{self.prompts}, {self.category_weight}, {self.alpha} and {self.generator_width}"
            )


@register(
    "dcar",
    "adapter",
    DCARConfig,
    summary="for retrieval: prompts in both towers, caption tokens weighed by the image, negatives by category",
    source="a reading of Wang et al. 2025, arXiv 2508.04028",
    training=TrainingConfig(optimizer="adamw", learning_rate=1e-3, weight_decay=1e-4, epochs=10, batch_size=32),
    needs_tower=True,
)
class DCAR(AbstractAdapter):
    """Texts are [start][v_1 .. v_k][(1 + w_1) t_1 .. (1 + w_n) t_n][end], images carry e_1 .. e_k after their tokens.

    A reading: the training code is not public. From the source: frozen towers, text prompts v before the caption's
    tokens, image prompts e made from v, w_j = |S(t_j, blank) - S(t_j, image)|, InfoNCE and a loss in which a negative
    weighs 1 + alpha when it shares the image's category. Chosen here:

    - S is the cosine of the frozen towers, a token being encoded as a text of its own, and the blank image is the
      tower's input of zeros, the mean colour. Embeddings are multiplied by 1 + w: a weight of 0 changes nothing.
    - In training w comes of the caption's own image, for its false captions too. In a search it is not known which
      image that is, and telling would give the answer away: the mean of the training images stands in.
    - e_k = W2 gelu(W1 v_k), in front of the first block alone. There are k = 4 prompts, drawn with deviation 0.02.
    - The negatives of an image are the other captions of its batch and its own false captions, from images to captions
      alone; both losses weigh 1 and alpha is 1. The trainable augmentation of images is left out: random views
      stand in.
    - AdamW at 1e-3, ten passes over the images in shuffled batches of 32, in which no image stands twice. An image
      without a category shares none.

    Where classes are listed instead of captions (few-shot protocols) only prompts and mean weights are at work.
    """

    reads_pixels = True
    reads_shots = True

    blank: Tensor
    typical: Tensor

    def __init__(self, config: DCARConfig, context: BuildContext) -> None:
        super().__init__()
        self.config, self.scale = config, context.logit_scale
        tower = context.classes.prompt_tower
        self.prompts = nn.Parameter(torch.randn(config.prompts, tower.width) * 0.02)
        self.generator = None
        if config.image_prompts and config.prompts:
            width = ImagePass(tower.model.visual).width
            hidden = nn.Linear(tower.width, config.generator_width)
            self.generator = nn.Sequential(hidden, nn.GELU(), nn.Linear(config.generator_width, width))
        self.register_buffer("blank", torch.zeros(context.embed_dim))
        self.register_buffer("typical", torch.zeros(context.embed_dim))
        self._tokens = TokenTable(tower)

    def prepare(self, images: ImageFeatures, labels: Tensor, classes: ClassText) -> None:
        """Keep the features of a blank image and of the mean training image."""
        nothing = torch.zeros_like(images[:1].tower_input)
        self.blank.copy_(normalize(classes.prompt_tower.model.encode_image(nothing)[0].float(), dim=0))
        self.typical.copy_(normalize(images.pooled.mean(dim=0), dim=0))

    def _texts(self, classes: ClassText, texts: tuple[str, ...], seen: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
        tower = classes.prompt_tower
        ids = tower.tokenize(texts, reserve=len(self.prompts), cut=isinstance(classes, Captions))
        factors = None
        if self.config.reweighting:
            factors = 1 + token_weights(self._tokens, ids, seen, self.blank)[None]
        return tower.prompts(self.prompts[None, None], ids, factors=factors)[0]

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """Prompted texts; of a training batch the false captions too, in the same pass."""
        if not isinstance(classes, Captions) or classes.seen is None:
            return classes.with_weights(self._texts(classes, classes.names, self.typical.expand(len(classes), -1)))
        false = classes.false if self.config.category_weight else None
        if false is None:
            return replace(classes, weights=self._texts(classes, classes.names, classes.seen), false=None)
        seen = torch.cat([classes.seen, classes.seen[false.owners]])
        own, others = self._texts(classes, (*classes.names, *false.texts), seen).split([len(classes), len(false.texts)])
        return replace(classes, weights=own, false=replace(false, weights=others))

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """The images through the prompted tower."""
        if self.generator is None:
            return images
        prompts = self.generator(self.prompts)[None]
        return ImageFeatures(ImagePass(classes.prompt_tower.model.visual).features(images.tower_input, prompts))

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """The loss over negatives by category; none where classes are listed."""
        captions = batch.classes
        if not isinstance(captions, Captions) or captions.categories is None or not self.config.category_weight:
            return {}
        images, false = self.scale * batch.images.pooled, captions.false
        same = (captions.categories[:, None] == captions.categories) & (captions.categories >= 0)
        if false is None or false.weights is None:
            nobody = captions.categories[:0]
            false_logits, false_same, owners = images @ captions.weights[:0].T, nobody.bool(), nobody
        else:
            false_logits, false_same, owners = images @ false.weights.T, false.same_category, false.owners
        loss = category_loss(images @ captions.weights.T, same, false_logits, false_same, owners, self.config.alpha)
        return {"category": self.config.category_weight * loss}

    @staticmethod
    def adapts_alone(config: Any) -> bool:
        """Yes."""
        return True

    @staticmethod
    def controls(config: Any) -> dict[str, Any]:
        """Without weights of tokens, without image prompts, with every negative alike."""
        found = {}
        if config.reweighting:
            found["no-reweighting"] = replace(config, reweighting=False)
        if config.image_prompts:
            found["no-image-prompts"] = replace(config, image_prompts=False)
        if config.alpha:
            found["no-category-weights"] = replace(config, alpha=0.0)
        return found
