"""Tables from result files: the papers' form, both HMs, published rows, what is missing, and every format."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import yaml

from hyperadapt.__main__ import main
from hyperadapt.errors import InputError
from hyperadapt.methods import load_method
from hyperadapt.report.details import detail_table
from hyperadapt.report.layout import FORMATS, MISSING, Section, Table, latex
from hyperadapt.report.papers import paper_tables
from hyperadapt.report.published import read_published
from hyperadapt.report.recalls import recall_tables
from hyperadapt.report.records import groups_of, read_records
from tests.grid.scenes import write_grid

PUBLISHED = Path(__file__).resolve().parents[2] / "benchmarks" / "published"


def write(folder, dataset, method, seed, protocol="base-to-novel", shots=16, told=False, settings=0, **counts):
    """A result file with what tables read."""
    record = {
        "protocol": protocol,
        "dataset": dataset,
        "backbone": "ViT-B-16:openai",
        "method": {"name": method, "summary": "", "settings": settings},
        "shots": shots,
        "seed": seed,
        "counts": {name: {"correct": correct, "total": total} for name, (correct, total) in counts.items()},
        "details": {
            name: {
                "by_class": {"correct": [correct, 0], "total": [total, 0]},
                "calibration": {"total": [total], "correct": [correct], "confidence": [correct + total / 10]},
            }
            for name, (correct, total) in counts.items()
        },
        "flags": {
            "knows_split": told,
            "sees_unlabelled_or_novel_data": False,
            "novel_scored_by": "zero-shot, by name" if told else "same weights, new names",
        },
    }
    if protocol == "cross-dataset":
        tests = [name for name in counts if name != dataset and not name.startswith("joint_")]
        record["test_sets"] = [{"dataset": name} for name in tests]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{len(list(folder.iterdir()))}.json").write_text(json.dumps(record))


def read_groups(place):
    return groups_of(read_records(place), place)


@pytest.fixture
def two_sets(tmp_path):
    """Two data sets, two seeds, a method that must be told the half and sat no joint exam."""
    folder = tmp_path / "results"
    for dataset, shift in (("EuroSAT", 0), ("UCF101", 20)):
        for seed in (1, 2):
            joint = {"joint_base": (30 + shift, 100), "joint_novel": (20 + shift, 100)}
            write(folder, dataset, "zero-shot", seed, base=(50 + shift, 100), novel=(60, 100), **joint)
            write(folder, dataset, "told", seed, told=True, base=(50 + shift + 10 * seed, 100), novel=(80, 200))
    return folder


def rows_of(table, title):
    (section,) = (section for section in table.sections if section.title == title)
    return {row[0]: dict(zip(table.header[1:], row[1:], strict=True)) for row in section.rows}


def test_base_to_novel_averages_accuracies_and_takes_the_harmonic_mean_of_them(two_sets):
    (table,) = paper_tables(read_groups(two_sets))
    assert table.title == "base-to-novel, ViT-B-16:openai, 16-shot"
    own = rows_of(table, "EuroSAT")["told"]
    assert (own["base"], own["novel"]) == ("65.00", "40.00")
    assert own["HM"] == f"{2 * 65 * 40 / 105:.2f}"
    assert own["mean of HMs"] == f"{(2 * 60 * 40 / 100 + 2 * 70 * 40 / 110) / 2:.2f}"
    average = rows_of(table, "average of 2 data sets")["told"]
    assert (average["base"], average["novel"]) == ("75.00", "40.00")
    assert average["HM"] == f"{2 * 75 * 40 / 115:.2f}"
    assert average["mean of HMs"] == f"{(2 * 65 * 40 / 105 + 2 * 85 * 40 / 125) / 2:.2f}"
    assert average["HM"] != average["mean of HMs"]
    assert rows_of(table, "UCF101")["zero-shot"]["joint HM"] == f"{2 * 50 * 40 / 90:.2f}"


def test_a_method_that_must_be_told_is_flagged_and_has_no_joint_figure(two_sets):
    (table,) = paper_tables(read_groups(two_sets))
    told, plain = (rows_of(table, "EuroSAT")[name] for name in ("told", "zero-shot"))
    assert (told["flags"], told["joint HM"]) == ("half frozen-novel", MISSING)
    assert plain["flags"] == ""
    assert any(note.startswith("half: the method must be told") for note in table.notes)


def test_missing_runs_are_shown_and_counted(two_sets):
    write(two_sets, "EuroSAT", "new", 1, base=(1, 2), novel=(1, 2))
    (group,) = read_groups(two_sets)
    assert (group.missing, group.total) == (3, 12)
    (table,) = paper_tables([group])
    assert rows_of(table, "EuroSAT")["new"]["seeds"] == "(1/2)"
    assert rows_of(table, "UCF101")["new"]["HM"] == MISSING
    assert rows_of(table, "average of 2 data sets")["new"]["base"] == MISSING
    assert rows_of(table, "average of 2 data sets")["new"]["seeds"] == "(1/4)"
    assert any("3 of 12 runs are missing" in note for note in table.notes)


def test_what_a_grid_plans_and_has_not_run_is_missing(tmp_path, capsys):
    path, out = write_grid(tmp_path, runs=[{"protocol": "few-shot"}]), tmp_path / "out"
    assert main(["bench", "grid", str(path), "--root", str(tmp_path), "--out", str(out), "--device", "cpu"]) == 0
    files = sorted((out / "cells").glob("*.json"))
    assert len(files) == 8
    (group,) = read_groups(out)
    assert (group.missing, group.shots, group.methods) == (0, [1, 4], ["zero-shot", "fast"])
    files[0].unlink()
    for file in (out / "cells").glob("*zero-shot*"):
        file.unlink()
    capsys.readouterr()
    assert main(["bench", "table", str(out)]) == 0
    shown = capsys.readouterr()
    assert "5 of 8 runs are missing" in shown.out
    assert "5 of 8 runs are missing" in shown.err
    assert f"| zero-shot | {MISSING} | {MISSING} | (0/4) |" in shown.out


def test_few_shot_has_a_column_for_each_number_of_shots(tmp_path):
    for shots, right in ((1, 40), (4, 60)):
        for seed in (1, 2):
            write(tmp_path, "EuroSAT", "m", seed, protocol="few-shot", shots=shots, all=(right + seed, 100))
    (table,) = paper_tables(read_groups(tmp_path))
    assert table.header == ("method", "1", "4", "seeds", "flags")
    assert rows_of(table, "EuroSAT")["m"] == {"1": "41.50", "4": "61.50", "seeds": "2", "flags": ""}


def test_transfer_averages_the_test_sets_and_their_joint_forms_without_the_training_source(tmp_path):
    counts = {"ImageNet": (90, 100), "Food101": (50, 100), "joint_Food101": (30, 100)}
    write(tmp_path, "ImageNet", "m", 1, "cross-dataset", **counts, DTD=(20, 100), joint_DTD=(10, 100))
    (table,) = paper_tables(read_groups(tmp_path))
    row = rows_of(table, "ImageNet, 16-shot")["m"]
    assert (row["trained on"], row["Food101"], row["average"], row["joint average"]) == (
        "90.00",
        "50.00",
        "35.00",
        "20.00",
    )


def test_published_rows_stand_beside_ours_with_their_source_where_everything_agrees(two_sets):
    published = read_published(PUBLISHED / "base-to-novel.yaml")
    (table,) = paper_tables(read_groups(two_sets), published)
    row = rows_of(table, "EuroSAT")["PromptKD †"]
    assert (row["base"], row["novel"], row["joint HM"]) == ("97.54", "82.08", MISSING)
    assert row["HM"] == f"{2 * 97.54 * 82.08 / (97.54 + 82.08):.2f}"
    assert row["flags"] == "teacher transductive per-set test-selected"
    average = rows_of(table, "average of 2 data sets")["CoOp †"]
    assert average["base"] == f"{(92.19 + 84.69) / 2:.2f}"
    assert any("† published; result tables" in note for note in table.notes)
    assert any(note.startswith("transductive: ") for note in table.notes)
    assert "CLIP-SVD †" not in rows_of(table, "average of 2 data sets"), "its average is over other data sets"
    other = [row for row in published if row.shots != 16]
    assert not other
    for file in two_sets.glob("*.json"):
        file.write_text(file.read_text().replace("ViT-B-16:openai", "RN50:openai"))
    (table,) = paper_tables(read_groups(two_sets), published)
    assert not any("†" in cell for section in table.sections for row in section.rows for cell in row)


def test_the_shipped_published_figures_have_the_averages_that_their_papers_print():
    rows = {row.method: row for row in read_published(PUBLISHED / "base-to-novel.yaml")}
    names = rows["CoOp"].averaged_over
    printed = {
        "zero-shot CLIP": (69.34, 74.22), "CoOp": (82.69, 63.22), "CoCoOp": (80.47, 71.69), "MaPLe": (82.28, 75.14),
        "PromptSRC": (84.26, 76.10), "PromptKD": (86.96, 80.73), "SkipTuning": (85.04, 77.53),
        "ProGrad": (82.48, 70.75),
    }  # fmt: skip
    for method, (base, novel) in printed.items():
        assert tuple(100 * value for value in rows[method].mean(names)) == pytest.approx((base, novel), abs=0.011)
    few = [row for row in read_published(PUBLISHED / "few-shot-rn50.yaml") if row.method == "Tip-Adapter-F"]
    assert 100 * few[0].mean(names)[0] == pytest.approx(75.83, abs=0.011)
    cross = {row.method: row for row in read_published(PUBLISHED / "cross-dataset.yaml")}
    targets = [name for name in names if name != "ImageNet"]
    for method, mean in {"CoOp": 63.88, "CoCoOp": 65.74, "MaPLe": 66.30, "HPT": 67.74, "PromptKD": 71.33}.items():
        assert 100 * cross[method].mean(targets)[0] == pytest.approx(mean, abs=0.011)


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_published_row_has_a_source(path):
    assert all(row.source and row.figures for row in read_published(path))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"figures": {"EuroSAT": 97.5}}, "needs base and novel in per cent"),
        ({"figures": {"EuroSAT": [97.5, 1000]}}, "needs base and novel in per cent"),
        ({"flags": ["huge"]}, "flags of transductive"),
        ({"source": " "}, "need a source"),
        ({"sauce": "x"}, "no setting 'sauce'"),
    ],
)
def test_published_figures_that_cannot_be_used_are_refused(change, complaint, tmp_path):
    row = {"method": "m", "source": "s", "figures": {"EuroSAT": [1, 2]}, **change}
    content = {"protocol": "base-to-novel", "backbone": "b", "shots": 16, "rows": [row]}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=complaint):
        read_published(tmp_path / "p.yaml")


def test_details_give_intervals_differences_class_means_and_calibration(two_sets):
    (group,) = read_groups(two_sets)
    table = detail_table(group, "zero-shot")
    rows = {
        (section.title, row[0], row[2]): dict(zip(table.header[3:], row[3:], strict=True))
        for section in table.sections
        for row in section.rows
    }
    told = rows["EuroSAT", "told", "base"]
    assert told["%"] == "65.00"
    low, high = (float(bound) for bound in told["95 % interval"].split(" to "))
    assert 50 < low < 65 < high < 80
    assert told["minus zero-shot"] == "+15.00"
    assert told["its error"] == "5.00"
    assert told["its interval"] == "+10.00 to +20.00"
    assert (told["class mean"], told["ECE"], told["seeds"]) == ("65.00", "10.00", "2")
    assert rows["average of 2 data sets", "told", "novel"]["minus zero-shot"] == "-20.00"
    assert rows["EuroSAT", "told", "joint HM"]["%"] == MISSING
    assert rows["EuroSAT", "zero-shot", "HM"]["minus zero-shot"] == MISSING
    assert "minus reference" in detail_table(group, "absent").header


def test_methods_of_one_name_with_other_settings_are_told_apart(two_sets):
    write(two_sets, "EuroSAT", "told", 1, settings=1, base=(1, 2), novel=(1, 2))
    (group,) = read_groups(two_sets)
    names = [name for name in group.methods if name.startswith("told (")]
    assert len(names) == 2
    assert "told" not in group.methods


def test_records_from_before_a_setting_existed_are_of_the_method_that_has_its_default(two_sets):
    """Of two files of ProLIP the older one lacks a setting that was added since; a third has another value."""
    now = load_method("prolip").to_dict()
    before = {**now, "training": {key: value for key, value in now["training"].items() if key != "epsilon"}}
    other = {**now, "training": {**now["training"], "epsilon": 1e-3}}
    for seed, method in enumerate((now, before, other), start=1):
        write(two_sets, "EuroSAT", "prolip", seed, base=(1, 2), novel=(1, 2))
        (path,) = (p for p in two_sets.iterdir() if json.loads(p.read_text())["method"]["name"] == "prolip")
        path.write_text(json.dumps({**json.loads(path.read_text()), "method": {**method, "name": "ours"}}))
    names = [record["method"]["name"] for record in read_records(two_sets) if "ours" in record["method"]["name"]]
    first, second, third = sorted(names, key=names.count, reverse=True)
    assert first == second != third


def test_two_results_of_one_run_are_refused(two_sets):
    shutil.copy(two_sets / "0.json", two_sets / "again.json")
    with pytest.raises(InputError, match="two results of zero-shot on EuroSAT, 16 shots, seed 1"):
        read_groups(two_sets)


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    assert main(["bench", "table", str(tmp_path)]) == 2
    assert "no result file" in capsys.readouterr().err


def test_every_format_holds_every_cell(two_sets):
    tables = paper_tables(read_groups(two_sets), read_published(PUBLISHED / "base-to-novel.yaml"))
    texts = {name: write(tables) for name, write in FORMATS.items()}
    read = list(csv.reader(io.StringIO(texts["csv"])))
    (table,) = tables
    expected = [[table.title, section.title, *row] for section in table.sections for row in section.rows]
    assert read == [["table", "section", *table.header], *expected]
    for row in (row for section in table.sections for row in section.rows):
        assert "| " + " | ".join(row) + " |" in texts["markdown"]
    assert texts["latex"].count(r" \\") == len(expected) + 1 + len(table.sections)


def test_latex_escapes_what_it_would_read_as_commands():
    table = Table("a_b & 95 %", ("x^2", "#"), (Section("{s}~", (("\\cite", "1_0 $"),)),), ("100 %",))
    text = latex([table])
    assert r"\caption{a\_b \& 95 \%}" in text
    assert r"x\textasciicircum{}2 & \# \\" in text
    assert r"\textit{\{s\}\textasciitilde{}}" in text
    assert r"\textbackslash{}cite & 1\_0 \$ \\" in text
    assert r"\par 100 \%" in text


def test_the_command_writes_a_file(two_sets, tmp_path, capsys):
    out = tmp_path / "table.csv"
    arguments = ["bench", "table", str(two_sets), "--format", "csv", "--out", str(out), "--no-details"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == ""
    assert out.read_text().startswith("table,section,method,base")


def test_a_collected_file_makes_the_tables_of_its_folder(two_sets, tmp_path, capsys):
    """Counts and settings survive; what a class did is left out, and the table says that it is missing."""
    file = tmp_path / "results.json"
    assert main(["bench", "collect", str(two_sets), "--out", str(file)]) == 0
    assert "8 runs" in capsys.readouterr().out
    of_folder, of_file = ([paper_tables([g])[0] for g in read_groups(place)] for place in (two_sets, file))
    assert of_file == of_folder
    detailed = detail_table(read_groups(file)[0], "zero-shot")
    assert all(row[-2:] == (MISSING, MISSING) for section in detailed.sections for row in section.rows)
    document = json.loads(file.read_text())
    assert len(document["shared"]["method"]) == 2
    assert "by_class" not in file.read_text()


def test_what_is_no_collected_file_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "other.json").write_text('{"runs": []}')
    assert main(["bench", "table", str(tmp_path / "other.json")]) == 2
    assert "no file of `hyperadapt bench collect`" in capsys.readouterr().err


def write_recall(folder, method, seed, hits, **changed):
    """A result file of retrieval whose recalls at 1 are `hits` of 50 and of 200."""
    keys = [f"{direction}@{k}" for direction in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
    totals = dict(zip(keys, [50] * 3 + [200] * 3, strict=True))
    recall = {key: {"hits": hits + 4 * i, "total": totals[key]} for i, key in enumerate(keys)}
    record = {
        "protocol": "retrieval",
        "dataset": "pairs",
        "backbone": "ViT-B-16:openai",
        "seed": seed,
        "recall": recall,
    }
    record["method"] = {"name": method, "summary": ""}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"pairs-{method}-{seed}-{len(list(folder.iterdir()))}.json").write_text(json.dumps({**record, **changed}))


def test_recall_is_the_mean_over_seeds_in_both_directions(tmp_path):
    for seed, hits in ((1, 10), (2, 20)):
        write_recall(tmp_path, "zero-shot", seed, hits)
    write_recall(tmp_path, "dcar", 1, 25)
    (table,) = recall_tables(read_records(tmp_path))
    rows = rows_of(table, "pairs")
    assert rows["zero-shot"]["i2t R@1"] == "30.00"  # 15 of 50
    assert rows["zero-shot"]["i2t R@10"] == "46.00"  # 23 of 50
    assert rows["zero-shot"]["t2i R@1"] == "13.50"  # 27 of 200
    assert (rows["zero-shot"]["seeds"], rows["dcar"]["seeds"]) == ("2", "1")


def test_retrieval_stands_beside_other_protocols_and_in_collected_files(two_sets, tmp_path, capsys):
    write_recall(two_sets, "zero-shot", 1, 10)
    assert main(["bench", "table", str(two_sets), "--no-details"]) == 0
    of_folder = capsys.readouterr().out
    assert "## base-to-novel" in of_folder
    assert "## retrieval, ViT-B-16:openai" in of_folder
    assert main(["bench", "collect", str(two_sets), "--out", str(tmp_path / "all.json")]) == 0
    capsys.readouterr()
    assert main(["bench", "table", str(tmp_path / "all.json"), "--no-details"]) == 0
    assert capsys.readouterr().out == of_folder


def test_two_results_of_one_retrieval_run_are_refused(tmp_path, capsys):
    write_recall(tmp_path, "zero-shot", 1, 10)
    write_recall(tmp_path, "zero-shot", 1, 10, views=4)
    assert main(["bench", "table", str(tmp_path)]) == 2
    assert "two results of retrieval with zero-shot on pairs, seed 1" in capsys.readouterr().err
