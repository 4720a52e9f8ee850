"""Runs of a protocol over methods and seeds, each recorded in its own file."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from hyperadapt.backbone import load_backbone, resolve_device
from hyperadapt.config import to_dict
from hyperadapt.data import AbstractImageSource, AbstractSource, FeatureSource, Part, check_images
from hyperadapt.errors import InputError
from hyperadapt.evaluation import Counts, count_correct
from hyperadapt.feature_store import FeatureStore
from hyperadapt.features import AbstractFrozenFeatures, StoredFeatures, TowerFeatures
from hyperadapt.fit import facts_of
from hyperadapt.methods import Method, load_method
from hyperadapt.model import build_model
from hyperadapt.protocols.base_to_novel import (
    Outcome,
    Task,
    base_to_novel_task,
    rows_used,
    run_base_to_novel,
    run_seeds_together,
)
from hyperadapt.results import identity, peak_memory_mib, read_json, versions, write_json
from hyperadapt.training import RunFolder

RUNNING = ".running"
"""Folder, beside the results, of runs that are not finished."""


class Reporter(Protocol):
    """Where progress and remarks go."""

    def task(self, title: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A progress bar for one stretch of work; call it with (done, total)."""
        ...

    def say(self, sentence: str) -> None:
        """A remark for the user."""
        ...


@dataclass(frozen=True)
class Settings:
    """What a bench call fixes for all of its runs.

    Attributes:
        shots: training images a class.
        seeds: one run each.
        out: folder of the result files.
        skip_corrupt: leave undecodable images out, named, instead of stopping.
        together: train the seeds of a method as one computation where that is possible.
    """

    shots: int
    seeds: tuple[int, ...]
    out: Path
    skip_corrupt: bool = False
    together: bool = False


def frozen_features(
    source: AbstractSource, backbone: str, device: str, views: int, keep_parts: bool = False, cache: bool = True
) -> AbstractFrozenFeatures:
    """Stored features as they are, images through the named backbone or, with `cache`, from the store on disk."""
    if isinstance(source, FeatureSource):
        return StoredFeatures(source, resolve_device(device))
    assert isinstance(source, AbstractImageSource)
    store = FeatureStore() if cache else None
    return TowerFeatures(source, load_backbone(backbone, device=device), views, keep_parts, store)


def _without(part: Part, bad: set[int]) -> Part:
    keep = np.array([int(row) not in bad for row in part.rows], dtype=bool)
    return Part(part.rows[keep], part.labels[keep])


@dataclass(frozen=True)
class Prepared:
    """What a bench call scores, ready: each seed's task, and zero-shot over all classes.

    Attributes:
        tasks: by seed.
        zero_shot: counts of zero-shot CLIP over all classes and all rows that it may be scored on.
    """

    tasks: dict[int, Task]
    zero_shot: Counts


def _prepare(
    features: AbstractFrozenFeatures, settings: Settings, reporter: Reporter, learns: bool, selects: bool
) -> Prepared:
    """Draw, take out corrupt images where that was asked for, encode every image once, score zero-shot CLIP."""
    source = features.source
    for sentence in source.notices(settings.shots):
        reporter.say(sentence)
    tasks = {
        seed: base_to_novel_task(source.draw(settings.shots, seed), len(source.class_names)) for seed in settings.seeds
    }
    part = source.zero_shot_part()
    if isinstance(features, TowerFeatures):
        validation = [task.val.rows for task in tasks.values() if selects]
        rows = np.unique(np.concatenate([part.rows, *(rows_used(task) for task in tasks.values()), *validation]))
        if settings.skip_corrupt:
            bad = dict(check_images(features.images, rows.tolist()))
            for message in bad.values():
                reporter.say(f"skipped: {message.split(';')[0]}")
            tasks = {seed: _cleaned(task, set(bad)) for seed, task in tasks.items()}
            part = _without(part, set(bad))
            rows = np.array([row for row in rows if int(row) not in bad])
        with reporter.task(f"{source.name}: features of {len(rows)} images") as progress:
            training = [(task.shots.rows, seed) for seed, task in tasks.items()] if learns else []
            features.encode_missing(rows, progress, training)
    return Prepared(tasks, _zero_shot(features, part))


def _zero_shot(features: AbstractFrozenFeatures, part: Part) -> Counts:
    context = features.context(features.classes)
    return count_correct(build_model(load_method("zero-shot"), context, seed=0), features, part, features.classes)


