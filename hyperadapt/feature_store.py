"""Features of image views on disk: a later run with the same tower and the same images never runs the tower.

One folder a key; in it shards, each a safetensors file of pooled features, where wanted one of part features, and a
JSON index that is written last and holds the hashes of both. A shard without its index does not exist, so a kill at
any moment loses the shard being written and nothing else; shards have names of their own, so any number of processes
may write at once.
"""

import hashlib
import json
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hyperadapt.backbone import ImageFeatures
from hyperadapt.parts import PartFeatures
from hyperadapt.results import read_json, write_bytes, write_json

PARTS_BUDGET_BYTES = 4 * 2**30
SHARD_VIEWS = 1024
SHARD_BYTES = 128 * 2**20
LEFTOVER_SECONDS = 24 * 3600
INDEX_GLOB = "shard-*.json"
FORMAT = 1


def default_root() -> Path:
    """Where features are stored: `$HYPERADAPT_CACHE`, else `$XDG_CACHE_HOME/hyperadapt`, else `~/.cache/hyperadapt`."""
    if own := os.environ.get("HYPERADAPT_CACHE"):
        return Path(own)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "hyperadapt"


@dataclass(frozen=True)
class _Shard:
    """One index file, checked for its form; the files that it names are checked when they are first wanted."""

    index: Path
    rows: tuple[str, ...]
    files: dict[str, dict[str, Any]]

    @staticmethod
    def read(index: Path) -> "_Shard":
        """Raises ValueError, KeyError, TypeError or OSError where the index is damaged."""
        content = read_json(index)
        rows, files = content["rows"], content["files"]
        for kind, file in files.items():
            known = kind in ("pooled", "parts") and isinstance(file["bytes"], int) and isinstance(file["sha256"], str)
            if not known or Path(file["name"]).name != file["name"]:
                raise ValueError(f"names the file {file['name']!r}")
        if content["format"] != FORMAT or "pooled" not in files or not all(isinstance(row, str) for row in rows):
            raise ValueError("has another form")
        return _Shard(index, tuple(rows), files)

    def write(self) -> None:
        write_json(self.index, {"format": FORMAT, "rows": list(self.rows), "files": self.files})

    def path(self, kind: str) -> Path:
        return self.index.parent / self.files[kind]["name"]


@final
class FeatureStore:
    """The place of all feature folders.

    Args:
        root: a folder, made when the first features are written; None for `default_root()`.
        parts_budget_bytes: part features kept in a feature folder at most; pooled features are always kept.

    Example:
        >>> FeatureStore("features").folder({"weights": "b1946ac9", "image_size": 224}).path.parent.name
        'features'
    """

    def __init__(self, root: str | Path | None = None, parts_budget_bytes: int = PARTS_BUDGET_BYTES) -> None:
        self.root = default_root() if root is None else Path(root)
        self.parts_budget_bytes = parts_budget_bytes

    def folder(self, key: dict[str, Any]) -> "FeatureFolder":
        """The features of one key: whatever, beside the image and the view, decides a feature, as plain data."""
        digest = hashlib.sha256(json.dumps([FORMAT, key], sort_keys=True).encode()).hexdigest()
        return FeatureFolder(self.root / f"features-{digest[:20]}", key, self.parts_budget_bytes)


