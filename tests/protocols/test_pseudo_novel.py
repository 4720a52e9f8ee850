"""Cuts inside the base classes: nothing of the other half and no test row is in them, and no row is used twice."""

import numpy as np
import pytest

from hyperadapt.data import Draw, FeatureSource, Part
from hyperadapt.errors import InputError
from hyperadapt.protocols.base_to_novel import rows_used
from hyperadapt.protocols.pseudo_novel import pseudo_novel_task
from tests.scenes import CLASS_NAMES, write_features


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return FeatureSource(write_features(tmp_path_factory.mktemp("features")))


def test_rows_are_training_and_validation_rows_of_base_classes_each_once(source):
    draw = source.draw(4, 1)
    allowed = {
        row
        for part in (draw.train, draw.val)
        for row, label in zip(part.rows.tolist(), part.labels.tolist(), strict=True)
        if label < 4
    }
    for cut in range(5):
        task = pseudo_novel_task(draw, len(CLASS_NAMES), cut)
        used = rows_used(task).tolist()
        assert len(used) == len(set(used))
        assert set(used) == allowed
        assert sorted(task.base + task.novel) == [0, 1, 2, 3]
        assert len(task.base) == len(task.novel) == 2
        assert len(task.val) == 0


def test_a_quarter_of_the_shots_is_scored_with_the_validation_rows(source):
    draw = source.draw(8, 1)
    task = pseudo_novel_task(draw, len(CLASS_NAMES), 0)
    assert np.bincount(task.shots.labels).tolist() == [6, 6]
    assert np.bincount(task.base_test.labels).tolist() == [2 + 2, 2 + 2]
    truth = {
        row: label
        for p in (draw.train, draw.val)
        for row, label in zip(p.rows.tolist(), p.labels.tolist(), strict=True)
    }
    for names, part in ((task.base, task.shots), (task.base, task.base_test), (task.novel, task.novel_test)):
        assert [names[label] for label in part.labels] == [truth[row] for row in part.rows]


def test_cuts_differ_and_repeat(source):
    draw = source.draw(4, 1)
    cuts = [pseudo_novel_task(draw, len(CLASS_NAMES), cut) for cut in range(12)]
    assert len({task.base for task in cuts}) > 3
    again = pseudo_novel_task(draw, len(CLASS_NAMES), 3)
    assert again.base == cuts[3].base
    assert again.shots.rows.tolist() == cuts[3].shots.rows.tolist()


def test_too_little_to_cut_is_refused(source):
    with pytest.raises(InputError, match="at least 2 shots"):
        pseudo_novel_task(source.draw(1, 1), len(CLASS_NAMES), 0)
    few = Draw(*(Part(np.arange(6), np.arange(6) % 3) for _ in range(3)))
    with pytest.raises(InputError, match="at least 4 base classes"):
        pseudo_novel_task(few, 3, 0)
