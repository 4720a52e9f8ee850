"""What decides a stored feature beside the image and the view: weights, structure, preprocessing, precision."""

import hashlib
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from hyperadapt.backbone import Backbone
from hyperadapt.views import AUGMENTATION

PROBE_SIZES = ((97, 61), (224, 224), (300, 500))
"""Width and height of the images by which a preprocessing is known, pixels."""


def feature_key(backbone: Backbone) -> dict[str, Any] | None:
    """Plain data that is equal exactly where the same image gives the same features.

    Weights alone do not decide: GELU and QuickGELU towers share them. A preprocessing is known by what it does to a few
    fixed images, for it may be any callable.

    Args:
        backbone: the tower with its preprocessing.

    Returns:
        None when nothing may be stored, because the preprocessing gives other pixels each time.
    """
    preprocessing = _preprocessing(backbone)
    if preprocessing is None:
        return None
    visual = backbone.model.visual
    return {
        "weights": backbone.fingerprint,
        "structure": hashlib.sha256(_structure(visual).encode()).hexdigest(),
        "preprocessing": preprocessing,
        "image_size": backbone.image_size,
        "precision": f"{next(visual.parameters()).dtype} on {backbone.device.type}",
        "augmentation": AUGMENTATION,
    }


def _preprocessing(backbone: Backbone) -> str | None:
    """Hex sha256 of the results for fixed noise images, or None when they differ from call to call."""
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in PROBE_SIZES]
    first, second = ([backbone.preprocess(Image.fromarray(pixels)) for pixels in noise] for _ in range(2))
    if not all(torch.equal(one, other) for one, other in zip(first, second, strict=True)):
        return None
    digest = hashlib.sha256()
    for pixels in first:
        digest.update(f"{pixels.dtype}{tuple(pixels.shape)}".encode())
        digest.update(pixels.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _structure(visual: nn.Module) -> str:
    """Every module with its type and its plain settings."""
    lines = []
    for name, module in visual.named_modules():
        settings = {
            key: value
            for key, value in sorted(vars(module).items())
            if not key.startswith("_") and key != "training" and isinstance(value, bool | int | float | str)
        }
        lines.append(f"{name} {type(module).__qualname__} {settings}")
    return "\n".join(lines)
