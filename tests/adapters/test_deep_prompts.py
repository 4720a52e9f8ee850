"""MaPLe and PromptSRC on a small CLIP, against loops over blocks, CoOp and sums by hand."""

import math

import pytest
import torch

from hyperadapt.adapters.base import BuildContext, TrainingBatch
from hyperadapt.adapters.coop import CoOp, CoOpConfig
from hyperadapt.adapters.maple import MaPLe, MaPLeConfig
from hyperadapt.adapters.promptsrc import PromptSRC, PromptSRCConfig
from hyperadapt.backbone import ImageFeatures, load_backbone
from hyperadapt.errors import InputError
from hyperadapt.image_pass import ImagePass
from hyperadapt.text import class_text
from manifolds.regularizers import RecordedDraws
from tests.conftest import TOWERS, build_clip, to_pixels
from tests.slow_passes import slow_images, slow_texts

NAMES = ["red bird", "blue_bird", "striped fish"]
TEMPLATES = ["a photo of a {}.", "a drawing of a {}."]


@pytest.fixture(scope="module")
def backbone(tokenizer):
    """Three blocks of images, two of texts."""
    model = build_clip()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # the towers' own small initial values would hide a difference
    return load_backbone(model, tokenizer=tokenizer, preprocess=to_pixels)


@pytest.fixture(scope="module")
def classes(backbone):
    return class_text(backbone.text, NAMES, TEMPLATES)


@pytest.fixture(scope="module")
def images(backbone):
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return ImageFeatures(backbone.encode_images(pixels).pooled, pixels=pixels)


def built(module, config, classes):
    torch.manual_seed(0)
    adapter = module(config, BuildContext(classes, classes.weights.shape[1], None, 100.0))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.5)
    return adapter


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def in_loops(adapter, classes, images, image_prompts, text_prompts):
    """Features of texts and images from the loops, for prompts of both towers."""
    model = classes.tower.model
    ids = classes.tower.tokenize([f"{adapter.words}{name}." for name in classes.names], reserve=text_prompts.shape[1])
    first, *deeper = text_prompts[:, None, None]
    texts = slow_texts(model, first, ids, deeper=dict(enumerate(deeper, start=1)))[0]
    return texts, slow_images(model.visual, images.pixels, image_prompts)


def test_maple_is_a_loop_over_blocks_with_each_image_prompt_made_from_its_text_prompt(classes, images):
    maple = built(MaPLe, MaPLeConfig(), classes)
    assert maple.words == "of a "
    couplings = [(c.weight, c.bias) for c in maple.couplings]
    made = torch.stack([p @ weight.T + bias for p, (weight, bias) in zip(maple.prompts, couplings, strict=True)])
    texts, pooled = in_loops(maple, classes, images, made, maple.prompts)
    assert made.shape == (2, 2, 64)
    close(maple.adapt_classes(classes).weights, texts)
    close(maple.adapt_images(images, classes).pooled, pooled)


def test_maple_at_depth_one_without_coupling_is_coop_and_constant_tokens(classes, images, backbone):
    maple = built(MaPLe, MaPLeConfig(depth=1), classes)
    torch.nn.init.zeros_(maple.couplings[0].weight)
    coop = CoOp(CoOpConfig(context_length=2), BuildContext(classes, 32, None, 100.0))
    with torch.no_grad():
        coop.contexts.copy_(maple.prompts)
    longer = class_text(backbone.text, [f"of a {name}" for name in NAMES], ["{}"])
    close(maple.adapt_classes(classes).weights, coop.adapt_classes(longer).weights)
    constant = maple.couplings[0].bias.expand(1, 2, -1)
    close(
        maple.adapt_images(images, classes).pooled, ImagePass(backbone.model.visual).features(images.pixels, constant)
    )
    assert not torch.allclose(maple.adapt_images(images, classes).pooled, images.pooled, atol=1e-3)


