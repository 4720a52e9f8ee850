"""Runs of retrieval over methods and seeds, each recorded in its own file."""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from hyperadapt.bench import RUNNING, flags_of, forget
from hyperadapt.methods import Method
from hyperadapt.protocols.prepare import Reporter
from hyperadapt.report.published import declared_flags
from hyperadapt.report.table import percent
from hyperadapt.results import identity, peak_memory_mib, read_json, versions, write_json
from hyperadapt.retrieval.features import AbstractPairFeatures
from hyperadapt.retrieval.fit import build_pair_model, fit_pairs, score_pairs
from hyperadapt.retrieval.recall import TITLES
from hyperadapt.training import RunFolder

SELECTION = "fixed settings; the last step is scored; no validation or test pair is used in training"


def bench_retrieval(
    features: AbstractPairFeatures, methods: Sequence[Method], seeds: Sequence[int], out: Path, reporter: Reporter
) -> list[dict[str, Any]]:
    """Every method with every seed: trained on the training pairs, scored on the test pairs, in both directions.

    Finished runs found in `out` are read, not repeated; others go on from their last checkpoint.

    Args:
        features: of the pairs.
        methods: what to run.
        seeds: one run each.
        out: folder of the result files.
        reporter: receives progress and remarks.

    Returns:
        One record a run, method by method, then by seed.

    Raises:
        InputError: for a method that is not for pairs, before any is run; for pairs without a part that is needed.
    """
    features.pairs.part("test")
    for method in methods:
        build_pair_model(method, features, seed=0)
    if cut := features.cut():
        reporter.say(
            f"{cut} of {len(features.pairs.captions)} captions are longer than the text tower reads: their last words "
            "are cut off"
        )
    records, kept = [], 0
    for method in methods:
        for seed in seeds:
            decided = {"protocol": "retrieval", **features.facts(), "seed": seed, "method": method.to_dict()}
            name = f"{features.pairs.name}--retrieval--{method.name}--seed{seed}--{identity(decided)}"
            path = out / f"{name}.json"
            kept += path.is_file()
            if not path.is_file():
                run = RunFolder(out / RUNNING / name, decided)
                write_json(path, {**decided, **_record(features, method, seed, run, reporter)})
                forget(run)
            records.append(read_json(path))
    if kept:
        reporter.say(f"{kept} of {len(records)} runs were found finished in {out} and were not repeated")
    return records


def _record(
    features: AbstractPairFeatures, method: Method, seed: int, run: RunFolder, reporter: Reporter
) -> dict[str, Any]:
    """What a result file holds beyond what decides the run."""
    test = features.pairs.part("test")
    start = time.perf_counter()
    with reporter.task(f"{method.name}, seed {seed}") as progress:
        fitted = fit_pairs(method, features, seed, progress, run)
    trained = run.seconds + time.perf_counter() - start
    start = time.perf_counter()
    found = score_pairs(fitted.model, features, test)
    return {
        "recall": found.counts(),
        "candidates": {"images": len(test.rows), "captions": len(test), "galleries": _galleries(features)},
        "training_images": fitted.images,
        "flags": flags_of(method),
        "selection": SELECTION,
        "trained_parameters": sum(parameter.numel() for parameter in fitted.model.trainable),
        "history": fitted.history,
        "seconds": {"train": round(trained, 3), "test": round(time.perf_counter() - start, 3)},
        "peak_memory_mib": round(peak_memory_mib(), 1),
        "device": str(features.device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def _galleries(features: AbstractPairFeatures) -> int:
    """Galleries that the test images are in."""
    return len(set(features.pairs.galleries[features.pairs.part("test").rows].tolist()))


HEADER = ("method", *TITLES, "s/run", "trained", "flags")


def recall_rows(records: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One row a method, in order of first appearance: per cent, mean over seeds and sample standard deviation.

    Args:
        records: contents of result files of one set of pairs.
    """
    by_method: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_method.setdefault(record["method"]["name"], []).append(record)
    rows = []
    for name, runs in by_method.items():
        cells = []
        for key in runs[0]["recall"]:
            shares = [run["recall"][key]["hits"] / run["recall"][key]["total"] for run in runs]
            cells.append(percent(fmean(shares), stdev(shares) if len(shares) > 1 else None))
        seconds = fmean(run["seconds"]["train"] + run["seconds"]["test"] for run in runs)
        trained = f"{runs[0]['trained_parameters']:,}"
        rows.append((name, *cells, f"{seconds:.1f}", trained, " ".join(declared_flags(runs))))
    return rows
