import json

import numpy as np
import pytest

from hyperadapt.data.pairs import Negative, load_pairs
from hyperadapt.data.pairs.world_pairs import CAPTIONS_EACH, NEGATIVES_EACH
from hyperadapt.data.world import FAMILIES
from hyperadapt.data.world.captions import captions_of, falsified
from hyperadapt.data.world.palette import SYNONYMS
from hyperadapt.errors import InputError
from tests.scenes import write_images

COLOUR = {word: colour for colour, words in SYNONYMS.items() for word in words}
LINES = [
    {"image": "ant/00.png", "caption": "an ant", "split": "train", "category": "ant", "negatives": ["a red ant"]},
    {"image": "ant/00.png", "caption": "one ant", "split": "train", "category": "ant"},
    {
        "image": "bee/01.png",
        "caption": "a bee",
        "category": "bee",
        "negatives": [{"caption": "a cat", "category": "cat"}],
    },
    {"image": "bee/02.png", "caption": "two bees", "split": "test", "category": "bee"},
]


def write_lines(folder, lines):
    write_images(folder)
    (folder / "captions.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return folder


def test_an_image_without_a_category_shares_none_with_what_is_false_of_it(tmp_path):
    lines = [{key: value for key, value in line.items() if key != "category"} for line in LINES]
    pairs = load_pairs(data=str(write_lines(tmp_path, [*lines[:3], LINES[3]])))
    assert pairs.categories.tolist()[:2] == [-1, -1]
    assert pairs.categories[2] >= 0
    assert not any(negative.same_category for own in pairs.negatives for negative in own)


@pytest.fixture(scope="module")
def birds():
    return load_pairs(world="birds")


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_falsified_caption_differs_in_one_word_that_says_another_thing(family):
    rng = np.random.default_rng(0)
    kinds = {kind: group for group in family.groups for kind in (group, *family.groups[group])}
    for label in range(len(family.fine)):
        for text in captions_of(family, "train", label, 0, 3):
            for of_kind in (True, False):
                false, other_kind = falsified(family, text, of_kind, rng)
                told = [kind for kind in kinds if kind in text.replace("a type of", "")]
                assert false != text
                assert other_kind or not of_kind
                assert other_kind == any(kind not in false for kind in told)
                if not other_kind:
                    old, new = _differing(text, false)
                    assert COLOUR.get(old, old) != COLOUR.get(new, new)


def _differing(one, other):
    pairs = [
        (a, b) for a, b in zip(one.replace("-", " ").split(), other.replace("-", " ").split(), strict=True) if a != b
    ]
    assert len(pairs) == 1
    return tuple(word.strip(".,") for word in pairs[0])


def test_the_captions_of_a_world_belong_to_its_pictures_and_galleries_hold_one_of_each_class(birds):
    test = birds.part("test")
    assert len(test) == CAPTIONS_EACH * len(test.rows) == 4000
    row = int(test.rows[137])
    _, slug, index = birds.source.ids[row].split("/")
    label = birds.source.labels[row]
    own = [birds.captions[i] for i in test.captions[test.image_of == 137]]
    assert own == list(captions_of(FAMILIES["birds"], "test", label, int(index), CAPTIONS_EACH))
    assert FAMILIES["birds"].fine[label].slug == slug
    for gallery in (0, 19):
        rows = test.rows[birds.galleries[test.rows] == gallery]
        assert sorted(birds.source.labels[rows]) == list(range(40))


def test_only_training_captions_have_negatives_and_half_of_these_keep_the_category(birds):
    train, test = birds.part("train"), birds.part("test")
    assert {len(birds.negatives[i]) for i in train.captions} == {NEGATIVES_EACH}
    assert {len(birds.negatives[i]) for i in test.captions} == {0}
    same = np.mean([negative.same_category for i in train.captions for negative in birds.negatives[i]])
    assert 0.45 < same < 0.5, "where no attribute is stated the kind is exchanged"
    assert not set(train.rows) & set(test.rows)


def test_equal_pairs_come_of_equal_names_and_shifted_worlds_have_the_same_captions(birds):
    assert load_pairs(world="birds").captions == birds.captions
    sketch = load_pairs(world="birds-sketch")
    assert sketch.captions == birds.captions
    assert sketch.fingerprint != birds.fingerprint


def test_a_captions_file_is_read_by_line(tmp_path):
    pairs = load_pairs(data=write_lines(tmp_path / "zoo", LINES))
    train, test = pairs.part("train"), pairs.part("test")
    assert (pairs.name, len(train.rows), len(train), len(test.rows), len(test)) == ("zoo", 1, 2, 2, 2)
    assert [pairs.captions[i] for i in test.captions] == ["a bee", "two bees"]
    assert test.image_of.tolist() == [0, 1]
    assert pairs.negatives == ((Negative("a red ant", True),), (), (Negative("a cat", False),), ())
    assert pairs.categories.tolist() == [0, 1, 1]
    assert pairs.source.image(int(train.rows[0])).size == (56, 48)
    with pytest.raises(InputError, match="no val pairs"):
        pairs.part("val")


def test_a_table_is_read_as_lines_are(tmp_path):
    folder = write_lines(tmp_path / "zoo", [])
    rows = ["image,caption,split,category"]
    rows += [f"{x['image']},{x['caption']},{x.get('split', '')},{x['category']}" for x in LINES]
    (folder / "table.csv").write_text("\n".join(rows))
    (tmp_path / "again").mkdir()
    plain = [{key: value for key, value in line.items() if key != "negatives"} for line in LINES]
    (folder / "captions.jsonl").write_text("\n".join(json.dumps(line) for line in plain))
    table, lines = load_pairs(data=folder / "table.csv"), load_pairs(data=folder)
    assert table.fingerprint == lines.fingerprint
    np.testing.assert_array_equal(table.image_of, lines.image_of)


BAD_LINES = {
    "no caption": ({"image": "ant/00.png"}, "line 5 needs image and caption"),
    "another split": ({"image": "ant/00.png", "caption": "x", "split": "dev"}, "train, val, test, got 'dev'"),
    "two splits": ({"image": "ant/00.png", "caption": "x", "category": "ant"}, "line 5: ant/00.png had another split"),
    "no image": ({"image": "ant/99.png", "caption": "x"}, "names the image ant/99.png"),
    "negatives": ({"image": "bee/03.png", "caption": "x", "negatives": [3]}, "negatives are a list"),
}


@pytest.mark.parametrize(("line", "message"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_named(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        load_pairs(data=write_lines(tmp_path / "zoo", [*LINES, line]))


def test_a_folder_without_captions_and_two_sources_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"captions\.jsonl"):
        load_pairs(data=tmp_path)
    with pytest.raises(InputError, match="exactly one"):
        load_pairs(data=tmp_path, world="birds")


def write_pair_features(folder, **changed):
    rng = np.random.default_rng(0)
    arrays = {"images": rng.normal(size=(4, 6)).astype(np.float32), "captions": rng.normal(size=(6, 6))}
    arrays |= {"image_of": np.array([0, 0, 1, 2, 3, 3]), "parts": np.array([0, 0, 2, 2])}
    arrays |= changed
    folder.mkdir(exist_ok=True)
    np.savez(folder / "features.npz", **{name: array for name, array in arrays.items() if array is not None})
    (folder / "meta.json").write_text(json.dumps({"backbone": "ViT-B-32", "pretrained": "openai"}))
    return folder


def test_features_of_pairs_are_read(tmp_path):
    pairs = load_pairs(features=write_pair_features(tmp_path / "set"))
    assert pairs.part("train").image_of.tolist() == [0, 0, 1]
    assert pairs.part("test").image_of.tolist() == [0, 1, 1]
    assert pairs.source.backbone == "ViT-B-32:openai"
    np.testing.assert_allclose(np.linalg.norm(pairs.source.captions, axis=1), 1, rtol=1e-6)
    assert len(load_pairs(features=write_pair_features(tmp_path / "set", parts=None)).part("test")) == 6


BAD_ARRAYS = {
    "an image that is not there": ({"image_of": np.array([0, 0, 1, 2, 3, 4])}, "integers in 0..3.*from 0 to 4"),
    "captions without images of theirs": ({"image_of": None}, "integers in 0..3"),
    "no captions": ({"captions": None}, "needs captions"),
    "two widths": ({"captions": np.ones((6, 5))}, "6 wide and captions 5"),
    "parts": ({"parts": np.array([0, 1])}, "parts in .* must hold 4 integers"),
}


@pytest.mark.parametrize(("changed", "message"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_features_that_do_not_fit_are_refused(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        load_pairs(features=write_pair_features(tmp_path / "set", **changed))
