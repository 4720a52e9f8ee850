import json

import torch

from hyperadapt.backbone import load_backbone
from hyperadapt.feature_key import feature_key
from tests.conftest import build_clip, to_pixels


def darker(image):
    return to_pixels(image) * 0.99


def test_the_key_tells_apart_whatever_changes_features(tokenizer):
    def key(preprocess=to_pixels, change=None, **model):
        clip = build_clip(**model)
        if change:
            change(clip)
        return json.dumps(feature_key(load_backbone(clip, tokenizer=tokenizer, preprocess=preprocess)))

    vision = {"layers": 3, "width": 64, "head_width": 32, "patch_size": 8, "image_size": 32}
    scaled = lambda clip: setattr(clip.visual.transformer.resblocks[0].ln_1, "eps", 1e-3)  # noqa: E731
    with torch.no_grad():
        weighed = lambda clip: clip.visual.proj.data[0, 0].add_(1e-3)  # noqa: E731
        keys = [
            key(),
            key(preprocess=darker),
            key(change=scaled),
            key(change=weighed),
            key(change=lambda clip: clip.double()),
            key(vision={**vision, "head_width": 64}),
            key(vision={**vision, "act_kwargs": {"approximate": "tanh"}}),
        ]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


def test_a_preprocessing_with_chance_in_it_has_no_key(tokenizer):
    noisy = lambda image: to_pixels(image) + 0.1 * torch.rand(1)  # noqa: E731
    assert feature_key(load_backbone(build_clip(), tokenizer=tokenizer, preprocess=noisy)) is None
