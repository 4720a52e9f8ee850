import json
import threading

import pytest

from hyperadapt.evaluation import harmonic_mean
from hyperadapt.report.table import base_to_novel_rows, cells
from hyperadapt.results import identity, read_json, versions, write_json


def test_a_written_file_reads_back_and_leaves_no_scrap(tmp_path):
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"a": [1, 2.5, None], "ü": "é"})
    assert read_json(path) == {"a": [1, 2.5, None], "ü": "é"}
    assert [entry.name for entry in path.parent.iterdir()] == ["x.json"]


def test_a_failed_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"old": True})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert read_json(path) == {"old": True}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_a_reader_never_sees_a_part(tmp_path):
    path, stop, bad = tmp_path / "x.json", threading.Event(), []
    write_json(path, {"n": 0, "pad": "x" * 20000})

    def read():
        while not stop.is_set():
            try:
                json.loads(path.read_text())
            except ValueError as error:
                bad.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(60):
        write_json(path, {"n": n, "pad": "x" * 20000})
    stop.set()
    reader.join()
    assert not bad


def test_identity_does_not_depend_on_the_order_of_keys():
    assert identity({"a": 1, "b": {"c": 2, "d": 3}}) == identity({"b": {"d": 3, "c": 2}, "a": 1})
    assert identity({"a": 1}) != identity({"a": 1.5})


def test_versions_name_the_deciding_packages():
    found = versions()
    assert found["torch"][0].isdigit()
    assert found["open_clip_torch"][0].isdigit()


def record(method, seed, base, novel, **joint):
    counts = {"base": base, "novel": novel, **joint}
    return {
        "method": {"name": method},
        "shots": 16,
        "seed": seed,
        "counts": {half: dict(zip(("correct", "total"), pair, strict=True)) for half, pair in counts.items()},
        "seconds": {"train": 1.0, "test": 0.5},
        "trained_parameters": 1234,
        "flags": {
            "knows_split": method == "told",
            "sees_unlabelled_or_novel_data": method != "m",
            "novel_scored_by": "same weights, new names" if method == "m" else "zero-shot; known classes by name",
        },
    }


def test_the_table_averages_accuracies_and_takes_the_harmonic_mean_of_the_averages():
    records = [record("m", 1, (8, 10), (1, 4)), record("m", 2, (30, 50), (3, 4)), record("told", 1, (1, 2), (1, 2))]
    first, second = base_to_novel_rows(records)
    assert first.base == pytest.approx((0.8 + 0.6) / 2)
    assert first.novel == pytest.approx((0.25 + 0.75) / 2)
    assert first.harmonic == pytest.approx(2 * 0.7 * 0.5 / 1.2)
    assert first.base_spread == pytest.approx(0.02**0.5)
    assert (first.seeds, second.seeds, second.base_spread) == (2, 1, None)
    assert cells(first)[:5] == ("m", "16", "70.00 ± 14.14", "50.00 ± 35.36", "58.33")
    assert (cells(first)[-1], cells(second)[-1]) == ("", "transductive half frozen-novel")


def test_the_joint_mean_is_of_the_joint_counts_and_empty_without_them():
    joint = {"joint_base": (6, 10), "joint_novel": (3, 10)}
    first, second = base_to_novel_rows([record("m", 1, (8, 10), (5, 10), **joint), record("told", 1, (1, 2), (1, 2))])
    assert first.joint == pytest.approx(2 * 0.6 * 0.3 / 0.9)
    assert (cells(first)[5], cells(second)[5]) == ("40.00", "")


@pytest.mark.parametrize(("base", "novel"), [(0.0, 0.0), (0.0, 1.0), (0.3, 0.3), (0.2, 0.9)])
def test_the_harmonic_mean_lies_between_the_smaller_value_and_the_mean(base, novel):
    found = harmonic_mean(base, novel)
    assert min(base, novel) <= found + 1e-12
    assert found <= (base + novel) / 2 + 1e-12
    assert found == pytest.approx(harmonic_mean(novel, base))
