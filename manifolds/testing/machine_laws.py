# ruff: noqa: D103 - the name of a law is its statement
"""Laws of projection, derivatives, accuracy and engineering: what a tensor library owes beyond geometry."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from manifolds.testing.laws import assert_points, assert_values, law
from manifolds.testing.samples import Sample


def _operations(s: Sample) -> list[tuple[str, Callable[..., Tensor], tuple[Tensor, ...]]]:
    """Every operation of the interface with arguments it accepts."""
    m = s.manifold
    at_origin = m.transp0back(s.x, s.u).detach()
    rows = [
        ("dist", m.dist, (s.x, s.y)),
        ("sqdist", m.sqdist, (s.x, s.y)),
        ("dist0", m.dist0, (s.x,)),
        ("expmap", m.expmap, (s.x, s.u)),
        ("logmap", m.logmap, (s.x, s.y)),
        ("expmap0", m.expmap0, (at_origin,)),
        ("logmap0", m.logmap0, (s.x,)),
        ("transp", m.transp, (s.x, s.y, s.u)),
        ("transp0", m.transp0, (s.x, at_origin)),
        ("transp0back", m.transp0back, (s.x, s.u)),
        ("inner", m.inner, (s.x, s.u, s.v)),
        ("norm", m.norm, (s.x, s.u)),
        ("egrad2rgrad", m.egrad2rgrad, (s.x, s.u)),
        ("projx", m.projx, (s.x,)),
        ("proju", m.proju, (s.x, s.u)),
        ("geodesic", lambda x, y: m.geodesic(0.3, x, y), (s.x, s.y)),
    ]
    extra = [
        ("lambda_x", (s.x,)),
        ("mobius_add", (s.x, s.y)),
        ("mobius_sub", (s.x, s.y)),
        ("gyration", (s.x, s.y, s.u)),
        ("mobius_scalar_mul", (torch.tensor(0.7, dtype=s.x.dtype), s.x)),
        ("mobius_matvec", (torch.full((2, s.x.shape[-1]), 0.4, dtype=s.x.dtype), s.x)),
    ]
    return rows + [(name, getattr(m, name), arguments) for name, arguments in extra if hasattr(m, name)]


@law("projection")
def projection_is_the_identity_inside(s: Sample) -> None:
    assert torch.equal(s.manifold.projx(s.x), s.x)


@law("projection")
def projection_is_idempotent_and_lands_on_the_manifold(s: Sample) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        for blow in (1.0, 1.5, 1e3):
            far = torch.nan_to_num((s.x.double() * blow).to(dtype), posinf=1e4, neginf=-1e4)
            once = s.manifold.projx(far)
            assert once.dtype == dtype
            assert torch.equal(s.manifold.projx(once), once)
            if s.manifold.features_offset == 0:
                assert s.manifold.check_point(once) is None, s.manifold.check_point(once)


@law("projection", reach=0.9)
def results_can_be_stored(s: Sample) -> None:
    m = s.manifold
    for point in (m.expmap(s.x, s.u * 3.0), m.expmap(s.x, m.logmap(s.x, s.y) * 5.0), m.expmap0(m.logmap0(s.x) * 9.0)):
        assert torch.equal(m.projx(point), point)
        assert bool(torch.isfinite(m.dist(point, s.y)).all())


@law("derivatives", reach=0.15)
def gradients_are_those_of_finite_differences(s: Sample) -> None:
    if s.x.dtype != torch.float64 or s.x.numel() == 0 or s.x.numel() > 12:
        return
    away = bool((s.manifold.dist(s.x, s.y) > 1e-2 * s.manifold.dist0(s.x).amax().clamp(min=1e-3)).all())
    large = bool((s.manifold.dist0(s.x) > 1e-3).all()) and bool((s.manifold.norm(s.x, s.u) > 1e-3).all())
    for name, operation, arguments in _operations(s):
        if name in ("dist", "dist0", "norm") and not (away and large):
            continue
        leaves = tuple(a.detach().clone().requires_grad_() for a in arguments)
        scale = max(1.0, float(max(a.abs().max() for a in arguments)))
        out = float(operation(*arguments).detach().abs().max())
        atol = 1e-5 * max(1.0, out / scale)
        assert torch.autograd.gradcheck(operation, leaves, eps=2e-7 * scale, atol=atol, rtol=1e-3), name


@law("derivatives")
def gradients_are_finite_everywhere(s: Sample) -> None:
    for name, operation, arguments in _operations(s):
        leaves = [a.detach().clone().requires_grad_() for a in arguments]
        result = operation(*leaves)
        if not result.requires_grad:
            continue
        grads = torch.autograd.grad(result.sum(), leaves, allow_unused=True)
        assert all(g is None or bool(torch.isfinite(g).all()) for g in grads), f"{name} has an infinite gradient"


@law("derivatives")
def distance_has_zero_subgradient_at_coinciding_points(s: Sample) -> None:
    x, y = s.x.clone().requires_grad_(), s.x.clone().requires_grad_()
    for grad in torch.autograd.grad(s.manifold.dist(x, y).sum(), (x, y)):
        assert bool((grad == 0).all())


@law("derivatives")
def logarithm_moves_with_its_end(s: Sample) -> None:
    y = s.x.clone().requires_grad_()
    (grad,) = torch.autograd.grad((s.manifold.logmap(s.x, y) * s.v).sum(), y)
    ambient = s.manifold.features_offset != 0
    if not ambient:
        size = s.v.double().norm(dim=-1)
        assert_values((grad - s.v).double().norm(dim=-1), torch.zeros_like(size), 0.0, s.relative(s.x) * size + 1e-30)


@law("accuracy", reach=0.45)
def a_step_goes_as_far_as_it_says(s: Sample) -> None:
    m = s.manifold
    for h in (1.0, 1e-2, 1e-4):
        end = m.expmap(s.x, h * s.u)
        assert_values(m.dist(s.x, end), m.norm(s.x, h * s.u), s.vectors(s.x, end), s.spread(s.x, end))


@law("accuracy")
def distance_in_float32_is_that_in_float64_of_the_same_points(s: Sample) -> None:
    x, y = s.x.float(), s.y.float()
    if s.manifold.check_point(x) or s.manifold.check_point(y) or s.x.dtype == torch.float64:
        return
    assert_values(s.manifold.dist(x, y), s.manifold.dist(x.double(), y.double()), 2e-7, 1e-40)


@law("accuracy", reach=0.3)
def half_precision_is_lifted(s: Sample) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        x, y = s.manifold.projx(s.x.to(dtype)), s.manifold.projx(s.y.to(dtype))
        if not bool(torch.isfinite(x).all() & torch.isfinite(y).all()):
            continue
        distance = s.manifold.dist(x, y)
        assert distance.dtype == torch.float32
        assert torch.equal(distance, s.manifold.dist(x.float(), y.float()))
        assert bool(torch.isfinite(distance).all())


@law("engineering")
def dtype_and_shape_are_kept(s: Sample) -> None:
    for name, operation, arguments in _operations(s):
        result = operation(*arguments)
        assert result.dtype == s.x.dtype, f"{name} turned {s.x.dtype} into {result.dtype}"
        assert result.shape[: s.x.ndim - 1] == s.x.shape[:-1], f"{name} lost the batch shape"


@law("engineering")
def inputs_are_left_alone(s: Sample) -> None:
    for name, operation, arguments in _operations(s):
        before = [a.clone() for a in arguments]
        operation(*arguments)
        assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True)), f"{name} changed its input"


@law("engineering", reach=0.8)
def a_batch_is_a_loop_and_strides_do_not_matter(s: Sample) -> None:
    if s.x.ndim != 2 or len(s.x) == 0:
        return
    for name, operation, arguments in _operations(s):
        if name in ("mobius_scalar_mul", "mobius_matvec"):
            continue
        whole = operation(*arguments)
        loop = torch.stack([operation(*(a[i] for a in arguments)) for i in range(len(s.x))])
        strided = operation(*(a.mT.contiguous().mT for a in arguments))
        for other in (loop, strided):
            tolerance = (whole.double().abs().amax() + 1e-30) * s.relative(s.x, s.y).max()
            assert_values(other, whole, 0.0, tolerance)


@law("engineering", reach=0.8)
def copies_behave_alike(s: Sample) -> None:
    twin = copy.deepcopy(s.manifold)
    twin.load_state_dict(s.manifold.state_dict())
    assert torch.equal(twin.dist(s.x, s.y), s.manifold.dist(s.x, s.y))
    assert torch.equal(twin.half().curvature, s.manifold.curvature)


@law("engineering", reach=0.8)
def autocast_changes_nothing(s: Sample) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = [operation(*arguments) for _, operation, arguments in _operations(s)]
        matrix = s.manifold.pairwise_dist(s.x.reshape(-1, s.x.shape[-1]))
    for (name, operation, arguments), got in zip(_operations(s), results, strict=True):
        assert torch.equal(got, operation(*arguments)), f"{name} differs under autocast"
    assert torch.equal(matrix, s.manifold.pairwise_dist(s.x.reshape(-1, s.x.shape[-1])))


@law("engineering", reach=0.8)
def vmap_is_the_batch(s: Sample) -> None:
    if s.x.ndim != 2 or len(s.x) == 0:
        return
    for name, operation, arguments in _operations(s):
        if name not in ("dist", "expmap", "logmap", "transp", "mobius_add"):
            continue
        got, whole = torch.func.vmap(operation)(*arguments), operation(*arguments)
        assert_values(got, whole, 0.0, (whole.double().abs().amax() + 1e-30) * s.relative(s.x, s.y).max())


@law("random")
def random_points_are_reproducible_and_lie_where_they_should(s: Sample) -> None:
    m, shape = s.manifold, (64, s.x.shape[-1])
    radius = min(m.max_radius(torch.float64), 3.0) * 0.5
    draws = [m.random_uniform(*shape, radius=radius, dtype=torch.float64, generator=_seeded(s)) for _ in range(2)]
    assert torch.equal(*draws)
    assert bool((m.dist0(draws[0]) <= radius * (1 + 1e-9)).all())
    std = 0.1 * radius
    cloud = m.random_normal(4096, s.x.shape[-1], std=std, dtype=torch.float64, generator=_seeded(s))
    spread = float(m.dist0(cloud).square().mean()) / (s.x.shape[-1] + m.features_offset)
    assert abs(spread / std**2 - 1.0) < 0.15
    assert_points(s, m.projx(cloud[:4].to(s.x.dtype)), cloud[:4].to(s.x.dtype))


def _seeded(s: Sample) -> torch.Generator:
    return torch.Generator().manual_seed(s.seed)
