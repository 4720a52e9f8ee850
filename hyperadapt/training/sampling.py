"""Which images make a batch: shuffled or class-balanced epochs, whose place can be saved and found again."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from hyperadapt.training_config import TrainingConfig
from hyperadapt.transfer import sent


@dataclass(frozen=True)
class Batch:
    """The images of one step.

    Attributes:
        rows: (B,) rows of the view-major features, on their device.
        images: (B,) the images that the rows are views of, on the same device.
        host_rows, host_images: the same on the CPU, where Python reads them without waiting for a device.
    """

    rows: Int[Tensor, " b"]
    images: Int[Tensor, " b"]
    host_rows: Int[Tensor, " b"]
    host_images: Int[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.host_images)

    def pieces(self, count: int) -> list["Batch"]:
        """The batch cut into `count` parts of nearly equal size."""
        if count == 1:
            return [self]
        tensors = (self.rows, self.images, self.host_rows, self.host_images)
        parts = (tensor.tensor_split(count) for tensor in tensors)
        return [Batch(*part) for part in zip(*parts, strict=True) if len(part[0])]


def shuffled(labels: Int[Tensor, " n"], generator: torch.Generator) -> Int[Tensor, " n"]:
    """Every image once, in random order."""
    return torch.randperm(len(labels), generator=generator)


def balanced(labels: Int[Tensor, " n"], generator: torch.Generator) -> Int[Tensor, " n"]:
    """As many images as there are, every class in turn, the images of a class in turn; all orders random.

    Counts of two classes differ by one at most, and so do those of two images of one class.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 0, 1])
        >>> labels[balanced(labels, torch.Generator().manual_seed(0))].bincount()
        tensor([3, 3])
    """
    count, present = len(labels), labels.unique()
    rounds = [present[torch.randperm(len(present), generator=generator)] for _ in range(-(-count // len(present)))]
    turns = torch.cat(rounds)[:count]
    order = torch.empty(count, dtype=torch.long)
    for label in present.tolist():
        places, members = (turns == label).nonzero()[:, 0], (labels == label).nonzero()[:, 0]
        passes = [members[torch.randperm(len(members), generator=generator)] for _ in range(-(-count // len(members)))]
        order[places] = torch.cat(passes)[: len(places)]
    return order


ORDERS = {"shuffle": shuffled, "balanced": balanced}


class Sampler:
    """Endless batches; one random view of each image an epoch.

    The last batch of an epoch is dropped when it is incomplete, unless it is the only one. The indices of an epoch go
    to the device at its start, so that no step waits for a copy.

    Args:
        labels: (N,) of the images.
        views: views of each image.
        config: batch size and order.
        generator: of orders and views, on the CPU.
        device: where the features are.
    """

    def __init__(
        self,
        labels: Int[Tensor, " n"],
        views: int,
        config: TrainingConfig,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.labels, self.views, self.generator, self.device = labels.cpu(), views, generator, device
        self.size = min(config.batch_size, len(labels))
        self.per_epoch = max(len(labels) // self.size, 1)
        self._order = ORDERS[config.sampler]
        self._images = self._view = torch.empty(0, dtype=torch.long)
        self._start = len(labels)

    def next(self) -> Batch:
        """The next batch."""
        if self._start + self.size > len(self.labels):
            self._images = self._order(self.labels, self.generator)
            self._view = torch.randint(self.views, (len(self.labels),), generator=self.generator)
            self._start = 0
            self._send()
        batch = self._here()
        self._start += self.size
        return batch

    def upcoming(self) -> Batch | None:
        """The batch that `next` will give, or None where it begins an epoch, whose order is not drawn yet."""
        return None if self._start + self.size > len(self.labels) else self._here()

    def _here(self) -> Batch:
        part = slice(self._start, self._start + self.size)
        return Batch(self._sent_rows[part], self._sent_images[part], self._rows[part], self._images[part])

    def _send(self) -> None:
        self._rows = self._view[self._images] * len(self.labels) + self._images
        self._sent_rows, self._sent_images = (sent(index, self.device) for index in (self._rows, self._images))

    def state(self) -> dict[str, Tensor]:
        """Orders, place in the epoch and generator; `restore` goes on from there."""
        place = torch.tensor(self._start)
        return {
            "images": self._images,
            "view": self._view,
            "place": place,
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        self._images, self._view, self._start = state["images"], state["view"], int(state["place"])
        self.generator.set_state(state["generator"])
        if len(self._images):
            self._send()
