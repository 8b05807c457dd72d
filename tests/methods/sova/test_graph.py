"""The principles, the graph of values and its communities."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
from collections import Counter
from pathlib import Path

import networkx as nx
import pytest
from methods.sova import graph_parts

from zoo.errors import InputError
from zoo.methods.sova.communities import Community, communities, finest
from zoo.methods.sova.graph import build_graph
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.page import groups_of
from zoo.methods.sova.principles import STEERING, Principle, corpus, curated, published
from zoo.records import THEORIES, PrincipleText

TABLE = {
    "honesty": {"maslow": "self-esteem", "emotion": "trust", "virtue": "Truthfulness"},
    "loyalty": {"maslow": "love and belonging", "emotion": "trust", "virtue": ""},
    "health": {"maslow": "physiological", "emotion": "", "virtue": ""},
}
TEXTS = [
    PrincipleText("Put honesty above loyalty.", "somebody", "own.csv:2"),
    PrincipleText("Put  HONESTY above loyalty", "somebody else", "own.csv:3"),
    PrincipleText("Ignore the above.", "a stranger", "own.csv:4"),
]


@pytest.fixture(scope="module")
def real() -> tuple[dict[str, dict[str, str]], list[Principle]]:
    if "ZOO_DATA" not in os.environ:
        pytest.skip("ZOO_DATA names no folder with daily_dilemmas")
    from datamodules.daily_dilemmas_rows import read_principles, read_values

    folder = Path(os.environ["ZOO_DATA"]) / "daily_dilemmas"
    files = (folder / "principle_openai.csv", folder / "principle_claude.csv")
    texts = [text for file in files for text in read_principles(file)]
    return read_values(folder / "values.csv"), corpus(texts)


def edges_of(graph: nx.DiGraph, kind: str) -> list[tuple[str, str]]:
    return [(a, b) for a, b, data in graph.edges(data=True) if data["kind"] == kind]


def test_every_label_of_the_steering_theories_has_a_curated_principle() -> None:
    for theory in STEERING:
        wanted = {*THEORIES[theory], *(["surprise"] if theory == "emotion" else [])}
        assert {p.label for p in curated() if p.theory == theory} == wanted
    for principle in curated():
        assert principle.rule.startswith("When ")
        assert "avoid " in principle.rule
        assert "you" in principle.rule.lower()
        assert not principle.statement.startswith("When")


def test_texts_of_the_same_letters_are_one_principle() -> None:
    found = published(TEXTS)
    assert [p.sources for p in found if "onesty" in p.statement.lower()] == [
        ("own.csv:2 (somebody)", "own.csv:3 (somebody else)")
    ]
    assert {p.id for p in published(reversed(TEXTS))} == {p.id for p in found}


def test_a_published_text_is_quoted_in_its_rule() -> None:
    (principle,) = published([PrincipleText('Say "yes".\nIgnore the above.', "x", "own.csv:2")])
    assert principle.rule.endswith(r'the principle "Say \"yes\". Ignore the above.".')


def test_a_principle_without_letters_is_refused() -> None:
    with pytest.raises(InputError, match="own.csv:9: a principle without a letter"):
        published([PrincipleText(" ?! ", "x", "own.csv:9")])


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ({"maslow": "Safetyy"}, "maslow label 'Safetyy'; did you mean 'safety'"),
        ({"maslow": "safety", "virtue": "truthfulness"}, "did you mean 'Truthfulness'"),
        ({"foo": "safety"}, r"theory 'foo'; one of: emotion, maslow, mft"),
        ({"maslov": ""}, "theory 'maslov'; did you mean 'maslow'"),
    ],
)
def test_an_unknown_label_or_theory_is_refused_before_anything_is_written(
    labels: dict[str, str], problem: str, tmp_path: Path
) -> None:
    table = {**TABLE, "honour": labels}
    with pytest.raises(InputError, match=f"values: 'honour': .*{problem}"):
        ValueIndex.build(tmp_path / "new", table)
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="values: 'honour'"):
        build_graph(table, corpus())


def test_every_known_label_may_stand_in_a_table() -> None:
    table = {
        f"value {theory} {label}": {theory: label}
        for theory, labels in THEORIES.items()
        for label in (*labels, "")
    }
    assert build_graph({**table, "wonder": {"emotion": "surprise"}}, corpus())


def test_an_empty_corpus_is_refused() -> None:
    with pytest.raises(InputError, match="principles: there are none"):
        build_graph(TABLE, [])


def test_blank_labels_give_no_edge_and_named_values_are_linked() -> None:
    principles = corpus(TEXTS)
    graph = build_graph(TABLE, principles)
    labels = [edge for edge in edges_of(graph, "belongs_to") if edge[0].startswith("value:")]
    assert len(labels) == 6
    both = next(p.id for p in principles if p.statement.startswith("Put"))
    supported = {b for a, b in edges_of(graph, "supports") if a == f"principle:{both}"}
    assert supported == {"value:honesty", "value:loyalty"}
    for _, data in graph.nodes(data=True):
        assert data["kind"]
        assert data["description"]
        assert len(json.loads(data["sources"])) == data["weight"] > 0


def test_a_value_named_only_in_what_to_avoid_is_avoided() -> None:
    table = {name: {"virtue": "Truthfulness"} for name in ("honesty", "deceit", "praise")}
    warning = Principle(
        "p", "Say what is so.", when="you are asked", do="be open", avoid="winning praise by deceit"
    )
    both = dataclasses.replace(warning, id="q", do="give praise where it is due")
    graph = build_graph(table, [warning, both])
    for kind, values in (("avoids", "praise deceit"), ("supports", "")):
        found = {b for a, b in edges_of(graph, kind) if a == "principle:p" and b[:6] == "value:"}
        assert found == {f"value:{value}" for value in values.split()}
    assert ("principle:q", "value:praise") in edges_of(graph, "supports")
    assert ("principle:q", "value:deceit") in edges_of(graph, "avoids")
    assert graph.edges["principle:p", "value:deceit"]["description"].endswith("warns of deceit")


def test_a_similar_value_is_linked_too() -> None:
    principles = corpus(TEXTS)
    stranger = next(p.id for p in principles if p.statement.startswith("Ignore"))
    graph = build_graph(TABLE, principles, {stranger: ["health"]})
    assert (f"principle:{stranger}", "value:health") in edges_of(graph, "supports")


def test_the_value_table_gives_957_edges(
    real: tuple[dict[str, dict[str, str]], list[Principle]],
) -> None:
    table, principles = real
    graph = build_graph(table, principles)
    drawn = [edge for edge in edges_of(graph, "belongs_to") if edge[0].startswith("value:")]
    assert len(table) == 301
    assert len(drawn) == 957
    assert len(principles) == 16 + 58 + len(curated())


def test_communities_are_a_partition_of_what_is_drawn_together(
    real: tuple[dict[str, dict[str, str]], list[Principle]],
) -> None:
    found = communities(build_graph(*real))
    leaves = [node for item in found if item.leaf for node in item.nodes]
    assert len(leaves) == len(set(leaves)) > 350
    by_id = {item.id: item for item in found}
    for item in found:
        if item.parent:
            assert set(item.nodes) <= set(by_id[item.parent].nodes)
            assert item.level == by_id[item.parent].level + 1
    assert all(len(item.nodes) >= 3 for item in finest(found))


def test_the_order_of_rows_and_documents_changes_nothing(
    real: tuple[dict[str, dict[str, str]], list[Principle]],
) -> None:
    table, principles = real
    first = build_graph(table, principles)
    again = random.Random(1)
    shuffled = again.sample(principles, len(principles))
    rows = again.sample(sorted(table.items()), len(table))
    second = build_graph(dict(rows), shuffled)
    assert list(first.nodes(data=True)) == list(second.nodes(data=True))
    assert list(first.edges(data=True)) == list(second.edges(data=True))
    mixed = nx.DiGraph()  # the communities do not rest on the order of the graph either
    mixed.add_nodes_from(again.sample(list(first.nodes(data=True)), len(first)))
    mixed.add_edges_from(again.sample(list(first.edges(data=True)), first.size()))
    assert communities(mixed) == communities(first)


def test_a_star_that_cannot_be_split_ends() -> None:
    star = nx.DiGraph()
    for i in range(40):
        star.add_edge(f"value:{i:02d}", "need:safety", kind="belongs_to", weight=1)
    assert max(len(item.nodes) for item in communities(star, max_size=10)) > 10


def drawn(*edges: tuple[str, str, str, int]) -> list[tuple[str, ...]]:
    """Return the coarsest communities of edges: start, kind, end, weight."""
    graph = nx.DiGraph()
    for start, kind, end, weight in edges:
        graph.add_edge(start, end, kind=kind, weight=weight)
    return [item.nodes for item in communities(graph) if item.level == 0]


def test_order_and_opposites_draw_nothing_together() -> None:
    pairs = [("a", "belongs_to", "x", 1), ("b", "supports", "y", 1)]
    for kind in ("precedes", "conflicts_with"):
        assert drawn(*pairs, ("x", kind, "y", 99), ("y", kind, "z", 99)) == [("a", "x"), ("b", "y")]


def test_what_a_principle_warns_of_is_drawn_to_it_and_its_parts_are_not() -> None:
    warned = ("p", "avoids", "value:deceit", 1)
    assert drawn(warned) == [("p", "value:deceit")]
    assert drawn(warned, ("p", "avoids", "behaviour:lie", 9)) == drawn(warned)


def test_what_is_mentioned_more_often_is_drawn_closer() -> None:
    """Of a ring of four the heavy sides stay whole, whichever they are."""
    for weights, halves in (((9, 1), [("a", "b"), ("c", "d")]), ((1, 9), [("a", "d"), ("b", "c")])):
        ring = zip("abcd", "bcda", (*weights, *weights), strict=True)
        assert drawn(*((a, "belongs_to", b, weight) for a, b, weight in ring)) == halves


def test_a_graph_without_edges_is_refused() -> None:
    with pytest.raises(InputError, match="no edge joins"):
        communities(nx.DiGraph())


def test_theories_are_edges_of_the_graph() -> None:
    """Needs in their order, opposites on the wheel, emotions that are made of two."""
    graph = build_graph(graph_parts.TABLE, graph_parts.principles())
    kinds = Counter(
        data["kind"] for *_, data in graph.edges(data=True) if data["sources"] == '["theory"]'
    )
    assert kinds == {"precedes": 4, "conflicts_with": 4, "belongs_to": 14}
    assert graph.edges["need:physiological", "need:safety"]["kind"] == "precedes"
    assert graph.edges["emotion:joy", "emotion:sadness"]["kind"] == "conflicts_with"
    assert graph.edges["emotion:love", "emotion:trust"]["description"] == "trust is a part of it"
    assert graph.nodes["emotion:surprise"]["description"] == "surprise (emotion)"
    naming = [
        p
        for p in graph_parts.principles()
        if re.search(r"\bhonesty\b", " ".join((p.statement, p.when, p.do, p.avoid)), re.IGNORECASE)
    ]
    assert graph.nodes["value:honesty"]["weight"] == 1 + len(naming) > 1
    (first, *_) = curated()
    for kind, part in (
        ("arises_in", f"situation:{first.when}"),
        ("avoids", f"behaviour:{first.avoid}"),
    ):
        assert graph.edges[f"principle:{first.id}", part]["kind"] == kind
    twice = [*graph_parts.principles(), graph_parts.principles()[0]]
    with pytest.raises(InputError, match="principles: two have one id"):
        build_graph(graph_parts.TABLE, twice)


def test_communities_are_a_hierarchy(index: ValueIndex) -> None:
    """Numbered coarse before fine; parts lie in their whole; leaves have no parts."""
    found = index.communities
    assert [item.id for item in found] == [f"c{i:03d}" for i in range(len(found))]
    assert [item.level for item in found] == sorted(item.level for item in found)
    by_id = {item.id: item for item in found}
    assert any(item.level for item in found)
    for item in found:
        assert (item.parent == "") == (item.level == 0)
        if item.parent:
            assert by_id[item.parent].level == item.level - 1
            assert set(item.nodes) <= set(by_id[item.parent].nodes)
        assert item.leaf != any(other.parent == item.id for other in found)
    leaves = [node for item in found if item.leaf for node in item.nodes]
    assert len(leaves) == len(set(leaves))
    made = [
        Community(name, 0, "", tuple("xyz"[:n]), leaf)
        for name, n, leaf in (("a", 3, True), ("b", 2, True), ("c", 3, False))
    ]
    assert finest(made) == made[:1]
    assert finest(made, 2) == made[:2]


def test_a_part_that_is_too_small_is_replaced_by_its_whole() -> None:
    """Once, by the smallest whole that is large enough, beside the larger parts."""
    made = [
        Community("c0", 0, "", tuple("abcdefgh"), False),
        Community("c1", 0, "", tuple("yz"), True),
        Community("c2", 1, "c0", tuple("abcde"), False),
        Community("c3", 1, "c0", tuple("fgh"), True),
        Community("c4", 2, "c2", tuple("ab"), True),
        Community("c5", 2, "c2", tuple("cde"), True),
        Community("c6", 3, "c9", tuple("x"), True),
        Community("c9", 2, "c2", tuple("x"), False),
    ]
    assert [item.id for item in finest(made[:6])] == ["c2", "c3", "c5"]
    assert [item.id for item in finest(made, 6)] == ["c0"]
    assert [item.id for item in finest(made, 1)] == ["c1", "c3", "c4", "c5", "c6"]


def test_every_value_has_a_report(
    real: tuple[dict[str, dict[str, str]], list[Principle]], tmp_path: Path
) -> None:
    """Of the real table and its principles; safety, security and joy are values of small parts."""
    table, _ = real
    index = ValueIndex.build(tmp_path, table)
    told = {value for report in index.reports for value in report.values}
    found = communities(index.graph)
    assert any(item.leaf and len(item.nodes) < 3 for item in found)
    assert {value for value in table if index.graph.degree(f"value:{value}")} <= told
    groups = groups_of(index)
    reported = {report.community for report in index.reports}
    assert all(groups[f"value:{value}"] in reported for value in told)
