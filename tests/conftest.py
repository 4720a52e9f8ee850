import os
import random
from pathlib import Path

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # before torch: short steps on a shared machine, as the command line

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from PIL import Image

from hyperadapt.backbone import load_backbone

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data():
    if not SHARED.is_dir():
        pytest.skip(f"the evaluation data is not there: no folder {SHARED.name} beside the checkout")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Nothing is stored outside the test run's own folder, and nothing of an earlier run is found."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERADAPT_CACHE", str(folder))
        yield folder


def to_pixels(image):
    array = np.asarray(image.convert("RGB").resize((32, 32)), dtype=np.float32) / 255
    return torch.from_numpy(array).permute(2, 0, 1) - 0.5


def build_clip(vision=None, custom_text=False, **text):
    torch.manual_seed(0)
    vision_cfg = CLIPVisionCfg(
        **(vision or {"layers": 3, "width": 64, "head_width": 32, "patch_size": 8, "image_size": 32})
    )
    text_cfg = CLIPTextCfg(context_length=24, width=32, heads=2, layers=2, **text)
    return (CustomTextCLIP if custom_text else CLIP)(embed_dim=32, vision_cfg=vision_cfg, text_cfg=text_cfg)


TOWERS = {
    "vit": {},
    "resnet": {"vision": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "image_size": 32}},
    "custom-text": {"custom_text": True},
    "siglip-like": {"custom_text": True, "no_causal_mask": True, "pool_type": "last"},
}


@pytest.fixture(params=TOWERS)
def any_model(request):
    return build_clip(**TOWERS[request.param])


@pytest.fixture(scope="session")
def tokenizer():
    return open_clip.SimpleTokenizer(context_length=24)


@pytest.fixture(scope="session")
def small_backbone(tokenizer):
    return load_backbone(build_clip(), tokenizer=tokenizer, preprocess=to_pixels)


@pytest.fixture(scope="session")
def noise_images():
    generator = random.Random(0)
    return [Image.frombytes("RGB", (40, 36), generator.randbytes(40 * 36 * 3)) for _ in range(12)]
