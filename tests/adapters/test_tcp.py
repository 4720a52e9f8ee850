"""TCP against a slow pass layer by layer."""

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from hyperadapt.adapters.base import BuildContext, TrainingBatch
from hyperadapt.adapters.tcp import TCP, TCPConfig
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.text import class_text

NAMES = ("red bird", "a striped fish", "tall flower")
TEMPLATES = ["a photo of a {}, a type of animal.", "a drawing of a {}."]


@pytest.fixture
def classes(small_backbone):
    return class_text(small_backbone.text, NAMES, TEMPLATES)


def adapter(classes, **settings):
    torch.manual_seed(0)
    built = TCP(TCPConfig(**settings), BuildContext(classes, classes.weights.shape[1], None, 100.0))
    with torch.no_grad():
        for p in built.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return built


@pytest.mark.parametrize("layer", [0, 1, 8])
@torch.no_grad()
def test_class_tokens_take_the_place_of_the_contexts_before_one_block(layer, classes):
    """The layer is the last one where the tower (of 2) has fewer; the learned prompt ends as the template does."""
    tcp, tower = adapter(classes, layer=layer, context_length=3), classes.prompt_tower
    expected = []
    for name, frozen in zip(NAMES, classes.templates[0], strict=True):
        ids = tower.tokenize([f"{name}, a type of animal."], reserve=3)
        words = tower.tower.token_embedding(ids)[0]
        x = torch.cat([words[:1], tcp.contexts[0], words[1:-3]]) + tower.tower.positional_embedding
        hidden = tcp.narrow.weight @ frozen + tcp.narrow.bias
        tokens = tcp.widen.weight @ (hidden / (1 + torch.exp(-1.702 * hidden))) + tcp.widen.bias
        for index, block in enumerate(tower.tower.transformer.resblocks):
            if index == min(layer, 1):
                x[1:4] = tokens.view(3, -1)
            x = block(x[None], attn_mask=tower.tower.attn_mask)[0]
        end = int(ids.argmax()) + 3
        expected.append(normalize(tower.tower.ln_final(x[end]) @ tower.tower.text_projection, dim=-1))
    torch.testing.assert_close(tcp.adapt_classes(classes).weights, torch.stack(expected), atol=1e-5, rtol=1e-4)


def test_its_loss_is_eight_times_the_distance_from_the_first_template(classes):
    adapted = adapter(classes).adapt_classes(classes)
    images = ImageFeatures(classes.weights)
    batch = TrainingBatch(images, adapted, torch.arange(3), None, images, classes)
    near = [cosine_similarity(a, b, dim=0) for a, b in zip(adapted.weights, classes.templates[0], strict=True)]
    torch.testing.assert_close(adapter(classes).losses(batch)["consistency"], 8 * (1 - sum(near) / 3))


def test_gradients_reach_everything(classes):
    tcp = adapter(classes, layer=1)
    tcp.adapt_classes(classes).weights[:, 0].sum().backward()
    assert all(p.grad.abs().max() > 0 for p in tcp.parameters())


@pytest.mark.parametrize("settings", [{"reduction": 0}, {"layer": -1}, {"consistency": -1.0}], ids=str)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        TCPConfig(**settings)
