"""One step of prompt learning: 16 shared context vectors before each class name, as in CoOp, ViT-B/16 without weights.

    python -m benchmarks.training.prompt_step [--device cpu] [--rounds 2]

The plain step is what CoOp's lineage does: all 77 positions of every class through the text tower, and the batch of 32
images through the image tower (without a gradient, which flatters it). Ours takes image features that were made before
and passes shared beginnings once, up to the longest class name. Rounds are interleaved, so that a busy machine hits
both alike; times are medians.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: waiting threads sleep, as under the command line

import argparse
import logging
import statistics
import time
import weakref
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.utils._python_dispatch import TorchDispatchMode

from hyperadapt.backbone import Backbone, load_backbone
from hyperadapt.data.world import load_world, world_names

MODEL = "ViT-B-16"
CONTEXTS = 16
BATCH = 32
ADJECTIVES = ("small", "large", "young", "old", "wild")


def class_names(count: int) -> list[str]:
    """Names of the drawn worlds' classes, first plain, then with an adjective before them."""
    plain = [name for world in world_names() for name in load_world(world).class_names]
    return [*plain, *(f"{word} {name}" for word in ADJECTIVES for name in plain)][:count]


def whole_prompts(model: Any, contexts: Tensor, ids: Tensor) -> Tensor:
    """Prompts as CoOp makes them, (K, D): every class alone, all positions."""
    words = model.token_embedding(ids)
    shared = contexts[0].expand(len(ids), -1, -1)
    x = torch.cat([words[:, :1], shared, words[:, 1 : model.context_length - CONTEXTS]], dim=1)
    x = model.transformer(x + model.positional_embedding, attn_mask=model.attn_mask)
    x = model.ln_final(x)[torch.arange(len(ids)), ids.argmax(dim=-1) + CONTEXTS] @ model.text_projection
    return normalize(x, dim=-1)


class Step:
    """Both ways to the logits of one batch, over some classes."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        self.backbone = backbone
        self.ids = backbone.text.tokenize([f"{n}." for n in class_names(classes)], reserve=CONTEXTS).to(backbone.device)
        generator = torch.Generator().manual_seed(0)
        size = backbone.image_size
        self.pixels = torch.randn(BATCH, 3, size, size, generator=generator).to(backbone.device)
        self.labels = torch.randint(classes, (BATCH,), generator=generator).to(backbone.device)
        first = 0.02 * torch.randn(1, 1, CONTEXTS, backbone.text.width, generator=generator)
        self.contexts = first.to(backbone.device).requires_grad_()
        self.optimizer = torch.optim.SGD([self.contexts], lr=2e-3)

    @cached_property
    def images(self) -> Tensor:
        """What our step finds ready."""
        return self.backbone.encode_images(self.pixels).pooled

    def our_text(self) -> Tensor:
        return self.backbone.text.prompts(self.contexts, self.ids)[0]

    def plain_text(self) -> Tensor:
        return whole_prompts(self.backbone.model, self.contexts[0], self.ids)

    def our_logits(self) -> Tensor:
        return self.backbone.logit_scale * self.images @ self.our_text().T

    def plain_logits(self) -> Tensor:
        images = self.backbone.encode_images(self.pixels).pooled
        return self.backbone.logit_scale * images @ self.plain_text().T

    def take(self, logits: Callable[[], Tensor]) -> None:
        """Forward, backward and update."""
        self.optimizer.zero_grad()
        cross_entropy(logits(), self.labels).backward()
        self.optimizer.step()

    def read_text(self, text: Callable[[], Tensor]) -> None:
        """The text side's forward and backward alone."""
        torch.autograd.grad(text().sum(), self.contexts)


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(ours: Callable[[], Any], plain: Callable[[], Any], rounds: int, device: torch.device) -> list[float]:
    """Median seconds of both; ours, where the probes of the tower come with the first call, once more before."""
    ours()
    times = [[seconds(work, device) for work in (ours, plain)] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


class LiveBytes(TorchDispatchMode):
    """Peak bytes of tensor storages made inside and alive at once, backward and recomputation included."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor) and (key := tensor.untyped_storage()._cdata) not in self.alive:
                storage = tensor.untyped_storage()
                self.alive[key] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, key)
        return made

    def _freed(self, key: int) -> None:
        self.now -= self.alive.pop(key)


def peak_mebibytes(work: Callable[[], Any]) -> float:
    with LiveBytes() as live:
        work()
    return live.peak / 2**20


def compared(quantity: str, condition: str, ours: float, peer: float, unit: str, target: str) -> dict[str, Any]:
    """One row; the ratio is the peer's figure over ours."""
    return {
        "quantity": quantity,
        "condition": condition,
        "ours": ours,
        "peer": peer,
        "unit": unit,
        "ratio": peer / ours,
        "target": target,
    }


def rows(device: str, rounds: int) -> Iterator[dict[str, Any]]:
    """One row after another, as they are measured."""
    logging.disable(logging.WARNING)  # open_clip warns of missing weights, which are not wanted here
    place = torch.device(device)
    model, _, preprocess = open_clip.create_model_and_transforms(MODEL, device=device)
    backbone = load_backbone(model, tokenizer=open_clip.get_tokenizer(MODEL), preprocess=preprocess)
    step, many = Step(backbone, 100), Step(backbone, 1000)
    setting = f"{MODEL}, {CONTEXTS} contexts, 100 classes, {device}, {torch.get_num_threads()} threads"
    with torch.no_grad():
        gap = float((step.our_logits() - step.plain_logits()).abs().max())
    difference = {"quantity": "largest difference of a logit", "condition": setting, "ours": gap, "peer": 0.0}
    yield {**difference, "unit": "", "ratio": None, "target": "<= 1e-5"}
    ours = peak_mebibytes(partial(many.read_text, many.our_text))
    plain = 10 * peak_mebibytes(partial(step.read_text, step.plain_text))
    scaled = f"{MODEL}, {CONTEXTS} contexts, 1,000 classes; plain: ten times its figure at 100 classes"
    yield compared("peak memory of the text side", scaled, ours, plain, "MiB", ">= 4")
    backbone.text.activation_budget_bytes = 2**60
    ours = peak_mebibytes(partial(many.read_text, many.our_text))
    yield compared("peak memory of the text side, in one chunk", scaled, ours, plain, "MiB", "reported")
    text = interleaved(partial(step.read_text, step.our_text), partial(step.read_text, step.plain_text), rounds, place)
    yield compared("text side of the step", setting, *text, "s", "reported")
    whole = interleaved(partial(step.take, step.our_logits), partial(step.take, step.plain_logits), rounds, place)
    yield compared("prompt-learning step", f"{setting}, batch of {BATCH} images", *whole, "s", ">= 4")


def measure(device: str = "cpu", rounds: int = 2) -> list[dict[str, Any]]:
    """Time, agreement and memory of a step, ours beside the plain one."""
    return list(rows(device, rounds))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    for row in rows(chosen.device, chosen.rounds):
        figures = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()}
        print("; ".join(f"{key}: {figure}" for key, figure in figures.items()), flush=True)


if __name__ == "__main__":
    main()
