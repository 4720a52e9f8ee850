"""Training of the embedded CLIP: `python -m hyperadapt.tiny.train --out DIR` writes weights, config and card.

Contrastive learning on pictures of the world's pretraining stream and their captions, on the CPU. Everything random
comes from the seed; equal machines with equal versions and thread counts give equal weights.
"""

import argparse
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import open_clip
import torch
from jaxtyping import Float, Int, UInt8
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, pad

from hyperadapt.data.world import load_world, world_domains, world_names
from hyperadapt.tiny import FOLDER, load_tiny
from hyperadapt.tiny.measure import measure
from hyperadapt.tiny.pairs import Pairs, build_pairs
from hyperadapt.tiny.weights import pack

_SHIFT: Final = 4
"""Pictures are moved by up to this many pixels."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one training.

    Attributes:
        per_class: Pretraining pictures a class.
        steps: Optimiser steps.
        batch: Pairs a step.
        learning_rate: Peak of the cosine schedule.
        warmup: Steps of the linear rise.
        weight_decay: On matrices only.
        patch_dropout: Share of patches left out, until the last `whole_share` of the steps.
        whole_share: Share of the steps, at the end, that see whole pictures.
        seed: Seed of initial weights, order, captions and augmentation.
        threads: Threads of torch.
    """

    per_class: int = 120
    steps: int = 900
    batch: int = 128
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.1
    patch_dropout: float = 0.5
    whole_share: float = 0.2
    seed: int = 1
    threads: int = 2


def build(settings: TrainingConfig, vocabulary: int) -> CLIP:
    """An untrained model of the shipped architecture over a compact vocabulary."""
    torch.manual_seed(settings.seed)
    shape = _package_config()["model_cfg"]
    vision = CLIPVisionCfg(**{**shape["vision_cfg"], "patch_dropout": settings.patch_dropout})
    text = CLIPTextCfg(**{**shape["text_cfg"], "vocab_size": vocabulary})
    model = CLIP(shape["embed_dim"], vision, text, quick_gelu=shape["quick_gelu"])
    visual: Any = model.visual
    blocks = list(visual.transformer.resblocks)
    for block in blocks:
        block.attn.out_proj.weight.data.mul_((2 * len(blocks)) ** -0.5)
        block.mlp.c_proj.weight.data.mul_((2 * len(blocks)) ** -0.5)
    return model


def encode_text(model: Any, tokens: Int[Tensor, "B L"]) -> Float[Tensor, "B D"]:
    """The model's own `encode_text`, cut to the longest caption; causal attention makes the cut exact."""
    length = int((tokens != 0).sum(dim=1).max())
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), tokens.argmax(dim=-1)] @ model.text_projection


def augment(images: UInt8[Tensor, "B 3 H W"], generator: torch.Generator) -> Float[Tensor, "B 3 H W"]:
    """Move each picture a few pixels and mirror half of them; then the model's mean and deviation."""
    size = images.shape[-1]
    wide = pad(images.float(), (_SHIFT,) * 4, mode="replicate")
    moves = torch.randint(0, 2 * _SHIFT + 1, (len(images), 2), generator=generator).tolist()
    mirrored = (torch.rand(len(images), generator=generator) < 0.5).tolist()
    out = torch.empty(images.shape)
    for i, (down, right) in enumerate(moves):
        view = wide[i, :, down : down + size, right : right + size]
        out[i] = view.flip(-1) if mirrored[i] else view
    norm = _package_config()["preprocess_cfg"]
    mean, std = (255.0 * torch.tensor(norm[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (out - mean) / std


def contrastive_loss(model: CLIP, images: Tensor, tokens: Tensor) -> Float[Tensor, ""]:
    """CLIP's loss: cross entropy from images to captions and back, averaged (Radford et al. 2021)."""
    image, text = normalize(model.encode_image(images), dim=-1), normalize(encode_text(model, tokens), dim=-1)
    logits = model.logit_scale.exp() * image @ text.T
    own = torch.arange(len(logits))
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def _rows(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        for rows in torch.randperm(count, generator=generator).split(batch):
            if len(rows) == batch:
                yield rows


def _rate(step: int, settings: TrainingConfig) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    return settings.learning_rate * min((step + 1) / settings.warmup, cosine)


def fit(model: CLIP, pairs: Pairs, tokens: Int[Tensor, "N C L"], settings: TrainingConfig) -> Iterator[float]:
    """Train in place; yields the loss of every step."""
    generator = torch.Generator().manual_seed(settings.seed)
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))
    stream = _rows(len(tokens), settings.batch, generator)
    dropout: Any = model.visual.patch_dropout
    for step in range(settings.steps):
        if step >= round((1 - settings.whole_share) * settings.steps):
            dropout.prob = 0.0
        rows = next(stream)
        chosen = torch.randint(0, tokens.shape[1], (len(rows),), generator=generator)
        loss = contrastive_loss(model, augment(pairs.images[rows], generator), tokens[rows, chosen])
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, settings)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0.0, math.log(100.0))
        yield loss.item()


