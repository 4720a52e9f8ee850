"""A run that is stopped at any moment goes on from its last checkpoint and ends with the same bits."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from hyperadapt.errors import InputError
from hyperadapt.methods import load_method
from hyperadapt.training import ALONE, RunFolder, train
from hyperadapt.training_config import TrainingConfig
from tests.training import killed_runs
from tests.training.runs import ON_FEATURES, THROUGH_TOWERS, method_scene

CONFIG = TrainingConfig(steps=20, batch_size=6, checkpoint_steps=5)


class Stopped(Exception):
    """The run was interrupted."""


def stop_after(step):
    def progress(done, _total):
        if done == step:
            raise Stopped

    return progress


def fit(folder, name="clip-adapter", config=CONFIG, stop=None, seed=3, **identity):
    run = method_scene(name)
    progress = (lambda *_: None) if stop is None else stop_after(stop)
    tenths = train(run.model, run.data, config, seed, progress, run=RunFolder(folder, identity))
    return run.model.state_dict(), tenths


def assert_same(left, right, folders):
    assert all(torch.equal(left[0][key], right[0][key]) for key in left[0])
    assert left[1] == right[1]
    first, second = ((folder / "history.jsonl").read_bytes() for folder in folders)
    assert first == second


def steps(folder):
    return [int(path.stem.split("-")[1]) for path in sorted(folder.glob("step-*.json"))]


@pytest.mark.parametrize("settings", [{}, {"average": "gaussian", "average_mean": 2.0}, {"accumulate": 2}], ids=str)
@pytest.mark.parametrize("name", ON_FEATURES)
def test_an_interrupted_run_goes_on_and_ends_the_same(name, settings, tmp_path):
    check_interrupted(name, replace(CONFIG, **settings), (2, 9, 14), tmp_path)


@pytest.mark.parametrize("name", THROUGH_TOWERS)
def test_an_interrupted_run_through_the_towers_goes_on_and_ends_the_same(name, tmp_path):
    """With the method's own optimiser, phases and average."""
    config = replace(load_method(name).training, steps=8, batch_size=5, checkpoint_steps=3)
    check_interrupted(name, config, (4, 7), tmp_path)


def check_interrupted(name, config, stops, folder):
    whole = fit(folder / "whole", name, config)
    for stop in stops:
        with pytest.raises(Stopped):
            fit(folder / "cut", name, config, stop)
    seen = []
    run = method_scene(name)
    tenths = train(run.model, run.data, config, 3, lambda done, _: seen.append(done), run=RunFolder(folder / "cut"))
    kept = stops[-1] - stops[-1] % config.checkpoint_steps
    assert seen == list(range(kept + 1, config.steps + 1)), "it goes on from the last checkpoint before the stop"
    assert_same(whole, (run.model.state_dict(), tenths), [folder / "whole", folder / "cut"])


def test_a_finished_run_is_read_and_not_repeated(tmp_path):
    whole = fit(tmp_path)
    seen = []
    run = method_scene("clip-adapter")
    tenths = train(run.model, run.data, CONFIG, 3, lambda *_: seen.append(1), run=RunFolder(tmp_path))
    assert not seen
    assert_same(whole, (run.model.state_dict(), tenths), [tmp_path, tmp_path])


def test_the_newest_two_checkpoints_are_kept(tmp_path):
    fit(tmp_path)
    assert steps(tmp_path) == [15, 20]
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


