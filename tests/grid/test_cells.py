"""Recipes become cells, each once, with names that do not change."""

from dataclasses import replace
from pathlib import Path

import pytest

from hyperadapt.errors import InputError
from hyperadapt.grid import Cell
from hyperadapt.protocols.registry import PROTOCOLS
from tests.grid.scenes import cells_of, write_grid


def test_a_grid_is_the_product_of_its_blocks(tmp_path):
    cells = cells_of(write_grid(tmp_path))
    assert len(cells) == 2 * 2 * 2 * 2
    assert {(cell.protocol, cell.method.name, cell.shots, cell.seed) for cell in cells} == {
        (protocol, method, shots, seed)
        for protocol in ("base-to-novel", "few-shot")
        for method in ("zero-shot", "fast")
        for shots in (1, 4)
        for seed in (1, 2)
    }


def test_a_block_overrides_what_all_share_and_a_cell_asked_for_twice_is_one(tmp_path):
    runs = [{"protocol": "few-shot", "shots": [4]}, {"protocol": "few-shot", "seeds": [1]}]
    cells = cells_of(write_grid(tmp_path, runs=runs, methods=["zero-shot"]))
    assert [(cell.shots, cell.seed) for cell in cells] == [(4, 1), (4, 2), (1, 1)]


def test_cells_of_one_data_set_follow_one_another(tmp_path):
    runs = [{"protocol": protocol, "data": ["world:birds", "world:fish"]} for protocol in ("few-shot", "base-to-novel")]
    sources = [cell.data for cell in cells_of(write_grid(tmp_path, runs=runs))]
    assert sources == ["world:birds"] * 16 + ["world:fish"] * 16


def test_controls_come_with_their_method_unless_left_out(tmp_path):
    def names(**changed):
        return {
            cell.method.name for cell in cells_of(write_grid(tmp_path, methods=["lathadapter-faithful"], **changed))
        }

    assert len(names()) > len(names(controls=False)) == 1
    assert all(name.startswith("lathadapter-faithful") for name in names())


def test_a_name_is_stable_and_changes_with_everything_that_decides_the_run(tmp_path):
    cell = cells_of(write_grid(tmp_path, methods=["zero-shot"]))[0]
    assert cell.name == "base-to-novel--features-set--zero-shot--1shot--seed1--9d846680"
    assert Cell.from_dict(cell.to_dict()) == cell
    fields = {
        "protocol": "few-shot", "data": "world:birds", "tests": ("world:fish",), "backbone": "ViT-B-16:openai",
        "views": 1, "threads": 2, "shots": 2, "seed": 3,
    }  # fmt: skip
    names = {replace(cell, **{field: value}).name for field, value in fields.items()}
    (other,) = {c.method for c in cells_of(write_grid(tmp_path, methods=["fast.yaml"]))}
    assert len(names | {cell.name, replace(cell, method=other).name}) == len(fields) + 2


def test_a_name_is_a_file_name(tmp_path):
    cell = cells_of(write_grid(tmp_path, data=["data:photos/of all/my birds@home"], methods=["zero-shot"]))[0]
    assert set(cell.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert cell.name.split("--")[2] == cell.method_part == "zero-shot"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"runs": None}, "the key runs"),
        ({"runs": ["few-shot"]}, "block 1 needs a mapping"),
        ({"wings": 2}, "no setting 'wings'"),
        ({"runs": [{"protocol": "zero"}]}, "takes one of 'base-to-novel'"),
        ({"data": ["birds"]}, "world:NAME, data:FOLDER or features:FOLDER, got 'birds'"),
        ({"methods": ["nothing"]}, "unknown method 'nothing'"),
        ({"seeds": []}, "has no cells"),
        ({"threads": 0}, "at least 1 thread"),
        ({"shots": 16}, "takes a list"),
    ],
)
def test_a_recipe_that_cannot_be_run_is_refused(change, complaint, tmp_path):
    with pytest.raises(InputError, match=complaint):
        cells_of(write_grid(tmp_path, **change))


def test_the_shipped_recipes_expand():
    folder = Path(__file__).resolve().parents[2] / "benchmarks" / "grids"
    counts = {path.stem: len(cells_of(path)) for path in sorted(folder.glob("*.yaml"))}
    assert counts.keys() == {"eleven", "feature-sets", "imagenet-features", "transfer", "world", "world-towers"}
    eleven = [cell for cell in cells_of(folder / "eleven.yaml") if cell.protocol == "few-shot"]
    assert len(eleven) == 11 * 3 * 5 * len({cell.method.name for cell in eleven})
    assert {cell.protocol for cell in cells_of(folder / "world.yaml")} == set(PROTOCOLS)