def train(settings: TrainingConfig, out: Path, checkpoint_every: int) -> dict[str, Any]:
    """Render, train, write the weights; returns the training part of the card."""
    torch.set_num_threads(settings.threads)
    started = time.perf_counter()
    pairs = build_pairs(settings.per_class, settings.threads)
    ids = torch.unique(pairs.tokens)
    tokens = torch.searchsorted(ids, pairs.tokens)
    model = build(settings, len(ids)).train()
    recent: list[float] = []
    for step, loss in enumerate(fit(model, pairs, tokens, settings), start=1):
        recent = [*recent[-99:], loss]
        if step % 50 == 0:
            elapsed = time.perf_counter() - started
            print(f"step {step} of {settings.steps}: loss {np.mean(recent):.3f}, {elapsed:.0f} s", flush=True)
        if step % checkpoint_every == 0 or step == settings.steps:
            pack(model.state_dict(), ids, out / "model.safetensors")
    return {
        "settings": asdict(settings),
        "pairs_seen": settings.steps * settings.batch,
        "final_loss": round(float(np.mean(recent)), 4),
        "time_seconds": round(time.perf_counter() - started),
        "vocabulary_rows": len(ids),
    }


def write_card(out: Path, training: dict[str, Any]) -> None:
    """Measure the weights as they were written and describe them in `card.json`."""
    weights = out / "model.safetensors"
    model, _, preprocess, tokenizer = load_tiny(weights)
    sources = {name: load_world(name) for name in world_names()}
    figures = {name: measure(model, preprocess, tokenizer, source, 16) for name, source in sources.items()}
    counted = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("token_embedding"))
    content = {
        "command": "python -m hyperadapt.tiny.train --out DIR",
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "weights_bytes": weights.stat().st_size,
        "parameters_without_vocabulary": counted,
        "data_fingerprints": {name: source.fingerprint for name, source in sources.items()},
        "training": training,
        "zero_shot": {name: {key: row[key] for key in ("all", "base", "novel")} for name, row in figures.items()},
        "zero_shot_domains": {
            name: measure(model, preprocess, tokenizer, load_world(name)) for name in world_domains("birds")
        },
        "linear_probe_16_shot": {name: row["probe_16_shot"] for name, row in figures.items()},
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__, "open_clip": open_clip.__version__,
            "numpy": np.__version__,
        },
    }  # fmt: skip
    _replace(out / "card.json", json.dumps(content, indent=2) + "\n")


def _package_config() -> dict[str, Any]:
    return json.loads((FOLDER / "open_clip_config.json").read_text(encoding="utf-8"))


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}.part")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def main() -> None:
    """Command line: where to write, and the settings worth changing in a trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for model.safetensors and card.json")
    parser.add_argument("--checkpoint-every", type=int, default=500, help="steps between saved weights")
    for name, kind in (("per_class", int), ("steps", int), ("learning_rate", float), ("seed", int), ("threads", int)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=getattr(TrainingConfig(), name))
    given = vars(parser.parse_args())
    out, every = given.pop("out"), given.pop("checkpoint_every")
    out.mkdir(parents=True, exist_ok=True)
    training = train(TrainingConfig(**given), out, every)
    _replace(out / "open_clip_config.json", json.dumps(_package_config(), indent=2) + "\n")
    write_card(out, training)


if __name__ == "__main__":
    main()
