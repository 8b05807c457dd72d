"""The communities of an index as a figure for TensorBoard, laid out as on its page."""

from __future__ import annotations

from typing import Any

from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.page import LABELS, groups_of, places
from zoo.plots import new_figure, shorten

SIDE = 9.0  # inches
COLOURS = 20  # of the colour table; neighbours in the order of communities differ


def community_map(index: ValueIndex) -> Any:
    """Return a figure: a dot for each node, a colour for each community, the labels by name."""
    groups = groups_of(index)
    at = places(groups)
    order = {group: i for i, group in enumerate(sorted(set(groups.values())))}
    figure = new_figure(SIDE, SIDE)
    axes = figure.add_subplot()
    nodes = list(index.graph)
    named = [node for node in nodes if index.graph.nodes[node]["kind"] in LABELS]
    axes.scatter(
        [at[node][0] for node in nodes],
        [-at[node][1] for node in nodes],  # the page counts downwards
        s=[60 if node in named else 8 for node in nodes],
        c=[order[groups[node]] % COLOURS for node in nodes],
        cmap="tab20",
    )
    for node in named:
        x, y = at[node]
        axes.annotate(shorten(node.partition(":")[2]), (x, -y), fontsize=7, ha="center")
    drawn = len({*groups.values()} - {""})
    axes.set_title(f"{len(nodes)} nodes in {drawn} communities")
    axes.set_axis_off()
    return figure
