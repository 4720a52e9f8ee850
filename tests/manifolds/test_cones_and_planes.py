"""Entailment cones, the Busemann function, hyperplanes and the layers built on them."""

import math

import pytest
import torch

from manifolds import (
    Euclidean,
    HyperplaneLogits,
    PoincareBall,
    PoincareLinear,
    ToBall,
    busemann,
    cone_angle,
    cone_violation,
    half_aperture,
    hyperplane_distance,
    lorentz,
    poincare,
)

C = 0.7


def cloud(*shape, seed=0, radius=0.6, c=C):
    v = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return poincare.expmap0(radius * v, c)


def test_angle_is_zero_beyond_and_pi_towards_the_origin():
    x = cloud(6, 3)
    assert torch.allclose(cone_angle(x, poincare.mobius_scalar_mul(1.7, x, C), C), torch.zeros(6).double(), atol=1e-12)
    back = poincare.mobius_scalar_mul(0.3, x, C)
    assert torch.allclose(cone_angle(x, back, C), torch.full((6,), math.pi, dtype=torch.float64), atol=1e-12)
    assert bool((cone_angle(x, x, C) == 0).all())


def test_angle_is_that_between_logarithm_and_ray():
    x, y = cloud(6, 3), cloud(6, 3, seed=1)
    log = poincare.logmap(x, y, C)
    cosine = (log * x).sum(-1) / (log.norm(dim=-1) * x.norm(dim=-1))
    assert torch.allclose(cone_angle(x, y, C), torch.acos(cosine), atol=1e-9)


def test_aperture_and_angle_are_those_of_the_lorentz_model():
    x, y, k = cloud(6, 3), cloud(6, 3, seed=1), 0.1
    p, q = lorentz.from_ball(x, C), lorentz.from_ball(y, C)
    space = p[:, 1:].norm(dim=-1)
    assert torch.allclose(half_aperture(x, C, k), torch.asin((2 * k / (C**0.5 * space)).clamp(max=1)), atol=1e-12)
    product = C * ((p[:, 1:] * q[:, 1:]).sum(-1) - p[:, 0] * q[:, 0])
    cosine = (q[:, 0] + p[:, 0] * product) / (space * (product.square() - 1).sqrt())
    assert torch.allclose(cone_angle(x, y, C), torch.acos(cosine.clamp(-1, 1)), atol=1e-6)


def test_cones_are_transitive():
    x = cloud(600, 2, radius=0.8)
    x = x[x.norm(dim=-1) * C**0.5 > 0.3]
    inside = cone_violation(x[:, None], x, C, k=0.3) == 0
    chain = inside[:, :, None] & inside[None, :, :]
    assert int(inside.sum()) > 800
    assert bool((~chain | inside[:, None, :]).all())


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


def test_derivatives_of_cones_and_horospheres():
    x, y = cloud(3, 2).requires_grad_(), cloud(3, 2, seed=1).requires_grad_()
    c = torch.tensor(C, dtype=torch.float64, requires_grad=True)
    for function in (lambda a, b, k: half_aperture(a, k), cone_angle, busemann):
        assert torch.autograd.gradcheck(function, (x, y, c))
        assert torch.autograd.gradgradcheck(function, (x, y, c))


def test_busemann_function():
    p = torch.nn.functional.normalize(cloud(1, 3)[0], dim=0)
    x, y = cloud(50, 3, seed=1), cloud(50, 3, seed=2)
    t = torch.linspace(0, 12, 7, dtype=torch.float64)
    ray = poincare.expmap0(t[:, None] / 2 * p, C)
    assert torch.allclose(busemann(p, ray, C), -t, atol=1e-10)
    apart = (busemann(p, x, C) - busemann(p, y, C)).abs()
    assert bool((apart <= poincare.dist(x, y, C) * (1 + 1e-12)).all())
    far = poincare.expmap0(9.0 * p, C)
    limit = poincare.dist(x, far, C) - 18.0
    assert torch.allclose(busemann(p, x, C), limit, atol=1e-7)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))[0]
    assert torch.allclose(busemann(p @ turn, x @ turn, C), busemann(p, x, C), atol=1e-12)


def test_hyperplane_distance_is_odd_zero_on_the_plane_and_the_least_distance_to_it():
    generator = torch.Generator().manual_seed(0)
    z, r = torch.randn(3, 3, dtype=torch.float64, generator=generator), torch.tensor([0.0, 0.4, -0.8]).double()
    x = cloud(20, 3, seed=1)
    got = hyperplane_distance(x, z, r, C)
    assert torch.allclose(hyperplane_distance(x, -z, -r, C), -got, atol=1e-13)
    assert torch.allclose(hyperplane_distance(x, 5 * z, r, C), got, atol=1e-13)
    for k in range(3):
        normal = z[k] / z[k].norm()
        foot = poincare.expmap0(r[k] * normal, C)
        free = torch.randn(40000, 3, dtype=torch.float64, generator=generator) * 1.5
        tangent = free - (free @ normal)[:, None] * normal
        plane = poincare.mobius_add(foot, poincare.expmap0(tangent, C), C)
        assert float(hyperplane_distance(plane, z[k : k + 1], r[k : k + 1], C).abs().max()) < 1e-10
        nearest = poincare.pairwise_dist(x, plane, C).min(dim=1).values
        assert bool((nearest >= got[:, k].abs() - 1e-12).all())
        assert float((nearest - got[:, k].abs()).max()) < 0.1
        away = poincare.expmap0((r[k] + 0.3) * normal, C)
        assert float(hyperplane_distance(away, z[k : k + 1], r[k : k + 1], C)) == pytest.approx(0.6, abs=1e-12)


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
