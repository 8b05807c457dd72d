"""Reports: what a theory prescribes where the values of a community come into play.

A report is made for each community and theory that has a label there. It holds up to `MAX_ADVICE`
curated principles and up to `MAX_PUBLISHED` published ones: the community's own and those of the
labels that its members have, by the number of members that point to them. Each finding is a rule of
the form "When ..., ..." with the reason for it and the id of its principle.

What a report instructs is one of its findings that advise (see `instruct.py`). Decided here: these
come from curated principles, which say to the one who decides what to do and what to avoid.
Published rules tell an assistant which of two answers is better. That is no advice for a person,
and no template can make it one, so they stand behind the curated ones, those with a label first, as
material for the model that scores or words a report.

The wording is a template's, or a language model's (`write_reports`), whose JSON is read by a real
parser; where a model fails, the template's wording stays.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from typing import Any

import networkx as nx

from zoo.methods.sova.communities import Community
from zoo.methods.sova.graph import KIND_OF
from zoo.methods.sova.principles import STEERING, Principle

MAX_ADVICE, MAX_PUBLISHED, MAX_VALUES = 6, 2, 3
MAX_CHARS = 5000  # of a report that a prompt holds


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """A rule of a report.

    Attributes:
        rule: "When ..., ...".
        why: Why it holds.
        principle_ids: The principles that it comes from.
        advises: Whether it tells the one who decides what to do.
    """

    rule: str
    why: str
    principle_ids: tuple[str, ...]
    advises: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What a theory prescribes in a community.

    Attributes:
        id: Community and theory, for example `c012/maslow`.
        community: Id of the community.
        theory: One of `STEERING`.
        title: The label of the first finding's principle, and some values.
        summary: "When [conditions], [actions]."
        rating: How much of the community the theory speaks of, 0 to 10.
        reason: Why this rating, in a sentence.
        findings: At least one that advises; in a template's words these stand first, then
            published rules with a label, then those without, of each kind the strongest first.
        values: The values of the community.
        by: Who worded it: `template`, or the model's name.
    """

    id: str
    community: str
    theory: str
    title: str
    summary: str
    rating: float
    reason: str
    findings: tuple[Finding, ...]
    values: tuple[str, ...]
    by: str = "template"

    @property
    def principle_ids(self) -> tuple[str, ...]:
        """Ids of all principles that it comes from."""
        return tuple(sorted({name for item in self.findings for name in item.principle_ids}))

    @property
    def text(self) -> str:
        """The report as a prompt holds it, cut to `MAX_CHARS` characters."""
        rules = "\n".join(f"- {item.rule} ({item.why})" for item in self.findings)
        values = ", ".join(self.values)
        return f"{self.title}\nValues: {values}\n{self.summary}\n{rules}"[:MAX_CHARS]


def template_reports(
    graph: nx.DiGraph, found: Sequence[Community], principles: Sequence[Principle]
) -> list[Report]:
    """Return the reports of communities in a template's words, ordered by id.

    A community in which no curated principle of a theory applies has no report of that theory. One
    that holds finer ones speaks for those of its members that are in none of them: they say which
    principles apply, and its rules name their values first.
    """
    finest_of = {
        node: community.id
        for community in sorted(found, key=lambda item: item.level)
        for node in community.nodes
    }
    mine: dict[str, set[str]] = defaultdict(set)
    for node, name in finest_of.items():
        mine[name].add(node)
    by_id = {principle.id: principle for principle in principles}
    of_label: dict[tuple[str, str], list[str]] = defaultdict(list)
    for principle in sorted(principles, key=lambda item: item.id):
        if principle.label:
            of_label[principle.theory, principle.label].append(principle.id)
    return [
        report
        for community in sorted(found, key=lambda item: item.id)
        for theory in STEERING
        if (report := _report(graph, community, mine[community.id], theory, by_id, of_label))
    ]


