import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperadapt.data import coop_draw, draw_hash, permutation_draw

SPLITS_WITH_KNOWN_DRAWS = ("Caltech101", "DescribableTextures", "OxfordPets", "StanfordCars")
labels = st.lists(st.integers(0, 4), max_size=60)
shots = st.integers(1, 20)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.shared_data
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", SPLITS_WITH_KNOWN_DRAWS)
def test_coop_draws_are_those_of_coop(shared, name, seed):
    split = json.loads((shared / "splits" / f"split_zhou_{name}.json").read_text())
    known = json.loads((shared / "splits" / "draws.json").read_text())
    train, val = coop_draw(*([entry[1] for entry in split[part]] for part in ("train", "val")), known["shots"], seed)
    assert draw_hash(split["train"][row][0] for row in train) == known[name][str(seed)]
    assert set(Counter(split["val"][row][1] for row in val).values()) == {4}


def sample_written_out(rows, count, words):
    """`random.sample` over 32-bit words of the Mersenne Twister: swapping in a pool, or redrawing what was seen."""

    def below(bound):
        while (value := int(next(words)) >> (32 - bound.bit_length())) >= bound:
            pass
        return value

    pool_is_cheaper = len(rows) <= 21 + (4 ** math.ceil(math.log(count * 3, 4)) if count > 5 else 0)
    pool, drawn = list(rows), []
    while len(drawn) < count:
        at = below(len(rows) - len(drawn) if pool_is_cheaper else len(rows))
        if pool_is_cheaper:
            drawn.append(pool[at])
            pool[at] = pool[len(rows) - len(drawn)]
        elif rows[at] not in drawn:
            drawn.append(rows[at])
    return drawn


@pytest.mark.parametrize("sizes", [(30, 20, 9), (22, 21, 200), (400, 300, 100)])
@pytest.mark.parametrize("shots", [1, 4, 5, 6, 16])
def test_coop_draw_equals_the_algorithm_written_out(sizes, shots):
    """The oracle shares no code with `random`: numpy's twister, seeded by the one-word key, gives the words."""
    for seed in (0, 1, 2, 3, 12345):
        words = iter(np.random.RandomState([seed]).randint(0, 2**32, size=5000, dtype=np.uint32))
        lists = [[label for label, size in enumerate(sizes) for _ in range(size)] for _ in range(2)]
        expected = []
        for take in (shots, min(shots, 4)):
            starts = np.cumsum([0, *sizes]).tolist()
            groups = [list(range(start, start + size)) for start, size in zip(starts, sizes, strict=False)]
            parts = [sample_written_out(rows, take, words) if len(rows) >= take else rows for rows in groups]
            expected.append([row for part in parts for row in part])
        assert coop_draw(*lists, shots, seed) == tuple(expected)


@settings(deadline=None)
@given(labels, labels, shots, seeds)
def test_coop_draw_gives_each_class_its_shots_or_all(train_labels, val_labels, shots, seed):
    train, val = coop_draw(train_labels, val_labels, shots, seed)
    for rows, source, most in ((train, train_labels, shots), (val, val_labels, min(shots, 4))):
        assert len(set(rows)) == len(rows)
        drawn, there = Counter(source[row] for row in rows), Counter(source)
        assert drawn == {label: min(count, most) for label, count in there.items()}


@settings(deadline=None)
@given(labels, labels, shots, seeds)
def test_coop_draw_visits_classes_in_order_of_first_appearance(train_labels, val_labels, shots, seed):
    train, _ = coop_draw(train_labels, val_labels, shots, seed)
    assert list(dict.fromkeys(train_labels[row] for row in train)) == list(dict.fromkeys(train_labels))


@settings(deadline=None)
@given(labels, labels, shots, seeds, st.data())
def test_validation_list_does_not_change_the_training_draw(train_labels, val_labels, shots, seed, data):
    train, val = coop_draw(train_labels, val_labels, shots, seed)
    assert coop_draw(train_labels, data.draw(st.permutations(val_labels)), shots, seed)[0] == train
    assert coop_draw(train_labels, [], shots, seed) == (train, [])
    assert coop_draw(np.array(train_labels, dtype=np.int16), val_labels, np.int64(shots), np.int64(seed)) == (
        train,
        val,
    )


def test_validation_continues_the_training_stream():
    lists = ([0] * 40, [0] * 40)
    train, val = coop_draw(*lists, shots=4, seed=5)
    assert val != train
    assert coop_draw([0] * 4, lists[1], shots=4, seed=5)[1] != val


def test_a_class_too_small_leaves_the_stream_untouched_and_keeps_list_order():
    small_first, _ = coop_draw([1, 1, *[0] * 30], [], shots=4, seed=3)
    alone, _ = coop_draw([0] * 30, [], shots=4, seed=3)
    assert small_first == [0, 1, *[row + 2 for row in alone]]


@settings(deadline=None)
@given(labels, shots, st.integers(0, 5), seeds)
def test_permutation_draw_cuts_every_class_into_three(pool, shots, val_per_class, seed):
    parts = permutation_draw(pool, shots, val_per_class, seed)
    assert sorted(row for part in parts for row in part) == list(range(len(pool)))
    for label, there in Counter(pool).items():
        train, val, test = ([row for row in part if pool[row] == label] for part in parts)
        assert len(train) == min(shots, there - 1)
        assert len(val) == min(val_per_class, there - len(train))
        assert len(test) == there - len(train) - len(val)
    assert permutation_draw(np.array(pool, dtype=np.int64), shots, val_per_class, seed) == parts


@settings(deadline=None)
@given(labels, shots, seeds)
def test_permutation_draws_are_nested_in_shots(pool, shots, seed):
    fewer, more = (permutation_draw(pool, k, 0, seed)[0] for k in (shots, shots + 1))
    assert set(fewer) <= set(more)


def test_permutation_draw_shuffles_classes_in_label_order_with_one_generator():
    pool = np.array([3, 1, 3, 1, 1, 3, 3, 1, 1])
    stream = np.random.RandomState(7)
    expected = []
    for label in (1, 3):
        rows = np.flatnonzero(pool == label)
        expected += rows[stream.permutation(len(rows))][:2].tolist()
    assert permutation_draw(pool, 2, 1, seed=7)[0] == expected


@settings(deadline=None)
@given(st.lists(st.text(alphabet="abc/.", min_size=1), max_size=5))
def test_draw_hash_depends_on_order(paths):
    assert len(draw_hash(paths)) == 16
    assert (draw_hash(paths) == draw_hash(paths[::-1])) == (paths == paths[::-1])


@pytest.mark.parametrize("draw", [lambda *n: coop_draw([0], [], *n), lambda k, s: permutation_draw([0], k, 1, s)])
@pytest.mark.parametrize("shots", [0, -1, 1.0, True, None, "4"])
def test_shots_below_one_and_odd_types_are_refused(assert_refused, draw, shots):
    assert_refused(lambda: draw(shots, 1), "shots must be an int of at least 1", repr(shots))
    assert_refused(lambda: draw(1, 1.5), "seed must be an int", "1.5")


def test_permutation_draw_refuses_numbers_out_of_range(assert_refused):
    assert_refused(lambda: permutation_draw([0], 1, -1, 1), "val_per_class", "-1")
    assert_refused(lambda: permutation_draw([0], 1, 1, -1), "0..4294967295", "-1")
    assert_refused(lambda: permutation_draw([0], 1, 1, 2**32), "4294967296")
