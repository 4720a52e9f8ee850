import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hyperadapt.backbone import ImageFeatures, load_backbone
from hyperadapt.data import ImageFolderSource
from hyperadapt.data.world import load_world
from hyperadapt.feature_store import FeatureStore, ShardWriter, default_root
from hyperadapt.features import TowerFeatures
from hyperadapt.parts import PartFeatures
from tests.conftest import build_clip, to_pixels
from tests.scenes import write_images

ROWS = np.array([3, 20, 7, 30, 12])


@pytest.fixture
def source(tmp_path):
    return ImageFolderSource(write_images(tmp_path / "photos"))


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


class Tower:
    """A fresh backbone that counts the images passing its tower and being decoded."""

    def __init__(self, tokenizer, source, **model):
        self.model = build_clip(**model)
        self.backbone = load_backbone(self.model, tokenizer=tokenizer, preprocess=to_pixels)
        self.passed, self.decoded = [], []
        self.backbone.model.visual.register_forward_hook(lambda _m, inputs, _o: self.passed.append(len(inputs[0])))
        plain = source.image
        source.image = lambda row: self.decoded.append(row) or plain(row)
        self.source = source


def look(source, backbone, store, with_parts=True, **settings):
    """What a run asks for: evaluation features, then training views."""
    features = TowerFeatures(source, backbone, views=2, keep_parts=with_parts, store=store, **settings)
    features.encode_missing(np.arange(20), training=[(ROWS, 1)])
    return features.training_views(ROWS, seed=1, with_parts=with_parts), next(iter(features.batches(ROWS, with_parts)))


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.pooled, other.pooled)
        assert (one.parts is None) == (other.parts is None)
        if one.parts is not None:
            assert torch.equal(one.parts.maps, other.parts.maps)
            assert torch.equal(one.parts.content, other.parts.content)


@pytest.mark.parametrize("with_parts", [False, True])
def test_a_second_run_never_runs_the_tower_and_gets_equal_features(source, store, tokenizer, with_parts):
    first = look(source, Tower(tokenizer, source).backbone, store, with_parts)
    again = Tower(tokenizer, ImageFolderSource(source._root))
    second = look(again.source, again.backbone, FeatureStore(store.root), with_parts)
    assert again.passed == again.decoded == []
    assert_same(first, second)


def test_drawn_worlds_are_stored_too(store, tokenizer):
    first = look(load_world("fish"), Tower(tokenizer, load_world("fish")).backbone, store)
    again = Tower(tokenizer, load_world("fish"))
    assert_same(first, look(again.source, again.backbone, store))
    assert again.passed == again.decoded == []
    other = Tower(tokenizer, load_world("fish-sketch"))
    look(other.source, other.backbone, store)
    assert sorted(set(other.decoded)) == sorted({*range(20), *ROWS.tolist()})


def test_without_a_store_nothing_is_written(source, tokenizer, cache_folder):
    before = sorted(cache_folder.rglob("*"))
    look(source, Tower(tokenizer, source).backbone, None)
    assert sorted(cache_folder.rglob("*")) == before


def test_a_later_run_makes_only_what_is_missing(source, store, tokenizer):
    backbone = Tower(tokenizer, source).backbone
    TowerFeatures(source, backbone, store=store).encode_missing(np.array([4, 5, 6]))
    later = Tower(tokenizer, source)
    features = TowerFeatures(source, later.backbone, store=store)
    features.encode_missing(np.array([6, 7, 4, 8, 5]))
    assert sorted(later.decoded) == [7, 8]
    assert sum(later.passed) == 2


def test_parts_wanted_later_than_pooled_features_are_added(source, store, tokenizer):
    look(source, Tower(tokenizer, source).backbone, store, with_parts=False)
    second = Tower(tokenizer, source)
    first = look(source, second.backbone, store)
    assert sum(second.passed) == 3 * len(ROWS)
    third = Tower(tokenizer, source)
    assert_same(first, look(source, third.backbone, store))
    assert third.passed == []


def test_a_changed_file_is_encoded_anew_and_the_others_are_not(source, store, tokenizer):
    backbone = Tower(tokenizer, source).backbone
    before = look(source, backbone, store)[1]
    path = source._root / source.ids[7]
    Image.new("RGB", (48, 48), "red").save(path)
    os.utime(path, ns=(1, 1))
    again = Tower(tokenizer, ImageFolderSource(source._root))
    after = look(again.source, again.backbone, store)[1]
    assert set(again.decoded) == {7}
    changed = (after.pooled != before.pooled).any(dim=1)
    assert changed.tolist() == [row == 7 for row in ROWS]


