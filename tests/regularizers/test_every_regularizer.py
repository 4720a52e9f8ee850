"""Laws that every regularizer obeys, run over the list in `cases`."""

import dataclasses

import pytest
import torch

from manifolds import Euclidean, Lorentz, PoincareBall
from manifolds.regularizers import AbstractDraws, RecordedDraws, RecordingDraws
from tests.largest import Largest
from tests.regularizers.cases import CASES, MANIFOLDS, draws, features, generator, placed, thirty_steps

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def cases_made_of(*parts):
    chosen = {name: case for name, case in CASES.items() if case.made_of in parts}
    return pytest.mark.parametrize("case", chosen.values(), ids=chosen.keys())


every_manifold = pytest.mark.parametrize("make", MANIFOLDS.values(), ids=MANIFOLDS.keys())


def slopes(case, manifold, sets, source=None):
    """The loss and its gradients in the features of every set."""
    leaves = [u.clone().requires_grad_() for u in sets]
    loss = case.term(manifold, placed(manifold, leaves), source).loss
    return loss.detach(), torch.autograd.grad(loss, leaves, materialize_grads=True)


@every_case
@every_manifold
@pytest.mark.parametrize("seed", range(2))
def test_the_loss_is_that_of_a_loop_over_scalars(case, make, seed):
    manifold = make()
    points = placed(manifold, features(case, seed))
    recording = RecordingDraws(draws(seed))
    loss = case.term(manifold, points, recording).loss
    with torch.no_grad():
        expected = case.twin(manifold, points, recording.numbers)
    assert expected > 0
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-12)


@every_case
@every_manifold
def test_gradients_are_those_of_finite_differences(case, make):
    if case.straight:
        pytest.skip("a choice has no slope; its surrogate is compared in test_hier")
    manifold = make()
    sets = [u.requires_grad_() for u in features(case, 1)]
    curvature = [p for p in manifold.parameters() if p.requires_grad]

    def loss(*arguments):
        return case.term(manifold, placed(manifold, arguments[: len(sets)]), draws(1)).loss

    assert torch.autograd.gradcheck(loss, (*sets, *curvature), fast_mode=True)


@every_case
@every_manifold
def test_a_batch_of_losses_is_the_losses_one_by_one(case, make):
    manifold = make()
    worlds = [features(case, seed) for seed in range(3)]
    recordings = [RecordingDraws(draws(seed)) for seed in range(3)]
    for sets, recording in zip(worlds, recordings, strict=True):
        case.term(manifold, placed(manifold, sets), recording)
    count = len(case.sizes)

    def loss(*arguments):
        return case.term(manifold, placed(manifold, arguments[:count]), RecordedDraws(arguments[count:])).loss

    arguments = [(*sets, *recording.numbers) for sets, recording in zip(worlds, recordings, strict=True)]
    gradient = torch.func.grad_and_value(loss, argnums=tuple(range(count)))
    together, values = torch.func.vmap(gradient)(*(torch.stack(same) for same in zip(*arguments, strict=True)))
    for i, single in enumerate(arguments):
        alone, value = gradient(*single)
        assert value > 0
        torch.testing.assert_close(values[i], value)
        for batched, one in zip(together, alone, strict=True):
            torch.testing.assert_close(batched[i], one)


@every_case
@every_manifold
def test_no_value_is_read(case, make):
    """On tensors without values, any look at one raises; so nothing waits for a device and shapes do not move."""

    class Nothing(AbstractDraws):
        def rand(self, *shape):
            return torch.empty(shape, device="meta")

    manifold = make().to("meta")
    sets = [torch.empty(n, 3, device="meta", requires_grad=True) for n in case.sizes]
    term = case.term(manifold, placed(manifold, sets), Nothing())
    term.loss.backward()
    assert all(getattr(term, field.name).is_meta for field in dataclasses.fields(term))


@pytest.mark.slow
@every_case
def test_a_compiled_loss_is_the_same_without_a_break_in_its_graph(case):
    manifold, recording = PoincareBall(0.7, learnable=True), RecordingDraws(draws())
    points = [x.detach().requires_grad_() for x in placed(manifold, features(case))]
    plain = case.term(manifold, points, recording).loss
    compiled = torch.compile(
        lambda sets, numbers: case.term(manifold, sets, RecordedDraws(numbers)).loss,
        backend="aot_eager",
        fullgraph=True,
    )(points, recording.numbers)
    torch.compiler.reset()  # or the compiler counts the cases as versions of one function and gives up
    torch.testing.assert_close(compiled, plain)
    torch.testing.assert_close(*(torch.autograd.grad(loss, points) for loss in (compiled, plain)))


@every_case
@every_manifold
def test_what_a_term_reports_are_tensors_without_a_graph(case, make):
    manifold = make()
    term = case.term(manifold, placed(manifold, features(case)), draws())
    with pytest.raises(dataclasses.FrozenInstanceError):
        term.loss = 0.0
    for field in dataclasses.fields(term):
        value = getattr(term, field.name)
        assert value.shape == ()
        assert field.name == "loss" or not value.requires_grad


