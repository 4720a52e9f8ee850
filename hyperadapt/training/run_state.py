"""A folder in which a run can be stopped at any moment and go on: its history and its last two checkpoints."""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from hyperadapt.checkpoint import tensor_bytes
from hyperadapt.errors import InputError
from hyperadapt.results import write_bytes, write_json
from hyperadapt.training.distributed import World

try:
    import fcntl
except ImportError:  # no such locks on Windows: there nothing keeps two processes apart
    fcntl = None

HISTORY, LOCK = "history.jsonl", ".lock"
GENERATIONS = 2


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read.

    Attributes:
        facts: step, seconds, length of the history, what the run is.
        tensors: weights, optimiser, generators and the rest, by name.
    """

    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors of one part, without its prefix."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}


class RunFolder:
    """History and checkpoints of one run.

    A checkpoint is a safetensors file and, written last, a JSON file that holds its hash; both appear whole or not at
    all. The newest two are kept, so that a damaged one costs the steps since the one before.

    Args:
        folder: made when it is not there.
        identity: what decides the run beyond its training settings, such as method and data; a folder that holds
            another run is refused.

    Attributes:
        seconds: time that earlier processes spent up to the checkpoint that this one goes on from.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.identity = dict(identity or {})
        self.seconds = 0.0
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of this process and of the ones it goes on from."""
        return self.seconds + time.monotonic() - self._started

    @property
    def history(self) -> Path:
        """One JSON object a line: step, rate, loss terms, gradient norm."""
        return self.folder / HISTORY

    @contextmanager
    def held(self, world: World) -> Iterator[None]:
        """This run's alone for as long as it trains; the lock goes with the process.

        Raises:
            InputError: when another process trains in the folder.
        """
        with ExitStack() as stack:
            world.ask_first(partial(self._lock, stack))
            yield

    def _lock(self, stack: ExitStack) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context((self.folder / LOCK).open("w"))
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process trains in {self.folder}; wait or use another folder") from None

    def load(self, expected: Mapping[str, Any], world: World) -> Saved | None:
        """The newest whole checkpoint, in every process; the history is cut back to it.

        Args:
            expected: what the run is; that of the checkpoint must be equal.
            world: the processes; the first one reads.

        Raises:
            InputError: when the folder holds another run, naming the first difference.
        """
        content = world.ask_first(partial(self._newest, expected))
        if content is None:
            return None
        facts, _, payload = content.partition(b"\0")
        found = Saved(json.loads(facts), safetensors.torch.load(payload))
        self.seconds = found.facts["seconds"]
        return found

    def _newest(self, expected: Mapping[str, Any]) -> bytes | None:
        """Facts and tensors of the newest whole checkpoint, a zero byte between them."""
        for stray in self.folder.glob(".*.part"):
            stray.unlink()
        for path in sorted(self.folder.glob("step-*.json"), reverse=True):
            try:
                raw, payload = path.read_bytes(), path.with_suffix(".safetensors").read_bytes()
                facts = json.loads(raw)
                safetensors.torch.load(payload)
                whole = hashlib.sha256(payload).hexdigest() == facts["sha256"]
                whole = whole and self.history.stat().st_size >= facts["history_bytes"]
            except (OSError, ValueError, KeyError, TypeError, SafetensorError):
                whole, raw, payload, facts = False, b"", b"", {}
            if whole:
                self._require_same(facts["run"], json.loads(json.dumps(expected)))
                os.truncate(self.history, facts["history_bytes"])
                return raw + b"\0" + payload
            warnings.warn(f"the checkpoint {path} is damaged; the run goes on from the one before it", stacklevel=2)
            path.unlink()
        self.history.write_bytes(b"")
        return None

    def _require_same(self, found: dict[str, Any], expected: dict[str, Any]) -> None:
        was, now = _flat(found), _flat(expected)
        for key in sorted(was.keys() | now.keys()):
            if was.get(key) != now.get(key):
                raise InputError(
                    f"{self.folder} holds another run, with {key} {was.get(key)!r} instead of {now.get(key)!r}; "
                    "use another folder, or remove this one"
                )

    def write_lines(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Append to the history."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        if text:
            with self.history.open("a", encoding="utf-8") as file:
                file.write(text)

    def save(self, step: int, tensors: Mapping[str, Tensor], run: Mapping[str, Any]) -> None:
        """Write a checkpoint, then drop all but the newest two.

        Args:
            step: steps done.
            tensors: everything that the rest of the run depends on.
            run: what the run is; `load` compares it.
        """
        with self.history.open("a") as file:
            os.fsync(file.fileno())
            length = file.tell()
        path = self.folder / f"step-{step:09d}.json"
        payload = tensor_bytes(tensors)
        write_bytes(path.with_suffix(".safetensors"), payload)
        facts = {
            "step": step,
            "seconds": self.elapsed,
            "history_bytes": length,
            "sha256": hashlib.sha256(payload).hexdigest(),
            "run": run,
        }
        write_json(path, facts)
        self._drop(GENERATIONS)

    def _drop(self, keep: int) -> None:
        """Remove all but the newest `keep` checkpoints, the JSON of each first."""
        kept = {path.stem for path in sorted(self.folder.glob("step-*.json"))[-keep:]} if keep else set()
        for suffix in ("json", "safetensors"):
            for path in self.folder.glob(f"step-*.{suffix}"):
                if path.stem not in kept:
                    path.unlink()

    def discard(self) -> None:
        """Remove the checkpoints of a run whose results are written; the history stays."""
        self._drop(0)
        (self.folder / LOCK).unlink(missing_ok=True)


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted path."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return flat
