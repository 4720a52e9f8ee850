"""Class trees: how far answers lie from the truth, and decisions that weigh it; needs numpy, no torch."""

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from hyperadapt.errors import InputError

Edge = tuple[str, str]
"""Names of a parent and of its child."""


@dataclass(frozen=True)
class TreeCounts:
    """How far the answers to some images lie from the truth.

    Attributes:
        by_height: images by the height of the lowest common ancestor of answer and truth; the first are the right ones.
        by_depth: images whose answer and truth share their ancestor one edge below the root, two edges, and so on; a
            class that lies less deep is its own ancestor there, so the last are the right ones.
        edges: sum of the edges between answer and truth.
    """

    by_height: tuple[int, ...]
    by_depth: tuple[int, ...]
    edges: int

    @property
    def total(self) -> int:
        """Images."""
        return sum(self.by_height)

    @property
    def accuracy(self) -> float:
        """Share of right answers, in [0, 1]."""
        return self.by_height[0] / self.total

    @property
    def mean_height(self) -> float:
        """Mean over all images of the height of the lowest common ancestor, 0 for a right answer, in edges."""
        return self._heights / self.total

    @property
    def severity(self) -> float | None:
        """The same mean over the mistakes alone; None where there is none."""
        mistakes = self.total - self.by_height[0]
        return self._heights / mistakes if mistakes else None

    @property
    def mean_edges(self) -> float:
        """Mean over all images of the edges between answer and truth."""
        return self.edges / self.total

    @property
    def _heights(self) -> int:
        return sum(height * count for height, count in enumerate(self.by_height))

    def to_dict(self) -> dict[str, Any]:
        """As a result file holds it."""
        return {"by_height": list(self.by_height), "by_depth": list(self.by_depth), "edges": self.edges}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "TreeCounts":
        """What `to_dict` gave."""
        return TreeCounts(tuple(data["by_height"]), tuple(data["by_depth"]), data["edges"])


@dataclass(frozen=True, eq=False)
class ClassTree:
    """Classes as leaves of a tree; made by `class_tree`, `read_class_tree`, or from another by `select`.

    Attributes:
        paths: (K, D + 1) nodes from the root to each class; one that lies less deep than D stands in what is left of
            its row.
        heights: (N,) edges on the longest way from each node down to a leaf of the whole tree.
        fingerprint: hex sha256 of the whole tree and its classes.

    Example:
        >>> edges = [("any", "bird"), ("any", "carp"), ("bird", "owl"), ("bird", "hawk")]
        >>> tree = class_tree(edges, ["owl", "hawk", "carp"])
        >>> tree.lca_heights.tolist()
        [[0, 1, 2], [1, 0, 2], [2, 2, 0]]
        >>> tree.expected_cost_decisions(np.array([[0.35, 0.25, 0.4]])).tolist()  # an owl: a hawk would be near it
        [0]
    """

    paths: Int[np.ndarray, "k d"]
    heights: Int[np.ndarray, " n"]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, labels: Sequence[int]) -> "ClassTree":
        """Some classes in a given order, in the same tree: heights stay what they were."""
        return ClassTree(self.paths[np.asarray(labels, dtype=np.int64)], self.heights, self.fingerprint)

    @cached_property
    def lca_heights(self) -> Int[np.ndarray, "k k"]:
        """Height of the lowest common ancestor of every two classes; 0 for a class and itself.

        Source: the cost of a mistake in Bertinetto et al. 2020, arXiv 1912.09393.
        """
        found = np.zeros((len(self), len(self)), dtype=np.int64)
        for nodes in self.paths.T:
            same = nodes[:, None] == nodes
            np.copyto(found, self.heights[nodes], where=same)
        return found

    @cached_property
    def distances(self) -> Int[np.ndarray, "k k"]:
        """Edges between every two classes."""
        depths = (self.paths != self.paths[:, -1:]).sum(axis=1)
        shared = sum((nodes[:, None] == nodes).astype(np.int64) for nodes in self.paths.T) - 1
        found = depths[:, None] + depths - 2 * shared
        np.fill_diagonal(found, 0)
        return found

    def expected_cost_decisions(self, probabilities: Float[np.ndarray, "b k"]) -> Int[np.ndarray, " b"]:
        """The class of least expected cost: argmin over k of the sum over j of p_j * lca_heights[j, k].

        Source: conditional risk minimisation, as Karthik et al. 2021, arXiv 2104.00795, take it to class trees.
        """
        return (probabilities @ self.lca_heights).argmin(axis=1)

    def tally(self, answers: Int[np.ndarray, " b"], labels: Int[np.ndarray, " b"]) -> TreeCounts:
        """How far answers lie from labels; both index the classes."""
        by_height = np.bincount(self.lca_heights[answers, labels], minlength=int(self.heights.max()) + 1)
        by_depth = (self.paths[answers, 1:] == self.paths[labels, 1:]).sum(axis=0)
        edges = int(self.distances[answers, labels].sum())
        return TreeCounts(tuple(by_height.tolist()), tuple(by_depth.tolist()), edges)


