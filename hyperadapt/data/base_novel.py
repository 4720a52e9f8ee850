"""The two halves of base-to-novel generalisation: classes seen in training and classes kept for later."""

from collections.abc import Iterable

from hyperadapt.errors import InputError


def base_and_novel(labels_present: Iterable[int], class_count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """CoOp's halves: the labels in ascending order, the first half base, the second novel; base has the odd one.

    Args:
        labels_present: Labels that have training images, in any order and with repetitions.
        class_count: Number of classes of the data set; every label lies in 0..class_count-1.

    Returns:
        The base labels and the novel labels, each ascending. Relabel with `Part.restrict(base)`.

    Raises:
        InputError: Fewer than two classes are present, or a label is out of range.

    Example:
        >>> base_and_novel([4, 2, 0, 2, 1, 3], class_count=5)
        ((0, 1, 2), (3, 4))

    Source: "Conditional Prompt Learning for Vision-Language Models" (arXiv 2203.05557), section 4.1.
    """
    labels = sorted({int(label) for label in labels_present})
    if labels and not (labels[0] >= 0 and labels[-1] < class_count):
        outside = labels[0] if labels[0] < 0 else labels[-1]
        raise InputError(
            f"base_and_novel got label {outside} for {class_count} classes; labels lie in 0..{class_count - 1}"
        )
    if len(labels) < 2:
        raise InputError(
            f"base-to-novel needs at least 2 classes with training images, got {len(labels)}; one half would be empty"
        )
    middle = (len(labels) + 1) // 2
    return tuple(labels[:middle]), tuple(labels[middle:])
