"""Train one method on a source's shots and keep the adapter: what `hyperadapt fit` does."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyperadapt import __version__
from hyperadapt.adapters.base import BuildContext
from hyperadapt.checkpoint import save_checkpoint
from hyperadapt.config import to_dict
from hyperadapt.data import AbstractImageSource, AbstractSource, Part
from hyperadapt.errors import InputError
from hyperadapt.evaluation import count_correct
from hyperadapt.features import AbstractFrozenFeatures, TowerFeatures
from hyperadapt.methods import Method
from hyperadapt.model import FewShotModel, build_model
from hyperadapt.reach import choose_reach, reach_as_set
from hyperadapt.results import peak_memory_mib, read_json, versions, write_json
from hyperadapt.text import ClassText
from hyperadapt.training import ALONE, RunFolder, TrainingSet, World, train

RESULT, ATTRIBUTES = "result.json", "attributes.json"
FIXED = "fixed settings; the last step is scored; no validation or test image is used in training"
NOTHING = Part(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class FitSettings:
    """What a fit needs beyond method and features.

    Attributes:
        shots: training images a class.
        seed: of the draw, initial values, batches and augmentations.
        out: folder of adapter.safetensors, adapter.json, history.jsonl and result.json.
    """

    shots: int
    seed: int
    out: Path


@dataclass(frozen=True)
class Fitted:
    """What became of a method and its shots.

    Attributes:
        model: in evaluation mode.
        history: mean loss terms over ten stretches of training; empty where nothing was trained.
        selection: how settings were chosen, and on which images.
    """

    model: FewShotModel
    history: list[dict[str, float]]
    selection: str


def facts_of(features: AbstractFrozenFeatures) -> dict[str, Any]:
    """What identifies data, towers and program in a result file."""
    tower = features if isinstance(features, TowerFeatures) else None
    return {
        "hyperadapt": __version__,
        "dataset": features.source.name,
        "data_fingerprint": features.source.fingerprint,
        "templates": None if tower is None else list(tower.images.templates),
        "backbone": features.backbone_name,
        "backbone_fingerprint": None if tower is None else tower.backbone.fingerprint,
        "views": 1 if tower is None else tower.views + 1,
    }


def fit_shots(
    method: Method,
    features: AbstractFrozenFeatures,
    shots: Part,
    labels: Sequence[int],
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    *,
    val: Part = NOTHING,
    new_names: bool = True,
    run: RunFolder | None = None,
    world: World = ALONE,
) -> Fitted:
    """Train a method on the shots of some classes; no test row and no other class is at hand here.

    Args:
        method: what to train.
        features: of the data set that the shots are rows of.
        shots: training rows; their labels are positions in `labels`.
        labels: the training classes among those of the data set.
        seed: of initial values, batches and augmentations.
        progress: called with (steps done, steps in all).
        val: validation rows of the training classes, labelled as the shots are; read where the method chooses settings.
        new_names: whether names without training images will be scored, so that settings for them are worth choosing.
        run: where training can be stopped and go on.
        world: the processes that train together.
    """
    classes = features.classes.select(labels)
    model = build_model(method, context_for(features, classes, shots), seed).eval()
    history = []
    if method.learns:
        data = training_set(features, shots, classes, seed, model.pools_parts, progress, with_pixels=model.reads_pixels)
        model.prepare(data.images, data.labels, classes)
        if method.training is not None:
            history = train(model, data, method.training, seed, progress, run=run, world=world)
    chosen = choose_settings(method, model, features, shots, labels, seed, progress, val=val, new_names=new_names)
    return Fitted(model, history, chosen)


def choose_settings(
    method: Method,
    model: FewShotModel,
    features: AbstractFrozenFeatures,
    shots: Part,
    labels: Sequence[int],
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    *,
    val: Part = NOTHING,
    new_names: bool = True,
) -> str:
    """Let a trained model choose what it wants to be chosen after training, and say how.

    Args:
        method: what the model is.
        model: trained on the shots.
        features: of the data set; asked for validation rows where the model chooses on these.
        shots: training rows; their labels are positions in `labels`.
        labels: the training classes among those of the data set.
        seed: of the training.
        progress: called with (steps done, steps in all) of each training that a choice needs.
        val: validation rows of the training classes, labelled as the shots are.
        new_names: whether names without training images will be scored.
    """

    def trained(part: Part, some: Sequence[int]) -> FewShotModel:
        return fit_shots(method, features, part, some, seed, progress, new_names=False).model

    classes = features.classes.select(labels)
    answers = torch.from_numpy(val.labels).to(classes.weights.device)
    told = [
        model.select(features.batches(val.rows, model.pools_parts, model.reads_pixels), answers, classes),
        choose_reach(model, features, shots, labels, seed, trained) if new_names else reach_as_set(model),
    ]
    found = [each for each in told if each is not None]
    return "; ".join([*found, "no test image is used"]) if found else FIXED


def context_for(features: AbstractFrozenFeatures, classes: ClassText, shots: Part) -> BuildContext:
    """What components may know when they are built for some shots.

    Args:
        features: of the data set that the shots are rows of.
        classes: the training classes.
        shots: training rows; of them only the number a class is told.
    """
    counts = np.bincount(shots.labels, minlength=len(classes)).tolist()
    return replace(features.context(classes, len(shots)), images_per_class=tuple(counts))


def training_set(
    features: AbstractFrozenFeatures,
    shots: Part,
    classes: ClassText,
    seed: int,
    with_parts: bool,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    *,
    with_pixels: bool = False,
) -> TrainingSet:
    """What a run trains on: the views of some shots, and the classes that their labels count.

    Args:
        features: of the data set that the shots are rows of.
        shots: training rows.
        classes: the training classes.
        seed: of the augmentations.
        with_parts: whether part features are wanted.
        progress: called with (rows done, rows in all).
        with_pixels: whether the tower's inputs are wanted.
    """
    source = features.source
    views = features.training_views(shots.rows, seed, with_parts, progress, with_pixels=with_pixels)
    targets = torch.from_numpy(shots.labels).to(views.pooled.device)
    return TrainingSet(views, targets, classes, row_names(source, shots.rows))


def fit_source(
    features: AbstractFrozenFeatures,
    method: Method,
    settings: FitSettings,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    world: World = ALONE,
) -> tuple[dict[str, Any], bool]:
    """Train on the shots of all classes and write adapter, history and result; a finished fit is not repeated.

    Args:
        features: of the data set.
        method: what to train.
        settings: shots, seed, folder.
        progress: called with (steps done, steps in all).
        world: the processes that train together; the first one writes.

    Returns:
        The content of result.json, and whether it was there already.

    Raises:
        InputError: when the method learns nothing, or the folder holds another fit.
    """
    if not method.learns:
        raise InputError(f"{method.name} trains nothing; score it with hyperadapt bench, or fit another method")
    source = features.source
    decided = {
        "protocol": "fit",
        **facts_of(features),
        "shots": settings.shots,
        "seed": settings.seed,
        "method": method.to_dict(),
    }
    if world.ask_first(lambda: _finished(settings.out, decided)) is not None:
        return read_json(settings.out / RESULT), True
    run = RunFolder(settings.out, decided)
    draw = source.draw(settings.shots, settings.seed)
    shots, labels = draw.train, range(len(source.class_names))
    fitted = fit_shots(method, features, shots, labels, settings.seed, progress, val=draw.val, run=run, world=world)
    model = fitted.model
    counts = count_correct(model, features, shots, features.classes)
    record = {
        **decided,
        "class_names": list(source.class_names),
        "training_images": len(shots),
        "counts": {"train": to_dict(counts)},
        "selection": fitted.selection,
        "trained_parameters": sum(parameter.numel() for parameter in model.trainable),
        "history": fitted.history,
        "seconds": {"train": round(run.elapsed, 3)},
        "peak_memory_mib": round(peak_memory_mib(), 1),
        "device": str(features.classes.weights.device),
        "threads": torch.get_num_threads(),
        "processes": world.size,
        "versions": versions(),
    }
    if world.rank == 0:
        made_on = {key: decided[key] for key in ("templates", "backbone", "backbone_fingerprint")}
        counts_by_class = context_for(features, features.classes, shots).counts
        save_checkpoint(settings.out, model, method, source.class_names, counts_by_class, made_on)
        told = _described(model, features, shots)
        if told is not None:
            write_json(settings.out / ATTRIBUTES, told)
        write_json(settings.out / RESULT, record)
        run.discard()
    return record, False


def _described(model: FewShotModel, features: AbstractFrozenFeatures, shots: Part) -> dict[str, Any] | None:
    """What the adapter has to tell of the images it was trained on."""
    batches = features.batches(shots.rows, with_parts=False, with_pixels=model.reads_pixels)
    labels = torch.from_numpy(shots.labels).to(features.classes.weights.device)
    return model.describe(batches, labels, features.classes, row_names(features.source, shots.rows))


def row_names(source: AbstractSource, rows: np.ndarray) -> list[str]:
    """A name a row: the image's, or its number where a source has no names."""
    ids = source.ids if isinstance(source, AbstractImageSource) else None
    return [ids[row] if ids else f"row {row}" for row in rows.tolist()]


def _finished(out: Path, decided: dict[str, Any]) -> bytes | None:
    """Something when this fit is in the folder, None when nothing is.

    Raises:
        InputError: when another fit is there.
    """
    if not (out / RESULT).is_file():
        return None
    found = read_json(out / RESULT)
    different = [key for key, value in json.loads(json.dumps(decided)).items() if found.get(key) != value]
    if different:
        raise InputError(f"{out} holds another fit, with another {different[0]}; use another folder")
    return b"finished"
