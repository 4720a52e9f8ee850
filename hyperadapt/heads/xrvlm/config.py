"""Every form of XR-VLM as settings."""

from dataclasses import dataclass
from typing import Literal

from hyperadapt.errors import InputError

CLOSED = ("full", "cc", "mlp")
"""Heads that know the training classes alone."""


@dataclass(frozen=True)
class XRVLMConfig:
    """Which relation is scored how; the defaults are the published head with ours for unseen classes.

    Attributes:
        head: scores the training classes; all but the first three score any class, and then alone:
            full: the published relation, every visual part with every prompt of every class through one MLP;
            cc: the same with relations of unlike parts set to zero;
            mlp: no text, an MLP of equal width on the same visual parts: the control;
            cp, b: one small MLP for the relations of each class, of all parts or of like parts (the authors' ablation);
            pwcs: mean cosine of like parts;
            pairwise: design A, a correction of zero-shot scores from one class' cosines;
            set: design B, classes seen relative to one another, attending to the likeliest ones;
            comparison: design B', each class against the likeliest ones by an odd function of their difference;
            generated: design C, the published relation to the training classes, read by weights made from text.
        unseen: how lists with a class that was not trained are scored where `head` knows the training classes alone;
            trained beside it.
        visual_parts: attention maps pooled into visual parts; stored features without positions give one part.
        text_parts: prompts (templates, attributes) a class.
        text: "prompts" learned through the text tower, frozen "templates", "attributes" that the adapter attached,
            or "random" fixed vectors by class name, the control; "auto" takes prompts where a text tower is at hand
            and templates where only stored features are.
        category_part: the adapter's class feature as one more text part.
        contexts: learned tokens before the class name: "residual" has shared ones and a residual a training class,
            "shared" has no residual, "class" has tokens for each training class alone, as published, so that every head
            knows the training classes alone.
        context_length: learned tokens in each prompt (16 as published).
        fixed_tokens: of "class" contexts: so many of them are shared by all classes.
        class_dropout: chance that a class goes through a training step with the shared contexts alone, as unseen
            classes always do.
        class_subsets: unseen classes' heads are trained among the classes of the batch and a random part, between a
            quarter and all, of the others.
        distill: weight of the divergence from zero-shot CLIP over a random third of the classes without residuals.
        hidden: width of the hidden layer of "full", "cc", "mlp" and "generated".
        pair_hidden: width of the small MLP of "cp", "b", "pairwise" and "comparison".
        width: of a class token in "set".
        candidates: how many of the likeliest classes "set" attends to and "comparison" compares with.
        layers, attention_heads: of attention in "set"; without layers, classes do not ask one another.
        standing: whether "set" sees relations relative to their mean and spread over the listed classes.
        projection: what "set" and "comparison" learn beside the cosines: cosines behind an "identity"-near map of the
            visual parts, or products of visual and text parts mapped to "half" their width.
        map_penalty: weight of the squared distance of that map from the identity, over the number of training images.
        rank: of the weight generator of "generated".
    """

    head: Literal["full", "cc", "mlp", "cp", "b", "pwcs", "pairwise", "set", "comparison", "generated"] = "full"
    unseen: Literal["zero-shot", "pairwise", "set", "comparison", "generated"] = "set"
    visual_parts: int = 4
    text_parts: int = 4
    text: Literal["auto", "prompts", "templates", "attributes", "random"] = "auto"
    category_part: bool = False
    contexts: Literal["residual", "shared", "class"] = "residual"
    context_length: int = 4
    fixed_tokens: int = 0
    class_dropout: float = 0.5
    class_subsets: bool = True
    distill: float = 0.0
    hidden: int = 1024
    pair_hidden: int = 8
    width: int = 64
    candidates: int = 16
    layers: int = 1
    attention_heads: int = 4
    standing: bool = True
    projection: Literal["identity", "half"] = "identity"
    map_penalty: float = 1.0
    rank: int = 32

    def __post_init__(self) -> None:
        sizes = (self.visual_parts, self.text_parts, self.context_length, self.hidden, self.pair_hidden)
        more = (self.candidates, self.layers + 1, self.attention_heads, self.rank)
        needs = {
            "visual_parts, text_parts, context_length, hidden, pair_hidden, candidates, attention_heads and rank "
            ">= 1, layers >= 0": min(*sizes, *more) >= 1,
            "width to be a multiple of attention_heads": self.width >= 1 and self.width % self.attention_heads == 0,
            "class_dropout in [0, 1)": 0 <= self.class_dropout < 1,
            "distill and map_penalty >= 0": min(self.distill, self.map_penalty) >= 0,
            "fixed_tokens from 0 to context_length, and 0 unless contexts is class": (
                0 <= self.fixed_tokens <= self.context_length * (self.contexts == "class")
            ),
            "unseen zero-shot where contexts is class, for other classes have none": (
                self.contexts != "class" or self.unseen == "zero-shot"
            ),
        }
        for need, met in needs.items():
            if not met:
                given = {name: value for name, value in vars(self).items() if name in need.replace(",", " ").split()}
                raise InputError(f"xrvlm needs {need}, got {', '.join(f'{k} {v}' for k, v in given.items())}")

    @property
    def closed(self) -> bool:
        """Whether the head knows the training classes alone, so that it must be told which classes a test set holds."""
        return self.head in CLOSED or self.contexts == "class"

    @property
    def open_head(self) -> str | None:
        """The head for lists with unseen classes; None where zero-shot scores serve them."""
        if not self.closed:
            return self.head
        return None if self.unseen == "zero-shot" else self.unseen

    @property
    def novel(self) -> str:
        """How classes without training images are scored, in words."""
        rules = {
            None: "zero-shot, in any list but that of the training classes",
            "cp": "one relation head for every class",
            "b": "one relation head for every class",
            "pwcs": "mean cosine of like parts",
            "pairwise": "one pairwise head for every class, on zero-shot scores",
            "set": "one set-equivariant head for any list, on zero-shot scores",
            "comparison": "one comparison head for any list, on zero-shot scores",
            "generated": "weights made from text, on zero-shot scores",
        }
        return ("another head: " if self.closed and self.open_head else "") + rules[self.open_head]
