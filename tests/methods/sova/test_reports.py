"""Reports of communities from templates by hand, and what a model may make of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from methods.sova.graph_parts import TABLE, principles, reports

from zoo.methods.sova.communities import Community
from zoo.methods.sova.graph import build_graph
from zoo.methods.sova.principles import Principle, curated
from zoo.methods.sova.report_writer import material, read_report
from zoo.methods.sova.reports import (
    MAX_ADVICE,
    MAX_PUBLISHED,
    as_row,
    from_row,
    listed,
    template_reports,
)


def small() -> tuple[Any, Community, list[Principle]]:
    """Return a community of three values and a stranger's rule, with its graph."""
    found = principles()
    graph = build_graph(TABLE, found)
    own = next(p.id for p in found if p.statement.startswith("Put"))
    nodes = ("value:friendship", "value:honesty", "value:respect", f"principle:{own}")
    return graph, Community("c007", 1, "c001", tuple(sorted(nodes)), True), found


def test_a_report_by_hand() -> None:
    """The label of most values, how many have it, values with it first; six rules advise."""
    graph, community, found = small()
    made = {item.theory: item for item in template_reports(graph, [community], found)}
    report = made["maslow"]
    assert report.id == "c007/maslow"
    assert report.title == "Self-esteem: honesty, respect and friendship"
    assert (report.rating, report.reason) == (6.7, "2 of 3 values count as self-esteem.")
    assert report.values == ("friendship", "honesty", "respect")
    assert (MAX_ADVICE, MAX_PUBLISHED) == (6, 2)
    assert [item.advises for item in report.findings] == [True] * 6 + [False]
    assert report.findings[-1].principle_ids == (community.nodes[0].removeprefix("principle:"),)
    by_id = {p.id: p for p in found}
    labels = [by_id[item.principle_ids[0]].label for item in report.findings]
    assert labels[0] == "self-esteem"
    assert report.summary.startswith("When honesty, respect or friendship come into play, ")
    assert report.findings[0].rule.startswith(
        "When honesty, respect or friendship come into play and "
    )
    assert report.text.startswith(f"{report.title}\nValues: friendship, honesty, respect\n")
    assert f"\n- {report.findings[0].rule} ({report.findings[0].why})" in report.text
    assert from_row(as_row(report) | {"values": report.values}) == report
    one = dataclasses.replace(community, nodes=("value:honesty",))
    (alone,) = [i for i in template_reports(graph, [one], found) if i.theory == "maslow"]
    assert alone.title == "Self-esteem: honesty"
    assert "When honesty comes into play" in alone.summary
    assert alone.rating == 10.0
    nothing = dataclasses.replace(community, nodes=("foundation:care",))
    assert template_reports(graph, [nothing], found) == []


def test_a_rule_of_its_own_comes_first_in_a_report() -> None:
    """A community without values is all its theory's; a stranger's rule stands behind."""
    graph, _, found = small()
    rule = next(p for p in curated() if p.label == "safety")
    stranger = next(p for p in found if p.statement.startswith("Put"))
    nodes = tuple(sorted((f"principle:{rule.id}", f"principle:{stranger.id}")))
    (bare,) = template_reports(graph, [Community("c1", 0, "", nodes, True)], found)
    assert (bare.rating, bare.values, bare.title) == (10.0, (), "Safety")
    assert [item.principle_ids for item in bare.findings] == [(rule.id,), (stranger.id,)]
    assert bare.findings[0].rule == bare.summary == rule.rule
    assert [item.why for item in bare.findings] == [rule.statement, "a published rule"]
    assert [item.advises for item in bare.findings] == [True, False]
    nodes = tuple(sorted((*nodes, "value:caution", "value:security", "value:health")))
    (full, *_) = [
        item
        for item in template_reports(graph, [Community("c1", 0, "", nodes, True)], found)
        if item.theory == "maslow"
    ]
    assert full.findings[0].principle_ids == (rule.id,)


def test_a_whole_speaks_for_its_members_without_a_finer_report() -> None:
    """Their labels say which principles apply; rules name their values, then the others."""
    graph, _, found = small()
    part = Community("c2", 1, "c1", ("value:health", "value:honesty", "value:respect"), True)
    whole = Community("c1", 0, "", (*part.nodes, "value:caution", "value:security"), False)
    made = {item.id: item for item in template_reports(graph, [whole, part], found)}
    own = made["c1/maslow"]
    assert own.title == "Safety: caution, security and health"
    assert own.findings[0].rule.startswith("When caution, security or health come into play and ")
    assert own.values == ("caution", "health", "honesty", "respect", "security")
    assert (own.rating, own.reason) == (4.0, "2 of 5 values count as safety.")
    assert made["c2/maslow"].title == "Self-esteem: honesty, respect and health"
    assert "c2/virtue" in made
    assert "Temperance" in made["c1/virtue"].title
    (bare,) = [item.id for item in template_reports(graph, [part], found) if "maslow" in item.id]
    assert bare == "c2/maslow"


def test_names_are_listed_in_words() -> None:
    given = [listed(list("abc")[:n], "or") for n in range(4)]
    assert given == ["", "a", "a or b", "a, b or c"]


def test_a_models_report_has_no_more_rules_than_the_templates(tmp_path: Path) -> None:
    """Those that are no objects are passed over; sources and values stay."""
    (report, *_) = reports()
    rule = {"of": [1], "rule": "When you rest, sleep.", "why": "It helps."}
    said = {"title": " A  b ", "summary": "When you rest, sleep.", "rating": 0, "reason": "So."}
    words = json.dumps({**said, "findings": ["x", *[rule] * 9]})
    made = read_report(report, words, "m")
    assert len(made.findings) == len(report.findings) - 1
    assert (made.title, made.rating, made.by) == ("A b", 0, "m")
    assert (made.values, made.id) == (report.values, report.id)
    assert (
        read_report(report, json.dumps({**said, "rating": 10, "findings": [rule]}), "m").rating
        == 10
    )
    asked = json.loads(material(report)[1][1])
    assert asked["values"] == list(report.values)
    first = report.findings[0]
    assert asked["rules"][0] == {"number": 1, "rule": first.rule, "why": first.why}
