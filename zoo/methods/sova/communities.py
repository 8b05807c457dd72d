"""Communities of values, labels and principles: hierarchical Leiden on a sorted graph.

Leiden draws random numbers: with one seed, another order of edges gives another partition. So the
edges are sorted before the call. `max_size` is best effort, since a star cannot be split: the
recursion of graspologic-native ends where Leiden gives back one cluster, and what is left is
larger.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import graspologic_native
import networkx as nx

from zoo.errors import InputError

DRAWN = ("belongs_to", "supports", "avoids")
"""Edges that draw nodes together: neither the order of needs nor opposites do. A principle is drawn
to a value that it warns of, too: it speaks of it. What a principle is made of (its situation, its
behaviours) follows the principle and takes no place in a community."""
PARTS = ("situation:", "behaviour:")


@dataclass(frozen=True, slots=True)
class Community:
    """A group of nodes.

    Attributes:
        id: Its place in the hierarchy, `c` and a number; the same whenever the graph is.
        level: 0 for the coarsest.
        parent: The community that it is a part of; empty on level 0.
        nodes: Its members' ids, sorted.
        leaf: Whether it has no parts.
    """

    id: str
    level: int
    parent: str
    nodes: tuple[str, ...]
    leaf: bool


def communities(graph: nx.DiGraph, *, max_size: int = 10, seed: int = 0) -> list[Community]:
    """Return the communities of all levels, coarse before fine, then by their first member.

    Args:
        graph: With the attributes `kind` and `weight` on its edges.
        max_size: Split what has more members, where Leiden finds a way to.
        seed: Of Leiden's random numbers.

    Raises:
        InputError: The graph has no edge that draws nodes together.
    """
    edges = sorted(
        (*sorted((start, end)), float(data["weight"]))
        for start, end, data in graph.edges(data=True)
        if data["kind"] in DRAWN and not end.startswith(PARTS)
    )
    if not edges:
        raise InputError("graph: no edge joins a value or a principle to a label")
    found = graspologic_native.hierarchical_leiden(edges, max_cluster_size=max_size, seed=seed)
    members: dict[tuple[int, int], list[str]] = defaultdict(list)
    above: dict[tuple[int, int], int | None] = {}
    final: set[tuple[int, int]] = set()
    for item in found:
        key = (item.level, item.cluster)
        members[key].append(item.node)
        above[key] = item.parent_cluster
        if item.is_final_cluster:
            final.add(key)
    order = sorted(members, key=lambda key: (key[0], min(members[key])))
    names = {key: f"c{number:03d}" for number, key in enumerate(order)}
    return [
        Community(
            names[key],
            key[0],
            "" if above[key] is None else names[key[0] - 1, above[key]],  # type: ignore[index]
            tuple(sorted(members[key])),
            key in final,
        )
        for key in order
    ]


def finest(found: list[Community], min_nodes: int = 3) -> list[Community]:
    """Return for each node its finest community of at least `min_nodes` members, in their order.

    A part that is too small is replaced by the smallest whole around it that is large enough, which
    then stands beside the larger parts of that whole. A node whose coarsest community is too small
    has none.
    """
    by_id = {item.id: item for item in found}
    kept = set()
    for item in found:
        if item.leaf:
            while len(item.nodes) < min_nodes and item.parent:
                item = by_id[item.parent]
            if len(item.nodes) >= min_nodes:
                kept.add(item.id)
    return [item for item in found if item.id in kept]
