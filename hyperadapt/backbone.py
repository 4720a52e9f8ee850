"""Frozen open_clip towers: loading, image features, part features, the text tower."""

import copy
import hashlib
import math
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from hyperadapt.errors import InputError
from hyperadapt.parts import PartFeatures, part_reader
from hyperadapt.pixels import ViewPixels
from hyperadapt.text_tower import ACTIVATION_BUDGET_BYTES, TextTower


@dataclass(frozen=True)
class ImageFeatures:
    """Frozen features of images.

    Attributes:
        pooled: (N, D) L2-normalised, CLIP's own image feature.
        parts: position-wise features for methods with several visual parts, or None.
        pixels: the tower's inputs for methods that change the image tower, or None; of training views the lazy kind,
            which gives a tensor for every index.
        rows: which training views they are, on the CPU, in a training step.
    """

    pooled: Float[Tensor, "n d"]
    parts: PartFeatures | None = None
    pixels: Float[Tensor, "n 3 h w"] | ViewPixels | None = None
    rows: Int[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(self.pooled)

    def __getitem__(self, index: Any) -> "ImageFeatures":
        parts = None if self.parts is None else self.parts[index]
        pixels = None if self.pixels is None else self.pixels[index]
        return ImageFeatures(self.pooled[index], parts, pixels)

    def step(self, rows: Int[Tensor, " b"], host_rows: Int[Tensor, " b"]) -> "ImageFeatures":
        """The images of a training step; lazy pixels are found without a wait for the device.

        Args:
            rows: (B,) on the features' device.
            host_rows: the same on the CPU.
        """
        parts = None if self.parts is None else self.parts[rows]
        lazy = isinstance(self.pixels, ViewPixels)
        pixels = None if self.pixels is None else self.pixels[host_rows if lazy else rows]
        return ImageFeatures(self.pooled[rows], parts, pixels, host_rows)

    def split(self, size: int) -> "list[ImageFeatures]":
        """Batches of `size` images, the last one smaller where it does not go."""
        return [self[at : at + size] for at in range(0, len(self), size)]

    def to(self, device: torch.device) -> "ImageFeatures":
        """The same on another device."""
        parts = None if self.parts is None else self.parts.to(device)
        pixels = None if self.pixels is None else self.pixels.to(device)
        return ImageFeatures(self.pooled.to(device), parts, pixels)

    @staticmethod
    def cat(pieces: Sequence["ImageFeatures"]) -> "ImageFeatures":
        """One batch out of several; parts and pixels where all of them have some."""
        pooled = torch.cat([piece.pooled for piece in pieces])
        parts = [piece.parts for piece in pieces if piece.parts is not None]
        pixels = [piece.pixels[:] for piece in pieces if piece.pixels is not None]
        return ImageFeatures(
            pooled,
            PartFeatures.cat(parts) if len(parts) == len(pieces) else None,
            torch.cat(pixels) if len(pixels) == len(pieces) else None,
        )

    @property
    def tower_input(self) -> Float[Tensor, "n 3 h w"]:
        """The pixels, all of them.

        Raises:
            InputError: where there are none, as in stored features.
        """
        if self.pixels is None:
            raise InputError("a method that changes the image tower needs pixels, got features alone; use images")
        return self.pixels[:]


@dataclass(frozen=True)
class Backbone:
    """A frozen CLIP model in evaluation mode, with its text tower and preprocessing.

    Attributes:
        name: model name, with the pretrained tag where there is one.
        model: frozen; shares the memory of the weights it was made from.
        tokenizer: text to token ids.
        preprocess: PIL image to input tensor, as for evaluation.
        image_size: side of the square input, pixels.
        activation_budget_bytes: of the text tower, see `TextTower`.
    """

    name: str
    model: Any
    tokenizer: Any
    preprocess: Callable[[Image.Image], Tensor]
    image_size: int
    activation_budget_bytes: int = ACTIVATION_BUDGET_BYTES
    text: TextTower = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", TextTower(self.model, self.tokenizer, self.activation_budget_bytes))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.text.device

    @cached_property
    def logit_scale(self) -> float:
        """The factor on cosine similarities, CLIP's exp(logit_scale)."""
        return float(self.model.logit_scale.exp())

    @cached_property
    def fingerprint(self) -> str:
        """Hex sha256 over names, shapes and values of all weights and buffers."""
        digest = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
            digest.update(
                value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
                if value.ndim
                else repr(value.item()).encode()
            )
        return digest.hexdigest()

    @cached_property
    def part_width(self) -> int | None:
        """Width of the tower features behind attention maps, or None where positions cannot be read."""
        parts = self.encode_images(torch.zeros(1, 3, self.image_size, self.image_size), with_parts=True).parts
        return None if parts is None else parts.maps.shape[-1]

    @torch.no_grad()
    def encode_images(self, pixels: Float[Tensor, "n 3 h w"], with_parts: bool = False) -> ImageFeatures:
        """Features of preprocessed images; parts only where the tower's positions can be read."""
        pixels = pixels.to(self.device, non_blocking=True)
        reader = part_reader(self.model.visual) if with_parts else None
        if reader is None:
            return ImageFeatures(normalize(self.model.encode_image(pixels).float(), dim=-1))
        with reader.attached():
            pooled = normalize(self.model.encode_image(pixels).float(), dim=-1)
            return ImageFeatures(pooled, reader.read())


def frozen_view(model: nn.Module) -> nn.Module:
    """A frozen, evaluation-mode twin of a model that shares its weights; the model itself is not changed in any way.

    Modules are copied, parameters and buffers are not: the twin's parameters are new handles, without gradients, on
    the same memory. It costs no memory worth speaking of.
    """
    shared: dict[int, Any] = {}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in model.buffers():
        shared[id(buffer)] = buffer.detach()
    return copy.deepcopy(model, shared).eval()


def resolve_device(device: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU; anything else is taken as torch takes it."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise InputError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N") from None
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r} was asked for, but torch sees no CUDA device; use --device cpu or auto")
    return resolved


