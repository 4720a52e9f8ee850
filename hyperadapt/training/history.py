"""What a run reports: every term of every step, checked to be finite, as JSON lines and for TensorBoard."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hyperadapt.errors import InputError
from hyperadapt.training.data import TrainingSet
from hyperadapt.training.run_state import RunFolder
from hyperadapt.training_config import TrainingConfig

DEFERRED_STEPS = 64
"""Steps whose values stay on a GPU before they are read together, so that no step waits for it."""
NAMES_SHOWN = 8


class DivergedError(FloatingPointError):
    """A loss or a gradient is not finite.

    Attributes:
        names: images of the step, all of them.
    """

    def __init__(self, message: str, names: Sequence[str]) -> None:
        super().__init__(message)
        self.names = tuple(names)


@dataclass(frozen=True)
class Report:
    """What one step leaves behind.

    Attributes:
        step: its number, from 0.
        rate: learning rate.
        terms: names of the loss terms.
        parameters: names of the parameters that have a gradient.
        values: the terms, then the gradient norm of each parameter.
        positions: images of the step, on the CPU.
    """

    step: int
    rate: float
    terms: Sequence[str]
    parameters: Sequence[str]
    values: Float[Tensor, " t"]
    positions: Int[Tensor, " b"]


class History:
    """Collects the reports of a run; on the CPU each is read at once, on a GPU many together.

    Args:
        data: the training shots, for names of images.
        config: how often a line is written, and whether TensorBoard is.
        run: where lines go; None keeps them in memory.
        writes: whether this process writes; the others of a run check and remember.

    Raises:
        InputError: when TensorBoard is asked for and cannot be written.
    """

    def __init__(self, data: TrainingSet, config: TrainingConfig, run: RunFolder | None, writes: bool = True) -> None:
        self.data, self.every, self.run = data, config.history_every, run if writes else None
        self.deferred = DEFERRED_STEPS if data.images.pooled.is_cuda else 1
        self._pending: list[Report] = []
        self._trace: dict[str, list[float]] = {}
        self._dtype = torch.float32
        self._board = _board(run) if config.tensorboard and writes else None

    def add(self, report: Report) -> None:
        """Take in a step.

        Raises:
            DivergedError: when a value of this step, or of one whose check was deferred, is not finite.
        """
        self._pending.append(report)
        if len(self._pending) >= self.deferred:
            self.flush()

    def flush(self) -> None:
        """Read, check and write everything pending."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        self._dtype = pending[0].values.dtype
        if self.deferred > 1:  # one wait for the device for all of them
            read = torch.cat([report.values for report in pending]).tolist()
        else:
            read = pending[0].values.tolist()
        lines = []
        try:
            for report in pending:
                values, read = read[: len(report.values)], read[len(report.values) :]
                self._check(report, values)
                lines.append(self._keep(report, values))
        finally:
            if self.run is not None:
                self.run.write_lines(line for line in lines if line["step"] % self.every == 0)
            self._show(lines)

    def _show(self, lines: list[dict[str, Any]]) -> None:
        """The same on TensorBoard."""
        for line in lines if self._board is not None else ():
            for name in line.keys() - {"step"}:
                self._board.add_scalar(name, line[name], line["step"])  # pyright: ignore[reportOptionalMemberAccess]

    def _keep(self, report: Report, values: list[float]) -> dict[str, Any]:
        terms = dict(zip(report.terms, values, strict=False))
        for name, value in terms.items():
            self._trace.setdefault(name, []).append(value)
        norm = math.hypot(*values[len(report.terms) :])
        return {"step": report.step, "rate": report.rate, **terms, "gradient_norm": norm}

    def _check(self, report: Report, values: list[float]) -> None:
        if all(map(math.isfinite, values)):
            return
        named = list(zip(report.terms, values, strict=False))
        bad = [name for name, value in named if not math.isfinite(value)]
        what = f"{', '.join(bad)} is not finite ({', '.join(f'{name}={value:g}' for name, value in named)})"
        if not bad:
            norms = zip(report.parameters, values[len(report.terms) :], strict=True)
            what = f"the gradient of {', '.join(n for n, v in norms if not math.isfinite(v))} is not finite"
        names = self.data.called(report.positions.tolist())
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        raise DivergedError(
            f"training stopped: at step {report.step} {what}; images of the step: "
            f"{', '.join(names[:NAMES_SHOWN])}{more}; lower the learning rate",
            names,
        )

    def tenths(self) -> list[dict[str, float]]:
        """Means of each term over ten stretches of the run, oldest first."""
        trace = self.state()
        count = len(next(iter(trace.values())))
        size = max(count // 10, 1)
        starts = range(0, size * min(10, count), size)
        return [{name: float(values[i : i + size].mean()) for name, values in trace.items()} for i in starts]

    def state(self) -> dict[str, Tensor]:
        """Every term of every step so far."""
        return {name: torch.tensor(values, dtype=self._dtype) for name, values in self._trace.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on after the steps in `state`."""
        self._trace = {name: values.tolist() for name, values in state.items()}
        self._dtype = next(iter(state.values())).dtype

    def close(self) -> None:
        """Write what is pending and let go of the files."""
        self.flush()
        if self._board is not None:
            self._board.close()


def _board(run: RunFolder | None) -> Any:
    """TensorBoard's writer in the run's folder."""
    if run is None:
        raise InputError("training.tensorboard needs a folder: use hyperadapt fit --out DIR, or leave it out")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(
            "training.tensorboard needs the package tensorboard; pip install tensorboard, or leave it out"
        ) from None
    return SummaryWriter(str(run.folder / "tensorboard"))
