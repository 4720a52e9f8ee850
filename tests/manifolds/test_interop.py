"""geoopt's optimizers, state dicts, copies, compilation, function transforms, autocast, data parallel."""

import copy
import io
from pathlib import Path

import geoopt
import pytest
import torch
from safetensors.torch import load, save

from manifolds import (
    Euclidean,
    HyperplaneLogits,
    Lorentz,
    PoincareBall,
    PoincareLinear,
    ToBall,
    busemann,
    cone_angle,
    frechet_mean,
    gyromidpoint,
    poincare,
    polar,
)
from manifolds.optim import manifold_parameter, riemannian_adam, riemannian_sgd

MANIFOLDS = [PoincareBall(1.0), PoincareBall(0.3, learnable=True), Lorentz(1.0), Euclidean()]


def start(manifold, n=6, dim=3):
    v = torch.randn(n, dim, generator=torch.Generator().manual_seed(0))
    return manifold.expmap0(manifold.tangent0(v)).detach()


@pytest.mark.parametrize("manifold", MANIFOLDS, ids=lambda m: m.name)
@pytest.mark.parametrize("step", [riemannian_adam, riemannian_sgd])
def test_optimizers_of_geoopt_decrease_a_convex_objective_and_stay_inside(manifold, step):
    p = manifold_parameter(start(manifold), manifold)
    assert isinstance(p, geoopt.ManifoldParameter)
    target = start(manifold).flip(0)
    options = {"stabilize": 3} if step is riemannian_adam else {"momentum": 0.5, "stabilize": 3}
    optimizer = step([p], lr=0.1, **options)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = manifold.sqdist(p, target).mean()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
        assert manifold.check_point(p.detach()) is None
    assert values[-1] < 0.2 * values[0]


@pytest.mark.parametrize("manifold", MANIFOLDS, ids=lambda m: m.name)
def test_a_gradient_step_follows_the_geodesic_of_the_riemannian_gradient(manifold):
    p = manifold_parameter(start(manifold), manifold)
    x, target = p.detach().clone(), start(manifold).flip(0)
    loss = (manifold.sqdist(p, target) / 2).sum()
    loss.backward()
    riemannian_sgd([p], lr=0.25).step()
    wanted = manifold.geodesic(0.25, torch.Tensor(x), target)
    assert float(manifold.dist(p.detach(), wanted).detach().max()) < 1e-4