def test_a_random_view_is_found_only_at_the_row_that_seeds_it(source, store, tokenizer):
    """Another file before them moves all rows by one; evaluation views stay, random ones are other crops now."""
    backbone = Tower(tokenizer, source).backbone
    look(source, backbone, store)
    Image.new("RGB", (48, 48), "red").save(source._root / "ant" / "00-first.png")
    moved = ImageFolderSource(source._root)
    assert moved.ids[ROWS[1] + 1] == source.ids[ROWS[1]]
    assert_made_anew(moved, backbone, store, ROWS + 1, seed=1)


def test_a_random_view_is_found_only_with_its_seed(source, store, tokenizer):
    backbone = Tower(tokenizer, source).backbone
    look(source, backbone, store)
    assert_made_anew(source, backbone, store, ROWS, seed=2)


def assert_made_anew(source, backbone, store, rows, seed):
    """Stored features stand for evaluation views alone, and random views are what they are without a store."""
    stored, plain = (TowerFeatures(source, backbone, views=2, store=place) for place in (store, None))
    before = len(list(store.root.rglob("*.json")))
    got, expected = (f.training_views(rows, seed, with_parts=False).pooled for f in (stored, plain))
    torch.testing.assert_close(got, expected)
    assert len(list(store.root.rglob("*.json"))) == before + 1


def noisy(image):
    return to_pixels(image) + 0.1 * torch.rand(1)


def test_a_preprocessing_with_chance_in_it_is_never_stored(source, store, tokenizer):
    backbone = load_backbone(build_clip(), tokenizer=tokenizer, preprocess=noisy)
    TowerFeatures(source, backbone, store=store).encode_missing(ROWS)
    assert not store.root.exists()


def test_images_that_nothing_identifies_are_never_stored(source, store, tokenizer):
    source.stamp = lambda row: None if row == 7 else f"row {row}"
    look(source, Tower(tokenizer, source).backbone, store)
    again = Tower(tokenizer, source)
    look(source, again.backbone, store)
    assert set(again.decoded) == {7}


