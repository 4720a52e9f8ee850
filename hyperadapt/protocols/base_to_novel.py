"""Base-to-novel generalisation by CoOp's rules.

The first half of the labels (rounded up) is base. Training sees the shots of the base classes alone; base test images
are scored among the base names, novel test images among the novel names. Source: Zhou et al. 2022, arXiv 2203.05557,
section 4.1, and the protocol of its public code.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hyperadapt.data import Draw, Part, base_and_novel
from hyperadapt.errors import InputError
from hyperadapt.evaluation import Counts, count_correct
from hyperadapt.features import AbstractFrozenFeatures
from hyperadapt.fit import NOTHING, Fitted, context_for, fit_shots, select_settings, training_set
from hyperadapt.methods import Method
from hyperadapt.model import build_model
from hyperadapt.training import Run, RunFolder, train_together, why_apart


@dataclass(frozen=True)
class Task:
    """One draw cut into what may be trained on and what is scored.

    Attributes:
        base, novel: labels of the two halves, ascending.
        shots: training rows of the base classes, labels 0 .. len(base) - 1.
        base_test, novel_test: test rows of each half, labels relative to that half.
        val: validation rows of the base classes, labelled as the shots are; read by methods that choose settings.
    """

    base: tuple[int, ...]
    novel: tuple[int, ...]
    shots: Part
    base_test: Part
    novel_test: Part
    val: Part = NOTHING


@dataclass(frozen=True)
class Outcome:
    """What one method did on one task.

    Attributes:
        base, novel: counts of each half, scored among its own names.
        joint_base, joint_novel: the same images among the names of both halves; None where a method must be told which
            half a test set holds.
        history: mean loss terms over ten stretches of training; empty when nothing was trained.
        selection: how settings were chosen, and on which images.
        parameters: number of trained values.
        train_seconds, test_seconds: wall time; training that was stopped counts up to the checkpoint it went on from.
    """

    base: Counts
    novel: Counts
    joint_base: Counts | None
    joint_novel: Counts | None
    history: list[dict[str, float]]
    selection: str
    parameters: int
    train_seconds: float
    test_seconds: float


def base_to_novel_task(draw: Draw, class_count: int) -> Task:
    """Cut a few-shot draw into base training shots and two test halves.

    Args:
        draw: over all classes.
        class_count: number of classes of the data set.

    Raises:
        InputError: when a half has no test image.
    """
    base, novel = base_and_novel(draw.train.labels.tolist(), class_count)
    train, test, val = draw.train.restrict(base), draw.test, draw.val.restrict(base)
    task = Task(base, novel, train, test.restrict(base), test.restrict(novel), val)
    for name, part in (("base", task.base_test), ("novel", task.novel_test)):
        if len(part) == 0:
            raise InputError(f"the {name} half has no test image; add images or ask for fewer shots")
    return task


def run_base_to_novel(
    method: Method,
    features: AbstractFrozenFeatures,
    task: Task,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    run: RunFolder | None = None,
) -> Outcome:
    """Train on base shots, then score both halves with the same weights.

    Args:
        method: what to train.
        features: of the task's data set.
        task: the cut draw.
        seed: of initial values, batches and augmentations.
        progress: called with (training steps done, steps in all).
        run: where training can be stopped and go on.
    """
    start = time.perf_counter()
    fitted = fit_shots(method, features, task.shots, task.base, seed, progress, val=task.val, run=run)
    before = run.seconds if run is not None else 0.0
    return _scored(method, fitted, features, task, before + time.perf_counter() - start)


def run_seeds_together(
    method: Method,
    features: AbstractFrozenFeatures,
    tasks: Mapping[int, Task],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[int, Outcome] | None:
    """`run_base_to_novel` for several seeds at once, trained as one batched computation.

    Args:
        method: what to train.
        features: of the tasks' data set.
        tasks: by seed.
        progress: called with (training steps done, steps in all), over all seeds.

    Returns:
        Outcomes by seed, each with its share of the training time; None where the method cannot be trained so.
    """
    start, config = time.perf_counter(), method.training
    if config is None:
        return None
    runs = []
    for seed, task in tasks.items():
        classes = features.classes.select(task.base)
        if classes.takes_contexts:
            return None
        model = build_model(method, context_for(features, classes, task.shots), seed)
        data = training_set(features, task.shots, classes, seed, model.pools_parts)
        model.prepare(data.images, data.labels, classes)
        runs.append(Run(model, data, seed))
    shapes = {tuple(tensor.shape for tensor in run.model.state_dict().values()) for run in runs}
    if len(shapes) > 1 or any(why_apart(run.model, run.data, config) for run in runs):
        return None
    histories = train_together(runs, config, progress)
    outcomes = {}
    for run, history in zip(runs, histories, strict=True):
        task = tasks[run.seed]
        chosen = select_settings(run.model, features, task.val, run.data.classes)
        seconds = (time.perf_counter() - start) / len(runs)
        outcomes[run.seed] = _scored(method, Fitted(run.model, history, chosen), features, task, seconds)
    return outcomes


def _scored(
    method: Method, fitted: Fitted, features: AbstractFrozenFeatures, task: Task, train_seconds: float
) -> Outcome:
    """Both halves of a task, each among its own names and among those of both, scored with the same weights."""
    start, model = time.perf_counter(), fitted.model
    everyone = tuple(sorted(task.base + task.novel))
    counts = []
    for part, own in ((task.base_test, task.base), (task.novel_test, task.novel)):
        counts.append(count_correct(model, features, part, features.classes.select(own)))
        joint = Part(part.rows, np.searchsorted(everyone, np.array(own)[part.labels]))
        classes = features.classes.select(everyone)
        counts.append(None if method.knows_split else count_correct(model, features, joint, classes))
    base, joint_base, novel, joint_novel = counts
    size = sum(parameter.numel() for parameter in model.trainable)
    return Outcome(
        base=base,
        novel=novel,
        joint_base=joint_base,
        joint_novel=joint_novel,
        history=fitted.history,
        selection=fitted.selection,
        parameters=size,
        train_seconds=train_seconds,
        test_seconds=time.perf_counter() - start,
    )


def rows_used(task: Task) -> np.ndarray:
    """Every pool row that any method reads; validation rows are read by methods that choose settings alone."""
    return np.concatenate([task.shots.rows, task.base_test.rows, task.novel_test.rows])
