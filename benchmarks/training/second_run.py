"""A second run on the same data: images through the tower, and seconds to the first training step.

    python -m benchmarks.training.second_run [--data FOLDER]

A run here is what a user waits for: load the backbone and the data, get the features of 16 shots a class in four views
and of the test images, take one step of a classifier on them. The first run fills an empty store, the second, with
objects of its own, finds it full.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: waiting threads sleep, as under the command line

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from hyperadapt.backbone import load_backbone
from hyperadapt.data import AbstractImageSource, load_source
from hyperadapt.feature_store import FeatureStore
from hyperadapt.features import TowerFeatures

SHOTS = 16
SEEDS = (1, 2, 3)


def run(store: FeatureStore, data: Path | None) -> tuple[int, float]:
    """Images that passed the image tower, and seconds from nothing loaded to one step taken."""
    start, passed = time.perf_counter(), []
    source = load_source(world="birds") if data is None else load_source(data=data)
    assert isinstance(source, AbstractImageSource)
    backbone = load_backbone("tiny", device="cpu")
    backbone.model.visual.register_forward_hook(lambda _module, inputs, _output: passed.append(len(inputs[0])))
    features = TowerFeatures(source, backbone, store=store)
    draws = [source.draw(SHOTS, seed) for seed in SEEDS]
    tested = np.unique(np.concatenate([draw.test.rows for draw in draws]))
    features.encode_missing(tested, training=[(d.train.rows, seed) for d, seed in zip(draws, SEEDS, strict=True)])
    images = features.training_views(draws[0].train.rows, SEEDS[0], with_parts=False).pooled
    labels = torch.from_numpy(draws[0].train.labels).repeat(len(images) // len(draws[0].train))
    weights = features.classes.weights.clone().requires_grad_()
    cross_entropy(features.logit_scale * images @ weights.T, labels).backward()
    torch.optim.SGD([weights], lr=1e-3).step()
    return sum(passed), time.perf_counter() - start


def measure(data: Path | None = None) -> list[dict[str, Any]]:
    """Both runs on the drawn birds, or on a folder of images, with the embedded CLIP."""
    with tempfile.TemporaryDirectory() as folder:
        (first_images, first_seconds), (images, seconds) = (run(FeatureStore(folder), data) for _ in range(2))
    name = "drawn birds" if data is None else data.name
    condition = f"{name}, tiny, {SHOTS} shots, {len(SEEDS)} seeds; peer: first run"
    row = {"condition": condition}
    return [
        {
            **row,
            "quantity": "images through the tower, second run",
            "ours": images,
            "peer": first_images,
            "unit": "",
            "ratio": None,
            "target": "0",
        },
        {
            **row,
            "quantity": "time to the first step, second run",
            "ours": seconds,
            "peer": first_seconds,
            "unit": "s",
            "ratio": first_seconds / seconds,
            "target": "< 5 s",
        },
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    for row in measure(parser.parse_args().data):
        print("; ".join(f"{key}: {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