def load_backbone(
    spec: str | nn.Module,
    *,
    tokenizer: Any = None,
    preprocess: Any = None,
    device: str = "auto",
    prompt_memory_gib: float = ACTIVATION_BUDGET_BYTES / 2**30,
) -> Backbone:
    """A frozen backbone from a name, a checkpoint, or a model that is already built.

    Args:
        spec: one of
            `"tiny"`, the embedded CLIP;
            `"ViT-B-16:openai"`, an open_clip name with a pretrained tag;
            `"ViT-B-16:/path/to/weights.pt"`, an open_clip name with a local checkpoint;
            `"hf-hub:org/name"` or `"local-dir:/path"`, as open_clip takes them;
            an open_clip model object, which is left as it is.
        tokenizer: with a model object: its tokenizer.
        preprocess: with a model object: its evaluation preprocessing.
        device: "auto", "cpu", "cuda", ...; a model object stays on its own device.
        prompt_memory_gib: activations, in GiB, that learned prompts of all classes may keep for their gradient; beyond
            it classes pass the text tower in chunks whose activations are made again on the way back.

    Raises:
        InputError: for an unknown name, tag or path, saying which are known, or for memory that is not above 0.

    Example:
        >>> load_backbone("tiny", device="cpu").image_size
        64
    """
    if not 0 < prompt_memory_gib < math.inf:
        raise InputError(
            f"prompt memory is a number of GiB above 0, got {prompt_memory_gib}; for no limit name more than there is"
        )
    budget = max(1, round(prompt_memory_gib * 2**30))
    if isinstance(spec, nn.Module):
        return _wrap(spec, tokenizer, preprocess, budget)
    target = resolve_device(device)
    if spec == "tiny":
        from hyperadapt.tiny import load_tiny

        model, _, preprocess, tokenizer = load_tiny()
        return _build("tiny", model.to(target), tokenizer, preprocess, budget)
    model, preprocess, tokenizer = _open_clip(spec, target)
    return _build(spec, model, tokenizer, preprocess, budget)


