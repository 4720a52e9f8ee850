import json
import sys
import types

import pytest
import torch

from hyperadapt.errors import InputError
from hyperadapt.training import DivergedError, RunFolder, rate_factor, train
from hyperadapt.training.history import History, Report
from hyperadapt.training.loop import Training
from hyperadapt.training_config import TrainingConfig
from tests.training.runs import method_scene, scene


def lines(run):
    return [json.loads(line) for line in run.history.read_text().splitlines()]


def test_the_history_holds_rate_terms_and_gradient_norm_of_every_step(tmp_path):
    run, made = RunFolder(tmp_path / "run"), method_scene("lathadapter-faithful")
    config = TrainingConfig(steps=10, batch_size=10)
    tenths = train(made.model, made.data, config, 1, run=run)
    found = lines(run)
    assert [line["step"] for line in found] == list(range(10))
    assert [line["rate"] for line in found] == pytest.approx([1e-3 * rate_factor(s, 10, 2) for s in range(10)])
    for line, means in zip(found, tenths, strict=True):
        assert set(line) == {"step", "rate", "cross_entropy", "hierarchy", "gradient_norm"}
        assert {name: line[name] for name in means} == means
        assert line["gradient_norm"] > 0


def test_the_gradient_norm_is_that_of_all_parameters_together(tmp_path):
    run, made, bare = RunFolder(tmp_path), method_scene("xrvlm"), method_scene("xrvlm")
    config = TrainingConfig("sgd", 0.1, 0.0, 0.0, steps=1, warmup_epochs=0, batch_size=100)
    before = torch.cat([p.detach().flatten() for p in bare.model.trainable])
    train(made.model, made.data, config, 1, run=run)
    moved = before - torch.cat([p.detach().flatten() for p in made.model.trainable])
    assert lines(run)[0]["gradient_norm"] == pytest.approx(float(moved.norm()) / 0.1, rel=1e-4)


def test_a_line_can_be_written_every_n_steps(tmp_path):
    run, made = RunFolder(tmp_path), scene()
    train(made.model, made.data, TrainingConfig(steps=10, history_every=4), 1, run=run)
    assert [line["step"] for line in lines(run)] == [0, 4, 8]


def test_lines_are_on_disk_while_the_run_goes_on(tmp_path):
    run, made = RunFolder(tmp_path), scene()
    seen = []
    train(made.model, made.data, TrainingConfig(steps=5), 1, lambda *_: seen.append(len(lines(run))), run=run)
    assert seen == [1, 2, 3, 4, 5]


def test_the_steps_before_a_divergence_are_written_and_nothing_after(tmp_path):
    run, made = RunFolder(tmp_path), scene(poison_step=6)
    with pytest.raises(DivergedError, match="step 6"):
        train(made.model, made.data, TrainingConfig(steps=10, checkpoint_steps=2), 1, run=run)
    assert [line["step"] for line in lines(run)] == list(range(6))
    assert [path.stem for path in sorted(tmp_path.glob("*.json"))] == ["step-000000004", "step-000000006"]


def test_deferred_checks_find_the_first_bad_step_before_a_checkpoint(tmp_path):
    """What a GPU does: values are read together, steps later, and still in order."""
    history = History(scene().data, TrainingConfig(), RunFolder(tmp_path))
    history.deferred = 64
    for step in range(5):
        values = torch.tensor([1.0, torch.inf if step >= 3 else 2.0, 0.5])
        history.add(Report(step, 0.1, ("a", "b"), ("weight",), values, torch.tensor([step, 11])))
    assert not (tmp_path / "history.jsonl").exists()
    with pytest.raises(DivergedError, match=r"step 3 b is not finite \(a=1, b=inf\); images of the step: image 3"):
        history.flush()
    assert [line["step"] for line in lines(RunFolder(tmp_path))] == [0, 1, 2]


def test_tensorboard_that_is_not_installed_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    made = scene()
    with pytest.raises(InputError, match="pip install tensorboard"):
        train(made.model, made.data, TrainingConfig(steps=1, tensorboard=True), 1, run=RunFolder(tmp_path))
    with pytest.raises(InputError, match="needs a folder"):
        train(made.model, made.data, TrainingConfig(steps=1, tensorboard=True), 1)


def test_tensorboard_gets_every_number_of_the_history(tmp_path, monkeypatch):
    seen, closed = {}, []

    class SummaryWriter:
        def __init__(self, folder):
            assert folder == str(tmp_path / "tensorboard")

        def add_scalar(self, name, value, step):
            seen[step, name] = value

        def close(self):
            closed.append(True)

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    run, made = RunFolder(tmp_path), scene()
    train(made.model, made.data, TrainingConfig(steps=3, tensorboard=True), 1, run=run)
    assert closed
    for line in lines(run):
        for name in line.keys() - {"step"}:
            assert seen[line["step"], name] == line[name]
    assert len(seen) == 9


def test_weights_after_a_divergence_are_never_saved_even_when_checks_are_deferred(tmp_path):
    made = scene(poison_step=6)
    training = Training(made.model, made.data, TrainingConfig(steps=20, checkpoint_steps=4), 1, RunFolder(tmp_path))
    training.history.deferred = 64
    made.model.train()
    for _ in range(7):
        training.step()
    with pytest.raises(DivergedError, match="step 6"):
        training.step()
    assert training.done == 8, "found when the second checkpoint was due"
    assert [path.stem for path in tmp_path.glob("step-*.json")] == ["step-000000004"]
