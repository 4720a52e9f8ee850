import itertools
import re

import numpy as np
import open_clip
import pytest

from hyperadapt.data.world import FAMILIES, PER_CLASS, load_world, world_domains, world_names, world_pixels
from hyperadapt.data.world.captions import caption
from hyperadapt.data.world.palette import COLOURS, SYNONYMS
from hyperadapt.data.world.shapes import convex, marking
from hyperadapt.errors import InputError

ALL = [*world_names(), *world_domains("birds")]


@pytest.fixture(scope="module", params=world_names())
def family(request):
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def birds():
    return load_world("birds")


def test_five_data_sets_and_four_domains():
    assert len(world_names()) >= 5
    assert len(world_domains("birds")) >= 4
    assert len({load_world(name).fingerprint for name in ALL}) == len(ALL)


def test_class_count_and_unique_names_in_alphabetical_order(family):
    names = [fine.name for fine in family.fine]
    assert 24 <= len(names) <= 60
    assert names == sorted(set(names))
    assert len({fine.slug for fine in family.fine}) == len(names)


def test_classes_differ_pairwise_in_attributes_but_only_in_few_within_a_kind(family):
    for one, other in itertools.combinations(family.fine, 2):
        differing = [key for key in one.attributes if one.attributes[key] != other.attributes[key]]
        assert differing, (one.name, other.name)
    within = [
        sum(a.attributes[key] != b.attributes[key] for key in a.attributes)
        for a, b in itertools.combinations(family.fine, 2)
        if a.coarse == b.coarse
    ]
    assert np.mean(within) < len(family.fine[0].attributes) - 1


def test_taxonomy_has_three_levels(family):
    source = load_world(family.name)
    coarse = {source.taxonomy[name][0] for name in source.class_names}
    upper = {source.taxonomy[name][1] for name in source.class_names}
    assert len(source.class_names) > len(coarse) > len(upper) > 1
    parents = {(c, s) for c, s in source.taxonomy.values()}
    assert len(parents) == len(coarse), "a coarse kind belongs to one superordinate"


def test_attributes_state_the_kind_and_every_attribute_of_the_wording(family):
    source = load_world(family.name)
    for name in source.class_names:
        assert source.class_attributes[name]["kind"] == source.taxonomy[name][0]
        assert set(source.class_attributes[name]) == {"kind", *family.adjectives}


def test_the_adjectives_of_a_name_are_true(family):
    word_of = {word: colour for colour, words in SYNONYMS.items() for word in words}
    for fine in family.fine:
        for word in fine.name.split()[:-1]:
            colour, _, suffix = word.partition("-")
            for attribute, adjective in family.adjectives.items():
                if suffix and adjective == f"{{}}-{suffix}":
                    assert fine.attributes[attribute] == word_of.get(colour, colour), fine.name


def test_both_halves_hold_several_kinds_and_both_named_and_unnamed_classes(family):
    half = (len(family.fine) + 1) // 2
    for part in (family.fine[:half], family.fine[half:]):
        assert len({fine.coarse for fine in part}) >= 5
        assert 0.25 <= np.mean([fine.named for fine in part]) <= 0.75


def test_pool_order_and_ids(birds):
    parts = [row.split("/")[0] for row in birds.ids]
    classes = len(birds.class_names)
    assert [part for part, _ in itertools.groupby(parts)] == ["train", "val", "test"]
    assert {part: parts.count(part) for part in PER_CLASS} == {p: n * classes for p, n in PER_CLASS.items()}
    assert len(set(birds.ids)) == len(birds.ids)
    assert birds.ids[3] == f"train/{birds.class_names[0].replace(' ', '-')}/003"


def test_draws_repeat_are_disjoint_and_carry_the_right_labels(birds):
    one, two, other = birds.draw(4, 1), birds.draw(4, 1), birds.draw(4, 2)
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(one, part).rows, getattr(two, part).rows)
    assert set(one.train.rows.tolist()) != set(other.train.rows.tolist())
    np.testing.assert_array_equal(one.test.rows, other.test.rows)
    rows = np.concatenate([one.train.rows, one.val.rows, one.test.rows])
    assert len(set(rows.tolist())) == len(rows)
    for part in (one.train, one.val, one.test):
        slugs = [birds.ids[row].split("/")[1] for row in part.rows]
        assert slugs == [birds.class_names[label].replace(" ", "-") for label in part.labels]
    assert np.bincount(one.train.labels).tolist() == [4] * len(birds.class_names)


