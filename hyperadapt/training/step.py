"""One step: the losses of a batch and their gradients, in pieces, in half precision, compiled or over processes."""

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hyperadapt.adapters.base import TrainingBatch
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.model import FewShotModel
from hyperadapt.pixels import ViewPixels
from hyperadapt.text import ClassText
from hyperadapt.training.data import TrainingSet
from hyperadapt.training.distributed import ALONE, World, in_parallel
from hyperadapt.training.guidance import Guidance
from hyperadapt.training.sampling import Batch
from hyperadapt.training_config import TrainingConfig
from hyperadapt.transfer import sent
from manifolds.regularizers import AbstractDraws, GeneratorDraws, RecordedDraws, RecordingDraws


def loss_terms(
    model: FewShotModel,
    classes: ClassText,
    images: ImageFeatures,
    labels: Int[Tensor, " b"],
    draws: AbstractDraws,
    world: World = ALONE,
    pooled: Float[Tensor, "b d"] | None = None,
    host_labels: Int[Tensor, " b"] | None = None,
) -> dict[str, Tensor]:
    """All loss terms of one batch, by name; a function of its arguments alone, so that it can be batched over runs.

    Args:
        model: adapter and head; with `torch.func.functional_call` its parameters are arguments too.
        classes: frozen text of the training classes that take part in the step.
        images: frozen features of this process' share of the batch.
        labels: (B,) of the whole batch.
        draws: every random number of the step.
        world: the processes that share the batch; the mean of their terms is the term of the whole batch.
        pooled: (B, D) frozen features of the whole batch; those of `images` where one process has them all.
        host_labels: the labels on the CPU, where they are known there.
    """
    own = world.share(len(labels))
    frozen = ImageFeatures(images.pooled if pooled is None else pooled)
    with model.adapter.drawing(draws, own, len(labels)):
        adapted_classes = model.adapter.adapt_classes(classes)
        encoded = model.head.in_batch(model.head.encode_classes(adapted_classes, draws), labels)
        adapted = model.adapter.adapt_images(images, adapted_classes)
    terms = dict(model.head.losses(adapted, encoded, labels[own]))
    weight = (own.stop - own.start) * world.size / len(labels)
    if weight != 1:
        terms = {name: weight * term for name, term in terms.items()}
    everyones = ImageFeatures(world.gathered(adapted.pooled, len(labels)))
    batch = TrainingBatch(everyones, adapted_classes, labels, draws, frozen, classes, host_labels)
    terms.update(model.adapter.losses(batch))
    return terms