def _cleaned(task: Task, bad: set[int]) -> Task:
    cleaned = replace(
        task,
        shots=_without(task.shots, bad),
        base_test=_without(task.base_test, bad),
        novel_test=_without(task.novel_test, bad),
        val=_without(task.val, bad),
    )
    if len(np.unique(cleaned.shots.labels)) < len(task.base):
        raise InputError("after leaving out corrupt images a base class has no training image; replace some of them")
    return cleaned


def bench_base_to_novel(
    features: AbstractFrozenFeatures, methods: Sequence[Method], settings: Settings, reporter: Reporter
) -> list[dict[str, Any]]:
    """Every method on every seed; finished runs found in `settings.out` are read, not repeated, others go on.

    Args:
        features: of the data set.
        methods: what to run.
        settings: shots, seeds, where results go.
        reporter: receives progress and remarks.

    Returns:
        One record a run, method by method.
    """
    fixed = {
        "protocol": "base-to-novel",
        **facts_of(features),
        "shots": settings.shots,
        "skip_corrupt": settings.skip_corrupt,
    }
    learns, selects = any(method.learns for method in methods), any(method.selects for method in methods)
    prepared = _prepare(features, settings, reporter, learns, selects)
    records, kept = [], 0
    for method in methods:
        decided = {seed: {**fixed, "seed": seed, "method": method.to_dict()} for seed in settings.seeds}
        names = {
            seed: f"{features.source.name}--{method.name}--{settings.shots}shot--seed{seed}--{identity(facts)}"
            for seed, facts in decided.items()
        }
        missing = [seed for seed in settings.seeds if not (settings.out / f"{names[seed]}.json").is_file()]
        kept += len(settings.seeds) - len(missing)
        ready = _together(method, features, prepared, missing, reporter) if settings.together else {}
        for seed in missing:
            run = RunFolder(settings.out / RUNNING / names[seed], decided[seed])
            with reporter.task(f"{method.name}, seed {seed}") as progress:
                outcome = ready.get(seed) or run_base_to_novel(
                    method, features, prepared.tasks[seed], seed, progress, run
                )
            record = _record(decided[seed], method, outcome, prepared, features)
            record["trained_with_seeds"] = list(ready)
            write_json(settings.out / f"{names[seed]}.json", record)
            _remove(run.folder)
        records += [read_json(settings.out / f"{name}.json") for name in names.values()]
    if kept:
        reporter.say(f"{kept} of {len(records)} runs were found finished in {settings.out} and were not repeated")
    return records


def _together(
    method: Method, features: AbstractFrozenFeatures, prepared: Prepared, seeds: list[int], reporter: Reporter
) -> dict[int, Outcome]:
    """Outcomes of several seeds trained at once; empty where there is one seed or the method has to train alone."""
    if len(seeds) < 2 or not isinstance(features, StoredFeatures):
        return {}
    with reporter.task(f"{method.name}, seeds {' '.join(map(str, seeds))}") as progress:
        return run_seeds_together(method, features, {seed: prepared.tasks[seed] for seed in seeds}, progress) or {}


def _remove(folder: Path) -> None:
    """Forget how far a run was whose result is written."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def _record(
    decided: dict[str, Any], method: Method, outcome: Outcome, prepared: Prepared, features: AbstractFrozenFeatures
) -> dict[str, Any]:
    """The content of a result file."""
    task = prepared.tasks[decided["seed"]]
    return {
        **decided,
        "class_names": {
            half: [features.source.class_names[i] for i in labels]
            for half, labels in (("base", task.base), ("novel", task.novel))
        },
        "training_images": len(task.shots),
        "counts": {
            half: to_dict(counts)
            for half in ("base", "novel", "joint_base", "joint_novel")
            if (counts := getattr(outcome, half)) is not None
        },
        "zero_shot_all_classes": to_dict(prepared.zero_shot),
        "flags": {
            "knows_split": method.knows_split,
            "novel_scored_by": method.novel,
            "sees_unlabelled_or_novel_data": False,
        },
        "selection": outcome.selection,
        "trained_parameters": outcome.parameters,
        "history": outcome.history,
        "seconds": {"train": round(outcome.train_seconds, 3), "test": round(outcome.test_seconds, 3)},
        "peak_memory_mib": round(peak_memory_mib(), 1),
        "device": str(features.classes.weights.device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
