import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import normalize

from hyperadapt.__main__ import main
from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.tip_adapter import ALPHAS, BETAS, TipAdapter, TipAdapterConfig
from hyperadapt.methods import load_method
from hyperadapt.model import build_model
from hyperadapt.text import ClassText
from hyperadapt.training import RunFolder, TrainingSet, train
from tests.scenes import write_features

NAMES = ("ant", "bee", "cat")
LABELS = [2, 0, 0, 1, 2, 0]
COUNTS = (3, 1, 2)
VIEWS = 2


def unit(*shape, seed):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def text(names=NAMES, seed=1):
    templates = unit(1, len(names), 8, seed=seed)
    return ClassText(tuple(names), templates, templates[0])


def context(classes):
    return BuildContext(classes, 8, None, 20.0, len(LABELS), COUNTS)


def shots():
    """Two views of each training image, view-major."""
    return ImageFeatures(unit(VIEWS * len(LABELS), 8, seed=2)), torch.tensor(LABELS)


def prepared(name="tip-adapter", seed=1):
    classes = text()
    model = build_model(load_method(name), context(classes), seed)
    model.prepare(*shots(), classes)
    return model, classes


def logits(model, images, classes):
    return next(model.scores([ImageFeatures(images)], classes))


def by_hand(images, classes, alpha, beta, cached=(0, 1, 2, 3, 4, 5)):
    """One image, one class, one cached image after the other; a class has its part less the mean part of all."""
    views, labels = shots()
    keys = []
    for i in cached:
        mean = sum(views.pooled[v * len(labels) + i] for v in range(VIEWS)) / VIEWS
        keys.append(mean / mean.norm())
    rows = []
    for image in images:
        row = []
        parts = dict.fromkeys(NAMES, 0.0)
        for key, i in zip(keys, cached, strict=True):
            parts[NAMES[LABELS[i]]] += alpha * math.exp(-beta * (1 - float(image @ key)))
        for k, name in enumerate(classes.names):
            score = 20.0 * float(image @ classes.weights[k])
            if name in parts:
                score += parts[name] - sum(parts.values()) / len(parts)
            row.append(score)
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("names", [NAMES, ("cat", "ant", "bee"), ("dog", "cat", "eel", "ant"), ("dog", "eel")])
def test_logits_are_those_of_a_loop_over_the_cache(names):
    model, _ = prepared()
    classes, images = text(names, seed=5), unit(7, 8, seed=4)
    torch.testing.assert_close(
        logits(model, images, classes), by_hand(images, classes, 1.17, 1.0), atol=1e-4, rtol=1e-5
    )


def test_trained_keys_start_as_the_training_free_cache():
    (plain, classes), (trained, _) = prepared(), prepared("tip-adapter-f")
    images = unit(7, 8, seed=4)
    plain.head.alpha.copy_(trained.head.alpha)
    assert torch.equal(logits(plain, images, classes), logits(trained, images, classes))
    assert not plain.trainable
    assert [parameter.shape for parameter in trained.trainable] == [(6, 8)]


@pytest.mark.parametrize("name", ["tip-adapter", "tip-adapter-f", "mf-adapter"])
def test_what_a_cache_adds_to_all_known_classes_alike_does_not_put_them_before_new_ones(name):
    """Over the known classes it adds nothing on the average, whatever the list."""
    model, classes = prepared(name)
    images, listed = unit(7, 8, seed=4), text(("dog", *NAMES), seed=1)
    listed = ClassText(listed.names, listed.templates, torch.cat([unit(1, 8, seed=9), classes.weights]))
    found, clip = logits(model, images, listed), 20.0 * images @ listed.weights.T
    torch.testing.assert_close(found[:, 0], clip[:, 0])
    torch.testing.assert_close(found[:, 1:].mean(dim=1), clip[:, 1:].mean(dim=1), atol=1e-4, rtol=1e-4)
    assert (found - clip)[:, 1:].abs().max() > 0.1


def test_training_moves_the_keys_alone():
    model, classes = prepared("tip-adapter-f")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images, labels = shots()
    train(model, TrainingSet(images, labels, classes), replace(load_method("tip-adapter-f").training, steps=5), 1)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.keys"}