def _report(
    graph: nx.DiGraph,
    community: Community,
    mine: Set[str],
    theory: str,
    by_id: Mapping[str, Principle],
    of_label: Mapping[tuple[str, str], Sequence[str]],
) -> Report | None:
    nodes = sorted(community.nodes, key=lambda name: (name not in mine, name))
    values = [name.removeprefix("value:") for name in nodes if name[:6] == "value:"]
    labels = {value: _labels(graph, f"value:{value}", theory) for value in values}
    own = {name.removeprefix("principle:") for name in mine if name[:10] == "principle:"}
    counts = Counter(x for value in values if f"value:{value}" in mine for x in labels[value])
    counts.update(p.label for p in map(by_id.__getitem__, own) if _weak(p) and p.theory == theory)
    strength: Counter[str] = Counter()
    for label, count in counts.items():
        strength.update(dict.fromkeys(of_label.get((theory, label), ()), count))
    strength.update({name: len(values) + 1 for name in own if by_id[name].theory == theory})
    strength.update({name: 1 for name in own if not by_id[name].theory})
    order = sorted(strength, key=lambda n: (-strength[n], -by_id[n].confidence, n))
    chosen = _chosen([by_id[name] for name in order])
    if not chosen:
        return None
    findings = tuple(_finding(principle, values, labels) for principle in chosen)
    label = chosen[0].label
    agreeing = sum(label in found for found in labels.values())
    return Report(
        id=f"{community.id}/{theory}",
        community=community.id,
        theory=theory,
        title=f"{label.capitalize()}: {listed(_first(label, values, labels), 'and')}".rstrip(": "),
        summary=_summary(chosen[0], values, labels),
        rating=round(10 * agreeing / len(values), 1) if values else 10.0,
        reason=f"{agreeing} of {len(values)} values count as {label}.",
        findings=findings,
        values=tuple(sorted(values)),
    )


def _weak(principle: Principle) -> bool:
    """Return whether a principle is a published rule that has got a label."""
    return bool(principle.label) and not principle.curated


def _chosen(order: Sequence[Principle]) -> list[Principle]:
    """Return the findings' principles: the strongest that advise, then the strongest others.

    Args:
        order: The strongest first; without a curated one among them nothing is chosen.
    """
    advice = [principle for principle in order if principle.curated][:MAX_ADVICE]
    others = [principle for principle in order if not principle.curated][:MAX_PUBLISHED]
    return advice and [*advice, *sorted(others, key=lambda item: not item.label)]


def _labels(graph: nx.DiGraph, node: str, theory: str) -> set[str]:
    """Return a value's labels of a theory."""
    kind = f"{KIND_OF[theory]}:"
    return {end.removeprefix(kind) for end in graph.successors(node) if end.startswith(kind)}


def _first(label: str, values: Sequence[str], labels: Mapping[str, set[str]]) -> list[str]:
    """Return a few values, those of a label first, else in their order."""
    return sorted(values, key=lambda value: label not in labels[value])[:MAX_VALUES]


def _finding(
    principle: Principle, values: Sequence[str], labels: Mapping[str, set[str]]
) -> Finding:
    rule = principle.rule
    if values:
        rule = f"{_occasion(principle, values, labels)} and {rule.removeprefix('When ')}"
    why = principle.statement if principle.curated else "a published rule"
    return Finding(rule, why, (principle.id,), principle.curated)


def _summary(principle: Principle, values: Sequence[str], labels: Mapping[str, set[str]]) -> str:
    if not values:
        return _finding(principle, values, labels).rule
    return f"{_occasion(principle, values, labels)}, {principle.do}."


def _occasion(principle: Principle, values: Sequence[str], labels: Mapping[str, set[str]]) -> str:
    some = _first(principle.label, values, labels)
    return f"When {listed(some, 'or')} {'comes' if len(some) == 1 else 'come'} into play"


def listed(names: Sequence[str], word: str) -> str:
    """Return `a`, `a or b`, `a, b or c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {word} {names[-1]}"


def as_row(report: Report) -> dict[str, Any]:
    """Return a report as plain values; findings are a JSON list."""
    row = {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
    findings = [dataclasses.asdict(item) for item in report.findings]
    return row | {
        "findings": json.dumps(findings, ensure_ascii=False),
        "values": list(report.values),
        "principle_ids": list(report.principle_ids),
    }


def from_row(row: Mapping[str, Any]) -> Report:
    """Return a report from its plain values."""
    found = [
        Finding(**item | {"principle_ids": tuple(item["principle_ids"])})
        for item in json.loads(row["findings"])
    ]
    plain = {name: value for name, value in row.items() if name != "principle_ids"}
    return Report(**plain | {"findings": tuple(found)})
