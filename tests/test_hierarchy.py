"""Class trees against slow loops over paths, a tree made by hand, and trees of others where they are at hand."""

import json

import numpy as np
import pytest
import torch

from hyperadapt import InputError
from hyperadapt.__main__ import main
from hyperadapt.data.world import load_world
from hyperadapt.hierarchy import TreeCounts, class_tree, read_class_tree
from hyperadapt.protocols.base_to_novel import base_to_novel_task
from hyperadapt.protocols.few_shot import few_shot_task
from hyperadapt.text import ClassText
from tests.scenes import CLASS_NAMES, write_features

EDGES = [
    ("animal", "bird"), ("animal", "dog"), ("bird", "albatross"), ("bird", "sparrow"), ("dog", "retriever"),
    ("dog", "poodle"), ("albatross", "laysan"), ("albatross", "sooty"), ("sparrow", "song"), ("sparrow", "fox"),
    ("retriever", "golden"), ("retriever", "labrador"),
]  # fmt: skip
LEAVES = ["laysan", "sooty", "song", "fox", "golden", "labrador", "poodle"]
"""A poodle lies one edge less deep than the others."""
PAIRS = {  # truth and answer: height of their lowest common ancestor, edges between them
    ("laysan", "laysan"): (0, 0), ("laysan", "sooty"): (1, 2), ("laysan", "song"): (2, 4),
    ("laysan", "golden"): (3, 6), ("poodle", "golden"): (2, 3), ("golden", "labrador"): (1, 2),
}  # fmt: skip
OF_FEATURES = "all two\nall four\nall eel\nall gnu\ntwo ant\ntwo bee\nfour cat\nfour dog\nfour fox\n"


class StoredLike:
    """What tasks ask of features, without a tower."""

    def __init__(self, source):
        rows = torch.ones(len(source.class_names), 2)
        self.source, self.classes = source, ClassText(source.class_names, rows[None], rows)


def at(*names):
    return np.array([LEAVES.index(name) for name in names])


def random_tree(seed, classes=24):
    """Edges of a tree whose leaves lie at unlike depths, and some of its leaves."""
    rng = np.random.default_rng(seed)
    edges = [(f"n{rng.integers(i)}", f"n{i}") for i in range(1, 3 * classes)]
    inner = {parent for parent, _ in edges}
    leaves = [child for _, child in edges if child not in inner]
    rng.shuffle(edges)
    return edges, list(rng.permutation(leaves)[:classes])


def slow(edges, a, b):
    """Height of the lowest common ancestor and edges between two leaves, by walking up and down."""
    parents = {child: parent for parent, child in edges}

    def up(node):
        return [node, *(up(parents[node]) if node in parents else [])]

    def height(node):
        return max((1 + height(child) for parent, child in edges if parent == node), default=0)

    shared = next(node for node in up(a) if node in up(b))
    return height(shared), up(a).index(shared) + up(b).index(shared), len(up(shared)) - 1


def test_heights_and_distances_of_the_tree_made_by_hand():
    tree = class_tree(EDGES, LEAVES)
    for (truth, answer), (height, edges) in PAIRS.items():
        assert tree.lca_heights[at(truth), at(answer)] == height
        assert tree.distances[at(truth), at(answer)] == edges


def test_counts_of_the_tree_made_by_hand():
    truths, answers = zip(*PAIRS, strict=True)
    counts = class_tree(EDGES, LEAVES).tally(at(*answers), at(*truths))
    assert counts == TreeCounts(by_height=(1, 2, 2, 1), by_depth=(5, 3, 1), edges=17)
    assert (counts.total, counts.accuracy) == (6, 1 / 6)
    assert (counts.mean_height, counts.severity, counts.mean_edges) == (1.5, 1.8, 17 / 6)
    assert TreeCounts.from_dict(json.loads(json.dumps(counts.to_dict()))) == counts


def test_without_a_mistake_there_is_no_severity():
    counts = class_tree(EDGES, LEAVES).tally(at("fox", "song"), at("fox", "song"))
    assert (counts.severity, counts.mean_height, counts.accuracy) == (None, 0, 1)


@pytest.mark.parametrize("seed", range(3))
def test_matrices_are_those_of_loops_over_paths(seed):
    edges, leaves = random_tree(seed)
    tree = class_tree(edges, leaves)
    rng = np.random.default_rng(seed)
    answers, labels = rng.integers(len(leaves), size=(2, 200))
    found = [slow(edges, leaves[a], leaves[b]) for a in range(len(leaves)) for b in range(len(leaves))]
    heights, distances, _ = (np.array(each).reshape(len(leaves), -1) for each in zip(*found, strict=True))
    assert len(np.unique(heights)) > 3
    np.testing.assert_array_equal(tree.lca_heights, heights)
    np.testing.assert_array_equal(tree.distances, distances)
    counts = tree.tally(answers, labels)
    rows = [slow(edges, leaves[a], leaves[b]) for a, b in zip(answers, labels, strict=True)]
    assert counts.edges == sum(row[1] for row in rows)
    assert counts.mean_height == pytest.approx(sum(row[0] for row in rows) / 200, abs=1e-12)
    right = answers == labels
    expected = [
        sum(r or row[2] >= d for r, row in zip(right, rows, strict=True)) for d in range(1, tree.paths.shape[1])
    ]
    assert counts.by_depth == tuple(expected)


