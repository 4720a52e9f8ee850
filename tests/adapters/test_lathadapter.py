from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from hyperadapt.adapters.base import BuildContext, TrainingBatch
from hyperadapt.adapters.lathadapter import EXTRA_CATEGORIES, LatHAdapter, LatHAdapterConfig
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.methods import load_method
from hyperadapt.model import build_model
from hyperadapt.text import ClassText, class_text
from hyperadapt.training import TrainingSet, train
from manifolds.regularizers import GeneratorDraws


def unit(*shape, seed=0):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def stored(classes=6, width=16):
    features = unit(2, classes, width)
    return ClassText(tuple(f"class {i}" for i in range(classes)), features, features[0])


def build(classes, **settings):
    torch.manual_seed(0)
    return LatHAdapter(LatHAdapterConfig(**settings), BuildContext(classes, classes.weights.shape[1], None, 100.0))


def batch(adapter, classes, images=24, seed=1, draw=3):
    labels = torch.arange(images) % len(classes)
    adapted = adapter.adapt_classes(classes)
    points = normalize(classes.weights[labels] + 0.5 * unit(images, classes.weights.shape[1], seed=seed), dim=-1)
    return TrainingBatch(ImageFeatures(points), adapted, labels, GeneratorDraws(torch.Generator().manual_seed(draw)))


def test_the_class_features_are_the_stated_attention():
    classes = stored()
    adapter = build(classes, attributes=5, residual=0.7)
    with torch.no_grad():
        adapter.value.weight.copy_(unit(16, 16, seed=4))
    found = adapter.adapt_classes(classes).weights
    a = normalize(adapter.attributes, dim=-1)
    for k, t in enumerate(classes.weights):
        scores = torch.stack([(adapter.query.weight @ t) @ (adapter.key.weight @ row) for row in a]) / 64**0.5
        bridge = adapter.value.weight @ (scores.softmax(0)[:, None] * a).sum(0)
        torch.testing.assert_close(found[k], normalize(t + 0.7 * bridge, dim=0))


def test_attributes_come_from_the_text_tower_where_there_is_one(small_backbone):
    classes = class_text(small_backbone.text, ["ant", "bee"], ["a photo of a {}."])
    adapter = build(classes, attributes=3, prompt_length=2)
    assert adapter.attributes.shape == (3, 2, 32)
    features = adapter.adapt_classes(classes).attributes
    words = classes.tower.tokenize(["red wing"])[0, 1:3]
    with torch.no_grad():
        adapter.attributes[0] = classes.tower.tower.token_embedding(words)
    again = adapter.adapt_classes(classes).attributes
    torch.testing.assert_close(again[0], classes.tower.encode(["red wing"])[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again[1:], features[1:])


def test_prompts_without_a_tower_are_refused():
    with pytest.raises(InputError, match="text tower"):
        build(stored(), attribute_source="prompts")


def test_parameters_at_vit_b_16_are_those_of_the_reading():
    classes = stored(width=512)
    adapter = build(classes, attributes=16)
    projections = sum(m.weight.numel() for m in (adapter.query, adapter.key, adapter.value))
    assert projections == 65536 + 262144
    assert sum(p.numel() for p in adapter.parameters()) == projections + 16 * 512 + 2


def test_images_stand_on_the_rim_and_the_rest_inside():
    classes = stored()
    adapter = build(classes, curvature=0.1, clip_radius=2.3)
    ball = adapter.image_to_ball.manifold
    for to_ball, share in ((adapter.image_to_ball, 1.0), (adapter.text_to_ball, 0.7), (adapter.attribute_to_ball, 0.5)):
        radius = ball.dist0(to_ball(classes.weights)).detach()
        torch.testing.assert_close(radius, torch.full_like(radius, 2 * 2.3 * share))


@pytest.mark.parametrize("manifold", ["poincare", "euclidean"])
def test_the_hierarchy_moves_attributes_categories_and_radii(manifold):
    classes = stored()
    adapter = build(classes, attributes=8, manifold=manifold)
    with torch.no_grad():
        adapter.value.weight.copy_(0.1 * unit(16, 16, seed=4))
    adapter.losses(batch(adapter, classes))["hierarchy"].backward()
    moved = {name for name, p in adapter.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {"attributes", "value.weight", "text_to_ball.log_scale", "attribute_to_ball.log_scale"} <= moved


def test_the_weight_multiplies_the_term_and_zero_leaves_it_out():
    classes = stored()
    found = {}
    for weight in (0.5, 1.0):
        adapter = build(classes, hier_weight=weight)
        found[weight] = adapter.losses(batch(adapter, classes))["hierarchy"]
    torch.testing.assert_close(found[1.0], 2 * found[0.5])
    adapter = build(classes, hier_weight=0.0)
    assert adapter.losses(batch(adapter, classes)) == {}


def test_at_weight_zero_the_geometry_cannot_matter():
    classes, method = stored(), load_method("lathadapter")
    images = ImageFeatures(unit(12, 16, seed=5))
    states = []
    for settings in ({"manifold": "poincare"}, {"manifold": "euclidean"}):
        config = replace(method.adapter.settings, hier_weight=0.0, **settings)
        off = replace(method, adapter=replace(method.adapter, settings=config))
        model = build_model(off, BuildContext(classes, 16, None, 100.0), 1)
        train(model, TrainingSet(images, torch.arange(12) % 6, classes), replace(method.training, steps=5), 1)
        states.append({k: v for k, v in model.state_dict().items() if "to_ball" not in k})
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_step_takes_the_batchs_categories_and_some_others():
    classes = stored(classes=EXTRA_CATEGORIES + 40, width=8)
    adapter = build(classes)
    given = batch(adapter, classes, images=10)
    chosen = adapter._categories(given)
    assert set(given.labels.tolist()) <= set(chosen.tolist())
    assert len(chosen) == len(set(chosen.tolist())) == EXTRA_CATEGORIES + 10
    assert chosen.tolist() == sorted(chosen.tolist())
    assert chosen.tolist() != adapter._categories(batch(adapter, classes, images=10, draw=4)).tolist()
    repeated = replace(given, labels=torch.tensor([5, 5, 9]))
    assert {5, 9} <= set(adapter._categories(repeated).tolist())
    assert len(adapter._categories(repeated)) == EXTRA_CATEGORIES + 3
    few = stored(classes=7)
    adapter = build(few)
    assert adapter._categories(batch(adapter, few)).tolist() == list(range(7))
