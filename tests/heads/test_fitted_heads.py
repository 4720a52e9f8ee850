"""Heads in closed form against scikit-learn, slow loops and the conditions that define their optima."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_ridge import KernelRidge
from torch.nn.functional import cross_entropy, one_hot

from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.gda import CANDIDATES, discriminant
from hyperadapt.heads.lpp import step_sizes
from hyperadapt.shots import Shots
from tests.shot_scenes import LABELS, NAMES, SCALE, WIDTH, context, images, logits, prepared, shots, text, unit

FITTED = ("linear-probe", "gda", "lpp", "proker")
SEARCHED = ("linear-probe", "gda", "proker")


def all_rows():
    views, labels = shots()
    return views.pooled, labels.repeat(2)


def level(scores, clip):
    """Scores moved so that their mean over classes is that of CLIP; what probabilities cannot tell."""
    return scores - scores.mean(1, keepdim=True) + clip.mean(1, keepdim=True)


def test_gdas_discriminant_is_scikit_learns_with_a_shrunk_shared_covariance():
    rows, labels = all_rows()
    count = len(rows)
    shrinkage = WIDTH / (count - 1 + WIDTH)  # (n - 1) S + tr(S) I is that much of the identity
    sklearn = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[1 / 3] * 3)
    sklearn.fit(rows.double().numpy(), labels.numpy())
    weight, bias = discriminant(Shots(rows.unflatten(0, (2, -1)), torch.tensor(LABELS)), 3)
    factor = WIDTH * (1 - shrinkage) / count
    np.testing.assert_allclose(weight, factor * sklearn.coef_, rtol=1e-6)
    np.testing.assert_allclose(bias + np.log(3), factor * (sklearn.intercept_ + np.log(3)), rtol=1e-6)


def test_gda_of_one_image_a_class_takes_the_covariance_of_all():
    rows = images([0, 1, 2], seed=3).double()
    weight, _ = discriminant(Shots(rows[None], torch.arange(3)), 3)
    apart = rows - rows.mean(0)
    scatter = sum(torch.outer(row, row) for row in apart)
    precision = WIDTH * torch.linalg.inv(scatter + scatter.trace() / 2 * torch.eye(WIDTH))
    torch.testing.assert_close(weight, rows @ precision)


def test_gdas_logits_are_clips_and_alpha_times_the_discriminant():
    model, classes = prepared("head", "gda", alpha=0.3)
    (rows, labels), new = all_rows(), images([0, 1, 2, 2], seed=4)
    weight, bias = discriminant(Shots(rows.unflatten(0, (2, -1)), labels[: len(LABELS)]), 3)
    clip = SCALE * new @ classes.weights.T
    expected = level(clip + 0.3 * (new @ weight.float().T + bias.float()), clip)
    torch.testing.assert_close(logits(model, new, classes), expected, atol=1e-4, rtol=1e-4)


def test_a_linear_probe_minimises_the_penalised_cross_entropy():
    model, classes = prepared("head", "linear-probe", inverse_penalty=3.0, max_iterations=2000)
    rows, labels = all_rows()
    weight = torch.zeros(3, WIDTH, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=2000, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        scores = rows.double() @ weight.T + bias
        loss = 3.0 * cross_entropy(scores, labels, reduction="sum") + weight.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    new = images([0, 1, 2, 2], seed=4)
    clip, scores = SCALE * new @ classes.weights.T, (new.double() @ weight.T + bias).detach().float()
    assert scores.abs().max() > 1
    torch.testing.assert_close(logits(model, new, classes), level(scores, clip), atol=2e-2, rtol=1e-2)


def test_a_linear_probe_of_two_classes_has_scikit_learns_odds():
    from hyperadapt.heads.linear_probe import LinearProbe, LinearProbeConfig

    classes, labels = text(NAMES[:2]), torch.tensor([0, 1, 0, 1])
    head = LinearProbe(LinearProbeConfig(search=False), context(classes, (2, 2)))
    head.prepare(ImageFeatures(images(labels.tolist(), seed=5)), labels, classes)
    found = head.logits(ImageFeatures(images([0, 1], seed=6)), head.encode_classes(classes))
    assert found.argmax(1).tolist() == [0, 1]
    assert not head.selects


def test_proker_is_scikit_learns_kernel_ridge_around_clip():
    beta, penalty = 2.0, 0.3
    model, classes = prepared("head", "proker", beta=beta, penalty=penalty)
    views, labels = shots()
    keys = Shots(views.pooled.unflatten(0, (2, -1)), labels).means.double()
    new, kernel = images([0, 1, 2, 2], seed=4), lambda x, y: torch.exp(-beta * (1 - x.double() @ y.double().T)).numpy()
    missing = one_hot(labels, 3).double() - keys @ classes.weights.double().T
    ridge = KernelRidge(alpha=penalty, kernel="precomputed").fit(kernel(keys, keys), missing.numpy())
    clip = new @ classes.weights.T
    found = clip + penalty * torch.from_numpy(ridge.predict(kernel(new, keys))).float()
    assert (found - clip).abs().max() > 0.01
    torch.testing.assert_close(logits(model, new, classes), SCALE * level(found, clip), atol=1e-3, rtol=1e-4)


def loss_of(rows, factors, features, similarity, labels):
    return cross_entropy(features @ rows.T + factors * similarity, labels)


def test_lpps_steps_are_within_the_curvature_of_each_block():
    features, labels = all_rows()
    features, classes = features.double(), text().weights.double()
    similarity = features @ classes.T
    row_step, factor_step = step_sizes(features, similarity)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        rows = 3 * torch.randn(3, WIDTH, generator=generator, dtype=torch.float64)
        factors = 3 * torch.randn(3, generator=generator, dtype=torch.float64)
        of_rows = torch.autograd.functional.hessian(
            lambda flat, factors=factors: loss_of(flat.view(3, -1), factors, features, similarity, labels),
            rows.flatten(),
        )
        of_factors = torch.autograd.functional.hessian(
            lambda factors, rows=rows: loss_of(rows, factors, features, similarity, labels), factors
        )
        assert torch.linalg.eigvalsh(of_rows)[-1] <= 1 / row_step
        assert torch.linalg.eigvalsh(of_factors)[-1] <= 1 / factor_step
    flat = torch.zeros(3 * WIDTH, dtype=torch.float64)
    at_start = torch.autograd.functional.hessian(
        lambda flat: loss_of(flat.view(3, -1), torch.zeros(3).double(), features, similarity, labels), flat
    )
    assert torch.linalg.eigvalsh(at_start)[-1] > 0.3 / row_step  # the bound is not idle


@pytest.mark.parametrize("iterations", [0, 1, 23])
def test_lpp_is_a_loop_of_gradient_steps_that_never_raise_the_loss(iterations):
    model, classes = prepared("head", "lpp", iterations=iterations)
    (features, labels), new = all_rows(), images([0, 1, 2, 2], seed=4)
    similarity = features @ classes.weights.T
    rows = torch.stack([features[labels == k].mean(0) for k in range(3)]).requires_grad_()
    own = sum(similarity[labels == k, k].mean() for k in range(3)) / 3
    factors = torch.full((3,), float(250 * own), requires_grad=True)
    row_step = 2 * len(features) / float(torch.linalg.eigvalsh(features.T @ features)[-1])
    factor_step = 2 * len(features) / max(float((similarity[:, k] ** 2).sum()) for k in range(3))
    before = loss_of(rows, factors, features, similarity, labels)
    for iteration in range(1, iterations + 1):
        (slope,) = torch.autograd.grad(loss_of(rows, factors, features, similarity, labels), rows)
        rows = (rows - row_step * slope).detach().requires_grad_()
        if iteration % 10 == 0:
            (slope,) = torch.autograd.grad(loss_of(rows, factors, features, similarity, labels), factors)
            factors = (factors - factor_step * slope).detach().requires_grad_()
        after = loss_of(rows, factors, features, similarity, labels)
        assert after <= before
        before = after
    clip = SCALE * new @ classes.weights.T
    expected = level(new @ rows.T + factors * (new @ classes.weights.T), clip).detach()
    torch.testing.assert_close(logits(model, new, classes), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", FITTED)
def test_known_classes_score_as_clip_on_the_average_and_new_ones_exactly(name):
    model, classes = prepared("head", name)
    new, others = images([0, 1, 2, 2], seed=4), text(("dog", "bee"), seed=9)
    clip = SCALE * new @ classes.weights.T
    found = logits(model, new, classes)
    assert (found - clip).abs().max() > 0.1
    torch.testing.assert_close(found.mean(1), clip.mean(1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits(model, new, others)[:, 0], SCALE * new @ others.weights[0], atol=1e-5, rtol=1e-5)


def test_the_setting_chosen_is_that_of_a_loop():
    model, classes = prepared("head", "gda")
    labels = torch.arange(18) % 3
    held, found = images(labels.tolist(), seed=7, spread=1.4), {}
    for alpha in CANDIDATES:
        tried, _ = prepared("head", "gda", alpha=alpha)
        scores = logits(tried, held, classes).double()
        found[alpha] = (int((scores.argmax(1) == labels).sum()), -float(cross_entropy(scores, labels)))
    best = max(found, key=lambda alpha: found[alpha])
    assert 0 < best < CANDIDATES[-1]
    said = model.select([ImageFeatures(held[:5]), ImageFeatures(held[5:])], labels, classes)
    assert f"alpha {best:g} chosen among 26 settings" in said
    assert "18 validation images of the training classes" in said
    chosen, _ = prepared("head", "gda", alpha=best)
    torch.testing.assert_close(logits(model, held, classes), logits(chosen, held, classes))


@pytest.mark.parametrize("name", SEARCHED)
def test_without_validation_images_shots_are_held_out_and_the_choice_is_fitted_to_all(name):
    model, classes = prepared("head", name)
    said = model.select([], torch.zeros(0, dtype=torch.long), classes)
    assert (
        "on 3 shots held out and then fitted to all, for there is no validation image of the training classes" in said
    )
    setting = [float(word) for word in said.split(" chosen")[0].split() if word[0].isdigit()]
    fields = {"linear-probe": ["inverse_penalty"], "gda": ["alpha"], "proker": ["beta", "penalty"]}[name]
    chosen, _ = prepared("head", name, **dict(zip(fields, setting, strict=True)))
    new = images([0, 1, 2, 2], seed=4)
    torch.testing.assert_close(logits(model, new, classes), logits(chosen, new, classes), atol=0.05, rtol=0.02)


def test_held_out_shots_are_the_last_of_each_class_and_never_all():
    labels = torch.tensor([0, 1, 0, 0, 0, 2, 2, 0, 0, 0, 0])
    rest, held = Shots(unit(2, len(labels), 4, seed=1), labels).parted()
    assert held.labels.tolist() == [2, 0, 0]
    assert sorted(rest.labels.unique().tolist()) == [0, 1, 2]
    assert len(rest.labels) + len(held.labels) == len(labels)
    assert Shots(unit(1, 3, 4, seed=1), torch.arange(3)).parted() is None


def test_shots_of_other_counts_and_a_choice_without_shots_are_refused():
    model, classes = prepared("head", "gda")
    with pytest.raises(InputError, match="images_per_class"):
        model.prepare(ImageFeatures(unit(3, WIDTH, seed=1)), torch.arange(3), classes)
    model.select([], torch.zeros(0, dtype=torch.long), classes)
    with pytest.raises(InputError, match="call prepare first"):
        model.select([], torch.zeros(0, dtype=torch.long), classes)


def test_one_shot_a_class_keeps_the_setting_and_says_so():
    from hyperadapt.heads.gda import GDA, GDAConfig

    classes = text()
    head = GDA(GDAConfig(), context(classes, (1, 1, 1)))
    head.prepare(ImageFeatures(images([0, 1, 2], seed=3)), torch.arange(3), classes)
    said = head.select([], head.encode_classes(classes), torch.zeros(0, dtype=torch.long))
    assert said == "alpha 0.1 as set, for there is no validation image of the training classes"


def test_what_tells_no_classes_apart_is_refused_where_classes_must_be_told_apart():
    with pytest.raises(InputError, match="linear-probe needs shots of two classes at least, got 1"):
        prepared("head", "linear-probe", labels=(1, 1))
    with pytest.raises(InputError, match="gda needs two training images at least that differ, got 1"):
        prepared("head", "gda", views=1, labels=(1,))
