# ruff: noqa: D103 - the name of a law is its statement
"""Laws of engineering: dtypes, devices, shapes, transforms, copies. What a tensor library owes beyond geometry."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from manifolds.testing.laws import assert_values, law
from manifolds.testing.operations import ROWS, Operation, calls, operations_of, roles_of
from manifolds.testing.samples import BUDGET, WIDE, Sample

GROUP = "engineering"


def _alike(s: Sample, got: Tensor, wanted: Tensor, row: Operation) -> None:
    """Equal up to the order of float64 sums, relative to the largest number and to the unit of length.

    A step of length ``|u|`` may leave ``x`` away from the origin: its end is as sensitive as a point that far out. An
    angle between points moves by their roundings over their distance.
    """
    if wanted.numel() == 0:
        assert got.shape == wanted.shape
        return
    far = torch.cosh(s.root_c * s.manifold.norm(s.x, s.u).detach().double()) * s.stretch(s.x, s.y, s.z)
    if row.name == "cone_angle":
        apart = s.manifold.dist(s.x, s.y).detach().double()
        far = far * torch.where(apart > 0, 1.0 + s.length / apart, 1.0)
    size = max(float(wanted.detach().double().abs().max()), s.length**row.degree)
    assert_values(got, wanted, 0.0, size * BUDGET * (s.unit + WIDE * float(far.max())), row.name)


@law(GROUP)
def dtype_device_and_shape_are_kept(s: Sample) -> None:
    for row, operation, arguments in calls(s):
        result = operation(*arguments)
        assert result.dtype == s.x.dtype, f"{row.name} turned {s.x.dtype} into {result.dtype}"
        assert result.device == s.x.device, f"{row.name} left {s.x.device} for {result.device}"
        assert result.shape[: s.x.ndim - 1] == s.x.shape[:-1], f"{row.name} lost the batch shape"


@law(GROUP, examples=2, reach=0.5, when=lambda manifold: torch.cuda.is_available())
def a_second_device_gives_the_same(s: Sample) -> None:
    twin = copy.deepcopy(s.manifold).to("cuda")
    for row, operation, arguments in calls(s):
        got = row.of(twin)(*(a.to("cuda") for a in arguments))
        assert got.device.type == "cuda", f"{row.name} left its device"
        _alike(s, got.cpu(), operation(*arguments), row)


@law(GROUP)
def inputs_are_left_alone(s: Sample) -> None:
    for row, operation, arguments in calls(s):
        before = [a.clone() for a in arguments]
        operation(*arguments)
        assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True)), f"{row.name} changed its input"


@law(GROUP, examples=8)
def a_second_call_gives_the_same_bits(s: Sample) -> None:
    for row, operation, arguments in calls(s):
        assert torch.equal(operation(*arguments), operation(*arguments)), f"{row.name} differs between two calls"


@law(GROUP, reach=0.4, examples=8)
def a_batch_is_a_loop_and_strides_do_not_matter(s: Sample) -> None:
    if s.x.ndim != 2 or len(s.x) == 0:
        return
    for row, operation, arguments in calls(s):
        whole = operation(*arguments)
        each = [
            [a[i] if role in ROWS else a for role, a in zip(row.roles, arguments, strict=True)]
            for i in range(min(2, len(s.x)))
        ]
        _alike(s, torch.stack([operation(*one) for one in each]), whole[:2], row)
        _alike(s, operation(*(a.mT.contiguous().mT if a.ndim > 1 else a for a in arguments)), whole, row)


@law(GROUP, reach=0.4, small=True, examples=4)
def broadcasting_is_repeating(s: Sample) -> None:
    roles = {**roles_of(s), "x": s.x[:, None], "y": torch.stack([s.y[0], s.z[0], s.x[1]])}
    tangent = {"u": s.u[:, None], "v": s.v[:, None], "w": roles["w"][:, None]}
    shape = (2, 3, s.x.shape[-1])
    for row in operations_of(s.manifold):
        arguments = [tangent.get(role, roles[role]) for role in row.roles]
        if not {"x", "y"} <= {*row.roles}:
            continue
        full = [
            a.expand(shape) if role in ("x", "y") or role in tangent else a
            for role, a in zip(row.roles, arguments, strict=True)
        ]
        got = row.of(s.manifold)(*arguments)
        _alike(s, got, row.of(s.manifold)(*(a.contiguous() for a in full)), row)


@law(GROUP, reach=0.8)
def copies_behave_alike(s: Sample) -> None:
    twin = copy.deepcopy(s.manifold)
    twin.load_state_dict({name: value.clone() for name, value in s.manifold.state_dict().items()})
    assert torch.equal(twin.dist(s.x, s.y), s.manifold.dist(s.x, s.y))
    for cast in (twin.half, twin.bfloat16, twin.float):
        assert torch.equal(cast().curvature, s.manifold.curvature)


@law(GROUP, examples=3)
def a_copy_does_not_follow_the_original(s: Sample) -> None:
    twin = copy.deepcopy(s.manifold)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    assert torch.equal(twin.curvature, s.manifold.curvature) is not any(True for _ in twin.parameters())


@law(GROUP, reach=0.8, examples=8)
def autocast_changes_nothing(s: Sample) -> None:
    plain = [(row, operation(*arguments)) for row, operation, arguments in calls(s)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = [row.of(s.manifold)(*(roles_of(s)[role] for role in row.roles)) for row, _ in plain]
    for (row, wanted), got in zip(plain, cast, strict=True):
        assert torch.equal(got, wanted), f"{row.name} differs under autocast"


@law(GROUP, reach=0.4, small=True, examples=2)
def vmap_is_the_batch(s: Sample) -> None:
    for row, operation, arguments in calls(s):
        axes = tuple(0 if role in ROWS else None for role in row.roles)
        _alike(s, torch.func.vmap(operation, in_dims=axes)(*arguments), operation(*arguments), row)


@law(GROUP, reach=0.3, small=True, examples=2)
def jacrev_is_the_jacobian(s: Sample) -> None:
    for row, operation, arguments in calls(s):
        wanted = torch.autograd.functional.jacobian(operation, tuple(arguments))
        got = torch.func.jacrev(operation, argnums=tuple(range(len(arguments))))(*arguments)
        for a, b in zip(got, wanted, strict=True):
            _alike(s, a, b, row)


@law(GROUP, reach=0.5, small=True, examples=2)
def whole_graph_compilation_is_eager(s: Sample) -> None:
    """One operation a sample, since tracing takes seconds, forwards and backwards."""
    rows = calls(s)
    _, operation, arguments = rows[s.seed % len(rows)]

    def results(function: Callable[..., Tensor]) -> list[Tensor]:
        leaves = [a.float().requires_grad_() for a in arguments]
        value = function(*leaves)
        return [value.detach(), *torch.autograd.grad(value.sum(), leaves, allow_unused=True, materialize_grads=True)]

    torch.compiler.reset()
    compiled = torch.compile(operation, fullgraph=True, backend="aot_eager")
    for got, wanted in zip(results(compiled), results(operation), strict=True):
        size = 64.0 * torch.finfo(torch.float32).eps * float(s.stretch(s.x, s.y, s.z).max())
        assert_values(got, wanted, 0.0, size * float(wanted.double().abs().max()))
