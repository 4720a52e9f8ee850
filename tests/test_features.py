import numpy as np
import pytest
import torch
from PIL import Image

from hyperadapt.data import ImageFolderSource
from hyperadapt.errors import InputError
from hyperadapt.features import TowerFeatures, augmented
from tests.scenes import write_images


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return ImageFolderSource(write_images(tmp_path_factory.mktemp("photos") / "photos", per_class=20))


class Counting:
    """A source that counts how often each row is decoded."""

    def __init__(self, source):
        self.source, self.seen = source, []
        self.class_names, self.templates, self.name = source.class_names, source.templates, source.name

    def image(self, row):
        self.seen.append(row)
        return self.source.image(row)


ROWS = np.array([3, 40, 7, 70, 12])


def test_the_first_view_is_the_evaluation_view_and_the_others_differ(source, small_backbone):
    features = TowerFeatures(source, small_backbone, views=2)
    views = features.training_views(ROWS, seed=1, with_parts=True)
    plain = torch.cat([batch.pooled for batch in features.batches(ROWS, with_parts=False)])
    assert len(views) == 15
    torch.testing.assert_close(views.pooled[:5], plain)
    assert not torch.allclose(views.pooled[5:10], plain, atol=1e-4)
    assert not torch.allclose(views.pooled[5:10], views.pooled[10:], atol=1e-4)
    with_parts = next(features.batches(ROWS, with_parts=True))
    torch.testing.assert_close(views.parts.content[:5], with_parts.parts.content)
    torch.testing.assert_close(with_parts.pooled, plain)


def test_a_view_depends_on_seed_row_and_view_alone(source, small_backbone):
    features = TowerFeatures(source, small_backbone, views=1)
    forward = features.training_views(ROWS, seed=4, with_parts=False).pooled[5:]
    backward = features.training_views(ROWS[::-1].copy(), seed=4, with_parts=False).pooled[5:]
    torch.testing.assert_close(forward, backward.flip(0))
    other = features.training_views(ROWS, seed=5, with_parts=False).pooled[5:]
    assert not torch.allclose(forward, other, atol=1e-4)


def test_an_image_is_encoded_once_for_evaluation(source, small_backbone):
    counting = Counting(source)
    features = TowerFeatures(counting, small_backbone, views=0)
    features.encode_missing(np.array([1, 2, 2, 1, 5]))
    list(features.batches(np.array([5, 2, 9]), with_parts=False))
    assert sorted(counting.seen) == [1, 2, 5, 9]


def test_many_rows_come_back_in_order(source, small_backbone):
    features = TowerFeatures(source, small_backbone, views=0)
    rows = np.random.default_rng(0).permutation(80)
    together = torch.cat([batch.pooled for batch in features.batches(rows, with_parts=True)])
    for at in (0, 33, 79):
        alone = next(features.batches(rows[at : at + 1], with_parts=True)).pooled
        torch.testing.assert_close(together[at : at + 1], alone, atol=1e-5, rtol=1e-4)


def test_no_rows_give_no_batches(source, small_backbone):
    features = TowerFeatures(source, small_backbone, views=0)
    assert list(features.batches(np.zeros(0, dtype=np.int64), with_parts=False)) == []


def test_a_negative_number_of_views_is_refused(source, small_backbone):
    with pytest.raises(InputError, match="-1"):
        TowerFeatures(source, small_backbone, views=-1)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (200, 20), (20, 200), (1, 1), (3, 50)])
def test_a_crop_is_square_and_inside_the_image(width, height):
    """Pixels hold their own coordinates, so a crop tells where it came from."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    image = Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))
    for seed in range(20):
        crop = np.asarray(augmented(image, 16, np.random.default_rng(seed)))
        assert crop.shape == (16, 16, 3)
        assert crop[..., 2].max() == 0


def test_crops_cover_half_to_all_of_the_area_and_half_are_mirrored():
    x, y = np.meshgrid(np.arange(256), np.arange(256))
    image = Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))
    areas, mirrored = [], 0
    for seed in range(300):
        crop = np.asarray(augmented(image, 64, np.random.default_rng(seed))).astype(float)
        spans = [np.ptp(crop[..., channel]) * 64 / 63 / 256 for channel in (0, 1)]
        areas.append(spans[0] * spans[1])
        mirrored += crop[0, 0, 0] > crop[0, -1, 0]
    assert 0.4 < min(areas) < 0.6
    assert 0.85 < max(areas) <= 1.02
    assert 0.4 < mirrored / 300 < 0.6


@pytest.mark.parametrize("budget", [0, 1, 2**30])
def test_kept_and_streamed_parts_are_the_same(budget, source, small_backbone, monkeypatch):
    monkeypatch.setattr("hyperadapt.features.PARTS_BUDGET_BYTES", budget)
    counting = Counting(source)
    keeping = TowerFeatures(counting, small_backbone, views=1, keep_parts=True)
    plain = TowerFeatures(source, small_backbone, views=1)
    for _ in range(2):
        views, expected = (f.training_views(ROWS, seed=3, with_parts=True) for f in (keeping, plain))
        torch.testing.assert_close(views.parts.content, expected.parts.content)
        torch.testing.assert_close(views.parts.maps, expected.parts.maps)
        torch.testing.assert_close(views.pooled, expected.pooled)
    rounds = 1 if budget > 0 else 2
    assert len(counting.seen) == rounds * 2 * len(ROWS)
