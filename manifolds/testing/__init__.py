"""The law suite: hypothesis strategies for hyperbolic points, and ``check_manifold`` for a manifold of your own.

A manifold here is a set of formulas, and formulas go wrong quietly: a missing factor two, a sign, a clamp that kills a
gradient. The suite states what must hold (gyrogroup laws, inverses, metric axioms, isometries, geodesics, transport,
gradients, projection, accuracy, engineering) and looks for a counterexample at every radius the dtype can store, for
points that are near, equal, antipodal or collinear. Tolerances are multiples of one rounding and of the condition of
the quantity.

Run all of it in one call; the first law that fails is raised with the smallest sample that breaks it:

    >>> from manifolds import PoincareBall
    >>> from manifolds.testing import check_manifold
    >>> check_manifold(PoincareBall(c=0.5), groups=["metric"], examples=5)

or have pytest show one test a law:

    import pytest
    from manifolds.testing import check_law, laws_of

    MINE = MyManifold()

    @pytest.mark.parametrize("law", laws_of(MINE), ids=lambda law: law.name)
    def test_laws(law):
        check_law(MINE, law)

Needs hypothesis.
"""

from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, given, settings

from manifolds.base import AbstractManifold
from manifolds.testing import algebra_laws, machine_laws, metric_laws
from manifolds.testing.laws import LAWS, Law
from manifolds.testing.samples import (
    PAIRS,
    Sample,
    curvatures,
    partners,
    place,
    points,
    radii,
    samples,
    tangents,
)

__all__ = [
    "LAWS",
    "PAIRS",
    "Law",
    "Sample",
    "check_law",
    "check_manifold",
    "curvatures",
    "laws_of",
    "partners",
    "place",
    "points",
    "radii",
    "samples",
    "tangents",
]

FAMILIES = (algebra_laws, metric_laws, machine_laws)


def laws_of(manifold: AbstractManifold, groups: Sequence[str] | None = None) -> list[Law]:
    """The laws that apply to a manifold, all groups or those named.

    Raises:
        ValueError: a group is not known.
    """
    known = sorted({law.group for law in LAWS})
    for group in groups or ():
        if group not in known:
            raise ValueError(f"laws_of asked for group {group!r}; known groups: {', '.join(known)}")
    return [law for law in LAWS if law.applies(manifold) and (groups is None or law.group in groups)]


def check_law(manifold: AbstractManifold, law: Law, examples: int = 15) -> None:
    """Look for a counterexample to one law.

    Args:
        manifold: what to check.
        law: one of ``laws_of(manifold)``.
        examples: how many samples to try.

    Raises:
        AssertionError: a counterexample was found; the message shows it.
    """

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )
    @given(samples(manifold, law.reach))
    def run(sample: Sample) -> None:
        law.check(sample)

    run()


def check_manifold(manifold: AbstractManifold, groups: Sequence[str] | None = None, examples: int = 15) -> None:
    """Look for a counterexample to every law that applies to ``manifold``.

    Args:
        manifold: an instance of ``AbstractManifold``; operations it does not have are not asked for.
        groups: names of the groups to run; all where left out.
        examples: samples a law.

    Raises:
        AssertionError: a law does not hold; the message names it and shows the sample.
    """
    for law in laws_of(manifold, groups):
        try:
            check_law(manifold, law, examples)
        except AssertionError as error:
            raise AssertionError(f"{type(manifold).__name__} breaks the {law.group} law {law.name}: {error}") from error