@pytest.mark.parametrize("step", [riemannian_adam, riemannian_sgd])
def test_steps_commute_with_rotations(step):
    ball = PoincareBall(1.0)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    ends = []
    for matrix in (torch.eye(3, dtype=torch.float64), turn):
        p = manifold_parameter(start(ball).double() @ matrix, ball)
        optimizer = step([p], lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            ball.dist(p, start(ball).double().flip(0) @ matrix).sum().backward()
            optimizer.step()
        ends.append(p.detach() @ matrix.T)
    assert torch.allclose(torch.Tensor(ends[0]), torch.Tensor(ends[1]), atol=1e-6)


def test_parameters_are_refused_or_pulled_inside():
    with pytest.raises(TypeError, match=r"convert with \.float"):
        manifold_parameter(torch.zeros(2).half(), PoincareBall())
    x = torch.tensor([3.0, 4.0])
    assert manifold_parameter(x, PoincareBall()).norm() < 1
    assert torch.equal(x, torch.tensor([3.0, 4.0]))
    with pytest.raises(ValueError, match="apply projx first"):
        geoopt.ManifoldParameter(x, manifold=PoincareBall())


@pytest.mark.parametrize("c", [1e-6, 1e-3, 0.1, 1 / 3, 100.0, 1e3])
@pytest.mark.parametrize("learnable", [False, True])
def test_curvature_is_exact_through_every_way_of_storing(c, learnable):
    ball = PoincareBall(c, learnable)
    assert ball.c.item() == c
    buffer = io.BytesIO()
    torch.save(ball.state_dict(), buffer)
    stored = load(save({k: v.detach().clone() for k, v in ball.state_dict().items()}))
    for state in (stored, ball.state_dict()):
        other = PoincareBall(7.0, learnable)
        other.load_state_dict(state)
        assert other.c.item() == c
    for cast in (lambda m: m.half(), lambda m: m.bfloat16(), lambda m: m.float(), lambda m: m.to(torch.float16)):
        assert cast(copy.deepcopy(ball)).c.item() == c
    assert torch.nn.Sequential(ball).half()[0].c.dtype == torch.float64


def test_curvature_learns_stays_positive_and_keeps_its_gradient_after_a_cast():
    ball = PoincareBall(0.5, learnable=True).half()
    optimizer = torch.optim.SGD(ball.parameters(), lr=50.0)
    x, y = torch.tensor([0.1, 0.2]), torch.tensor([-0.3, 0.1])
    for _ in range(20):
        optimizer.zero_grad()
        ball.dist(x, y).backward()
        assert ball.curvature_module.log_scale.grad is not None
        optimizer.step()
        assert 0 < ball.c.item() < float("inf")
    assert ball.c.item() < 0.5


def test_the_callers_tensor_is_left_alone():
    c = torch.tensor(0.7)
    ball = PoincareBall(c)
    c.fill_(5.0)
    assert ball.c.item() == pytest.approx(0.7)


def test_deep_copies_of_parameters_and_models_are_independent():
    ball = PoincareBall(0.5, learnable=True)
    p = manifold_parameter(start(ball), ball)
    twin = copy.deepcopy(p)
    assert twin.manifold is not ball
    with torch.no_grad():
        ball.curvature_module.log_scale.add_(1.0)
    assert twin.manifold.c.item() == 0.5
    model = torch.nn.Sequential(ToBall(PoincareBall(0.5)), PoincareLinear(PoincareBall(0.5), 4, 3))
    again = copy.deepcopy(model)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), again(x))


COMPILED = {
    "dist": (poincare.dist, 2),
    "sqdist": (poincare.sqdist, 2),
    "expmap0": (poincare.expmap0, 1),
    "logmap0": (poincare.logmap0, 1),
    "expmap": (poincare.expmap, 2),
    "logmap": (poincare.logmap, 2),
    "mobius_add": (poincare.mobius_add, 2),
    "transp": (poincare.transp, 3),
    "pairwise_dist": (poincare.pairwise_dist, 2),
    "polar": (polar.dist, 2),
    "polar pairs": (polar.pairwise_dist, 2),
    "gyromidpoint": (gyromidpoint, 1),
    "frechet_mean": (frechet_mean, 1),
    "cone_angle": (cone_angle, 2),
    "busemann": (busemann, 2),
}