@pytest.mark.parametrize(("length", "words"), [(1, "photo of a "), (2, "of a "), (4, ""), (6, "")])
def test_the_first_prompt_and_the_words_after_it_are_the_template_before_training(length, words, classes, backbone):
    torch.manual_seed(0)
    maple = MaPLe(MaPLeConfig(context_length=length, depth=1), BuildContext(classes, 32, None, 100.0))
    assert maple.words == words
    if length <= 4:
        close(maple.adapt_classes(classes).weights, class_text(backbone.text, NAMES, TEMPLATES[:1]).weights)
    else:
        assert 0.01 < float(maple.prompts.detach().std()) < 0.03


def test_promptsrc_is_a_loop_over_blocks_as_deep_as_each_tower(classes, images):
    promptsrc = built(PromptSRC, PromptSRCConfig(image_length=3), classes)
    assert promptsrc.text_prompts.shape == (2, 4, 32)
    assert promptsrc.image_prompts.shape == (3, 3, 64)
    texts, pooled = in_loops(promptsrc, classes, images, promptsrc.image_prompts, promptsrc.text_prompts)
    close(promptsrc.adapt_classes(classes).weights, texts)
    close(promptsrc.adapt_images(images, classes).pooled, pooled)


@torch.no_grad()
def test_promptsrcs_losses_are_the_sums_of_the_paper(classes, images):
    promptsrc = built(PromptSRC, PromptSRCConfig(), classes)
    adapted_classes, adapted = promptsrc.adapt_classes(classes), promptsrc.adapt_images(images, classes)
    batch = TrainingBatch(adapted, adapted_classes, torch.tensor([0, 1, 2, 0]), RecordedDraws([]), images, classes)
    found = {name: float(term) for name, term in promptsrc.losses(batch).items()}

    def mean_gap(a, b):
        return sum(abs(float(x) - float(y)) for x, y in zip(a.flatten(), b.flatten(), strict=True)) / a.numel()

    def probabilities(f, t):
        scores = [math.exp(100 * float(f @ row)) for row in t]
        return [score / sum(scores) for score in scores]

    divergence = 0.0
    for f, frozen in zip(adapted.pooled, images.pooled, strict=True):
        p, p0 = probabilities(f, adapted_classes.weights), probabilities(frozen, classes.weights)
        divergence += sum(a * math.log(a / b) for a, b in zip(p0, p, strict=True))
    expected = {
        "near_text": 25 * mean_gap(adapted_classes.weights, classes.weights),
        "near_image": 10 * mean_gap(adapted.pooled, images.pooled),
        "near_logits": divergence / (4 * 3),
    }
    assert found == pytest.approx(expected, rel=1e-3)


def test_losses_of_weight_zero_are_not_there(classes, images):
    promptsrc = built(PromptSRC, PromptSRCConfig(text_weight=0, image_weight=0, logits_weight=0), classes)
    batch = TrainingBatch(images, classes, torch.tensor([0, 1, 2, 0]), RecordedDraws([]), images, classes)
    assert promptsrc.losses(batch) == {}


@pytest.mark.parametrize("module", [MaPLe, PromptSRC])
def test_an_image_tower_that_takes_no_prompts_is_refused_when_the_method_is_built(module, tokenizer):
    backbone = load_backbone(build_clip(**TOWERS["resnet"]), tokenizer=tokenizer, preprocess=to_pixels)
    with pytest.raises(InputError, match="VisionTransformer, got ModifiedResNet"):
        built(
            module,
            {MaPLe: MaPLeConfig, PromptSRC: PromptSRCConfig}[module](),
            class_text(backbone.text, NAMES, TEMPLATES),
        )


@pytest.mark.parametrize(
    ("config", "wrong"),
    [(MaPLeConfig, {"depth": 0}), (PromptSRCConfig, {"image_length": 0}), (PromptSRCConfig, {"text_weight": -1.0})],
)
def test_sizes_and_weights_that_make_no_sense_are_refused(config, wrong):
    with pytest.raises(InputError, match="needs"):
        config(**wrong)