class StepLosses(nn.Module):
    """A model with its data: a batch in, loss terms out.

    Args:
        model: adapter and head, with all trained parameters.
        data: the training shots.
        world: the processes that share each batch.
        precision: "bf16" computes under autocast; terms are float32 either way.
    """

    def __init__(
        self, model: FewShotModel, data: TrainingSet, world: World = ALONE, precision: str = "float32"
    ) -> None:
        super().__init__()
        self.model, self.world, self.bf16 = model, world, precision == "bf16"
        self.data = data

    def forward(self, batch: Batch, draws: AbstractDraws) -> dict[str, Tensor]:
        """Terms of the whole batch; with several processes each computes its share of the rows."""
        data, rows = self.data, batch.rows
        own = self.world.share(len(rows))
        classes, labels, host_labels = data.posed(batch.images, batch.host_images, draws)
        chosen = self._taking_part(batch, host_labels, draws) if self.model.adapter.chooses_classes else None
        if chosen is not None:
            classes, host_labels = classes.select(chosen.tolist()), torch.searchsorted(chosen, host_labels)
            labels = sent(host_labels, labels.device)
        with self._precision(rows.device):
            pooled = data.images.pooled[rows] if self.world.size > 1 else None
            images = data.images.step(rows[own], batch.host_rows[own])
            terms = loss_terms(self.model, classes, images, labels, draws, self.world, pooled, host_labels)
        return {name: term.float() for name, term in terms.items()} if self.bf16 else terms

    def _taking_part(self, batch: Batch, labels: Int[Tensor, " b"], draws: AbstractDraws) -> Int[Tensor, " k"] | None:
        """The classes that take part, ascending; decided on the CPU."""
        known = self.data.on_host
        return self.model.adapter.taking_part(known.classes, known.images[batch.host_rows], labels, draws)

    def _precision(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if self.bf16 else nullcontext()


class CompiledLosses(nn.Module):
    """The same terms through `torch.compile`, with the same random numbers, drawn before each call.

    The first call for a batch size runs as it is and records which numbers a step asks for.

    Args:
        losses: what to compile.
    """

    def __init__(self, losses: StepLosses) -> None:
        super().__init__()
        self.losses = losses
        self._shapes: dict[int, list[tuple[int, ...]]] = {}
        self._run = torch.compile(self._with_numbers, dynamic=False)

    def _with_numbers(self, batch: tuple[Tensor, ...], numbers: list[Tensor]) -> dict[str, Tensor]:
        return self.losses(Batch(*batch), RecordedDraws(numbers))

    def forward(self, batch: Batch, draws: AbstractDraws) -> dict[str, Tensor]:
        """Terms of the batch."""
        size = len(batch)
        if size not in self._shapes:
            recording = RecordingDraws(draws)
            terms = self.losses(batch, recording)
            self._shapes[size] = [tuple(numbers.shape) for numbers in recording.numbers]
            return terms
        tensors = (batch.rows, batch.images, batch.host_rows, batch.host_images)
        return self._run(tensors, [draws.rand(*shape) for shape in self._shapes[size]])


class Stepper:
    """Losses and gradients of a batch, whatever the configuration says about pieces, precision and processes.

    Args:
        model: what is trained.
        data: the training shots.
        config: pieces, precision, compilation.
        world: the processes.

    Raises:
        InputError: for a combination that cannot run.
    """

    def __init__(self, model: FewShotModel, data: TrainingSet, config: TrainingConfig, world: World = ALONE) -> None:
        if config.compile and (world.size > 1 or data.classes.takes_contexts):
            raise InputError(
                "training.compile works in one process on stored features, got "
                + (f"{world.size} processes" if world.size > 1 else "a text tower")
                + "; leave it out"
            )
        if model.guides and (world.size > 1 or config.compile):
            raise InputError(
                f"losses that guide ({', '.join(sorted(model.guides))}) need two gradients of a batch, which works in "
                "one process and without training.compile; start one process and leave compile out"
            )
        self.data, self.world, self.pieces = data, world, config.accumulate
        self.guidance = Guidance(model.trainable, model.guides) if model.guides else None
        losses = StepLosses(model, data, world, config.precision)
        self._losses: nn.Module = CompiledLosses(losses) if config.compile else losses

    def expect(self, batch: Batch | None) -> None:
        """Let the pixels of a coming batch, where the model reads pixels, be decoded meanwhile."""
        pixels = self.data.images.pixels
        if batch is not None and isinstance(pixels, ViewPixels):
            for piece in batch.pieces(self.pieces):
                pixels.expect(piece.host_rows[self.world.share(len(piece))].tolist())

    def backward(self, batch: Batch, draws: AbstractDraws) -> dict[str, Tensor]:
        """Add the batch's gradients to the parameters and return its terms, without a graph, of this process."""
        pieces = batch.pieces(self.pieces)
        if self.world.size > 1 and not isinstance(self._losses, DistributedDataParallel):
            self._join(pieces[0])
        total: dict[str, Tensor] = {}
        for piece in pieces:
            with self._silent(piece is not pieces[-1]):
                terms = self._losses(piece, draws)
                if len(pieces) > 1:
                    terms = {name: term * (len(piece) / len(batch)) for name, term in terms.items()}
                if self.guidance is None:
                    torch.stack(list(terms.values())).sum().backward()
                else:
                    self.guidance.backward(terms)
            for name, term in terms.items():
                total[name] = total[name] + term.detach() if name in total else term.detach()
        if self.guidance is not None:
            self.guidance.constrain()
        return total

    def restart(self) -> None:
        """Look anew at which parameters are trained, where processes average their gradients."""
        if isinstance(self._losses, DistributedDataParallel):
            self._losses = self._losses.module

    def _join(self, piece: Batch) -> None:
        """Average gradients over processes from now on; a trial step shows whether a term reaches every parameter."""
        losses = self._losses
        kept = {name: buffer.clone() for name, buffer in losses.named_buffers()}
        terms = losses(piece, GeneratorDraws(torch.Generator(piece.rows.device), on_host=torch.Generator()))
        torch.stack(list(terms.values())).sum().backward()
        idle = any(p.requires_grad and p.grad is None for p in losses.parameters())
        for parameter in losses.parameters():
            parameter.grad = None
        for name, buffer in losses.named_buffers():
            buffer.copy_(kept[name])
        self._losses = in_parallel(losses, idle)

    def _silent(self, more_to_come: bool) -> AbstractContextManager[None]:
        """Gradients are averaged over processes once a step, with its last piece."""
        if more_to_come and isinstance(self._losses, DistributedDataParallel):
            return self._losses.no_sync()
        return nullcontext()
