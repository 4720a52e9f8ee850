"""Several runs of one method as one computation: seeds and shot counts side by side, in stacked parameters.

A batch of runs starts each operation once, and from the second step on repeats the operations of the first from a
record (see `replay`), but for what follows from frozen texts and shots alone. Every run keeps its own batches, random
numbers, optimiser and schedule, so that it is the run it would have been alone.

On one CPU thread 60 steps of five seeds of `lathadapter-faithful`, whose steps are many small operations, took 0.42 to
0.55 times the time of the same runs in turn (median 0.46), half a second of it for the record. `lathadapter`, most of
whose time goes into products of large matrices, took 0.79 to 1.01 times.

Numerics: after 150 steps in float32 on features of CLIP the weights of three seeds were those of single runs to the bit
for 16 of 20 methods; of XR-VLM's four they differed by up to 6e-7. Where a choice hangs on them roundings do not stay
small; `heads.base.similarities` keeps products alike whose gradients would round apart.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call, vmap
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.model import FewShotModel
from hyperadapt.training.data import TrainingSet
from hyperadapt.training.loop import Training, threads_that_pay
from hyperadapt.training.replay import RecordError, recorded
from hyperadapt.training.sampling import Batch
from hyperadapt.training.step import loss_terms
from hyperadapt.training_config import TrainingConfig
from manifolds.regularizers import RecordedDraws, RecordingDraws

STEPS_THAT_PAY = 10
"""Steps of a batch of runs from which recording one is worth its time, that of about six."""


@dataclass(frozen=True)
class Run:
    """One of the runs.

    Attributes:
        model: adapter and head, changed in place.
        data: its training shots, without part features.
        seed: of batches, views and every draw inside a loss.
    """

    model: FewShotModel
    data: TrainingSet
    seed: int


def train_together(
    runs: Sequence[Run],
    config: TrainingConfig,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[list[dict[str, float]]]:
    """Train every run in place; the result of each is that of `train`, up to rounding.

    Runs whose steps have the same shapes (equal class lists, batch size and feature width) are batched; others follow
    one another. A run that is shorter than the others leaves the batch when it is done.

    Args:
        runs: what to train.
        config: of all of them; one process, float32, whole batches.
        progress: called with (steps done, steps in all), over all runs.

    Returns:
        What `train` returns, run by run.

    Raises:
        InputError: for runs that cannot be batched; see `why_apart`.
        DivergedError: as `train` raises it.
    """
    for run in runs:
        reason = why_apart(run.model, run.data, config)
        if reason is not None:
            raise InputError(f"these runs cannot be trained together: {reason}; train them one by one")
    trainings = [Training(run.model, run.data, config, run.seed) for run in runs]
    total, groups = sum(training.steps for training in trainings), defaultdict(list)
    for run, training in zip(runs, trainings, strict=True):
        training.model.train()
        sizes = tuple(tensor.shape for tensor in run.model.state_dict().values())
        shape = (run.data.classes.names, training.sampler.size, tuple(run.data.images.pooled.shape[1:]), sizes)
        groups[shape].append(training)
    with threads_that_pay(runs[0].data):
        for group in groups.values():
            while active := [training for training in group if training.done < training.steps]:
                stack = _Stack(active)
                for _ in stack.run(min(training.steps - training.done for training in active)):
                    progress(sum(training.done for training in trainings), total)
    return [training.finish() for training in trainings]


def why_apart(model: FewShotModel, data: TrainingSet, config: TrainingConfig) -> str | None:
    """The reason why a run cannot be batched with others, or None."""
    if model.adapter.chooses_classes:
        return "each of their steps is about other classes"
    if model.reads_pixels:
        return "they change the image tower, whose layers take no stacked weights"
    if data.images.parts is not None or data.classes.takes_contexts:
        return "they pass a tower or its part features"
    if config.phases:
        return "their phases train other parameters each"
    if config.accumulate != 1 or config.precision != "float32" or config.compile:
        return "accumulate, bf16 and compile are for single runs"
    if model.guides:
        return "they have losses that only guide others"
    if any(hasattr(parameter, "manifold") for parameter in model.trainable):
        return "parameters on a manifold have optimisers of their own"
    return None


class _Stack:
    """Models of one shape whose weights share storage with stacked tensors, stepped as one."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.trainings = trainings
        models = [training.model for training in trainings]
        self.parameters = {
            name: torch.stack([model.get_parameter(name).detach() for model in models]).requires_grad_(p.requires_grad)
            for name, p in models[0].named_parameters()
        }
        self.buffers = {
            name: torch.stack([model.get_buffer(name) for model in models]) for name, _ in models[0].named_buffers()
        }
        for i, model in enumerate(models):
            for name, parameter in model.named_parameters():
                parameter.data = self.parameters[name].detach()[i]
            for name, buffer in model.named_buffers():
                buffer.data = self.buffers[name][i]
        self.one = _Terms(copy.deepcopy(models[0]).to("meta"), trainings[0].data)
        self.trained = [parameter for parameter in self.parameters.values() if parameter.requires_grad]
        self.shapes: list[tuple[int, ...]] | None = None
        self.names: tuple[str, ...] = ()
        self.compute: Callable[..., list[Tensor]] = self._losses_and_gradients

    def run(self, steps: int) -> Iterator[None]:
        """Steps of every run."""
        for done in range(steps):
            batches = [training.sampler.next() for training in self.trainings]
            if self.shapes is None:
                self.shapes = self._requests(batches[0])
            inputs = self._inputs(batches)
            compute = self._record if done == 0 and steps >= STEPS_THAT_PAY else self.compute
            found = compute(*inputs)
            self._advance(batches, found)
            yield

    def _inputs(self, batches: Sequence[Batch]) -> list[Tensor]:
        """Images, labels and random numbers of a step, one row a run."""
        pairs = list(zip(self.trainings, batches, strict=True))
        images = torch.stack([training.data.images.pooled[batch.rows] for training, batch in pairs])
        labels = torch.stack([training.data.labels[batch.images] for training, batch in pairs])
        drawn = [[t.draws.rand(*shape) for shape in self.shapes or ()] for t in self.trainings]
        return [images, labels, *(torch.stack(same) for same in zip(*drawn, strict=True))]

    def _record(self, *inputs: Tensor) -> list[Tensor]:
        """Losses and gradients of a step, recorded for those to come where that is possible."""
        kept = {name: buffer.clone() for name, buffer in self.buffers.items()}
        try:
            self.compute, found = recorded(self._losses_and_gradients, *inputs, changing=self.trained)
        except RecordError:
            for name, buffer in self.buffers.items():
                buffer.copy_(kept[name])
            found = self.compute(*inputs)
        return found

    def _losses_and_gradients(self, images: Tensor, labels: Tensor, *numbers: Tensor) -> list[Tensor]:
        """Terms of all runs, then the gradient of each stacked parameter that the losses reach or an empty tensor."""
        with _LinearLayers():
            terms: dict[str, Tensor] = vmap(self._terms)(self.parameters, self.buffers, images, labels, list(numbers))
        self.names = tuple(terms)
        total = torch.stack(list(terms.values())).sum()
        grads = torch.autograd.grad(total, self.trained, allow_unused=True)
        grads = [images[:0] if grad is None else grad.contiguous() for grad in grads]  # as fused optimisers read them
        return [term.detach() for term in terms.values()] + grads

    def _advance(self, batches: Sequence[Batch], found: list[Tensor]) -> None:
        """What follows for each run once losses and gradients are there."""
        count = len(self.names)
        found, grads = found[:count], found[count:]
        norms = [torch.linalg.vector_norm(grad.reshape(len(grad), -1), dim=1) for grad in grads if len(grad)]
        values = torch.stack([*found, *norms], dim=1).unbind()
        for i, (training, batch) in enumerate(zip(self.trainings, batches, strict=True)):
            for (_, parameter), grad in zip(training.named, grads, strict=True):
                parameter.grad = grad[i] if len(grad) else None
            reached = [name for name, parameter in training.named if parameter.grad is not None]
            training.conclude(batch, self.names, reached, values[i])

    def _terms(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], *inputs: Any) -> dict[str, Tensor]:
        weights = {f"model.{name}": value for name, value in (*parameters.items(), *buffers.items())}
        return functional_call(self.one, weights, inputs)

    def _requests(self, batch: Batch) -> list[tuple[int, ...]]:
        """Shapes of the random numbers that a step asks for; what the trial step drew and changed is put back."""
        training = self.trainings[0]
        state, kept = training.generator.get_state(), {n: b.clone() for n, b in training.model.named_buffers()}
        recording = RecordingDraws(training.draws)
        with torch.no_grad():
            one = _Terms(training.model, training.data)
            one(training.data.images.pooled[batch.rows], training.data.labels[batch.images], recording)
        training.generator.set_state(state)
        for name, buffer in training.model.named_buffers():
            buffer.copy_(kept[name])
        return [tuple(numbers.shape) for numbers in recording.numbers]


