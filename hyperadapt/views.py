"""Views of images: the evaluation view and random crops, decoded once an image, ahead of the tower."""

import multiprocessing
import os
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from hyperadapt.data import AbstractImageSource

DECODING_THREADS = 4
PROCESS_IMAGES = 5000
"""Images from which worker processes, which take seconds to start, are worth it."""
PROCESS_CPUS = 4
MOST_PROCESSES = 16
BATCHES_AHEAD = 2
CROP_AREA = (0.5, 1.0)
CROP_ASPECT = (3 / 4, 4 / 3)
AUGMENTATION: Final = {"crop_area": CROP_AREA, "crop_aspect": CROP_ASPECT, "resampling": "bicubic", "mirrored": 0.5}
"""What decides a random view beside its seed, for keys of stored features."""


class View(NamedTuple):
    """One look at an image: its pool row, which view (0 is the evaluation view), and the seed of a random one."""

    row: int
    number: int = 0
    seed: int = 0


def augmented(image: Image.Image, size: int, generator: np.random.Generator) -> Image.Image:
    """A random resized crop and, half of the time, its mirror image.

    Args:
        image: any size, RGB.
        size: side of the result, pixels.
        generator: decides area (half to all), aspect ratio (3:4 to 4:3, uniform in its logarithm), place and mirroring.
    """
    area = image.width * image.height * generator.uniform(*CROP_AREA)
    aspect = np.exp(generator.uniform(*np.log(CROP_ASPECT)))
    width = min(float(np.sqrt(area * aspect)), image.width)
    height = min(float(np.sqrt(area / aspect)), image.height)
    left = generator.uniform(0, image.width - width)
    top = generator.uniform(0, image.height - height)
    crop = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    return ImageOps.mirror(crop) if generator.random() < 0.5 else crop


@final
@dataclass(frozen=True)
class ViewMaker:
    """From a pool row to the tower's input.

    Attributes:
        images: the source.
        preprocess: PIL image to input tensor.
        size: side of the tower's input, pixels.
    """

    images: AbstractImageSource
    preprocess: Callable[[Image.Image], Tensor]
    size: int

    def pixels(self, views: Sequence[View]) -> Float[Tensor, "n 3 h w"]:
        """Views of one image, which is decoded once; a random view depends on its seed, number and row alone.

        Raises:
            InputError: naming the file that cannot be decoded.
        """
        image = self.images.image(views[0].row)
        return torch.stack([self.preprocess(self._seen(image, view)) for view in views])

    def _seen(self, image: Image.Image, view: View) -> Image.Image:
        if not view.number:
            return image
        return augmented(image, self.size, np.random.default_rng([view.seed, view.number, view.row]))


def grouped(views: Sequence[View], size: int) -> list[list[list[View]]]:
    """Batches of images, each with all of its views, in the order in which the images appear.

    Args:
        views: in any order.
        size: views of a batch at most, unless one image alone has more.

    Example:
        >>> grouped([View(5), View(2), View(5, 1, 7)], size=2)
        [[[View(row=5, number=0, seed=0), View(row=5, number=1, seed=7)]], [[View(row=2, number=0, seed=0)]]]
    """
    of_row: dict[int, list[View]] = {}
    for view in views:
        of_row.setdefault(view.row, []).append(view)
    batches: list[list[list[View]]] = []
    room = 0
    for image in of_row.values():
        if len(image) > room:
            batches.append([])
            room = max(size, len(image))
        batches[-1].append(image)
        room -= len(image)
    return batches


def pixel_batches(
    maker: ViewMaker, batches: Sequence[Sequence[Sequence[View]]], workers: int | None = None, pinned: bool = False
) -> Generator[Float[Tensor, "n 3 h w"], None, None]:
    """Inputs of one batch after another, decoded ahead of the caller in threads or in worker processes.

    The values do not depend on the number of workers.

    Args:
        maker: decodes and preprocesses.
        batches: from `grouped`; views of an image are neighbours.
        workers: processes; 0 decodes in threads; None decides by the number of images and of CPUs. What cannot be sent
            to another process (a preprocessing defined inside a function or a script) is decoded in threads.
        pinned: hand over page-locked memory, which a GPU copies from while it computes.

    Raises:
        InputError: naming the file that cannot be decoded.
    """
    count = worker_count(sum(map(len, batches)), workers)
    with _decoders(maker, count) as submit:
        pending: deque[list[Future[Any]]] = deque()
        waiting = iter(batches)
        while True:
            while len(pending) <= BATCHES_AHEAD and (batch := next(waiting, None)) is not None:
                pending.append([submit(image) for image in batch])
            if not pending:
                return
            pieces = [torch.as_tensor(future.result()) for future in pending.popleft()]
            yield _joined(pieces, pinned)


def worker_count(images: int, asked: int | None = None) -> int:
    """Processes that decode `images` images: as asked, else none for small jobs and small machines.

    Example:
        >>> worker_count(50), worker_count(10**6, asked=3)
        (0, 3)
    """
    if asked is not None:
        return asked
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cpus, MOST_PROCESSES) if images >= PROCESS_IMAGES and cpus >= PROCESS_CPUS else 0


def _joined(pieces: Sequence[Tensor], pinned: bool) -> Tensor:
    if not pinned:
        return torch.cat(list(pieces))
    shape = (sum(map(len, pieces)), *pieces[0].shape[1:])
    return torch.cat(list(pieces), out=torch.empty(shape, dtype=pieces[0].dtype, pin_memory=True))


@contextmanager
def _decoders(maker: ViewMaker, processes: int) -> Iterator[Callable[[Sequence[View]], Future[Any]]]:
    """A way to submit the views of one image, to processes where there are any and they can be used."""
    if processes and _can_travel(maker):
        pool = ProcessPoolExecutor(processes, _Spawn(), _begin_worker, (maker,))
        submit: Callable[[Sequence[View]], Future[Any]] = lambda views: pool.submit(_pixels_in_worker, views)  # noqa: E731
    else:
        pool = ThreadPoolExecutor(DECODING_THREADS)
        submit = lambda views: pool.submit(maker.pixels, views)  # noqa: E731
    try:
        yield submit
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the running script: a new process would run it again, and scripts without a guard would start over."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _Worker(SpawnProcess):
    """A fresh interpreter: never a fork of this one, whose threads and CUDA context would not survive it."""

    def start(self) -> None:
        with _without_main():
            super().start()


class _Spawn(SpawnContext):
    Process = _Worker


def _can_travel(maker: ViewMaker) -> bool:
    try:
        with _without_main():
            ForkingPickler.dumps(maker)
    except Exception:  # any object may refuse, in its own way
        return False
    return True


_in_worker: list[ViewMaker] = []


def _begin_worker(maker: ViewMaker) -> None:
    """A worker leaves interrupts to its parent, uses one core, and does not outlive its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _in_worker[:] = [maker]


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _pixels_in_worker(views: Sequence[View]) -> np.ndarray:
    """As an array, which travels through the pipe: a tensor takes shared memory, of which containers have little."""
    return _in_worker[0].pixels(views).numpy()
