"""What is read off trained attributes: bridges by the stated rule, a tree with every category once."""

import json

import torch

from hyperadapt.adapters.lathadapter.hierarchy import Nodes
from hyperadapt.adapters.lathadapter.readout import NEAREST, Subject, read_attributes
from hyperadapt.bench import frozen_features
from hyperadapt.data import load_source
from hyperadapt.fit import FitSettings, fit_source
from hyperadapt.methods import load_method
from hyperadapt.text import ClassText
from manifolds import Euclidean


def scene():
    """Four categories in two corners, an attribute between the two of each corner, and one far from all."""
    categories = torch.tensor([[10.0, 0.0], [10.0, 2.0], [-10.0, 0.0], [-10.0, 2.0]])
    attributes = torch.tensor([[9.0, 1.0], [-9.0, 1.0], [0.0, 50.0]])
    labels = torch.tensor([0, 0, 1, 2, 3, 3])
    images = categories[labels] + 0.1 * torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    classes = ClassText(("ant", "bee", "cat", "dog"), categories[None], categories)
    nodes = Nodes(images, labels, categories, torch.arange(4), attributes)
    names = [f"image {i}" for i in range(6)]
    return Subject(Euclidean(), nodes, torch.nn.Identity(), attributes, classes, names)


def leaves(tree):
    if "children" not in tree:
        return [tree["category"]]
    return [name for child in tree["children"] for name in leaves(child)]


def test_an_attribute_joins_images_and_categories_that_it_lies_between():
    found = read_attributes(scene())["attributes"]
    joins = [[(each["category"], each["images"], len(each["names"])) for each in one["joins"]] for one in found[:2]]
    assert joins == [[("ant", 2, 2), ("bee", 1, 1)], [("dog", 2, 2), ("cat", 1, 1)]]
    assert {name for each in found[0]["joins"] for name in each["names"]} == {"image 0", "image 1", "image 2"}
    assert found[2]["joins"] == []
    assert {name for name, _ in found[0]["nearest_images"][:3]} == {"image 0", "image 1", "image 2"}
    assert all(len(each["nearest_classes"]) == min(NEAREST, 4) for each in found)
    assert found[0]["radius"] == round(2 * 82**0.5, 4)


def test_the_tree_holds_every_category_once_under_its_attribute():
    tree = read_attributes(scene())["tree"]
    assert sorted(leaves(tree)) == ["ant", "bee", "cat", "dog"]
    assert sorted(sorted(leaves(child)) for child in tree["children"]) == [["ant", "bee"], ["cat", "dog"]]
    assert tree["height"] == 2 * 18.0


def test_without_a_text_tower_there_are_no_words():
    assert not {"nearest_words", "nearest_phrases"} & set(read_attributes(scene())["attributes"][0])


def test_a_fit_writes_what_its_attributes_are(tmp_path):
    features = frozen_features(load_source(world="birds"), "tiny", "cpu", views=0)
    method = load_method("lathadapter-faithful")
    fit_source(features, method, FitSettings(1, 1, tmp_path))
    told = json.loads((tmp_path / "attributes.json").read_text())
    assert len(told["attributes"]) == method.adapter.settings.attributes
    assert sorted(leaves(told["tree"])) == sorted(features.source.class_names)
    first = told["attributes"][0]
    assert len(first["nearest_words"]) == method.adapter.settings.prompt_length
    assert len(first["nearest_phrases"]) == NEAREST
    assert sum(row["images"] for each in told["attributes"] for row in each["joins"]) == 40
    assert set(told["terms"]) == {"images and categories under attributes", "attributes under attributes"}
