"""What a CLIP of the world can do: zero-shot and linear-probe accuracy on the data sets' test parts."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn.functional import normalize

from hyperadapt.data.source import Part
from hyperadapt.data.world import WorldSource

_BATCH = 200
_PROBE_STRENGTHS = (10.0, 100.0, 1000.0)


@torch.no_grad()
def text_features(model: Any, tokenizer: Any, source: WorldSource) -> Float[Tensor, "K D"]:
    """Class features of unit length: the mean over the data set's ensemble of templates."""
    rows = []
    for name in source.class_names:
        features = model.encode_text(tokenizer([template.format(name) for template in source.templates]))
        rows.append(normalize(normalize(features, dim=-1).mean(0), dim=-1))
    return torch.stack(rows)


@torch.no_grad()
def image_features(
    model: Any, preprocess: Callable[[Image.Image], Tensor], source: WorldSource, rows: Sequence[int] | np.ndarray
) -> Float[Tensor, "N D"]:
    """Image features of unit length for rows of the source's pool."""
    pieces = []
    for start in range(0, len(rows), _BATCH):
        batch = torch.stack([preprocess(source.image(int(row))) for row in rows[start : start + _BATCH]])
        pieces.append(normalize(model.encode_image(batch), dim=-1))
    return torch.cat(pieces)


def _top1(logits: Float[Tensor, "N K"], labels: np.ndarray, keep: np.ndarray) -> float:
    """Accuracy among the classes `keep`, on the rows of these classes."""
    rows = np.flatnonzero(np.isin(labels, keep))
    guess = keep[logits[rows][:, keep].argmax(dim=1).numpy()]
    return round(float((guess == labels[rows]).mean()), 4)


def zero_shot(images: Float[Tensor, "N D"], texts: Float[Tensor, "K D"], labels: np.ndarray) -> dict[str, float]:
    """Top-1 accuracy in [0, 1] among all classes, and of each half among its own names.

    Example:
        >>> eye = torch.eye(4)
        >>> zero_shot(eye, eye, np.arange(4))
        {'all': 1.0, 'base': 1.0, 'novel': 1.0}
    """
    logits, count = images @ texts.T, len(texts)
    half = (count + 1) // 2
    groups = {"all": np.arange(count), "base": np.arange(half), "novel": np.arange(half, count)}
    return {name: _top1(logits, labels, keep) for name, keep in groups.items()}


def linear_probe(
    features: Callable[[np.ndarray], Float[Tensor, "N D"]], train: Part, val: Part, test: Float[Tensor, "M D"],
    test_labels: np.ndarray,
) -> float:  # fmt: skip
    """Test accuracy of logistic regression on image features; its strength is chosen on the validation part."""
    seen, held = features(train.rows).numpy(), features(val.rows).numpy()
    fits = [LogisticRegression(C=strength, max_iter=2000).fit(seen, train.labels) for strength in _PROBE_STRENGTHS]
    best = max(fits, key=lambda fit: fit.score(held, val.labels))
    return round(float(best.score(test.numpy(), test_labels)), 4)


def measure(
    model: nn.Module, preprocess: Callable[[Image.Image], Tensor], tokenizer: Any, source: WorldSource,
    probe_shots: int | None = None,
) -> dict[str, float]:  # fmt: skip
    """Zero-shot accuracies on the test part and, where `probe_shots` is given, a linear probe's (draw of seed 1)."""
    draw = source.draw(probe_shots or 1, seed=1)
    images = image_features(model, preprocess, source, draw.test.rows)
    result = zero_shot(images, text_features(model, tokenizer, source), draw.test.labels)
    if probe_shots:
        probe = linear_probe(
            lambda rows: image_features(model, preprocess, source, rows), draw.train, draw.val, images, draw.test.labels
        )
        result[f"probe_{probe_shots}_shot"] = probe
    return result