QUICK = ("dist", "expmap0", "pairwise_dist")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in COMPILED])
def test_whole_graph_compilation(name):
    function, count = COMPILED[name]
    arguments = [poincare.expmap0(torch.randn(4, 3, generator=torch.Generator().manual_seed(s))) for s in range(count)]
    leaves = [a.requires_grad_() for a in arguments]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    got, wanted = compiled(*leaves), function(*leaves)
    assert torch.allclose(got, wanted, rtol=1e-6)
    for a, b in zip(*(torch.autograd.grad(r.sum(), leaves) for r in (got, wanted)), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_whole_models_compile():
    torch.manual_seed(0)
    ball = PoincareBall(0.5, learnable=True)
    model = torch.nn.Sequential(
        ToBall(ball, learn_scale=True), PoincareLinear(ball, 4, 3), HyperplaneLogits(ball, 3, 2)
    )
    x = torch.randn(5, 4)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    got = compiled(x)
    assert torch.allclose(got, model(x), rtol=1e-5, atol=1e-6)
    got.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_whole_graph_compilation_by_inductor(name):
    function, count = COMPILED[name]
    arguments = [poincare.expmap0(torch.randn(4, 3, generator=torch.Generator().manual_seed(s))) for s in range(count)]
    compiled = torch.compile(function, fullgraph=True)
    assert torch.allclose(compiled(*arguments), function(*arguments), rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_inductor_keeps_the_digits_beside_the_boundary():
    """A compiler that reorders sums would undo the error-free squares."""
    way = torch.nn.functional.normalize(
        torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).double(), dim=-1
    )
    x, y = (1 - 1e-9) * way
    compiled = torch.compile(poincare.dist, fullgraph=True)
    assert torch.allclose(compiled(x, y), poincare.dist(x, y), rtol=1e-13, atol=0)


def test_vmap_and_jacrev_over_every_argument():
    x, y = start(PoincareBall()), start(PoincareBall()).flip(0)
    c = torch.tensor([0.3, 0.9], dtype=torch.float64)
    got = torch.func.vmap(lambda k: poincare.dist(x, y, k))(c)
    assert torch.allclose(got[1], poincare.dist(x, y, 0.9))
    per_row = torch.func.vmap(torch.func.grad(poincare.dist))(x, y)
    p = x.clone().requires_grad_()
    assert torch.allclose(per_row, torch.autograd.grad(poincare.dist(p, y).sum(), p)[0])
    sets = torch.stack([x, y])
    assert torch.allclose(torch.func.vmap(frechet_mean)(sets), frechet_mean(sets), atol=1e-6)
    hessian = torch.func.jacrev(torch.func.jacrev(poincare.sqdist))(x[0].double(), y[0].double())
    assert torch.allclose(hessian, hessian.mT, atol=1e-10)


def test_autocast_leaves_geometry_in_float32():
    ball = PoincareBall(1.0)
    layer = torch.nn.Sequential(ToBall(ball), PoincareLinear(ball, 4, 3), HyperplaneLogits(ball, 3, 2))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = layer[:2](x)
        logits, matrix = layer[2](hidden), ball.pairwise_dist(hidden)
        (matrix.sum() + logits.sum()).backward()
    assert hidden.dtype == logits.dtype == matrix.dtype == torch.float32
    assert torch.equal(logits, layer(x))
    assert torch.equal(matrix, ball.pairwise_dist(layer[:2](x)))


def test_distributed_data_parallel(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        ball = PoincareBall(0.5, learnable=True)
        model = torch.nn.Sequential(ToBall(ball, learn_scale=True), PoincareLinear(ball, 4, 3))
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        wrapped(torch.randn(5, 4)).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
    finally:
        torch.distributed.destroy_process_group()


def _rank(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = _layers()
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    (wrapped(_features()[rank::2]).square().mean()).backward()
    if rank == 0:
        Path(folder, "grads").write_bytes(save({name: p.grad for name, p in model.named_parameters()}))
    torch.distributed.destroy_process_group()


def _layers():
    torch.manual_seed(0)
    ball = PoincareBall(0.5, learnable=True)
    return torch.nn.Sequential(ToBall(ball, learn_scale=True), PoincareLinear(ball, 4, 3))


def _features():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(tmp_path):
    torch.multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    model = _layers()
    model(_features()).square().mean().backward()
    for name, grad in load((tmp_path / "grads").read_bytes()).items():
        assert torch.allclose(grad, model.get_parameter(name).grad, rtol=1e-5, atol=1e-8), name


def test_broadcast_curvature_is_a_loop_over_curvatures():
    x, y = start(PoincareBall(), 4), start(PoincareBall(), 4).flip(0)
    c = torch.tensor([[0.1], [0.5], [0.9], [0.2]], dtype=torch.float64, requires_grad=True)
    for name in ("dist", "expmap", "logmap", "mobius_add"):
        function = getattr(poincare, name)
        got = function(0.5 * x, 0.5 * y, c)
        wanted = torch.stack([function(0.5 * a, 0.5 * b, k.item()) for a, b, k in zip(x, y, c, strict=True)])
        assert torch.allclose(got, wanted, rtol=1e-6)
        assert torch.autograd.grad(got.sum(), c)[0].shape == c.shape
    assert PoincareBall(c.detach()).dist(0.5 * x, 0.5 * y).shape == (4,)
    per_set = torch.tensor([0.2, 0.6]).double()[:, None, None]
    matrix = poincare.pairwise_dist(torch.stack([x, x]) / 2, y / 2, per_set)
    assert torch.allclose(matrix[1], poincare.pairwise_dist(x / 2, y / 2, 0.6))
