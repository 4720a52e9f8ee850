"""Pictures of an embedded world with captions of their attributes, and captions that are false of them."""

from typing import Final

import numpy as np

from hyperadapt.data.pairs.base import PARTS, Negative, Pairs
from hyperadapt.data.world import FAMILIES, Family, load_world
from hyperadapt.data.world.captions import captions_of, falsified

CAPTIONS_EACH: Final = 5
"""As in COCO."""
NEGATIVES_EACH: Final = 4
"""Of each caption, as in DCAR; every second one has another kind, the others another attribute."""


def world_pairs(name: str) -> Pairs:
    """The pictures of a world's parts with five captions each, drawn from the pictures' own seeds.

    A caption states some attributes, which all pictures of a class share, so it tells classes apart and not pictures:
    pictures of a class are put into galleries of their own, one of each class in every gallery. The category is the
    coarse kind.

    Args:
        name: Of a data set or a shifted domain.

    Raises:
        InputError: There is no such data set.
    """
    source, family = load_world(name), FAMILIES[name.partition("-")[0]]
    kinds = sorted({fine.coarse for fine in family.fine})
    captions: list[str] = []
    negatives: list[tuple[Negative, ...]] = []
    parts, galleries = (np.zeros(len(source.ids), dtype=np.int64) for _ in range(2))
    for row, (address, label) in enumerate(zip(source.ids, source.labels.tolist(), strict=True)):
        part, _, index = address.split("/")
        parts[row], galleries[row] = PARTS.index(part), int(index)
        own = captions_of(family, part, label, int(index), CAPTIONS_EACH)
        captions += own
        rng = np.random.default_rng([family.code, row])
        negatives += [_false(family, caption, rng) if part == "train" else () for caption in own]
    return Pairs(
        name=source.name,
        fingerprint=source.fingerprint,
        source=source,
        captions=tuple(captions),
        image_of=np.repeat(np.arange(len(source.ids)), CAPTIONS_EACH),
        parts=parts,
        categories=np.array([kinds.index(family.fine[label].coarse) for label in source.labels]),
        galleries=galleries,
        negatives=tuple(negatives),
    )


def _false(family: Family, caption: str, rng: np.random.Generator) -> tuple[Negative, ...]:
    found = [falsified(family, caption, number % 2 == 0, rng) for number in range(NEGATIVES_EACH)]
    return tuple(Negative(text, not other_kind) for text, other_kind in found)
