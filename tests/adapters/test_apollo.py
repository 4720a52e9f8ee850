"""APoLLo on a small CLIP: MaPLe before training, attention head by head, and its losses by hand."""

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.nn.functional import cosine_similarity, layer_norm, normalize

from hyperadapt.adapters.apollo import APoLLo, APoLLoConfig, CrossModalAdapter, jensen_shannon
from hyperadapt.adapters.base import BuildContext, TrainingBatch
from hyperadapt.adapters.maple import MaPLe, MaPLeConfig
from hyperadapt.augmented import ClassCaptions, ClassImages
from hyperadapt.backbone import load_backbone
from hyperadapt.errors import InputError
from hyperadapt.text import class_text
from manifolds.regularizers import RecordedDraws
from tests.scenes import write_images

CPU = torch.device("cpu")
NAMES = ["red_bird", "striped fish"]
LABELS = torch.tensor([0, 1, 0])
COUNTS = (2, 1)


@pytest.fixture
def classes(small_backbone):
    return class_text(small_backbone.text, NAMES, ["a photo of a {}.", "a drawing of a {}.", "{}"])


@pytest.fixture
def images(small_backbone):
    """Three shots in two views."""
    pixels = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return replace(small_backbone.encode_images(pixels), pixels=pixels)


def built(classes, images, moved=0.0, **settings):
    context = BuildContext(classes, 32, None, 100.0, 3, COUNTS)
    torch.manual_seed(0)
    apollo = APoLLo(APoLLoConfig(hidden=16, **settings), context)
    apollo.prepare(images, LABELS, classes)
    with torch.no_grad():
        for parameter in apollo.parameters():
            parameter.add_(torch.randn(parameter.shape) * moved)
    return apollo


def assert_near(found, expected, **tolerance):
    torch.testing.assert_close(found, expected, **({"atol": 1e-5, "rtol": 1e-5} | tolerance))


def test_before_training_it_is_maple(classes, images):
    apollo = built(classes, images)
    torch.manual_seed(0)
    maple = MaPLe(MaPLeConfig(), BuildContext(classes, 32, None, 100.0))
    assert_near(apollo.adapt_classes(classes).weights, maple.adapt_classes(classes).weights)
    assert_near(apollo.adapt_images(images, classes).pooled, maple.adapt_images(images, classes).pooled)


def test_the_adapters_attend_to_class_means_of_shots_and_to_class_texts(classes, images):
    apollo = built(classes, images)
    first = torch.stack([images.pooled[[0, 2, 3, 5]].mean(0), images.pooled[[1, 4]].mean(0)])
    assert_near(apollo.image_memory, normalize(first, dim=-1))
    assert torch.equal(apollo.text_memory, classes.weights)
    apollo = built(classes, images, moved=0.3)
    texts, pooled = (
        apollo.maple.adapt_classes(classes).weights,
        apollo.maple.adapt_images(images, classes).pooled,
    )
    memories = (apollo.image_memory, apollo.text_memory)
    assert_near(apollo.adapt_images(images, classes).pooled, apollo.image_adapter(pooled, *memories))
    assert_near(apollo.adapt_classes(classes).weights, apollo.text_adapter(texts, *reversed(memories)))


def attended(attention, query, keys):
    """One query's attention over keys, head by head."""
    width = len(query)
    weights, biases = attention.in_proj_weight.split(width), attention.in_proj_bias.split(width)
    q, (k, v) = weights[0] @ query + biases[0], (keys @ w.T + b for w, b in zip(weights[1:], biases[1:], strict=True))
    mixed = []
    for head in range(attention.num_heads):
        part = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
        scores = [float((q[part] @ row[part]).detach()) / math.sqrt(attention.head_dim) for row in k]
        total = sum(math.exp(score) for score in scores)
        mixed.append(sum(math.exp(s) / total * row[part] for s, row in zip(scores, v, strict=True)))
    return attention.out_proj(torch.cat(mixed))


def test_a_cross_modal_adapter_is_a_loop_over_features_and_heads():
    torch.manual_seed(0)
    adapter = CrossModalAdapter(16, heads=4, hidden=24)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    x, own, other = (normalize(torch.randn(n, 16), dim=-1) for n in (3, 5, 4))

    def normed(v, norm):
        return layer_norm(v, (16,), norm.weight, norm.bias)

    rows = []
    for row in x:
        for attention, norm, seen in (
            (adapter.to_own, adapter.norms[0], own),
            (adapter.to_other, adapter.norms[1], other),
        ):
            row = row + attended(attention, normed(row, norm), normed(seen, norm)) / math.sqrt(len(row))
        first, second = adapter.layers[1], adapter.layers[3]
        row = row + second((first(normed(row, adapter.layers[0]))).clamp(min=0)) / math.sqrt(len(row))
        rows.append(row / row.norm())
    assert_near(adapter(x, own, other), torch.stack(rows))


