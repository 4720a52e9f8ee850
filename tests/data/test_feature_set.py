import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperadapt.data import FeatureSource, permutation_draw
from hyperadapt.data.feature_file import unit_rows
from hyperadapt.errors import InputError

SHOT_SETS = {"fgvc-aircraft-ViT-B-32": (3333, 3333), "caltech101-67-ViT-B-32": (1901, 268)}


def bad_row(shape, at, value):
    array = np.ones(shape, dtype=np.float16)
    array[at] = value
    return array


def test_rows_have_unit_norm_and_float32_whatever_was_stored(feature_folder):
    for dtype, scale in ((np.float16, 1), (np.float32, 1e-30), (np.float64, 1e200)):
        images = np.random.default_rng(3).normal(size=(18, 8))
        source = FeatureSource(feature_folder(arrays={"images": (images * scale).astype(dtype)}))
        got = source.features(range(18))
        assert got.dtype == source.texts.dtype == np.float32
        assert source.texts.shape == (3, 3, 8)
        np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=3e-7)
        np.testing.assert_allclose(np.linalg.norm(source.texts, axis=2), 1, atol=3e-7)
        expected = images / np.linalg.norm(images, axis=1, keepdims=True)
        np.testing.assert_allclose(got, expected, atol=1e-3 if dtype == np.float16 else 1e-7)


def test_features_are_a_copy_in_the_order_asked(feature_folder):
    source = FeatureSource(feature_folder())
    some = source.features(np.array([4, 2]))
    np.testing.assert_array_equal(some[1], source.features([2])[0])
    some[:] = 0
    assert np.linalg.norm(source.features([4])) > 0.9


def test_pool_draws_are_permutation_draws(feature_folder):
    source = FeatureSource(feature_folder())
    draw = source.draw(shots=3, seed=4)
    expected = permutation_draw([0, 1, 2] * 6, 3, 2, seed=4)
    assert [part.rows.tolist() for part in (draw.train, draw.val, draw.test)] == list(map(list, expected))
    assert draw.test.labels.tolist() == [0, 1, 2]
    assert source.notices(3) == ()
    assert "3 classes have fewer than 7 images (bus 6, kite, bird 6, tram 6)" in source.notices(4)[0]


def test_val_per_class_is_read_from_meta_and_defaults_to_four(feature_folder):
    assert len(FeatureSource(feature_folder(meta={"val_per_class": 0})).draw(1, 1).val) == 0
    assert len(FeatureSource(feature_folder(meta={"val_per_class": None})).draw(1, 1).val) == 12


def test_given_shots_are_used_for_every_seed(feature_folder):
    source = FeatureSource(feature_folder("shots"))
    draws = [source.draw(10, seed) for seed in (1, 2)]
    assert draws[0].train.rows.tolist() == draws[1].train.rows.tolist() == list(range(6, 36))
    assert source.draw(2, 1).train.rows.tolist() == list(range(6))
    assert draws[0].val.rows.tolist() == list(range(36, 42))
    assert draws[0].test.rows.tolist() == list(range(45, 51))
    assert draws[0].test.labels.tolist() == [0, 1, 2] * 2
    assert "same for every seed" in source.notices(10)[0]


def test_validation_takes_the_first_rows_of_each_class(feature_folder):
    labels = np.array([0, 0, 0, 1, 2, 1, 1, 2, 0], dtype=np.int16)
    source = FeatureSource(feature_folder("shots", arrays={"val_y": labels}))
    assert (source.draw(2, 1).val.rows - 36).tolist() == [0, 1, 3, 4, 5, 7]


def test_an_empty_validation_part_is_allowed(feature_folder):
    empty = {"val_x": np.ones((0, 8), dtype=np.float16), "val_y": np.ones(0, dtype=np.int16)}
    draw = FeatureSource(feature_folder("shots", arrays=empty)).draw(2, 1)
    assert (len(draw.val), draw.test.rows[0]) == (0, 36)


def test_given_shots_with_a_small_class_are_said(feature_folder):
    labels = np.array([0, 1, 2, 0, 1, 1], dtype=np.int16)
    source = FeatureSource(feature_folder("shots", arrays={"shot2_y": labels}))
    assert any("fewer than 2 training images (tram 1)" in sentence for sentence in source.notices(2))


def test_missing_shots_list_the_ones_at_hand(feature_folder, assert_refused):
    source = FeatureSource(feature_folder("shots"))
    assert_refused(lambda: source.draw(4, 1), "2, 10 shots", "got 4")
    assert_refused(lambda: source.notices(4), "2, 10 shots")
    assert_refused(lambda: source.draw(0, 1), "at least 1")


