"""HeGraphAdapter, SgVA-CLIP and MF-Adapter against their equations written out."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.hegraphadapter import HeGraphAdapterConfig, negative_texts
from hyperadapt.heads.mf_adapter import MFAdapter, MFAdapterConfig, sliding_windows, typical
from hyperadapt.heads.sgva import SgVAConfig
from hyperadapt.parts import PartFeatures
from hyperadapt.text import class_text
from manifolds.regularizers import GeneratorDraws, RecordedDraws
from tests.adapters.test_class_adapters import shaken
from tests.shot_scenes import COUNTS, LABELS, NAMES, SCALE, WIDTH, images, logits, prepared, shots, text, unit


def kept():
    """Cached images class by class, with their labels, and normalised mean images."""
    views, labels = shots()
    means = normalize(views.pooled.unflatten(0, (2, -1)).mean(0), dim=-1)
    keys = [(means[i], int(labels[i])) for k in range(3) for i in range(len(LABELS)) if labels[i] == k]
    visual = [views.pooled[labels.repeat(2) == k].mean(0) for k in range(3)]
    return keys, torch.stack([row / row.norm() for row in visual])


def cosine(x, y):
    return float((x @ y / x.norm() / y.norm()).detach())


def received(target, own, map_, sources, source_map, reference, sign, with_self=True):
    """What one target receives, source by source; `own` is its position among the training classes or None."""
    edges = [sign(own, j) * cosine(target, row) for j, row in enumerate(sources)]
    degree = sum(map(abs, edges))
    total = map_(target) / (degree + 1) if with_self else torch.zeros(WIDTH)
    for edge, row in zip(edges, sources, strict=True):
        leaving = sum(abs(cosine(other, row)) for other in reference)
        total = total + edge * source_map(row) / math.sqrt((degree + 1) * (leaving + 1))
    return torch.tanh(total)


@pytest.mark.parametrize("training", [False, True])
def test_hegraphadapter_is_a_loop_over_edges(training):
    model, _ = prepared("head", "hegraphadapter", key_share=0.2, cache_share=0.7)
    head, trained = shaken(model).head, text().weights
    (keys, visual), listed, new = kept(), text(("dog", "cat", "ant"), seed=8), images([0, 1, 2, 2], seed=4)
    negative = torch.stack([normalize(sum(trained[j] for j in range(3) if j != k), dim=0) for k in range(3)])
    p, n, v = head.positive_map, head.negative_map, head.visual_map
    plain, denied, others = (lambda i, j: 1), (lambda i, j: -1 if i == j else 1), (lambda i, j: 0 if i == j else 1)
    moved = torch.stack(
        [
            negative[k]
            + 0.5 * received(negative[k], k, n, trained, p, negative, denied)
            + 0.5 * received(negative[k], k, n, visual, v, negative, denied)
            for k in range(3)
        ]
    )
    positions = [NAMES.index(name) if name in NAMES else None for name in listed.names]
    rows = [
        x
        + 0.06 * received(x, k, p, trained, p, trained, plain)
        + 0.24 * received(x, k, p, visual, v, trained, plain)
        + (0.2 if training else 0.1) * received(x, k, p, moved, n, trained, denied)
        for x, k in zip(listed.weights, positions, strict=True)
    ]
    gathered = [received(visual[k], k, v, visual, v, visual, others, with_self=False) for k in range(3)]
    shifted = [(normalize(key + 0.2 * gathered[label], dim=0), label) for key, label in keys]
    by_text = SCALE * new @ torch.stack([row / row.norm() for row in rows]).T
    of_cache = torch.zeros(len(new), 3)
    for key, label in shifted:
        of_cache[:, label] += SCALE * torch.exp(new @ key - 1) / COUNTS[label]
    nothing = torch.zeros(len(new))
    shares = torch.stack([nothing if k is None else of_cache.softmax(1)[:, k] for k in positions], dim=1)
    by_cache = torch.stack([nothing if k is None else of_cache[:, k] for k in positions], dim=1)
    draws = GeneratorDraws(torch.Generator().manual_seed(0)) if training else None
    encoded = head.encode_classes(listed, draws)
    expected = torch.log(by_text.softmax(1) + 0.7 * shares)
    torch.testing.assert_close(head.logits(ImageFeatures(new), encoded), expected, atol=1e-3, rtol=1e-3)
    labels = torch.tensor([2, 1, 2, 1])
    terms = head.losses(ImageFeatures(new), encoded, labels)
    torch.testing.assert_close(terms["text"], cross_entropy(by_text, labels), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(terms["cache"], cross_entropy(by_cache, labels), atol=1e-3, rtol=1e-3)


def test_a_new_class_with_the_name_of_a_known_one_has_its_share_of_the_cache_and_the_others_none():
    model, _ = prepared("head", "hegraphadapter")
    new = images([0, 1, 2, 2], seed=4)

    def added(listed):
        by_text = (SCALE * new @ model.head.encode_classes(listed).text.T).softmax(dim=1)
        return logits(model, new, listed).exp() - by_text

    known, among_new = added(text()), added(text(("elk", NAMES[1], "fox"), seed=8))
    torch.testing.assert_close(among_new[:, 1], known[:, 1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(among_new[:, [0, 2]], torch.zeros(len(new), 2), atol=1e-6, rtol=0)
    assert known[:, 1].min() < 0.5


def test_negative_texts_are_prompts_where_there_is_a_tower(small_backbone):
    classes = class_text(small_backbone.text, NAMES, ["a photo of a {}."])
    expected = small_backbone.text.encode([f"a photo of no {name}." for name in NAMES])
    torch.testing.assert_close(negative_texts(classes), expected)


def adapted(head, x):
    found = head.mix * (head.widen.weight @ x).clamp(min=0) @ head.narrow.weight.T + (1 - head.mix) * x
    return found / found.norm()


def test_sgva_compares_adapted_images_with_means_of_adapted_shots_and_with_texts():
    model, _ = prepared("head", "sgva", image_share=0.4)
    head, (keys, _) = shaken(model).head, kept()
    listed, new = text(("dog", "cat", "ant"), seed=8), images([0, 1, 2, 2], seed=4)
    own = [sum(adapted(head, key) for key, label in keys if label == k) for k in range(3)]
    means = torch.stack([mean / mean.norm() for mean in own])
    means, rows = means - means.mean(0) + text().weights.mean(0), []
    for image in new:
        x, row = adapted(head, image), []
        for k, name in enumerate(listed.names):
            score = SCALE * image @ listed.weights[k]
            if name in NAMES:
                score = 0.4 * SCALE * x @ means[NAMES.index(name)] + 0.6 * score
            row.append(score)
        rows.append(torch.stack(row))
    torch.testing.assert_close(logits(model, new, listed), torch.stack(rows).detach(), atol=1e-3, rtol=1e-3)


def test_a_class_without_shots_has_clips_score_in_sgva_and_no_part_in_the_others():
    model, classes = prepared("head", "sgva", labels=(2, 0, 0, 2))
    encoded = shaken(model).head.encode_classes(classes)
    assert encoded.known.tolist() == [True, False, True]
    new = images([0, 1, 2], seed=4)
    torch.testing.assert_close(logits(model, new, classes)[:, 1], SCALE * new @ classes.weights[1])
    torch.testing.assert_close(encoded.means[[0, 2]].mean(0), classes.weights[[0, 2]].mean(0))


def test_sgva_learns_from_means_of_half_of_the_shots():
    model, classes = prepared("head", "sgva", temperature=3.0)
    head, (keys, _) = shaken(model).head, kept()
    numbers = torch.rand(len(LABELS), generator=torch.Generator().manual_seed(1))
    encoded = head.encode_classes(classes, RecordedDraws([numbers]))
    means = []
    for k in range(3):
        own = [(float(numbers[i]), key) for i, (key, label) in enumerate(keys) if label == k]
        chosen = sorted(own, key=lambda pair: pair[0])[: (len(own) + 1) // 2]
        mean = sum(adapted(head, key) for _, key in chosen)
        means.append(mean / mean.norm())
    moved = torch.stack(means) - sum(means) / 3 + classes.weights.mean(0)
    torch.testing.assert_close(encoded.means, moved, atol=1e-5, rtol=1e-4)
    new, labels = images([0, 1, 2, 2], seed=4), torch.tensor([0, 1, 2, 2])
    x = torch.stack([adapted(head, image) for image in new])
    by_means, by_text = SCALE * x @ encoded.means.T, SCALE * new @ classes.weights.T
    terms = head.losses(ImageFeatures(new), encoded, labels)
    torch.testing.assert_close(terms["means"], cross_entropy(by_means, labels))
    assert terms.keys() == {"means", "distillation"}
    teacher = (by_text / 3).softmax(1)
    entropy = -(teacher * teacher.log()).sum(1).mean()
    distance = kl_div((by_means / 3).log_softmax(1), teacher, reduction="batchmean")
    torch.testing.assert_close(terms["distillation"], distance + entropy, atol=1e-4, rtol=1e-4)


def test_windows_are_means_over_squares_that_step_by_half_their_side():
    maps = torch.randn(2, 17, 3, generator=torch.Generator().manual_seed(0))
    grid = maps[:, 1:].view(2, 4, 4, 3)
    expected = [grid[:, y : y + 2, x : x + 2].mean((1, 2)) for y in range(3) for x in range(3)]
    expected.append(grid.mean((1, 2)))
    torch.testing.assert_close(sliding_windows(maps, (2, 4)), normalize(torch.stack(expected, 1), dim=-1))
    torch.testing.assert_close(sliding_windows(maps[:, 1:], (2, 9)), sliding_windows(maps, (2, 4)))


def test_typical_windows_are_near_their_own_mean_and_far_from_the_others():
    windows, labels = unit(30, 5, seed=1), torch.arange(30) % 3
    means = [normalize(windows[labels == k].sum(0), dim=0) for k in range(3)]
    found = typical(windows, labels, 4, 4)
    for k in range(3):
        own = [row for row, label in zip(windows, labels, strict=True) if label == k]
        own.sort(key=lambda row: max(float(row @ means[j]) for j in range(3) if j != k) - float(row @ means[k]))
        torch.testing.assert_close(found[k], torch.stack(own[:4]))
    assert found[3].abs().max() == 0
    assert torch.equal(typical(windows[:3], labels[:3], 3, 2)[:, 0], typical(windows[:3], labels[:3], 3, 2)[:, 1])


@pytest.mark.parametrize("with_parts", [True, False])
def test_mf_adapter_is_clip_a_cache_and_the_nearest_windows(with_parts):
    width = 5 if with_parts else None
    config = MFAdapterConfig(windows=(1, 2), units=3, local_weight=4.0, cache_weight=2.0)
    head = MFAdapter(config, BuildContext(text(), WIDTH, width, SCALE, len(LABELS), COUNTS))

    def seen(labels, seed):
        parts = PartFeatures(unit(len(labels), 9, 5, seed=seed), unit(len(labels), 9, WIDTH, seed=seed))
        return ImageFeatures(images(labels, seed), parts if with_parts else None)

    train, labels = seen(LABELS, 60), torch.tensor(LABELS)
    head.prepare(train, labels, text())
    shaken(head)
    new, listed = seen([0, 1, 2, 2], 4), text(("dog", "cat", "ant"), seed=8)
    found = head.logits(new, head.encode_classes(listed))
    windows = sliding_windows(new.parts.maps, (1, 2)) if with_parts else new.pooled[:, None]
    queries = normalize(windows + windows @ head.change, dim=-1)
    for i in range(4):
        added = {}
        for own, name in enumerate(NAMES):
            rows = [row for row, label in zip(train.pooled, LABELS, strict=True) if label == own]
            cache = sum(torch.exp(-5.5 * (1 - new.pooled[i] @ row)) for row in rows)
            nearest = [max(query @ unit_ for query in queries[i]) for unit_ in head.units[own]]
            added[name] = 2.0 * cache + 4.0 * sum(torch.exp(-5.5 * (1 - near)) for near in nearest) / 3
        for k, name in enumerate(listed.names):
            score = SCALE * new.pooled[i] @ listed.weights[k]
            if name in NAMES:
                score = score + added[name] - sum(added.values()) / 3
            torch.testing.assert_close(found[i, k], score, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: HeGraphAdapterConfig(to_negative=(1.0,)), "two weights"),
        (lambda: SgVAConfig(temperature=0.0), "temperature > 0"),
        (lambda: MFAdapterConfig(windows=()), "windows and units"),
    ],
)
def test_settings_out_of_range_are_refused(made, said):
    with pytest.raises(InputError, match=said):
        made()
