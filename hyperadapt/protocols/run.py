"""Any task: train on its shots, then sit every exam with the same weights."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hyperadapt.evaluation import Counts, Scores, score
from hyperadapt.fit import Fitted, choose_settings, context_for, fit_shots, training_set
from hyperadapt.methods import Method
from hyperadapt.model import build_model
from hyperadapt.protocols.task import Task
from hyperadapt.training import Run, RunFolder, train_together, why_apart


@dataclass(frozen=True)
class Outcome:
    """What one method did on one task.

    Attributes:
        scores: by exam; a method that must be told which classes a test set holds has none where they are mixed.
        history: mean loss terms over ten stretches of training; empty when nothing was trained.
        selection: how settings were chosen, and on which images.
        parameters: number of trained values.
        train_seconds, test_seconds: wall time; training that was stopped counts up to the checkpoint it went on from.
    """

    scores: dict[str, Scores]
    history: list[dict[str, float]]
    selection: str
    parameters: int
    train_seconds: float
    test_seconds: float

    @property
    def counts(self) -> dict[str, Counts]:
        """Correct answers and images of each exam."""
        return {name: scores.counts for name, scores in self.scores.items()}


def run_task(
    method: Method,
    task: Task,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    run: RunFolder | None = None,
) -> Outcome:
    """Train on the shots of a task, then score its exams.

    Args:
        method: what to train.
        task: what on, and what is scored.
        seed: of initial values, batches and augmentations.
        progress: called with (training steps done, steps in all).
        run: where training can be stopped and go on.
    """
    start = time.perf_counter()
    fitted = fit_shots(
        method,
        task.features,
        task.shots,
        task.labels,
        seed,
        progress,
        val=task.val,
        new_names=task.has_new_names,
        run=run,
    )
    before = run.seconds if run is not None else 0.0
    return _scored(method, fitted, task, before + time.perf_counter() - start)


def run_seeds_together(
    method: Method,
    tasks: Mapping[int, Task],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[int, Outcome] | None:
    """`run_task` for several seeds at once, trained as one batched computation.

    Args:
        method: what to train.
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
        features, classes = task.features, task.classes
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
    fitted = {}
    for run, history in zip(runs, histories, strict=True):
        task = tasks[run.seed]
        own = (method, run.model, task.features, task.shots, task.labels, run.seed)
        chosen = choose_settings(*own, val=task.val, new_names=task.has_new_names)
        fitted[run.seed] = Fitted(run.model, history, chosen)
    seconds = (time.perf_counter() - start) / len(runs)
    return {seed: _scored(method, each, tasks[seed], seconds) for seed, each in fitted.items()}


def _scored(method: Method, fitted: Fitted, task: Task, train_seconds: float) -> Outcome:
    """Every exam that the method can sit."""
    start = time.perf_counter()
    scores = {
        exam.name: score(fitted.model, exam.features, exam.part, exam.classes, exam.tree)
        for exam in task.exams
        if not (exam.mixes and method.knows_split)
    }
    return Outcome(
        scores=scores,
        history=fitted.history,
        selection=fitted.selection,
        parameters=sum(parameter.numel() for parameter in fitted.model.trainable),
        train_seconds=train_seconds,
        test_seconds=time.perf_counter() - start,
    )
