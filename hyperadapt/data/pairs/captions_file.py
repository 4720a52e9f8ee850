"""A folder of images with a captions file: JSON lines or CSV, one caption a line."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from PIL import Image

from hyperadapt.data.decode import open_image
from hyperadapt.data.fingerprint import file_stamp, files_fingerprint
from hyperadapt.data.pairs.base import PARTS, Negative, Pairs
from hyperadapt.data.source import AbstractImageSource, Draw, Part
from hyperadapt.errors import InputError

FILES: Final = ("captions.jsonl", "captions.csv")
NO_CATEGORY: Final = "image"


@final
class CaptionedImages(AbstractImageSource):
    """The images that a captions file names; their categories, where it gives some, are the classes.

    Args:
        root: Folder that the ids are relative to.
        ids: Paths of the images.
        categories: One an image.
        facts: Whatever else identifies the data.
    """

    def __init__(self, root: Path, ids: tuple[str, ...], categories: list[str], facts: Any) -> None:
        self._root = root
        self.name = root.resolve().name
        self.ids = ids
        self.class_names = tuple(sorted(set(categories)))
        self.templates = ("a photo of a {}.",)
        self.labels = np.array([self.class_names.index(category) for category in categories], dtype=np.int64)
        self.fingerprint = files_fingerprint(root, ids, facts)

    def image(self, row: int) -> Image.Image:
        """The RGB image of a row."""
        return open_image(self._root / self.ids[row])

    def stamp(self, row: int) -> str | None:
        """Path, size and time of the last change of a row's file."""
        return file_stamp(self._root, self.ids[row])

    def draw(self, shots: int, seed: int) -> Draw:
        """Refused: the parts are those of the file."""
        raise InputError(f"{self.name} holds captions, not shots of classes; use hyperadapt bench retrieval")

    def zero_shot_part(self) -> Part:
        """All images."""
        return Part(np.arange(len(self.ids)), self.labels)

    def notices(self, shots: int) -> tuple[str, ...]:
        """None."""
        return ()


def read_captioned_images(data: Path) -> Pairs:
    """The pairs of a captions file.

    A line of `captions.jsonl` is an object with `image` (a path relative to the file) and `caption`; it may have
    `split` (train, val or test; test where it says nothing), `category`, and `negatives`, a list of captions that are
    false of the image: strings, which share its category if it has one, or objects with `caption` and `category`.
    `captions.csv` has the same columns but for the negatives. An image with several captions stands in several lines.

    Args:
        data: The folder, or the file.

    Raises:
        InputError: There is no such file, or a line is not of this form or disagrees with an earlier one about an
            image; names the line.
    """
    file = data if data.is_file() else next((data / name for name in FILES if (data / name).is_file()), None)
    if file is None:
        raise InputError(f"{data} holds no captions; retrieval needs {' or '.join(FILES)} in it, or the path of one")
    said: dict[str, tuple[str, str]] = {}
    captions, images, negatives = [], [], []
    for number, line in _lines(file):
        image, caption, part, category = _checked(line, f"{file}, line {number}")
        if said.setdefault(image, (part, category)) != (part, category):
            raise InputError(f"{file}, line {number}: {image} had another split or category in an earlier line")
        captions.append(caption)
        images.append(image)
        negatives.append(_negatives(line, category, f"{file}, line {number}"))
    if not captions:
        raise InputError(f"{file} holds no caption")
    ids = tuple(said)
    missing = next((path for path in ids if not (file.parent / path).is_file()), None)
    if missing is not None:
        raise InputError(f"{file} names the image {missing}, which is not in {file.parent}")
    place = {path: row for row, path in enumerate(ids)}
    facts = [captions, images, list(said.values()), [[vars(n) for n in own] for own in negatives]]
    source = CaptionedImages(file.parent, ids, [category for _, category in said.values()], facts)
    return Pairs(
        name=source.name,
        fingerprint=source.fingerprint,
        source=source,
        captions=tuple(captions),
        image_of=np.array([place[path] for path in images], dtype=np.int64),
        parts=np.array([PARTS.index(part) for part, _ in said.values()], dtype=np.int64),
        categories=np.where([category == NO_CATEGORY for _, category in said.values()], -1, source.labels),
        galleries=np.zeros(len(ids), dtype=np.int64),
        negatives=tuple(negatives) if any(negatives) else (),
    )


def _lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and content of each line that holds anything."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            if file.suffix == ".csv":
                for row in (reader := csv.DictReader(stream)):
                    yield reader.line_num, {key: value for key, value in row.items() if value}
                return
            for number, text in enumerate(stream, start=1):
                if text.strip():
                    line = json.loads(text)
                    yield number, line if isinstance(line, dict) else {}
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"cannot read {file}: {' '.join(str(error).split())}") from error


def _checked(line: dict[str, Any], where: str) -> tuple[str, str, str, str]:
    """Image, caption, part and category of a line."""
    image, caption = line.get("image"), line.get("caption")
    part, category = line.get("split", "test"), line.get("category", NO_CATEGORY)
    if not all(isinstance(text, str) and text.strip() for text in (image, caption, category)):
        raise InputError(f"{where} needs image and caption, and category if any, as texts, got {line!r:.120}")
    if part not in PARTS:
        raise InputError(f"{where}: split is one of {', '.join(PARTS)}, got {part!r}")
    return str(image), str(caption), part, category


def _negatives(line: dict[str, Any], category: str, where: str) -> tuple[Negative, ...]:
    given = line.get("negatives", [])
    found = [{"caption": each, "category": category} if isinstance(each, str) else each for each in given]
    if not isinstance(given, list) or not all(isinstance(e, dict) and isinstance(e.get("caption"), str) for e in found):
        raise InputError(f"{where}: negatives are a list of captions, or of objects with caption and category")
    known = category != NO_CATEGORY
    return tuple(Negative(each["caption"], known and each.get("category", category) == category) for each in found)