@every_case
@every_manifold
def test_autocast_changes_nothing_and_half_precision_is_lifted(case, make):
    manifold = make()
    sets = features(case, dtype=torch.float32)
    points = [x.detach() for x in placed(manifold, sets)]
    plain = case.term(manifold, points, draws()).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = case.term(manifold, points, draws()).loss
    assert plain.dtype == cast.dtype == torch.float32
    assert torch.equal(plain, cast)
    halves = [manifold.projx(x.to(torch.bfloat16)) for x in points]
    lifted = case.term(manifold, [h.float() for h in halves], draws()).loss
    half = case.term(manifold, halves, draws()).loss
    assert half.dtype == torch.float32
    assert torch.equal(half, lifted)


@every_case
@every_manifold
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_where_points_meet_and_at_the_origin(case, make, dtype):
    manifold = make()
    somewhere = torch.tensor([0.5, -0.2, 0.1], dtype=dtype)
    worlds = [features(case, dtype=dtype) for _ in range(5)]
    for u in worlds[0]:
        u[:] = somewhere
    for u in worlds[1]:
        u[:] = 0.0
    for u in worlds[2]:
        u[:2], u[2] = somewhere, 0.0
    for u in worlds[3]:
        u[:] = somewhere * torch.linspace(-2, 2, len(u), dtype=dtype)[:, None]
    for u in worlds[4]:
        u *= 1e-18
    for sets in worlds:
        leaves = [u.requires_grad_() for u in sets]
        loss = case.term(manifold, placed(manifold, leaves), draws()).loss
        unknowns = [*leaves, *(p for p in manifold.parameters() if p.requires_grad)]
        found = torch.autograd.grad(loss, unknowns, materialize_grads=True)
        assert bool(torch.isfinite(loss))
        assert all(bool(torch.isfinite(g).all()) for g in found)


@every_case
@every_manifold
def test_no_points_give_a_zero_with_a_graph(case, make):
    manifold = make()
    sets = [torch.zeros(n if case.keeps and i else 0, 3, requires_grad=True) for i, n in enumerate(case.sizes)]
    term = case.term(manifold, placed(manifold, sets), draws())
    assert term.loss == 0
    term.loss.backward()
    assert sets[0].grad is not None
    for field in dataclasses.fields(term):
        assert bool(torch.isfinite(getattr(term, field.name)))


@every_case
@every_manifold
def test_no_tensor_holds_a_vector_for_every_pair_of_points(case, make):
    manifold, dim = make(), 1024
    points = [x.detach().requires_grad_() for x in placed(manifold, features(case, dim=dim, spread=0.05))]
    with Largest() as largest:
        case.term(manifold, points, draws()).loss.backward()
    assert largest.size <= 8 * sum(case.sizes) * (dim + 1)


@every_case
@every_manifold
def test_a_rotation_about_the_origin_changes_nothing(case, make):
    manifold = make()
    sets = features(case, 2)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator(3)))[0]
    loss, gradients = slopes(case, manifold, sets, draws())
    turned, turned_gradients = slopes(case, manifold, [u @ turn for u in sets], draws())
    torch.testing.assert_close(turned, loss)
    for one, other in zip(gradients, turned_gradients, strict=True):
        torch.testing.assert_close(one @ turn, other)


@cases_made_of("distances")
@pytest.mark.parametrize("manifold", [PoincareBall(0.7), Lorentz(0.7), Euclidean()], ids=["ball", "lorentz", "flat"])
def test_a_translation_changes_no_loss_made_of_distances(case, manifold):
    ball = manifold if not isinstance(manifold, Lorentz) else PoincareBall(0.7)
    away = ball.expmap0(torch.tensor([0.4, -0.7, 0.2], dtype=torch.float64))
    balls = placed(ball, features(case, 4))
    moved = [ball.mobius_add(away, x) for x in balls]
    if isinstance(manifold, Lorentz):
        balls, moved = ([manifold.from_ball(x) for x in sets] for sets in (balls, moved))
    torch.testing.assert_close(case.term(manifold, moved, draws()).loss, case.term(manifold, balls, draws()).loss)


@cases_made_of("distances", "radii")  # cones have a width that depends on the curvature: see test_entailment
@pytest.mark.parametrize("kind", [PoincareBall, Lorentz])
def test_small_curvature_is_flat_in_value_and_gradient(case, kind):
    sets = features(case, 5)
    curved, flat = slopes(case, kind(1e-10), sets, draws()), slopes(case, Euclidean(), sets, draws())
    assert flat[0] > 0
    torch.testing.assert_close(curved[0], flat[0], atol=1e-8, rtol=1e-8)
    for one, other in zip(curved[1], flat[1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-8, rtol=1e-8)


@every_case
@pytest.mark.parametrize("kind", [PoincareBall, Lorentz])
def test_a_learnable_curvature_gets_a_gradient(case, kind):
    manifold = kind(0.8, learnable=True)
    points = placed(manifold, features(case, 6))
    case.term(manifold, [x.detach() for x in points], draws()).loss.backward()
    gradient = manifold.curvature_module.log_scale.grad
    assert bool(torch.isfinite(gradient))
    assert gradient != 0


@every_case
def test_thirty_steps_down_the_gradient_lower_the_loss(case):
    ball = PoincareBall(0.7)
    losses = thirty_steps(
        lambda *sets: case.term(ball, placed(ball, sets), draws(7)).loss, features(case, 7), rate=0.05
    )
    assert losses[-1] < 0.7 * losses[0]
