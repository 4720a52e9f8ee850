"""Result files of a folder in groups that one table can show, and what is missing among them."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperadapt.errors import InputError
from hyperadapt.grid.folder import GridFolder
from hyperadapt.methods import method_from_dict
from hyperadapt.report.collection import expand, result_files
from hyperadapt.results import identity, read_json

Record = Mapping[str, Any]
Key = tuple[str, str, int]
"""Training source, method, shots."""


@dataclass(frozen=True)
class Group:
    """Runs that stand in one table.

    Attributes:
        protocol, backbone: of all runs.
        tests: test sets, for protocols that have some.
        runs: result by seed, for each training source, method and number of shots.
        expected: seeds that each of these should have.
    """

    protocol: str
    backbone: str
    tests: tuple[str, ...]
    runs: dict[Key, dict[int, Record]]
    expected: dict[Key, tuple[int, ...]]

    @property
    def sources(self) -> list[str]:
        """Training sources, in order of first appearance."""
        return list(dict.fromkeys(source for source, _, _ in self.expected))

    @property
    def methods(self) -> list[str]:
        """Methods, in order of first appearance."""
        return list(dict.fromkeys(method for _, method, _ in self.expected))

    @property
    def shots(self) -> list[int]:
        """Numbers of shots, ascending."""
        return sorted({shots for _, _, shots in self.expected})

    @property
    def missing(self) -> int:
        """Runs that should be there and are not."""
        return sum(seed not in self.runs.get(key, {}) for key, seeds in self.expected.items() for seed in seeds)

    @property
    def total(self) -> int:
        """Runs that should be there."""
        return sum(len(seeds) for seeds in self.expected.values())


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The runs of a folder of `hyperadapt bench`, of a grid, or of a collected file, each method by a name of its own.

    Raises:
        InputError: when there is no result.
    """
    records = expand(read_json(folder), str(folder)) if folder.is_file() else result_files(folder)
    settings: dict[str, dict[str, None]] = {}
    for record in records:
        settings.setdefault(record["method"]["name"], {})[_settings(record)] = None
    for record in records:
        if len(settings[record["method"]["name"]]) > 1:
            record["method"] = {**record["method"], "name": f"{record['method']['name']} ({_settings(record)})"}
    return records


def groups_of(records: Iterable[dict[str, Any]], folder: Path) -> list[Group]:
    """Runs of protocols that count right answers, by the tables they belong to.

    What should be there is what the grid's file says, else every method on every data set with the shots and seeds that
    are there at all.

    Args:
        records: from `read_records`.
        folder: where they were read.

    Raises:
        InputError: when two are of the same run with other data.
    """
    records = [record for record in records if "counts" in record]
    places = list(dict.fromkeys(_place(record) for record in records))
    plan = _planned(folder, records)
    groups = []
    for place in dict.fromkeys([*places, *(place for place, _, _ in plan)]):
        runs: dict[Key, dict[int, Record]] = {}
        for record in records:
            if _place(record) == place:
                key = (record["dataset"], record["method"]["name"], record["shots"])
                if record["seed"] in runs.setdefault(key, {}):
                    raise InputError(
                        f"{folder} holds two results of {key[1]} on {key[0]}, {key[2]} shots, seed {record['seed']}, "
                        "made of other data, texts or views; keep them in folders of their own"
                    )
                runs[key][record["seed"]] = record
        expected: dict[Key, tuple[int, ...]] = {}
        for at, key, seed in plan:
            if at == place:
                expected[key] = (*expected.get(key, ()), seed)
        groups.append(Group(*place, runs, expected or _product(runs)))
    return groups


def _settings(record: Record) -> str:
    """What tells methods of one name apart; settings that did not exist when it ran have their defaults."""
    method = record["method"]
    with suppress(InputError):  # of a version whose settings are no longer known
        method = method_from_dict(method).to_dict()
    return identity({key: value for key, value in method.items() if key != "summary"})


def _place(record: Record) -> tuple[str, str, tuple[str, ...]]:
    return record["protocol"], record["backbone"], tuple(test["dataset"] for test in record.get("test_sets", ()))


def _planned(folder: Path, records: Iterable[Record]) -> list[tuple[tuple[str, str, tuple[str, ...]], Key, int]]:
    """Group, key and seed of every cell of a grid; a data set without a result yet goes by the name in the recipe."""
    if not (folder / "grid.json").is_file():
        return []
    cells = GridFolder(folder).read()["cells"]
    by_cell = {record["cell"]: record for record in records if "cell" in record}
    known = {_asked(cell): by_cell[name] for name, cell in cells.items() if name in by_cell}
    backbones = {cell["data"]: by_cell[name]["backbone"] for name, cell in cells.items() if name in by_cell}
    plan = []
    for name, cell in cells.items():
        if (like := known.get(_asked(cell))) is not None:
            place, source = _place(like), like["dataset"]
        else:
            tests = tuple(_last(test) for test in cell["tests"])
            place = (cell["protocol"], backbones.get(cell["data"], cell["backbone"]), tests)
            source = _last(cell["data"])
        method = by_cell[name]["method"]["name"] if name in by_cell else cell["method"]["name"]
        plan.append((place, (source, method, cell["shots"]), cell["seed"]))
    return plan


def _asked(cell: Record) -> tuple[Any, ...]:
    return cell["protocol"], cell["data"], tuple(cell["tests"]), cell["backbone"]


def _last(name: str) -> str:
    return name.partition(":")[2].rstrip("/").rpartition("/")[2]


def _product(runs: Mapping[Key, Mapping[int, Record]]) -> dict[Key, tuple[int, ...]]:
    axes = [list(dict.fromkeys(values)) for values in zip(*runs, strict=True)]
    seeds = tuple(sorted({seed for found in runs.values() for seed in found}))
    return {(source, method, shots): seeds for source in axes[0] for method in axes[1] for shots in axes[2]}
