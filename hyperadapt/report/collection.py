"""All runs of a folder in one small file that can be published: settings and counts, no class name, nothing twice."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hyperadapt.errors import InputError
from hyperadapt.results import read_json, write_bytes

FORMAT = "hyperadapt results 1"
LEFT_OUT = ("class_names", "details", "history", "cell", "ran")
"""What tables do without or show as missing: names of classes, counts by class, calibration, losses, where it ran."""
INLINE = ("counts", "recall", "mistakes", "seconds")
"""What differs from run to run and is written where the run is."""


def result_files(folder: Path) -> list[dict[str, Any]]:
    """Results of protocols in the folder of a bench or of a grid; a fit's is none.

    Raises:
        InputError: when there is none.
    """
    paths = [*sorted(folder.glob("*.json")), *sorted((folder / "cells").glob("*.json"))]
    records = [record for record in map(read_json, paths) if record.get("protocol") != "fit"]
    records = [record for record in records if "counts" in record or "recall" in record]
    if not records:
        raise InputError(f"no result file in {folder}; give the folder of a bench or of a grid")
    return records


def collect(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Runs as one document, in which a value that several runs have stands once.

    Args:
        records: result files.

    Example:
        >>> document = collect([{"seed": 1, "backbone": "tiny", "counts": {"all": {"correct": 3, "total": 4}}}])
        >>> document["shared"], document["runs"][0]["backbone"]
        ({'backbone': ['tiny']}, 0)
    """
    shared: dict[str, dict[str, int]] = {}
    runs = []
    for record in records:
        run: dict[str, Any] = {}
        for key, value in record.items():
            if key in LEFT_OUT:
                continue
            if key in INLINE or isinstance(value, int | float) or value is None:
                run[key] = value
            else:
                known = shared.setdefault(key, {})
                run[key] = known.setdefault(json.dumps(value, sort_keys=True), len(known))
        runs.append(run)
    tables = {key: [json.loads(text) for text in known] for key, known in shared.items()}
    return {"format": FORMAT, "left_out": list(LEFT_OUT), "shared": tables, "runs": runs}


def expand(document: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The runs of a collected file, as result files have them.

    Args:
        document: from `collect`.
        where: what to call it in an error.

    Raises:
        InputError: for any other document.
    """
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise InputError(f"{where} is no file of `hyperadapt bench collect`; give such a file, or a folder of results")
    shared = document["shared"]
    return [
        {key: shared[key][value] if key in shared else value for key, value in run.items()} for run in document["runs"]
    ]


def write_collection(path: Path, document: Mapping[str, Any]) -> None:
    """Write a collected file atomically, one line a run, so that versions of it can be compared."""
    head = {key: value for key, value in document.items() if key != "runs"}
    opening = json.dumps(head, ensure_ascii=False, indent=1)[: -len("\n}")]
    lines = ",\n".join(f"  {json.dumps(run, ensure_ascii=False)}" for run in document["runs"])
    write_bytes(path, f'{opening},\n "runs": [\n{lines}\n ]\n}}\n'.encode())