def test_heights_are_an_ultrametric_and_distances_a_metric():
    tree = class_tree(*random_tree(7))
    h, d = tree.lca_heights, tree.distances
    np.testing.assert_array_equal(h, h.T)
    assert (h[:, None] <= np.maximum(h[:, :, None], h[None])).all()
    assert (d[:, None] <= d[:, :, None] + d[None]).all()
    assert not np.diag(h).any()
    assert not np.diag(d).any()


def test_some_classes_keep_the_heights_of_the_whole_tree():
    tree, chosen = class_tree(EDGES, LEAVES), [6, 0, 4]
    np.testing.assert_array_equal(tree.select(chosen).lca_heights, tree.lca_heights[np.ix_(chosen, chosen)])
    np.testing.assert_array_equal(tree.select(chosen).distances, tree.distances[np.ix_(chosen, chosen)])


def test_the_decision_of_least_expected_cost_is_that_of_a_loop():
    edges, leaves = random_tree(3)
    tree, odds = class_tree(edges, leaves), np.random.default_rng(0).dirichlet(np.full(24, 0.3), size=50)
    costs = [[slow(edges, a, b)[0] for b in leaves] for a in leaves]
    expected = [min(range(24), key=lambda k, p=p: sum(p[j] * costs[j][k] for j in range(24))) for p in odds]
    assert tree.expected_cost_decisions(odds).tolist() == expected
    assert expected != odds.argmax(1).tolist()


def test_in_a_flat_tree_and_for_what_is_certain_the_least_cost_is_the_likeliest():
    odds = np.random.default_rng(0).dirichlet(np.ones(7), size=50)
    flat = class_tree([("all", leaf) for leaf in LEAVES], LEAVES)
    np.testing.assert_array_equal(flat.expected_cost_decisions(odds), odds.argmax(1))
    tree = class_tree(EDGES, LEAVES)
    np.testing.assert_array_equal(tree.expected_cost_decisions(np.eye(7)), np.arange(7))


@pytest.mark.parametrize(
    ("edges", "leaves", "message"),
    [
        ([("a", "b"), ("b", "c"), ("c", "a")], ["b"], "no root.*cycle"),
        ([("r", "x"), ("a", "b"), ("b", "a")], ["x"], "cycle: '[ab]' never reaches the root 'r'"),
        ([("a", "x"), ("b", "y")], ["x", "y"], "one root, got 2: 'a', 'b'"),
        ([("r", "a"), ("r", "b"), ("a", "x"), ("b", "x")], ["x"], "one parent a node, got 'a' and 'b' for 'x'"),
        ([("r", "x")], ["x", "z"], "no node 'z' for a class"),
        ([("r", "x"), ("x", "y")], ["x", "y"], "must be a leaf of this tree, got 'x' with the child 'y'"),
        ([("r", "x"), ("r", "y")], ["x", "x"], "a leaf of its own in this tree, got 'x' twice"),
    ],
)
def test_what_is_no_tree_of_the_classes_is_refused(edges, leaves, message):
    with pytest.raises(InputError, match=message):
        class_tree(edges, leaves)


def written(folder, text, name="tree.txt"):
    (folder / name).write_text(text)
    return folder / name


def test_files_name_leaves_by_class_by_order_or_with_names(tmp_path):
    file = written(tmp_path, "r 1\nr 2\n\n1 a_b\n1 c\n2 d\n2 d\n")
    plain = read_class_tree(file, ["a b", "c", "d"])
    np.testing.assert_array_equal(plain.lca_heights, [[0, 1, 2], [1, 0, 2], [2, 2, 0]])
    ordered = read_class_tree(file, ["x", "y", "z"], written(tmp_path, "d\nc\na_b\n", "ids"))
    np.testing.assert_array_equal(ordered.lca_heights, plain.lca_heights[::-1, ::-1])
    named = read_class_tree(file, ["x y", "z"], written(tmp_path, "c z\n2 other\nd x y\n", "named"))
    np.testing.assert_array_equal(named.lca_heights, [[0, 2], [2, 0]])
    turned = read_class_tree(written(tmp_path, "1 r\n2 r\na_b 1\nc 1\nd 2\n", "turned.txt"), ["a b", "c", "d"])
    np.testing.assert_array_equal(turned.paths, plain.paths)
    assert turned.fingerprint == plain.fingerprint != ordered.fingerprint