def class_tree(edges: Iterable[Edge], leaves: Sequence[str], where: str = "this tree") -> ClassTree:
    """A tree from its edges.

    Args:
        edges: of the whole tree, in any order.
        leaves: the node of each class.
        where: what errors call the tree.

    Raises:
        InputError: two parents, several roots, a cycle, or a class that is no leaf or shares one.
    """
    parents = _parents(edges, where)
    children: dict[str, list[str]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    order = [_root(parents, children, where)]
    for node in order:
        order += children.get(node, [])
    place = {node: i for i, node in enumerate(order)}
    lost = next((child for child in parents if child not in place), None)
    if lost is not None:
        raise InputError(f"{where} has a cycle: {lost!r} never reaches the root {order[0]!r}; break it")
    _check_leaves(leaves, place, children, where)
    heights = np.zeros(len(order), dtype=np.int64)
    for node in reversed(order[1:]):
        above = place[parents[node]]
        heights[above] = max(heights[above], heights[place[node]] + 1)
    paths = [_path(leaf, parents) for leaf in leaves]
    deepest = max(map(len, paths))
    rows = np.array([[place[node] for node in path] + [place[path[-1]]] * (deepest - len(path)) for path in paths])
    told = "\n".join([*(f"{parent} {child}" for child, parent in sorted(parents.items())), *leaves])
    return ClassTree(rows, heights, hashlib.sha256(told.encode()).hexdigest())


def read_class_tree(file: Path, class_names: Sequence[str], ids: Path | None = None) -> ClassTree:
    """A tree from a list of edges, one a line: parent and child; the other way round where only that is a tree.

    Args:
        file: the list.
        class_names: of the data set; without `ids` they are names of leaves, spaces written as they are or as "_".
        ids: a file with the leaf of each class: one a line in the order of the labels, or each with a class name
            after it.

    Raises:
        InputError: a file cannot be read or used; says which line or class.
    """
    edges = list(dict.fromkeys(_edge(line, file, at) for at, line in _lines(file)))
    ends = [{edge[side] for edge in edges} for side in (0, 1)]
    if len(ends[1]) < len(edges) == len(ends[0]):
        edges = [(parent, child) for child, parent in edges]
    nodes = {node for edge in edges for node in edge}
    leaves = _read_ids(ids, class_names) if ids is not None else [_named(name, nodes) for name in class_names]
    return class_tree(edges, leaves, str(file))


def _named(name: str, nodes: set[str]) -> str:
    return name if name in nodes else "_".join(name.split())


def _read_ids(file: Path, class_names: Sequence[str]) -> list[str]:
    rows = [line.split(maxsplit=1) for _, line in _lines(file)]
    if all(len(row) == 1 for row in rows):
        if len(rows) != len(class_names):
            raise InputError(f"{file} needs one id for each of {len(class_names)} classes, got {len(rows)}")
        return [row[0] for row in rows]
    by_name = {row[1].strip(): row[0] for row in rows if len(row) == 2}
    missing = next((name for name in class_names if name not in by_name), None)
    if missing is not None:
        raise InputError(f"{file} has no id for the class {missing!r}; its lines are an id and a class name")
    return [by_name[name] for name in class_names]


def _lines(file: Path) -> list[tuple[int, str]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    found = [(at, line) for at, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise InputError(f"{file} is empty; it needs lines")
    return found


def _edge(line: str, file: Path, at: int) -> Edge:
    fields = line.split()
    if len(fields) != 2:
        raise InputError(f"{file}, line {at}: an edge is a parent and a child, got {line.strip()!r}")
    return fields[0], fields[1]


def _parents(edges: Iterable[Edge], where: str) -> dict[str, str]:
    """Parent of each node but the root."""
    parents: dict[str, str] = {}
    for parent, child in edges:
        if parents.setdefault(child, parent) != parent:
            raise InputError(f"{where} needs one parent a node, got {parents[child]!r} and {parent!r} for {child!r}")
    return parents


def _root(parents: dict[str, str], children: dict[str, list[str]], where: str) -> str:
    roots = [node for node in children if node not in parents]
    if not roots:
        raise InputError(f"{where} has no root: every node has a parent, so there is a cycle; break it")
    if len(roots) > 1:
        shown = ", ".join(map(repr, roots[:3]))
        raise InputError(f"{where} needs one root, got {len(roots)}: {shown}; join them under a node of their own")
    return roots[0]


def _check_leaves(leaves: Sequence[str], nodes: Container[str], children: dict[str, list[str]], where: str) -> None:
    seen: set[str] = set()
    for leaf in leaves:
        if leaf not in nodes:
            raise InputError(
                f"{where} has no node {leaf!r} for a class; name its leaves in the order of the labels in a file of ids"
            )
        if leaf in children:
            raise InputError(f"a class must be a leaf of {where}, got {leaf!r} with the child {children[leaf][0]!r}")
        if leaf in seen:
            raise InputError(f"every class needs a leaf of its own in {where}, got {leaf!r} twice")
        seen.add(leaf)


def _path(leaf: str, parents: dict[str, str]) -> list[str]:
    """From the root to a leaf."""
    path = [leaf]
    while path[-1] in parents:
        path.append(parents[path[-1]])
    return path[::-1]
