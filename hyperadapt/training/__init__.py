"""The loop that trains every method on frozen features: batch in, dictionary of losses out."""

from hyperadapt.training.data import TrainingSet
from hyperadapt.training.distributed import ALONE, World, process_group
from hyperadapt.training.history import DivergedError
from hyperadapt.training.loop import train
from hyperadapt.training.optimizers import rate_factor
from hyperadapt.training.run_state import RunFolder
from hyperadapt.training.step import loss_terms
from hyperadapt.training.together import Run, train_together, why_apart

__all__ = [
    "ALONE",
    "DivergedError",
    "Run",
    "RunFolder",
    "TrainingSet",
    "World",
    "loss_terms",
    "process_group",
    "rate_factor",
    "train",
    "train_together",
    "why_apart",
]
