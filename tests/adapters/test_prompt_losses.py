"""KgCoOp and ProGrad against CoOp with their terms written out; attribute words against whole prompts."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cosine_similarity, kl_div, log_softmax, softmax

from hyperadapt.adapters.base import BuildContext
from hyperadapt.adapters.coop import CoOp, CoOpConfig
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.methods import load_method, method_from_dict
from hyperadapt.model import build_model
from hyperadapt.text import class_text
from hyperadapt.text_tower import TextTower
from hyperadapt.training import TrainingSet, loss_terms, train
from hyperadapt.training.step import Stepper
from hyperadapt.training_config import TrainingConfig
from manifolds.regularizers import GeneratorDraws
from tests.conftest import to_pixels
from tests.training.test_step import batch, draws

NAMES = ("red bird", "blue bird", "striped fish")
TEMPLATES = ["a photo of a {}, a type of animal.", "a drawing of a {}."]


@pytest.fixture
def data(small_backbone, noise_images):
    classes = class_text(small_backbone.text, NAMES, TEMPLATES)
    images = small_backbone.encode_images(torch.stack([to_pixels(i) for i in noise_images]))
    return TrainingSet(ImageFeatures(images.pooled), torch.arange(12) % 3, classes)


def model(data, adapter, seed=2):
    context = BuildContext(data.classes, data.classes.weights.shape[1], None, 100.0)
    return build_model(method_from_dict({"name": "t", "adapter": adapter}), context, seed).train()


def terms_of(built, data):
    return loss_terms(built, data.classes, data.images, data.labels, GeneratorDraws(torch.Generator()))


RANDOM = {"start": "random", "context_length": 3}


def test_kgcoop_is_coop_and_eight_times_the_distance_from_the_first_template(data):
    kg, plain = model(data, {"type": "kgcoop", "prompts": RANDOM}), model(data, {"type": "coop", **RANDOM})
    found, expected = terms_of(kg, data), terms_of(plain, data)
    assert torch.equal(found["cross_entropy"], expected["cross_entropy"])
    adapted = plain.adapter.adapt_classes(data.classes).weights
    distance = sum(1 - cosine_similarity(a, b, dim=0) for a, b in zip(adapted, data.classes.templates[0], strict=True))
    torch.testing.assert_close(found["consistency"], 8 * distance / 3)


def by_hand(built, data):
    """Gradients of cross entropy and of KL(zero-shot || learned), from the definitions."""
    learned = 100.0 * data.images.pooled @ built.adapter.adapt_classes(data.classes).weights.T
    frozen = softmax(100.0 * data.images.pooled @ data.classes.templates[0].T, dim=-1)
    followed = -log_softmax(learned, dim=-1)[torch.arange(12), data.labels].mean()
    divergence = kl_div(log_softmax(learned, dim=-1), frozen, reduction="batchmean")
    contexts = built.adapter.prompts.contexts
    return [torch.autograd.grad(loss, contexts, retain_graph=True)[0] for loss in (followed, divergence)]


@pytest.mark.parametrize("budget", [2**30, 1])
@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize("acute", [True, False])
def test_prograd_steps_along_the_projected_gradient(acute, pieces, budget, data):
    """In pieces too, and where activations are made again for each of the two gradients."""
    tower = TextTower(data.classes.tower.model, data.classes.tower.tokenizer, activation_budget_bytes=budget)
    data = replace(data, classes=replace(data.classes, tower=tower))
    zero_shot = data.images.pooled @ data.classes.templates[0].T
    data = replace(data, labels=zero_shot.argmax(dim=-1) if acute else zero_shot.argmin(dim=-1))
    built = model(data, {"type": "prograd", "prompts": RANDOM})
    g, h = by_hand(built, data)
    along = float((g * h).sum())
    assert (along > 0) == acute
    Stepper(built, data, TrainingConfig(accumulate=pieces)).backward(batch(range(12)), draws())
    expected = g if acute else g - along / float((h * h).sum()) * h
    torch.testing.assert_close(built.adapter.prompts.contexts.grad, expected, atol=1e-5, rtol=1e-4)


def test_where_the_angle_is_acute_prograd_trains_as_coop_to_the_bit(data):
    agreeing = (100.0 * data.images.pooled @ data.classes.templates[0].T).argmax(dim=-1)
    data = replace(data, labels=agreeing)
    guided, plain = model(data, {"type": "prograd", "prompts": RANDOM}), model(data, {"type": "coop", **RANDOM})
    config = TrainingConfig(optimizer="sgd", learning_rate=2e-3, steps=1, batch_size=12, warmup_epochs=0)
    for built in (guided, plain):
        train(built, data, config, 1)
    assert torch.equal(guided.adapter.prompts.contexts, plain.adapter.contexts)


def coop(data, **settings):
    torch.manual_seed(0)
    return CoOp(CoOpConfig(**settings), BuildContext(data.classes, data.classes.weights.shape[1], None, 100.0))


def test_without_attribute_words_atprompt_is_coop(data):
    settings = load_method("atprompt").adapter.settings
    bare = coop(data, **{**vars(settings), "attributes": ()})
    assert [name for name, _ in bare.named_parameters()] == ["contexts"]
    expected = coop(data, context_length=2, start="random").adapt_classes(data.classes).weights
    assert torch.equal(bare.adapt_classes(data.classes).weights, expected)


@pytest.mark.parametrize("class_specific", [False, True])
def test_attribute_prompts_are_those_of_the_whole_text(class_specific, data, small_backbone):
    """With learned vectors that are words, the features are those of the words written out."""
    tower = small_backbone.text
    prompts = coop(data, attributes=("color", "striped shape"), attribute_tokens=1, class_specific=class_specific)
    with torch.no_grad():
        prompts.attributes.contexts[0] = tower.word_vectors("any")
        prompts.attributes.contexts[1] = tower.word_vectors("some")
    template = "any color some striped shape a photo of a {}."
    expected = class_text(tower, NAMES, [template]).weights
    torch.testing.assert_close(prompts.adapt_classes(data.classes).weights, expected, atol=1e-5, rtol=1e-5)


def test_attribute_words_stay_fixed_and_their_vectors_learn(data):
    prompts = coop(data, attributes=("color", "shape"))
    words = prompts.attributes.words.clone()
    prompts.adapt_classes(data.classes).weights[0, 0].backward()
    assert prompts.attributes.contexts.grad.abs().sum() > 0
    assert {name for name, _ in prompts.named_parameters()} == {"contexts", "attributes.contexts"}
    assert torch.equal(prompts.attributes.words, words)
    assert "attributes.words" not in prompts.state_dict()


@pytest.mark.parametrize(
    ("adapter", "match"),
    [
        ({"type": "kgcoop", "consistency": -1}, "consistency"),
        ({"type": "prograd", "temperature": 0}, "temperature"),
        ({"type": "coop", "attribute_tokens": 0}, "attribute_tokens"),
    ],
)
def test_settings_that_cannot_be_are_refused(adapter, match):
    with pytest.raises(InputError, match=match):
        method_from_dict({"name": "t", "adapter": adapter})
