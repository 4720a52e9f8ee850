import pytest
import torch
from torch.nn.functional import normalize

from hyperadapt.backbone import load_backbone
from hyperadapt.errors import InputError
from hyperadapt.text import class_text, evenly_spaced
from tests.conftest import to_pixels

TEXTS = ["a bird", "a photo of a red winged striped finch.", "x", "two words"]


@pytest.fixture
def tower(any_model, tokenizer):
    return load_backbone(any_model, tokenizer=tokenizer, preprocess=to_pixels).text


def test_cut_sequences_give_the_full_towers_features(tower, tokenizer, any_model):
    with torch.no_grad():
        expected = normalize(any_model.eval().encode_text(tokenizer(TEXTS)), dim=-1)
    torch.testing.assert_close(tower.encode(TEXTS), expected, atol=1e-5, rtol=1e-5)


def test_contexts_made_of_word_embeddings_give_the_plain_texts_features(tower):
    words = tower.tokenize(["a photo of a"])[0, 1:5]
    contexts = tower.tower.token_embedding(words)[None, None]
    names = ["bird.", "striped finch."]
    prompted = tower.prompts(contexts, tower.tokenize(names, reserve=4))[0]
    torch.testing.assert_close(prompted, tower.encode([f"a photo of a {name}" for name in names]), atol=1e-5, rtol=1e-5)


def test_prompts_of_several_parts_and_classes_are_each_encoded_alone(tower):
    generator = torch.Generator().manual_seed(0)
    contexts = torch.randn(3, 2, 2, tower.width, generator=generator)
    ids = tower.tokenize(["bird", "red fish"], reserve=2)
    together = tower.prompts(contexts, ids)
    assert together.shape[:2] == (3, 2)
    for part in range(3):
        for name in range(2):
            alone = tower.prompts(contexts[part : part + 1, name : name + 1], ids[name : name + 1])[0, 0]
            torch.testing.assert_close(together[part, name], alone, atol=1e-5, rtol=1e-5)


def test_a_name_too_long_for_the_context_is_named(tower):
    long = "a " + "very " * 30 + "long bird"
    with pytest.raises(InputError) as caught:
        tower.tokenize(["bird", long])
    assert long in str(caught.value)
    assert "24" in str(caught.value)
    fits = "red " * 19
    tower.tokenize([fits])
    with pytest.raises(InputError, match="room for 20"):
        tower.tokenize([fits], reserve=4)


def test_a_foreign_text_tower_says_that_it_takes_no_contexts(any_model, tokenizer):
    tower = load_backbone(any_model, tokenizer=tokenizer, preprocess=to_pixels).text
    tower.tower = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match="Linear"):
        tower.prompts(torch.zeros(1, 1, 2, 32), tokenizer(["a"]))


def test_the_class_feature_is_the_normalised_mean_over_templates(tower):
    names, templates = ["bird", "red_fish"], ["a photo of a {}.", "a drawing of a {}."]
    classes = class_text(tower, names, templates)
    assert classes.names == ("bird", "red fish")
    for k, name in enumerate(classes.names):
        rows = tower.encode([template.format(name) for template in templates])
        torch.testing.assert_close(classes.templates[:, k], rows, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(classes.weights[k], normalize(rows.mean(0), dim=0), atol=1e-5, rtol=1e-5)


def test_selecting_classes_keeps_names_and_features_together(tower):
    classes = class_text(tower, ["a", "b", "c"], ["{}"])
    some = classes.select([2, 0])
    assert some.names == ("c", "a")
    assert torch.equal(some.weights, classes.weights[[2, 0]])
    assert torch.equal(some.templates, classes.templates[:, [2, 0]])


@pytest.mark.parametrize("template", ["no place", "{} and {}"])
def test_a_template_without_one_place_for_the_name_is_refused(tower, template):
    with pytest.raises(InputError, match="exactly one"):
        class_text(tower, ["a", "b"], [template])


@pytest.mark.parametrize("total", range(1, 12))
@pytest.mark.parametrize("count", range(1, 6))
def test_evenly_spaced_indices_are_distinct_and_inside(count, total):
    picked = evenly_spaced(count, total)
    assert len(set(picked)) == len(picked) == min(count, total)
    assert all(0 <= i < total for i in picked)
    assert list(picked) == sorted(picked)