def test_class_text_is_the_average_template_or_the_mean(feature_folder):
    source = FeatureSource(feature_folder())
    np.testing.assert_array_equal(source.class_text(), source.texts[2])
    np.testing.assert_array_equal(source.class_text("the {}"), source.texts[1])
    plain = FeatureSource(feature_folder(meta={"templates": ["a {}", "the {}", "one {}"]}))
    mean = plain.texts.mean(0)
    np.testing.assert_allclose(plain.class_text(), mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)
    assert not np.allclose(plain.class_text(), plain.texts[2], atol=1e-2)


def test_unknown_template_is_refused(feature_folder, assert_refused):
    assert_refused(lambda: FeatureSource(feature_folder()).class_text("an {}"), "'an {}'", "it has 3", "'a {}'")


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [4]), (2, [2, 6]), (3, [1, 4, 7]), (9, list(range(9))), (50, list(range(9)))]
)
def test_text_parts_are_evenly_spaced_single_templates(feature_folder, count, chosen):
    texts = np.random.default_rng(0).normal(size=(10, 3, 8))
    names = [f"{at} {{}}" for at in range(9)]
    source = FeatureSource(feature_folder(arrays={"texts": texts}, meta={"templates": ["averageprompt", *names]}))
    np.testing.assert_array_equal(source.text_parts(count), source.texts[[1 + at for at in chosen]])


def test_text_parts_of_an_average_alone_and_of_no_parts(feature_folder, assert_refused):
    texts = np.random.default_rng(0).normal(size=(1, 3, 8))
    source = FeatureSource(feature_folder(arrays={"texts": texts}, meta={"templates": ["averageprompt"]}))
    np.testing.assert_array_equal(source.text_parts(4), source.texts)
    assert_refused(lambda: source.text_parts(0), "at least 1", "got 0")


def test_sets_without_text_say_so_only_when_text_is_asked_for(feature_folder, assert_refused):
    source = FeatureSource(feature_folder("shots"))
    assert not source.has_texts
    assert source.templates == ()
    for ask in (source.class_text, lambda: source.text_parts(2), lambda: source.texts):
        assert_refused(ask, "image features alone cannot name classes")


def test_settings_come_from_meta_or_defaults(feature_folder):
    plain = FeatureSource(feature_folder())
    assert (plain.backbone, plain.pretrained, plain.logit_scale) == ("unknown", "unknown", 100.0)
    given_meta = {"backbone": "ViT-B-32", "pretrained": "openai", "logit_scale": 50}
    source = FeatureSource(feature_folder(meta=given_meta))
    assert (source.backbone, source.pretrained, source.logit_scale) == ("ViT-B-32", "openai", 50.0)
    assert source.class_names[0] == "kite, bird"
    assert (source.name, source.width) == ("set", 8)


def test_names_without_images_are_said_and_left_out(feature_folder):
    source = FeatureSource(feature_folder(arrays={"labels": np.tile(np.array([0, 2], dtype=np.int16), 9)}))
    assert any("no image at all (bus)" in sentence for sentence in source.notices(1))
    assert set(source.draw(1, 1).train.labels.tolist()) == {0, 2}


def test_fingerprint_follows_arrays_and_names(feature_folder):
    first = FeatureSource(feature_folder()).fingerprint
    assert FeatureSource(feature_folder()).fingerprint == first
    changes = [
        {"arrays": {"labels": np.repeat(np.arange(3, dtype=np.int16), 6)}},
        {"arrays": {"images": np.ones((18, 8), dtype=np.float16)}},
        {"meta": {"classes": ["kite", "bus", "tram"]}},
        {"meta": {"templates": ["a {}", "the {}", "one {}"]}},
    ]
    prints = {FeatureSource(feature_folder(**change)).fingerprint for change in changes}
    assert len(prints | {first}) == 5


