"""The world's data sets as image sources with a given split."""

import hashlib
import json
from typing import Final, final

import numpy as np
from PIL import Image

from hyperadapt.data.draws import coop_draw
from hyperadapt.data.source import AbstractImageSource, Draw, Part
from hyperadapt.data.world.captions import TEMPLATES, template
from hyperadapt.data.world.images import world_pixels
from hyperadapt.data.world.taxonomy import Family
from hyperadapt.errors import InputError
from hyperadapt.hierarchy import ClassTree, class_tree

GENERATOR_VERSION: Final = 1
PER_CLASS: Final = {"train": 24, "val": 8, "test": 20}
"""Pictures of every class in each part; rows of the pool follow this order of parts."""


@final
class WorldSource(AbstractImageSource):
    """One data set of the embedded world, drawn on demand.

    Labels are alphabetical by class name, so that the first half (base) and the second half (novel) both hold most
    coarse kinds and no fine class in common.

    Args:
        family: The data set's classes and painter.
        shift: Name of a shifted domain, or None.

    Attributes:
        taxonomy: Class name to (coarse, superordinate).
        class_attributes: Class name to its attributes; "kind" is the coarse name.

    Example:
        >>> from hyperadapt.data.world import load_world
        >>> source = load_world("birds")
        >>> source.image(0).size, len(source.draw(4, 1).train)
        ((64, 64), 160)
    """

    def __init__(self, family: Family, shift: str | None = None) -> None:
        self._family, self._shift = family, shift
        self.name = family.name if shift is None else f"{family.name}-{shift}"
        self.class_names = tuple(fine.name for fine in family.fine)
        self.templates = (template(family.noun), *TEMPLATES)
        self.taxonomy = {fine.name: (fine.coarse, fine.superordinate) for fine in family.fine}
        self.tree = _tree(family)
        self.class_attributes = {fine.name: dict(fine.attributes) for fine in family.fine}
        self._address = [
            (part, label, index)
            for part, count in PER_CLASS.items()
            for label in range(len(family.fine))
            for index in range(count)
        ]
        self.ids = tuple(f"{part}/{family.fine[label].slug}/{index:03d}" for part, label, index in self._address)
        self.labels = np.array([label for _, label, _ in self._address], dtype=np.int64)
        self._parts = {part: self._part(part) for part in PER_CLASS}
        self.fingerprint = self._fingerprint()

    def image(self, row: int) -> Image.Image:
        """The 64 by 64 picture of a pool row; equal rows give equal pixels.

        Raises:
            InputError: The row is not in the pool.
        """
        return Image.fromarray(self.pixels(row))

    def stamp(self, row: int) -> str:
        """The data set's fingerprint and the row: the picture is a function of both."""
        return f"{self.fingerprint}/{row}"

    def pixels(self, row: int) -> np.ndarray:
        """The picture of a pool row as uint8 (64, 64, 3).

        Raises:
            InputError: The row is not in the pool.
        """
        if not 0 <= row < len(self._address):
            raise InputError(
                f"{self.name} has rows 0 to {len(self._address) - 1}, got {row}; take rows from draw() or ids"
            )
        part, label, index = self._address[row]
        return world_pixels(self._family, part, label, index, self._shift)

    @property
    def split_sizes(self) -> tuple[int, int, int]:
        """The pool is the training, the validation and the test part."""
        return len(self._parts["train"]), len(self._parts["val"]), len(self._parts["test"])

    def draw(self, shots: int, seed: int) -> Draw:
        """CoOp's draw from the given train and val parts; the test part is always whole."""
        train, val = self._parts["train"], self._parts["val"]
        train_at, val_at = coop_draw(train.labels.tolist(), val.labels.tolist(), shots, seed)
        return Draw(_pick(train, train_at), _pick(val, val_at), self._parts["test"])

    def zero_shot_part(self) -> Part:
        """The test part."""
        return self._parts["test"]

    def notices(self, shots: int) -> tuple[str, ...]:
        """Says when the classes have fewer training pictures than shots."""
        most = PER_CLASS["train"]
        if shots <= most:
            return ()
        return (f"{self.name}: every class has {most} training images, fewer than {shots} shots; all {most} are used.",)

    def _part(self, part: str) -> Part:
        rows = [row for row, address in enumerate(self._address) if address[0] == part]
        return Part(np.array(rows, dtype=np.int64), self.labels[rows])

    def _fingerprint(self) -> str:
        """Hash of the generator's version, the classes, the parts and the pixels of one picture a coarse kind."""
        classes = [[fine.name, fine.superordinate, dict(fine.attributes)] for fine in self._family.fine]
        digest = hashlib.sha256(json.dumps([GENERATOR_VERSION, self.name, classes, PER_CLASS]).encode())
        sampled: set[str] = set()
        for row in self._parts["test"].rows[:: PER_CLASS["test"]]:
            kind = self._family.fine[self._address[row][1]].coarse
            if kind not in sampled:
                sampled.add(kind)
                digest.update((self.pixels(int(row)) >> 4).tobytes())
        return digest.hexdigest()


def _tree(family: Family) -> ClassTree:
    """Superordinate groups, their kinds, and the classes of these."""
    edges = [("", f"group {group}") for group in family.groups]
    edges += [(f"group {group}", f"kind {kind}") for group, kinds in family.groups.items() for kind in kinds]
    edges += [(f"kind {fine.coarse}", fine.name) for fine in family.fine]
    return class_tree(edges, [fine.name for fine in family.fine], family.name)


def _pick(part: Part, positions: list[int]) -> Part:
    at = np.array(positions, dtype=np.int64)
    return Part(part.rows[at], part.labels[at])