def test_the_pair_chosen_has_the_most_right_answers_and_then_the_highest_likelihood():
    model, classes = prepared()
    images, labels = unit(30, 8, seed=6), torch.arange(30) % 3
    found = {}
    for alpha in ALPHAS:
        for beta in BETAS:
            scores = by_hand(images, classes, alpha, beta).double()
            likelihood = float(scores.log_softmax(dim=1)[torch.arange(30), labels].sum())
            found[alpha, beta] = (int((scores.argmax(dim=1) == labels).sum()), likelihood)
    best = max(found, key=lambda pair: found[pair])
    assert sum(right == found[best][0] for right, _ in found.values()) > 1  # so that likelihood decides
    said = model.select([ImageFeatures(images[:11]), ImageFeatures(images[11:])], labels, classes)
    assert (float(model.head.alpha), float(model.head.beta)) == pytest.approx(best)
    assert f"alpha {best[0]:g} and beta {best[1]:g} chosen" in said
    assert "30 validation images" in said


def test_without_validation_images_shots_are_held_out_of_the_cache_and_then_cached_again():
    """The last image of the two classes that have more than one: 4 and 5."""
    model, classes = prepared()
    before = model.state_dict()["head.keys"].clone()
    held, found = [4, 5], {}
    images = shots()[0].pooled[held]
    for alpha in ALPHAS:
        for beta in BETAS:
            scores = by_hand(images, classes, alpha, beta, cached=[0, 1, 2, 3]).double()
            likelihood = float(scores.log_softmax(dim=1)[torch.arange(2), torch.tensor([2, 0])].sum())
            found[alpha, beta] = (int((scores.argmax(dim=1) == torch.tensor([2, 0])).sum()), likelihood)
    best = max(found, key=lambda pair: found[pair])
    said = model.select([], torch.zeros(0, dtype=torch.long), classes)
    assert (float(model.head.alpha), float(model.head.beta)) == pytest.approx(best)
    assert best != (1.17, 1.0)
    assert "on 2 shots held out" in said
    assert "no validation image" in said
    assert torch.equal(model.state_dict()["head.keys"], before)


def test_without_validation_images_settings_of_trained_keys_stay_and_the_result_says_so():
    model, classes = prepared("tip-adapter-f")
    said = model.select([], torch.zeros(0, dtype=torch.long), classes)
    assert (float(model.head.alpha), float(model.head.beta)) == pytest.approx((3.0, 1.0))
    assert "no validation image" in said


def test_a_search_that_was_not_asked_for_reads_no_image():
    classes = text()
    method = load_method("tip-adapter")
    method = replace(method, head=replace(method.head, settings=TipAdapterConfig(search=False)))

    def images():
        raise AssertionError("a validation image was asked for")
        yield

    assert build_model(method, context(classes), 1).select(images(), torch.zeros(3), classes) is None


def test_a_cache_of_other_counts_is_refused():
    classes = text()
    head = TipAdapter(TipAdapterConfig(), BuildContext(classes, 8, None, 20.0, 6, (2, 2, 2)))
    with pytest.raises(InputError, match="images_per_class"):
        head.prepare(*shots(), classes)


def test_a_training_that_was_stopped_goes_on_with_the_same_keys(tmp_path):
    images, labels = shots()
    settings = replace(load_method("tip-adapter-f").training, steps=8, checkpoint_steps=2, batch_size=4)

    def run(folder, stop=None):
        model, classes = prepared("tip-adapter-f")

        def progress(done, _total):
            if done == stop:
                raise KeyboardInterrupt

        train(model, TrainingSet(images, labels, classes), settings, 1, progress, run=RunFolder(folder))
        return model.state_dict()

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop=5)
    again = run(tmp_path / "cut")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("name", ["tip-adapter", "tip-adapter-f"])
def test_a_fit_writes_the_cache_and_says_how_settings_were_chosen(name, tmp_path):
    features, out = write_features(tmp_path / "set"), tmp_path / "out"
    arguments = ["fit", "--features", str(features), "--method", name, "--shots", "4", "--device", "cpu"]
    assert main([*arguments, "--out", str(out)]) == 0
    result = json.loads((out / "result.json").read_text())
    weights = load_file(out / "adapter.safetensors")
    assert "on 14 validation images of the training classes; no test image is used" in result["selection"]
    assert f"alpha {float(weights['head.alpha']):g} and beta {float(weights['head.beta']):g}" in result["selection"]
    assert weights["head.keys"].shape == (28, 24)
    assert json.loads((out / "adapter.json").read_text())["images_per_class"] == [4] * 7
