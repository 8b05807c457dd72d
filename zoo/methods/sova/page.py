"""The graph of values as one HTML page that opens from disk and asks for nothing else.

Communities have a colour and a place each, so that the picture is the same for the same index. All
texts are escaped, in the markup as in the data; the script sets them as text, never as markup; and
the page forbids itself every request and every script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import defaultdict
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from zoo.cache import whole_file
from zoo.methods.sova.communities import finest
from zoo.methods.sova.index import ValueIndex

TITLE = "Values, principles and their communities"
GOLDEN = math.pi * (3 - math.sqrt(5))  # of a sunflower
STEP, GAP = 13.0, 2.2  # pixels between nodes; room between communities, in radii
RADIUS = {"principle": 6, "value": 4}  # of the others: labels 9, parts of principles 3
LABELS = ("need", "emotion", "virtue", "foundation", "worldview")


def write_graph_page(index: ValueIndex, path: str | Path) -> int:
    """Write the page of an index; return its size in bytes."""
    text = page(index)
    with whole_file(Path(path)) as scratch:
        scratch.write_text(text, encoding="utf-8")
    return len(text.encode())


def page(index: ValueIndex) -> str:
    """Return the page of an index."""
    files = resources.files("zoo.methods.sova")
    script = files.joinpath("page.js").read_text("utf-8")
    groups = groups_of(index)
    sizes = ", ".join(f"{count} {name}" for name, count in index.card["counts"].items())
    digest = hashlib.sha256(script.encode()).digest()
    return Template(files.joinpath("page.html").read_text("utf-8")).substitute(
        title=escape(TITLE),
        counts=escape(sizes),
        drawing=_drawing(index, groups),
        data=in_script(_data(index, groups)),
        script=script,
        script_hash=base64.b64encode(digest).decode(),
    )


def in_script(value: Any) -> str:
    """Return JSON that can stand in a script element: no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def groups_of(index: ValueIndex) -> dict[str, str]:
    """Return each node's finest community, the one that reports speak of where there is one.

    What a principle is made of has the principle's. A node of no community has an empty one.
    """
    groups = dict.fromkeys(index.graph, "")
    leaves = [item for item in index.communities if item.leaf]
    for item in (*leaves, *finest(index.communities)):  # coarse before fine
        groups |= dict.fromkeys(item.nodes, item.id)
    for start, end in index.graph.edges:
        if not groups[end]:
            groups[end] = groups[start]
    return groups


def places(groups: dict[str, str]) -> dict[str, tuple[float, float]]:
    """Return where each node stands: communities as a sunflower, and each one's nodes too."""
    members: dict[str, list[str]] = defaultdict(list)
    for node, group in groups.items():
        members[group].append(node)
    order = sorted(members, key=lambda group: (group == "", -len(members[group]), group))
    found: dict[str, tuple[float, float]] = {}
    area = 0.0
    for turn, group in enumerate(order):
        nodes = members[group]
        area += len(nodes) * GAP**2
        far = STEP * math.sqrt(area)
        x, y = far * math.cos(turn * GOLDEN), far * math.sin(turn * GOLDEN)
        for i, node in enumerate(nodes):
            r = STEP * math.sqrt(i)
            found[node] = (x + r * math.cos(i * GOLDEN), y + r * math.sin(i * GOLDEN))
    return found


def _drawing(index: ValueIndex, groups: dict[str, str]) -> str:
    at = places(groups)
    far = max((max(abs(x), abs(y)) for x, y in at.values()), default=0) + 20
    hues = {group: round(i * 137.508) % 360 for i, group in enumerate(sorted(set(groups.values())))}
    lines = [
        f'<line x1="{at[a][0]:.0f}" y1="{at[a][1]:.0f}" x2="{at[b][0]:.0f}" y2="{at[b][1]:.0f}"/>'
        for a, b in index.graph.edges
    ]
    circles, names = [], []
    for node, data in index.graph.nodes(data=True):
        kind = data["kind"]
        colour = f"hsl({hues[groups[node]]} 60% 55%)" if groups[node] else "#999"
        radius = 9 if kind in LABELS else RADIUS.get(kind, 3)
        circles.append(
            f'<circle cx="{at[node][0]:.0f}" cy="{at[node][1]:.0f}" r="{radius}" fill="{colour}">'
            f"<title>{escape(data['description'])} ({escape(kind)})</title></circle>"
        )
        if kind in LABELS:
            x, y = at[node]
            names.append(
                f'<text x="{x:.0f}" y="{y - 12:.0f}">{escape(node.partition(":")[2])}</text>'
            )
    box = f"{-far:.0f} {-far:.0f} {2 * far:.0f} {2 * far:.0f}"
    return "\n".join([f'<svg role="img" viewBox="{box}">', *lines, *circles, *names, "</svg>"])


def _data(index: ValueIndex, groups: dict[str, str]) -> dict[str, Any]:
    place = {node: i for i, node in enumerate(index.graph)}
    labels = {f"principle:{p.id}": f"{p.theory}: {p.label}" for p in index.principles if p.theory}
    return {
        "nodes": [
            {
                "text": data["description"],
                "kind": data["kind"],
                "label": labels.get(node, ""),
                "community": groups[node],
                "sources": json.loads(data["sources"]),
            }
            for node, data in index.graph.nodes(data=True)
        ],
        "edges": [
            [place[start], data["kind"], place[end]]
            for start, end, data in index.graph.edges(data=True)
        ],
        "reports": [
            {
                "community": report.community,
                "theory": report.theory,
                "title": report.title,
                "summary": report.summary,
                "findings": [item.rule for item in report.findings],
            }
            for report in index.reports
        ],
    }
