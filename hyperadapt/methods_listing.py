"""What `hyperadapt methods` shows: sources, kinds, trained parameters and flags of every method."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP
from torch import nn

from hyperadapt.adapters.base import BuildContext
from hyperadapt.methods import Method
from hyperadapt.model import build_model
from hyperadapt.text import ClassText
from hyperadapt.text_tower import TextTower

TOWER, PART_WIDTH, EMBED_DIM = "ViT-B-16", 768, 512
CLASSES, SHOTS = 100, 16
FEATURES = "feature space"
TOWERS = "through the towers"


@dataclass(frozen=True)
class MethodFacts:
    """One method as it is listed.

    Attributes:
        kind: whether it works on features alone or learns through a tower, and which positions it reads.
        parameters: trained values at `TOWER`, with `CLASSES` classes of `SHOTS` shots.
        kept: values of a saved model that are not trained, most of them computed from the shots.
        flags: what must be known of it beside its figures; empty for most.
    """

    kind: str
    parameters: int
    kept: int
    flags: tuple[str, ...]


@cache
def _shapes(with_tower: bool) -> BuildContext:
    """Classes and texts without values; a text tower of zeros in its first layer, for contexts that start at words."""
    tower = None
    if with_tower:
        with torch.device("meta"):
            config: Any = open_clip.get_model_config(TOWER)
            model = CLIP(**config)
        for owner, name in ((model, "positional_embedding"), (model.token_embedding, "weight")):
            zeros = torch.zeros(1, 1).expand(getattr(owner, name).shape)
            setattr(owner, name, nn.Parameter(zeros, requires_grad=False))
        tower = TextTower(model, open_clip.get_tokenizer(TOWER))
    templates = torch.zeros(1, CLASSES, EMBED_DIM, device="meta")
    classes = ClassText(tuple(f"class {i}" for i in range(CLASSES)), templates, templates[0], tower)
    return BuildContext(classes, EMBED_DIM, PART_WIDTH, 100.0, CLASSES * SHOTS, (SHOTS,) * CLASSES)


def counted(method: Method, context: BuildContext) -> tuple[int, int]:
    """How many values training changes, and how many a saved model holds beside them.

    Args:
        method: any.
        context: what it is built on; tensors without values will do.
    """
    model = build_model(method, context, seed=0)
    trained = sum(p.numel() for p in model.trainable) if method.training is not None else 0
    return trained, sum(tensor.numel() for tensor in model.state_dict().values()) - trained


def facts_of_method(method: Method) -> MethodFacts:
    """What is listed of a method.

    Args:
        method: any; it is built on shapes, so that no weights of a tower are needed.
    """
    parameters, kept = counted(method, _shapes(with_tower=True))
    kind = TOWERS
    if not method.needs_tower:
        alone, _ = counted(method, _shapes(with_tower=False))
        kind = FEATURES if alone == parameters else f"{TOWERS}; in feature space where features are all there is"
    if method.pools_parts:
        kind += "; reads positions of images where there are some"
    told = {
        "must be told which classes a test set holds": method.knows_split,
        "chooses settings on validation images of the training classes": method.selects,
        "sees unlabelled or novel data": method.sees_unlabelled_or_novel_data,
    }
    return MethodFacts(kind, parameters, kept, tuple(flag for flag, holds in told.items() if holds))


def listed(method: Method) -> list[str]:
    """The lines under a method's name.

    Example:
        >>> from hyperadapt.methods import load_method
        >>> listed(load_method("taskres"))[1:3]
        ['kind: feature space', 'trained: 51,200 values at ViT-B-16, 16 shots of 100 classes']
    """
    facts = facts_of_method(method)
    lines = [f"source: {method.source}", f"kind: {facts.kind}"]
    kept = f" (and {facts.kept:,} kept)" if facts.kept else ""
    lines.append(f"trained: {facts.parameters:,} values{kept} at {TOWER}, {SHOTS} shots of {CLASSES} classes")
    lines.append(f"new classes: {method.novel}")
    return [*lines, *(["flags: " + "; ".join(facts.flags)] if facts.flags else [])]
