"""Features of pairs, made beforehand: `features.npz` and `meta.json`, as for classes but with captions."""

from hashlib import sha256
from pathlib import Path

import numpy as np

from hyperadapt.data.feature_file import meta_value, read_arrays, read_meta, unit_rows
from hyperadapt.data.pairs.base import PARTS, Pairs, PairVectors
from hyperadapt.errors import InputError


def read_pair_features(folder: Path) -> Pairs:
    """The pairs of a feature folder.

    `features.npz` holds `images` (N, D) and `captions` (M, D). Where M is not N, or the order is another, `image_of`
    (M,) gives the image row of each caption. `parts` (N,), 0 to 2 for train, val and test, is for methods that train;
    without it all pairs are for testing. `meta.json` may name `backbone`, `pretrained` and `logit_scale`.

    Args:
        folder: That holds the two files.

    Raises:
        InputError: A file or array is absent or damaged, or two of them do not fit.
    """
    file, meta, arrays = folder / "meta.json", read_meta(folder), read_arrays(folder)
    for name in ("images", "captions"):
        if name not in arrays or arrays[name].ndim != 2:
            raise InputError(f"{folder / 'features.npz'} needs {name} as (rows, width); pairs are images and captions")
    images, captions = (unit_rows(arrays[name], name) for name in ("images", "captions"))
    if images.shape[1] != captions.shape[1]:
        raise InputError(
            f"images are {images.shape[1]} wide and captions {captions.shape[1]} in {folder}: one space only"
        )
    image_of = arrays.get("image_of", np.arange(len(captions)))
    parts = arrays.get("parts", np.full(len(images), PARTS.index("test")))
    _check(image_of, "image_of", len(captions), len(images), folder)
    _check(parts, "parts", len(images), len(PARTS), folder)
    digest = sha256()
    for array in (images, captions, image_of.astype(np.int64), parts.astype(np.int64)):
        digest.update(array.tobytes())
    backbone = f"{meta_value(meta, 'backbone', '', None, file)}:{meta_value(meta, 'pretrained', '', None, file)}"
    scale = meta_value(meta, "logit_scale", 100.0, 0.0, file)
    return Pairs(
        name=folder.resolve().name,
        fingerprint=digest.hexdigest(),
        source=PairVectors(images, captions, backbone, scale),
        captions=tuple(f"caption {i}" for i in range(len(captions))),
        image_of=image_of.astype(np.int64),
        parts=parts.astype(np.int64),
        categories=np.full(len(images), -1, dtype=np.int64),
        galleries=np.zeros(len(images), dtype=np.int64),
    )


def _check(array: np.ndarray, name: str, rows: int, bound: int, folder: Path) -> None:
    fits = array.dtype.kind in "iu" and array.shape == (rows,)
    if not fits or (rows and not 0 <= int(array.min()) <= int(array.max()) < bound):
        raise InputError(
            f"{name} in {folder} must hold {rows} integers in 0..{bound - 1}, got shape {array.shape} of {array.dtype}"
            + (f" from {array.min()} to {array.max()}" if fits else "")
        )
