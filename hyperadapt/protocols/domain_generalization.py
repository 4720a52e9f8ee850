"""Domain generalisation by CoOp's rules: train on one data set, score its classes in other domains.

A variant may hold some of the classes only (200 of ImageNet's 1,000 in ImageNet-A and -R): its images are scored among
its own class names. Joint: among all names of the training source, known ones too. Source: Zhou et al. 2022, arXiv
2203.05557, section 4.3.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from hyperadapt.adapters.base import positions_among
from hyperadapt.data import Draw, Part
from hyperadapt.errors import InputError
from hyperadapt.features import AbstractFrozenFeatures
from hyperadapt.protocols.few_shot import few_shot_task
from hyperadapt.protocols.task import JOINT, Exam, Task, require_comparable, tree_of


def domain_generalization_task(
    features: AbstractFrozenFeatures, draw: Draw, others: Sequence[AbstractFrozenFeatures]
) -> Task:
    """All shots of a draw; exams named after the data sets, the training source's own test part first.

    The texts of the candidates are the training source's: the classifier stays what it was, the images change.

    Args:
        features: of the training source.
        draw: of it, over all classes.
        others: of the variants; all their images are scored where no split is given, else their test parts.

    Raises:
        InputError: for a class that the training source does not have, features of different towers, two data sets of
            one name, or one without a test image.
    """
    require_comparable(features, others)
    known = few_shot_task(features, draw)
    exams = [replace(known.exams[0], name=features.source.name)]
    for other in others:
        places, part, name = _places(features, other), other.source.zero_shot_part(), other.source.name
        own = places.tolist()
        exams.append(Exam(name, other, part, features.classes.select(own), tree=tree_of(features, own)))
        among_all = Part(part.rows, places[part.labels])
        exams.append(Exam(JOINT + name, other, among_all, features.classes, tree=features.source.tree))
    return replace(known, exams=tuple(exams))


def _places(features: AbstractFrozenFeatures, variant: AbstractFrozenFeatures) -> Int[np.ndarray, " k"]:
    """Where each class of a variant stands among those of the training source."""
    places = np.array(positions_among(variant.classes.names, features.classes.names))
    if (places < 0).any():
        foreign = variant.classes.names[int(np.flatnonzero(places < 0)[0])]
        raise InputError(
            f"a variant holds classes of {features.source.name}, got {foreign!r} in {variant.source.name}; "
            "rename it, or score other classes with bench cross-dataset"
        )
    return places