@pytest.mark.parametrize(
    ("arrays", "fragments"),
    [
        ({"images": bad_row((18, 8), (5, 3), np.nan)}, ["images: row 5", "NaN"]),
        ({"images": bad_row((18, 8), (17, 0), np.inf)}, ["images: row 17", "inf"]),
        ({"images": bad_row((18, 8), 2, 0)}, ["images: row 2", "all zero"]),
        ({"texts": bad_row((3, 3, 8), (1, 2, 0), np.nan)}, ["texts: row 1, 2", "NaN"]),
        ({"texts": np.ones((3, 3, 6))}, ["texts have width 6", "images have width 8"]),
        ({"texts": np.ones((3, 4, 8))}, ["(3, 3, 8)", "(3, 4, 8)"]),
        ({"texts": np.ones((2, 3, 8))}, ["(3, 3, 8)", "(2, 3, 8)"]),
        ({"texts": np.ones((3, 8))}, ["(3, 8)"]),
        ({"texts": np.ones((3, 3, 8), dtype=np.int8)}, ["texts", "floating-point", "int8"]),
        ({"images": np.ones((18, 8), dtype=np.int64)}, ["images", "floating-point", "int64"]),
        ({"images": np.ones((18, 8), dtype=complex)}, ["images", "complex128"]),
        ({"images": np.ones((18, 2, 4))}, ["images", "(rows, width)", "(18, 2, 4)"]),
        ({"images": np.ones((18, 0))}, ["images", "(18, 0)"]),
        ({"images": np.ones((0, 8)), "labels": np.ones(0, dtype=int)}, ["images", "(0, 8)"]),
        ({"labels": np.zeros(17, dtype=int)}, ["labels", "18 feature rows", "(17,)"]),
        ({"labels": np.zeros((18, 1), dtype=int)}, ["labels", "(18, 1)"]),
        ({"labels": np.zeros(18)}, ["labels", "integer", "float64"]),
        ({"labels": np.eye(1, 18, 7, dtype=int)[0] * 3}, ["labels: row 7", "label 3", "3 classes"]),
        ({"labels": -np.eye(1, 18, 7, dtype=int)[0]}, ["labels: row 7", "label -1"]),
        ({"labels": None}, ["lacks labels", "images, texts"]),
        ({"images": None}, ["either images and labels", "labels, texts"]),
        ({"shot1_x": np.ones((3, 8))}, ["either images and labels", "shot1_x"]),
    ],
)
def test_arrays_at_odds_are_refused(feature_folder, assert_refused, arrays, fragments):
    assert_refused(lambda: FeatureSource(feature_folder(arrays=arrays)), *fragments)


def test_a_bad_row_far_down_a_large_array_is_found(assert_refused):
    assert_refused(lambda: unit_rows(bad_row((2000, 2), 1900, np.nan), "images"), "images: row 1900 ")


@pytest.mark.parametrize(
    ("arrays", "fragments"),
    [
        ({"val_x": None}, ["lacks val_x"]),
        ({"test_y": None, "shot2_y": None}, ["lacks shot2_y, test_y"]),
        ({"val_x": np.ones((9, 7))}, ["val_x has width 7", "shot2_x has width 8"]),
        ({"test_x": np.ones((0, 8)), "test_y": np.ones(0, dtype=int)}, ["test_x", "(0, 8)"]),
        ({"shot10_x": bad_row((30, 8), (29, 1), np.nan)}, ["shot10_x: row 29"]),
        ({"shot2_y": np.full(6, 9)}, ["shot2_y: row 0", "label 9"]),
    ],
)
def test_given_shots_at_odds_are_refused(feature_folder, assert_refused, arrays, fragments):
    assert_refused(lambda: FeatureSource(feature_folder("shots", arrays=arrays)), *fragments)


@pytest.mark.parametrize(
    ("meta", "fragments"),
    [
        ({"classes": None}, ["classes", "got nothing"]),
        ({"classes": "kite"}, ["classes", "'kite'"]),
        ({"classes": ["kite", 3, "tram"]}, ["classes", "non-empty strings"]),
        ({"classes": ["kite", " ", "tram"]}, ["classes", "non-empty strings"]),
        ({"classes": ["kite"]}, ["1 class;", "at least 2"]),
        ({"classes": ["kite", "bus"]}, ["label 2", "2 classes"]),
        ({"templates": None}, ["templates", "got nothing"]),
        ({"templates": ["a {}"]}, ["(1, 3, 8)", "(3, 3, 8)"]),
        ({"logit_scale": 0}, ["logit_scale", "float", "got 0"]),
        ({"logit_scale": "100"}, ["logit_scale", "'100'"]),
        ({"logit_scale": float("nan")}, ["logit_scale", "nan"]),
        ({"logit_scale": 10**400}, ["logit_scale"]),
        ({"val_per_class": -1}, ["val_per_class", "-1"]),
        ({"val_per_class": True}, ["val_per_class", "True"]),
        ({"val_per_class": 2.5}, ["val_per_class", "2.5"]),
        ({"backbone": 5}, ["backbone", "str", "5"]),
    ],
)
def test_meta_at_odds_is_refused(feature_folder, assert_refused, meta, fragments):
    assert_refused(lambda: FeatureSource(feature_folder(meta=meta)), *fragments)