@torch.no_grad()
def test_losses_are_soft_targets_of_both_modalities_and_the_divergence_of_scores(classes, images):
    """By hand; images 0 and 1 of the batch take the random views 5 and 4, the classes templates 2 and 0."""
    apollo = built(classes, images, moved=0.1)
    adapted_classes, adapted = apollo.adapt_classes(classes), apollo.adapt_images(images[:2], classes)
    draws = RecordedDraws([torch.tensor([0.6, 0.9]), torch.tensor([0.7, 0.1])])
    batch = TrainingBatch(adapted, adapted_classes, torch.tensor([0, 1]), draws, images[:2], classes)
    found = {name: float(term) for name, term in apollo.losses(batch).items()}
    clean, texts = adapted.pooled, adapted_classes.weights
    other = apollo.adapt_images(images[[5, 4]], classes).pooled
    other_texts = apollo.text_adapter(
        torch.stack([classes.templates[2, 0], classes.templates[0, 1]]), apollo.text_memory, apollo.image_memory
    )

    def softmax(scores):
        powers = [math.exp(float(score)) for score in scores]
        return [power / sum(powers) for power in powers]

    def soft(a, b):
        total = 0.0
        for one, partner in zip(a, b, strict=True):
            targets = softmax(cosine_similarity(partner[None], b) / 0.04)
            answers = softmax(cosine_similarity(one[None], b) / 0.2)
            total -= sum(t * math.log(p) for t, p in zip(targets, answers, strict=True))
        return total / len(a)

    def divergence(p, q):
        middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        return sum(a * math.log(a / m) / 2 for side in (p, q) for a, m in zip(side, middle, strict=True))

    apart = [
        divergence(softmax(100 * texts @ one), softmax(100 * other_texts @ two))
        for one, two in zip(clean, other, strict=True)
    ]
    expected = {
        "steady_images": 2 * soft(clean, other),
        "steady_texts": 2 * soft(texts, other_texts),
        "steady_scores": 2 * sum(apart) / 2,
    }
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_targets_are_not_pulled_by_the_clean_branch(classes, images):
    apollo = built(classes, images)
    clean, augmented = (normalize(torch.randn(3, 4), dim=-1).requires_grad_() for _ in range(2))
    targets = (augmented.detach() @ augmented.detach().T / 0.04).softmax(dim=1)
    expected = -(targets * (clean @ augmented.T / 0.2).log_softmax(dim=1)).sum(dim=1).mean()
    slopes = torch.autograd.grad(expected, (clean, augmented))
    for slope, found in zip(
        slopes, torch.autograd.grad(apollo._soft_targets(clean, augmented), (clean, augmented)), strict=True
    ):
        assert_near(found, slope)


def test_equal_scores_are_at_no_distance_and_its_slope_is_finite():
    scores = torch.tensor([[300.0, 0.0, -300.0]], requires_grad=True)
    apart = jensen_shannon(scores, scores.detach())
    apart.backward()
    assert float(apart.detach()) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(scores.grad).all()


def test_other_images_are_random_views_of_the_class_and_never_the_plain_one(classes, images):
    found = ClassImages.of(images, LABELS, classes, None)
    assert found.of_class == [[3, 5], [4]]
    only = images[:3]
    assert ClassImages.of(only, LABELS, classes, None).of_class == [[0, 2], [1]]
    drawn = found.drawn(torch.tensor([1, 0, 0]), RecordedDraws([torch.tensor([0.99, 0.0, 0.5])]), CPU)
    assert torch.equal(drawn, images.pixels[[4, 3, 5]])


def test_a_model_does_not_keep_the_training_images(classes, images):
    held = replace(images, pixels=images.pixels.clone())
    found = ClassImages.of(held, LABELS, classes, None)
    del held
    with pytest.raises(InputError, match="gone"):
        found.drawn(torch.tensor([0]), RecordedDraws([torch.zeros(1)]), CPU)


def test_generated_images_come_from_a_folder_by_class_name(classes, tmp_path):
    tiny = load_backbone("tiny", device="cpu")
    names = class_text(tiny.text, NAMES, ["{}"])
    found = ClassImages.of(None, LABELS, names, str(write_images(tmp_path, ("red bird", "striped_fish"), per_class=2)))
    drawn = found.drawn(torch.tensor([1, 0]), RecordedDraws([torch.tensor([0.9, 0.2])]), CPU)
    files = [tmp_path / "striped_fish" / "01.png", tmp_path / "red bird" / "00.png"]
    assert torch.equal(drawn, torch.stack([tiny.preprocess(Image.open(file)) for file in files]))


def test_captions_come_from_a_file_and_are_used_again_where_a_class_has_fewer(classes, small_backbone, tmp_path):
    file = tmp_path / "captions.json"
    file.write_text(json.dumps({"striped fish": ["one fish"], "red_bird": ["a bird", "two birds"], "other": []}))
    found = ClassCaptions.of(classes, str(file))
    expected = small_backbone.text.encode(["a bird", "one fish", "two birds", "one fish"]).unflatten(0, (2, 2))
    assert_near(found.features, expected)
    drawn = found.drawn(RecordedDraws([torch.tensor([0.6, 0.2])]))
    assert_near(drawn, torch.stack([expected[1, 0], expected[0, 1]]))
    assert ClassCaptions.of(classes, None).features is classes.templates


def test_files_that_lack_a_class_and_towers_of_unknown_reading_are_refused(classes, tmp_path):
    write_images(tmp_path / "images", ("red bird",), per_class=1)
    with pytest.raises(InputError, match="striped fish"):
        ClassImages.of(None, LABELS, classes, str(tmp_path / "images"))
    with pytest.raises(InputError, match="no folder"):
        ClassImages.of(None, LABELS, classes, str(tmp_path / "none"))
    write_images(tmp_path / "more", ("red bird", "striped fish"), per_class=1)
    with pytest.raises(InputError, match="how it reads images"):
        ClassImages.of(None, LABELS, classes, str(tmp_path / "more"))
    with pytest.raises(InputError, match="cannot read captions"):
        ClassCaptions.of(classes, str(tmp_path / "none.json"))


@pytest.mark.parametrize("wrong", [{"heads": 0}, {"temperature": 0.0}, {"consistency_weight": -1.0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match="apollo needs"):
        APoLLoConfig(**wrong)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(InputError, match="divide the width 32"):
        CrossModalAdapter(32, heads=5, hidden=8)
