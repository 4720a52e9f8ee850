import copy
from dataclasses import replace

import pytest
import torch
from torch.func import vmap
from torch.nn.functional import linear

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.methods import load_method
from hyperadapt.model import build_model
from hyperadapt.parts import PartFeatures
from hyperadapt.text import ClassText
from hyperadapt.training import Run, TrainingSet, train, train_together, why_apart
from hyperadapt.training.replay import RecordError
from hyperadapt.training.together import _LinearLayers, _Stack
from hyperadapt.training_config import TrainingConfig
from tests.training.runs import ON_FEATURES, method_scene, scene, unit


def numbers(*shape):
    """The same float64 numbers for the same shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def runs(name, counts=(20, 24, 44), dtype=torch.float32, **settings):
    """One run a count of images; batches of 20 have one shape, the numbers of steps differ."""
    found = []
    for seed, count in enumerate(counts, start=1):
        made = method_scene(name, count=count)
        torch.manual_seed(seed)
        model = made.model.to(dtype)
        for parameter in model.parameters():
            parameter.data += 0.01 * torch.randn_like(parameter)
        data = made.data
        templates, weights = (t.to(dtype) for t in (data.classes.templates, data.classes.weights))
        classes = replace(data.classes, templates=templates, weights=weights)
        found.append(Run(model, TrainingSet(ImageFeatures(data.images.pooled.to(dtype)), data.labels, classes), seed))
    config = replace(
        load_method(name).training,
        steps=None,
        steps_per_shot=None,
        epochs=12,
        batch_size=20,
        warmup_epochs=1,
        **settings,
    )
    return found, config


def apart(together, config):
    """The same runs one by one: models and histories."""
    models = [copy.deepcopy(run.model) for run in together]
    return models, [train(model, run.data, config, run.seed) for model, run in zip(models, together, strict=True)]


@pytest.mark.parametrize("name", ON_FEATURES)
def test_runs_of_several_seeds_and_lengths_are_the_runs_one_by_one(name):
    together, config = runs(name, dtype=torch.float64)
    models, histories = apart(together, config)
    for got, wanted in zip(train_together(together, config), histories, strict=True):
        assert [stretch.keys() for stretch in got] == [stretch.keys() for stretch in wanted]
        for a, b in zip(got, wanted, strict=True):
            assert a == pytest.approx(b, rel=1e-6, abs=1e-6)  # losses are float32
    for run, model in zip(together, models, strict=True):
        assert not run.model.training
        for (key, value), other in zip(run.model.state_dict().items(), model.state_dict().values(), strict=True):
            assert torch.allclose(value, other, rtol=0, atol=1e-7), key


@pytest.mark.parametrize("name", ON_FEATURES)
def test_in_float32_weights_agree_to_a_hundred_thousandth(name):
    together, config = runs(name)
    models, _ = apart(together, config)
    train_together(together, config)
    for run, model in zip(together, models, strict=True):
        for (key, value), other in zip(run.model.state_dict().items(), model.state_dict().values(), strict=True):
            assert torch.allclose(value, other, rtol=0, atol=1e-5), key


@pytest.mark.parametrize("name", ["lathadapter-faithful", "clip-adapter-both", "hegraphadapter"])
def test_at_the_size_of_real_features_no_rounding_grows(name):
    classes = ClassText(tuple("abcdefghij"), unit(2, 10, 256, seed=0), unit(10, 256, seed=1))
    together = []
    for seed in (1, 2):
        images = unit(96, 256, seed=seed + 1)
        labels = torch.arange(96) % 10
        counts = tuple(labels.bincount().tolist())
        model = build_model(load_method(name), BuildContext(classes, 256, None, 100.0, 96, counts), seed)
        model.prepare(ImageFeatures(images), labels, classes)
        together.append(Run(model, TrainingSet(ImageFeatures(images), labels, classes), seed))
    config = replace(load_method(name).training, steps=40)
    models, _ = apart(together, config)
    train_together(together, config)
    for run, model in zip(together, models, strict=True):
        for (key, value), other in zip(run.model.state_dict().items(), model.state_dict().values(), strict=True):
            assert torch.allclose(value, other, rtol=0, atol=1e-6), key


@pytest.mark.parametrize("name", ON_FEATURES)
def test_a_step_is_computed_once_and_repeated_from_its_record(name, monkeypatch):
    computed = []
    compute = _Stack._losses_and_gradients
    monkeypatch.setattr(_Stack, "_losses_and_gradients", lambda *a: computed.append(1) or compute(*a))
    together, config = runs(name, counts=(20, 20))
    assert config.epochs > 10
    train_together(together, config)
    assert len(computed) == 1


def test_a_step_that_cannot_be_recorded_is_computed_every_time(monkeypatch):
    def spoilt(function, *inputs, changing):
        function(*inputs)
        raise RecordError("a mask")

    monkeypatch.setattr("hyperadapt.training.together.recorded", spoilt)
    together, config = runs("xrvlm", counts=(20, 20), dtype=torch.float64)
    models, _ = apart(together, config)
    train_together(together, config)
    for run, model in zip(together, models, strict=True):
        for (key, value), other in zip(run.model.state_dict().items(), model.state_dict().values(), strict=True):
            assert torch.allclose(value, other, rtol=0, atol=1e-7), key


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows", [(7,), (2, 5)])
def test_linear_layers_of_a_batch_have_the_gradients_of_single_layers_in_the_layout_of_their_weights(rows, biased):
    """Transposed gradients are right as well, but must be copied into order at every step."""
    x, grad = numbers(3, *rows, 6), numbers(3, *rows, 4)
    parameters = [numbers(3, 4, 6).requires_grad_(), *([numbers(3, 4).requires_grad_()] if biased else [])]
    with _LinearLayers():
        out = vmap(linear)(x, *parameters)
    found = torch.autograd.grad(out, parameters, grad)
    assert all(gradient.is_contiguous() for gradient in found)
    for i in range(3):
        own = [parameter[i].detach().requires_grad_() for parameter in parameters]
        alone = linear(x[i], *own)
        torch.testing.assert_close(out[i], alone, rtol=1e-14, atol=1e-14)
        for gradient, wanted in zip(found, torch.autograd.grad(alone, own, grad[i]), strict=True):
            torch.testing.assert_close(gradient[i], wanted, rtol=1e-14, atol=1e-14)


def test_averages_clipping_and_decay_are_those_of_single_runs():
    settings = {"average": "ema", "ema_decay": 0.9, "clip_norm": 0.05, "decay": "matrices", "sampler": "balanced"}
    together, config = runs("clip-adapter", dtype=torch.float64, **settings)
    models, _ = apart(together, config)
    train_together(together, config)
    for run, model in zip(together, models, strict=True):
        for value, other in zip(run.model.parameters(), model.parameters(), strict=True):
            assert torch.allclose(value, other, rtol=0, atol=1e-12)


def test_runs_of_other_shapes_follow_one_another():
    together, config = runs("clip-adapter", counts=(8, 20, 8), dtype=torch.float64)
    models, _ = apart(together, config)
    seen = []
    train_together(together, config, lambda done, total: seen.append((done, total)))
    for run, model in zip(together, models, strict=True):
        for value, other in zip(run.model.parameters(), model.parameters(), strict=True):
            assert torch.allclose(value, other, rtol=0, atol=1e-12)
    assert seen[-1] == (36, 36)


def test_weights_are_ordinary_tensors_afterwards():
    together, config = runs("lathadapter-faithful", counts=(20, 20))
    train_together(together, config)
    first, second = (run.model for run in together)
    before = [p.detach().clone() for p in second.parameters()]
    train(first, together[0].data, config, seed=5)
    assert all(torch.equal(p, b) for p, b in zip(second.parameters(), before, strict=True))
    assert all(p.is_contiguous() and p.grad is None for p in first.parameters())


def test_runs_that_cannot_be_batched_say_why():
    made = scene()
    config = TrainingConfig(steps=2)
    assert why_apart(made.model, made.data, config) is None
    parts = PartFeatures(torch.zeros(12, 1, 2, 4), torch.zeros(12, 1, 2, 4))
    with_parts = TrainingSet(ImageFeatures(made.data.images.pooled, parts), made.data.labels, made.data.classes)
    with pytest.raises(InputError, match="pass a tower or its part features; train them one by one"):
        train_together([Run(made.model, with_parts, 1)], config)
    with pytest.raises(InputError, match="for single runs"):
        train_together([Run(made.model, made.data, 1)], replace(config, precision="bf16"))
