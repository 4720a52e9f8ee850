from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from hyperadapt.adapters.base import BuildContext, TrainingBatch
from hyperadapt.adapters.dcar import DCAR, DCARConfig
from hyperadapt.backbone import ImageFeatures
from hyperadapt.captions import CaptionPool, caption_text
from hyperadapt.data.pairs import Negative
from hyperadapt.errors import InputError
from hyperadapt.retrieval.losses import category_loss
from hyperadapt.retrieval.token_weights import TokenTable, token_weights
from manifolds.regularizers import GeneratorDraws
from tests.conftest import to_pixels
from tests.slow_passes import slow_images, slow_texts

CAPTIONS = ("a red bird.", "a blue bird with a long tail.", "one striped fish", "a tall flower.", "two tall flowers.")
IMAGE_OF = torch.tensor([0, 0, 1, 2, 2])
NEGATIVES = [[Negative(f"no {text}", i % 2 == 0), Negative("a stone", False)] for i, text in enumerate(CAPTIONS)]


@pytest.fixture(scope="module")
def seen(small_backbone, noise_images):
    """Three images with their pixels, and the features of a blank one."""
    pixels = torch.stack([to_pixels(image) for image in noise_images[:3]])
    blank = small_backbone.encode_images(torch.zeros_like(pixels[:1])).pooled[0]
    return replace(small_backbone.encode_images(pixels), pixels=pixels), blank


@pytest.fixture(scope="module")
def captions(small_backbone):
    return caption_text(CAPTIONS, small_backbone.text.encode(CAPTIONS), small_backbone.text)


@pytest.fixture(scope="module")
def pool(captions, seen):
    return CaptionPool(captions, IMAGE_OF, seen[0].pooled, torch.tensor([0, 1, 0]), NEGATIVES)


def dcar(captions, seen, **settings):
    torch.manual_seed(0)
    adapter = DCAR(DCARConfig(**settings), BuildContext(captions, 32, None, 10.0, 3))
    adapter.prepare(seen[0], torch.zeros(3), captions)
    return adapter.eval()


def shaken(adapter):
    """Weights large enough for every part to matter."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return adapter


def draws(seed=0):
    return GeneratorDraws(torch.Generator().manual_seed(seed))


def slow_weights(backbone, text, image, blank):
    """Each token alone through the tower's own encoder."""
    ids = backbone.text.tokenize([text])[0].tolist()
    start, end = ids[0], max(ids)
    weights = []
    for token in ids[1 : ids.index(end)]:
        alone = torch.tensor([[start, token, end] + [0] * (len(ids) - 3)])
        feature = normalize(backbone.model.encode_text(alone)[0].float(), dim=-1)
        weights.append(abs(float(feature @ blank) - float(feature @ image)))
    return [0.0, *weights] + [0.0] * (len(ids) - 1 - len(weights))


def test_token_weights_are_those_of_a_loop(small_backbone, seen):
    images, blank = seen
    ids = small_backbone.text.tokenize(CAPTIONS)
    found = token_weights(TokenTable(small_backbone.text), ids, images.pooled[IMAGE_OF], blank)
    for row, text, image in zip(found, CAPTIONS, images.pooled[IMAGE_OF], strict=True):
        np.testing.assert_allclose(row, slow_weights(small_backbone, text, image, blank), atol=2e-6)
    assert float(found.max()) > 0.01


@pytest.mark.parametrize("count", [1, 4])
def test_adapted_images_are_a_loop_with_a_token_made_of_each_prompt_after_the_images_own(captions, seen, count):
    adapter = shaken(dcar(captions, seen, prompts=count, generator_width=16))
    into, _, out = adapter.generator
    made = []
    for vector in adapter.prompts:
        hidden = into.weight @ vector + into.bias
        made.append(out.weight @ (hidden * (1 + torch.erf(hidden / 2**0.5)) / 2) + out.bias)
    expected = slow_images(captions.tower.model.visual, seen[0].pixels, torch.stack(made)[None])
    torch.testing.assert_close(adapter.adapt_images(seen[0], captions).pooled, expected, atol=1e-5, rtol=1e-5)


