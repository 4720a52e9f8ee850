import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from hyperadapt.methods import load_method
from hyperadapt.training import rate_factor, train
from hyperadapt.training.optimizers import Optimizers, Schedule
from hyperadapt.training_config import TrainingConfig
from manifolds import Lorentz, PoincareBall
from manifolds.optim import manifold_parameter
from tests.training.runs import Linear, scene


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01, eps=0.02)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01, eps=0.02)),
    ],
)
def test_full_batches_without_a_loop_give_the_same_weights(kind, reference):
    """With one batch an epoch the order of images cannot matter, so a bare loop must agree."""
    config = TrainingConfig(kind, 0.1, 0.01, 0.9, epsilon=0.02, epochs=7, batch_size=12, warmup_epochs=2)
    mine = scene()
    train(mine.model, mine.data, config, seed=5)
    bare = scene()
    optimizer = reference(list(bare.model.parameters()))
    for step in range(7):
        optimizer.param_groups[0]["lr"] = 0.1 * rate_factor(step, 7, 2)
        loss = bare.model.head.losses(bare.data.images, None, bare.data.labels)["cross_entropy"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(mine.model.head.weight, bare.model.head.weight, atol=1e-6, rtol=1e-5)


class Points(Linear):
    """A linear head with a bias, a scale, and points of a manifold that are drawn to a target."""

    def __init__(self, manifold):
        super().__init__()
        self.bias, self.scale = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(()))
        generator = torch.Generator().manual_seed(1)
        tangents = 0.5 * torch.randn(2, 5, 3, generator=generator)
        points = manifold.expmap0(manifold.tangent0(tangents))
        self.points = manifold_parameter(points[0], manifold)
        self.target, self.manifold = points[1], manifold

    def logits(self, images, encoded):
        return self.scale * images.pooled @ self.weight.T + self.bias

    def losses(self, images, encoded, labels):
        pull = self.manifold.sqdist(self.points, self.target).mean()
        return {**super().losses(images, encoded, labels), "pull": pull}


def curved_scene(manifold):
    run = scene()
    run.model.head = Points(manifold)
    return run


@pytest.mark.parametrize("manifold", [PoincareBall(0.7), Lorentz(0.7)], ids=["ball", "lorentz"])
@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_points_stay_on_their_manifold_and_reach_their_target(manifold, kind):
    run = curved_scene(manifold)
    start = manifold.dist(run.model.head.points, run.model.head.target).max()
    train(run.model, run.data, TrainingConfig(kind, 0.1, steps=100, weight_decay=0.1), 1)
    points = run.model.head.points.detach()
    torch.testing.assert_close(manifold.projx(points), points, atol=1e-5, rtol=1e-5)
    assert manifold.dist(points, run.model.head.target).max() < 0.3 * start


def test_a_riemannian_step_follows_the_geodesic_of_the_scaled_gradient():
    ball = PoincareBall(0.7)
    run, bare = curved_scene(ball), curved_scene(ball).model.head
    config = TrainingConfig("sgd", 0.1, weight_decay=0.5, momentum=0.0, steps=1, warmup_epochs=0)
    train(run.model, run.data, config, 1)
    (gradient,) = torch.autograd.grad(ball.sqdist(bare.points, bare.target).mean(), bare.points)
    expected = ball.expmap(bare.points, -0.1 * ball.egrad2rgrad(bare.points, gradient))
    torch.testing.assert_close(run.model.head.points.detach(), expected.detach().as_subclass(torch.Tensor))


def test_decay_can_leave_out_what_is_not_a_matrix():
    """Without a gradient AdamW multiplies by 1 - rate * decay, and nothing else moves."""
    for decay, moved in (("all", {"weight", "bias", "scale"}), ("matrices", {"weight"})):
        model = curved_scene(PoincareBall()).model
        with torch.no_grad():
            model.head.weight.fill_(1.0)
        config = TrainingConfig(learning_rate=0.1, weight_decay=0.5, decay=decay, warmup_epochs=0)
        optimizers = Optimizers(model, config, Schedule(config, 10, 1))
        before = {name: p.detach().clone() for name, p in model.head.named_parameters()}
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizers.step(0)
        after = {name: p.detach() for name, p in model.head.named_parameters()}
        assert {name for name in before if (before[name] - after[name]).abs().max() > 1e-5} == moved
        assert after["weight"][0, 0] == pytest.approx(0.95)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_optimisers_go_on_where_others_stopped(kind):
    config = TrainingConfig(kind, 0.05)
    models = [curved_scene(PoincareBall()).model for _ in range(2)]
    first, second = (Optimizers(model, config, Schedule(config, 20, 3)) for model in models)

    def advance(model, optimizers, step):
        optimizers.zero_grad()
        head = model.head
        loss = head.manifold.sqdist(head.points, head.target).sum() + (head.weight - 1).square().sum()
        loss.backward()
        optimizers.step(step)

    for step in range(5):
        advance(models[0], first, step)
    models[1].load_state_dict(models[0].state_dict())
    second.restore({name: value.clone() for name, value in first.state().items()})
    for step in range(5, 9):
        advance(models[0], first, step)
        advance(models[1], second, step)
    for name, value in models[0].state_dict().items():
        assert torch.equal(value, models[1].state_dict()[name]), name


def test_geoopt_is_loaded_for_points_on_a_manifold_alone():
    code = (
        "import sys; from tests.training.runs import scene; from hyperadapt.training import train; "
        "from hyperadapt.training_config import TrainingConfig; run = scene(); "
        "train(run.model, run.data, TrainingConfig(steps=1), 1); assert 'geoopt' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_rate_of_a_step_is_the_peak_times_its_factor():
    schedule = Schedule(TrainingConfig(learning_rate=0.3), 40, per_epoch=4)
    assert [schedule.rate(s) for s in (0, 4, 22)] == pytest.approx([0.075, 0.3, 0.15])
    assert math.isclose(schedule.rate(39), 0.3 * rate_factor(39, 40, 4))


def test_a_rate_that_changes_by_the_epoch_is_held_for_its_steps():
    config = TrainingConfig(learning_rate=2.0, warmup_epochs=2, rate_changes="epoch")
    schedule = Schedule(config, 18, per_epoch=3)
    assert [schedule.rate(s) for s in range(18)] == pytest.approx([2 * rate_factor(s // 3, 6, 2) for s in range(18)])


def test_the_paper_recipe_of_xrvlm_follows_the_released_schedule():
    """At 25 steps an epoch, 3,200 images in batches of 128, each factor holds from first to last step of its epoch."""
    training = load_method("xrvlm-paper").training
    schedule = Schedule(training, training.epochs * 25, per_epoch=25)
    for epoch, factor in [(0, 0.2), (1, 0.4), (2, 0.6), (3, 0.8), (4, 1.0), (5, 1.0), (99, 0.00886)]:
        for step in (25 * epoch, 25 * epoch + 24):
            assert schedule.rate(step) / 2e-3 == pytest.approx(factor, abs=5e-6), epoch
