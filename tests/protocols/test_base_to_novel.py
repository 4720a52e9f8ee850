import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hyperadapt.data import Draw, FeatureSource, Part
from hyperadapt.errors import InputError
from hyperadapt.features import StoredFeatures
from hyperadapt.fit import fit_shots
from hyperadapt.methods import load_method, named_methods
from hyperadapt.protocols.base_to_novel import base_to_novel_task
from hyperadapt.protocols.run import run_seeds_together, run_task
from tests.scenes import CLASS_NAMES, write_features

STORED = [name for name, method in named_methods().items() if not method.needs_tower]
LEARNING = [name for name in STORED if load_method(name).learns]
TRAINED = [name for name in STORED if load_method(name).training is not None]
SELECTING = [name for name in STORED if load_method(name).selects]


def short(name):
    method = load_method(name)
    return method if method.training is None else replace(method, training=replace(method.training, steps=8))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return FeatureSource(write_features(tmp_path_factory.mktemp("features")))


@pytest.fixture(scope="module")
def features(source):
    return StoredFeatures(source, torch.device("cpu"))


def task_of(features, shots=4, seed=1):
    return base_to_novel_task(features, features.source.draw(shots, seed))


def labels_of(exam):
    """Labels of its candidates in the data set, whose names are all different."""
    return tuple(CLASS_NAMES.index(name) for name in exam.classes.names)


def test_the_first_half_rounded_up_is_base(features):
    task = task_of(features)
    assert task.labels == labels_of(task.exam("base")) == (0, 1, 2, 3)
    assert labels_of(task.exam("novel")) == (4, 5, 6)
    assert labels_of(task.exam("joint_base")) == labels_of(task.exam("joint_novel")) == tuple(range(7))


def test_each_part_holds_its_halfs_rows_labelled_among_the_candidates(source, features):
    draw, task = source.draw(4, 1), task_of(features)
    by_row = dict(zip(draw.test.rows.tolist(), draw.test.labels.tolist(), strict=True))
    for exam in task.exams:
        own = labels_of(task.exam(exam.name.removeprefix("joint_")))
        found = [labels_of(exam)[label] for label in exam.part.labels]
        assert found == [by_row[row] for row in exam.part.rows.tolist()]
        assert set(found) == set(own)
        assert exam.mixes == exam.name.startswith("joint_")
    assert sum(len(exam.part) for exam in task.exams) == 2 * len(draw.test)
    assert len(task.shots) == 4 * len(task.labels)
    assert not set(task.shots.rows.tolist()) & set(draw.test.rows.tolist())
    kept = [row for row, label in zip(draw.val.rows, draw.val.labels, strict=True) if label in task.labels]
    assert task.val.rows.tolist() == kept
    assert sorted(set(task.val.labels.tolist())) == list(range(len(task.labels)))
    assert not set(kept) & set(np.concatenate([task.shots.rows, draw.test.rows]).tolist())
    assert set(task.rows(features, with_val=True)) - set(task.rows(features)) == set(kept)


def test_a_half_without_test_images_is_refused(features):
    part = Part(np.arange(4), np.arange(4))
    with pytest.raises(InputError, match="novel"):
        base_to_novel_task(features, Draw(part, part, Part(np.arange(4, 6), np.array([0, 1]))))