def slow_captions(adapter, backbone, texts, seen, blank):
    """[start][v_1 .. v_k][(1 + w_1) t_1 .. (1 + w_n) t_n][end], one text at a time, for the image of each."""
    weights = [slow_weights(backbone, text, image, blank) for text, image in zip(texts, seen, strict=True)]
    ids = backbone.text.tokenize(texts)
    return slow_texts(backbone.model, adapter.prompts[None, None], ids, factors=1 + torch.tensor(weights))[0]


def test_adapted_captions_are_a_loop_over_texts_of_prompts_and_weighed_tokens(small_backbone, captions, seen, pool):
    """In training by each caption's own image, its false captions too; in a search by the mean of all images."""
    (images, blank), adapter = seen, shaken(dcar(captions, seen))
    shown = torch.tensor([2, 0, 1])
    batch, _ = pool.posed(shown, draws())
    adapted, owners = adapter.adapt_classes(batch), batch.false.owners
    own = slow_captions(adapter, small_backbone, batch.names, images.pooled[shown], blank)
    for found in (adapted, adapter.adapt_classes(replace(batch, false=None))):
        torch.testing.assert_close(found.weights, own, atol=1e-5, rtol=1e-5)
    false = slow_captions(adapter, small_backbone, batch.false.texts, images.pooled[shown][owners], blank)
    torch.testing.assert_close(adapted.false.weights, false, atol=1e-5, rtol=1e-5)
    mean = normalize(images.pooled.mean(0), dim=0).expand(len(CAPTIONS), -1)
    sought = slow_captions(adapter, small_backbone, CAPTIONS, mean, blank)
    torch.testing.assert_close(adapter.adapt_classes(captions).weights, sought, atol=1e-5, rtol=1e-5)


def test_token_weights_are_zero_where_the_image_is_blank(small_backbone, seen):
    ids, blank = small_backbone.text.tokenize(CAPTIONS), seen[1]
    assert not token_weights(TokenTable(small_backbone.text), ids, blank.expand(5, -1), blank).any()


def test_features_of_tokens_are_those_outside_of_autocast(small_backbone):
    tokens = small_backbone.text.tokenize(CAPTIONS).unique()
    with torch.autocast("cpu", torch.bfloat16):
        cast = TokenTable(small_backbone.text).features(tokens)
    assert torch.equal(cast, TokenTable(small_backbone.text).features(tokens))


def test_without_prompts_and_weights_it_is_plain_clip(captions, seen):
    adapter = dcar(captions, seen, prompts=0, reweighting=False, alpha=0.0)
    torch.testing.assert_close(adapter.adapt_classes(captions).weights, captions.weights, atol=1e-5, rtol=1e-5)
    assert torch.equal(adapter.adapt_images(seen[0], captions).pooled, seen[0].pooled)
    assert not [p for p in adapter.parameters() if p.numel()]


def test_before_it_has_seen_images_weights_of_tokens_change_nothing(captions, seen):
    torch.manual_seed(0)
    fresh = DCAR(DCARConfig(), BuildContext(captions, 32, None, 10.0, 3))
    plain = dcar(captions, seen, reweighting=False)
    torch.testing.assert_close(fresh.adapt_classes(captions).weights, plain.adapt_classes(captions).weights)


