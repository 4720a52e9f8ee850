import pytest
import torch

from hyperadapt.errors import InputError
from hyperadapt.image_pass import ImagePass
from tests.conftest import TOWERS, build_clip
from tests.slow_passes import slow_images

VIT = {"layers": 3, "width": 64, "head_width": 32, "patch_size": 8, "image_size": 32}
IMAGE_TOWERS = {
    "class token": {},
    "average": {"pool_type": "avg"},
    "norm after pooling": {"pool_type": "avg", "final_ln_after_pool": True},
    "attention pool": {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2},
    "no norm before": {"no_ln_pre": True},
    "layer scale": {"ls_init_value": 0.3},
    "custom blocks": {"block_type": "custom", "qk_norm": True},
}


def image_tower(name, dtype=torch.float64):
    model = build_clip(vision=VIT | IMAGE_TOWERS[name]).to(dtype).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in model.visual.parameters():
            parameter.mul_(2)  # the tower's own small initial values would hide a difference
    return model


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def value_and_slope(function, prompts):
    prompts = prompts.clone().requires_grad_()
    features = function(prompts)
    return features.detach(), torch.autograd.grad((features * noise(*features.shape, seed=5)).sum(), prompts)[0]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("name", IMAGE_TOWERS)
def test_prompted_features_and_their_gradients_are_those_of_a_loop_over_images_and_blocks(name, depth):
    visual, pixels = image_tower(name).visual, noise(3, 3, 32, 32)
    prompts = noise(depth, 2, 64, seed=1)
    expected, slope = value_and_slope(lambda p: slow_images(visual, pixels, p), prompts)
    got, got_slope = value_and_slope(lambda p: ImagePass(visual).features(pixels, p), prompts)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(got_slope, slope, atol=1e-11 * float(slope.abs().max()), rtol=1e-11)
    assert got_slope.flatten(1).abs().amax(dim=1).min() > 1e-6


@pytest.mark.parametrize("shape", [(0, 2, 64), (3, 0, 64)], ids=["no prompts", "no tokens"])
@pytest.mark.parametrize("name", IMAGE_TOWERS)
def test_without_prompts_features_are_the_towers_own(name, shape):
    model = image_tower(name, torch.float32)
    pixels = noise(3, 3, 32, 32, dtype=torch.float32)
    expected = model.encode_image(pixels, normalize=True)
    found = ImagePass(model.visual).features(pixels, torch.zeros(shape))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_under_autocast_features_and_gradients_stay_in_float32():
    visual, pixels = image_tower("class token", torch.float32).visual, noise(3, 3, 32, 32, dtype=torch.float32)
    prompts = noise(2, 2, 64, dtype=torch.float32).requires_grad_()
    expected = ImagePass(visual).features(pixels, prompts)
    with torch.autocast("cpu", torch.bfloat16):
        found = ImagePass(visual).features(pixels, prompts)
    found.sum().backward()
    assert found.dtype == prompts.grad.dtype == torch.float32
    assert 0 < float((found - expected).abs().max().detach()) < 0.1


def test_a_tower_of_another_kind_and_a_prompt_too_deep_are_refused():
    with pytest.raises(InputError, match="VisionTransformer, got ModifiedResNet"):
        ImagePass(build_clip(**TOWERS["resnet"]).visual)
    with pytest.raises(InputError, match="3 blocks, got prompts for 4"):
        ImagePass(build_clip().visual).features(torch.zeros(1, 3, 32, 32), torch.zeros(4, 1, 64))
