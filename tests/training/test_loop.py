import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hyperadapt.adapters.base import TrainingBatch
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.training import DivergedError, TrainingSet, rate_factor, train
from hyperadapt.training_config import TrainingConfig
from manifolds.regularizers import GeneratorDraws
from tests.training.runs import method_scene, scene

TRACED = {
    "sgd": TrainingConfig("sgd", 2e-3, 1e-4, 0.9, steps=10, batch_size=8, warmup_epochs=1),
    "adam": TrainingConfig("adam", 1e-3, 1e-4, steps=10, batch_size=7, warmup_epochs=0),
    "adamw": TrainingConfig("adamw", 1e-3, 1e-2, steps=10, batch_size=100, warmup_epochs=2, clip_norm=0.5),
}
RECORDED_AS = {"xrvlm": str(Path(__file__).with_name("full_and_pairwise.yaml"))}
RECORDED = json.loads((Path(__file__).parent / "recorded_trace.json").read_text())
"""Ten losses and the sum of the weights of runs of this project's first loop, in hexadecimal; Adam is fused since."""


def first_loop(model, data, config, seed):
    """The loop of the first version, without its checks: losses of all steps."""
    shuffle, draws = torch.Generator().manual_seed(seed), GeneratorDraws(torch.Generator().manual_seed(seed))
    count = len(data.labels)
    size = min(config.batch_size, count)
    per_epoch = max(count // size, 1)
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    options = {"momentum": config.momentum} if config.optimizer == "sgd" else {"fused": True}
    optimizer = kinds[config.optimizer](
        model.trainable, lr=config.learning_rate, weight_decay=config.weight_decay, **options
    )
    warmup = min(config.warmup_epochs * per_epoch, config.steps // 2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, config.steps, warmup))
    model.train()
    losses, batches = [], []
    for _ in range(config.steps):
        if not batches:
            order, view = (
                torch.randperm(count, generator=shuffle),
                torch.randint(data.views, (count,), generator=shuffle),
            )
            batches = [order[start : start + size] for start in range(0, count - size + 1, size)]
        images = batches.pop(0)
        classes = model.adapter.adapt_classes(data.classes)
        encoded = model.head.encode_classes(classes, draws)
        frozen = data.images[view[images] * count + images]
        adapted = model.adapter.adapt_images(frozen, classes)
        terms = dict(model.head.losses(adapted, encoded, data.labels[images]))
        batch = TrainingBatch(adapted, classes, data.labels[images], draws, frozen, data.classes)
        terms.update(model.adapter.losses(batch))
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.trainable, config.clip_norm)
        optimizer.step()
        schedule.step()
        losses.append({name: float(term.detach()) for name, term in terms.items()})
    return losses


@pytest.mark.parametrize("optimizer", TRACED)
@pytest.mark.parametrize("name", ["clip-adapter", "lathadapter-faithful", "xrvlm"])
def test_losses_and_weights_are_those_of_the_first_loop_to_the_bit(name, optimizer):
    run, bare = method_scene(name), method_scene(name)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = first_loop(bare.model, bare.data, TRACED[optimizer], 5)
    finally:
        torch.set_num_threads(threads)
    assert train(run.model, run.data, TRACED[optimizer], 5) == expected
    states = run.model.state_dict(), bare.model.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


@pytest.mark.parametrize("run", RECORDED["runs"])
def test_the_recorded_trace_is_repeated(run):
    """To the bit with the torch and the CPU it was recorded on, to rounding elsewhere."""
    name, optimizer = run.split()
    made = method_scene(RECORDED_AS.get(name, name))
    losses = [sum(terms.values()) for terms in train(made.model, made.data, TRACED[optimizer], 5)]
    weights = float(torch.cat([p.detach().flatten() for p in made.model.parameters()]).double().sum())
    recorded = RECORDED["runs"][run]
    same = torch.__version__.split("+")[0] == RECORDED["torch"]
    if same and torch.backends.cpu.get_cpu_capability() == RECORDED["cpu"]:
        assert [loss.hex() for loss in losses] == recorded["losses"]
        assert weights.hex() == recorded["weights"]
    assert losses == pytest.approx([float.fromhex(loss) for loss in recorded["losses"]], rel=1e-3)
    assert weights == pytest.approx(float.fromhex(recorded["weights"]), rel=1e-4)


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


def test_gradient_clipping_bounds_the_step():
    clipped = scene()
    config = TrainingConfig("sgd", 1.0, 0.0, 0.0, steps=1, warmup_epochs=0, clip_norm=1e-3)
    train(clipped.model, clipped.data, config, 1)
    assert clipped.model.head.weight.detach().norm().item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("step", [0, 3, 11, 24])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_term_and_images(step):
    poisoned = scene(poison_step=step, names=[f"photos/{i}.jpg" for i in range(12)])
    with pytest.raises(DivergedError, match=rf"step {step} cross_entropy is not finite .*photos/\d+.jpg") as raised:
        train(poisoned.model, poisoned.data, TrainingConfig(steps=25, batch_size=5), seed=1)
    assert len(raised.value.names) == 5
    assert "\n" not in str(raised.value)
    assert torch.isfinite(poisoned.model.head.weight).all()


@pytest.mark.parametrize("step", [0, 7])
def test_a_gradient_that_is_not_finite_stops_the_run_and_names_step_parameter_and_images(step):
    poisoned = scene(poison_step=step, poison="gradient")
    pattern = rf"step {step} the gradient of head.weight is not finite; images of the step: image \d+, .* and 4 more"
    with pytest.raises(DivergedError, match=pattern):
        train(poisoned.model, poisoned.data, TrainingConfig(steps=25), seed=1)
    assert torch.isfinite(poisoned.model.head.weight).all()


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


@pytest.mark.parametrize(
    ("bad", "fragment"),
    [
        ({"learning_rate": 0.0}, "learning_rate 0.0"),
        ({"learning_rate": math.nan}, "learning_rate nan"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"epochs": 0}, "epochs 0"),
        ({"steps": 0}, "steps 0"),
        ({"weight_decay": -1.0}, "weight_decay -1.0"),
        ({"warmup_epochs": -1}, "warmup_epochs -1"),
        ({"clip_norm": 0.0}, "clip_norm 0.0"),
        ({"accumulate": 0}, "accumulate 0"),
        ({"accumulate": 65}, "accumulate 65"),
        ({"ema_decay": 1.0}, "ema_decay 1.0"),
        ({"average_std": 0.0}, "average_std 0.0"),
        ({"history_every": 0}, "history_every 0"),
        ({"checkpoint_steps": 0}, "checkpoint_steps 0"),
        ({"checkpoint_seconds": 0.0}, "checkpoint_seconds 0.0"),
    ],
)
def test_settings_that_cannot_train_are_refused(bad, fragment):
    with pytest.raises(InputError, match=f"training needs .*{fragment}"):
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


def test_two_training_sets_share_a_fingerprint_only_when_they_are_equal():
    data = scene(views=2).data
    others = [
        replace(data, labels=data.labels.flip(0)),
        replace(data, names=[str(i) for i in range(12)]),
        replace(data, classes=data.classes.select([0, 2, 1])),
        replace(data, images=data.images[:12]),
    ]
    assert data.fingerprint == scene(views=2).data.fingerprint
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert isinstance(data, TrainingSet)


def test_training_sets_of_other_features_are_told_apart():
    data = scene().data
    moved = replace(data, images=ImageFeatures(data.images.pooled.flip(0)))
    assert data.fingerprint == replace(data).fingerprint != moved.fingerprint
