import numpy as np
import pytest
from PIL import Image

from hyperadapt.data import ImageFolderSource, load_source, permutation_draw

SUFFIXES = ("jpg", "JPEG", "png", "bmp", "webp", "tif", "TIFF", "gif", "ppm")


def test_classes_and_files_are_sorted_and_names_readable(folder_tree):
    source = ImageFolderSource(folder_tree({"sea_horse": ["b.png", "a.png"], "Boeing-737": ["c.png", "d.png"]}))
    assert source.class_names == ("Boeing 737", "sea horse")
    assert source.ids == ("Boeing-737/c.png", "Boeing-737/d.png", "sea_horse/a.png", "sea_horse/b.png")
    assert (source.name, source.templates) == ("photos", ("a photo of a {}.",))


def test_every_common_suffix_is_an_image(folder_tree):
    files = [f"a.{suffix}" for suffix in SUFFIXES]
    source = ImageFolderSource(folder_tree({"cat": files, "dog": files}))
    assert len(source.ids) == 2 * len(SUFFIXES)
    assert all(source.image(row).mode == "RGB" for row in range(len(source.ids)))


def test_draw_is_the_permutation_draw_of_the_pool(folder_tree):
    source = ImageFolderSource(folder_tree({"cat": 9, "dog": 7}), val_per_class=2)
    draw = source.draw(shots=3, seed=5)
    expected = permutation_draw([0] * 9 + [1] * 7, shots=3, val_per_class=2, seed=5)
    assert [part.rows.tolist() for part in (draw.train, draw.val, draw.test)] == list(map(list, expected))
    assert np.bincount(draw.test.labels).tolist() == [4, 2]
    assert all(source.ids[row].startswith("dog") == (label == 1) for row, label in zip(*_all(draw), strict=True))
    assert source.draw(3, 6).train.rows.tolist() != draw.train.rows.tolist()


def _all(draw):
    parts = (draw.train, draw.val, draw.test)
    return np.concatenate([part.rows for part in parts]), np.concatenate([part.labels for part in parts])


def test_hidden_entries_are_passed_over_and_strays_are_said(folder_tree):
    root = folder_tree({"cat": ["a.png", ".b.png", "c.png"], "dog": 3, ".cache": 1})
    (root / "readme.txt").write_text("mine")
    (root / "dog" / "notes.md").write_text("his")
    (root / "dog" / "old.png").mkdir()
    source = ImageFolderSource(root)
    assert len(source.ids) == 5
    strays = [sentence for sentence in source.notices(1) if "passed over" in sentence]
    assert strays == ["3 entries that are no images were passed over (readme.txt, dog/notes.md, dog/old.png)"]


def test_notices_name_small_and_untested_classes(folder_tree, assert_refused):
    source = ImageFolderSource(folder_tree({"big": 21, "mid": 20, "tiny": 3}))
    small, untested = source.notices(16)
    assert small.startswith("2 classes have fewer than 21 images (tiny 3, mid 20), too few for 16 shots")
    assert untested.startswith("2 classes are left without a test image (tiny, mid)")
    draw = source.draw(16, 1)
    assert [np.bincount(part.labels, minlength=3).tolist() for part in (draw.train, draw.val, draw.test)] == [
        [16, 16, 2],
        [4, 4, 1],
        [1, 0, 0],
    ]
    assert len(source.notices(1)) == 2
    assert_refused(lambda: source.notices(0), "shots")
    assert_refused(lambda: source.draw(0, 1), "shots")


def test_an_exact_fit_needs_no_notice(folder_tree):
    assert ImageFolderSource(folder_tree({"cat": 21, "dog": 21})).notices(16) == ()


def test_folders_with_one_name_are_said(folder_tree):
    source = ImageFolderSource(folder_tree({"sea_horse": 9, "sea-horse": 9}))
    assert any("sea horse" in sentence and "tell these classes apart" in sentence for sentence in source.notices(1))


def test_draws_that_cannot_be_scored_are_refused(folder_tree, assert_refused):
    source = ImageFolderSource(folder_tree({"cat": 5, "dog": 4}))
    assert_refused(lambda: source.draw(16, 1), "16 shots", "nothing to test on", "5 images", "fewer shots")
    assert len(ImageFolderSource(source._root, val_per_class=0).draw(16, 1).test) == 2


def test_a_class_of_one_image_is_refused_by_name(folder_tree, assert_refused):
    assert_refused(
        lambda: ImageFolderSource(folder_tree({"cat": 9, "tram": 1})).draw(1, 1), "1 class", "(tram)", "one image"
    )


def test_folders_without_classes_are_refused(folder_tree, assert_refused, tmp_path, photo):
    assert_refused(lambda: ImageFolderSource(tmp_path / "nowhere"), "nowhere", "cannot list")
    photo(tmp_path / "flat" / "a.png")
    assert_refused(lambda: ImageFolderSource(tmp_path / "flat"), "no class folders", "folder of its own")
    root = folder_tree({"cat": 3})
    assert_refused(lambda: ImageFolderSource(root), "1 class;", "at least 2")
    (root / "dog").mkdir()
    (root / "dog" / "a.txt").write_text("")
    assert_refused(lambda: ImageFolderSource(root), "1 class folder", "(dog)", "remove the folder", "jpg")


def test_folders_one_level_too_high_are_pointed_at(folder_tree, assert_refused, tmp_path):
    root = folder_tree({"train/cat": 3, "train/dog": 3, "test/cat": 1, "test/dog": 1})
    assert_refused(lambda: ImageFolderSource(root), "2 class folders", "(test, train)", "give that folder")


def test_fingerprint_follows_the_file_list(folder_tree, photo):
    root = folder_tree({"cat": 3, "dog": 3})
    first = ImageFolderSource(root).fingerprint
    assert ImageFolderSource(root, val_per_class=1).fingerprint == first
    photo(root / "dog" / "x.png")
    assert ImageFolderSource(root).fingerprint != first


def test_images_are_those_of_the_files(folder_tree, photo):
    root = folder_tree({"cat": 2, "dog": 2})
    photo(root / "dog" / "000.png", color=(1, 2, 3))
    source = ImageFolderSource(root)
    image = source.image(source.ids.index("dog/000.png"))
    assert isinstance(image, Image.Image)
    assert image.getpixel((0, 0)) == (1, 2, 3)


@pytest.mark.shared_data
def test_real_aerial_photographs(shared):
    source = load_source(data=shared / "images" / "whurs19-128")
    assert isinstance(source, ImageFolderSource)
    assert (len(source.ids), len(source.class_names), source.notices(16)) == (1005, 19, ())
    draw = source.draw(16, 1)
    assert [len(part) for part in (draw.train, draw.val, draw.test)] == [304, 76, 625]
    assert source.image(0).size == (128, 128)