DAMAGE = {
    "torn weights": lambda weights, facts: weights.write_bytes(weights.read_bytes()[:-40]),
    "no weights": lambda weights, facts: weights.unlink(),
    "a flipped bit": lambda weights, facts: weights.write_bytes(weights.read_bytes()[:-1] + b"\x55"),
    "torn facts": lambda weights, facts: facts.write_bytes(facts.read_bytes()[:100]),
    "empty facts": lambda weights, facts: facts.write_bytes(b""),
    "other facts": lambda weights, facts: facts.write_text("[1, 2]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(damage, tmp_path):
    whole = fit(tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(tmp_path / "cut", stop=12)
    assert steps(tmp_path / "cut") == [5, 10]
    newest = tmp_path / "cut" / "step-000000010.json"
    DAMAGE[damage](newest.with_suffix(".safetensors"), newest)
    with pytest.warns(UserWarning, match=r"step-000000010.json is damaged"):
        again = fit(tmp_path / "cut")
    assert_same(whole, again, [tmp_path / "whole", tmp_path / "cut"])


def test_when_every_checkpoint_is_damaged_the_run_starts_anew(tmp_path):
    whole = fit(tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(tmp_path / "cut", stop=12)
    for path in (tmp_path / "cut").glob("*.safetensors"):
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged"):
        again = fit(tmp_path / "cut")
    assert_same(whole, again, [tmp_path / "whole", tmp_path / "cut"])


def test_a_history_shorter_than_its_checkpoint_is_not_gone_on_from(tmp_path):
    whole = fit(tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(tmp_path / "cut", stop=12)
    history = tmp_path / "cut" / "history.jsonl"
    history.write_bytes(history.read_bytes()[:500])
    with pytest.warns(UserWarning, match="is damaged"):
        again = fit(tmp_path / "cut")
    assert_same(whole, again, [tmp_path / "whole", tmp_path / "cut"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": replace(CONFIG, learning_rate=0.5)}, "training.learning_rate 0.001 instead of 0.5"),
        ({"seed": 4}, "seed 3 instead of 4"),
        ({"dataset": "fish"}, "dataset 'birds' instead of 'fish'"),
        ({"name": "xrvlm"}, "name"),
    ],
    ids=["configuration", "seed", "identity", "method"],
)
def test_a_folder_of_another_run_is_refused_in_one_line(change, said, tmp_path):
    given = {"dataset": "birds", "method": "clip-adapter"}
    fit(tmp_path, **given)
    if "name" in change:
        change, said = {"name": "xrvlm", "method": "xrvlm"}, "method 'clip-adapter' instead of 'xrvlm'"
    with pytest.raises(InputError, match=f"another run, with {said}; use another folder") as raised:
        fit(tmp_path, **{**given, **change})
    assert "\n" not in str(raised.value)


def test_other_data_is_refused(tmp_path):
    fit(tmp_path)
    run = method_scene("clip-adapter", count=24)
    with pytest.raises(InputError, match="another run, with data"):
        train(run.model, run.data, CONFIG, 3, run=RunFolder(tmp_path))


def test_two_runs_never_train_in_one_folder_at_once(tmp_path):
    with RunFolder(tmp_path).held(ALONE), pytest.raises(InputError, match="another process trains in"):
        fit(tmp_path)
    assert fit(tmp_path)[1]


def test_checkpoints_by_time_change_nothing_but_where_a_run_goes_on(tmp_path):
    often, never = replace(CONFIG, checkpoint_seconds=1e-6), replace(CONFIG, checkpoint_steps=None)
    assert_same(fit(tmp_path / "a", config=often), fit(tmp_path / "b", config=never), [tmp_path / "a", tmp_path / "b"])
    with pytest.raises(Stopped):
        fit(tmp_path / "c", config=often, stop=8)
    assert steps(tmp_path / "c") == [7, 8]


def test_a_discarded_run_keeps_its_history_alone(tmp_path):
    fit(tmp_path)
    run = RunFolder(tmp_path)
    run.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]


def check_killed(method, kills, seed, folder):
    """The final weights and the history of killed runs, beside an undisturbed one (`trial`)."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.training.killed_runs", method, str(folder), str(kills), str(seed)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    for name in ("weights.safetensors", "history.jsonl"):
        assert (folder / name).read_bytes() == (folder / "trial" / name).read_bytes()
    found = safetensors.torch.load_file(folder / "weights.safetensors")
    assert all(torch.isfinite(value).all() for value in found.values())
    assert len((folder / "history.jsonl").read_text().splitlines()) == killed_runs.SETTINGS.steps
    return int(done.stdout)


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    assert check_killed("clip-adapter", 3, 1, tmp_path) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ON_FEATURES)
@pytest.mark.parametrize("seed", range(4))
def test_runs_killed_many_times_end_with_the_same_bits(method, seed, tmp_path):
    assert check_killed(method, 6, seed, tmp_path) >= 1


def test_facts_of_a_checkpoint_are_plain_json(tmp_path):
    fit(tmp_path, dataset="birds")
    facts = json.loads((tmp_path / "step-000000020.json").read_text())
    assert facts["step"] == 20
    assert facts["run"]["training"]["steps"] == 20
    assert facts["run"]["dataset"] == "birds"
    assert facts["seconds"] > 0
