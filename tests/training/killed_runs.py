"""Runs a training in child processes that are killed at random moments, until one of them finishes.

python -m tests.training.killed_runs METHOD FOLDER KILLS SEED; prints how many children were killed while they trained.
The final weights go to FOLDER/weights.safetensors. Children are forked, so that each starts within milliseconds.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from hyperadapt.checkpoint import tensor_bytes
from hyperadapt.training import RunFolder, train
from hyperadapt.training_config import TrainingConfig
from tests.training.runs import method_scene

SETTINGS = TrainingConfig(
    learning_rate=1e-2,
    steps=60,
    batch_size=6,
    average="ema",
    ema_decay=0.9,
    sampler="balanced",
    checkpoint_steps=3,
)


def fit(method, folder):
    """One whole run, or the rest of one."""
    run = method_scene(method)
    tenths = train(run.model, run.data, SETTINGS, 4, run=RunFolder(folder, {"method": method}))
    assert len(tenths) == 10
    (folder / "weights.safetensors").write_bytes(tensor_bytes(run.model.state_dict()))


def child(method, folder):
    """The process number of a fork that fits and leaves."""
    process = os.fork()
    if process == 0:
        fit(method, folder)
        os._exit(0)
    return process


def main(method, folder, kills, seed):
    """Kill `kills` children at random moments of the time that a whole run takes; then let one finish."""
    torch.set_num_threads(1)
    folder = Path(folder)
    start = time.monotonic()
    status = os.waitpid(child(method, folder / "trial"), 0)[1]
    assert status == 0
    whole, moments, killed = time.monotonic() - start, random.Random(int(seed)), 0
    while killed < int(kills):
        process = child(method, folder)
        time.sleep(moments.uniform(0.05, 0.6) * whole)
        os.kill(process, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(process, 0)[1]):
            killed += 1
        elif killed:
            break
        else:  # the trial was slowed by something else: begin again, and kill sooner
            whole *= 0.7
            for path in folder.iterdir():
                if path.is_file():
                    path.unlink()
    process = child(method, folder)
    assert os.waitpid(process, 0)[1] == 0
    print(killed)


if __name__ == "__main__":
    main(*sys.argv[1:])
