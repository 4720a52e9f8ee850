"""Few-shot draws: which rows train, validate and test, as a pure function of labels, shots and a seed."""

import hashlib
import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hyperadapt.errors import InputError

COOP_VAL_SHOTS = 4
"""CoOp validates on at most this many images a class."""

Labels = Sequence[int] | np.ndarray[Any, np.dtype[np.integer[Any]]]


def coop_draw(train_labels: Labels, val_labels: Labels, shots: int, seed: int) -> tuple[list[int], list[int]]:
    """CoOp's few-shot draw: `shots` training and `min(shots, 4)` validation images a class, no image twice.

    Classes are visited in the order in which they first appear in each list. A class with fewer images than asked
    for gives all of them in list order, without touching the random stream. One stream serves the training list
    first and the validation list after it, so the validation list cannot change which images train.

    Args:
        train_labels: (N,) labels of the training list, in the order of the split file.
        val_labels: (M,) labels of the validation list; may lack classes, or be empty.
        shots: Images a class, at least 1.
        seed: Any int; CoOp's tables use 1, 2 and 3.

    Returns:
        Positions in the training list and positions in the validation list, both in draw order.

    Raises:
        InputError: `shots` is below 1, or `shots` or `seed` is no int.

    Example:
        >>> coop_draw([0, 1, 0, 1], [1, 0], shots=1, seed=1)
        ([0, 1], [0, 1])

    Source: "Learning to Prompt for Vision-Language Models" (arXiv 2109.01134), its released data loader.
    """
    check_request(shots, seed)
    stream = random.Random(int(seed))
    train = _sample_each_class(train_labels, shots, stream)
    val = _sample_each_class(val_labels, min(shots, COOP_VAL_SHOTS), stream)
    return train, val


def permutation_draw(
    labels: Labels, shots: int, val_per_class: int, seed: int
) -> tuple[list[int], list[int], list[int]]:
    """The draw for a pool without a given split: each class is shuffled, then cut into train, validation and test.

    One `numpy.random.RandomState(seed)` shuffles the classes in label order. The first `shots` rows of a class train,
    but never all of them; the next `val_per_class` validate; the rest test. A class of at most `shots` rows therefore
    trains on all but one, and the one goes to validation, or to the test part where `val_per_class` is 0.

    Args:
        labels: (N,) labels of the pool.
        shots: Images a class to train on, at least 1.
        val_per_class: Images a class to validate on, at least 0.
        seed: Between 0 and 2**32 - 1.

    Returns:
        Positions for training, validation and test; together each position of the pool exactly once.

    Raises:
        InputError: A number is out of its range, or no int.

    Example:
        >>> train, val, test = permutation_draw([0, 0, 0, 1, 1, 1], shots=1, val_per_class=1, seed=1)
        >>> train, val, test
        ([0, 4], [2, 5], [1, 3])
    """
    check_request(shots, seed)
    if not _is_int(val_per_class) or val_per_class < 0:
        raise InputError(f"val_per_class must be an int of at least 0, got {val_per_class!r}")
    if not 0 <= seed < 2**32:
        raise InputError(f"a seed for a pool without a given split lies in 0..4294967295, got {seed}")
    stream = np.random.RandomState(seed)
    labels = np.asarray(labels, dtype=np.int64)
    by_label = np.argsort(labels, kind="stable")
    class_starts = np.flatnonzero(np.diff(labels[by_label])) + 1
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for rows in np.split(by_label, class_starts):
        rows = rows[stream.permutation(len(rows))].tolist()
        train_end = min(shots, len(rows) - 1)
        val_end = train_end + val_per_class
        for part, taken in zip(parts, (rows[:train_end], rows[train_end:val_end], rows[val_end:]), strict=True):
            part.extend(taken)
    return parts


def draw_hash(paths: Iterable[str]) -> str:
    r"""First 16 hex digits of the sha256 of the paths joined by "\n": a name for a draw that two machines can compare.

    Example:
        >>> draw_hash(["a.jpg", "b.jpg"])
        'f7199d4ec1aed67f'
    """
    return hashlib.sha256("\n".join(paths).encode()).hexdigest()[:16]


def check_request(shots: int, seed: int) -> None:
    """Refuses a number of shots below 1 and anything that is no int.

    Raises:
        InputError: Says which of the two and what it was.
    """
    if not _is_int(shots) or shots < 1:
        raise InputError(f"shots must be an int of at least 1, got {shots!r}; the usual values are 1, 2, 4, 8, 16")
    if not _is_int(seed):
        raise InputError(f"seed must be an int, got {seed!r}")


def _sample_each_class(labels: Labels, shots: int, stream: random.Random) -> list[int]:
    rows_of: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        rows_of.setdefault(int(label), []).append(row)
    drawn: list[int] = []
    for rows in rows_of.values():
        drawn += stream.sample(rows, shots) if len(rows) >= shots else rows
    return drawn


def _is_int(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
