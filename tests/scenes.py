"""Small data sets written to disk for tests: feature sets with structure, and image folders."""

import json

import numpy as np
from PIL import Image

CLASS_NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


def write_features(folder, per_class=16, width=24, seed=0, **changed):
    """A pool of class clusters, texts roughly at them; `changed` replaces arrays or drops them (None)."""
    rng = np.random.default_rng(seed)
    count = len(CLASS_NAMES)
    centres = rng.normal(size=(count, width)) + 1.5 * rng.normal(size=width)
    labels = np.repeat(np.arange(count), per_class)
    images = centres[labels] + 0.9 * rng.normal(size=(len(labels), width))
    texts = centres[None] + 6.0 * rng.normal(size=(5, count, width))
    arrays = {"images": images.astype(np.float16), "labels": labels.astype(np.int16), "texts": texts.astype(np.float16)}
    arrays.update(changed)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "features.npz", **{k: v for k, v in arrays.items() if v is not None})
    meta = {"classes": list(CLASS_NAMES), "templates": [f"template {i} {{}}" for i in range(5)], "val_per_class": 2}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def write_images(folder, class_names=CLASS_NAMES[:4], per_class=8, size=48):
    """Noisy one-coloured photographs, one folder a class."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(class_names):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            colour = np.array([60 * k, 255 - 60 * k, 40 * (i % 3)])
            pixels = np.clip(colour + rng.normal(scale=30, size=(size, size + 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.png")
    return folder
