"""CoOp's layout: a folder with one `split_zhou_*.json` and the images it names."""

import json
import os
import posixpath
from collections import Counter
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from hyperadapt.data.catalog import CatalogRow, find_row, template_for
from hyperadapt.data.decode import open_image
from hyperadapt.data.draws import check_request, coop_draw
from hyperadapt.data.fingerprint import file_stamp, files_fingerprint
from hyperadapt.data.notices import check_class_count, counted, few_shots_notice, listed, shared_name_notice
from hyperadapt.data.source import AbstractImageSource, Draw, Part
from hyperadapt.errors import InputError

SPLIT_PATTERN = "split_zhou_*.json"
PARTS = ("train", "val", "test")
_PROBES = 32


class _Item(NamedTuple):
    path: str
    label: int
    name: str


class SplitFileSource(AbstractImageSource):
    """Images named by one of CoOp's split files, with CoOp's few-shot draws.

    The pool holds the training, validation and test list of the file, one after the other. Paths begin at the image
    folder: the one the catalog knows for this split file, else `root`, else the sub-folder that holds the images.

    Args:
        root: The folder that holds the split file, or the split file itself where the folder holds several.

    Attributes:
        name: CoOp's name of the data set where the catalog knows the file, else what follows `split_zhou_`.
        class_names: The names in the file, underscores read as spaces.
        templates: The catalog's template, or the default one.
        ids: Paths as written in the file.
        image_dir: The folder at which the paths begin.
        fingerprint: sha256 over the three lists and the sizes of the files.

    Raises:
        InputError: The file is absent, malformed or ambiguous, or names images that are not there.

    Example:
        >>> source = SplitFileSource("oxford_flowers")  # doctest: +SKIP
        >>> source.draw(shots=16, seed=1).train.rows.shape  # doctest: +SKIP
        (1632,)

    Source: "Learning to Prompt for Vision-Language Models" (arXiv 2109.01134), its data sets and released splits.
    """

    def __init__(self, root: str | Path) -> None:
        split_file = _find_split_file(Path(root))
        parts = _read_split(split_file)
        items = [item for part in PARTS for item in parts[part]]
        self._catalog_row = find_row(split_file.name)
        self.name = self._catalog_row.name if self._catalog_row else split_file.stem.removeprefix("split_zhou_")
        self.class_names = _class_names(items, split_file)
        self.templates = (template_for(split_file.name),)
        self.ids = tuple(item.path for item in items)
        self.image_dir = _find_image_dir(split_file.parent, self._catalog_row, self.ids)
        _check_images_exist(self.image_dir, self.ids, split_file)
        self.fingerprint = files_fingerprint(self.image_dir, self.ids, parts)
        self._labels = np.array([item.label for item in items], dtype=np.int64)
        self._sizes = [len(parts[part]) for part in PARTS]
        untrained = sorted(set(range(len(self.class_names))) - set(self._labels_of(0).tolist()))
        if untrained:
            raise InputError(
                f"{split_file} gives {counted(len(untrained), 'class', 'classes')} no training image "
                f"({listed(self.class_names[label] for label in untrained)}); every class needs at least one"
            )

    def draw(self, shots: int, seed: int) -> Draw:
        """CoOp's draw; validation has at most `min(shots, 4)` images a class, test is the whole test list.

        Args:
            shots: Training images a class, at least 1.
            seed: CoOp's tables use 1, 2 and 3.

        Raises:
            InputError: `shots` is below 1, or either number is no int.
        """
        train, val = coop_draw(self._labels_of(0), self._labels_of(1), shots, seed)
        val_start, test_start = self._sizes[0], self._sizes[0] + self._sizes[1]
        return Draw(
            self._part(np.array(train, dtype=np.int64)),
            self._part(np.array(val, dtype=np.int64) + val_start),
            self._part(np.arange(test_start, len(self.ids), dtype=np.int64)),
        )

    def zero_shot_part(self) -> Part:
        """The test list."""
        return self._part(np.arange(self._sizes[0] + self._sizes[1], len(self.ids), dtype=np.int64))

    def notices(self, shots: int) -> tuple[str, ...]:
        """Tells of classes with fewer images than shots, of an empty validation list, and of other counts than CoOp's.

        Raises:
            InputError: `shots` is below 1.
        """
        check_request(shots, seed=0)
        sizes = np.bincount(self._labels_of(0), minlength=len(self.class_names)).tolist()
        sentences = few_shots_notice(sizes, self.class_names, shots) + shared_name_notice(self.class_names)
        if not self._sizes[1]:
            sentences.append(f"the split of {self.name} has no validation images: nothing can be selected on them")
        return (*sentences, *self._count_notice())

    def image(self, row: int) -> Image.Image:
        """The RGB image of a pool row.

        Raises:
            InputError: The file cannot be decoded.
        """
        return open_image(self.image_dir / self.ids[row])

    def stamp(self, row: int) -> str | None:
        """Path, size and time of the last change of a row's file."""
        return file_stamp(self.image_dir, self.ids[row])

    def _labels_of(self, part: int) -> np.ndarray:
        start = sum(self._sizes[:part])
        return self._labels[start : start + self._sizes[part]]

    def _part(self, rows: np.ndarray) -> Part:
        return Part(rows, self._labels[rows])

    def _count_notice(self) -> list[str]:
        row = self._catalog_row
        if row is None or self._sizes == [row.train, row.val, row.test]:
            return []
        here, published = ("/".join(map(str, counts)) for counts in (self._sizes, (row.train, row.val, row.test)))
        return [
            f"this {row.name} has {here} images to train, validate and test on, CoOp's has {published}: "
            "results do not compare with published ones"
        ]