def _wrap(model: nn.Module, tokenizer: Any, preprocess: Any, budget: int) -> Backbone:
    if tokenizer is None or preprocess is None:
        raise InputError(
            "a model object needs its tokenizer and preprocessing too: "
            "load_backbone(model, tokenizer=..., preprocess=...)"
        )
    for needed in ("encode_image", "encode_text", "visual", "logit_scale"):
        if not hasattr(model, needed):
            raise InputError(f"{type(model).__name__} is not an open_clip model: it has no {needed}")
    return _build(type(model).__name__, model, tokenizer, preprocess, budget)


def _build(name: str, model: Any, tokenizer: Any, preprocess: Any, budget: int) -> Backbone:
    size = getattr(model.visual, "image_size", 224)
    side = int(size[0] if isinstance(size, tuple | list) else size)
    return Backbone(name, frozen_view(model), tokenizer, preprocess, side, budget)


def _open_clip(spec: str, device: torch.device) -> tuple[nn.Module, Any, Any]:
    """Model, evaluation preprocessing and tokenizer through open_clip's own factory."""
    import open_clip

    schema = spec.startswith(("hf-hub:", "local-dir:"))
    name, _, weights = (spec, "", "") if schema else spec.partition(":")
    if not schema:
        if open_clip.get_model_config(name) is None:
            raise InputError(
                f"unknown backbone {name!r}; use tiny, or an open_clip name with weights such as ViT-B-16:openai "
                "(open_clip.list_models() lists the names)"
            )
        if not weights:
            tags = open_clip.list_pretrained_tags_by_model(name)
            raise InputError(
                f"{name} needs weights: {name}:/path/to/checkpoint, or {name}:TAG with TAG one of "
                f"{', '.join(tags) or '(none known)'}"
            )
        name = _with_matching_activation(name, weights)
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=weights or None, device=device)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"cannot load backbone {spec}: {str(error).splitlines()[0]}") from None
    return model, preprocess, open_clip.get_tokenizer(name)


def _with_matching_activation(name: str, weights: str) -> str:
    """The model name whose activation (GELU or QuickGELU) is the one that the weights were trained with.

    open_clip's plain names use GELU; OpenAI's weights and some others were trained with QuickGELU, and the wrong one
    costs points without an error.
    """
    import open_clip

    base = name.removesuffix("-quickgelu")
    named_quick = bool((open_clip.get_model_config(name) or {}).get("quick_gelu", False))
    wanted = _weights_want_quickgelu(base, weights)
    if wanted is None or wanted == named_quick:
        return name
    right, activation = (f"{base}-quickgelu", "QuickGELU") if wanted else (base, "GELU")
    if open_clip.get_model_config(right) is None:
        warnings.warn(
            f"the weights {weights!r} were trained with {activation}, but open_clip has no {right}; {name} is used",
            stacklevel=4,
        )
        return name
    warnings.warn(
        f"the weights {weights!r} were trained with {activation}: {right} is used instead of {name}",
        stacklevel=4,
    )
    return right


def _weights_want_quickgelu(base: str, weights: str) -> bool | None:
    """True or False where the provenance of the weights tells, None where it does not."""
    import open_clip

    path = Path(weights)
    if path.is_file():
        with path.open("rb") as file:
            is_zip = zipfile.is_zipfile(file)
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                if any(entry.endswith("/constants.pkl") for entry in archive.namelist()):
                    return True  # a TorchScript archive: OpenAI's own release format
        return None
    for candidate in (base, f"{base}-quickgelu"):
        tag = open_clip.get_pretrained_cfg(candidate, weights)
        if tag:
            return bool(tag.get("quick_gelu", False))
    return None