def test_rows_with_equal_stamps_share_their_features(source, store, tokenizer):
    source.stamp = lambda row: f"image {row // 2}"
    plain = source.image
    source.image = lambda row: plain(row // 2 * 2)
    first = look(source, Tower(tokenizer, source).backbone, store, with_parts=False)
    second = look(source, Tower(tokenizer, source).backbone, store, with_parts=False)
    torch.testing.assert_close(first[0].pooled, second[0].pooled)


def features_of(count, parts=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(count, 6, generator=generator)
    if not parts:
        return ImageFeatures(pooled)
    maps, content = (torch.randn(count, 5, width, generator=generator) for width in (4, 6))
    return ImageFeatures(pooled, PartFeatures(maps, content))


def test_parts_beyond_the_budget_are_left_out_pooled_features_never(tmp_path):
    features = features_of(4)
    folder = FeatureStore(tmp_path, parts_budget_bytes=3 * features.parts.nbytes // 2).folder({})
    folder.add(list("abcd"), features)
    folder.add(list("efgh"), features)
    again = FeatureStore(tmp_path).folder({})
    assert again.find("abcdefghi") == set("abcdefgh")
    assert again.find("abcdefghi", parts=True) == set("abcd")


def test_what_is_held_is_not_written_again(tmp_path):
    folder = FeatureStore(tmp_path, parts_budget_bytes=10**6).folder({})
    folder.add(list("abc"), features_of(3, parts=False))
    before = sorted(tmp_path.rglob("*"))
    folder.add(list("cab"), features_of(3, parts=False, seed=1))
    assert sorted(tmp_path.rglob("*")) == before
    folder.add(list("abd"), features_of(3, seed=2))
    assert torch.equal(folder.read("d", parts=True)["d"].parts.maps, features_of(3, seed=2).parts.maps[2])


def test_other_keys_are_other_folders(tmp_path):
    store = FeatureStore(tmp_path)
    store.folder({"weights": "a"}).add(["row"], features_of(1))
    assert store.folder({"weights": "a"}).find(["row"]) == {"row"}
    assert store.folder({"weights": "b"}).find(["row"]) == set()


def flip(path):
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(bytes(data))


def point_elsewhere(index):
    """To whole files, but outside of the folder: what is read there could be removed there."""
    for file in index.parent.glob("*.safetensors"):
        file.rename(index.parent.parent / file.name)
    index.write_text(index.read_text().replace('"name": "', '"name": "../'))


DAMAGES = {
    "one flipped bit": ("pooled.safetensors", flip),
    "one flipped bit of parts": ("parts.safetensors", flip),
    "a cut file": ("parts.safetensors", lambda path: path.write_bytes(path.read_bytes()[:100])),
    "a missing file": ("pooled.safetensors", Path.unlink),
    "an index of garbage": ("json", lambda path: path.write_text("{")),
    "an index of other form": ("json", lambda path: path.write_text('{"format": 1, "rows": 3, "files": []}')),
    "an index that points elsewhere": ("json", point_elsewhere),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_reported_in_one_line_and_made_again(damage, source, store, tokenizer):
    ending, spoil = DAMAGES[damage]
    expected = look(source, Tower(tokenizer, source).backbone, store)
    for path in store.root.rglob(f"shard-*.{ending}"):
        spoil(path)
    repairing = Tower(tokenizer, source)
    with pytest.warns(UserWarning, match="damaged") as caught:
        got = look(source, repairing.backbone, store)
    assert sum(repairing.passed) >= 3 * len(ROWS)
    assert all(len(str(warning.message).splitlines()) == 1 for warning in caught)
    torch.testing.assert_close(got[0].pooled, expected[0].pooled)
    third = Tower(tokenizer, source)
    assert_same(got, look(source, third.backbone, store))
    assert third.passed == []


def test_a_store_that_vanishes_under_a_run_is_made_up_for(source, store, tokenizer):
    expected = look(source, Tower(tokenizer, source).backbone, store, with_parts=False)
    features = TowerFeatures(source, Tower(tokenizer, source).backbone, views=2, store=store)
    features._folder.refresh()
    sound = features._folder._sound
    sound.update(store.root.rglob("*.safetensors"))
    for path in sound:
        path.unlink()
    with pytest.warns(UserWarning, match="damaged"):
        views = features.training_views(ROWS, seed=1, with_parts=False)
    torch.testing.assert_close(views.pooled, expected[0].pooled)


def test_a_place_that_cannot_be_written_costs_one_line_and_no_result(source, tmp_path, tokenizer):
    (tmp_path / "file").write_text("not a folder")
    backbone = Tower(tokenizer, source).backbone
    with pytest.warns(UserWarning, match="not stored") as caught:
        got = look(source, backbone, FeatureStore(tmp_path / "file" / "store"))
    assert len(caught) == 1
    assert_same(look(source, backbone, None), got)


@pytest.mark.parametrize("files", [0, 1, 2])
def test_a_write_cut_short_before_any_of_its_files_is_in_place_leaves_nothing(files, tmp_path, monkeypatch):
    placed, replace = [], Path.replace

    def stop(path, target):
        if len(placed) == files:
            raise KeyboardInterrupt
        placed.append(replace(path, target))

    folder = FeatureStore(tmp_path).folder({})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            folder.add(["row"], features_of(1))
    again = FeatureStore(tmp_path).folder({})
    assert again.find(["row"]) == set()
    again.add(["row"], features_of(1))
    assert again.find(["row"], parts=True) == {"row"}


def test_leftovers_of_killed_writers_are_removed_after_a_day(tmp_path):
    folder = FeatureStore(tmp_path).folder({})
    folder.add(["row"], features_of(1))
    whole = set(folder.path.iterdir())
    orphan, torn = folder.path / "shard-0.pooled.safetensors", folder.path / ".x.part"
    young = folder.path / ".young.part"
    for path in (orphan, torn, young):
        path.write_bytes(b"torn")
    for path in (orphan, torn, *whole):
        os.utime(path, (1, 1))
    assert FeatureStore(tmp_path).folder({}).find(["row"]) == {"row"}
    assert set(folder.path.iterdir()) == whole | {young}


def test_small_pieces_are_gathered_into_one_shard(tmp_path):
    folder = FeatureStore(tmp_path).folder({})
    writer = ShardWriter(folder)
    for i in range(5):
        writer.put([f"{i}a", None, f"{i}b"], features_of(3, seed=i))
    assert not folder.path.exists()
    writer.flush()
    assert len(list(folder.path.glob("*.json"))) == 1
    assert torch.equal(folder.read(["3b"])["3b"].pooled, features_of(3, seed=3).pooled[2])


def test_the_default_place_follows_the_environment(monkeypatch):
    monkeypatch.setenv("HYPERADAPT_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert FeatureStore().root == default_root() == Path("/one")
    monkeypatch.delenv("HYPERADAPT_CACHE")
    assert default_root() == Path("/two/hyperadapt")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_root() == Path.home() / ".cache" / "hyperadapt"
