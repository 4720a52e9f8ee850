"""The ladder: paired gains decide, every trial is kept, and nothing outside the base classes is read."""

import json
import math
from contextlib import contextmanager
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
import yaml

from hyperadapt import selection
from hyperadapt.__main__ import main
from hyperadapt.data import FeatureSource
from hyperadapt.errors import InputError
from hyperadapt.features import StoredFeatures
from hyperadapt.methods import load_method
from hyperadapt.selection import Place, Rung, SelectSettings, climb, read_space
from tests.scenes import write_features

SPACE = {
    "start": {"name": "chosen", "adapter": {"type": "clip-adapter"}, "training": {"steps": 6, "learning_rate": 0.02}},
    "rungs": [
        {"name": "nothing new", "options": {"the same": {"adapter": {"ratio": 0.2}}}},
        {"name": "method", "options": {"frozen": {"adapter": {"type": "zero-shot"}, "training": None}}},
    ],
}


class Quiet:
    def __init__(self):
        self.said = []

    @contextmanager
    def task(self, title):
        yield lambda done, total: None

    def say(self, sentence):
        self.said.append(sentence)


@pytest.fixture
def places(tmp_path):
    sources = [FeatureSource(write_features(tmp_path / f"set{i}", seed=i)) for i in range(2)]
    return [Place(StoredFeatures(source, torch.device("cpu")), 4) for source in sources]


def space_file(tmp_path, data):
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def spoilt(monkeypatch, gains):
    """Scores set by hand: the recipe as it starts has 0.5 everywhere, an option what `gains` says, task by task."""

    def run(self, place, method, seed):
        marks = method.to_dict()["adapter"].get("ratio", 0.0)
        values = gains.get(marks, [0.0, 0.0])
        return [
            {"counts": {half: {"correct": 500 + round(1000 * value), "total": 1000} for half in ("base", "novel")}}
            for value in values
        ]

    monkeypatch.setattr(selection._Scores, "_run", run)


def options(*ratios):
    rungs = [{"name": "ratio", "options": {str(ratio): {"adapter": {"ratio": ratio}} for ratio in ratios}}]
    return {"start": {**SPACE["start"], "adapter": {"type": "clip-adapter", "ratio": 0.2}}, "rungs": rungs}


def test_an_option_is_kept_only_beyond_two_standard_errors(monkeypatch, places, tmp_path):
    spoilt(monkeypatch, {0.3: [0.1, 0.0], 0.4: [0.06, 0.04], 0.5: [0.03, 0.03]})
    space = read_space(space_file(tmp_path, options(0.3, 0.4, 0.5)))
    ladder = climb(space, places, SelectSettings((1,), 2, tmp_path / "out"), Quiet())
    rows = {row["option"]: row for row in ladder["rungs"][0]["trials"]}
    for name, gains in (("0.3", [0.1, 0.0]), ("0.4", [0.06, 0.04])):
        assert math.isclose(rows[name]["gain"], fmean(gains), abs_tol=1e-9)
        assert math.isclose(rows[name]["standard_error"], stdev(gains) / math.sqrt(4), rel_tol=1e-9)
    assert [name for name, row in rows.items() if row["kept"]] == ["0.4"]
    assert ladder["recipe"]["adapter"]["ratio"] == 0.4
    recipe = load_method(str(tmp_path / "out" / "recipe.yaml"))
    assert recipe.to_dict() == ladder["recipe"]


def test_what_does_not_differ_is_not_kept(monkeypatch, places, tmp_path):
    spoilt(monkeypatch, {})
    space = read_space(space_file(tmp_path, options(0.3)))
    ladder = climb(space, places, SelectSettings((1, 2), 2, tmp_path / "out"), Quiet())
    assert [row["kept"] for row in ladder["rungs"][0]["trials"]] == [True, False]
    assert ladder["recipe"]["adapter"]["ratio"] == 0.2


@pytest.mark.parametrize(("gains", "kept"), [([-0.1, 0.09], True), ([-0.03, -0.03], False), ([0.001, 0.001], True)])
def test_what_a_method_exists_for_stands_unless_it_costs_more_than_its_standard_error(
    monkeypatch, places, tmp_path, gains, kept
):
    spoilt(monkeypatch, {0.3: gains, 0.4: [value - 0.2 for value in gains]})
    data = options(0.3, 0.4)
    data["rungs"][0]["rule"] = "no cost"
    ladder = climb(read_space(space_file(tmp_path, data)), places, SelectSettings((1,), 2, tmp_path / "out"), Quiet())
    assert ladder["recipe"]["adapter"]["ratio"] == (0.3 if kept else 0.2)
    assert ladder["rungs"][0]["rule"] == "no cost"


