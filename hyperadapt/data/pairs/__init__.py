"""Images with captions, for retrieval: of an embedded world, of a folder with a captions file, of stored features."""

from pathlib import Path

from hyperadapt.data.pairs.base import Negative, PairPart, Pairs, PairVectors
from hyperadapt.data.pairs.captions_file import read_captioned_images
from hyperadapt.data.pairs.feature_pairs import read_pair_features
from hyperadapt.data.pairs.world_pairs import world_pairs
from hyperadapt.errors import InputError

__all__ = ["Negative", "PairPart", "PairVectors", "Pairs", "load_pairs"]


def load_pairs(
    *, features: str | Path | None = None, data: str | Path | None = None, world: str | None = None
) -> Pairs:
    """The pairs that exactly one of three arguments names.

    Args:
        features: A folder of features.npz and meta.json, see `feature_pairs`.
        data: A folder with captions.jsonl or captions.csv, or the path of such a file, see `captions_file`.
        world: Name of an embedded world, or of a shifted domain of it.

    Raises:
        InputError: None or several are given, or what is given cannot be used.

    Example:
        >>> load_pairs(world="birds").part("test").image_of.shape
        (4000,)
    """
    asked = {"features": features, "data": data, "world": world}
    given = [f"{key}={value}" for key, value in asked.items() if value is not None]
    if len(given) != 1:
        raise InputError(f"give exactly one of features, data and world, got {', '.join(given) or 'none'}")
    if features is not None:
        return read_pair_features(Path(features))
    return world_pairs(world) if world is not None else read_captioned_images(Path(str(data)))
