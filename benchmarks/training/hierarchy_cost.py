"""What the hierarchical term adds to a step of LatHAdapter, on random features.

python -m benchmarks.training.hierarchy_cost [--batch 256] [--classes 1000] [--attributes 64] [--readings h1 ...]
"""

import argparse
import time
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch.nn.functional import normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.methods import Method, load_method
from hyperadapt.model import build_model
from hyperadapt.text import ClassText
from hyperadapt.training import TrainingSet
from hyperadapt.training.loop import Training

WIDTH = 512
ROUNDS = 15


def measure(batch: int, classes: int, attributes: int, readings: list[str]) -> list[dict[str, Any]]:
    """Milliseconds of a training step with each reading, beside the same adapter without the term."""
    draw = torch.Generator().manual_seed(0)
    text = normalize(torch.randn(1, classes, WIDTH, generator=draw) + 1.0, dim=-1)
    labels = torch.randint(classes, (4 * batch,), generator=draw)
    images = normalize(text[0, labels] + 0.05 * torch.randn(4 * batch, WIDTH, generator=draw), dim=-1)
    names = tuple(f"class {i}" for i in range(classes))
    data = TrainingSet(ImageFeatures(images), labels, ClassText(names, text, text[0]))
    faithful = load_method("lathadapter-faithful")
    methods = {"without": _changed(faithful, batch, attributes=attributes, hier_weight=0.0)}
    for reading in readings:
        methods[reading] = _changed(faithful, batch, attributes=attributes, hierarchy=reading)
    trainings = {name: _training(method, data) for name, method in methods.items()}
    times: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(ROUNDS + 2):
        for name, training in trainings.items():
            start = time.perf_counter()
            training.step()
            if turn > 1:
                times[name].append(1e3 * (time.perf_counter() - start))
    plain, best = median(times["without"]), min(times["without"])
    return [
        {
            "quantity": f"step with {name}, B={batch}, {classes} categories, {attributes} attributes",
            "condition": f"quickest {min(times[name]):.1f} ms, {min(times[name]) / best:.2f} of it without",
            "ours": median(times[name]),
            "peer": plain,
            "unit": "ms",
            "ratio": median(times[name]) / plain,
            "target": 2.0,
        }
        for name in readings
    ]


def _changed(method: Method, batch: int, **settings: Any) -> Method:
    assert method.training is not None
    adapter = replace(method.adapter, settings=replace(method.adapter.settings, **settings))
    return replace(method, adapter=adapter, training=replace(method.training, batch_size=batch, steps=1000))


def _training(method: Method, data: TrainingSet) -> Training:
    assert method.training is not None
    model = build_model(method, BuildContext(data.classes, WIDTH, None, 100.0, len(data.labels)), seed=1)
    return Training(model, data, method.training, 1)


def main() -> None:
    """Print a line a reading."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--attributes", type=int, default=64)
    parser.add_argument("--readings", nargs="+", default=["h0", "h1", "h2", "h3", "h4", "h5"])
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    for row in measure(chosen.batch, chosen.classes, chosen.attributes, chosen.readings):
        times = f"{row['ours']:.1f} ms, without {row['peer']:.1f} ms, ratio {row['ratio']:.2f}"
        print(f"{row['quantity']}: {times}; {row['condition']}")


if __name__ == "__main__":
    main()
