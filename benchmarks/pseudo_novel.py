"""Compare settings of methods on base classes alone: half of them play novel, and no test image is read.

    python -m benchmarks.pseudo_novel --recipes a.yaml b.yaml --features DIR [DIR ...] [--world NAME ...]

Base classes of each draw are cut in halves at random, three times a seed. The first half is trained on; its validation
images are scored among its names, and all shots and validation images of the other half among theirs. Printed per
recipe: mean base, novel and harmonic mean over all tasks, and the paired difference in harmonic mean to the first
recipe with its standard error.
"""

import argparse
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from hyperadapt.bench import frozen_features
from hyperadapt.data import AbstractSource, Draw, Part, base_and_novel, load_source
from hyperadapt.evaluation import harmonic_mean
from hyperadapt.methods import Method, load_method
from hyperadapt.protocols.base_to_novel import Task, run_base_to_novel

CUTS = 3


def pseudo_task(draw: Draw, class_count: int, seed: int) -> Task:
    """A base-to-novel task inside the base classes; its test rows are training and validation rows of the draw."""
    base, _ = base_and_novel(draw.train.labels.tolist(), class_count)
    order = np.random.default_rng(seed).permutation(base)
    known, held = sorted(order[: (len(base) + 1) // 2].tolist()), sorted(order[(len(base) + 1) // 2 :].tolist())
    rows = np.concatenate([draw.train.rows, draw.val.rows])
    labels = np.concatenate([draw.train.labels, draw.val.labels])
    return Task(
        tuple(known),
        tuple(held),
        draw.train.restrict(known),
        draw.val.restrict(known),
        Part(rows, labels).restrict(held),
    )


def scores(methods: list[Method], source: AbstractSource, shots: int, seeds: list[int], backbone: str) -> np.ndarray:
    """(methods, tasks, 3): base, novel and harmonic mean of each pseudo task."""
    features = frozen_features(source, backbone, "auto", views=3)
    found = []
    for method in methods:
        row = []
        for seed in seeds:
            draw = source.draw(shots, seed)
            for cut in range(CUTS):
                task = pseudo_task(draw, len(source.class_names), seed * 1000 + cut)
                outcome = run_base_to_novel(method, features, task, seed)
                base = outcome.base.accuracy if outcome.base.total else float("nan")
                row.append((base, outcome.novel.accuracy, harmonic_mean(base, outcome.novel.accuracy)))
        found.append(row)
        print(
            f"{source.name} {method.name}: " + " ".join(f"{100 * value:.2f}" for value in np.mean(row, axis=0)),
            flush=True,
        )
    return np.array(found)


def main() -> None:
    """Run and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--recipes", nargs="+", required=True, help="method names or recipe files; the first is the reference"
    )
    parser.add_argument("--features", nargs="*", type=Path, default=[])
    parser.add_argument("--world", nargs="*", default=[])
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    methods = [load_method(name) for name in arguments.recipes]
    sources = [load_source(features=folder) for folder in arguments.features] + [
        load_source(world=name) for name in arguments.world
    ]
    pooled = np.concatenate(
        [scores(methods, source, arguments.shots, arguments.seeds, arguments.backbone) for source in sources], axis=1
    )
    for method, row in zip(methods, pooled, strict=True):
        gain = (row[:, 2] - pooled[0, :, 2]) * 100
        error = stdev(gain) / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
        base, novel, harmonic = (100 * value for value in row.mean(axis=0))
        against = f"against {methods[0].name} {fmean(gain):+.2f} ({error:.2f})"
        print(f"{method.name}: base {base:.2f} novel {novel:.2f} HM {harmonic:.2f}; {against}")


if __name__ == "__main__":
    main()
