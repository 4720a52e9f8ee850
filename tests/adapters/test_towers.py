"""Methods that change both towers: each against plain copies of the towers, changed by hand."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.adapters.clip_lora import CLIPLoRAConfig
from hyperadapt.adapters.skip_tuning import SkipTuningConfig
from hyperadapt.backbone import ImageFeatures, load_backbone
from hyperadapt.errors import InputError
from hyperadapt.methods import load_method, method_from_dict
from hyperadapt.model import build_model
from hyperadapt.text import class_text
from hyperadapt.text_tower import TextTower
from hyperadapt.tower_weights import Remembered
from hyperadapt.training import TrainingSet, train
from hyperadapt.training.distributed import World
from hyperadapt.training.sampling import Batch
from hyperadapt.training.step import StepLosses
from manifolds.regularizers import GeneratorDraws, RecordingDraws
from tests.conftest import build_clip, to_pixels

NAMES = ("red bird", "blue bird", "striped fish", "spotted fish", "tall flower", "grey cat")
TEMPLATE = "a photo of a {}."
METHODS = ["clip-lora", "layer-norms", "skip-tuning"]
LABELS = torch.arange(12) % len(NAMES)


@pytest.fixture(scope="module")
def classes(small_backbone):
    return class_text(small_backbone.text, NAMES, [TEMPLATE])


@pytest.fixture(scope="module")
def images(small_backbone, noise_images):
    pixels = torch.stack([to_pixels(image) for image in noise_images])
    return replace(small_backbone.encode_images(pixels), pixels=pixels)


def build(name, classes, **settings):
    recipe = {"name": name, "adapter": {"type": name, **settings}}
    return build_model(method_from_dict(recipe), BuildContext(classes, 32, None, 100.0, 12, (2,) * len(classes)), 1)


def shaken(model, size=0.05):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.adapter.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return model


def encoded_by(model, tokenizer, images):
    """Images and texts through a plain tower."""
    texts = TextTower(model, tokenizer).encode([TEMPLATE.format(name) for name in NAMES])
    with torch.no_grad():
        return normalize(model.encode_image(images.pixels), dim=-1), texts


def adapted(model, images, classes):
    with torch.no_grad():
        found = model.eval().adapter.adapt_classes(classes)
        return model.adapter.adapt_images(images, found).pooled, found.weights


@pytest.mark.parametrize("name", METHODS)
def test_before_training_features_are_those_of_the_frozen_towers_to_the_bit(name, classes, images, small_backbone):
    seen, texts = adapted(build(name, classes), images, classes)
    assert torch.equal(seen, images.pooled)
    fresh = TextTower(small_backbone.model, small_backbone.tokenizer)  # which keeps no text of another batch
    assert torch.equal(texts, fresh.encode([TEMPLATE.format(n) for n in NAMES]))


@pytest.mark.parametrize("scaling", ["rank", "root"])
def test_low_rank_changes_are_added_to_queries_keys_and_values(scaling, classes, images, small_backbone):
    model = shaken(build("clip-lora", classes, rank=3, alpha=2.0, scaling=scaling), 0.2)
    factor = 2.0 / (3 if scaling == "rank" else math.sqrt(3))
    plain = copy.deepcopy(small_backbone.model)
    for change, tower in ((model.adapter.image, plain.visual), (model.adapter.text, plain)):
        for i, block in enumerate(tower.transformer.resblocks):
            width = block.attn.embed_dim
            for j in range(3):
                part = factor * change.up[i, j].detach() @ change.down[i, j].detach()
                block.attn.in_proj_weight.data[j * width : (j + 1) * width] += part
    for found, expected in zip(
        adapted(model, images, classes), encoded_by(plain, small_backbone.tokenizer, images), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (adapted(model, images, classes)[0] - images.pooled).abs().max() > 1e-2


def test_unmerged_changes_are_the_merged_ones_where_no_input_is_dropped(classes, images):
    model = shaken(build("clip-lora", classes, dropout=1e-9), 0.2).train()
    merged = adapted(model, images, classes)
    draws = GeneratorDraws(torch.Generator().manual_seed(1))
    with torch.no_grad(), model.adapter.drawing(draws, slice(0, 12), 12):
        found = model.adapter.adapt_classes(classes)
        seen = model.adapter.adapt_images(images, found)
    torch.testing.assert_close(found.weights, merged[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen.pooled, merged[0], atol=1e-5, rtol=1e-5)
    assert not vars(classes.prompt_tower.model.visual.transformer.resblocks[0].attn).get("forward")


def test_dropout_leaves_out_its_share_and_keeps_the_mean_of_the_change(classes):
    model = build("clip-lora", classes).train()
    draws = RecordingDraws(GeneratorDraws(torch.Generator().manual_seed(1)))
    with model.adapter.drawing(draws, slice(2, 5), 12):
        mask = model.adapter._mask(of_images=True)(3, 200, 40)
    assert draws.numbers[0].shape == (3, 12, 200, 40), "for the whole batch, so that processes agree"
    assert mask.shape == (3, 3, 200, 40)
    assert mask.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.01)


def test_processes_together_drop_what_one_process_drops(classes, images):
    """Shares of a batch, played one after the other with equal draws, make the features of the whole batch."""
    model = shaken(build("clip-lora", classes), 0.2).train()

    def seen(own):
        draws = GeneratorDraws(torch.Generator().manual_seed(1))
        with torch.no_grad(), model.adapter.drawing(draws, own, 12):
            return model.adapter.adapt_images(images[own], classes).pooled

    parts = [seen(World(rank, 2).share(12)) for rank in range(2)]
    torch.testing.assert_close(torch.cat(parts), seen(slice(0, 12)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["layer-norms", "skip-tuning"])
def test_own_weights_stand_for_those_of_the_towers(name, classes, images, small_backbone):
    model = shaken(build(name, classes))
    plain = copy.deepcopy(small_backbone.model)
    for own, tower in ((model.adapter.image, plain.visual), (model.adapter.text, plain)):
        for place, weight in own.named_parameters():
            tower.get_parameter(place.replace("/", ".")).data.copy_(weight)
    for found, expected in zip(
        adapted(model, images, classes), encoded_by(plain, small_backbone.tokenizer, images), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (adapted(model, images, classes)[0] - images.pooled).abs().max() > 1e-3


def test_which_weights_are_tuned(classes):
    norms, skip = build("layer-norms", classes).adapter, build("skip-tuning", classes).adapter
    names = {name for name, _ in norms.image.named_parameters()}
    assert {"ln_pre/weight", "ln_post/bias", "transformer/resblocks/2/ln_2/weight"} <= names
    assert all("ln_" in name for name in names)
    assert len(names) == 2 * (2 + 2 * 3)
    assert len(list(norms.text.parameters())) == 2 * (1 + 2 * 2)
    tops = {name.split("/")[2] for name, _ in skip.image.named_parameters() if "resblocks" in name}
    assert tops == {"1", "2"}
    assert {name.split("/")[2] for name, _ in skip.text.named_parameters() if "resblocks" in name} == {"1"}
    rest = {name for name, _ in [*skip.image.named_parameters(), *skip.text.named_parameters()] if "/r" not in name}
    assert rest == {"ln_post/weight", "ln_post/bias", "proj", "ln_final/weight", "ln_final/bias", "text_projection"}


def test_remembered_activations_change_nothing(classes, images):
    """Training passes enter after the frozen layers; features and gradients are those of whole passes."""
    model = shaken(build("skip-tuning", classes)).train()
    images = replace(images, rows=torch.arange(12))  # as a training step says

    def gradients():
        found = model.adapter.adapt_classes(classes)
        seen = model.adapter.adapt_images(images, found).pooled
        loss = cross_entropy(100 * seen @ found.weights.T, LABELS)
        return loss.detach(), torch.autograd.grad(loss, list(model.adapter.parameters()))

    first, again = gradients(), gradients()
    model.adapter.training = False
    whole = gradients()
    for other in (again, whole):
        torch.testing.assert_close(first, other, atol=1e-4, rtol=1e-3)
    model.adapter.training = True
    assert len(model.train().adapter._of_images._kept) == 12
    assert len(model.eval().adapter._of_images._kept) == 0


def test_what_is_remembered_is_made_once_within_its_budget():
    made, memory = [], Remembered(budget_bytes=10)
    for _ in range(2):
        found = memory.of(["a", "b", "c"], lambda i: (made.append(i), torch.full((1,), float(i)))[1])
        assert [float(value) for value in found] == [0.0, 1.0, 2.0]
    assert made == [0, 1, 2, 2]


def test_the_most_relevant_classes_and_those_of_the_labels_take_part(classes, images):
    adapter = build("skip-tuning", classes, relevant=0.5).adapter
    part, labels = images[:1], LABELS[:1]
    always = adapter.taking_part(classes, part, labels, GeneratorDraws(torch.Generator().manual_seed(1)))
    order = (part.pooled[0] @ classes.weights.T).argsort(descending=True).tolist()
    order.remove(0)
    expected = {0, *order[:3]}  # the first of the others has chance one
    assert set(always.tolist()) >= expected
    assert always.tolist() == sorted(always.tolist())
    everyone = adapter.taking_part(classes, images, LABELS, GeneratorDraws(torch.Generator().manual_seed(1)))
    assert everyone.tolist() == list(range(6)), "every class has an image in the batch"
    assert build("skip-tuning", classes, relevant=1.0).adapter.taking_part(classes, part, labels, None) is None


def test_chances_of_other_classes_fall_exponentially_from_one_to_none():
    config = SkipTuningConfig(relevant=0.5, decay=0.3)
    chances = config.chances(20)
    assert (chances[0], chances[-1]) == (1.0, 0.0)
    tail = math.exp(-5 / 0.3)
    for i, chance in enumerate(chances):
        assert chance == pytest.approx((math.exp(-5 * i / 9 / 0.3) - tail) / (1 - tail))
    assert config.always(1000) == 50


def test_a_step_is_scored_among_the_classes_that_take_part(classes, images, monkeypatch):
    model = build("skip-tuning", classes).train()
    monkeypatch.setattr(model.adapter, "taking_part", lambda *_: torch.tensor([1, 4]))
    data, rows = TrainingSet(images[:3], torch.tensor([4, 1, 1]), classes), torch.arange(3)
    found = StepLosses(model, data)(Batch(rows, rows, rows, rows), GeneratorDraws(torch.Generator()))
    scores = 100 * images.pooled[:3] @ classes.weights[[1, 4]].T
    torch.testing.assert_close(
        found["cross_entropy"], cross_entropy(scores, torch.tensor([1, 0, 0])), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("name", METHODS)
def test_towers_that_cannot_be_changed_are_named(name, tokenizer):
    resnet = build_clip(vision={"layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "image_size": 32})
    backbone = load_backbone(resnet, tokenizer=tokenizer, preprocess=to_pixels)
    listed = class_text(backbone.text, NAMES, [TEMPLATE])
    with pytest.raises(InputError, match="ModifiedResNet"):
        build(name, listed)
    if name == "skip-tuning":
        return
    images = replace(backbone.encode_images(torch.zeros(2, 3, 32, 32)), pixels=torch.zeros(2, 3, 32, 32))
    seen, texts = adapted(shaken(build(name, listed, towers="text")), images, listed)
    assert torch.equal(seen, images.pooled)
    assert not torch.allclose(texts, listed.weights, atol=1e-3)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="rank >= 1"):
        CLIPLoRAConfig(rank=0)
    with pytest.raises(InputError, match="exactly one"):
        CLIPLoRAConfig(template="a photo")
    with pytest.raises(InputError, match="decay > 0"):
        SkipTuningConfig(decay=0.0)


def two_stages(classes, images, steps=10, **settings):
    method = load_method("2sfs")
    model = build_model(method, BuildContext(classes, 32, None, 100.0, 12, (2,) * 6), 1)
    config = replace(method.training, steps=steps, batch_size=6, **settings)
    return model, TrainingSet(images, LABELS, classes), config


def test_the_classifier_starts_at_the_tuned_texts_and_the_towers_rest_from_then_on(classes, images):
    model, data, config = two_stages(classes, images)
    seen = []

    def watch(done, _total):
        tower = [p.detach().clone() for p in model.adapter.parameters()]
        seen.append((tower, model.head.weight.detach().clone(), bool(model.head.started)))

    start = [p.detach().clone() for p in model.adapter.parameters()]
    train(model, data, config, 1, watch)
    assert [started for *_, started in seen] == [False] * 6 + [True] * 4
    assert all(not torch.equal(a, b) for a, b in zip(start[:1], seen[5][0][:1], strict=True))
    for tower, *_ in seen[6:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[5][0], tower, strict=True))
    assert all(torch.equal(seen[0][1], weight) for _, weight, _ in seen[:6])
    texts = adapted(model, images, classes)[1]
    moved = (seen[6][1] - texts).abs()
    assert 0 < float(moved.max()) <= 2.2e-4, "one AdamW step from the texts of the tuned tower"
    assert model.trainable == list(model.parameters())


def test_new_names_are_scored_by_the_tuned_texts_and_known_ones_by_the_classifier(classes, images, small_backbone):
    model, data, config = two_stages(classes, images, learning_rate=1e-2)
    train(model, data, config, 1)
    mixed = class_text(small_backbone.text, ["green frog", NAMES[3]], [TEMPLATE])
    pooled, texts = adapted(model, images, mixed)
    own = normalize(model.head.weight[3], dim=-1)
    expected = 100 * pooled @ torch.stack([texts[0], own]).T
    torch.testing.assert_close(next(model.scores([images], mixed)), expected, atol=1e-4, rtol=1e-4)
    assert (own - texts[1]).abs().max() > 1e-3


def test_only_images_pass_an_adapter_that_reads_pixels(classes, images):
    with pytest.raises(InputError, match="needs pixels"):
        build("clip-lora", classes).adapter.adapt_images(ImageFeatures(images.pooled), classes)
