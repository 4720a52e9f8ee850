import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from hyperadapt.config import from_dict, read_yaml, to_dict
from hyperadapt.errors import InputError
from hyperadapt.methods import load_method, method_from_dict, named_methods
from hyperadapt.registry import component, components, register

SPACES = Path(__file__).resolve().parents[1] / "benchmarks" / "spaces"


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    count: int = 1
    mode: Literal["a", "b"] = "a"
    flag: bool = False
    limit: float | None = None
    names: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    "value",
    [Outer(), Outer(3, "b", True, 2.0, ("x", "y"), Inner(0.25))],
)
def test_plain_data_and_back_is_the_same_configuration(value):
    assert from_dict(Outer, to_dict(value)) == value


def test_an_integer_is_taken_where_a_real_number_is_wanted():
    assert from_dict(Outer, {"limit": 2, "inner": {"rate": 1}}) == Outer(limit=2.0, inner=Inner(1.0))


@pytest.mark.parametrize(
    ("data", "fragments"),
    [
        ({"cuont": 1}, ["Outer", "cuont", "count, mode"]),
        ({"count": "three"}, ["Outer.count", "int", "three"]),
        ({"count": True}, ["Outer.count", "True"]),
        ({"flag": 1}, ["Outer.flag", "bool"]),
        ({"mode": "c"}, ["Outer.mode", "'a', 'b'", "'c'"]),
        ({"names": "x"}, ["Outer.names", "list"]),
        ({"inner": {"rats": 1}}, ["Outer.inner", "rats"]),
        ({"inner": 3}, ["Outer.inner", "mapping"]),
    ],
)
def test_what_does_not_fit_is_one_error_that_names_the_place(data, fragments):
    with pytest.raises(InputError) as caught:
        from_dict(Outer, data)
    assert all(fragment in str(caught.value) for fragment in fragments)


@pytest.mark.parametrize("name", named_methods())
def test_a_method_written_out_reads_back_as_itself(name):
    method = load_method(name)
    assert method_from_dict(method.to_dict()) == method


def test_a_recipe_file_overrides_only_what_it_names(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\nadapter: {type: lathadapter, attributes: 8}\ntraining: {epochs: 3}\n")
    method, plain = load_method(str(recipe)), load_method("lathadapter-faithful")
    assert method.name == "mine"
    assert method.adapter.settings.attributes == 8
    assert method.adapter.settings.curvature == plain.adapter.settings.curvature
    assert method.training.epochs == 3
    assert method.training.learning_rate == plain.training.learning_rate


def test_an_adapter_and_a_head_compose_in_a_recipe():
    method = method_from_dict({"name": "both", "adapter": {"type": "lathadapter"}, "head": {"type": "xrvlm"}})
    assert method.knows_split
    assert method.training == component("xrvlm").training


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("name: x\nadapter: {type: nothing}", ["nothing", "clip-adapter"]),
        ("name: x\nadaptor: {}", ["adaptor"]),
        ("adapter: {}", ["name"]),
        ("name: x\nadapter: {type: lathadapter, curvature: -1.0}", ["clip_radius > 0", "curvature -1.0", "euclidean"]),
        ("name: [", ["not valid YAML"]),
        ("- a", ["mapping"]),
    ],
)
def test_a_recipe_that_cannot_be_used_is_one_clear_error(tmp_path, text, fragments):
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(text)
    with pytest.raises(InputError) as caught:
        load_method(str(recipe))
    assert all(fragment in str(caught.value) for fragment in fragments)
    assert "\n" not in str(caught.value)


def test_yaml_cannot_run_code(tmp_path):
    recipe = tmp_path / "evil.yaml"
    recipe.write_text("name: !!python/object/apply:os.getcwd []")
    with pytest.raises(InputError, match="not valid YAML"):
        read_yaml(recipe)


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(InputError) as caught:
        load_method("latadapter")
    assert all(name in str(caught.value) for name in named_methods())


def test_a_name_is_registered_once():
    taken = next(iter(components()))
    with pytest.raises(ValueError, match=taken):
        register(taken, "head", Outer, summary="", source="")(type("Again", (), {}))


def test_the_faithful_recipe_is_the_adapter_as_it_stands():
    bare = method_from_dict({"name": "bare", "adapter": {"type": "lathadapter"}})
    faithful = load_method("lathadapter-faithful")
    assert (faithful.adapter, faithful.head, faithful.training) == (bare.adapter, bare.head, bare.training)


@pytest.mark.parametrize(
    "name", ["tip-adapter-f", "prolip", "clap", "sgva", "taskres", "hegraphadapter", "attn-adapter", "mf-adapter"]
)
def test_a_rival_has_the_settings_that_its_ladder_ended_with(name):
    ladder = json.loads((SPACES / f"{name}.ladder.json").read_text())
    found = json.loads(json.dumps(load_method(name).to_dict()))
    for part in ("adapter", "head", "training"):
        assert found[part] == ladder["recipe"][part]


def test_the_default_recipe_is_what_its_ladder_ended_with():
    ladder = json.loads((SPACES / "lathadapter-reach.ladder.json").read_text())
    found = json.loads(json.dumps(load_method("lathadapter").to_dict()))
    for part in ("adapter", "head", "training"):
        assert found[part] == ladder["recipe"][part]
    before = json.loads((SPACES / "lathadapter.ladder.json").read_text())["recipe"]
    start = json.loads(json.dumps(method_from_dict(ladder["start"]).to_dict()))
    for part in ("adapter", "head", "training"):
        assert start[part].items() >= before[part].items()