@pytest.mark.parametrize("name", LEARNING)
def test_poisoned_novel_and_test_data_change_no_weight_and_no_setting(name, source, features, tmp_path):
    """A copy whose every row and label but base shots and base validation is garbage must end with the same model."""
    task = task_of(features)
    model = fit_shots(short(name), features, task.shots, task.labels, 1, val=task.val).model
    labels, images = source.draw(4, 1), source.features(np.arange(len(CLASS_NAMES) * 16))
    rng = np.random.default_rng(5)
    poisoned = rng.normal(size=images.shape)
    for part in (labels.train, labels.val):
        allowed = part.restrict(task.labels).rows
        poisoned[allowed] = images[allowed]
    wrong = rng.integers(0, 3, len(images))
    for part in (labels.train, labels.val):
        wrong[part.rows] = part.labels
    texts = source.texts.copy()
    texts[:, 4:] = rng.normal(size=texts[:, 4:].shape)
    folder = write_features(tmp_path / "poisoned", images=poisoned.astype(np.float32), texts=texts.astype(np.float32))
    other = StoredFeatures(FeatureSource(folder), torch.device("cpu"))
    other._stored._labels[:] = wrong
    again = fit_shots(short(name), other, task.shots, task.labels, 1, val=task.val).model
    state, twin = model.state_dict(), again.state_dict()
    for key in state:
        torch.testing.assert_close(twin[key], state[key], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", SELECTING)
def test_settings_are_chosen_on_base_validation_images_and_the_outcome_says_so(name, source, features):
    task = task_of(features)
    assert f"on {len(task.val)} validation images of the training" in (run_task(short(name), task, 1).selection)
    without = run_task(short(name), replace(task, val=Part(task.val.rows[:0], task.val.labels[:0])), 1)
    assert "there is no validation image" in without.selection


def test_what_chooses_nothing_reads_no_validation_row_and_says_so(source, features, monkeypatch):
    task, read, look_up = task_of(features), [], FeatureSource.features
    monkeypatch.setattr(FeatureSource, "features", lambda self, rows: (read.extend(rows), look_up(self, rows))[1])
    outcome = run_task(short("prolip"), task, 1)
    assert "no validation" in outcome.selection
    assert read
    assert not set(read) & set(task.val.rows.tolist())


@pytest.mark.parametrize("name", SELECTING)
def test_what_is_chosen_depends_on_the_validation_images(name, source, features):
    """So that the tests of what does not reach a method are known to see what does."""
    task = task_of(features)
    wrong = Part(task.val.rows, (task.val.labels + 1) % len(task.labels))
    own, other = (
        fit_shots(short(name), features, task.shots, task.labels, 1, val=val).model.head.state_dict()
        for val in (task.val, wrong)
    )
    assert any(not torch.equal(own[key], other[key]) for key in own)


@pytest.mark.parametrize("name", STORED)
def test_equal_seeds_give_equal_counts(name, source, features):
    first, second = (run_task(short(name), task_of(features), 2) for _ in range(2))
    assert first.counts == second.counts
    assert first.history == second.history


@pytest.mark.parametrize("name", TRAINED)
def test_seeds_trained_together_have_the_counts_of_single_runs(name, source, features):
    tasks = {seed: task_of(features, seed=seed) for seed in (1, 2, 3)}
    together = run_seeds_together(short(name), tasks)
    for seed, task in tasks.items():
        alone = run_task(short(name), task, seed)
        assert together[seed].counts == alone.counts
        assert together[seed].parameters == alone.parameters


def test_seeds_with_other_numbers_of_images_are_not_trained_together(source, features):
    """A cache of keys has as many rows as there are images."""
    tasks = {1: task_of(features, shots=4, seed=1), 2: task_of(features, shots=5, seed=2)}
    assert run_seeds_together(short("tip-adapter-f"), tasks) is None
    together = run_seeds_together(short("prolip"), tasks)
    for seed, task in tasks.items():
        alone = run_task(short("prolip"), task, seed)  # its penalty depends on the number too
        assert together[seed].history[-1] == pytest.approx(alone.history[-1], rel=1e-4)


def test_what_trains_nothing_is_not_trained_together(source, features):
    assert run_seeds_together(load_method("zero-shot"), {1: task_of(features)}) is None


def test_zero_shot_counts_are_those_of_numpy(source, features):
    task = task_of(features)
    outcome = run_task(load_method("zero-shot"), task, 1)
    text = source.class_text()
    for name in ("base", "novel"):
        counts, part, half = outcome.counts[name], task.exam(name).part, labels_of(task.exam(name))
        answers = (source.features(part.rows) @ text[list(half)].T).argmax(1)
        assert counts.correct == int((answers == part.labels).sum())
        assert counts.total == len(part)
    assert outcome.parameters == 0


@pytest.mark.parametrize("name", [name for name in STORED if load_method(name).novel.startswith("zero-shot")])
def test_a_novel_class_with_the_name_of_a_base_class_is_a_class_of_its_own(name, tmp_path):
    folder = write_features(tmp_path / "set")
    meta = json.loads((folder / "meta.json").read_text())
    meta["classes"][-1] = meta["classes"][0]
    (folder / "meta.json").write_text(json.dumps(meta))
    task = task_of(StoredFeatures(FeatureSource(folder), torch.device("cpu")))
    found, expected = (run_task(short(each), task, 1).counts["novel"] for each in (name, "zero-shot"))
    assert found == expected


@pytest.mark.parametrize("name", [name for name in LEARNING if name not in ("hyperbolic", "clip-adapter-text")])
def test_training_on_base_classes_raises_base_accuracy(name, features):
    """The clusters are separable and the texts are off, so every method that learns must gain on base classes.

    The hyperbolic head alone has nothing to learn with but two scales; a text bottleneck changes a fifth of texts
    that are further off than that.
    """
    task = task_of(features, shots=6, seed=3)
    trained = run_task(load_method(name), task, 1)
    plain = run_task(load_method("zero-shot"), task, 1)
    assert plain.counts["base"].accuracy < 1
    assert trained.counts["base"].correct > plain.counts["base"].correct


def test_joint_scores_are_those_of_all_names_in_their_own_order(source, features):
    task = task_of(features)
    outcome = run_task(load_method("zero-shot"), task, 1)
    everything = features.classes.weights
    for name in ("base", "novel"):
        counts, part, own = outcome.counts[f"joint_{name}"], task.exam(name).part, labels_of(task.exam(name))
        pooled = torch.cat([batch.pooled for batch in features.batches(part.rows, False)])
        wanted = sum(
            int(own[label] == answer)
            for label, answer in zip(part.labels, (pooled @ everything.T).argmax(1).tolist(), strict=True)
        )
        assert counts.correct == wanted
        assert counts.total == len(part)
    assert outcome.counts["joint_base"].correct <= outcome.counts["base"].correct


def test_a_method_that_must_be_told_the_half_has_no_joint_scores(source, features):
    outcome = run_task(short("xrvlm"), task_of(features), 1)
    assert set(outcome.counts) == {"base", "novel"}
