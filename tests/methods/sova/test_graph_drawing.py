"""Where the graph of values is drawn, and in what colours: on its page and on its map."""

from __future__ import annotations

import json
import math
import re

import pytest

from zoo.methods.sova.community_map import COLOURS, community_map
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.page import GAP, GOLDEN, STEP, groups_of, page, places


def test_a_node_that_hangs_on_a_principle_has_its_community(index: ValueIndex) -> None:
    groups = groups_of(index)
    leaves = {node: item.id for item in index.communities if item.leaf for node in item.nodes}
    sizes = {item.id: len(item.nodes) for item in index.communities}
    wholes = {item.id: item.parent for item in index.communities}
    for node, leaf in leaves.items():  # or the whole of one that is too small for a report
        assert groups[node] == leaf or (sizes[leaf] < 3 and wholes[leaf])
        assert groups[node] in {item.id for item in index.communities if node in item.nodes}
        assert sizes[groups[node]] >= 3 or not wholes[groups[node]]
    for _, end, data in index.graph.edges(data=True):
        if data["kind"] in ("prescribes", "avoids", "arises_in"):
            assert groups[end]
            sharing = {groups[start] for start, _ in index.graph.in_edges(end)}
            assert groups[end] in sharing


def test_places_are_a_sunflower_of_sunflowers() -> None:
    """Large communities in the middle, nodes without one outside; no two at one place."""
    groups = {**{f"a{i}": "a" for i in range(3)}, "b0": "b", "b1": "b", "x": ""}
    found = places(groups)
    assert len(set(found.values())) == len(groups)
    centres = [found[name] for name in ("a0", "b0", "x")]
    areas = [3, 5, 6]
    for turn, ((x, y), area) in enumerate(zip(centres, areas, strict=True)):
        far = STEP * math.sqrt(area * GAP**2)
        assert (x, y) == pytest.approx(
            (far * math.cos(turn * GOLDEN), far * math.sin(turn * GOLDEN))
        )
    (x, y), (u, v) = found["a0"], found["a1"]
    assert (u - x, v - y) == pytest.approx((STEP * math.cos(GOLDEN), STEP * math.sin(GOLDEN)))


def test_the_map_is_the_page_in_colours(index: ValueIndex) -> None:
    """A dot for each node where the page has it, large ones with their name for labels."""
    axes = community_map(index).axes[0]
    groups, nodes = groups_of(index), list(index.graph)
    at = places(groups)
    dots = axes.collections[0]
    wanted = [(at[node][0], -at[node][1]) for node in nodes]
    assert dots.get_offsets().tolist() == [pytest.approx(pair) for pair in wanted]
    labels = {"need", "emotion", "virtue", "foundation", "worldview"}
    large = [node for node, size in zip(nodes, dots.get_sizes(), strict=True) if size == 60]
    assert large == [n for n in nodes if index.graph.nodes[n]["kind"] in labels]
    assert [text.get_text() for text in axes.texts] == [n.partition(":")[2] for n in large]
    assert axes.texts[0].xy == pytest.approx((at[large[0]][0], -at[large[0]][1]))
    colour = dict(zip(nodes, dots.get_array().tolist(), strict=True))
    for group in set(groups.values()):
        assert len({colour[node] for node in nodes if groups[node] == group}) == 1
    assert len(set(colour.values())) == min(COLOURS, len(set(groups.values())))
    drawn = len({*groups_of(index).values()} - {""})
    assert axes.get_title() == f"{len(nodes)} nodes in {drawn} communities"


def test_the_page_draws_by_kind_and_community(index: ValueIndex) -> None:
    """Labels are large and named; what has no community is grey; the data have all edges."""
    text = page(index)
    data = json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', text, re.DOTALL)[1])
    nodes = list(index.graph)
    assert [node["text"] for node in data["nodes"]] == [
        index.graph.nodes[n]["description"] for n in nodes
    ]
    groups = groups_of(index)
    assert [node["community"] for node in data["nodes"]] == [groups[n] for n in nodes]
    edges = [(nodes[a], kind, nodes[b]) for a, kind, b in data["edges"]]
    assert edges == [(a, d["kind"], b) for a, b, d in index.graph.edges(data=True)]
    circles = re.findall(r'<circle cx="(.*?)" cy="(.*?)" r="(.*?)" fill="(.*?)"', text)
    at, radius = (
        places(groups),
        {"principle": "6", "value": "4", "situation": "3", "behaviour": "3"},
    )
    for node, (x, y, r, fill) in zip(nodes, circles, strict=True):
        assert (x, y) == (f"{at[node][0]:.0f}", f"{at[node][1]:.0f}")
        assert r == radius.get(index.graph.nodes[node]["kind"], "9")
        assert (fill == "#999") == (groups[node] == "")
    assert len({c[3] for c in circles} - {"#999"}) == len(set(groups.values()) - {""})
    names = re.findall(r'<text x="(.*?)" y="(.*?)">(.*?)</text>', text)
    assert len(names) == sum(c[2] == "9" for c in circles)
    named = {n.partition(":")[2]: at[n] for n in nodes if n.startswith("need:")}
    for x, y, name in names:
        if name in named:
            assert (x, y) == (f"{named[name][0]:.0f}", f"{named[name][1] - 12:.0f}")
    far = max(max(map(abs, place)) for place in at.values()) + 20
    box = f'viewBox="{-far:.0f} {-far:.0f} {2 * far:.0f} {2 * far:.0f}"'
    assert box in text
    counts = index.card["counts"]
    assert ", ".join(f"{count} {name}" for name, count in counts.items()) in text
    (first, *_) = data["reports"]
    assert first["findings"] == [item.rule for item in index.reports[0].findings]
    assert first["summary"] == index.reports[0].summary
