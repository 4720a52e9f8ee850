"""LatHAdapter: every reading does what it says, leaves zero-shot alone at the start and serves new names."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from hyperadapt.adapters.base import BuildContext, TrainingBatch
from hyperadapt.adapters.lathadapter import LatHAdapter, LatHAdapterConfig
from hyperadapt.adapters.lathadapter.adapter import EXTRA_CATEGORIES
from hyperadapt.adapters.lathadapter.hierarchy import READINGS as READING
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.methods import load_method, method_from_dict
from hyperadapt.model import build_model
from hyperadapt.text import ClassText, class_text
from hyperadapt.training import TrainingSet, train
from manifolds.regularizers import GeneratorDraws, attribute_triplets


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
    images, draws = ImageFeatures(points), GeneratorDraws(torch.Generator().manual_seed(draw))
    return TrainingBatch(images, adapted, labels, draws, images, classes)


READINGS = ["h0", "h1", "h2", "h3", "h4", "h5"]
CATEGORIES = ["attention", "bottleneck", "graph", "linear", "none"]
IMAGES = ["none", "linear", "attention", "linear and attention"]


def stirred(adapter, size=0.1):
    """The adapter with every weight away from its start, so that nothing is zero by design."""
    with torch.no_grad():
        for i, parameter in enumerate(adapter.parameters()):
            if parameter.ndim >= 2:
                parameter.add_(size * unit(*parameter.shape, seed=100 + i))
    return adapter


def test_attention_is_the_stated_one():
    classes = stored()
    adapter = stirred(build(classes, attributes=5, residual=0.7))
    (bridge,) = adapter.categories.bridges
    found = adapter.adapt_classes(classes)
    a = found.attributes
    torch.testing.assert_close(a, normalize(adapter.attributes.vectors, dim=-1))
    for k, t in enumerate(classes.weights):
        scores = torch.stack([(bridge.query.weight @ t) @ (bridge.key.weight @ row) for row in a]) / 64**0.5
        bridged = bridge.value.weight @ (scores.softmax(0)[:, None] * a).sum(0)
        torch.testing.assert_close(found.weights[k], normalize(t + 0.7 * bridged, dim=0))


def test_graph_messages_are_a_normalised_convolution_over_both_kinds():
    classes = stored()
    adapter = stirred(build(classes, attributes=5, categories="graph", residual=0.7))
    (bridge,) = adapter.categories.bridges
    found = adapter.adapt_classes(classes)
    t, a = classes.weights, found.attributes
    nodes = torch.cat([t, a])
    edges = torch.zeros(11, 11)
    edges[:6, 6:] = (t @ a.T).clamp(min=0)
    edges = edges + edges.T
    degrees = (1 + edges.sum(1)).rsqrt()
    edges = degrees[:, None] * edges * degrees
    told = nodes + edges @ nodes
    wanted = t + 0.7 * (edges[:6, 6:] @ told[6:]) @ bridge.value.weight.T
    torch.testing.assert_close(found.weights, normalize(wanted, dim=-1))


def test_attributes_come_from_the_text_tower_where_there_is_one(small_backbone):
    classes = class_text(small_backbone.text, ["ant", "bee"], ["a photo of a {}."])
    adapter = build(classes, attributes=3, prompt_length=2)
    tokens = adapter.attributes.tokens
    assert tokens.shape == (3, 2, 32)
    features = adapter.adapt_classes(classes).attributes
    with torch.no_grad():
        tokens[0] = classes.tower.word_vectors("red wing")
    again = adapter.adapt_classes(classes).attributes
    torch.testing.assert_close(again[0], classes.tower.encode(["red wing"])[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again[1:], features[1:])


def test_named_attributes_are_prompts_before_each_class_name(small_backbone):
    classes = class_text(small_backbone.text, ["ant", "honey_bee", "wasp"], ["a photo of a {}."])
    adapter = stirred(build(classes, attributes=3, prompt_length=2, attribute_source="named"))
    with torch.no_grad():
        adapter.attributes.tokens[1] = classes.tower.word_vectors("red wing")
    found = adapter.attributes(classes)
    assert found.shape == (3, 3, 32)
    wanted = classes.tower.encode(["red wing honey bee."])[0]
    torch.testing.assert_close(found[1, 1], wanted, atol=1e-5, rtol=1e-5)
    few = adapter.adapt_classes(classes.select([2, 1]))
    torch.testing.assert_close(few.weights, adapter.adapt_classes(classes).weights[[2, 1]], atol=1e-5, rtol=1e-5)


def test_attributes_can_start_from_words(small_backbone):
    classes = class_text(small_backbone.text, ["ant", "bee"], ["a photo of a {}."])
    adapter = build(classes, attributes=4, attribute_init="words")
    color = classes.tower.word_vectors("color")
    torch.testing.assert_close(adapter.attributes.tokens[0, : len(color)].detach(), color)


@pytest.mark.parametrize("settings", [{"attribute_source": "prompts"}, {"attribute_source": "named"}])
def test_prompts_without_a_tower_are_refused(settings):
    with pytest.raises(InputError, match="text tower"):
        build(stored(), **settings)
    with pytest.raises(InputError, match="text tower"):
        build(stored(), attribute_init="words")


@pytest.mark.parametrize(
    "settings", [{"attributes": 1}, {"curvature": 0.0}, {"zero_shot_share": 1.0}, {"margin": -1.0}]
)
def test_impossible_settings_are_refused_by_name(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        LatHAdapterConfig(**settings)


def test_parameters_at_vit_b_16_are_those_of_the_reading():
    classes = stored(width=512)
    adapter = build(classes, attributes=16)
    assert sum(p.numel() for p in adapter.parameters()) == 65536 + 262144 + 16 * 512 + 2


@pytest.mark.parametrize("categories", CATEGORIES)
@pytest.mark.parametrize("images", IMAGES)
def test_before_training_every_bridge_but_the_bottleneck_is_the_identity(categories, images):
    classes = stored()
    adapter = build(classes, categories=categories, images=images)
    adapted = adapter.adapt_classes(classes)
    found = adapter.adapt_images(ImageFeatures(unit(5, 16, seed=2)), adapted).pooled
    torch.testing.assert_close(found, unit(5, 16, seed=2))
    assert torch.allclose(adapted.weights, classes.weights, atol=1e-6) == (categories != "bottleneck")


@pytest.mark.parametrize("categories", [name for name in CATEGORIES if name != "graph"])
def test_no_class_depends_on_which_others_are_listed(categories):
    classes = stored()
    adapter = stirred(build(classes, categories=categories))
    torch.testing.assert_close(
        adapter.adapt_classes(classes.select([4, 1])).weights, adapter.adapt_classes(classes).weights[[4, 1]]
    )


def test_images_stand_on_the_rim_and_the_rest_inside():
    classes = stored()
    adapter = build(classes, curvature=0.1, clip_radius=2.3)
    nodes = adapter.nodes(batch(adapter, classes), adapter.hierarchy)
    for points, share in ((nodes.images, 1.0), (nodes.categories, 0.7), (nodes.attributes, 0.5)):
        radius = adapter.hierarchy.manifold.dist0(points).detach()
        torch.testing.assert_close(radius, torch.full_like(radius, 2 * 2.3 * share))


def test_the_shared_head_projects_all_nodes_to_its_dimension():
    classes = stored()
    adapter = build(classes, projection="head", projection_dim=7)
    nodes = adapter.nodes(batch(adapter, classes), adapter.hierarchy)
    assert {p.shape[1] for p in (nodes.images, nodes.categories, nodes.attributes)} == {7}


@pytest.mark.parametrize("hierarchy", READINGS)
@pytest.mark.parametrize("manifold", ["poincare", "euclidean"])
def test_every_hierarchy_moves_attributes_categories_and_radii(hierarchy, manifold):
    classes = stored()
    settings = {
        "attributes": 8,
        "manifold": manifold,
        "hierarchy": hierarchy,
        "learn_curvature": True,
        "margin": 9.0,
        "riemannian": True,
    }
    adapter = stirred(build(classes, **settings))
    adapter.losses(batch(adapter, classes))["hierarchy"].backward()
    moved = {name for name, p in adapter.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    wanted = {"attributes.vectors", "categories.bridges.0.value.weight", "hierarchy.attribute_to_ball.log_scale"}
    assert wanted | {"hierarchy.text_to_ball.log_scale"} <= moved
    assert any("curvature" in name for name in moved) == (manifold == "poincare")


def test_readings_arrange_what_they_say_under_what_they_say():
    classes = stored()
    for hierarchy, wanted in {
        "h1": [("x+t", "a"), ("a", "a")],
        "h2": [("x", "a"), ("a", "t"), ("t", "t")],
        "h3": [("x", "t"), ("t", "a"), ("a", "a")],
        "h4": [("x+t+a", "x+t+a")],
        "h5": [("x", "a"), ("t", "a"), ("a", "a")],
    }.items():
        adapter = build(classes, attributes=8, hierarchy=hierarchy)
        nodes = adapter.nodes(batch(adapter, classes), adapter.hierarchy)
        sets = {"x": nodes.images, "t": nodes.categories, "a": nodes.attributes}
        for (_, samples, candidates), (below, above) in zip(READING[hierarchy].terms(nodes), wanted, strict=True):
            assert torch.equal(samples.points, torch.cat([sets[name] for name in below.split("+")]))
            assert torch.equal(candidates, torch.cat([sets[name] for name in above.split("+")]))
            labelled = samples.labels is not None
            assert labelled == ("x" in below)


def test_the_triplet_reading_knows_each_images_category_among_those_of_the_step():
    classes = stored(classes=EXTRA_CATEGORIES + 40, width=8)
    adapter = build(classes, attributes=8, hierarchy="h0")
    given = batch(adapter, classes, images=10)
    nodes = adapter.nodes(given, adapter.hierarchy)
    found = adapter.hierarchy.terms(nodes, given.draws)["triplets"]
    own = torch.tensor([nodes.category_labels.tolist().index(label) for label in given.labels.tolist()])
    wanted = attribute_triplets(adapter.hierarchy.manifold, nodes.images, own, nodes.categories, nodes.attributes)
    torch.testing.assert_close(found.loss, wanted.loss)


@pytest.mark.parametrize("hierarchy", READINGS)
def test_the_radial_term_vanishes_where_levels_are_in_order(hierarchy):
    classes = stored()
    inner = {"h2": {"text_radius": 0.3, "attribute_radius": 0.6}}.get(hierarchy, {})
    outer = {"text_radius": 0.9, "attribute_radius": 1.0}
    radial = []
    for radii in ({"text_radius": 0.7, "attribute_radius": 0.4, **inner}, outer):
        adapter = build(classes, hierarchy=hierarchy, hier_weight=0.0, radial_weight=2.0, **radii)
        terms = adapter.losses(batch(adapter, classes))
        assert set(terms) == {"radius"}
        radial.append(terms["radius"].item())
    assert radial[0] == 0 < radial[1]


def test_the_weight_multiplies_the_term_and_zero_leaves_it_out():
    classes = stored()
    found = {}
    for weight in (0.5, 1.0):
        adapter = build(classes, hier_weight=weight)
        found[weight] = adapter.losses(batch(adapter, classes))["hierarchy"]
    torch.testing.assert_close(found[1.0], 2 * found[0.5])
    adapter = build(classes, hier_weight=0.0)
    assert adapter.losses(batch(adapter, classes)) == {}


def test_linear_maps_are_penalised_by_their_squares_over_the_training_images():
    classes = stored()
    context = BuildContext(classes, 16, None, 100.0, training_images=40)
    settings = {"categories": "linear", "images": "linear", "map_penalty": 3.0, "hier_weight": 0.0}
    adapter = stirred(LatHAdapter(LatHAdapterConfig(**settings), context))
    squares = sum(bridge.bridges[0].change.square().sum() for bridge in (adapter.categories, adapter.images))
    torch.testing.assert_close(adapter.losses(batch(adapter, classes))["map_penalty"], 3.0 * squares / 40)


def test_a_zero_shot_share_mixes_cosines():
    classes, images = stored(), ImageFeatures(unit(5, 16, seed=2))

    def cosines(share):
        adapter = stirred(build(classes, images="linear", zero_shot_share=share), 0.5)
        adapted = adapter.adapt_classes(classes)
        return adapter.adapt_images(images, adapted).pooled @ adapted.weights.T, adapter, adapted

    alone, _, _ = cosines(0.0)
    mixed, adapter, adapted = cosines(0.3)
    torch.testing.assert_close(mixed, 0.7 * alone + 0.3 * images.pooled @ classes.weights.T)
    seen = adapter.adapt_images(images, adapted)
    given = TrainingBatch(seen, adapted, torch.arange(5), GeneratorDraws(), images, classes)
    radius = adapter.hierarchy.manifold.dist0(adapter.nodes(given, adapter.hierarchy).images)
    torch.testing.assert_close(radius, torch.full_like(radius, 4.6))


def test_consistency_is_the_mean_angle_to_the_frozen_categories():
    classes = stored()
    for share in (0.0, 0.4):
        adapter = stirred(build(classes, consistency=2.0, hier_weight=0.0, zero_shot_share=share))
        plain = stirred(build(classes, hier_weight=0.0)).adapt_classes(classes).weights
        wanted = 2.0 * (1 - (plain * classes.weights).sum(-1)).mean()
        torch.testing.assert_close(adapter.losses(batch(adapter, classes))["consistency"], wanted)


def test_at_weight_zero_the_geometry_cannot_matter():
    classes, method = stored(), load_method("lathadapter-faithful")
    images = ImageFeatures(unit(12, 16, seed=5))
    states = []
    for settings in (
        {"manifold": "poincare"},
        {"manifold": "euclidean"},
        {"hierarchy": "h3"},
        {"learn_curvature": True},
    ):
        config = replace(method.adapter.settings, hier_weight=0.0, **settings)
        off = replace(method, adapter=replace(method.adapter, settings=config))
        model = build_model(off, BuildContext(classes, 16, None, 100.0), 1)
        train(model, TrainingSet(images, torch.arange(12) % 6, classes), replace(method.training, steps=5), 1)
        states.append({k: v for k, v in model.state_dict().items() if "hierarchy" not in k})
    assert all(torch.equal(states[0][key], other[key]) for other in states[1:] for key in states[0])


@pytest.mark.parametrize("hierarchy", ["h0", "h1", "h2", "h3", "h4", "h5"])
def test_one_category_alone_is_trained_and_what_needs_another_left_out(hierarchy):
    classes = stored(classes=1)
    adapter = build(classes, hier_weight=1.0, radial_weight=0.5, hierarchy=hierarchy)
    terms = adapter.losses(batch(adapter, classes))
    assert ("hierarchy" in terms) == (hierarchy != "h0")
    torch.stack([*terms.values()]).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in adapter.parameters() if p.grad is not None)


@pytest.mark.parametrize("head", ["cosine", "hyperbolic", "linear-probe", "tip-adapter", "gda", "sgva", "xrvlm"])
def test_a_share_of_zero_shot_is_refused_before_heads_of_one_width(head):
    classes = stored()
    settings = {"type": "lathadapter", "zero_shot_share": 0.3, "hier_weight": 0.0}
    method = method_from_dict({"name": "t", "adapter": settings, "head": {"type": head}})
    context = BuildContext(classes, 16, None, 100.0, 24, (4,) * len(classes))
    if head in ("cosine", "hyperbolic"):
        model = build_model(method, context, 0).eval()
        assert next(model.scores([ImageFeatures(unit(2, 16, seed=1))], classes)).shape == (2, len(classes))
        return
    with pytest.raises(InputError, match="zero_shot_share widens them; set it to 0"):
        build_model(method, context, 0)


def test_a_step_takes_the_batchs_categories_and_some_others():
    classes = stored(classes=EXTRA_CATEGORIES + 40, width=8)
    adapter = build(classes)
    given = batch(adapter, classes, images=10)
    chosen = adapter._chosen(given)
    assert set(given.labels.tolist()) <= set(chosen.tolist())
    assert len(chosen) == len(set(chosen.tolist())) == EXTRA_CATEGORIES + 10
    assert chosen.tolist() == sorted(chosen.tolist())
    assert chosen.tolist() != adapter._chosen(batch(adapter, classes, images=10, draw=4)).tolist()
    repeated = replace(given, labels=torch.tensor([5, 5, 9]))
    assert {5, 9} <= set(adapter._chosen(repeated).tolist())
    assert len(adapter._chosen(repeated)) == EXTRA_CATEGORIES + 3
    few = stored(classes=7)
    adapter = build(few)
    assert adapter._chosen(batch(adapter, few)).tolist() == list(range(7))


def test_what_acts_on_nothing_is_not_there():
    classes = stored()
    plain = build(classes, categories="none", images="linear", hier_weight=0.0)
    assert {name for name, _ in plain.named_parameters()} == {"images.bridges.0.change"}
    assert plain.adapt_classes(classes).attributes.shape == (0, 16)
    attended = build(classes, hier_weight=0.0)
    assert attended.attributes is not None
    assert attended.hierarchy is None
    assert build(classes, categories="none", radial_weight=0.1, hier_weight=0.0).attributes is not None


def test_attributes_are_described_without_a_hierarchy_too():
    classes = stored()
    for settings, told in (({"hier_weight": 0.0}, True), ({"hier_weight": 0.0, "categories": "none"}, False)):
        adapter = build(classes, **settings)
        found = adapter.describe(batch(adapter, classes), classes, [f"image {i}" for i in range(24)])
        assert (found is not None) == told
        assert found is None or "terms" not in found
