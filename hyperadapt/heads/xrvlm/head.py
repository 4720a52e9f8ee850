"""XR-VLM: all products of visual parts with multi-part prompts of all classes, classified together.

Source: Wang et al. 2025, arXiv 2503.07075. The published head knows only the classes it was trained on. How classes
without training images are scored is ours: by a second head that is trained beside it, or by that head alone.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, normalize

from hyperadapt.adapters.base import BuildContext, positions_among
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.base import AbstractHead
from hyperadapt.heads.xrvlm.closed import FullRelation, TextFreeMLP
from hyperadapt.heads.xrvlm.comparison import ComparisonRelation
from hyperadapt.heads.xrvlm.config import CLOSED, XRVLMConfig
from hyperadapt.heads.xrvlm.deployed import DeployedRelation
from hyperadapt.heads.xrvlm.generated import GeneratedWeights
from hyperadapt.heads.xrvlm.relation import AbstractRelationHead, Scene, Sizes
from hyperadapt.heads.xrvlm.set_relation import SetRelation
from hyperadapt.heads.xrvlm.shared_scores import ClasswiseRelation, PairwiseRelation, PartCosines
from hyperadapt.heads.xrvlm.texts import Prompts, frozen_parts
from hyperadapt.heads.xrvlm.unified_attention import UnifiedAttention
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig
from hyperadapt.transfer import sent
from manifolds.regularizers import AbstractDraws

RELATION_HEADS: dict[str, type[AbstractRelationHead]] = {
    "full": FullRelation,
    "cc": FullRelation,
    "mlp": TextFreeMLP,
    "cp": ClasswiseRelation,
    "b": ClasswiseRelation,
    "pwcs": PartCosines,
    "pairwise": PairwiseRelation,
    "set": SetRelation,
    "comparison": ComparisonRelation,
    "generated": GeneratedWeights,
}
LEAST_SUBSET = 0.25
DISTILLED = 1 / 3
FAR_BELOW = -1e4
"""A logit for classes that are left out, finite so that leaving out all of them is no division by zero."""


@dataclass(frozen=True)
class EncodedClasses:
    """The classes as the relation sees them.

    Attributes:
        text: (M, K, D) L2-normalised text parts; None where no head in use reads them.
        weights: (K, D) class features as the adapter left them.
        columns: (K,) position of each class among the training classes, or None unless these are they, in some order.
        known_text: (M, C, D) text parts of the training classes, for heads that ask for them.
        drawn: (K,) classes that a training step draws to be among, beside those of its images; None for all.
        strange: (K,) classes that a training step treats as unseen; None for none.
    """

    text: Float[Tensor, "m k d"] | None
    weights: Float[Tensor, "k d"]
    columns: Int[Tensor, " k"] | None
    known_text: Float[Tensor, "m c d"] | None = None
    drawn: Bool[Tensor, " k"] | None = None
    strange: Bool[Tensor, " k"] | None = None


@register(
    "xrvlm",
    "head",
    XRVLMConfig,
    summary="cross-relation of visual parts and multi-part prompts of all classes",
    source="Wang et al. 2025, arXiv 2503.07075; heads for unseen classes are ours",
    training=TrainingConfig(
        optimizer="sgd", learning_rate=2e-3, momentum=0.9, weight_decay=1e-4, epochs=25, batch_size=64, warmup_epochs=5
    ),
    novel=lambda config: config.novel,
    knows_split=lambda config: config.closed,
)
class XRVLM(AbstractHead):
    """Visual parts and text parts in, scores by the relation head of the configuration out.

    A head that knows the training classes alone serves these, in any order; any other list goes to the head for unseen
    classes, or to zero-shot scores. The optimiser is the released one (SGD, warm-up, cosine). 25 epochs instead of its
    100 were chosen among 8, 25 and 80 inside the base classes of two embedded worlds: longer training costs accuracy on
    classes held out there. The recipe `xrvlm-paper` has the released settings throughout. Class names are not
    capitalised as in the release: CLIP's tokeniser does not tell the cases apart.
    """

    pools_parts = True
    map_penalty: Tensor

    def __init__(self, config: XRVLMConfig, context: BuildContext) -> None:
        super().__init__()
        classes = context.classes
        self.config, self.scale = config, context.logit_scale
        self.trained_on = classes
        self.attention = UnifiedAttention(context.part_width, config.visual_parts) if context.part_width else None
        learned = config.text == "prompts" or (config.text == "auto" and classes.takes_contexts)
        self.prompts = Prompts(config, classes) if learned else None
        self.sizes = self._sizes(context)
        penalty = torch.tensor(config.map_penalty / max(1, context.training_images))
        self.register_buffer("map_penalty", penalty, persistent=False)  # so that runs side by side keep their own
        self.relation = RELATION_HEADS[config.head](self.sizes)
        self.unseen: AbstractRelationHead | None = None
        if config.closed and config.open_head is not None:
            sizes = replace(self.sizes, config=replace(config, head=config.open_head))
            self.unseen = RELATION_HEADS[config.open_head](sizes)

    def _sizes(self, context: BuildContext) -> Sizes:
        """Parts on both sides, as far as there are positions and texts."""
        config, count = self.config, self.config.text_parts
        if self.prompts is None and config.text in ("auto", "templates"):
            count = min(count, len(context.classes.templates))
        visual, text = config.visual_parts if self.attention else 1, count + config.category_part
        return Sizes(context.embed_dim, visual, text, len(context.classes), self.scale, config)

    @property
    def open_relation(self) -> AbstractRelationHead | None:
        """The relation head for lists with unseen classes; None where zero-shot scores serve them."""
        return self.unseen if self.config.closed else self.relation

    @property
    def compares_classes(self) -> bool:
        """Whether a class' score depends on which other classes are listed."""
        return self.open_relation is not None and self.open_relation.compares

    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> EncodedClasses:
        """Text parts as far as a head reads them, and what a training step draws about the classes."""
        config, count, device = self.config, len(classes), classes.weights.device
        same = classes.names == self.trained_on.names
        positions = list(range(count)) if same else positions_among(classes.names, self.trained_on.names)
        columns = torch.arange(count, device=device) if same else sent(torch.tensor(positions), device)
        known, drawn, strange = columns >= 0, None, None
        if draws is not None and self.open_relation is not None:
            if config.class_subsets:
                chances = draws.rand(count + 1)
                drawn = chances[1:] < LEAST_SUBSET + (1 - LEAST_SUBSET) * chances[0]
            if config.distill > 0:
                strange = draws.rand(count) < DISTILLED
                known = known & ~strange
            if self.prompts is not None and self.prompts.added and config.class_dropout > 0:
                known = known & (draws.rand(count) >= config.class_dropout)
        whole = sorted(positions) == list(range(len(self.trained_on)))
        used = (self.relation, self.unseen) if draws is not None else (self.relation if whole else self.open_relation,)
        text = known_text = None
        if any(head is not None and head.reads_text for head in used):
            text = self._texts(classes, columns, known)
        if any(head is not None and head.wants_known_text for head in used):
            known_text = text if same else self.encode_classes(self.trained_on).text
        return EncodedClasses(text, classes.weights, columns if whole else None, known_text, drawn, strange)

    def _texts(
        self, classes: ClassText, columns: Int[Tensor, " k"], known: Bool[Tensor, " k"]
    ) -> Float[Tensor, "m k d"]:
        """Text parts, the class feature last where it is one of them."""
        prompts = self.prompts
        text = frozen_parts(self.config, classes) if prompts is None else prompts(classes, columns, known)
        if self.config.category_part:
            text = torch.cat([text, classes.weights[None]])
        if text.shape[0] != self.sizes.text:
            raise InputError(
                f"xrvlm was built for {self.sizes.text} text parts and got {text.shape[0]}; with text: attributes, "
                "text_parts must be the adapter's number of attributes"
            )
        return text

    def visual_parts(self, images: ImageFeatures) -> Float[Tensor, "b n d"]:
        """L2-normalised visual parts; the pooled feature is the one part where there are no positions."""
        if self.attention is not None:
            return normalize(self.attention(images.parts), dim=-1)
        return images.pooled[:, None]

    def scene(self, images: ImageFeatures, encoded: EncodedClasses) -> Scene:
        """Images and classes as relation heads see them; without texts where none is read."""
        text = encoded.text
        if text is None:
            text = encoded.weights[:0, None]
        cosines = images.pooled @ encoded.weights.T
        return Scene(self.visual_parts(images), text, cosines, None, encoded.known_text)

    def logits(self, images: ImageFeatures, encoded: EncodedClasses) -> Float[Tensor, "b k"]:
        """By the closed head when the list is the training classes in any order, else by the one for unseen classes."""
        scene = self.scene(images, encoded)
        if self.config.closed and encoded.columns is not None:
            return self.relation(_in_training_order(scene, encoded.columns))[:, encoded.columns]
        return self.scale * scene.cosines if self.open_relation is None else self.open_relation(scene)

    @torch.no_grad()
    def relations(self, images: ImageFeatures, encoded: EncodedClasses, answer: int) -> Float[Tensor, "b m n k"] | None:
        """What each relation of an image says about the class `answer`; see the head in use."""
        scene = self.scene(images, encoded)
        if self.config.closed and encoded.columns is not None:
            place = int(encoded.columns[answer])
            found = self.relation.relations_of(_in_training_order(scene, encoded.columns), place)
            return None if found is None else found[..., encoded.columns]
        return None if self.open_relation is None else self.open_relation.relations_of(scene, answer)

    def in_batch(self, encoded: EncodedClasses, labels: Int[Tensor, " b"]) -> EncodedClasses:
        """The classes of the batch are always among those drawn."""
        if encoded.drawn is None:
            return encoded
        return replace(encoded, drawn=encoded.drawn | torch.zeros_like(encoded.drawn).scatter(0, labels, True))

    def losses(self, images: ImageFeatures, encoded: EncodedClasses, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross entropy of each head; they share parts and prompts."""
        scene, terms = self.scene(images, encoded), {}
        if self.config.closed:
            terms[self.config.head] = cross_entropy(self.relation(scene).float(), labels)
        if self.open_relation is None:
            return terms
        present = self.in_batch(encoded, labels).drawn
        logits = self.open_relation(replace(scene, present=present)).float()
        among = logits if present is None else logits.masked_fill(~present, -torch.inf)
        terms[str(self.config.open_head)] = cross_entropy(among, labels)
        penalty = self.open_relation.penalty()
        if penalty is not None and self.config.map_penalty > 0:
            terms["map_penalty"] = self.map_penalty * penalty
        if encoded.strange is not None:
            strange = encoded.strange if present is None else encoded.strange & present
            terms["distill"] = self.config.distill * _divergence(logits, self.scale * scene.cosines.detach(), strange)
        return terms

    def deploy(self, classes: ClassText | None = None) -> DeployedRelation:
        """What the head is in evaluation, exactly: a two-layer MLP on the visual parts, for serving without texts.

        Args:
            classes: the training classes as an adapter left them; where left out, as the head was built with them.

        Raises:
            InputError: for a head that scores any class.
        """
        if not isinstance(self.relation, FullRelation | TextFreeMLP):
            raise InputError(
                f"xrvlm with head {self.config.head} reads the texts of the classes that it scores, so it cannot be "
                "deployed without them; heads full, cc and mlp can"
            )
        self.eval()
        with torch.no_grad():
            encoded = self.encode_classes(self.trained_on if classes is None else classes)
            if encoded.columns is None:
                raise InputError("xrvlm can be deployed for its training classes alone, got another list")
            text = None if encoded.text is None else encoded.text[:, encoded.columns.argsort()]
        return self.relation.deployed(self.attention, text)

    @staticmethod
    def controls(config: XRVLMConfig) -> dict[str, XRVLMConfig]:
        """Without a text on the training classes; with texts that say nothing; with prompts that nothing learnt."""
        if config.head == "mlp" or config.text == "random":
            return {}
        text_free = {"mlp": replace(config, head="mlp")} if config.head in CLOSED else {}
        with_text = {"random-text": replace(config, text="random", category_part=False)}
        if config.text in ("auto", "prompts"):
            with_text["hand-prompts"] = replace(config, text="templates")
        return {**text_free, **with_text}


def _in_training_order(scene: Scene, columns: Int[Tensor, " k"]) -> Scene:
    """The same scene, its texts in the order that a closed head knows."""
    return replace(scene, text=scene.text[:, columns.argsort()]) if scene.text.shape[0] else scene


def _divergence(
    logits: Float[Tensor, "b k"], teacher: Float[Tensor, "b k"], among: Bool[Tensor, " k"]
) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence from the teacher over some of the classes, mean over images; 0 for none of them."""
    own, wanted = (x.masked_fill(~among, FAR_BELOW).log_softmax(dim=-1) for x in (logits, teacher))
    return kl_div(own, wanted, log_target=True, reduction="batchmean")
