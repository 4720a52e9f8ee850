"""A step reads no number back from the device, and sends none that it waits for.

It runs on tensors of the meta device, which have shapes and no values; what Python decides by, it has on the CPU. A
tensor of the device that is indexed by one of the CPU is not seen here; the GPU test looks for all waits.
"""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode

from hyperadapt.backbone import ImageFeatures
from hyperadapt.pixels import ViewPixels
from hyperadapt.retrieval.token_weights import TokenTable
from hyperadapt.training import TrainingSet
from hyperadapt.training.sampling import Batch
from hyperadapt.training.step import Stepper
from hyperadapt.training_config import TrainingConfig
from hyperadapt.views import View
from manifolds.regularizers import AbstractDraws, GeneratorDraws
from tests.training import runs
from tests.training.runs import TRAINED, method_scene

META = torch.device("meta")
ROWS = torch.tensor([0, 5, 10, 15, 22, 27, 31, 36])


class ShapesAlone(AbstractDraws):
    """Numbers that only Python may read."""

    def rand(self, *shape):
        return torch.rand(*shape, device=META)

    def host(self, *shape):
        return torch.rand(*shape)


class NoWaitingCopies(TorchFunctionMode):
    """Refuses copies from the CPU that the CPU would wait for on a GPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        to_device = META in (*args[1:], kwargs.get("device")) if name in ("to", "tensor", "as_tensor") else False
        if to_device and not (name == "to" and (args[0].device == META or kwargs.get("non_blocking"))):
            raise AssertionError(f"{name} waits until the copy is there")
        return func(*args, **kwargs)


class Noise:
    """Stands for the maker of views."""

    def __init__(self, pixels):
        self.all = pixels

    def pixels(self, views):
        return torch.stack([self.all[view.row] for view in views])


def batch(device):
    images = ROWS % 20
    return Batch(ROWS.to(device), images.to(device), ROWS, images)


def step(run, device, draws, watch=nullcontext):
    run.model.train()
    rows = batch(device)
    with watch():
        Stepper(run.model, run.data, TrainingConfig()).backward(rows, draws)
    found = [p.grad for p in run.model.parameters() if p.grad is not None]
    run.model.eval()
    run.model.zero_grad(set_to_none=True)
    return found


def moved(run):
    """A run whose weights, features and towers have no values; what it knows on the CPU it keeps there."""
    images, classes = run.data.images, run.data.classes
    pixels = images.pixels
    if pixels is not None:
        pixels = ViewPixels(Noise(pixels), [View(row) for row in range(len(pixels))], META)
    parts = None if images.parts is None else images.parts.to(META)
    if classes.tower is not None:
        classes.tower.model.to(META)
    adapter = run.model.adapter
    if hasattr(adapter, "_captions"):  # made in preparation, where the texts are
        adapter._captions = replace(adapter._captions, features=adapter._captions.features.to(META))
    if hasattr(adapter, "_tokens"):  # likewise, with the first step
        adapter._tokens = TokenTable(classes.tower)
    there = ImageFeatures(images.pooled.to(META), parts, pixels)
    data = TrainingSet(there, run.data.labels.to(META), classes.to(META))
    vars(data).update(on_host=run.data.on_host, host_labels=run.data.host_labels)  # made with the first step
    return runs.Scene(run.model.to(META), data)


@pytest.fixture(autouse=True)
def towers_of_their_own():
    runs.small_clip.cache_clear()
    yield
    runs.small_clip.cache_clear()


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_waits_for_no_value(name, monkeypatch):
    run = method_scene(name)
    step(run, "cpu", GeneratorDraws(torch.Generator()))  # the tower is probed and texts are placed with the first step
    there = moved(run)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no meta device
    step(there, META, ShapesAlone())
    found = step(there, META, ShapesAlone(), NoWaitingCopies)
    assert found
    assert all(grad.device.type == "meta" for grad in found)


@pytest.mark.parametrize("spoilt", ["value", "copy"])
def test_a_step_that_did_wait_would_be_seen(spoilt):
    run = moved(method_scene("prolip"))
    adapt = run.model.adapter.adapt_images

    def waiting(images, classes):
        if spoilt == "value":
            return adapt(images[: int((images.pooled[:, 0] < 9).sum())], classes)
        return adapt(ImageFeatures(images.pooled * torch.tensor(1.0, device=META)), classes)

    run.model.adapter.adapt_images = waiting
    with pytest.raises((RuntimeError, AssertionError), match=r"meta|waits"):
        step(run, META, ShapesAlone(), NoWaitingCopies)
