"""Other images and other texts of the training classes, for methods that hold two branches together."""

import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hyperadapt.backbone import ImageFeatures
from hyperadapt.data import open_image
from hyperadapt.errors import InputError
from hyperadapt.text import ClassText
from hyperadapt.transfer import sent
from manifolds.regularizers import AbstractDraws

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class ClassImages:
    """Images by class, as inputs of the tower.

    Attributes:
        of_class: what each class has: rows of the pixels, or files.
        read: several of these to inputs of the tower.
    """

    of_class: Sequence[Sequence[Any]]
    read: Callable[[list[Any]], Float[Tensor, "b 3 h w"]]

    @classmethod
    def of(
        cls, images: ImageFeatures, labels: Int[Tensor, " n"], classes: ClassText, folder: str | None
    ) -> "ClassImages":
        """Random views of the shots, or the images of a folder.

        Args:
            images: (V * N) training views, view-major, with pixels; where there is one view, that one is taken. The
                pixels are the caller's to keep, and are given as long as they are there.
            labels: (N,) indices into the classes.
            classes: the training classes.
            folder: one folder a class name, with images; underscores in a name stand for spaces.

        Raises:
            InputError: for a class without images in the folder, or a tower that does not say how it reads images.
        """
        if folder is not None:
            return cls(_files(Path(folder), classes.names), _file_reader(classes.prompt_tower.model.visual))
        count = len(labels)
        rows = range(count if len(images) > count else 0, len(images))
        owners = labels.tolist()
        return cls(
            [[row for row in rows if owners[row % count] == k] for k in range(len(classes))], _row_reader(images)
        )

    def drawn(self, labels: Int[Tensor, " b"], draws: AbstractDraws, device: torch.device) -> Float[Tensor, "b 3 h w"]:
        """One image of each label's class, at random.

        Args:
            labels: on the CPU.
            draws: random numbers of the step.
            device: where the images are wanted.
        """
        numbers = draws.host(len(labels)).tolist()
        owned = [self.of_class[label] for label in labels.tolist()]
        chosen = [own[int(number * len(own))] for own, number in zip(owned, numbers, strict=True)]
        return sent(self.read(chosen), device)


def _named(names: Sequence[str], found: Mapping[str, Any], where: str) -> list[Any]:
    """What was found for each class, by its readable name."""
    readable = {name.replace("_", " "): value for name, value in found.items()}
    missing = [name for name in names if not readable.get(name)]
    if missing:
        raise InputError(f"{where} has nothing for the class {missing[0]!r}; it needs something for every class")
    return [readable[name] for name in names]


def _files(folder: Path, names: Sequence[str]) -> list[list[Path]]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; it needs one folder of images a class")
    found = {
        inner.name: sorted(file for file in inner.iterdir() if file.suffix.lower() in IMAGE_ENDINGS)
        for inner in folder.iterdir()
        if inner.is_dir()
    }
    return _named(names, found, str(folder))


def _row_reader(images: ImageFeatures) -> Callable[[list[int]], Tensor]:
    """Rows to inputs; a model that outlives its training does not keep the training images in memory."""
    if images.pixels is None:
        raise InputError("random views of the shots need pixels, got features alone; use images")
    kept: Any = weakref.ref(images.pixels)

    def read(rows: list[int]) -> Tensor:
        pixels = kept()
        if pixels is None:
            raise InputError("the training images are gone; keep them as long as the model trains")
        return pixels[torch.tensor(rows)]

    return read


def _file_reader(visual: Any) -> Callable[[list[Path]], Tensor]:
    """Files to inputs, as open_clip evaluates."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config = getattr(visual, "preprocess_cfg", None)
    if config is None:
        raise InputError("the image tower does not say how it reads images; load it by name, or leave the folder out")
    transform: Any = image_transform_v2(PreprocessCfg(**config), is_train=False)
    return lambda files: torch.stack([transform(open_image(file)) for file in files])


@dataclass(frozen=True)
class ClassCaptions:
    """Several texts of each class, by their frozen features.

    Attributes:
        features: (M, K, D); a class with fewer texts than others has some of them more than once.
    """

    features: Float[Tensor, "m k d"]

    @classmethod
    def of(cls, classes: ClassText, file: str | None) -> "ClassCaptions":
        """The captions of a file, or the templates of the data set.

        Args:
            classes: the training classes.
            file: JSON, class names to lists of texts.

        Raises:
            InputError: for a file that is none, or has no text for a class.
        """
        if file is None:
            return cls(classes.templates)
        try:
            found = json.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read captions from {file}: {error}") from None
        texts = _named(classes.names, found, file)
        most = max(len(own) for own in texts)
        listed = [own[i % len(own)] for i in range(most) for own in texts]
        return cls(classes.prompt_tower.encode(listed).unflatten(0, (most, len(texts))))

    def drawn(self, draws: AbstractDraws) -> Float[Tensor, "k d"]:
        """One text of each class, at random."""
        count, classes = self.features.shape[:2]
        chosen = (draws.rand(classes) * count).long().clamp(max=count - 1)
        return self.features[chosen, torch.arange(classes, device=chosen.device)]
