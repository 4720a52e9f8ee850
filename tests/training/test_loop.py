import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.adapters.zeroshot import ZeroShot, ZeroShotConfig
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.base import AbstractHead
from hyperadapt.model import FewShotModel
from hyperadapt.text import ClassText
from hyperadapt.training import TrainingSet, _batches, rate_factor, train
from hyperadapt.training_config import TrainingConfig


class Linear(AbstractHead):
    """The plainest head: one matrix."""

    def __init__(self, poison_step=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 4))
        self.poison_step = poison_step
        self.calls = 0

    def encode_classes(self, classes, draws=None):
        return None

    def logits(self, images, encoded):
        return images.pooled @ self.weight.T

    def losses(self, images, encoded, labels):
        self.calls += 1
        factor = math.nan if self.calls - 1 == self.poison_step else 1.0
        return {"cross_entropy": factor * cross_entropy(self.logits(images, encoded), labels)}


@dataclass(frozen=True)
class Scene:
    model: FewShotModel
    data: TrainingSet


def scene(n=12, views=1, **settings):
    x = normalize(torch.randn(views * n, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    classes = ClassText(("a", "b", "c"), torch.eye(3, 4)[None], torch.eye(3, 4))
    adapter = ZeroShot(ZeroShotConfig(), BuildContext(classes, 4, None, 1.0))
    return Scene(FewShotModel(adapter, Linear(**settings)), TrainingSet(ImageFeatures(x), torch.arange(n) % 3, classes))


@pytest.mark.parametrize(("steps", "warmup"), [(10, 0), (10, 3), (100, 5), (1, 0)])
def test_the_rate_rises_linearly_then_falls_along_half_a_cosine(steps, warmup):
    factors = [rate_factor(step, steps, warmup) for step in range(steps)]
    assert factors[:warmup] == pytest.approx([(i + 1) / warmup for i in range(warmup)])
    assert factors[warmup] == pytest.approx(1.0)
    for step in range(warmup, steps):
        assert factors[step] == pytest.approx(0.5 + 0.5 * math.cos(math.pi * (step - warmup) / (steps - warmup)))


def test_the_released_schedule_of_xrvlm():
    factors = [rate_factor(epoch, 105, 5) for epoch in range(100)]
    assert factors[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert factors[99] == pytest.approx(0.00886, abs=1e-5)


@pytest.mark.parametrize(("count", "size", "views"), [(12, 5, 1), (12, 12, 3), (7, 100, 2), (9, 3, 4)])
def test_an_epoch_shows_each_image_once_in_one_of_its_views(count, size, views):
    batches = _batches(count, views, TrainingConfig(batch_size=size), torch.Generator().manual_seed(0))
    per_epoch = max(count // min(size, count), 1)
    seen_views = set()
    for _ in range(20):
        seen = []
        for _ in range(per_epoch):
            rows, images = next(batches)
            assert len(rows) == min(size, count)
            assert torch.equal(rows % count, images)
            seen_views |= set((rows // count).tolist())
            seen += images.tolist()
        assert len(set(seen)) == len(seen)
    assert seen_views == set(range(views))


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01)),
    ],
)
def test_full_batches_without_a_loop_give_the_same_weights(kind, reference):
    """With one batch an epoch the order of images cannot matter, so a bare loop must agree."""
    config = TrainingConfig(kind, 0.1, 0.01, 0.9, epochs=7, batch_size=12, warmup_epochs=2)
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


def test_gradient_clipping_bounds_the_step():
    clipped = scene()
    train(
        clipped.model, clipped.data, TrainingConfig("sgd", 1.0, 0.0, 0.0, steps=1, warmup_epochs=0, clip_norm=1e-3), 1
    )
    assert clipped.model.head.weight.detach().norm().item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("step", [0, 3, 11, 24])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_term(step):
    poisoned = scene(poison_step=step)
    with pytest.raises(FloatingPointError, match=f"step {step} cross_entropy is not finite"):
        train(poisoned.model, poisoned.data, TrainingConfig(steps=25), seed=1)


def test_training_leaves_the_global_random_state_alone():
    torch.manual_seed(123)
    before = torch.get_rng_state()
    run = scene()
    train(run.model, run.data, TrainingConfig(steps=3), seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_progress_counts_every_step_and_history_has_ten_stretches():
    run, seen = scene(), []
    history = train(run.model, run.data, TrainingConfig(steps=40), 1, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 40) for i in range(40)]
    assert len(history) == 10
    assert history[-1]["cross_entropy"] < history[0]["cross_entropy"]


@pytest.mark.parametrize("bad", [{"learning_rate": 0.0}, {"batch_size": 0}, {"epochs": 0}, {"steps": 0}])
def test_settings_that_cannot_train_are_refused(bad):
    with pytest.raises(InputError, match="training needs"):
        replace(TrainingConfig(), **bad)


def test_the_number_of_threads_is_given_back_even_after_a_failure():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        poisoned = scene(poison_step=0)
        with pytest.raises(FloatingPointError):
            train(poisoned.model, poisoned.data, TrainingConfig(steps=1), seed=1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
