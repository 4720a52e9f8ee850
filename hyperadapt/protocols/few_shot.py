"""Few-shot classification by CoOp's rules: shots of all classes are trained on, the whole test part is scored.

All classes are known, so there are no new names and no joint form. Source: Zhou et al. 2022, arXiv 2109.01134,
section 4.1.
"""

from hyperadapt.data import Draw
from hyperadapt.features import AbstractFrozenFeatures
from hyperadapt.protocols.task import Exam, Task


def few_shot_task(features: AbstractFrozenFeatures, draw: Draw) -> Task:
    """All of a draw, with one exam, "all".

    Args:
        features: of the data set.
        draw: of it, over all classes.

    Raises:
        InputError: when there is no test image.
    """
    labels = tuple(range(len(features.source.class_names)))
    exam = Exam("all", features, draw.test, features.classes, tree=features.source.tree)
    return Task(features, labels, draw.train, (exam,), draw.val)
