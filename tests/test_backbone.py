import copy

import open_clip
import pytest
import torch
from torch.nn.functional import normalize

from hyperadapt.backbone import frozen_view, load_backbone
from hyperadapt.errors import InputError
from hyperadapt.parts import part_reader
from tests.conftest import TOWERS, build_clip, to_pixels


def test_the_callers_model_is_left_exactly_as_it_is(any_model, tokenizer, noise_images):
    any_model.train()
    before = copy.deepcopy(any_model.state_dict())
    backbone = load_backbone(any_model, tokenizer=tokenizer, preprocess=to_pixels)
    pixels = torch.stack([to_pixels(image) for image in noise_images])
    backbone.encode_images(pixels, with_parts=True)
    contexts = torch.zeros(1, 1, 2, 32, requires_grad=True)
    backbone.text.prompts(contexts, tokenizer(["a bird"])).sum().backward()
    assert contexts.grad.abs().sum() > 0
    assert all(module.training for module in any_model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in any_model.parameters())
    assert not any(module._forward_hooks for module in any_model.modules())
    after = any_model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_frozen_view_shares_memory_and_cannot_learn(any_model):
    twin = frozen_view(any_model)
    for mine, theirs in zip(twin.parameters(), any_model.parameters(), strict=True):
        assert mine.data_ptr() == theirs.data_ptr()
        assert not mine.requires_grad
    assert not any(module.training for module in twin.modules())


def test_image_features_are_the_models_own(any_model, tokenizer, noise_images):
    pixels = torch.stack([to_pixels(image) for image in noise_images])
    backbone = load_backbone(any_model, tokenizer=tokenizer, preprocess=to_pixels)
    with torch.no_grad():
        expected = normalize(any_model.eval().encode_image(pixels), dim=-1)
    plain, with_parts = backbone.encode_images(pixels), backbone.encode_images(pixels, with_parts=True)
    torch.testing.assert_close(plain.pooled, expected)
    torch.testing.assert_close(with_parts.pooled, expected)
    assert plain.parts is None


def test_the_class_token_among_the_parts_is_the_image_feature(small_backbone, noise_images):
    features = small_backbone.encode_images(torch.stack([to_pixels(image) for image in noise_images]), with_parts=True)
    torch.testing.assert_close(normalize(features.parts.content[:, 0], dim=-1), features.pooled)


def test_transformer_maps_come_from_before_the_last_two_blocks(small_backbone, noise_images):
    pixels = torch.stack([to_pixels(image) for image in noise_images])
    features, visual = small_backbone.encode_images(pixels, with_parts=True), small_backbone.model.visual
    with torch.no_grad():
        tokens = visual._embeds(pixels)
        for block in visual.transformer.resblocks[:-2]:
            tokens = block(tokens)
        torch.testing.assert_close(features.parts.maps, tokens)
        for block in visual.transformer.resblocks[-2:]:
            tokens = block(tokens)
        torch.testing.assert_close(features.parts.content, visual.ln_post(tokens) @ visual.proj)


def test_resnet_parts_are_the_value_path_at_each_position():
    visual = build_clip(**TOWERS["resnet"]).visual.eval()
    reader = part_reader(visual)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with reader.attached():
            visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(pixels)))))
        feature_map = reader.seen["maps"]
        parts = reader.read()
        pool = visual.attnpool
        for position in range(4):
            at = feature_map[:, :, position // 2, position % 2] + pool.positional_embedding[1]
            torch.testing.assert_close(parts.content[:, position], pool.c_proj(pool.v_proj(at)))


def test_a_tower_without_readable_positions_has_no_reader():
    assert part_reader(torch.nn.Linear(2, 2)) is None


@pytest.mark.parametrize(
    ("spec", "fragments"),
    [
        ("no-such-model:openai", ["no-such-model", "tiny", "list_models"]),
        ("ViT-B-32", ["needs weights", "openai", "/path/to/checkpoint"]),
        ("ViT-B-32:no-such-tag", ["cannot load", "no-such-tag"]),
        ("local-dir:/no/such/dir", ["cannot load", "/no/such/dir"]),
    ],
)
def test_a_backbone_that_cannot_be_had_is_one_clear_error(spec, fragments):
    with pytest.raises(InputError) as caught:
        load_backbone(spec, device="cpu")
    assert all(fragment in str(caught.value) for fragment in fragments)
    assert "\n" not in str(caught.value)


def test_a_model_object_needs_its_tokenizer_and_preprocessing():
    with pytest.raises(InputError, match="tokenizer"):
        load_backbone(build_clip())


def test_an_unknown_device_is_refused():
    with pytest.raises(InputError, match="warp"):
        load_backbone("tiny", device="warp")


@pytest.fixture
def seen_names(monkeypatch):
    names = []

    def create(name, **settings):
        names.append(name)
        return build_clip(), None, to_pixels

    monkeypatch.setattr(open_clip, "create_model_and_transforms", create)
    return names


@pytest.mark.parametrize(
    ("asked", "built", "warns"),
    [
        ("ViT-B-32:openai", "ViT-B-32-quickgelu", True),
        ("ViT-B-32-quickgelu:openai", "ViT-B-32-quickgelu", False),
        ("ViT-B-32:laion2b_s34b_b79k", "ViT-B-32", False),
        ("ViT-B-32-quickgelu:laion2b_s34b_b79k", "ViT-B-32", True),
        ("RN50:openai", "RN50-quickgelu", True),
    ],
)
def test_the_activation_follows_the_weights(asked, built, warns, seen_names, recwarn):
    load_backbone(asked, device="cpu")
    assert seen_names == [built]
    said = [str(w.message) for w in recwarn.list if "GELU" in str(w.message)]
    assert bool(said) == warns
    recwarn.clear()


def test_a_torchscript_archive_is_taken_for_openais_weights(tmp_path, seen_names):
    path = tmp_path / "ViT-B-32.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1, 1)), path)
    with pytest.warns(UserWarning, match="QuickGELU"):
        load_backbone(f"ViT-B-32:{path}", device="cpu")
    assert seen_names == ["ViT-B-32-quickgelu"]


def test_a_local_checkpoint_is_loaded_through_open_clip(tmp_path, tokenizer):
    from safetensors.torch import save_file

    open_clip.add_model_config(_config(tmp_path))
    model = open_clip.create_model("small-test", pretrained=None)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    backbone = load_backbone(f"small-test:{tmp_path / 'weights.safetensors'}", device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), backbone.model.parameters(), strict=True))
    assert backbone.image_size == 32


def _config(folder):
    import json

    path = folder / "small-test.json"
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    path.write_text(json.dumps({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}))
    return path


def test_prompts_keep_no_more_than_the_memory_they_are_given():
    assert load_backbone("tiny", device="cpu").text.activation_budget_bytes == 2 * 2**30
    assert load_backbone("tiny", device="cpu", prompt_memory_gib=0.5).text.activation_budget_bytes == 2**29
    for memory in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"prompt memory is a number of GiB above 0"):
            load_backbone("tiny", device="cpu", prompt_memory_gib=memory)