def test_notice_only_when_a_class_has_too_few_images(birds):
    assert birds.notices(PER_CLASS["train"]) == ()
    (sentence,) = birds.notices(PER_CLASS["train"] + 1)
    assert "24" in sentence
    assert len(birds.draw(PER_CLASS["train"] + 1, 1).train) == PER_CLASS["train"] * len(birds.class_names)


def test_images_depend_on_the_address_alone(birds):
    first = birds.pixels(5)
    birds.pixels(6)
    np.testing.assert_array_equal(first, load_world("birds").pixels(5))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert birds.image(5).mode == "RGB"


def test_images_of_a_class_vary(birds):
    pictures = [birds.pixels(row).astype(float) for row in range(6)]
    for one, other in itertools.combinations(pictures, 2):
        assert np.abs(one - other).mean() > 8


def test_no_data_set_image_is_a_pretraining_image(family):
    def drawn(split, indices):
        return {world_pixels(family, split, label, index).tobytes() for label in (0, 17) for index in indices}

    seen = drawn("pretrain", range(12))
    held = drawn("train", range(6)) | drawn("val", range(6)) | drawn("test", range(6))
    assert len(seen) == 24
    assert len(held) == 36
    assert not seen & held


def test_mean_colour_is_not_enough(birds):
    draw = birds.draw(8, 1)
    train = np.array([birds.pixels(int(r)).mean(axis=(0, 1)) for r in draw.train.rows])
    test_rows = draw.test.rows[::4]
    test = np.array([birds.pixels(int(r)).mean(axis=(0, 1)) for r in test_rows])
    centres = np.array([train[draw.train.labels == k].mean(axis=0) for k in range(len(birds.class_names))])
    guess = ((test[:, None] - centres) ** 2).sum(-1).argmin(1)
    assert (guess == draw.test.labels[::4]).mean() < 0.2


@pytest.mark.parametrize("name", world_domains("birds"))
def test_domains_change_the_pictures_and_keep_the_rest(birds, name):
    domain = load_world(name)
    assert domain.class_names == birds.class_names
    assert domain.ids == birds.ids
    np.testing.assert_array_equal(domain.draw(2, 1).test.labels, birds.draw(2, 1).test.labels)
    for row in (0, 1500, 2000):
        assert np.abs(domain.pixels(row).astype(float) - birds.pixels(row)).mean() > 0.5
        np.testing.assert_array_equal(domain.pixels(row), load_world(name).pixels(row))


def test_captions_fit_the_context_and_never_name_an_unnamed_class(family):
    rng = np.random.default_rng(0)
    tokenizer = open_clip.SimpleTokenizer(context_length=77)
    texts = [caption(family, label, rng) for label in range(len(family.fine)) for _ in range(12)]
    names = [template.format(fine.name) for template in load_world(family.name).templates for fine in family.fine]
    assert max(len(tokenizer.encode(text)) for text in [*texts, *names]) + 2 <= 32
    for fine in family.fine:
        mentions = [text for text in texts if re.search(rf"\b{re.escape(fine.name)}\b", text)]
        assert fine.named or not mentions
    assert any(fine.name in text for text in texts for fine in family.fine if fine.named)


def test_captions_are_true(family):
    words = {word: colour for colour, forms in SYNONYMS.items() for word in forms}
    rng = np.random.default_rng(1)
    for label, fine in enumerate(family.fine):
        for _ in range(6):
            text = caption(family, label, rng)
            for attribute, adjective in family.adjectives.items():
                stated = re.search(rf"([a-z]+)-{adjective.removeprefix('{}-')}\b", text) if "-" in adjective else None
                if stated:
                    assert words.get(stated[1], stated[1]) == fine.attributes[attribute], text


def test_unknown_names_and_rows_are_refused_in_one_line(birds):
    with pytest.raises(InputError, match="birds"):
        load_world("mammals")
    with pytest.raises(InputError, match="sketch"):
        load_world("birds-dream")
    with pytest.raises(InputError, match="2079"):
        birds.image(2080)


def test_shapes_refuse_what_they_cannot_draw():
    plane = np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match="corner"):
        convex(plane, plane, [])
    with pytest.raises(ValueError, match="dotted"):
        marking("dotted", plane, plane, 0.2, 0.0)
    assert marking("plain", plane, plane, 0.2, 0.0) is None
    assert set(COLOURS) == set(SYNONYMS)
