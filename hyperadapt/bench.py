"""Runs of a protocol over methods, shots and seeds, each recorded in its own file."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hyperadapt.backbone import Backbone, load_backbone, resolve_device
from hyperadapt.config import to_dict
from hyperadapt.data import AbstractImageSource, AbstractSource, FeatureSource
from hyperadapt.evaluation import Counts
from hyperadapt.feature_store import FeatureStore
from hyperadapt.features import AbstractFrozenFeatures, StoredFeatures, TowerFeatures
from hyperadapt.fit import facts_of
from hyperadapt.methods import Method
from hyperadapt.protocols.prepare import Reporter, clean, encode, zero_shot
from hyperadapt.protocols.registry import PROTOCOLS
from hyperadapt.protocols.run import Outcome, run_seeds_together, run_task
from hyperadapt.protocols.task import Task
from hyperadapt.results import identity, peak_memory_mib, read_json, versions, write_json
from hyperadapt.training import RunFolder

RUNNING = ".running"
"""Folder, beside the results, of runs that are not finished."""


@dataclass(frozen=True)
class Settings:
    """What a bench call fixes for all of its runs.

    Attributes:
        shots: training images a class; one run each.
        seeds: one run each.
        out: folder of the result files.
        skip_corrupt: leave undecodable images out, named, instead of stopping.
        together: train the seeds of a method as one computation where that is possible.
    """

    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    out: Path
    skip_corrupt: bool = False
    together: bool = False


def frozen_features(
    source: AbstractSource,
    backbone: str | Backbone,
    device: str,
    views: int,
    keep_parts: bool = False,
    cache: bool = True,
) -> AbstractFrozenFeatures:
    """Stored features as they are, images through the backbone or, with `cache`, from the store on disk."""
    if isinstance(source, FeatureSource):
        return StoredFeatures(source, resolve_device(device))
    assert isinstance(source, AbstractImageSource)
    tower = load_backbone(backbone, device=device) if isinstance(backbone, str) else backbone
    return TowerFeatures(source, tower, views, keep_parts, FeatureStore() if cache else None)


def decided_facts(
    protocol: str, features: AbstractFrozenFeatures, others: Sequence[AbstractFrozenFeatures], skip_corrupt: bool
) -> dict[str, Any]:
    """What identifies a run beyond shots, seed and method.

    Args:
        protocol: by name.
        features: of the training source.
        others: of the test sets.
        skip_corrupt: whether undecodable images are left out.
    """
    facts = {"protocol": protocol, **facts_of(features), "skip_corrupt": skip_corrupt}
    if features.source.tree is not None:
        facts["hierarchy"] = features.source.tree.fingerprint
    if others:
        keys = ("dataset", "data_fingerprint", "templates")
        facts["test_sets"] = [{key: facts_of(other)[key] for key in keys} for other in others]
    return facts


def bench(
    protocol: str,
    features: AbstractFrozenFeatures,
    methods: Sequence[Method],
    settings: Settings,
    reporter: Reporter,
    others: Sequence[AbstractFrozenFeatures] = (),
) -> list[dict[str, Any]]:
    """Every method on every draw; finished runs found in `settings.out` are read, not repeated, others go on.

    Args:
        protocol: one of `PROTOCOLS`.
        features: of the training source.
        methods: what to run.
        settings: shots, seeds, where results go.
        reporter: receives progress and remarks.
        others: features of the test sets, for protocols that have some.

    Returns:
        One record a run, method by method, then by shots and by seed.
    """
    source = features.source
    for sentence in dict.fromkeys(sentence for shots in settings.shots for sentence in source.notices(shots)):
        reporter.say(sentence)
    tasks = {
        (shots, seed): PROTOCOLS[protocol].task(features, source.draw(shots, seed), others)
        for shots in settings.shots
        for seed in settings.seeds
    }
    learns, selects = any(method.learns for method in methods), any(method.selects for method in methods)
    skipped = frozenset[int]()
    if settings.skip_corrupt:
        tasks, skipped = clean(tasks, reporter, selects=selects)
    encode(tasks, reporter, learns=learns, selects=selects, skipped=skipped)
    runs = _Runs(decided_facts(protocol, features, others, settings.skip_corrupt), tasks, settings, reporter)
    runs.zero_shot = zero_shot(features, skipped)
    records = [record for method in methods for shots in settings.shots for record in runs.of(method, shots)]
    if runs.kept:
        reporter.say(f"{runs.kept} of {len(records)} runs were found finished in {settings.out} and were not repeated")
    return records


class _Runs:
    """Runs of prepared tasks, from their files where they are finished."""

    def __init__(
        self, fixed: dict[str, Any], tasks: Mapping[tuple[int, int], Task], settings: Settings, reporter: Reporter
    ) -> None:
        self.fixed, self.tasks, self.settings, self.reporter = fixed, tasks, settings, reporter
        self.zero_shot: Counts | None = None
        self.kept = 0

    def of(self, method: Method, shots: int) -> list[dict[str, Any]]:
        """Records of one method, seed by seed."""
        seeds, out = self.settings.seeds, self.settings.out
        decided = {seed: {**self.fixed, "shots": shots, "seed": seed, "method": method.to_dict()} for seed in seeds}
        paths = {seed: out / f"{result_name(facts)}.json" for seed, facts in decided.items()}
        missing = [seed for seed, path in paths.items() if not path.is_file()]
        self.kept += len(seeds) - len(missing)
        ready = self._together(method, shots, missing)
        for seed in missing:
            task, run = self.tasks[shots, seed], RunFolder(out / RUNNING / paths[seed].stem, decided[seed])
            with self.reporter.task(f"{method.name}, {shots} shots, seed {seed}") as progress:
                outcome = ready.get(seed) or run_task(method, task, seed, progress, run)
            assert self.zero_shot is not None
            found = {"trained_with_seeds": list(ready), "zero_shot_all_classes": to_dict(self.zero_shot)}
            write_json(paths[seed], {**decided[seed], **record_of(method, task, outcome), **found})
            forget(run)
        return [read_json(path) for path in paths.values()]

    def _together(self, method: Method, shots: int, seeds: list[int]) -> dict[int, Outcome]:
        """Outcomes of seeds trained at once; empty where there is one seed or the method has to train alone."""
        tasks = {seed: self.tasks[shots, seed] for seed in seeds}
        stored = all(isinstance(task.features, StoredFeatures) for task in tasks.values())
        if not self.settings.together or len(seeds) < 2 or not stored:
            return {}
        with self.reporter.task(f"{method.name}, {shots} shots, seeds {' '.join(map(str, seeds))}") as progress:
            return run_seeds_together(method, tasks, progress) or {}


def result_name(decided: Mapping[str, Any]) -> str:
    """Name of a result file, without its ending: readable parts, then the identity of all that decides the run."""
    facts = dict(decided)
    return (
        f"{facts['dataset']}--{facts['method']['name']}--{facts['shots']}shot--seed{facts['seed']}--{identity(facts)}"
    )


def forget(run: RunFolder) -> None:
    """Remove the checkpoints of a run whose result is written."""
    shutil.rmtree(run.folder, ignore_errors=True)
    with suppress(OSError):  # other runs are in it
        run.folder.parent.rmdir()


def flags_of(method: Method) -> dict[str, Any]:
    """What figures of a method owe to more than the shots, and how it scores names it never saw, for a result file."""
    return {
        "knows_split": method.knows_split,
        "novel_scored_by": method.novel,
        "sees_unlabelled_or_novel_data": method.sees_unlabelled_or_novel_data,
    }


def record_of(method: Method, task: Task, outcome: Outcome) -> dict[str, Any]:
    """What a result file holds beyond what decides the run.

    Args:
        method: that was run.
        task: that it was run on.
        outcome: of it.
    """
    mistakes = {
        exam: {name: counts.to_dict() for name, counts in scores.decisions.items()}
        for exam, scores in outcome.scores.items()
        if scores.decisions
    }
    return {
        "class_names": {exam.name: list(exam.classes.names) for exam in task.exams if not exam.joint},
        "candidates": {exam.name: len(exam.classes) for exam in task.exams},
        "training_images": len(task.shots),
        "counts": {name: to_dict(counts) for name, counts in outcome.counts.items()},
        "details": {name: scores.to_dict() for name, scores in outcome.scores.items()},
        **({"mistakes": mistakes} if mistakes else {}),
        "flags": flags_of(method),
        "selection": outcome.selection,
        "trained_parameters": outcome.parameters,
        "history": outcome.history,
        "seconds": {"train": round(outcome.train_seconds, 3), "test": round(outcome.test_seconds, 3)},
        "peak_memory_mib": round(peak_memory_mib(), 1),
        "device": str(task.features.classes.weights.device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
