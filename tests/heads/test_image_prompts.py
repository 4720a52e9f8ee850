"""CoCoOp and mutual learning, whose prompts depend on the image, against CoOp and slow loops."""

import pytest
import torch
from torch.nn.functional import normalize, relu, softmax

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads import cocoop, mutual_learning
from hyperadapt.methods import method_from_dict
from hyperadapt.model import build_model
from hyperadapt.text import class_text
from tests.conftest import to_pixels

NAMES = ("red bird", "a striped fish", "tall flower")
TEMPLATES = ["a photo of a {}.", "a drawing of a {}."]
HEADS = ("cocoop", "mutual-learning")


@pytest.fixture
def classes(small_backbone):
    return class_text(small_backbone.text, NAMES, TEMPLATES)


@pytest.fixture
def images(small_backbone, noise_images):
    return small_backbone.encode_images(torch.stack([to_pixels(i) for i in noise_images[:5]]), with_parts=True)


def model(classes, kind="head", seed=3, **settings):
    context = BuildContext(classes, classes.weights.shape[1], None, 100.0)
    return build_model(method_from_dict({"name": "t", kind: settings}), context, seed).eval()


def moved(built):
    """Weights that are all away from where they start."""
    with torch.no_grad():
        for i, p in enumerate(built.parameters()):
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    return built.head


def scores(built, images, classes):
    return next(built.scores([images], classes))


@pytest.mark.parametrize(
    ("name", "attributes"), [("cocoop", ()), ("cocoop", ("color", "shape")), ("mutual-learning", ())]
)
def test_with_nothing_said_of_the_image_prompts_are_those_of_coop(name, attributes, classes, images):
    settings = {"attributes": attributes} if attributes else {}
    built = model(classes, type=name, start="random", **settings)
    last = built.head.shift[-1] if name == "cocoop" else built.head.class_aware.out
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
    plain = model(classes, "adapter", type="coop", start="random", **settings)
    plain.adapter.contexts.data.copy_(built.head.contexts)
    if attributes:
        plain.adapter.attributes.load_state_dict(built.head.attributes.state_dict())
    torch.testing.assert_close(scores(built, images, classes), scores(plain, images, classes), atol=1e-4, rtol=1e-5)


def slow_text(tower, before, name):
    """One prompt through the tower's own layers, at full length."""
    ids = tower.tokenize([f"{name}."], reserve=len(before))
    words = tower.tower.token_embedding(ids)[0]
    embedded = torch.cat([words[:1], before, words[1 : tower.context_length - len(before)]])
    x = tower.tower.transformer((embedded + tower.tower.positional_embedding)[None], attn_mask=tower.tower.attn_mask)
    end = int(ids.argmax()) + len(before)
    return normalize(tower.tower.ln_final(x)[0, end] @ tower.tower.text_projection, dim=-1)


@torch.no_grad()
def test_cocoop_is_its_slow_loop_over_images_and_classes(classes, images, monkeypatch):
    monkeypatch.setattr(cocoop, "IMAGES_AT_ONCE", 2)
    built = model(classes, type="cocoop", start="random")
    head = moved(built)
    first, _, last = head.shift
    expected = torch.zeros(len(images), len(NAMES))
    for i, f in enumerate(images.pooled):
        shift = last.weight @ relu(first.weight @ f + first.bias) + last.bias
        for c, name in enumerate(NAMES):
            expected[i, c] = 100.0 * f @ slow_text(classes.prompt_tower, head.contexts[0] + shift, name)
    torch.testing.assert_close(scores(built, images, classes), expected, atol=1e-3, rtol=1e-4)


def attended(module, query, rows):
    """What one query finds among rows."""
    asked = module.query(query)
    weights = softmax(torch.stack([asked @ module.key(row) for row in rows]) / len(asked) ** 0.5, dim=0)
    return module.out(sum(w * module.value(row) for w, row in zip(weights, rows, strict=True)))


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("parts", [(True, True), (True, False), (False, True)], ids=str)
@torch.no_grad()
def test_mutual_learning_is_its_slow_loop_over_images_and_classes(parts, positions, classes, images, monkeypatch):
    monkeypatch.setattr(mutual_learning, "IMAGES_AT_ONCE", 2)
    settings = dict(zip(("class_aware", "text_guided"), parts, strict=True))
    built = model(classes, type="mutual-learning", start="random", reduction=8, **settings)
    head = moved(built)
    images = images if positions else ImageFeatures(images.pooled)
    expected = torch.zeros(len(images), len(NAMES))
    for i, f in enumerate(images.pooled):
        rows = normalize(images.parts.content[i], dim=-1) if positions else f[None]
        texts = []
        for c, name in enumerate(NAMES):
            found = attended(head.class_aware, classes.weights[c], rows) if parts[0] else 0.0
            texts.append(slow_text(classes.prompt_tower, head.contexts[0] + found, name))
        guided = normalize(f + attended(head.text_guided, f, texts), dim=-1) if parts[1] else f
        expected[i] = 100.0 * torch.stack(texts) @ guided
    torch.testing.assert_close(scores(built, images, classes), expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_gradients_reach_everything_and_images_matter(name, classes, images):
    built = model(classes, type=name, start="random")
    head = moved(built).train()
    head.losses(images, head.encode_classes(classes), torch.tensor([0, 1, 2, 0, 1]))["cross_entropy"].backward()
    assert all(p.grad.abs().max() > 0 for p in head.parameters())
    apart = scores(built, images, classes) / scores(built, images[[1, 0, 2, 3, 4]], classes)
    assert not torch.allclose(apart, torch.ones_like(apart), atol=1e-3)


def test_only_images_that_attend_to_the_list_compare_classes(classes):
    assert model(classes, type="mutual-learning").head.compares_classes
    assert not model(classes, type="mutual-learning", text_guided=False).head.compares_classes


@pytest.mark.parametrize("head", [{"type": name, "reduction": 0} for name in HEADS], ids=str)
def test_settings_that_cannot_be_are_refused(head):
    with pytest.raises(InputError, match="reduction"):
        method_from_dict({"name": "t", "head": head})
