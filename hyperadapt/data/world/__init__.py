"""The embedded world: small drawn data sets with fine classes, attributes, a taxonomy and shifted domains."""

from hyperadapt.data.world.images import world_pixels
from hyperadapt.data.world.shifts import SHIFTS
from hyperadapt.data.world.source import PER_CLASS, WorldSource
from hyperadapt.data.world.taxonomy import FAMILIES, Family, FineClass
from hyperadapt.errors import InputError

__all__ = [
    "FAMILIES",
    "PER_CLASS",
    "Family",
    "FineClass",
    "WorldSource",
    "load_world",
    "world_domains",
    "world_names",
    "world_pixels",
]


def world_names() -> tuple[str, ...]:
    """Names of the plain data sets.

    Example:
        >>> world_names()
        ('birds', 'fish', 'flowers', 'vehicles', 'patterns')
    """
    return tuple(FAMILIES)


def world_domains(name: str) -> tuple[str, ...]:
    """Names of the shifted domains of a data set: same classes and scenes, another medium.

    Example:
        >>> world_domains("birds")
        ('birds-sketch', 'birds-washed-out', 'birds-texture-swapped', 'birds-noisy')
    """
    return tuple(f"{name}-{shift}" for shift in SHIFTS)


def load_world(name: str) -> WorldSource:
    """A data set or a shifted domain by name.

    Raises:
        InputError: There is no such data set or domain.

    Example:
        >>> len(load_world("fish").class_names), load_world("birds-sketch").name
        (40, 'birds-sketch')
    """
    base, _, shift = name.partition("-")
    if base not in FAMILIES or (shift and shift not in SHIFTS):
        known = f"{', '.join(FAMILIES)}, each also with -{', -'.join(SHIFTS)}"
        raise InputError(f"no world data set {name!r}; choose one of {known}")
    return WorldSource(FAMILIES[base], shift or None)