@final
@dataclass
class FeatureFolder:
    """Stored features of one tower in one setting, by row name.

    Attributes:
        path: the folder.
        key: what decides the features; written beside them, for people.
        parts_budget_bytes: part features kept at most.
    """

    path: Path
    key: dict[str, Any]
    parts_budget_bytes: int
    _shards: dict[Path, _Shard] = field(default_factory=dict, repr=False)
    _at: dict[str, dict[str, tuple[_Shard, int]]] = field(default_factory=dict, repr=False)
    _sound: set[Path] = field(default_factory=set, repr=False)
    _writable: bool = True

    def __post_init__(self) -> None:
        self._sweep()
        self._rebuild()

    def recall(self, name: str, make: Callable[[], Any]) -> Any:
        """A fact about the tower (plain data) that is made once and read from then on."""
        try:
            facts = read_json(self.path / "key.json")["facts"]
            if name in facts:
                return facts[name]
        except (OSError, ValueError, KeyError, TypeError):
            facts = {}
        fact = make()
        self._write(lambda: write_json(self.path / "key.json", {"key": self.key, "facts": {**facts, name: fact}}))
        return fact

    def refresh(self) -> None:
        """Take in shards that were finished since, by other processes too."""
        for index in sorted(set(self.path.glob(INDEX_GLOB)) - self._shards.keys()):
            try:
                self._shards[index] = _Shard.read(index)
            except (FileNotFoundError, PermissionError):  # removed just now, or another user's
                continue
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                self._report(index, f"the index cannot be read ({_one_line(error)})")
                _unlink(index)
            else:
                self._enter(self._shards[index])

    def find(self, rows: Iterable[str], parts: bool = False) -> set[str]:
        """Which rows are held, pooled and, where asked for, with parts; their files are read through and hashed once.

        Damage is reported in one line and what it touched is removed, so that it is made again.
        """
        rows = set(rows)
        self.refresh()
        kinds = ("pooled", "parts") if parts else ("pooled",)
        while True:
            held = {row for row in rows if all(row in self._at[kind] for kind in kinds)}
            wanted = {(self._at[kind][row][0].index, kind) for row in held for kind in kinds}
            if all(self._is_sound(self._shards[index], kind) for index, kind in sorted(wanted)):
                return held

    def read(self, rows: Iterable[str], parts: bool = False) -> dict[str, ImageFeatures]:
        """Features of single rows, on the CPU; rows that are not held, or no longer, are left out."""
        pooled = self._read(rows, "pooled")
        if not parts:
            return {row: ImageFeatures(tensors["pooled"]) for row, tensors in pooled.items()}
        found = self._read(pooled, "parts")
        return {
            row: ImageFeatures(pooled[row]["pooled"], PartFeatures(tensors["maps"], tensors["content"]))
            for row, tensors in found.items()
        }

    def add(self, rows: Sequence[str], features: ImageFeatures) -> None:
        """Write one shard with what is not held yet; parts while their budget lasts.

        A disk that is full or read-only is reported once; from then on nothing is written.

        Args:
            rows: one name a row of features, no name twice.
            features: on any device.
        """
        parts = features.parts
        if parts is not None and self._parts_bytes() + parts.nbytes > self.parts_budget_bytes:
            parts = None
        kind = "pooled" if parts is None else "parts"
        new = [i for i, row in enumerate(rows) if row not in self._at[kind]]
        if new and self._writable:
            chosen = [rows[i] for i in new]
            self._write(lambda: self._write_shard(chosen, ImageFeatures(features.pooled, parts)[new]))

    def _write_shard(self, rows: list[str], features: ImageFeatures) -> None:
        name = f"shard-{uuid.uuid4().hex}"
        content = {"pooled": {"pooled": features.pooled}}
        if features.parts is not None:
            content["parts"] = {"maps": features.parts.maps, "content": features.parts.content}
        files: dict[str, dict[str, Any]] = {}
        for kind, tensors in content.items():
            payload = safetensors.torch.save({key: tensor.cpu().contiguous() for key, tensor in tensors.items()})
            write_bytes(self.path / f"{name}.{kind}.safetensors", payload)
            digest = hashlib.sha256(payload).hexdigest()
            files[kind] = {"name": f"{name}.{kind}.safetensors", "bytes": len(payload), "sha256": digest}
        shard = _Shard(self.path / f"{name}.json", tuple(rows), files)
        shard.write()
        self._shards[shard.index] = shard
        self._sound.update(shard.path(kind) for kind in files)
        self._enter(shard)

    def _write(self, action: Callable[[], None]) -> None:
        if not self._writable:
            return
        try:
            action()
        except OSError as error:
            self._writable = False
            warnings.warn(f"features are not stored in {self.path}: {_one_line(error)}", stacklevel=4)

    def _read(self, rows: Iterable[str], kind: str) -> dict[str, dict[str, Tensor]]:
        """Tensors of single rows, shard by shard; only the rows asked for are read from a memory-mapped file."""
        by_shard: dict[Path, list[str]] = {}
        for row in rows:
            if row in self._at[kind]:
                by_shard.setdefault(self._at[kind][row][0].index, []).append(row)
        found: dict[str, dict[str, Tensor]] = {}
        for index, names in by_shard.items():
            try:
                with safe_open(self._shards[index].path(kind), "pt") as file:
                    slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
                    for row in names:
                        at = self._at[kind][row][1]
                        found[row] = {key: tensor[at : at + 1][0] for key, tensor in slices.items()}
            except (OSError, SafetensorError) as error:
                self._drop(self._shards[index], kind, _one_line(error))
        return found

    def _is_sound(self, shard: _Shard, kind: str) -> bool:
        path, expected = shard.path(kind), shard.files[kind]
        if path in self._sound:
            return True
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            self._drop(shard, kind, _one_line(error))
            return False
        if digest != expected["sha256"]:
            self._drop(shard, kind, f"{path.name} has other bytes than were written")
            return False
        self._sound.add(path)
        return True

    def _drop(self, shard: _Shard, kind: str, reason: str) -> None:
        """Report damage and forget what it touches: the parts alone, or the whole shard."""
        if self._shards.pop(shard.index, None) is None:
            return
        self._report(shard.index, reason)
        if kind == "parts":
            rest = _Shard(shard.index, shard.rows, {"pooled": shard.files["pooled"]})
            self._shards[shard.index] = rest
            self._write(rest.write)
        else:
            _unlink(shard.index)
        _unlink(*(shard.path(name) for name in shard.files if name == kind or kind == "pooled"))
        self._rebuild()

    def _report(self, index: Path, reason: str) -> None:
        warnings.warn(f"the stored features {index} are damaged and will be made again: {reason}", stacklevel=4)

    def _rebuild(self) -> None:
        self._at = {"pooled": {}, "parts": {}}
        for shard in self._shards.values():
            self._enter(shard)

    def _enter(self, shard: _Shard) -> None:
        for kind in shard.files:
            self._at[kind].update({row: (shard, i) for i, row in enumerate(shard.rows)})

    def _parts_bytes(self) -> int:
        return sum(shard.files["parts"]["bytes"] for shard in self._shards.values() if "parts" in shard.files)

    def _sweep(self) -> None:
        """Remove what writers that were killed a day ago or earlier left behind."""
        now = time.time()
        for path in [*self.path.glob(".*.part"), *self.path.glob("shard-*.safetensors")]:
            index = path.with_name(f"{path.name.split('.')[0]}.json")
            try:
                if not index.exists() and now - path.stat().st_mtime > LEFTOVER_SECONDS:
                    path.unlink()
            except OSError:
                continue


@final
class ShardWriter:
    """Gathers features until they make a shard.

    Args:
        folder: where shards go.
    """

    def __init__(self, folder: FeatureFolder) -> None:
        self._folder = folder
        self._rows: list[str] = []
        self._pieces: list[ImageFeatures] = []
        self._bytes = 0

    def put(self, rows: Sequence[str | None], features: ImageFeatures) -> None:
        """Take features; those of nameless rows cannot be found again and are left out."""
        named = [i for i, row in enumerate(rows) if row is not None]
        if not named:
            return
        if self._pieces and (self._pieces[0].parts is None) != (features.parts is None):
            self.flush()
        self._rows += [row for row in rows if row is not None]
        self._pieces.append(features if len(named) == len(rows) else features[named])
        self._bytes += features.pooled.nbytes + (0 if features.parts is None else features.parts.nbytes)
        if len(self._rows) >= SHARD_VIEWS or self._bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        rows, pieces = self._rows, self._pieces
        self._rows, self._pieces, self._bytes = [], [], 0
        if rows:
            self._folder.add(rows, ImageFeatures.cat(pieces))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _unlink(*paths: Path) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            continue
