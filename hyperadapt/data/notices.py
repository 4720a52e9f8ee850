"""Sentences about a data set that its user should read once, and the checks shared by all data sets."""

from collections import Counter
from collections.abc import Iterable, Sequence

from hyperadapt.errors import InputError


def listed(items: Iterable[str], most: int = 5) -> str:
    """The first few items with commas, and how many more there are.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    items = list(items)
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def counted(count: int, singular: str, plural: str) -> str:
    """A number with the word that agrees with it.

    Example:
        >>> counted(1, "class has", "classes have"), counted(2, "class has", "classes have")
        ('1 class has', '2 classes have')
    """
    return f"{count} {singular if count == 1 else plural}"


def few_shots_notice(class_sizes: Sequence[int], class_names: Sequence[str], shots: int) -> list[str]:
    """Names the classes with fewer training images than shots, smallest first; empty when there is none.

    Args:
        class_sizes: Training images of each class.
        class_names: Name of each class.
        shots: Images a class asked for.

    Example:
        >>> few_shots_notice([20, 9], ["bus", "tram"], shots=16)
        ['1 class has fewer than 16 training images (tram 9): all of them are used, as in CoOp']
    """
    short = sorted((size, name) for size, name in zip(class_sizes, class_names, strict=True) if size < shots)
    if not short:
        return []
    who = counted(len(short), "class has", "classes have")
    sizes = listed(f"{name} {size}" for size, name in short)
    return [f"{who} fewer than {shots} training images ({sizes}): all of them are used, as in CoOp"]


def shared_name_notice(class_names: Sequence[str]) -> list[str]:
    """Names the class names that stand for more than one class; empty when there is none.

    Example:
        >>> shared_name_notice(["crane", "kite", "crane"])
        ['1 name stands for more than one class (crane): text alone cannot tell these classes apart']
    """
    shared = [name for name, uses in Counter(class_names).items() if uses > 1]
    if not shared:
        return []
    who = counted(len(shared), "name stands", "names stand")
    return [f"{who} for more than one class ({listed(shared)}): text alone cannot tell these classes apart"]


def check_class_count(class_count: int, where: object) -> None:
    """Refuses a data set of fewer than two classes.

    Raises:
        InputError: Says how many there are and where.
    """
    if class_count < 2:
        raise InputError(
            f"{where} holds {counted(class_count, 'class', 'classes')}; telling classes apart needs at least 2"
        )
