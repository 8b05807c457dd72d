"""The graph of values: typed nodes and edges, built without any model.

Nodes: `value` (301 in the dataset's table); the labels of theories (`need`, `emotion`, `virtue`,
`foundation`, `worldview`); `principle`; and what a curated principle is made of: `situation` (when
it applies) and `behaviour` (what to do or avoid).

Edges: a value or principle `belongs_to` a label; a principle `supports` a value that it names, and
`avoids` one that it names only where it says what to avoid; it `arises_in` a situation,
`prescribes` or `avoids` a behaviour; a need `precedes` the next one; an emotion `conflicts_with`
its opposite on the wheel and `belongs_to` the two that it is made of.

Each has a `description`, `sources` (ids, as a JSON list) and a `weight` (how many sources mention
it; an edge has one, the principle or row that it comes from). Nodes and edges are added in the
order of their names, so the graph, and all that is made of it, does not depend on the order of
documents or rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

import networkx as nx

from zoo.errors import InputError, nearest
from zoo.methods.sova.principles import CONTROL, Principle
from zoo.records import THEORIES

ValueTable = Mapping[str, Mapping[str, str]]
"""For each value the label of every theory, empty where a theory has none."""

KIND_OF = {
    "maslow": "need",
    "emotion": "emotion",
    "virtue": "virtue",
    "mft": "foundation",
    "wvs": "worldview",
}
"""The type of a theory's labels as nodes."""

OPPOSITES = (
    ("joy", "sadness"),
    ("trust", "disgust"),
    ("fear", "anger"),
    ("surprise", "anticipation"),
)
PARTS = {
    "love": ("joy", "trust"),
    "optimism": ("anticipation", "joy"),
    "submission": ("trust", "fear"),
    "remorse": ("sadness", "disgust"),
    "disapproval": ("surprise", "sadness"),
    "contempt": ("disgust", "anger"),
    "aggressiveness": ("anger", "anticipation"),
}
"""Plutchik's emotions that are made of two neighbouring primary ones."""

THEORY_SOURCE = "theory"


class _Mentions:
    """Nodes and edges as they are found: descriptions, sources and counts, in any order."""

    def __init__(self) -> None:
        self.nodes: dict[str, tuple[str, str, set[str]]] = {}
        self.edges: dict[tuple[str, str], tuple[str, str, set[str]]] = {}

    def node(self, kind: str, name: str, description: str, source: str) -> str:
        """Add a mention of a node; return its id."""
        made = f"{kind}:{name}"
        self.nodes.setdefault(made, (kind, description, set()))[2].add(source)
        return made

    def edge(self, start: str, kind: str, end: str, description: str, source: str) -> None:
        """Add a mention of an edge; between two nodes there is one, of the first kind found."""
        self.edges.setdefault((start, end), (kind, description, set()))[2].add(source)

    def graph(self) -> nx.DiGraph:
        """Return the graph, nodes and edges in the order of their names."""
        made = nx.DiGraph()
        for name, parts in sorted(self.nodes.items()):
            made.add_node(name, **_attributes(*parts))
        for (start, end), parts in sorted(self.edges.items()):
            made.add_edge(start, end, **_attributes(*parts))
        return made


def _attributes(kind: str, description: str, sources: set[str]) -> dict[str, str | int]:
    """Return what the graph keeps of a node or an edge: plain values, for GraphML."""
    return {
        "kind": kind,
        "description": description,
        "sources": json.dumps(sorted(sources), ensure_ascii=False),
        "weight": len(sources),
    }


def build_graph(
    table: ValueTable,
    principles: Sequence[Principle],
    similar: Mapping[str, Sequence[str]] | None = None,
) -> nx.DiGraph:
    """Return the graph of a value table and principles.

    Args:
        table: The labels of each value; may be empty.
        principles: With different ids.
        similar: For a principle's id the values that an encoder finds close to it; they are linked
            beside those that its text names.

    Raises:
        InputError: There are no principles, two have one id, or the table has an unknown label.
    """
    check_labels(table)
    if not principles:
        raise InputError("principles: there are none to build a graph of")
    names = [principle.id for principle in principles]
    if len(set(names)) < len(names):
        raise InputError("principles: two have one id; merge texts of the same letters first")
    found = _Mentions()
    _add_theories(found)
    _add_values(found, table)
    named = _name_finder(table)
    for principle in principles:
        start = _add_principle(found, principle)
        about = named(principle.statement, principle.when, principle.do)
        about |= {*(similar or {}).get(principle.id, ())}
        for value in sorted(about | named(principle.avoid)):
            node = found.node("value", value, value, principle.id)
            if value in about:
                text = f"the principle is about {value}"
                found.edge(start, "supports", node, text, principle.id)
            else:
                text = f"the principle warns of {value}"
                found.edge(start, "avoids", node, text, principle.id)
    return found.graph()


