"""The public law suite over every manifold of the package."""

import pytest

from manifolds import Euclidean, Lorentz, PoincareBall
from manifolds.testing import check_law, check_manifold, laws_of

MANIFOLDS = {
    "ball(1)": (PoincareBall(1.0), 10),
    "ball(1e-6)": (PoincareBall(1e-6), 4),
    "ball(100)": (PoincareBall(100.0), 4),
    "lorentz(1)": (Lorentz(1.0), 4),
    "euclidean": (Euclidean(), 4),
}
MORE = {
    "learnable(0.3)": PoincareBall(0.3, learnable=True),
    "lorentz(0.01)": Lorentz(0.01),
    "ball(1e3)": PoincareBall(1e3),
    **{name: manifold for name, (manifold, _) in MANIFOLDS.items()},
}
CASES = [
    pytest.param(manifold, law, examples, id=f"{name}-{law.name}")
    for name, (manifold, examples) in MANIFOLDS.items()
    for law in laws_of(manifold)
]


@pytest.mark.parametrize(("manifold", "law", "examples"), CASES)
def test_law(manifold, law, examples):
    check_law(manifold, law, examples)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("manifold", "law"),
    [pytest.param(m, law, id=f"{name}-{law.name}") for name, m in MORE.items() for law in laws_of(m)],
)
def test_law_with_many_samples(manifold, law):
    check_law(manifold, law, examples=60)


def test_a_learnable_curvature_keeps_the_engineering_laws():
    check_manifold(PoincareBall(0.3, learnable=True), groups=["engineering", "metric"], examples=3)


def test_a_wrong_manifold_is_named_with_the_law_it_breaks():
    class Halved(PoincareBall):
        def norm(self, x, v, *, keepdim=False):
            return super().norm(x, v, keepdim=keepdim) / 2

    with pytest.raises(AssertionError, match="Halved breaks the inverses law logmap_has_the_length_of_the_distance"):
        check_manifold(Halved(), groups=["inverses"])


def test_an_unknown_group_is_refused():
    with pytest.raises(ValueError, match="known groups: accuracy"):
        laws_of(PoincareBall(), groups=["gyro"])