@pytest.mark.parametrize(
    ("text", "ids", "message"),
    [
        ("r a\nr b c\n", None, "tree.txt, line 2: an edge is a parent and a child, got 'r b c'"),
        ("\n", None, "tree.txt is empty"),
        ("r a\nr b\n", "a\n", "one id for each of 2 classes, got 1"),
        ("r a\nr b\n", "a one\nb two\n", "no id for the class 'a'"),
    ],
)
def test_files_that_cannot_be_used_are_named(text, ids, message, tmp_path):
    file, places = written(tmp_path, text), None if ids is None else written(tmp_path, ids, "ids")
    with pytest.raises(InputError, match=message):
        read_class_tree(file, ["a", "b"], places)
    with pytest.raises(InputError, match="cannot read"):
        read_class_tree(tmp_path / "absent", ["a", "b"])


def test_worlds_bring_their_tree_and_every_exam_has_that_of_its_names():
    fish = load_world("fish")
    features = StoredLike(fish)
    exams = [*base_to_novel_task(features, fish.draw(1, 1)).exams, *few_shot_task(features, fish.draw(1, 1)).exams]
    assert [len(exam.classes) for exam in exams] == [20, 20, 40, 40, 40]
    for exam in exams:
        kinds = [fish.taxonomy[name] for name in exam.classes.names]
        for a, (kind, group) in enumerate(kinds):
            for b, (other, family) in enumerate(kinds):
                expected = 0 if a == b else 1 if kind == other else 2 if group == family else 3
                assert exam.tree.lca_heights[a, b] == expected


@pytest.mark.shared_data
def test_trees_of_others_have_the_known_sizes(shared_data):
    folder = shared_data / "hierarchies"
    names = [f"class {i}" for i in range(1000)]
    words = read_class_tree(folder / "imagenet-wordnet.parent-child.txt", names, folder / "imagenet1k.wnids.txt")
    assert len(words) == 1000
    assert [len(set(column)) for column in words.paths.T][6] == 78, "groups six edges below the root"
    for name, count in (("nabirds", 555), ("cub-balanced", 200), ("cifar100", 100)):
        edges = (folder / f"{name}.parent-child.txt").read_text().split()
        inner = set(edges[::2] if name != "nabirds" else edges[1::2])
        leaves = sorted(set(edges) - inner)
        assert len(read_class_tree(folder / f"{name}.parent-child.txt", leaves)) == len(leaves) == count


def test_bench_records_both_decisions_and_their_table_shows_them(tmp_path, capsys):
    features, out = write_features(tmp_path / "set"), tmp_path / "out"
    tree = written(tmp_path, OF_FEATURES)
    call = ["bench", "base-to-novel", "--features", str(features), "--methods", "zero-shot", "prolip", "--shots", "4"]
    call += ["--seeds", "1", "2", "--device", "cpu", "--out", str(out)]
    assert main([*call, "--hierarchy", str(tree)]) == 0
    records = [json.loads(path.read_text()) for path in out.glob("*.json")]
    known = read_class_tree(tree, CLASS_NAMES)
    for record in records:
        assert record["hierarchy"] == known.fingerprint
        for exam, counts in record["counts"].items():
            found = record["mistakes"][exam]
            assert set(found) == {"argmax", "expected_cost"}
            assert found["argmax"]["by_height"][0] == counts["correct"] == found["argmax"]["by_depth"][-1]
            assert all(sum(each["by_height"]) == counts["total"] for each in found.values())
    capsys.readouterr()
    assert main(["bench", "table", str(out), "--no-details"]) == 0
    shown = capsys.readouterr().out
    rows = [
        line.strip("| ").split(" | ")
        for line in shown.splitlines()
        if "| likeliest |" in line or "| least cost |" in line
    ]
    assert len(rows) == 2 * 4 * 2
    (zero,) = (row for row in rows if row[:4] == ["prolip", "4", "novel", "least cost"])
    runs = {r["seed"]: r["mistakes"]["novel"] for r in records if r["method"]["name"] == "prolip"}
    found = [TreeCounts.from_dict(run["expected_cost"]) for run in runs.values()]
    assert zero[4] == f"{50 * sum(run.accuracy for run in found):.2f}"
    assert zero[5] == f"{sum(run.mean_height for run in found) / 2:.3f}"
    assert main(["bench", "collect", str(out), "--out", str(tmp_path / "one.json")]) == 0
    capsys.readouterr()
    assert main(["bench", "table", str(tmp_path / "one.json"), "--no-details"]) == 0
    assert capsys.readouterr().out == shown
    assert main(call) == 0, "a run without a tree is another run"
    assert len(list(out.glob("*.json"))) == 2 * len(records)
    assert main([*call, "--hierarchy-ids", str(tree)]) == 2
    assert "give both" in capsys.readouterr().err
