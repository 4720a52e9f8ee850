import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from hyperadapt.backbone import ImageFeatures, load_backbone
from hyperadapt.data import ImageFolderSource
from hyperadapt.feature_store import FeatureStore
from hyperadapt.features import TowerFeatures
from tests.conftest import build_clip, to_pixels
from tests.scenes import write_images
from tests.test_feature_store import Tower

ROOT = Path(__file__).resolve().parents[1]


def write_all(photos, root, say_ready):
    """What a writing process does: all images in many small shards."""
    import open_clip

    import hyperadapt.feature_store
    import hyperadapt.features

    torch.set_num_threads(1)
    hyperadapt.feature_store.SHARD_VIEWS = hyperadapt.features.TOWER_BATCH = 4
    backbone = load_backbone(build_clip(), tokenizer=open_clip.SimpleTokenizer(context_length=24), preprocess=to_pixels)
    source = ImageFolderSource(photos)
    features = TowerFeatures(source, backbone, keep_parts=True, store=FeatureStore(root))
    say_ready()
    features.encode_missing(np.arange(len(source.ids)))


def start_writer(photos, root):
    """A writer in a process of its own, forked after the imports; returns when it is about to write."""
    ready, say = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write_all(photos, root, lambda: os.write(say, b"."))
            os._exit(0)
        except BaseException as error:  # a forked child must never reach the parent's code
            print(repr(error), file=sys.stderr)
            os._exit(1)
    os.close(say)
    os.read(ready, 1)
    os.close(ready)
    return child


def finishes(child):
    return os.waitpid(child, 0)[1] == 0


def disturb(photos):
    """Writers killed at random moments, then one that finishes; then two that write at once; all in this folder."""
    folder = Path()
    undisturbed, begin = start_writer(photos, folder / "undisturbed"), time.monotonic()
    assert finishes(undisturbed)
    duration = time.monotonic() - begin
    generator, killed = random.Random(0), 0
    for _ in range(6):
        child = start_writer(photos, folder / "killed")
        time.sleep(generator.uniform(0, duration / 4))
        os.kill(child, signal.SIGKILL)
        killed += not finishes(child)
    assert finishes(start_writer(photos, folder / "killed"))
    writers = [start_writer(photos, folder / "shared") for _ in range(2)]
    assert [finishes(writer) for writer in writers] == [True, True]
    print(killed)


def test_kills_at_any_moment_and_two_writers_leave_the_store_of_an_undisturbed_run(tmp_path, tokenizer):
    photos = write_images(tmp_path / "photos", per_class=30)
    script = "import sys; from tests.test_feature_store_kills import disturb; disturb(sys.argv[1])"
    finished = subprocess.run(
        [sys.executable, "-c", script, str(photos)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout) >= 3, "too few writers were killed while they wrote"
    rows = np.arange(120)
    found = {}
    for name in ("undisturbed", "killed", "shared"):
        tower = Tower(tokenizer, ImageFolderSource(photos))
        features = TowerFeatures(tower.source, tower.backbone, store=FeatureStore(tmp_path / name))
        found[name] = ImageFeatures.cat(list(features.batches(rows, with_parts=True)))
        assert tower.passed == []
    for name in ("killed", "shared"):
        torch.testing.assert_close(found[name].pooled, found["undisturbed"].pooled, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found[name].parts.maps, found["undisturbed"].parts.maps, atol=1e-5, rtol=1e-5)
