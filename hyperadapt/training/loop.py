"""The loop: batch in, dictionary of losses out, one optimiser step; it can be stopped and resumed anywhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hyperadapt.config import to_dict
from hyperadapt.model import FewShotModel
from hyperadapt.training.averaging import WeightAverage
from hyperadapt.training.data import TrainingSet
from hyperadapt.training.distributed import ALONE, World
from hyperadapt.training.history import History, Report
from hyperadapt.training.optimizers import Optimizers, Schedule
from hyperadapt.training.run_state import RunFolder, Saved
from hyperadapt.training.sampling import Batch, Sampler
from hyperadapt.training.step import Stepper
from hyperadapt.training_config import TrainingConfig
from manifolds.regularizers import GeneratorDraws

WIDE_TOWER = 256
"""Width of a text tower from which several CPU threads are worth their hand-over at every operation."""


def train(
    model: FewShotModel,
    data: TrainingSet,
    config: TrainingConfig,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    *,
    run: RunFolder | None = None,
    world: World = ALONE,
) -> list[dict[str, float]]:
    """Train a model in place; it sees the training shots and the training classes, and nothing else.

    Args:
        model: adapter and head, changed in place.
        data: training shots.
        config: optimiser, schedule, length.
        seed: of batches, views and every draw inside a loss.
        progress: called with (steps done, steps in all).
        run: where history and checkpoints go; a run that was stopped goes on from its last checkpoint and, on the CPU,
            ends with the same weights to the bit.
        world: the processes that train together; each calls this with equal arguments.

    Returns:
        The mean of each loss term over each tenth of the run, oldest first.

    Raises:
        DivergedError: a FloatingPointError, at the first step whose loss or gradient is not finite, with the step, the
            terms or parameters and the images; on a GPU up to 64 steps late, but before a checkpoint holds its weights.
        InputError: when `run` holds another run, or the settings do not fit each other.
    """
    device = data.images.pooled.device
    held = run.held(world) if run is not None else nullcontext()
    devices = [device] if device.type == "cuda" else []
    with threads_that_pay(data), torch.random.fork_rng(devices=devices), world.shared_norms(model), held:
        torch.manual_seed(seed)
        training = Training(model, data, config, seed, run, world)
        model.train()
        while training.done < training.steps:
            training.step()
            progress(training.done, training.steps)
        return training.finish()


class Training:
    """Everything that a run changes from step to step.

    Args:
        model: adapter and head, changed in place.
        data: training shots.
        config: optimiser, schedule, length.
        seed: of batches, views and every draw inside a loss.
        run: where history and checkpoints go; its last checkpoint is where this begins.
        world: the processes that train together.

    Attributes:
        done: steps done.
        steps: steps in all.
    """

    def __init__(
        self,
        model: FewShotModel,
        data: TrainingSet,
        config: TrainingConfig,
        seed: int,
        run: RunFolder | None = None,
        world: World = ALONE,
    ) -> None:
        device = data.images.pooled.device
        self.model, self.data, self.config = model, data, config
        self.run, self.world, self.device = run, world, device
        shuffle = torch.Generator().manual_seed(seed)
        self.generator = self.host_generator = torch.Generator(device).manual_seed(seed)
        if device.type != "cpu":
            self.host_generator = torch.Generator().manual_seed(seed)
        self.draws = GeneratorDraws(self.generator, on_host=self.host_generator)
        self.sampler = Sampler(data.labels, data.views, config, shuffle, device)
        per_epoch = self.sampler.per_epoch
        per_shot = config.steps_per_shot
        self.steps = config.steps or (per_shot * data.shots if per_shot else config.epochs * per_epoch)
        self.optimizers = Optimizers(model, config, Schedule(config, self.steps, per_epoch))
        self.average = WeightAverage(model, config, per_epoch)
        self.stepper = Stepper(model, data, config, world)
        self.history = History(data, config, run, writes=world.rank == 0)
        self.named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.done = 0
        self._phase: int | None = None
        self.facts: dict[str, Any] = {"training": to_dict(config), "seed": seed, "device": device.type}
        if run is not None:
            self.facts.update({"data": data.fingerprint, **run.identity})
            saved = run.load(self.facts, world)
            if saved is not None:
                self._restore(saved)
        self.saved_at, self.saved_step = time.monotonic(), self.done

    def step(self) -> None:
        """One batch: its gradients, then everything that follows."""
        if self.config.phases:
            self._enter_phase()
        batch = self.sampler.next()
        self.stepper.expect(self.sampler.upcoming())
        self.optimizers.zero_grad()
        self.advance(batch, self.stepper.backward(batch, self.draws))

    def _enter_phase(self) -> None:
        """Let the parameters of the phase that the next step belongs to be trained, and no others."""
        schedule = self.optimizers.schedule
        phase = schedule.phase(self.done)
        if phase == self._phase:
            return
        self._phase = phase
        for name, parameter in self.named:
            parameter.requires_grad_(name.startswith(self.config.phases[phase].trains))
        if self.done == schedule.starts[phase]:
            self.model.begin_phase(self.data.classes)
        self.stepper.restart()

    def advance(self, batch: Batch, terms: dict[str, Tensor]) -> None:
        """What follows once the gradients of a batch are there: report, optimiser step, average, checkpoint.

        Args:
            batch: the images.
            terms: its loss terms, without a graph.
        """
        names, norms = self._gradient_norms()
        values = torch.cat([self.world.mean(torch.stack(list(terms.values()))), norms])
        self.conclude(batch, tuple(terms), names, values)

    def conclude(self, batch: Batch, terms: Sequence[str], parameters: Sequence[str], values: Tensor) -> None:
        """The same once gradient norms are there as well.

        Args:
            batch: the images.
            terms: names of the loss terms.
            parameters: names of the parameters that have a gradient.
            values: the terms, then the gradient norm of each of these parameters.
        """
        rate = self.optimizers.schedule.rate(self.done)
        self.history.add(Report(self.done, rate, terms, parameters, values, batch.host_images))
        if self.config.clip_norm is not None:
            total = torch.linalg.vector_norm(values[len(terms) :])
            torch.nn.utils.clip_grads_with_norm_(self.model.trainable, self.config.clip_norm, total)
        self.optimizers.step(self.done)
        self.done += 1
        self.average.update(self.done)
        if self.run is not None and self._time_to_save():
            self._save(self.run)

    def _gradient_norms(self) -> tuple[list[str], Float[Tensor, " p"]]:
        """Names and norms of all gradients there are."""
        found = [(name, p.grad) for name, p in self.named if p.grad is not None]
        return [name for name, _ in found], torch.stack([torch.linalg.vector_norm(grad) for _, grad in found])

    def _time_to_save(self) -> bool:
        every = self.config.checkpoint_steps
        by_steps = every is not None and self.done - self.saved_step >= every
        return by_steps or time.monotonic() - self.saved_at >= self.config.checkpoint_seconds

    def _save(self, run: RunFolder) -> None:
        self.history.flush()  # raises before weights that are not finite can be written
        if self.world.rank == 0:
            run.save(self.done, self._state(), self.facts)
        self.saved_at, self.saved_step = time.monotonic(), self.done

    def _state(self) -> dict[str, Tensor]:
        parts = {
            "model/": self.model.state_dict(),
            "optimizer/": self.optimizers.state(),
            "average/": self.average.state(),
            "sampler/": self.sampler.state(),
            "trace/": self.history.state(),
            "generator/": {"draws": self.generator.get_state(), "cpu": torch.get_rng_state()},
        }
        if self.device.type == "cuda":
            parts["generator/"]["cuda"] = torch.cuda.get_rng_state(self.device)
            parts["generator/"]["host"] = self.host_generator.get_state()
        return {prefix + name: value for prefix, part in parts.items() for name, value in part.items()}

    def _restore(self, saved: Saved) -> None:
        self.model.load_state_dict(saved.under("model/"))
        self.optimizers.restore(saved.under("optimizer/"))
        self.average.restore(saved.under("average/"), self.device)
        self.sampler.restore(saved.under("sampler/"))
        self.history.restore(saved.under("trace/"))
        states = saved.under("generator/")
        self.generator.set_state(states["draws"])
        torch.set_rng_state(states["cpu"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.device)
            self.host_generator.set_state(states["host"])
        self.done = saved.facts["step"]

    def finish(self) -> list[dict[str, float]]:
        """Check and write the last steps, put the average in place, and summarise."""
        if self.run is not None and self.done > self.saved_step:
            self._save(self.run)
        self.history.close()
        self.average.apply()
        self.optimizers.zero_grad()
        for _, parameter in self.named:
            parameter.requires_grad_()
        self.model.eval()
        return self.history.tenths()


@contextmanager
def threads_that_pay(data: TrainingSet) -> Iterator[None]:
    """One CPU thread for steps too short to share: those that pass no text tower, or a narrow one."""
    classes, before = data.classes, torch.get_num_threads()
    wide = classes.takes_contexts and classes.prompt_tower.width >= WIDE_TOWER
    torch.set_num_threads(before if wide else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
