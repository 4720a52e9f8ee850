"""Phases of a run: which parameters move when, at which rate, and a run that is stopped between or inside them."""

from dataclasses import replace

import pytest
import torch

from hyperadapt.errors import InputError
from hyperadapt.methods import method_from_dict
from hyperadapt.model import build_model
from hyperadapt.training import RunFolder, rate_factor, train, why_apart
from hyperadapt.training.optimizers import Schedule
from hyperadapt.training_config import Phase, TrainingConfig
from tests.training.runs import method_scene, scene

PHASES = (Phase(0.6, ("adapter.",)), Phase(0.4, ("head.",)))
CONFIG = TrainingConfig(steps=10, batch_size=6, learning_rate=0.1, warmup_epochs=0, final_rate=0.01, phases=PHASES)


def made():
    """A class adapter before a classifier, both trained."""
    run = method_scene("taskres")
    recipe = {"name": "x", "adapter": {"type": "taskres"}, "head": {"type": "from-text", "start": "adapted"}}
    context = method_scene_context(run)
    return replace(run, model=build_model(method_from_dict(recipe), context, 3))


def method_scene_context(run):
    from hyperadapt.adapters.base import BuildContext

    return BuildContext(run.data.classes, 16, None, 20.0, 20, (5,) * 4)


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_each_phase_moves_its_parameters_alone():
    run, seen = made(), []
    start = weights(run.model)
    train(run.model, run.data, CONFIG, 1, lambda *_: seen.append(weights(run.model)))
    for before, after, moving in ((start, seen[5], "adapter."), (seen[6], seen[9], "head.")):
        for name in before:
            assert torch.equal(before[name], after[name]) != name.startswith(moving), name


def test_every_phase_has_a_cosine_of_its_own_down_to_the_final_rate():
    schedule = Schedule(CONFIG, 10, 3)
    expected = [0.01 + 0.09 * rate_factor(step, 6, 0) for step in range(6)]
    expected += [0.01 + 0.09 * rate_factor(step, 4, 0) for step in range(4)]
    assert [schedule.rate(step) for step in range(10)] == pytest.approx(expected)
    assert schedule.starts == [0, 6]
    whole = Schedule(replace(CONFIG, phases=()), 10, 3)
    assert whole.rate(0) == pytest.approx(0.1)
    assert whole.rate(10) == pytest.approx(0.01)


@pytest.mark.parametrize("stop", [4, 6, 8])
def test_a_run_stopped_inside_or_between_phases_ends_the_same(stop, tmp_path):
    def halt(done, _total):
        if done == stop:
            raise KeyboardInterrupt

    config = replace(CONFIG, checkpoint_steps=2)
    whole, cut = made(), made()
    expected = train(whole.model, whole.data, config, 1, run=RunFolder(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(cut.model, cut.data, config, 1, halt, run=RunFolder(tmp_path / "cut"))
    again = made()
    assert train(again.model, again.data, config, 1, run=RunFolder(tmp_path / "cut")) == expected
    state = again.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.model.state_dict().items())


def test_steps_for_each_shot_are_those_of_the_class_with_most_images():
    run, seen = scene(n=11), []
    config = TrainingConfig(steps_per_shot=3, batch_size=5)
    train(run.model, run.data, config, 1, lambda done, total: seen.append(total))
    assert seen == [12] * 12


def test_phases_come_from_plain_data_and_nonsense_is_refused():
    run = made()
    assert "phases" in why_apart(run.model, run.data, CONFIG)
    recipe = {"name": "x", "training": {"phases": [{"share": 1, "trains": ["head."]}]}}
    assert method_from_dict(recipe).training.phases == (Phase(1.0, ("head.",)),)
    for settings, said in (
        ({"phases": (Phase(0.0, ("head.",)),)}, "share > 0"),
        ({"average": "ema"}, "average none"),
        ({"final_rate": 1.0}, "final_rate"),
        ({"steps_per_shot": 0}, "steps_per_shot"),
    ):
        with pytest.raises(InputError, match=said):
            replace(CONFIG, **settings)
