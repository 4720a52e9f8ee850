"""Cross-dataset transfer by CoOp's rules: train on all classes of one data set, score others by their own names.

Joint: the images of a test set among the names of both data sets; a name that both have is one candidate. Source: Zhou
et al. 2022, arXiv 2203.05557, section 4.2.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int

from hyperadapt.adapters.base import positions_among
from hyperadapt.data import Draw, Part
from hyperadapt.features import AbstractFrozenFeatures
from hyperadapt.protocols.few_shot import few_shot_task
from hyperadapt.protocols.task import JOINT, Exam, Task, require_comparable
from hyperadapt.text import ClassText


def cross_dataset_task(features: AbstractFrozenFeatures, draw: Draw, others: Sequence[AbstractFrozenFeatures]) -> Task:
    """All shots of a draw; exams named after the data sets, the training source's own test part first.

    Args:
        features: of the training source.
        draw: of it, over all classes.
        others: of the test sets; all their images are scored where no split is given, else their test parts.

    Raises:
        InputError: for features of different towers, two data sets of one name, or one without a test image.
    """
    require_comparable(features, others)
    known = few_shot_task(features, draw)
    exams = [replace(known.exams[0], name=features.source.name)]
    for other in others:
        part, names = other.source.zero_shot_part(), other.source.name
        exams.append(Exam(names, other, part, other.classes, tree=other.source.tree))
        classes, places = joined(features.classes, other.classes)
        exams.append(Exam(JOINT + names, other, Part(part.rows, places[part.labels]), classes, mixes=True))
    return replace(known, exams=tuple(exams))


def joined(known: ClassText, new: ClassText) -> tuple[ClassText, Int[np.ndarray, " k"]]:
    """Two class lists as one; a name in both stays once, as the first list has it.

    Args:
        known: all of them come first.
        new: those that are not among the known follow.

    Returns:
        The classes, with as many templates as both lists have, and where each new class stands among them.
    """
    places = np.array(positions_among(new.names, known.names))
    added = np.flatnonzero(places < 0)
    places[added] = len(known) + np.arange(len(added))
    rest, count = new.select(added.tolist()), min(len(known.templates), len(new.templates))
    both = replace(
        known,
        names=known.names + rest.names,
        templates=torch.cat([known.templates[:count], rest.templates[:count]], dim=1),
        weights=torch.cat([known.weights, rest.weights]),
    )
    return both, places
