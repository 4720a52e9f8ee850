import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperadapt.data import CATALOG, base_and_novel

SPLITS = [row for row in CATALOG if row.split_file]


@pytest.mark.shared_data
@pytest.mark.parametrize("row", SPLITS, ids=lambda row: row.name)
def test_test_images_of_each_half_are_as_many_as_published(shared, row):
    file = shared / "splits" / row.split_file
    if not file.is_file():
        pytest.skip(f"the split file of {row.name} is not among the evaluation data")
    split = json.loads(file.read_text())
    assert [len(split[part]) for part in ("train", "val", "test")] == [row.train, row.val, row.test]
    base, novel = base_and_novel((entry[1] for entry in split["train"]), row.classes)
    assert sum(entry[1] in base for entry in split["test"]) == row.test_base
    assert sum(entry[1] in novel for entry in split["test"]) == row.test_novel
    assert len(base) + len(novel) == row.classes


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2).filter(lambda labels: len(set(labels)) > 1))
def test_halves_are_ascending_and_base_has_the_odd_class(labels):
    base, novel = base_and_novel(labels, class_count=31)
    assert list(base + novel) == sorted(set(labels))
    assert len(base) - len(novel) in (0, 1)


def test_halves_of_one_class_or_of_foreign_labels_are_refused(assert_refused):
    assert_refused(lambda: base_and_novel([3, 3], 5), "at least 2 classes", "got 1")
    assert_refused(lambda: base_and_novel([], 5), "at least 2 classes", "got 0")
    assert_refused(lambda: base_and_novel([0, 5], 5), "label 5", "0..4")
    assert_refused(lambda: base_and_novel([-1, 0], 5), "label -1")
