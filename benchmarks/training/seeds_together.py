"""Seeds trained as one batched computation beside the same runs in turn, on stored features.

python -m benchmarks.training.seeds_together --features DIR [--methods NAME ...] [--runs 5] [--steps 60] [--repeats 3]
"""

import argparse
import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hyperadapt.bench import frozen_features
from hyperadapt.data import load_source
from hyperadapt.fit import training_set
from hyperadapt.methods import load_method
from hyperadapt.model import build_model
from hyperadapt.protocols.base_to_novel import base_to_novel_task
from hyperadapt.training import Run, train, train_together
from hyperadapt.training_config import TrainingConfig


def _timed(prepared: Sequence[Run], config: TrainingConfig) -> tuple[float, float, float]:
    """Seconds of copies of the runs in turn and together, and the largest difference of a weight."""
    apart, together = ([Run(copy.deepcopy(run.model), run.data, run.seed) for run in prepared] for _ in range(2))
    start = time.perf_counter()
    for run in apart:
        train(run.model, run.data, config, run.seed)
    middle = time.perf_counter()
    train_together(together, config)
    end = time.perf_counter()
    gap = max(
        float((p - q).detach().abs().max())
        for a, b in zip(apart, together, strict=True)
        for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True)
    )
    return middle - start, end - middle, gap


def measure(folder: Path, methods: list[str], runs: int = 5, steps: int = 60, repeats: int = 3) -> list[dict[str, Any]]:
    """Seconds for `runs` seeds of each method, together and in turn: the pair of median ratio among `repeats`."""
    features = frozen_features(load_source(features=folder), "tiny", "cpu", views=0)
    rows = []
    for name in methods:
        method = load_method(name)
        assert method.training is not None
        config = replace(method.training, steps=steps)
        prepared = []
        for seed in range(1, runs + 1):
            task = base_to_novel_task(features, features.source.draw(16, seed))
            classes = task.classes
            model = build_model(method, features.context(classes, len(task.shots)), seed)
            prepared.append(Run(model, training_set(features, task.shots, classes, seed, model.pools_parts), seed))
        train(copy.deepcopy(prepared[0].model), prepared[0].data, replace(config, steps=3), seed=1)
        pairs = sorted((_timed(prepared, config) for _ in range(repeats)), key=lambda pair: pair[0] / pair[1])
        in_turn, together, _ = pairs[repeats // 2]
        gap = max(gap for *_, gap in pairs)
        rows.append(
            {
                "quantity": f"{runs} seeds of {name}, {steps} steps",
                "condition": f"largest difference of a weight {gap:.1e}",
                "ours": together,
                "peer": in_turn,
                "unit": "s",
                "ratio": in_turn / together,
                "ratios": [peer / ours for peer, ours, _ in pairs],
                "target": 2.0 if name == "lathadapter-faithful" else None,
            }
        )
    return rows


def main() -> None:
    """Print a line a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=["lathadapter-faithful", "clip-adapter", "xrvlm"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for row in measure(chosen.features, chosen.methods, chosen.runs, chosen.steps, chosen.repeats):
        times = f"{row['ours']:.2f} s, in turn {row['peer']:.2f} s, ratio {row['ratio']:.2f}"
        spread = ", ".join(f"{ratio:.2f}" for ratio in row["ratios"])
        print(f"{row['quantity']}: {times} (median of {spread}); {row['condition']}")


if __name__ == "__main__":
    main()
