"""The same numbers on a CUDA device as on the CPU."""

import copy

import pytest
import torch

from manifolds import Lorentz, PoincareBall, frechet_mean, gyromidpoint, polar

pytestmark = pytest.mark.gpu


@pytest.fixture
def device():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device("cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_agree(device, dtype):
    ball = PoincareBall(0.7, learnable=True)
    twin = copy.deepcopy(ball).to(device)
    v = torch.randn(2, 32, 16, dtype=dtype, generator=torch.Generator().manual_seed(0))
    tolerance = 200 * torch.finfo(dtype).eps
    for name in ("dist", "sqdist", "logmap", "expmap", "mobius_add", "pairwise_dist"):
        results = []
        for manifold, where in ((ball, "cpu"), (twin, device)):
            x = (v[0] * 0.2).to(where).requires_grad_()
            y = (v[1] * 0.1).to(where)
            result = getattr(manifold, name)(x, y)
            grads = torch.autograd.grad(result.sum(), (x, manifold.curvature_module.log_scale))
            results.append([t.detach().cpu() for t in (result, *grads)])
        for a, b in zip(*results, strict=True):
            assert torch.allclose(a, b.to(a.dtype), rtol=tolerance, atol=tolerance * float(a.abs().max())), name


def test_other_functions_agree(device):
    v = torch.randn(8, 6, 4, generator=torch.Generator().manual_seed(1))
    x = PoincareBall().expmap0(0.5 * v)
    for function in (
        gyromidpoint,
        frechet_mean,
        lambda t: polar.dist(t[0], t[1]),
        lambda t: polar.pairwise_dist(t[0], t[1]),
    ):
        assert torch.allclose(function(x.to(device)).cpu(), function(x), rtol=1e-5, atol=1e-6)
    lorentz = Lorentz()
    points = lorentz.from_ball(x)
    assert torch.allclose(
        lorentz.to(device).dist(points[0].to(device), points[1].to(device)).cpu(), Lorentz().dist(points[0], points[1])
    )


def test_tf32_and_autocast_do_not_reach_distances(device):
    x = PoincareBall().expmap0(torch.randn(64, 128, generator=torch.Generator().manual_seed(2)) * 0.1).to(device)
    wanted = PoincareBall().to(device).pairwise_dist(x)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            got = PoincareBall().to(device).pairwise_dist(x)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(got, wanted)
