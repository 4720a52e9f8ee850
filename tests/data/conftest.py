import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hyperadapt.errors import InputError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared():
    if not SHARED.is_dir():
        pytest.skip("the evaluation data is not beside this checkout")
    return SHARED


@pytest.fixture
def assert_refused():
    """Runs a call that must raise InputError: one line that holds every fragment."""

    def check(call, *fragments):
        with pytest.raises(InputError) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        for fragment in fragments:
            assert fragment in message, f"{fragment!r} not in {message!r}"

    return check


@pytest.fixture
def photo():
    """Writes a small one-coloured image, making its folder."""

    def write(path, color=(200, 30, 60), mode="RGB"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (5, 4), color).save(path)
        return path

    return write


@pytest.fixture
def folder_tree(tmp_path, photo):
    """Builds an image folder from {class folder: number of images or list of file names}."""

    def build(classes, root=tmp_path / "photos"):
        for name, files in classes.items():
            (root / name).mkdir(parents=True)
            for file in [f"{at:03d}.png" for at in range(files)] if isinstance(files, int) else files:
                photo(root / name / file)
        return root

    return build


def small_split():
    """Two classes; 3 train, 1 val and 2 test images a class."""
    sizes = {"train": 3, "val": 1, "test": 2}
    return {
        part: [
            [f"{name}/{part}{at}.png", label, name] for label, name in enumerate(["red_kite", "bus"]) for at in range(n)
        ]
        for part, n in sizes.items()
    }


@pytest.fixture
def split_tree(tmp_path, photo):
    """Writes a split file and, unless told otherwise, the images that it names."""

    def build(content=None, name="split_zhou_Mine.json", image_dir="pictures", images=True):
        content = small_split() if content is None else content
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        if images:
            for entry in [entry for part in content.values() for entry in part]:
                photo(tmp_path / image_dir / entry[0])
        return tmp_path

    return build


@pytest.fixture
def split_content():
    return small_split()


def small_pool(rng=None):
    """3 classes of 6 rows in 8 dimensions, two templates and their average."""
    rng = rng or np.random.default_rng(0)
    texts = rng.normal(size=(2, 3, 8))
    texts = np.concatenate([texts, texts.mean(0, keepdims=True)]).astype(np.float16)
    arrays = {
        "images": rng.normal(size=(18, 8)).astype(np.float16),
        "labels": np.tile(np.arange(3, dtype=np.int16), 6),
        "texts": texts,
    }
    meta = {
        "classes": ["kite, bird", "bus", "tram"],
        "templates": ["a {}", "the {}", "averageprompt"],
        "val_per_class": 2,
    }
    return arrays, meta


def given_shots():
    """3 classes, draws of 2 and 10 shots, three validation rows and two test rows a class."""
    rng = np.random.default_rng(1)
    arrays, meta = {}, {"classes": ["kite", "bus", "tram"], "val_per_class": 2}
    for key, rows in {"shot10": 10, "shot2": 2, "val": 3, "test": 2}.items():
        arrays[f"{key}_x"] = rng.normal(size=(3 * rows, 8)).astype(np.float16)
        arrays[f"{key}_y"] = np.tile(np.arange(3, dtype=np.int16), rows)
    return arrays, meta


@pytest.fixture
def feature_folder(tmp_path):
    """Writes a feature folder after changing arrays and meta; a change to None removes the entry."""

    def build(form="pool", arrays=None, meta=None):
        base_arrays, base_meta = small_pool() if form == "pool" else given_shots()
        for base, change in ((base_arrays, arrays), (base_meta, meta)):
            base.update(change or {})
            for key in [key for key, value in base.items() if value is None]:
                del base[key]
        root = tmp_path / "set"
        root.mkdir(exist_ok=True)
        np.savez(root / "features.npz", **base_arrays)
        (root / "meta.json").write_text(json.dumps(base_meta))
        return root

    return build
