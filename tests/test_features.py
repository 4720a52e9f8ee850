import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hyperadapt.backbone import load_backbone
from hyperadapt.data import ImageFolderSource
from hyperadapt.errors import InputError
from hyperadapt.features import TowerFeatures
from hyperadapt.views import View, ViewMaker, augmented, grouped, pixel_batches, worker_count
from tests.conftest import build_clip
from tests.scenes import write_images
from tests.worker_pixels import pid_pixels, plain_pixels, plain_pixels_and_pid

ROOT = Path(__file__).resolve().parents[1]


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


def test_an_image_is_decoded_once_for_all_of_its_views(source, small_backbone):
    counting = Counting(source)
    features = TowerFeatures(counting, small_backbone, views=3)
    reports = []
    training = [(ROWS, 1), (ROWS[:2], 2)]
    features.encode_missing(np.arange(50), lambda done, total: reports.append((done, total)), training)
    expected = [TowerFeatures(source, small_backbone).training_views(rows, seed, False) for rows, seed in training]
    for (rows, seed), views in zip(training, expected, strict=True):
        torch.testing.assert_close(features.training_views(rows, seed, with_parts=False).pooled, views.pooled)
    list(features.batches(ROWS, with_parts=False))
    assert sorted(counting.seen) == sorted({*range(50), *ROWS.tolist()})
    every = 51 + 3 * 7
    assert reports[-1] == (every, every)
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})


def test_random_views_of_equal_images_differ_by_row_number_and_seed(source):
    image = source.image(0)
    maker = ViewMaker(SimpleNamespace(image=lambda _row: image), plain_pixels, 32)
    crops = [maker.pixels([View(*view)])[0] for view in ((0, 1, 1), (1, 1, 1), (0, 2, 1), (0, 1, 2))]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(crops, 2))
    assert torch.equal(maker.pixels([View(0, 1, 1)])[0], crops[0])


def test_views_are_grouped_by_image_into_batches_of_whole_images():
    views = [View(row, number) for number in range(3) for row in (8, 5, 9, 2)]
    batches = grouped(views, size=7)
    assert [[image[0].row for image in batch] for batch in batches] == [[8, 5], [9, 2]]
    assert sorted(view for batch in batches for image in batch for view in image) == sorted(views)
    assert [len(batch) for batch in grouped(views, size=2)] == [1, 1, 1, 1]


def test_rows_asked_for_twice_come_back_twice(source, small_backbone):
    features = TowerFeatures(source, small_backbone, views=0)
    rows = np.array([4] * 70 + [5, 4])
    batch = torch.cat([batch.parts.content for batch in features.batches(rows, with_parts=True)])
    assert len(batch) == 72
    assert torch.equal(batch[0], batch[69])
    assert torch.equal(batch[0], batch[71])
    assert not torch.equal(batch[0], batch[70])


def test_kept_features_are_plain_float32_whatever_mode_first_asked_for_them(source, small_backbone):
    features = TowerFeatures(source, small_backbone, views=1)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        features.training_views(ROWS, seed=1, with_parts=False)
    kept = features.training_views(ROWS, seed=1, with_parts=False).pooled
    (kept * torch.ones(1, requires_grad=True)).sum().backward()
    plain = TowerFeatures(source, small_backbone, views=1).training_views(ROWS, seed=1, with_parts=False).pooled
    assert torch.equal(kept, plain)


@pytest.fixture
def views():
    return grouped([View(row, number, 9) for number in range(3) for row in range(12)], size=8)


def all_pixels(source, views, workers, preprocess):
    return torch.cat(list(pixel_batches(ViewMaker(source, preprocess, 32), views, workers)))


def test_worker_processes_give_the_pixels_of_threads(source, views):
    here, there = (all_pixels(source, views, workers, plain_pixels_and_pid) for workers in (0, 2))
    assert len(here) == 36
    assert torch.equal(here[:, :3], there[:, :3])
    assert (here[:, 3] == os.getpid()).all()
    assert not (there[:, 3] == os.getpid()).any()


def test_a_preprocessing_that_cannot_travel_is_run_here(source, views):
    here = lambda image: pid_pixels(image)  # noqa: E731 - a lambda is what cannot travel
    assert (all_pixels(source, views, 2, here) == os.getpid()).all()


def test_processes_are_for_large_jobs_on_large_machines(monkeypatch):
    cpus = set(range(8))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: cpus, raising=False)
    assert [worker_count(10), worker_count(10**5), worker_count(10, 3), worker_count(10**5, 0)] == [0, 8, 3, 0]
    cpus.difference_update(range(2, 8))
    assert worker_count(10**5) == 0


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_file_that_cannot_be_decoded_is_named_in_one_line(workers, tmp_path, tokenizer):
    photos = write_images(tmp_path / "photos")
    (photos / "bee" / "03.png").write_bytes(b"no image")
    backbone = load_backbone(build_clip(), tokenizer=tokenizer, preprocess=plain_pixels)
    features = TowerFeatures(ImageFolderSource(photos), backbone, workers=workers)
    with pytest.raises(InputError) as caught:
        features.encode_missing(np.arange(32))
    assert str(photos / "bee" / "03.png") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


SCRIPT = """
import os, sys, time
from hyperadapt.data import ImageFolderSource
from hyperadapt.views import View, ViewMaker, grouped, pixel_batches
from tests.worker_pixels import pid_pixels
print("started", os.getpid(), flush=True)
views = grouped([View(row) for row in range(32)], size=4)
for pixels in pixel_batches(ViewMaker(ImageFolderSource(sys.argv[1]), pid_pixels, 32), views, workers=2):
    print("worker", int(pixels[0, 0, 0, 0]), flush=True)
pool = pixel_batches(ViewMaker(ImageFolderSource(sys.argv[1]), pid_pixels, 32), views, workers=2)
print("worker", int(next(pool)[0, 0, 0, 0]), flush=True)
time.sleep(60)
"""


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the state of processes from /proc")
def test_a_script_without_a_guard_runs_once_and_its_workers_die_with_it(tmp_path):
    write_images(tmp_path / "photos")
    (tmp_path / "script.py").write_text(SCRIPT)
    command, errors = [sys.executable, "-W", "error", "script.py", "photos"], tmp_path / "errors"
    settings = {
        "cwd": tmp_path,
        "env": {**os.environ, "PYTHONPATH": str(ROOT)},
        "stdout": subprocess.PIPE,
        "text": True,
    }
    with errors.open("w") as file, subprocess.Popen(command, stderr=file, **settings) as script:
        lines = [script.stdout.readline().split() for _ in range(10)]
        os.kill(script.pid, signal.SIGKILL)
    assert errors.read_text() == ""
    assert [line[0] for line in lines] == ["started", *["worker"] * 9]
    workers = {int(line[1]) for line in lines[1:]} - {script.pid}
    assert workers
    for _ in range(100):
        if not any(map(is_running, workers)):
            break
        time.sleep(0.1)
    left = [pid for pid in workers if is_running(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


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
    assert len(counting.seen) == rounds * len(ROWS)
