"""Zero-shot CLIP, CLAP, CLIP-Adapter, GraphAdapter and Attn-Adapter against their equations, one class at a time."""

import pytest
import torch
from torch.nn.functional import normalize

from hyperadapt.adapters.attn_adapter import AttnAdapter, AttnAdapterConfig
from hyperadapt.adapters.base import BuildContext, TrainingBatch
from hyperadapt.adapters.clap import CLAPConfig
from hyperadapt.adapters.clipadapter import ClipAdapterConfig
from hyperadapt.adapters.graphadapter import GraphAdapterConfig
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.methods import load_method
from hyperadapt.model import build_model
from hyperadapt.parts import PartFeatures
from hyperadapt.text import ClassText
from tests.shot_scenes import COUNTS, LABELS, NAMES, SCALE, WIDTH, context, images, logits, prepared, shots, text, unit


def shaken(module, seed=3, scale=0.3):
    """Parameters away from their first values."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module


@pytest.mark.parametrize("name", ["zero-shot", "zero-shot-template"])
def test_zero_shot_scores_are_scaled_cosines_with_the_class_weights_or_with_the_first_template_alone(name):
    templates = unit(3, len(NAMES), WIDTH, seed=4)
    classes = ClassText(NAMES, templates, normalize(templates.mean(0), dim=-1))
    pooled, rows = unit(5, WIDTH, seed=5), templates[0] if name == "zero-shot-template" else templates.sum(0)
    expected = [[SCALE * (image @ row) / (image.norm() * row.norm()) for row in rows] for image in pooled]
    model = build_model(load_method(name), context(classes), seed=1)
    torch.testing.assert_close(logits(model, pooled, classes), torch.tensor(expected))


def test_claps_multipliers_are_the_mean_probability_of_each_class_on_its_shots():
    model, classes = prepared("adapter", "clap")
    views, _ = shots()
    for k in range(len(NAMES)):
        own = [row for row, label in zip(views.pooled, LABELS * 2, strict=True) if label == k]
        sure = [(SCALE * classes.weights @ row).softmax(0)[k] for row in own]
        assert len(own) == 2 * COUNTS[k]
        torch.testing.assert_close(model.adapter.multipliers[k], torch.stack(sure).mean())


def test_clap_holds_a_class_without_shots_by_one():
    model, _ = prepared("adapter", "clap", labels=(2, 0, 0, 2))
    assert model.adapter.multipliers[1] == 1
    assert (model.adapter.multipliers[[0, 2]] < 1).all()


def test_claps_penalty_sums_weighted_squared_distances_to_the_texts():
    model, classes = prepared("adapter", "clap", weight=0.5)
    shaken(model)
    adapted = model.adapter.adapt_classes(classes)
    images = shots(1)[0]
    batch = TrainingBatch(images, adapted, torch.tensor(LABELS), None, images, classes)
    moved = classes.weights + model.adapter.change
    expected = 0.5 * sum(
        model.adapter.multipliers[k] * (moved[k] - classes.weights[k]).square().sum() for k in range(len(NAMES))
    )
    torch.testing.assert_close(model.adapter.losses(batch)["distance_to_text"], expected)
    torch.testing.assert_close(adapted.weights, normalize(moved, dim=-1))


@pytest.mark.parametrize("sides", ["visual", "text", "both"])
def test_clip_adapter_mixes_a_bottleneck_into_the_sides_it_is_told(sides):
    model, classes = prepared("adapter", "clip-adapter", sides=sides, ratio=0.3, text_ratio=0.4)
    pooled = unit(5, WIDTH, seed=4)

    def by_hand(features, bottleneck, ratio):
        hidden = (features @ bottleneck.down.weight.T).clamp(min=0)
        mixed = ratio * (hidden @ bottleneck.up.weight.T).clamp(min=0) + (1 - ratio) * features
        return mixed / mixed.norm(dim=1, keepdim=True)

    adapter = model.adapter
    seen, read = adapter.adapt_images(ImageFeatures(pooled), classes).pooled, adapter.adapt_classes(classes).weights
    torch.testing.assert_close(seen, pooled if sides == "text" else by_hand(pooled, adapter.visual, 0.3))
    torch.testing.assert_close(
        read, classes.weights if sides == "visual" else by_hand(classes.weights, adapter.text, 0.4)
    )
    assert (adapter.visual is None, adapter.text is None) == (sides == "text", sides == "visual")


def one_graph(first, nodes, weight, bias):
    """Node 0 and the nodes of a chunk as a whole graph; the convolution of all of them, of which node 0 is kept."""
    features = torch.cat([first[None], nodes])
    edges = (features @ features.T).clamp(min=0) + torch.eye(len(features))
    roots = edges.sum(1).rsqrt()
    return torch.tanh(torch.diag(roots) @ edges @ torch.diag(roots) @ features @ weight + bias)[0]


@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_graphadapter_is_a_loop_over_whole_graphs(chunks):
    model, _ = prepared("adapter", "graphadapter", chunks=chunks, keep=0.6, text_share=0.8)
    adapter, trained = shaken(model).adapter, text()
    views, labels = shots()
    means = torch.stack([views.pooled[labels.repeat(2) == k].mean(0) for k in range(3)])
    means = means / means.norm(dim=1, keepdim=True)
    listed = text(("dog", "cat", "ant"), seed=8)
    for row, name in enumerate(listed.names):
        first, found = listed.weights[row], 0
        for share, graph, nodes in ((0.8, adapter.text_graph, trained.weights), (0.2, adapter.visual_graph, means)):
            bias = graph.bias[NAMES.index(name)] if name in NAMES else torch.zeros(WIDTH)
            parts = [nodes[[k for k in range(3) if k % chunks == q]] for q in range(min(chunks, 3))]
            found = found + share * sum(one_graph(first, part, graph.weight, bias) for part in parts) / len(parts)
        expected = 0.6 * first + 0.4 * found
        torch.testing.assert_close(adapter.adapt_classes(listed).weights[row], expected / expected.norm())


def attended(query, rows, attention):
    """One query over its rows."""
    affinities = torch.stack([attention.key(row) @ attention.query(query) / WIDTH**0.5 for row in rows])
    found = query + attention.gate(query) * sum(w * row for w, row in zip(affinities.softmax(0), rows, strict=True))
    return found / found.norm()


def test_a_class_text_attends_over_its_own_shots_alone_and_a_new_one_stays():
    model, _ = prepared("adapter", "attn-adapter")
    adapter, (views, labels) = shaken(model).adapter, shots()
    means = normalize(views.pooled.unflatten(0, (2, -1)).mean(0), dim=-1)
    listed = text(("dog", "cat", "ant"), seed=8)
    found = adapter.adapt_classes(listed).weights
    torch.testing.assert_close(found[0], listed.weights[0])
    for row, name in ((1, "cat"), (2, "ant")):
        own = means[labels == NAMES.index(name)]
        torch.testing.assert_close(found[row], attended(listed.weights[row], own, adapter.memory))
        assert (found[row] - listed.weights[row]).abs().max() > 1e-2


def test_attention_over_shots_counts_what_each_class_has():
    counts, labels = (3, 1, 2), torch.tensor([2, 0, 0, 1, 2, 0])
    adapter = AttnAdapter(AttnAdapterConfig(), BuildContext(text(), WIDTH, None, SCALE, 6, counts))
    classes, pooled = text(), images(labels.tolist(), seed=5)
    adapter.prepare(ImageFeatures(pooled), labels, classes)
    shaken(adapter)
    for k in range(3):
        expected = attended(classes.weights[k], pooled[labels == k], adapter.memory)
        torch.testing.assert_close(adapter.adapt_classes(classes).weights[k], expected)


def test_an_image_attends_over_its_own_positions():
    facts = BuildContext(text(), WIDTH, 5, SCALE, sum(COUNTS), COUNTS)
    adapter = shaken(AttnAdapter(AttnAdapterConfig(memory=False), facts))
    content, pooled = 3 * unit(4, 6, WIDTH, seed=2), unit(4, WIDTH, seed=3)
    batch = ImageFeatures(pooled, PartFeatures(unit(4, 6, 5, seed=4), content))
    found = adapter.adapt_images(batch, text())
    for i in range(4):
        rows = content[i] / content[i].norm(dim=-1, keepdim=True)
        torch.testing.assert_close(found.pooled[i], attended(pooled[i], rows, adapter.local))
    assert found.parts is batch.parts
    assert torch.equal(adapter.adapt_classes(text()).weights, text().weights)
    assert torch.equal(adapter.adapt_images(ImageFeatures(pooled), text()).pooled, pooled)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: CLAPConfig(weight=-1.0), "clap needs weight"),
        (lambda: ClipAdapterConfig(text_ratio=1.5), "text_ratio in"),
        (lambda: GraphAdapterConfig(chunks=0), "chunks >= 1"),
        (lambda: AttnAdapterConfig(memory=False, local=False), "memory or local"),
    ],
)
def test_settings_out_of_range_are_refused(made, said):
    with pytest.raises(InputError, match=said):
        made()