def check_labels(table: ValueTable) -> None:
    """Refuse a table with a value that no file can hold, or a theory or label that there is not.

    Raises:
        InputError: Names the value and the nearest theory or label.
    """
    for value, labels in table.items():
        where = f"values: {value!r}"
        if CONTROL.search(value):
            raise InputError(f"{where}: has a control character; write the value without it")
        for theory, label in labels.items():
            if theory not in KIND_OF:
                raise InputError(f"{where}: theory {theory!r}; {nearest(theory, KIND_OF)}")
            known = labels_of(theory)
            if label and label not in known:
                raise InputError(f"{where}: {theory} label {label!r}; {nearest(label, known)}")


def labels_of(theory: str) -> tuple[str, ...]:
    """Return a theory's labels: the dataset's, and the emotion that it lacks."""
    labels = THEORIES[theory]
    return (*labels, "surprise") if theory == "emotion" else (*labels,)


def label_node(theory: str, label: str) -> str:
    """Return the id of a label's node."""
    return f"{KIND_OF[theory]}:{label}"


def _add_theories(found: _Mentions) -> None:
    for theory in THEORIES:
        for label in labels_of(theory):
            found.node(KIND_OF[theory], label, f"{label} ({theory})", THEORY_SOURCE)
    needs = [label_node("maslow", label) for label in THEORIES["maslow"]]
    for lower, higher in zip(needs, needs[1:], strict=False):
        found.edge(lower, "precedes", higher, "the more basic need comes first", THEORY_SOURCE)
    for one, other in OPPOSITES:
        ends = label_node("emotion", one), label_node("emotion", other)
        found.edge(
            ends[0], "conflicts_with", ends[1], "opposite on the wheel of emotions", THEORY_SOURCE
        )
    for whole, parts in PARTS.items():
        for part in parts:
            ends = label_node("emotion", whole), label_node("emotion", part)
            found.edge(ends[0], "belongs_to", ends[1], f"{part} is a part of it", THEORY_SOURCE)


def _add_values(found: _Mentions, table: ValueTable) -> None:
    for value, labels in table.items():
        node = found.node("value", value, value, f"values: {value}")
        for theory, label in labels.items():
            if label:
                text = f"{value} counts as {label}"
                found.edge(node, "belongs_to", label_node(theory, label), text, f"values: {value}")


def _add_principle(found: _Mentions, principle: Principle) -> str:
    """Add a principle, its label and what it is made of; return its node's id."""
    node = found.node("principle", principle.id, principle.statement, principle.id)
    if principle.label:
        label = found.node(
            KIND_OF[principle.theory], principle.label, principle.label, principle.id
        )
        text = f"a principle of {principle.label}"
        found.edge(node, "belongs_to", label, text, principle.id)
    for kind, part, text in (
        ("arises_in", "situation", principle.when),
        ("prescribes", "behaviour", principle.do),
        ("avoids", "behaviour", principle.avoid),
    ):
        if text:
            end = found.node(part, text, text, principle.id)
            found.edge(node, kind, end, f"{kind.replace('_', ' ')}: {text}", principle.id)
    return node


def _name_finder(table: ValueTable) -> Callable[..., set[str]]:
    """Return a function that gives the values which texts name as whole words."""
    longest_first = sorted(table, key=lambda value: (-len(value), value))
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)
    spelled: dict[str, set[str]] = {}  # small letters -> as the table writes it
    for value in table:
        spelled.setdefault(value.casefold(), set()).add(value)

    def named(*texts: str) -> set[str]:
        hits = {hit.casefold() for text in texts for hit in pattern.findall(text)}
        return {value for hit in hits for value in spelled.get(hit, ())}

    return named