def _find_split_file(root: Path) -> Path:
    if root.is_file():
        return root
    if not root.is_dir():
        raise InputError(f"no data folder {root}; give a folder that holds a {SPLIT_PATTERN}")
    found = sorted(root.glob(SPLIT_PATTERN))
    if len(found) != 1:
        got = f"holds {len(found)} split files ({listed(file.name for file in found)})" if found else "holds none"
        raise InputError(f"{root} must hold one {SPLIT_PATTERN} but {got}; give the path of the one to use")
    return found[0]


def _read_split(split_file: Path) -> dict[str, list[_Item]]:
    try:
        content = json.loads(split_file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read split file {split_file} as JSON: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or set(content) != set(PARTS):
        got = f"keys {listed(sorted(map(repr, content)))}" if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{split_file} must be an object with the lists train, val and test, got {got}")
    parts: dict[str, list[_Item]] = {}
    for part in PARTS:
        if not isinstance(content[part], list):
            raise InputError(f"{split_file}: {part} must be a list, got {type(content[part]).__name__}")
        if part != "val" and not content[part]:
            raise InputError(f"{split_file}: {part} is empty; a split needs training and test images")
        parts[part] = [_item(entry, f"{split_file}: {part}[{at}]") for at, entry in enumerate(content[part])]
    _check_no_path_twice(parts, split_file)
    return parts


def _item(entry: Any, where: str) -> _Item:
    match entry:
        case [str(path), int(label), str(name)] if not isinstance(label, bool) and label >= 0 and path and name.strip():
            pass
        case _:
            raise InputError(f'{where} must be ["relative/path.jpg", label from 0, "class name"], got {entry!r:.120}')
    windows = PureWindowsPath(path)
    if PurePosixPath(path).is_absolute() or windows.drive or windows.root or ".." in windows.parts or "\0" in path:
        raise InputError(f"{where} names {path!r}, which leads out of the image folder; use paths relative to it")
    return _Item(path, label, name)


def _check_no_path_twice(parts: dict[str, list[_Item]], split_file: Path) -> None:
    uses = Counter(posixpath.normpath(item.path) for items in parts.values() for item in items)
    twice = [path for path, count in uses.items() if count > 1]
    if twice:
        raise InputError(
            f"{split_file} names {counted(len(twice), 'image', 'images')} more than once ({listed(twice)}); "
            "an image may stand in one part only, and once"
        )


def _class_names(items: list[_Item], split_file: Path) -> tuple[str, ...]:
    name_of: dict[int, str] = {}
    for item in items:
        known = name_of.setdefault(item.label, item.name)
        if known != item.name:
            raise InputError(f"{split_file} gives label {item.label} two names, {known!r} and {item.name!r}; keep one")
    gap = next((label for label in range(len(name_of)) if label not in name_of), None)
    if gap is not None:
        raise InputError(
            f"{split_file} has {len(name_of)} labels up to {max(name_of)} but no label {gap}; "
            "labels must be 0, 1, 2, ... without a gap"
        )
    check_class_count(len(name_of), split_file)
    return tuple(" ".join(name_of[label].replace("_", " ").split()) for label in range(len(name_of)))


def _find_image_dir(folder: Path, row: CatalogRow | None, paths: tuple[str, ...]) -> Path:
    """The candidate that holds the most of a few probes; the earliest candidate where several do."""
    known = [folder / row.image_dir] if row and (folder / row.image_dir).is_dir() else []
    below = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    probes = paths[:: max(1, len(paths) // _PROBES)]
    return max([*known, folder, *below], key=lambda place: sum((place / path).is_file() for path in probes))


def _check_images_exist(image_dir: Path, paths: tuple[str, ...], split_file: Path) -> None:
    """Lists each folder once, which on a network disk is far quicker than to ask for every file."""
    files_of: dict[str, set[str]] = {}
    absent = []
    for path in paths:
        folder, name = posixpath.split(path)
        if folder not in files_of:
            place = image_dir / folder
            files_of[folder] = {file.name for file in os.scandir(place) if file.is_file()} if place.is_dir() else set()
        if name not in files_of[folder]:
            absent.append(path)
    if absent:
        raise InputError(
            f"{len(absent)} of the {len(paths)} images that {split_file.name} names are not in {image_dir} "
            f"({listed(absent)}); put the images there, or correct the split file"
        )
