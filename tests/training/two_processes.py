"""Trains methods in two processes of this machine and writes the weights of the first.

python -m tests.training.two_processes FOLDER PORT CASE...; a case is METHOD, or METHOD:FIELD=VALUE of its settings.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch._dynamo  # once, before the fork: DistributedDataParallel needs it
import yaml

from hyperadapt.checkpoint import tensor_bytes
from hyperadapt.methods import load_method
from hyperadapt.training import RunFolder, process_group, train
from tests.training.runs import THROUGH_TOWERS, method_scene


def settings_of(case):
    """Method and training settings of a case, the method's own but for their length."""
    method, _, setting = case.partition(":")
    field, _, value = setting.partition("=")
    steps = 4 if method in THROUGH_TOWERS else 20
    settings = {"steps": steps, "batch_size": 9, **({field: yaml.safe_load(value)} if field else {})}
    return method, replace(load_method(method).training, **settings)


def fit(case, folder, world):
    """One run; the first process writes its weights."""
    method, config = settings_of(case)
    run = method_scene(method, count=23)
    train(run.model, run.data, config, 4, run=RunFolder(folder / case), world=world)
    if world.rank == 0:
        (folder / f"{case}.safetensors").write_bytes(tensor_bytes(run.model.state_dict()))


def main(folder, port, *cases):
    """This process is the first; a fork of it is the second."""
    torch.set_num_threads(1)
    second = os.fork()
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE="2", RANK=str(int(second == 0)))
    with process_group(torch.device("cpu")) as (world, _):
        for case in cases:
            fit(case, Path(folder), world)
    if second == 0:
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
