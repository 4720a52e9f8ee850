"""A step of the training loop beside the bare forward, backward and optimiser step on the same batches.

    python -m benchmarks.training.loop_overhead [--device cpu] [--steps 200] [--classes 100]

The loop samples, checks every term and gradient, keeps and writes its history and looks for the time of a checkpoint;
the bare step has its batches ready and does none of that. Steps of both alternate, so that a busy machine hits both
alike; times are medians. Features are random, of CLIP ViT-B/16's width, 16 shots a class.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.methods import load_method
from hyperadapt.model import FewShotModel, build_model
from hyperadapt.text import ClassText
from hyperadapt.training import RunFolder, TrainingSet
from hyperadapt.training.loop import Training
from hyperadapt.training.optimizers import Optimizers, Schedule
from hyperadapt.training.step import StepLosses
from hyperadapt.training_config import TrainingConfig
from manifolds.regularizers import GeneratorDraws

METHODS = ("clip-adapter", "lathadapter-faithful", "xrvlm")
WIDTH, SHOTS, TEMPLATES = 512, 16, 7
WARMUP = 10
TARGET = 1.10


def training_set(classes: int, device: torch.device) -> TrainingSet:
    """Random features around random class texts."""
    generator = torch.Generator().manual_seed(0)
    templates = normalize(torch.randn(TEMPLATES, classes, WIDTH, generator=generator), dim=-1)
    text = ClassText(tuple(f"class {i}" for i in range(classes)), templates, normalize(templates.mean(0), dim=-1))
    labels = torch.arange(classes).repeat(SHOTS)
    images = normalize(text.weights[labels] + torch.randn(len(labels), WIDTH, generator=generator) / 16, dim=-1)
    return TrainingSet(ImageFeatures(images).to(device), labels.to(device), text.to(device))


def bare_step(model: FewShotModel, data: TrainingSet, config: TrainingConfig, batches: list[Any]) -> Callable[[], None]:
    """Losses, gradients and optimiser step, and nothing else."""
    losses, (optimizer,) = StepLosses(model, data), Optimizers(model, config, Schedule(config, len(batches), 1)).parts
    draws, waiting = GeneratorDraws(torch.Generator(data.labels.device).manual_seed(1)), iter(batches)

    def step() -> None:
        batch = next(waiting)
        terms = losses(batch, draws)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], None], device: torch.device) -> float:
    """Wall time of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(device: str = "cpu", steps: int = 200, classes: int = 100) -> list[dict[str, Any]]:
    """One row a method: medians in ms, and their quotient."""
    rows, place = [], torch.device(device)
    data = training_set(classes, place)
    context = BuildContext(data.classes, WIDTH, None, 100.0)
    for name in METHODS:
        method = load_method(name)
        assert method.training is not None
        config = replace(method.training, steps=steps + WARMUP)
        with tempfile.TemporaryDirectory() as folder:
            training = Training(build_model(method, context, 1).train(), data, config, 1, RunFolder(Path(folder)))
            twin = Training(build_model(method, context, 1), data, config, 1)
            bare = bare_step(
                build_model(method, context, 1).train(),
                data,
                config,
                [twin.sampler.next() for _ in range(config.steps or 0)],
            )
            times = [(seconds(training.step, place), seconds(bare, place)) for _ in range(steps + WARMUP)][WARMUP:]
        ours, peer = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
        rows.append(
            {
                "quantity": f"step of {name}",
                "condition": f"stored features, {classes} classes, batch {twin.sampler.size}, {device}",
                "ours": ours,
                "peer": peer,
                "unit": "ms",
                "ratio": ours / peer,
                "target": TARGET,
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--classes", type=int, default=100)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for row in measure(chosen.device, chosen.steps, chosen.classes):
        print(
            f"{row['quantity']} ({row['condition']}): loop {row['ours']:.3f} {row['unit']}, bare {row['peer']:.3f} "
            f"{row['unit']}, {row['ratio']:.3f} (target at most {row['target']})"
        )


if __name__ == "__main__":
    main()
