from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.adapters.coop import CoOp, CoOpConfig
from hyperadapt.captions import caption_text
from hyperadapt.contexts import PromptedNames
from hyperadapt.errors import InputError
from hyperadapt.text import ClassText, class_text

NAMES = ["red bird", "blue_bird", "striped fish"]
TEMPLATE = ["a photo of a {}."]


@pytest.fixture
def classes(small_backbone):
    return class_text(small_backbone.text, NAMES, [*TEMPLATE, "a drawing of a {}."])


def adapter(classes, **settings):
    torch.manual_seed(0)
    return CoOp(CoOpConfig(**settings), BuildContext(classes, classes.weights.shape[1], None, 100.0))


@pytest.mark.parametrize("class_specific", [False, True])
def test_contexts_of_the_first_words_are_the_template(class_specific, classes, small_backbone):
    expected = class_text(small_backbone.text, NAMES, TEMPLATE).weights
    found = adapter(classes, class_specific=class_specific).adapt_classes(classes).weights
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_new_names_go_through_the_shared_contexts(classes, small_backbone):
    coop = adapter(classes)
    new = class_text(small_backbone.text, ["green frog", "red bird"], ["an etching of the {}."])
    expected = class_text(small_backbone.text, ["green frog", "red bird"], TEMPLATE).weights
    torch.testing.assert_close(coop.adapt_classes(new).weights, expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        coop.contexts.copy_(coop.contexts.flip(-1))
    assert not torch.allclose(coop.adapt_classes(new).weights, expected, atol=1e-3)


def test_contexts_of_classes_follow_their_names_and_new_names_are_zero_shot(classes, small_backbone):
    coop = adapter(classes, class_specific=True, context_length=3)
    own = coop.adapt_classes(classes).weights
    listed = class_text(small_backbone.text, ["green frog", "striped fish", "red bird"], TEMPLATE)
    found = coop.adapt_classes(listed).weights
    torch.testing.assert_close(found, torch.stack([listed.weights[0], own[2], own[0]]), atol=1e-5, rtol=1e-5)
    alone = listed.select([0])
    assert torch.equal(coop.adapt_classes(alone).weights, alone.weights)
    assert coop.contexts.shape[0] == 3
    assert not torch.equal(coop.contexts[0], coop.contexts[1])


@pytest.mark.parametrize("settings", [{"context_length": 16}, {"start": "random"}])
def test_other_contexts_start_at_random_and_small(settings, classes):
    contexts = adapter(classes, **settings).contexts
    assert contexts.shape[:2] == (1, settings.get("context_length", 4))
    assert 0.01 < float(contexts.detach().std()) < 0.03


def test_gradients_reach_the_contexts_and_nothing_else(classes, small_backbone):
    coop = adapter(classes)
    coop.adapt_classes(classes).weights[0, 0].backward()
    assert coop.contexts.grad.abs().sum() > 0
    assert [name for name, _ in coop.named_parameters()] == ["contexts"]
    assert all(p.grad is None for p in small_backbone.model.parameters())


def test_stored_features_are_refused_in_one_sentence():
    templates = normalize(torch.randn(2, 3, 16), dim=-1)
    stored = ClassText(tuple(NAMES), templates, templates[0])
    with pytest.raises(InputError, match="need a text tower"):
        adapter(stored)


def test_a_name_that_does_not_fit_behind_the_contexts_is_named(classes):
    coop = adapter(classes, context_length=16, start="random")
    with pytest.raises(InputError, match="very long"):
        coop.adapt_classes(replace(classes, names=("a", "b", "very long " * 10)))


def test_captions_are_prompted_as_they_are_and_cut_where_they_are_too_long(small_backbone):
    tower = small_backbone.text
    texts = ("a red bird.", "a bird with " + "a very " * 100 + "long tail.")
    captions = caption_text(texts, tower.encode(texts, cut=True), tower)
    assert torch.equal(PromptedNames.of(captions, 4).ids, tower.tokenize(texts, 4, cut=True))
    with pytest.raises(InputError, match="shorten"):
        PromptedNames.of(class_text(tower, texts[:1], ["{}"]).select([0]), 76)