def test_missing_files_are_named(feature_folder, assert_refused, tmp_path):
    assert_refused(lambda: FeatureSource(tmp_path / "nowhere"), "no feature folder", "nowhere")
    for name in ("features.npz", "meta.json"):
        root = feature_folder()
        (root / name).unlink()
        assert_refused(lambda root=root: FeatureSource(root), f"no {name}", str(root))


@pytest.mark.parametrize("text", ["", "{", "\xff", "[1]", '"a"', "[" * 100_000])
def test_meta_that_is_no_json_object_is_refused(feature_folder, assert_refused, text):
    root = feature_folder()
    (root / "meta.json").write_bytes(text.encode("latin-1"))
    assert_refused(lambda: FeatureSource(root), "meta.json", "JSON")


def test_broken_archives_are_refused(feature_folder, assert_refused):
    root = feature_folder()
    file = root / "features.npz"
    content = file.read_bytes()
    single, other, pickled = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(single, np.ones(3))
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("images.npy", "no array")
    np.savez(pickled, images=np.array([{"a": 1}], dtype=object), labels=np.zeros(1, dtype=int))
    for broken in (b"", b"text", content[:500], content[:-30], single.getvalue(), pickled.getvalue()):
        file.write_bytes(broken)
        assert_refused(lambda: FeatureSource(root), "cannot read", "features.npz", "npz file of plain arrays")
    file.write_bytes(single.getvalue())
    assert_refused(lambda: FeatureSource(root), "a single array")
    file.write_bytes(other.getvalue())
    assert_refused(lambda: FeatureSource(root), "features.npz")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_set_or_one_refusal(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    np.savez_compressed(root / "features.npz", images=rng.normal(size=(6, 4)), labels=np.arange(6) % 2)
    (root / "meta.json").write_text('{"classes": ["a", "b"]}')
    content = bytearray((root / "features.npz").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (root / "features.npz").write_bytes(bytes(content))
    try:
        outcome = FeatureSource(root).features([0, 5])
    except InputError as error:
        outcome = str(error)
    assert "\n" not in outcome if isinstance(outcome, str) else np.isfinite(outcome).all()


def accuracy(source, rows, labels):
    return (np.argmax(source.features(rows) @ source.class_text().T, axis=1) == labels).mean()


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "published"),
    [("whurs19-RN50", 71.5), ("whurs19-ViT-B-32", 81.3), ("whurs19-ViT-L-14", 85.5), ("imagenet1k-ViT-B-32", 61.1)],
)
def test_zero_shot_over_all_rows_is_as_published(shared, name, published):
    source = FeatureSource(shared / "features" / name)
    draw = source.draw(1, 1)
    parts = (draw.train, draw.val, draw.test)
    rows, labels = (np.concatenate([getattr(part, key) for part in parts]) for key in ("rows", "labels"))
    assert sorted(rows) == list(range(len(rows)))
    assert 100 * accuracy(source, rows, labels) == pytest.approx(published, abs=0.06)


@pytest.mark.shared_data
def test_the_average_template_is_the_mean_over_the_others(shared):
    source = FeatureSource(shared / "features" / "whurs19-ViT-B-32")
    parts = source.text_parts(1000)
    assert len(parts) == 106
    mean = parts.mean(0)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    assert (mean * source.class_text()).sum(1).min() > 0.99999


@pytest.mark.shared_data
def test_zero_shot_on_the_given_test_part_is_as_published(shared):
    source = FeatureSource(shared / "features" / "caltech101-67-ViT-B-32")
    test = source.draw(16, 1).test
    assert 100 * accuracy(source, test.rows, test.labels) == pytest.approx(94.2, abs=0.06)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", SHOT_SETS)
def test_real_sets_with_given_shots(shared, name, assert_refused):
    source = FeatureSource(shared / "features" / name)
    classes = len(source.class_names)
    for shots in (1, 2, 4, 8, 16):
        draw = source.draw(shots, 1)
        assert np.bincount(draw.train.labels).tolist() == [shots] * classes
        assert len(draw.test) == SHOT_SETS[name][0]
    if not source.has_texts:
        assert_refused(source.class_text, "image features alone cannot name classes")


@pytest.mark.shared_data
def test_imagenet_cut_is_that_of_its_notes(shared):
    source = FeatureSource(shared / "features" / "imagenet1k-ViT-B-32")
    draw = source.draw(4, 1)
    assert [len(part) for part in (draw.train, draw.val, draw.test)] == [3999, 0, 2987]
    assert any("crane" in sentence for sentence in source.notices(4))


@pytest.mark.shared_data
def test_pairs_without_labels_are_refused(shared, assert_refused):
    assert_refused(lambda: FeatureSource(shared / "features" / "coco500-pairs-ViT-B-16"), "classes")
