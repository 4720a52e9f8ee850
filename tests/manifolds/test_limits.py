"""What the law suite does not say of the flat limit."""

import torch

from manifolds import Euclidean, polar

FLAT = Euclidean()


def test_polar_distance_tends_to_the_flat_one():
    x, y = (torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in range(2))
    assert torch.allclose(polar.dist(x, y, 1e-10), FLAT.dist(x, y), rtol=1e-8)


def test_flat_space_has_no_hidden_projection():
    x = torch.tensor([1e20, -1e20])
    assert FLAT.projx(x) is x
    assert torch.equal(FLAT.expmap0(x), x)
