"""The public law suite over every manifold of the package, and over one that is not of the package."""

import pytest
import torch
from half_space import HalfSpace

from manifolds import Euclidean, Lorentz, PoincareBall
from manifolds.testing import GROUPS, LAWS, check_law, check_manifold, laws_of
from manifolds.testing.laws import law as register

MANIFOLDS = {
    "ball(1)": (PoincareBall(1.0), 3),
    "lorentz(1)": (Lorentz(1.0), 2),
    "euclidean": (Euclidean(), 3),
    "half-space(0.5)": (HalfSpace(0.5), 2),
}
# The law of scale ties these to the above; a part of the suite guards the constants that it could miss.
EXTREMES = {"ball(1e-6)": PoincareBall(1e-6), "ball(100)": PoincareBall(100.0)}
CORE = ("inverses", "metric", "geodesics", "transport", "projection", "accuracy")
LEARNABLE = PoincareBall(0.3, learnable=True)
MORE = {
    "learnable(0.3)": LEARNABLE,
    "lorentz(0.01)": Lorentz(0.01),
    "learnable lorentz(0.5)": Lorentz(0.5, learnable=True),
    "ball(1e3)": PoincareBall(1e3),
    **EXTREMES,
    **{name: manifold for name, (manifold, _) in MANIFOLDS.items()},
}


def only_learnable():
    """Laws that a fixed curvature does not have, and those that a graph through the curvature could break."""
    fixed = {law.name for law in laws_of(PoincareBall(0.3))}
    return [
        law for law in laws_of(LEARNABLE) if law.name not in fixed or (law.group == "engineering" and not law.examples)
    ]


def whole_suite(name, manifold, examples):
    """Costly laws once on the ball; elsewhere those worth no more than two samples wait for the slow run."""
    for law in laws_of(manifold):
        if name == "ball(1)" or (law.examples or 3) > 2:
            yield name, manifold, law, 1 if law.examples else examples


CASES = [
    *(case for name, pair in MANIFOLDS.items() for case in whole_suite(name, *pair)),
    *((name, m, law, 2) for name, m in EXTREMES.items() for law in laws_of(m, CORE) if not law.examples),
    *(("learnable(0.3)", LEARNABLE, law, 2) for law in only_learnable()),
]


@pytest.mark.parametrize(
    ("manifold", "law", "examples"), [pytest.param(*rest, id=f"{name}-{rest[1].name}") for name, *rest in CASES]
)
def test_law(manifold, law, examples):
    check_law(manifold, law, examples)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("manifold", "law"),
    [pytest.param(m, law, id=f"{name}-{law.name}") for name, m in MORE.items() for law in laws_of(m)],
)
def test_law_with_many_samples(manifold, law):
    check_law(manifold, law, examples=60)


def test_there_are_seventeen_groups_and_the_ball_has_laws_of_all():
    assert len(GROUPS) == 17
    assert {law.group for law in LAWS} == set(GROUPS)
    assert {law.group for law in laws_of(PoincareBall())} == set(GROUPS)
    assert [law.name for law in laws_of(PoincareBall(), ["limits"])] == [
        law.name for law in laws_of(PoincareBall()) if law.group == "limits"
    ]


def test_names_of_laws_are_unique():
    names = [law.name for law in LAWS]
    assert len(names) == len(set(names))


def test_a_manifold_is_asked_for_no_operation_that_it_does_not_have():
    names = {law.group for law in laws_of(HalfSpace())}
    assert names == set(GROUPS) - {"gyrogroup", "scalar multiplication", "means", "planes and cones"}
    assert all(hasattr(HalfSpace(), need) for law in laws_of(HalfSpace()) for need in law.needs)


def test_a_wrong_manifold_is_named_with_the_law_it_breaks():
    class Halved(PoincareBall):
        def norm(self, x, v, *, keepdim=False):
            return super().norm(x, v, keepdim=keepdim) / 2

    with pytest.raises(AssertionError, match="Halved breaks the inverses law logmap_has_the_length_of_the_distance"):
        check_manifold(Halved(), groups=["inverses"], examples=4)


def test_a_wrong_manifold_of_a_users_own_is_found():
    class Upside(HalfSpace):
        def egrad2rgrad(self, x, u):
            return super().egrad2rgrad(x, u) * torch.sign(x[..., -1:] - 1.0)

    with pytest.raises(AssertionError, match="Upside breaks the conformal factor and gradient law"):
        check_manifold(Upside(), groups=["conformal factor and gradient"], examples=8)


def test_an_unknown_group_is_refused():
    with pytest.raises(ValueError, match="asked for group 'random'; known groups: gyrogroup, scalar multiplication"):
        laws_of(PoincareBall(), groups=["random"])
    with pytest.raises(ValueError, match="known groups: gyrogroup"):
        register("random")
