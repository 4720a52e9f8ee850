import copy
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from hyperadapt.classifier import FewShotClassifier
from hyperadapt.errors import InputError
from hyperadapt.hierarchy import class_tree
from hyperadapt.methods import load_method, method_from_dict, named_methods
from tests.conftest import build_clip, to_pixels

NAMES = ["red thing", "blue thing", "green thing"]
COLOURS = [(220, 30, 30), (30, 30, 220), (30, 220, 30)]


def short(name):
    data = load_method(name).to_dict()
    if data["training"]:
        data["training"]["steps"] = 12
    return method_from_dict(data)


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    labels = np.arange(9) % 3
    pixels = [np.clip(np.array(COLOURS[k]) + rng.normal(scale=25, size=(40, 36, 3)), 0, 255) for k in labels]
    return [Image.fromarray(p.astype(np.uint8)) for p in pixels], labels


@pytest.fixture
def model():
    return build_clip()


def fitted(model, tokenizer, photos, method="lathadapter", **settings):
    images, labels = photos
    classifier = FewShotClassifier(model, tokenizer, to_pixels, method=short(method), views=1, **settings)
    return classifier.fit(images, labels, NAMES)


@pytest.mark.parametrize("method", named_methods())
def test_logits_for_known_and_new_names(method, model, tokenizer, photos):
    classifier = fitted(model, tokenizer, photos, method)
    assert classifier.logits(photos[0]).shape == (9, 3)
    assert classifier.logits(photos[0], ["one", "two", "three", "four"]).shape == (9, 4)
    assert classifier.logits([]).shape == (0, 3)
    assert set(classifier.predict(photos[0])) <= set(NAMES)


@pytest.mark.parametrize("method", named_methods())
def test_nothing_of_the_callers_model_is_changed(method, model, tokenizer, photos):
    model.train()
    before = copy.deepcopy(model.state_dict())
    fitted(model, tokenizer, photos, method).logits(photos[0], ["x", "y"])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("method", named_methods())
def test_saved_and_read_back_it_answers_the_same(method, model, tokenizer, photos, tmp_path):
    classifier = fitted(model, tokenizer, photos, method, templates=["a photo of a {}.", "a drawing of a {}."])
    classifier.save_pretrained(tmp_path / "adapter")
    again = FewShotClassifier.from_pretrained(tmp_path / "adapter", model, tokenizer, to_pixels)
    for names in (None, ["x", "y"]):
        torch.testing.assert_close(
            again.logits(photos[0], names), classifier.logits(photos[0], names), atol=1e-5, rtol=1e-5
        )
    kinds = {path.suffix for path in (tmp_path / "adapter").iterdir()}
    assert kinds == {".json", ".safetensors"}


def test_with_a_tree_the_answer_is_the_name_of_least_expected_cost(model, tokenizer, photos):
    classifier = fitted(model, tokenizer, photos, "zero-shot")
    tree = class_tree([("all", "pair"), ("all", NAMES[2]), ("pair", NAMES[0]), ("pair", NAMES[1])], NAMES)
    odds = classifier.logits(photos[0]).double().softmax(dim=1).numpy()
    assert classifier.predict(photos[0], tree=tree) == [NAMES[k] for k in tree.expected_cost_decisions(odds)]
    with pytest.raises(InputError, match="a leaf for each of 3 names, got 2"):
        classifier.predict(photos[0], tree=tree.select([0, 1]))


def test_labels_may_be_names_and_images_may_be_paths(model, tokenizer, photos, tmp_path):
    images, labels = photos
    paths = []
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    by_name = FewShotClassifier(model, tokenizer, to_pixels, method=short("clip-adapter"), views=1)
    by_name.fit(paths, [NAMES[k] for k in labels], NAMES)
    assert torch.equal(by_name.logits(images), fitted(model, tokenizer, photos, "clip-adapter").logits(images))


@pytest.mark.parametrize(
    ("images", "labels", "names", "fragment"),
    [
        (9, [0] * 8, NAMES, "9 images and 8 labels"),
        (9, [0, 1, 2] * 2 + [0, 1, 3], NAMES, "'3'"),
        (9, ["red thing"] * 8 + ["pink thing"], NAMES, "pink thing"),
        (9, [0, 1] * 4 + [0], NAMES, "green thing"),
        (9, [0] * 9, ["one"], "at least 2"),
    ],
)
def test_what_cannot_be_fitted_is_one_clear_error(images, labels, names, fragment, model, tokenizer, photos):
    classifier = FewShotClassifier(model, tokenizer, to_pixels, method=short("clip-adapter"))
    with pytest.raises(InputError, match=fragment):
        classifier.fit(photos[0][:images], labels, names)


def test_an_unfitted_classifier_says_so(model, tokenizer, photos):
    with pytest.raises(InputError, match="fit"):
        FewShotClassifier(model, tokenizer, to_pixels).logits(photos[0])


def test_an_adapter_is_refused_by_other_weights(model, tokenizer, photos, tmp_path):
    fitted(model, tokenizer, photos).save_pretrained(tmp_path)
    other = build_clip()
    with torch.no_grad():
        other.logit_scale += 1
    with pytest.raises(InputError, match="other weights"):
        FewShotClassifier.from_pretrained(tmp_path, other, tokenizer, to_pixels)


def test_a_damaged_adapter_is_refused(model, tokenizer, photos, tmp_path):
    fitted(model, tokenizer, photos).save_pretrained(tmp_path / "good")
    fitted(model, tokenizer, photos, seed=2).save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "adapter.safetensors", tmp_path / "good")
    with pytest.raises(InputError, match="do not belong together"):
        FewShotClassifier.from_pretrained(tmp_path / "good", model, tokenizer, to_pixels)
    (tmp_path / "good" / "adapter.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(InputError, match="damaged"):
        FewShotClassifier.from_pretrained(tmp_path / "good", model, tokenizer, to_pixels)
    with pytest.raises(InputError, match="holds no saved adapter"):
        FewShotClassifier.from_pretrained(tmp_path / "nowhere", model, tokenizer, to_pixels)