def test_captions_are_weighed_by_their_own_image_in_training_and_by_the_mean_one_in_a_search(captions, seen, pool):
    adapter, images = dcar(captions, seen), seen[0].pooled
    batch, _ = pool.posed(torch.tensor([2, 0]), draws())
    adapted = adapter.adapt_classes(batch)
    for place, image in enumerate((2, 0)):
        adapter.typical.copy_(images[image])
        own = caption_text([batch.names[place]], batch.weights[[place]], batch.tower)
        torch.testing.assert_close(adapter.adapt_classes(own).weights[0], adapted.weights[place], atol=1e-5, rtol=1e-5)
        for false in (batch.false.owners == place).nonzero()[:, 0].tolist():
            text = caption_text([batch.false.texts[false]], batch.weights[[place]], batch.tower)
            expected = adapter.adapt_classes(text).weights[0]
            torch.testing.assert_close(expected, adapted.false.weights[false], atol=1e-5, rtol=1e-5)
    mean = dcar(captions, seen)
    torch.testing.assert_close(mean.typical, normalize(images.mean(0), dim=0))
    torch.testing.assert_close(mean.blank, seen[1], atol=1e-6, rtol=1e-5)
    assert (mean.adapt_classes(captions).weights - adapter.adapt_classes(captions).weights).abs().max() > 1e-5


def test_images_without_a_category_share_none(captions, seen):
    adapter, plain = dcar(captions, seen, alpha=2.0), dcar(captions, seen, alpha=0.0)
    pool = CaptionPool(captions, IMAGE_OF, seen[0].pooled, torch.full((3,), -1))
    batch, labels = pool.posed(torch.tensor([1, 2, 0]), draws())
    found = [
        each.losses(TrainingBatch(seen[0], each.adapt_classes(batch), labels, draws(), seen[0], batch))["category"]
        for each in (adapter, plain)
    ]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_its_loss_is_the_category_loss_of_what_it_made(captions, seen, pool, alpha):
    adapter = dcar(captions, seen, alpha=alpha, category_weight=0.5)
    order = torch.tensor([1, 2, 0])
    batch, labels = pool.posed(order, draws())
    adapted, images = adapter.adapt_classes(batch), adapter.adapt_images(seen[0][order], batch)
    found = adapter.losses(TrainingBatch(images, adapted, labels, draws(), seen[0][order], batch))
    expected = category_loss(
        10 * images.pooled @ adapted.weights.T,
        torch.tensor([[1, 0, 0], [0, 1, 1], [0, 1, 1]]).bool(),
        10 * images.pooled @ adapted.false.weights.T,
        adapted.false.same_category,
        torch.tensor([0, 0, 1, 1, 2, 2]),
        alpha,
    )
    assert found.keys() == {"category"}
    torch.testing.assert_close(found["category"], 0.5 * expected)


def test_each_control_takes_one_thing_away(captions, seen):
    controls = DCAR.controls(DCARConfig())
    assert controls.keys() == {"no-reweighting", "no-image-prompts", "no-category-weights"}
    assert not controls["no-reweighting"].reweighting
    assert controls["no-category-weights"].alpha == 0
    plain = dcar(captions, seen, image_prompts=False)
    assert torch.equal(plain.adapt_images(seen[0], captions).pooled, seen[0].pooled)
    moved = dcar(captions, seen).adapt_images(seen[0], captions).pooled
    assert (moved - seen[0].pooled).abs().max() > 1e-6


def test_a_step_takes_one_caption_of_each_image_and_all_come_in_turn(pool):
    images, took = torch.tensor([2, 0, 1, 2]), set()
    for seed in range(20):
        batch, labels = pool.posed(images, draws(seed))
        assert labels.tolist() == [0, 1, 2, 3]
        places = [CAPTIONS.index(name) for name in batch.names]
        assert IMAGE_OF[places].tolist() == images.tolist()
        assert batch.false.texts == tuple(n.text for place in places for n in NEGATIVES[place])
        took |= set(places)
    assert took == set(range(5))
    again = pool.posed(images, draws(19))[0]
    assert again.names == batch.names


def test_pixels_are_asked_for_in_words(captions, seen):
    with pytest.raises(InputError, match="needs pixels"):
        dcar(captions, seen).adapt_images(ImageFeatures(seen[0].pooled), captions)