class _Terms(nn.Module):
    """The loss terms of one run as a module, whose weights `functional_call` replaces."""

    def __init__(self, model: FewShotModel, data: TrainingSet) -> None:
        super().__init__()
        self.model, self.classes = model, data.classes

    def forward(self, images: Tensor, labels: Tensor, numbers: Any) -> dict[str, Tensor]:
        """Terms of a batch; `numbers` are recorded tensors or an object that draws."""
        draws = RecordedDraws(numbers) if isinstance(numbers, list) else numbers
        return loss_terms(self.model, self.classes, ImageFeatures(images), labels, draws)


class _LinearLayers(TorchFunctionMode):
    """Puts `_Linear` in the place of `linear`."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not linear or kwargs:
            return func(*args, **(kwargs or {}))
        return _Linear.apply(*args, *[None] * (3 - len(args)))


class _Linear(Function):
    """`linear`, whose weight has a gradient in its own layout when runs are batched, as it has in a run by itself.

    autograd's gradient of a batch of transposed weights is transposed, and putting that of large weights in order cost
    a tenth of a step.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        x, weight, bias = inputs
        ctx.biased = bias is not None
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        rows, grad = (t.reshape(-1, t.shape[-1]) for t in (x, grads[0]))
        of_x = grads[0] @ weight if ctx.needs_input_grad[0] else None
        of_weight = grad.T @ rows if ctx.needs_input_grad[1] else None
        return of_x, of_weight, grad.sum(0) if ctx.biased else None
