import pytest
import torch
from torch.nn.functional import normalize

from hyperadapt.backbone import load_backbone
from hyperadapt.errors import InputError
from hyperadapt.text import class_text, evenly_spaced
from tests.conftest import to_pixels


@pytest.fixture
def tower(any_model, tokenizer):
    return load_backbone(any_model, tokenizer=tokenizer, preprocess=to_pixels).text


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
