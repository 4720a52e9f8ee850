"""A device at work: images through a frozen tower beside what its matrix products reach, and steps on features.

python -m benchmarks.training.device_steps [--device cuda] [--tower ViT-B-16] [--images 256] [--side 8192]
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import open_clip
import torch
from torch.nn.functional import normalize
from torch.utils.flop_counter import FlopCounterMode

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures, frozen_view
from hyperadapt.methods import load_method
from hyperadapt.model import build_model
from hyperadapt.text import ClassText
from hyperadapt.training import TrainingSet
from hyperadapt.training.loop import Training

WIDTH, BATCH = 512, 256
METHODS = ("lathadapter", "lathadapter-faithful", "xrvlm", "xrvlm-set")
ROUNDS, WARM_UP = 20, 5


def seconds(work: Callable[[], object], device: torch.device, rounds: int = ROUNDS) -> float:
    """Median time of a call, the device waited for after each."""
    times = []
    for turn in range(WARM_UP + rounds):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn >= WARM_UP:
            times.append(time.perf_counter() - start)
    return median(times)


def tower(name: str, images: int, side: int, device: torch.device) -> list[dict[str, Any]]:
    """Images a second in bfloat16 and the share of the operations that a product of two square matrices reaches."""
    model = frozen_view(open_clip.create_model(name)).to(device)
    size = model.visual.image_size
    pixels = torch.randn(images, 3, *(size if isinstance(size, tuple) else (size, size)), device=device)
    square = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        with FlopCounterMode(display=False) as counter:
            model.encode_image(pixels)
        per_pass = counter.get_total_flops()
        pass_seconds = seconds(lambda: model.encode_image(pixels), device)
        ceiling = 2 * side**3 / seconds(lambda: square @ square, device)
    reached = per_pass / pass_seconds
    return [
        {
            "quantity": f"frozen {name} in bf16, batch of {images}",
            "condition": f"{reached / 1e12:.2f} of {ceiling / 1e12:.2f} TFLOP/s that {side} x {side} products reach",
            "ours": images / pass_seconds,
            "unit": "images/s",
            "ratio": reached / ceiling,
            "target": 0.5,
        }
    ]


def steps(classes: int, device: torch.device) -> list[dict[str, Any]]:
    """Milliseconds of a training step on features, batch of 256."""
    draw = torch.Generator().manual_seed(0)
    text = normalize(torch.randn(4, classes, WIDTH, generator=draw) + 1.0, dim=-1)
    weights = normalize(text.mean(dim=0), dim=-1)
    labels = torch.randint(classes, (4 * BATCH,), generator=draw)
    images = normalize(weights[labels] + 0.05 * torch.randn(4 * BATCH, WIDTH, generator=draw), dim=-1)
    names = tuple(f"class {i}" for i in range(classes))
    known = ClassText(names, text, weights).to(device)
    data = TrainingSet(ImageFeatures(images.to(device)), labels.to(device), known)
    rows = []
    for name in METHODS:
        method = load_method(name)
        assert method.training is not None
        model = build_model(method, BuildContext(known, WIDTH, None, 100.0, len(labels)), seed=1)
        training = Training(model, data, replace(method.training, batch_size=BATCH, steps=1000), 1)
        model.train()
        took = 1e3 * seconds(training.step, device)
        rows.append(
            {
                "quantity": f"step of {name}, {classes} classes, B={BATCH}",
                "condition": f"{sum(p.numel() for p in model.trainable):,} trained values",
                "ours": took,
                "unit": "ms",
                "ratio": None,
                "target": None,
            }
        )
    return rows


def main() -> None:
    """Print a line a quantity."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tower", default="ViT-B-16")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--classes", type=int, nargs="+", default=[100, 1000])
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, {where}")
    rows = tower(chosen.tower, chosen.images, chosen.side, device)
    for row in rows + [row for count in chosen.classes for row in steps(count, device)]:
        share = "" if row["ratio"] is None else f", ratio {row['ratio']:.2f}"
        print(f"{row['quantity']}: {row['ours']:.1f} {row['unit']}{share}; {row['condition']}")


if __name__ == "__main__":
    main()
