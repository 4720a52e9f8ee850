"""Choosing a recipe on base classes alone: a ladder of questions, each answered by paired trials before the next.

Every trial is a pseudo-novel task (see `protocols.pseudo_novel`): no test image and no novel class is read. An answer
replaces the one that stands only where its gain exceeds two standard errors over all tasks, so that what is chosen is
not the luck of one cut; a question about what the method exists for may say that its best answer stands unless it costs
more than its standard error. Every trial is kept in a file, and a ladder that was stopped goes on.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import yaml

from hyperadapt.config import read_yaml, to_dict
from hyperadapt.errors import InputError
from hyperadapt.evaluation import harmonic_mean
from hyperadapt.features import AbstractFrozenFeatures
from hyperadapt.fit import facts_of
from hyperadapt.methods import Method, method_from_dict
from hyperadapt.protocols.prepare import Reporter
from hyperadapt.protocols.pseudo_novel import pseudo_novel_task
from hyperadapt.protocols.run import run_task
from hyperadapt.results import identity, read_json, write_bytes, write_json

NEEDED = 2.0
"""Standard errors by which an answer must beat the one that stands."""
RULES = ("gain", "no cost")


@dataclass(frozen=True)
class Rung:
    """One question.

    Attributes:
        name: what is asked.
        options: changes of the recipe that stands, by name; each replaces the settings it lists.
        rule: what the best answer must do to stand: "gain" more than two standard errors, or have "no cost" of more
            than one.
    """

    name: str
    options: Mapping[str, Mapping[str, Any]]
    rule: str = "gain"

    def best(self, rows: Sequence[Mapping[str, Any]]) -> str | None:
        """The answer that replaces the one that stands, or None.

        Args:
            rows: `option`, `gain` and `standard_error` of each answer.

        Example:
            >>> rows = [{"option": "a", "gain": -0.01, "standard_error": 0.02}]
            >>> [Rung("", {}, rule).best(rows) for rule in RULES]
            [None, 'a']
        """
        if self.rule == "gain":
            rows = [row for row in rows if row["gain"] > max(0.0, NEEDED * row["standard_error"])]
        found = max(rows, key=lambda row: row["gain"], default=None)
        if found is None or (self.rule == "no cost" and found["gain"] < -found["standard_error"]):
            return None
        return found["option"]


@dataclass(frozen=True)
class Space:
    """A declared search.

    Attributes:
        start: the recipe before the first question.
        rungs: in the order asked.
    """

    start: dict[str, Any]
    rungs: tuple[Rung, ...]


@dataclass(frozen=True)
class Place:
    """One data set to choose on.

    Attributes:
        features: of the data set.
        shots: training images a class.
    """

    features: AbstractFrozenFeatures
    shots: int


@dataclass(frozen=True)
class SelectSettings:
    """How much is tried, and where it is written.

    Attributes:
        seeds: draws of each data set.
        cuts: cuts of the base classes, each seed.
        out: folder of trials, ladder and recipe.
    """

    seeds: tuple[int, ...]
    cuts: int
    out: Path


def read_space(path: Path) -> Space:
    """A search from a YAML file: `start`, a recipe, and `rungs`, a list of `name`, `options` and perhaps a `rule`.

    Raises:
        InputError: naming what is missing or unknown.
    """
    data = read_yaml(path)
    if not isinstance(data, Mapping) or set(data) != {"start", "rungs"} or not isinstance(data["rungs"], list):
        raise InputError(f"{path} needs the two keys start (a recipe) and rungs (a list), got {data!r:.80}")
    rungs = []
    for rung in data["rungs"]:
        if (
            not isinstance(rung, Mapping)
            or set(rung) - {"rule"} != {"name", "options"}
            or not isinstance(rung["options"], Mapping)
            or rung.get("rule", RULES[0]) not in RULES
        ):
            raise InputError(
                f"{path}: a rung needs the keys name and options (a mapping), and may have a rule "
                f"({' or '.join(RULES)}), got {rung!r:.80}"
            )
        options = {str(name): change for name, change in rung["options"].items()}  # YAML reads 3: as a number
        rungs.append(Rung(str(rung["name"]), options, rung.get("rule", RULES[0])))
        for name, change in rung["options"].items():
            method_from_dict(merged(data["start"], change), f"{path}: {rung['name']}, {name}")
    method_from_dict(data["start"], f"{path}: start")
    return Space(data["start"], tuple(rungs))


def merged(recipe: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with some settings replaced, mapping by mapping.

    Example:
        >>> merged({"head": {"type": "cosine"}, "name": "x"}, {"head": {"type": "xrvlm"}})
        {'head': {'type': 'xrvlm'}, 'name': 'x'}
    """
    result = dict(recipe)
    for key, value in change.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def climb(space: Space, places: Sequence[Place], settings: SelectSettings, reporter: Reporter) -> dict[str, Any]:
    """Ask every question in turn; write the ladder and the recipe that stands at its end.

    Args:
        space: what is asked.
        places: data sets, of equal weight.
        settings: how much is tried.
        reporter: where progress and answers go.

    Returns:
        The content of ladder.json.

    Raises:
        InputError: for one task a place, over which no gain has a standard error.
    """
    if len(settings.seeds) * settings.cuts < 2:
        raise InputError(
            "a gain has a standard error over two tasks at least, got one seed and one cut; give more --seeds or --cuts"
        )
    standing, scores = space.start, _Scores(places, settings, reporter)
    ladder: dict[str, Any] = {
        "selection": "pseudo-novel tasks inside base classes; no test image and no novel class is read",
        "seeds": list(settings.seeds),
        "cuts": settings.cuts,
        "data": [{**facts_of(place.features), "shots": place.shots} for place in places],
        "start": space.start,
        "rungs": [],
    }
    for rung in space.rungs:
        before = scores.of(method_from_dict(standing))
        rows = [_row("as it stands", before, before)]
        for name, change in rung.options.items():
            rows.append(_row(name, scores.of(method_from_dict(merged(standing, change))), before))
        best = rung.best(rows[1:])
        for row in rows:
            row["kept"] = row["option"] == (best or "as it stands")
        if best is not None:
            standing = merged(standing, rung.options[best])
        ladder["rungs"].append({"name": rung.name, "rule": rung.rule, "trials": rows})
        reporter.say(f"{rung.name}: {best or 'as it stands'}")
        ladder["recipe"] = method_from_dict(standing).to_dict()
        write_json(settings.out / "ladder.json", ladder)
    text = yaml.safe_dump(standing, sort_keys=False, allow_unicode=True)
    write_bytes(settings.out / "recipe.yaml", text.encode())
    return ladder


