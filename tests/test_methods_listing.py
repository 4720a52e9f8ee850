"""What is listed of methods, and published numbers of parameters."""

from dataclasses import replace

import pytest
import torch

from hyperadapt import registry
from hyperadapt.adapters.base import BuildContext
from hyperadapt.methods import load_method, method_from_dict, named_methods
from hyperadapt.methods_listing import FEATURES, counted, facts_of_method, listed
from hyperadapt.text import ClassText

PUBLISHED = {
    ("clip-adapter", "ViT-B-16", 100): 0.13e6,
    ("clip-adapter", "RN50", 1000): 0.52e6,
    ("tip-adapter-f", "RN50", 1000): 16.4e6,
    ("graphadapter", "RN50", 1000): 4.145e6,
    ("taskres", "RN50", 1000): 1.024e6,
}
"""Trained values in the papers, by method, tower and number of classes, at 16 shots."""
WIDTHS = {"ViT-B-16": 512, "RN50": 1024}


def shapes(width, count, shots=16):
    templates = torch.zeros(1, count, width, device="meta")
    classes = ClassText(tuple(f"class {i}" for i in range(count)), templates, templates[0])
    return BuildContext(classes, width, None, 100.0, count * shots, (shots,) * count)


@pytest.mark.parametrize(("name", "tower", "count"), PUBLISHED)
def test_trained_parameters_are_the_published_ones(name, tower, count):
    found, _ = counted(load_method(name), shapes(WIDTHS[tower], count))
    assert found == pytest.approx(PUBLISHED[name, tower, count], rel=0.01)


def test_maple_trains_as_many_parameters_as_published():
    assert facts_of_method(load_method("maple")).parameters == pytest.approx(3.55e6, rel=0.002)


@pytest.mark.parametrize(
    ("name", "trained", "kept"),
    [
        ("zero-shot", 0, 0),
        ("clip-adapter-both", 2 * 2 * 512 * 128, 0),
        ("clap", 100 * 512, 100),
        ("linear-probe", 0, 100 * (512 + 2)),
        ("gda", 0, 100 * (512 + 2)),
        ("proker", 0, 1600 * 512 + 100 * 1600 + 1),
        ("tip-adapter-f", 1600 * 512, 2),
        ("sgva", 4 * 512 * 512 + 1, 1600 * 512),
        ("maple", 9 * (2 * 512 + 512 * 768 + 768), 0),
        ("promptsrc", 9 * 4 * (512 + 768), 0),
        ("ivlp", 9 * 4 * (512 + 768), 0),
        ("mf-adapter", 768 * 768, 1600 * 512 + 100 * 8 * 768),
        ("coop", 2048, 0),
        ("coop-class", 100 * 16 * 512, 0),
        ("kgcoop", 2048, 0),
        ("prograd", 2048, 0),
        ("cocoop", 35_360, 0),
        ("atprompt", (2 + 2 * 2) * 512, 0),
        ("tcp", 4 * 512 + (512 + 1) * 128 + (128 + 1) * 4 * 512, 0),
    ],
)
def test_parameters_are_those_of_the_shapes(name, trained, kept):
    facts = facts_of_method(load_method(name))
    assert (facts.parameters, facts.kept) == (trained, kept)


def test_kinds_tell_what_learns_through_a_tower_and_what_reads_positions():
    kinds = {
        name: facts_of_method(load_method(name)).kind for name in ("coop", "prolip", "attn-adapter", "xrvlm-paper")
    }
    assert kinds["coop"] == "through the towers"
    assert kinds["prolip"] == FEATURES
    assert kinds["attn-adapter"] == f"{FEATURES}; reads positions of images where there are some"
    assert kinds["xrvlm-paper"].startswith("through the towers; in feature space where")


def test_flags_are_listed_and_only_those_that_hold():
    assert facts_of_method(load_method("gda")).flags == (
        "chooses settings on validation images of the training classes",
    )
    assert facts_of_method(load_method("prolip")).flags == ()
    assert facts_of_method(load_method("xrvlm-paper")).flags == ("must be told which classes a test set holds",)
    assert "flags: chooses settings" in listed(load_method("tip-adapter"))[-1]


def test_what_sees_other_data_says_so(monkeypatch):
    known = registry.components()
    seeing = replace(known["prolip"], sees_unlabelled_or_novel_data=True)
    monkeypatch.setattr(registry, "components", lambda: {**known, "prolip": seeing})
    method = load_method("prolip")
    assert method.sees_unlabelled_or_novel_data
    assert facts_of_method(method).flags == ("sees unlabelled or novel data",)
    assert not load_method("taskres").sees_unlabelled_or_novel_data


def test_a_recipe_names_its_paper_where_a_component_has_another():
    assert "2412.09442" in listed(load_method("atprompt"))[0]
    assert "2109.01134" in listed(load_method("coop-class"))[0]
    assert method_from_dict(load_method("atprompt").to_dict()) == load_method("atprompt")


def test_what_starts_at_zero_shot_depends_on_the_settings_of_both_components():
    starts = {name: method.starts_at_zero_shot for name, method in named_methods().items()}
    assert starts["zero-shot"]
    assert starts["taskres"]
    assert not starts["zero-shot-template"]
    assert not starts["clip-adapter"]
    assert not starts["hyperbolic"]
