"""The law suite: hypothesis strategies for hyperbolic points, and ``check_manifold`` for a manifold of your own.

A manifold here is a set of formulas, and formulas go wrong quietly: a missing factor two, a sign, a clamp that kills a
gradient. The suite states what must hold in seventeen groups (``GROUPS``) and looks for a counterexample at every
radius the dtype can store, for points that are near, equal, antipodal or collinear. A law applies where a manifold has
the operations that it speaks of: the abstract ones alone are held to thirteen groups, ``mobius_add``, ``midpoint``
or ``cone_angle`` bring theirs. Tolerances are multiples of one rounding and of the condition of the quantity.

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

Needs hypothesis; the laws of optimizers and of eighty digits run where geoopt and mpmath are installed.
"""

from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, given, settings

from manifolds.base import AbstractManifold
from manifolds.testing import (
    accuracy_laws,
    algebra_laws,
    derivative_laws,
    geodesic_laws,
    limit_laws,
    machine_laws,
    mean_laws,
    metric_laws,
    model_laws,
    optimizer_laws,
    plane_laws,
)
from manifolds.testing.laws import GROUPS, LAWS, Law
from manifolds.testing.samples import (
    PAIRS,
    Sample,
    curvatures,
    partners,
    place,
    points,
    radii,
    samples,
    small_samples,
    tangents,
)

__all__ = [
    "GROUPS",
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
    "small_samples",
    "tangents",
]

FAMILIES = (
    algebra_laws,
    metric_laws,
    geodesic_laws,
    model_laws,
    limit_laws,
    derivative_laws,
    mean_laws,
    plane_laws,
    optimizer_laws,
    machine_laws,
    accuracy_laws,
)


def laws_of(manifold: AbstractManifold, groups: Sequence[str] | None = None) -> list[Law]:
    """The laws that apply to a manifold, all groups or those named.

    Raises:
        ValueError: a group is not known.
    """
    for group in groups or ():
        if group not in GROUPS:
            raise ValueError(f"laws_of asked for group {group!r}; known groups: {', '.join(GROUPS)}")
    chosen = [law for law in LAWS if law.applies(manifold) and (groups is None or law.group in groups)]
    return sorted(chosen, key=lambda law: GROUPS.index(law.group))


def check_law(manifold: AbstractManifold, law: Law, examples: int = 15) -> None:
    """Look for a counterexample to one law.

    Args:
        manifold: what to check.
        law: one of ``laws_of(manifold)``.
        examples: how many samples to try; a costly law takes fewer.

    Raises:
        AssertionError: a counterexample was found; the message shows it.
    """

    @settings(
        max_examples=min(examples, law.examples or examples),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )
    @given((small_samples if law.small else samples)(manifold, law.reach))
    def run(sample: Sample) -> None:
        law.check(sample)

    run()


def check_manifold(manifold: AbstractManifold, groups: Sequence[str] | None = None, examples: int = 15) -> None:
    """Look for a counterexample to every law that applies to ``manifold``.

    Args:
        manifold: an instance of ``AbstractManifold``; operations it does not have are not asked for.
        groups: names of the groups to run; all where left out.
        examples: samples a law, fewer for costly ones.

    Raises:
        AssertionError: a law does not hold; the message names it and shows the sample.
    """
    for law in laws_of(manifold, groups):
        try:
            check_law(manifold, law, examples)
        except AssertionError as error:
            raise AssertionError(f"{type(manifold).__name__} breaks the {law.group} law {law.name}: {error}") from error
