"""What a run trains on: frozen features of the shots and the text of their classes, and nothing else."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from hyperadapt.backbone import ImageFeatures
from hyperadapt.captions import CaptionPool
from hyperadapt.text import ClassText
from manifolds.regularizers import AbstractDraws


@dataclass(frozen=True)
class TrainingSet:
    """Frozen features of the training shots in V views.

    Attributes:
        images: (V * N) features, view-major: row v * N + i is view v of image i.
        labels: (N,) indices into the classes.
        classes: the training classes.
        names: what to call each image in messages, such as its file; positions where left out.
        captions: where images have captions of their own, these; each step then tells those of its images apart.
    """

    images: ImageFeatures
    labels: Int[Tensor, " n"]
    classes: ClassText
    names: Sequence[str] = ()
    captions: CaptionPool | None = None

    @cached_property
    def on_host(self) -> "TrainingSet":
        """Features and texts on the CPU, without pixels; for choices that Python makes in a step."""
        cpu = torch.device("cpu")
        return TrainingSet(ImageFeatures(self.images.pooled.to(cpu)), self.host_labels, self.classes.to(cpu))

    @cached_property
    def host_labels(self) -> Int[Tensor, " n"]:
        """The labels on the CPU."""
        return self.labels.cpu()

    @property
    def views(self) -> int:
        """Views of each image."""
        return len(self.images) // len(self.labels)

    @property
    def shots(self) -> int:
        """Images of the class that has most."""
        return int(self.labels.bincount().max())

    def called(self, images: Sequence[int]) -> list[str]:
        """The names of some images."""
        return [self.names[i] if self.names else f"image {i}" for i in images]

    def posed(
        self, images: Int[Tensor, " b"], host_images: Int[Tensor, " b"], draws: AbstractDraws
    ) -> tuple[ClassText, Int[Tensor, " b"], Int[Tensor, " b"]]:
        """What a step chooses among for its images, the classes or captions of these images, and the answers.

        Args:
            images: (B,) images of the step.
            host_images: the same on the CPU.
            draws: random numbers of the step.

        Returns:
            The classes; (B,) indices into them on their device, and the same on the CPU.
        """
        if self.captions is not None:
            return *self.captions.posed(host_images, draws), torch.arange(len(images))
        return self.classes, self.labels[images], self.host_labels[host_images]

    @property
    def fingerprint(self) -> str:
        """Hex sha256 over what tells two training sets apart: class names, labels, image names, views and features."""
        facts = [list(self.classes.names), self.labels.tolist(), list(self.names), self.views]
        found = hashlib.sha256(json.dumps(facts).encode())
        found.update(self.images.pooled.float().cpu().numpy().tobytes())
        return found.hexdigest()
