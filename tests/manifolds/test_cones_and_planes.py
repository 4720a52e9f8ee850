"""Cones at their special points, and the layers built on hyperplanes."""

import math

import pytest
import torch

from manifolds import (
    Euclidean,
    HyperplaneLogits,
    Lorentz,
    PoincareBall,
    PoincareLinear,
    ToBall,
    cone_angle,
    half_aperture,
    hyperplane_distance,
    poincare,
)

C = 0.7


def cloud(*shape, seed=0, radius=0.6, c=C):
    v = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return poincare.expmap0(radius * v, c)


def test_aperture_is_a_right_angle_at_the_origin_with_finite_gradients():
    x = torch.zeros(3, requires_grad=True)
    value = half_aperture(x)
    assert value.item() == pytest.approx(math.pi / 2)
    (grad,) = torch.autograd.grad(value, x)
    assert bool((grad == 0).all())
    y = torch.tensor([0.5, 0.0, 0.0], requires_grad=True)
    for target in (y.detach(), 2 * y.detach() / 3, torch.zeros(3), torch.tensor([0.9, 0.0, 0.0])):
        (grad,) = torch.autograd.grad(cone_angle(y, target), y)
        assert bool(torch.isfinite(grad).all())
    with pytest.raises(ValueError, match="k > 0"):
        half_aperture(y, k=0.0)


def test_layers_have_flat_limits():
    torch.manual_seed(0)
    x = 0.3 * torch.randn(5, 4, dtype=torch.float64)
    for layer in (HyperplaneLogits, PoincareLinear):
        curved, flat = layer(PoincareBall(1e-10), 4, 3).double(), layer(Euclidean(), 4, 3).double()
        flat.load_state_dict({k: v for k, v in curved.state_dict().items() if "manifold" not in k}, strict=False)
        assert torch.allclose(curved(x), flat(x), atol=1e-8)
        with torch.no_grad():
            for p in flat.parameters():
                p.add_(0.1)
        slope = torch.func.jacrev(lambda v, flat=flat: flat(v[None])[0])
        assert torch.allclose(slope(x[0]), slope(x[1]), atol=1e-12)


def test_linear_layer_puts_outputs_at_their_logits():
    torch.manual_seed(0)
    layer = PoincareLinear(PoincareBall(C), 4, 3).double()
    with torch.no_grad():
        layer.planes.r.uniform_(-0.5, 0.5)
        layer.planes.z.mul_(3.0)
    x = cloud(6, 4)
    y = layer(x)
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    assert torch.allclose(hyperplane_distance(y, eye, zero, C), layer.planes.wide(x), atol=1e-10)
    assert torch.autograd.gradcheck(layer, (x.clone().requires_grad_(),))
    assert torch.autograd.gradgradcheck(layer, (x.clone().requires_grad_(),))


def test_linear_layer_survives_large_weights():
    layer = PoincareLinear(PoincareBall(), 4, 3)
    with torch.no_grad():
        layer.planes.z.mul_(1e4)
        layer.planes.r.fill_(5.0)
    x = cloud(6, 4).float().requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert bool((y.norm(dim=-1) < 1).all())
    assert bool(torch.isfinite(x.grad).all())


@pytest.mark.parametrize("manifold", [PoincareBall(0.1), Euclidean()], ids=["ball", "flat"])
def test_to_ball_clips_by_length(manifold):
    to_ball = ToBall(manifold, clip_radius=2.3, scale=0.5)
    u = torch.tensor([[3.0, 4.0], [30.0, 40.0], [0.0, 0.0]])
    assert torch.allclose(manifold.dist0(to_ball(u)), torch.tensor([4.6, 4.6, 0.0]), atol=1e-5)
    short = torch.tensor([[0.6, 0.8]])
    assert torch.allclose(manifold.dist0(to_ball(short)), torch.tensor([1.0]), atol=1e-6)
    assert torch.allclose(to_ball(short), manifold.expmap0(0.5 * short))
    u.requires_grad_()
    (grad,) = torch.autograd.grad((to_ball(u) * u.detach()).sum(), u)
    assert bool(torch.isfinite(grad).all())
    assert float((grad[1] * u[1].detach()).sum().abs()) < 1e-4
    open_end = ToBall(manifold, clip_radius=None)
    assert float(manifold.dist0(open_end(torch.tensor([3.0, 4.0])))) == pytest.approx(10.0, rel=1e-5)


def test_to_ball_learns_its_scale_and_lifts_half_precision():
    to_ball = ToBall(PoincareBall(1.0, learnable=True), scale=0.2, learn_scale=True)
    names = {name for name, _ in to_ball.named_parameters()}
    assert names == {"log_scale", "manifold.curvature_module.log_scale"}
    out = to_ball(torch.tensor([0.5, 1.0], dtype=torch.bfloat16))
    assert out.dtype == torch.float32
    out.sum().backward()
    assert all(bool(p.grad.abs() > 0) for p in to_ball.parameters())
    with pytest.raises(ValueError, match="clip_radius > 0"):
        ToBall(Euclidean(), clip_radius=0.0)
    with pytest.raises(ValueError, match="scale > 0"):
        ToBall(Euclidean(), scale=-1.0)


@pytest.mark.parametrize("manifold", [PoincareBall(0.1), PoincareBall(2.0), Euclidean()], ids=str)
def test_gradients_are_scaled_by_the_inverse_metric_where_asked_and_points_stay(manifold):
    features = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    plain, turned = (ToBall(manifold, riemannian=on)(features) for on in (False, True))
    assert torch.equal(plain, turned)
    pull = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    factor = (1 - manifold.curvature * plain.detach().square().sum(1, keepdim=True)).square() / 4
    expected = torch.autograd.grad(plain, features, factor * pull)[0]
    torch.testing.assert_close(torch.autograd.grad(turned, features, pull)[0], expected)
    with pytest.raises(ValueError, match="got Lorentz"):
        ToBall(Lorentz(), riemannian=True)
