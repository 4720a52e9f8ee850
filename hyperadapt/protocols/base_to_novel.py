"""Base-to-novel generalisation by CoOp's rules.

The first half of the labels (rounded up) is base. Training sees the shots of the base classes alone; base test images
are scored among the base names, novel test images among the novel names. Joint: the same images among the names of both
halves. Source: Zhou et al. 2022, arXiv 2203.05557, section 4.1, and the protocol of its public code.
"""

import numpy as np

from hyperadapt.data import Draw, Part, base_and_novel
from hyperadapt.features import AbstractFrozenFeatures
from hyperadapt.protocols.task import JOINT, Exam, Task, tree_of


def base_to_novel_task(features: AbstractFrozenFeatures, draw: Draw) -> Task:
    """Cut a few-shot draw into base training shots and two test halves: exams base, novel, joint_base, joint_novel.

    Args:
        features: of the data set.
        draw: of it, over all classes.

    Raises:
        InputError: when there are no two halves, or one has no test image.
    """
    base, novel = base_and_novel(draw.train.labels.tolist(), len(features.source.class_names))
    everyone, halves, joint = tuple(sorted(base + novel)), [], []
    for name, own in (("base", base), ("novel", novel)):
        part = draw.test.restrict(own)
        halves.append(Exam(name, features, part, features.classes.select(own), tree=tree_of(features, own)))
        among_all = Part(part.rows, np.searchsorted(everyone, np.array(own)[part.labels]))
        classes, tree = features.classes.select(everyone), tree_of(features, everyone)
        joint.append(Exam(JOINT + name, features, among_all, classes, mixes=True, tree=tree))
    return Task(features, base, draw.train.restrict(base), (*halves, *joint), draw.val.restrict(base))