Scored = list[list[tuple[float, float, float]]]
"""Base, novel and harmonic mean of every task of every place."""


class _Scores:
    """Trials, from their files where they were run before."""

    def __init__(self, places: Sequence[Place], settings: SelectSettings, reporter: Reporter) -> None:
        self.places, self.settings, self.reporter = places, settings, reporter

    def of(self, method: Method) -> Scored:
        """What a method scores on every task."""
        decides = {key: value for key, value in method.to_dict().items() if key not in ("name", "summary")}
        return [self._at(place, method, decides) for place in self.places]

    def _at(self, place: Place, method: Method, decides: dict[str, Any]) -> list[tuple[float, float, float]]:
        facts = {**facts_of(place.features), "shots": place.shots, "cuts": self.settings.cuts, "method": decides}
        rows = []
        title = f"{place.features.source.name}: {identity(decides)}"
        with self.reporter.task(title) as progress:
            for i, seed in enumerate(self.settings.seeds):
                path = self.settings.out / "trials" / f"{identity({**facts, 'seed': seed})}.json"
                if not path.is_file():
                    write_json(path, {**facts, "seed": seed, "tasks": self._run(place, method, seed)})
                rows += [_accuracies(task) for task in read_json(path)["tasks"]]
                progress(i + 1, len(self.settings.seeds))
        return rows

    def _run(self, place: Place, method: Method, seed: int) -> list[dict[str, Any]]:
        draw, found = place.features.source.draw(place.shots, seed), []
        for cut in range(self.settings.cuts):
            task = pseudo_novel_task(place.features, draw, seed * 1000 + cut)
            outcome = run_task(method, task, seed)
            names = {exam.name: list(exam.classes.names) for exam in task.exams}
            found.append({**names, "counts": {name: to_dict(counts) for name, counts in outcome.counts.items()}})
        return found


def _accuracies(task: Mapping[str, Any]) -> tuple[float, float, float]:
    base, novel = (task["counts"][half]["correct"] / task["counts"][half]["total"] for half in ("base", "novel"))
    return base, novel, harmonic_mean(base, novel)


def _row(option: str, found: Scored, before: Scored) -> dict[str, Any]:
    """Means over places, each the mean over its tasks, and the paired gain with its standard error."""
    gains = [[new[2] - old[2] for new, old in zip(*pair, strict=True)] for pair in zip(found, before, strict=True)]
    error = math.sqrt(sum(variance(each) / len(each) if len(each) > 1 else 0.0 for each in gains)) / len(gains)
    base, novel, harmonic = (_mean(found, lambda score, k=k: score[k]) for k in range(3))
    return {
        "option": option,
        "base": base,
        "novel": novel,
        "harmonic_mean": harmonic,
        "gain": fmean(fmean(each) for each in gains),
        "standard_error": error,
        "harmonic_mean_by_place": [fmean(score[2] for score in place) for place in found],
    }


def _mean(found: Scored, part: Callable[[tuple[float, float, float]], float]) -> float:
    return fmean(fmean(part(score) for score in place) for place in found)
