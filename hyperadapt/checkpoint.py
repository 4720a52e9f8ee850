"""Trained models on disk: safetensors for weights, JSON for everything else; no pickle."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from hyperadapt.errors import InputError
from hyperadapt.model import FewShotModel
from hyperadapt.results import read_json, write_json

WEIGHTS, CONFIG = "adapter.safetensors", "adapter.json"


@dataclass(frozen=True)
class Checkpoint:
    """What was read from a folder.

    Attributes:
        config: the content of adapter.json.
        weights: tensors by name.
    """

    config: dict[str, Any]
    weights: dict[str, Any]


def save_checkpoint(folder: Path, model: FewShotModel, config: dict[str, Any]) -> None:
    """Write what a method trained, without the towers, and how to rebuild it.

    Both files are written to a temporary name first; the JSON comes last and holds the hash of the weights, so that a
    folder is either whole or refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    payload = safetensors.torch.save(
        {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in model.state_dict().items()
        }
    )
    temporary = folder / f".{WEIGHTS}.{os.getpid()}.part"
    temporary.write_bytes(payload)
    temporary.replace(folder / WEIGHTS)
    write_json(folder / CONFIG, {**config, "weights_sha256": hashlib.sha256(payload).hexdigest()})


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a folder written by `save_checkpoint`.

    Raises:
        InputError: when a file is missing or damaged, or the two do not belong together.
    """
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder} holds no saved adapter; it needs {CONFIG} and {WEIGHTS}")
    payload = (folder / WEIGHTS).read_bytes()
    try:
        config = read_json(folder / CONFIG)
        weights = safetensors.torch.load(payload)
    except (ValueError, SafetensorError) as error:
        raise InputError(f"the adapter in {folder} is damaged: {error}; save it again") from None
    if hashlib.sha256(payload).hexdigest() != config.get("weights_sha256"):
        raise InputError(f"{WEIGHTS} and {CONFIG} in {folder} do not belong together; save the adapter again")
    return Checkpoint(config, weights)