def test_a_worse_answer_does_not_stand_by_its_noise():
    rows = [
        {"option": "near", "gain": -0.01, "standard_error": 0.005},
        {"option": "noisy", "gain": -0.02, "standard_error": 0.05},
    ]
    assert Rung("", {}, "no cost").best(rows) is None
    assert Rung("", {}, "no cost").best(rows[1:]) == "noisy"


def test_a_stopped_ladder_goes_on_from_its_trials(monkeypatch, places, tmp_path):
    space, settings = read_space(space_file(tmp_path, SPACE)), SelectSettings((1, 2), 2, tmp_path / "out")
    ladder = climb(space, places, settings, Quiet())
    trials = sorted((tmp_path / "out" / "trials").iterdir())
    assert len(trials) == 2 * 2 * 2  # the same settings under another name are one trial
    assert {"adapter", "training", "head"} <= set(json.loads(trials[0].read_text())["method"])
    before = {path: path.stat().st_mtime_ns for path in trials}
    trials[0].unlink()
    assert climb(space, places, settings, Quiet()) == ladder
    again = {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "out" / "trials").iterdir())}
    assert {path for path in before if again[path] != before[path]} == {trials[0]}


def test_rows_outside_the_choice_cannot_change_it(tmp_path):
    """Test rows and novel classes are overwritten with noise; every trial stays as it was."""
    folder = write_features(tmp_path / "clean")
    clean = FeatureSource(folder)
    draw = clean.draw(4, 1)
    keep = [
        row
        for part in (draw.train, draw.val)
        for row, label in zip(part.rows.tolist(), part.labels.tolist(), strict=True)
        if label < 4
    ]
    with np.load(folder / "features.npz") as stored:
        images, texts = stored["images"].copy(), stored["texts"].copy()
    poisoned = np.random.default_rng(1).normal(size=images.shape).astype(np.float16)
    poisoned[keep] = images[keep]
    texts[:, 4:] = np.random.default_rng(2).normal(size=texts[:, 4:].shape)
    other = write_features(tmp_path / "poisoned", images=poisoned, texts=texts)
    space, found = read_space(space_file(tmp_path, SPACE)), []
    for i, source in enumerate((clean, FeatureSource(other))):
        place = Place(StoredFeatures(source, torch.device("cpu")), 4)
        ladder = climb(space, [place], SelectSettings((1,), 3, tmp_path / f"out{i}"), Quiet())
        found.append(ladder["rungs"])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rungs": {}}, "two keys start"),
        ({"rungs": [{"name": "x"}]}, "keys name and options"),
        ({"rungs": [{"name": "x", "options": {}, "rule": "luck"}]}, "gain or no cost"),
        ({"rungs": [{"name": "x", "options": {"y": {"adapter": {"wings": 2}}}}]}, "wings"),
        ({"start": {"name": "x", "adapter": {"type": "clup"}}}, "clup"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(tmp_path, change, complaint):
    with pytest.raises(InputError, match=complaint):
        read_space(space_file(tmp_path, {**SPACE, **change}))


def test_an_answer_may_be_named_by_a_number(tmp_path):
    rung = {"name": 1, "options": {3: {"adapter": {"ratio": 0.3}}, 0.5: {"adapter": {"ratio": 0.5}}}}
    start = {"name": "x", "adapter": {"type": "clip-adapter"}}
    (found,) = read_space(space_file(tmp_path, {"start": start, "rungs": [rung]})).rungs
    assert (found.name, set(found.options)) == ("1", {"3", "0.5"})


def test_the_command_prints_the_ladder_and_writes_the_recipe(tmp_path, capsys):
    folders = [str(write_features(tmp_path / f"set{i}", seed=i)) for i in range(2)]
    call = ["bench", "select", "--space", str(space_file(tmp_path, SPACE)), "--features", *folders]
    call += ["--seeds", "1", "--cuts", "2", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main([*call, "--shots", "4", "5"]) == 0
    printed = capsys.readouterr().out
    assert "nothing new" in printed
    assert "on base classes alone" in printed
    assert load_method(str(tmp_path / "out" / "recipe.yaml")).name == "chosen"
    assert main([*call, "--shots", "4", "5", "6"]) == 2
    assert "one a data set" in capsys.readouterr().err


def test_one_task_a_place_is_refused_for_it_has_no_standard_error(tmp_path, capsys):
    folder = str(write_features(tmp_path / "set"))
    call = ["bench", "select", "--space", str(space_file(tmp_path, SPACE)), "--features", folder, "--shots", "4"]
    assert main([*call, "--seeds", "1", "--cuts", "1", "--device", "cpu", "--out", str(tmp_path / "out")]) == 2
    assert "give more --seeds or --cuts" in capsys.readouterr().err
