"""Train a method on pairs, and score it: the same adapters, loop and checkpoints as for classes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.captions import CaptionPool
from hyperadapt.data import AbstractImageSource
from hyperadapt.data.pairs import PairPart, Pairs
from hyperadapt.errors import InputError
from hyperadapt.methods import Method
from hyperadapt.model import FewShotModel
from hyperadapt.registry import component
from hyperadapt.retrieval.contrastive import Contrastive
from hyperadapt.retrieval.features import AbstractPairFeatures
from hyperadapt.retrieval.recall import Recall, recall_in_galleries
from hyperadapt.training import RunFolder, TrainingSet, train

TEXT_BATCH = 1024
"""Captions that an adapter sees at once in scoring."""


@dataclass(frozen=True)
class FittedPairs:
    """What became of a method and its pairs.

    Attributes:
        model: in evaluation mode.
        history: mean loss terms over ten stretches of training; empty where nothing was trained.
        images: number of training images.
    """

    model: FewShotModel
    history: list[dict[str, float]]
    images: int


def _silent(_done: int, _total: int) -> None:
    """No progress report."""


def build_pair_model(method: Method, features: AbstractPairFeatures, seed: int, images: int = 1) -> FewShotModel:
    """The untrained model of a method on pairs: its adapter, before cosine scores.

    Args:
        method: any whose adapter takes each text and each image by itself.
        features: of the pairs.
        seed: of initial values.
        images: how many will be trained on.

    Raises:
        InputError: for another method.
    """
    if not method.takes_captions:
        raise InputError(
            f"{method.name} is not for captions: retrieval takes adapters that change each text and each image by "
            "itself, before cosine scores, such as zero-shot, clip-adapter-both, coop and dcar"
        )
    one = features.texts(np.zeros(1, dtype=np.int64))  # captions are no classes to build anything for
    context = BuildContext(one, one.weights.shape[1], None, features.logit_scale, images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter = component(method.adapter.type, "adapter").module(method.adapter.settings, context)
    return FewShotModel(adapter, Contrastive(features.logit_scale)).to(features.device)


def fit_pairs(
    method: Method,
    features: AbstractPairFeatures,
    seed: int,
    progress: Callable[[int, int], None] = _silent,
    run: RunFolder | None = None,
) -> FittedPairs:
    """Train a method on the training pairs; no other pair is at hand here.

    Args:
        method: what to train.
        features: of the pairs.
        seed: of initial values, batches, captions and augmentations.
        progress: called with (steps done, steps in all).
        run: where training can be stopped and go on.
    """
    if not method.learns:
        return FittedPairs(build_pair_model(method, features, seed).eval(), [], 0)
    part = features.pairs.part("train")
    told = np.flatnonzero(np.bincount(part.image_of, minlength=len(part.rows)))  # images that have a caption
    rows, image_of = part.rows[told], torch.from_numpy(np.searchsorted(told, part.image_of))
    model = build_pair_model(method, features, seed, len(rows)).eval()
    images = features.training_views(rows, seed, model.reads_pixels, progress)
    captions, negatives = features.texts(part.captions), features.pairs.negatives
    pool = CaptionPool(
        captions,
        image_of,
        images.pooled[: len(rows)],
        torch.from_numpy(features.pairs.categories[rows]).to(features.device),
        [negatives[i] for i in part.captions.tolist()] if negatives else (),
    )
    labels = torch.from_numpy(_turns(features.pairs)[rows]).to(features.device)
    data = TrainingSet(images, labels, captions, _names(features.pairs, rows), pool)
    model.prepare(images, labels, captions)
    history = train(model, data, method.training, seed, progress, run=run) if method.training else []
    return FittedPairs(model.eval(), history, len(rows))


def _turns(pairs: Pairs) -> np.ndarray:
    """What a balanced sampler takes in turn: classes, where the images have some."""
    return pairs.source.labels if isinstance(pairs.source, AbstractImageSource) else pairs.categories


def _names(pairs: Pairs, rows: np.ndarray) -> list[str]:
    ids = pairs.source.ids if isinstance(pairs.source, AbstractImageSource) else None
    return [ids[row] if ids else f"row {row}" for row in rows.tolist()]


@torch.no_grad()
def embedded(
    model: FewShotModel, features: AbstractPairFeatures, part: PairPart
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Adapted images and captions of a part.

    Args:
        model: trained.
        features: of the pairs.
        part: of the pairs.
    """
    model.eval()
    chunks = [part.captions[at : at + TEXT_BATCH] for at in range(0, len(part), TEXT_BATCH)]
    adapted = [model.adapter.adapt_classes(features.texts(chunk)) for chunk in chunks]
    batches = features.batches(part.rows, model.reads_pixels)
    images = ImageFeatures.cat([ImageFeatures(model.adapter.adapt_images(b, adapted[0]).pooled) for b in batches])
    return images.pooled, torch.cat([classes.weights for classes in adapted])


def score_pairs(model: FewShotModel, features: AbstractPairFeatures, part: PairPart) -> Recall:
    """Recall in both directions on a part.

    Args:
        model: trained.
        features: of the pairs.
        part: of the pairs.
    """
    images, captions = embedded(model, features, part)
    galleries = torch.from_numpy(features.pairs.galleries[part.rows]).to(images.device)
    return recall_in_galleries(images, captions, torch.from_numpy(part.image_of).to(images.device), galleries)
