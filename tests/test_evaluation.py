"""Metrics from counts against slow loops and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from hyperadapt.data import FeatureSource, Part
from hyperadapt.evaluation import BINS, calibration_error, count_correct, per_class_mean, score, tallied
from hyperadapt.features import StoredFeatures
from hyperadapt.hierarchy import class_tree
from hyperadapt.methods import load_method
from hyperadapt.model import build_model
from tests.scenes import write_features


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return StoredFeatures(FeatureSource(write_features(tmp_path_factory.mktemp("features"))), torch.device("cpu"))


@pytest.fixture(scope="module")
def scored(features):
    """Scores of a part, and its labels, answers and probabilities in numpy."""
    part = Part(np.arange(3, 103), features.source._labels[3:103])
    model = build_model(load_method("zero-shot"), features.context(features.classes), 0)
    cosine = features.source.features(part.rows).astype(np.float64) @ features.source.class_text().astype(np.float64).T
    logits = features.logit_scale * cosine
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return score(model, features, part, features.classes), part.labels, odds / odds.sum(axis=1, keepdims=True)


def test_counts_by_class_are_those_of_a_loop(scored):
    scores, labels, odds = scored
    for label in range(7):
        mine = labels == label
        assert scores.class_total[label] == mine.sum()
        assert scores.class_correct[label] == (odds[mine].argmax(axis=1) == label).sum()
    assert scores.counts.correct == round(accuracy_score(labels, odds.argmax(1)) * len(labels))
    assert scores.counts.total == len(labels) == 100


def test_the_mean_over_classes_is_scikit_learns_balanced_accuracy(scored):
    scores, labels, odds = scored
    assert len(set(scores.class_total)) > 1
    found = per_class_mean(scores.to_dict()["by_class"])
    assert found == pytest.approx(balanced_accuracy_score(labels, odds.argmax(1)), abs=1e-12)
    assert found != pytest.approx(scores.counts.accuracy, abs=1e-6)


def test_the_calibration_table_is_that_of_a_loop_and_of_scikit_learn(scored):
    scores, labels, odds = scored
    right, confidence = odds.argmax(1) == labels, odds.max(1)
    assert sum(scores.bin_total) == len(labels)
    for i in range(BINS):
        mine = (confidence > i / BINS) & (confidence <= (i + 1) / BINS)
        assert (scores.bin_total[i], scores.bin_correct[i]) == (mine.sum(), right[mine].sum())
        assert scores.bin_confidence[i] == pytest.approx(confidence[mine].sum(), abs=1e-4)
    shares, means = calibration_curve(right, confidence, n_bins=BINS)
    filled = np.array(scores.bin_total) > 0
    np.testing.assert_allclose(np.array(scores.bin_correct)[filled] / np.array(scores.bin_total)[filled], shares)
    np.testing.assert_allclose(
        np.array(scores.bin_confidence)[filled] / np.array(scores.bin_total)[filled], means, atol=1e-5
    )


def test_the_calibration_error_is_the_weighted_gap_of_the_bins(scored):
    scores, labels, odds = scored
    right, confidence, gap = odds.argmax(1) == labels, odds.max(1), 0.0
    for i in range(BINS):
        mine = (confidence > i / BINS) & (confidence <= (i + 1) / BINS)
        if mine.any():
            gap += mine.mean() * abs(right[mine].mean() - confidence[mine].mean())
    assert calibration_error(scores.to_dict()["calibration"]) == pytest.approx(gap, abs=1e-5)
    assert 0 < gap < 1


@pytest.mark.parametrize(
    ("confidence", "place"), [(1 / 15, 0), (1 / 15 + 1e-9, 1), (1.0, 14), (1e-12, 0), (14.5 / 15, 14)]
)
def test_a_bin_holds_its_upper_edge(confidence, place):
    found = tallied(np.array([True]), np.array([confidence]), np.array([0]), 1)
    assert found.bin_total.index(1) == place


def test_over_a_tree_both_decisions_are_those_of_the_probabilities(features, scored):
    scores, labels, odds = scored
    assert scores.decisions == {}
    edges = [("all", "odd"), ("all", "even"), *((("even", "odd")[k % 2], str(k)) for k in range(7))]
    tree = class_tree(edges, "0123456")
    model = build_model(load_method("zero-shot"), features.context(features.classes), 0)
    model.head.scale /= 10  # unsure enough for the two to differ
    unsure = odds**0.1 / (odds**0.1).sum(axis=1, keepdims=True)
    found = score(model, features, Part(np.arange(3, 103), labels), features.classes, tree)
    cautious = [min(range(7), key=lambda k, p=p: sum(p * tree.lca_heights[k])) for p in unsure]
    assert found.decisions["argmax"] == tree.tally(odds.argmax(1), labels)
    assert found.decisions["expected_cost"] == tree.tally(np.array(cautious), labels) != found.decisions["argmax"]
    assert found.counts == scores.counts


def test_what_is_certain_and_right_has_no_calibration_error():
    right = np.ones(10, dtype=bool)
    found = tallied(right, np.ones(10), np.zeros(10, dtype=int), 2).to_dict()
    assert calibration_error(found["calibration"]) == 0
    wrong = tallied(~right, np.ones(10), np.zeros(10, dtype=int), 2).to_dict()
    assert calibration_error(wrong["calibration"]) == 1
    assert per_class_mean(found["by_class"]) == 1, "a class without images counts nothing"


def test_a_score_that_is_not_finite_is_an_error(features):
    model = build_model(load_method("zero-shot"), features.context(features.classes), 0)
    model.head.logits = lambda images, encoded: torch.full((len(images.pooled), 7), float("nan"))
    with pytest.raises(FloatingPointError, match="diverged"):
        count_correct(model, features, Part(np.arange(4), np.zeros(4, dtype=np.int64)), features.classes)
