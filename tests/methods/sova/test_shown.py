"""What SoVA asks, shows, draws, counts and refuses, with its numbers by hand."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.sova.graph_parts import SITUATIONS, TABLE, TEXTS, principles, reports
from tqdm import tqdm

import zoo
from datamodules import DailyDilemmas
from zoo.errors import InputError
from zoo.methods.sova import prompts, replies, retrieval, tagging
from zoo.methods.sova.asking import policy_choice, told
from zoo.methods.sova.communities import Community, finest
from zoo.methods.sova.community_map import COLOURS, community_map
from zoo.methods.sova.evaluation import DilemmaChoice
from zoo.methods.sova.expected import RULES, conflicts, expected_action
from zoo.methods.sova.graph import build_graph
from zoo.methods.sova.index import ValueIndex, with_labels
from zoo.methods.sova.index_files import check_empty
from zoo.methods.sova.instruct import Instruction, MapScore
from zoo.methods.sova.map_prompts import GRADES, LENS, after, before, quote
from zoo.methods.sova.metrics import ExpectedRatio, paired_difference
from zoo.methods.sova.page import GAP, GOLDEN, STEP, groups_of, page, places
from zoo.methods.sova.principles import Principle, curated, published
from zoo.methods.sova.report_writer import material, read_report
from zoo.methods.sova.reports import (
    MAX_FINDINGS,
    Report,
    as_row,
    from_row,
    listed,
    template_reports,
)
from zoo.methods.sova.retriever import candidates, positives, query
from zoo.methods.sova.sentence_encoder import SentenceEncoder
from zoo.prompts.chat_format import CHATML
from zoo.records import NOT_TO_DO, SUPPORTER, TO_DO, Dialogue, Dilemma, Turn

GIVEN = (
    Instruction("Rest.", 90.4, "r1", ("p1",)),
    Instruction("Ask.", 70.6, "r2", ("p2",)),
    Instruction("Wait.", 65.0, "r3", ("p3",)),
    Instruction("Run.", 61.0, "r4", ("p4",)),
)


@pytest.fixture(scope="module")
def dilemmas() -> list[Dilemma]:
    return DailyDilemmas().records("test")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ValueIndex:
    folder = tmp_path_factory.mktemp("index") / "made"
    return ValueIndex.build(folder, TABLE, TEXTS, max_size=4)


# -- prompts ---------------------------------------------------------------------------------------


def test_instructions_are_numbered_with_their_importance() -> None:
    """All of them in the prompt, three for a reader; none is no text at all."""
    assert prompts.steering(GIVEN[:2]) == (
        "Follow these instructions strictly, the most important one first:\n"
        "1. (importance 90 of 100) Rest.\n2. (importance 71 of 100) Ask.\n\n"
    )
    assert prompts.listed(GIVEN) == "(90) Rest.\n(71) Ask.\n(65) Wait.\n... and 1 more"
    assert prompts.listed(GIVEN[:3]) == "(90) Rest.\n(71) Ask.\n(65) Wait."
    assert prompts.steering([]) == prompts.pasted([]) == prompts.listed([]) == ""
    assert prompts.pasted(["A.", "B."]) == "These principles may help:\n- A.\n- B.\n\n"


def test_an_option_is_asked_for_once_whether_or_not_there_was_reasoning() -> None:
    """Before the dilemma without reasoning, after it with; the actions follow in their order."""
    plain, thought = (
        prompts.question("Do you?", reasoned=reasoned) + prompts.choices(order, reasoned=reasoned)
        for reasoned, order in ((False, prompts.ORDERS[0]), (True, prompts.ORDERS[1]))
    )
    for text in (plain, thought):
        assert text.count(prompts.REPLY) == 1
        assert "Dilemma: Do you?\n" in text
    assert plain.index(prompts.REPLY) < plain.index("Dilemma")
    assert thought.endswith(
        "What follows from that?\nAction 1: do not do it.\n"
        f"Action 2: do what the question asks about.\n{prompts.REPLY}"
    )
    for theory in prompts.THEORIES:
        lines = prompts.role(theory).split("\n")
        assert len([line for line in lines if line.startswith("- ")]) == len(
            prompts.THEORIES[theory][1]
        )
        assert lines[1] == f"{prompts.THEORIES[theory][0]}:"


def test_what_a_model_reads_of_a_report() -> None:
    """The lens of its theory, quoted lines, the question last; the prompt goes on in one text."""
    assert quote("a\nb") == "> a\n> b"
    (report, *_) = reports("emotion")
    text = str(before(CHATML, report) + after(CHATML, "Do\nyou?", "How well?"))
    assert f"You judge advice by {LENS['emotion']}" in text
    assert f"Report:\n{quote(report.text)}\n\nSituation:\n> Do\n> you?\n\nHow well?" in text
    assert text.endswith("<|im_start|>assistant\n")
    assert len(GRADES) == 5


# -- choices ---------------------------------------------------------------------------------------


def test_policies_choose_without_reading(dilemmas: list[Dilemma]) -> None:
    """Sure of it, and in both orders the same action; the oracle does where nothing is expected."""
    record = next(d for d in dilemmas if expected_action(d, "maslow_growth") == NOT_TO_DO)
    for policy, chosen in (
        ("always_do", TO_DO),
        ("always_not", NOT_TO_DO),
        ("oracle", NOT_TO_DO),
    ):
        choice = policy_choice(policy, record, "maslow_growth")
        readings = ("", "swapped_", "text_", "text_swapped_")
        assert {choice.choice(reading) for reading in readings} == {chosen}
        assert choice.odds == ((1.0, 1.0) if chosen == TO_DO else (-1.0, -1.0))
    undecided = dataclasses.replace(record, not_to_do=record.to_do)
    assert policy_choice("oracle", undecided, "maslow_growth").choice() == TO_DO
    assert told(undecided, "maslow_growth") == []
    assert told(record, "maslow_growth") == [
        Instruction("You do not do it.", 100.0, "expected", ())
    ]


def test_a_choice_is_shown_in_both_orders() -> None:
    """Log-odds of nought are none of `to do`; text is shown and kept only if it was read."""
    choice = DilemmaChoice((0.25, -1.5), ("Action 1", " no\n"), GIVEN[:1], "Think.")
    assert choice.notes() == {
        "instructions": "(90) Rest.",
        "reasoning": "Think.",
        "choice": "to_do (log-odds of to_do +0.25)",
        "swapped": "not_to_do (-1.50)",
        "text": "Action 1 | no",
    }
    plain = choice.plain()
    assert {name: plain[name] for name in plain if name.endswith("choice")} == {
        "choice": TO_DO,
        "swapped_choice": NOT_TO_DO,
        "text_choice": TO_DO,
        "text_swapped_choice": None,
    }
    assert plain["instructions"][0]["principle_ids"] == ("p1",)
    silent = DilemmaChoice((0.0, 0.1), ("", ""))
    assert silent.notes().keys() == {"instructions", "choice", "swapped"}
    assert silent.choice() == NOT_TO_DO
    assert {"choice", "swapped_choice"} == {n for n in silent.plain() if n.endswith("choice")}
    half = DilemmaChoice((0.0, 0.1), ("", "Action 1"))
    assert half.choice("text_swapped_") == NOT_TO_DO
    assert "text" in half.notes()


def test_text_that_was_not_read_counts_nowhere(
    make: Any, dilemmas: list[Dilemma], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instructions are counted by dilemma; the ratio by label is a figure a rule."""
    module = make("SoVA", "tiny-llama", kind="direct")
    rule = "maslow_growth"
    decisive = [d for d in dilemmas if expected_action(d, rule)][:4]
    sign = {TO_DO: 1.0, NOT_TO_DO: -1.0}
    right = [sign[expected_action(d, rule)] for d in decisive]
    answers = [
        DilemmaChoice((right[0], -right[0]), ("", ""), GIVEN[:2]),
        DilemmaChoice((right[1], right[1]), ("Action 1", "no")),
        *(DilemmaChoice((-z, z), ("", "")) for z in right[2:]),
    ]
    scores = module.score_answers(list(zip(decisive, answers, strict=True)), "val")
    assert scores[f"expected_{rule}"] == 2 / 4
    assert scores[f"swapped_expected_{rule}"] == 3 / 4
    assert scores[f"text_swapped_expected_{rule}_invalid"] == 1
    assert scores[f"text_expected_{rule}"] in (0.0, 1.0)
    assert scores["mean_instructions"] == 2 / 4
    assert scores["without_instructions"] == 3 / 4
    assert not any(name.startswith("rouge") for name in scores)
    monkeypatch.setattr("zoo.methods.sova.evaluation.heat_map", lambda *drawn: drawn)
    values, labels, columns, *_ = module.figures()[f"expected_{rule}_by_label"]
    wanted = {label: scores[f"expected_{rule}/{label}"] for label in labels}
    assert values[:, 0].tolist() == pytest.approx([*wanted.values()])
    assert len(wanted) > 1
    assert columns == ["ratio"]
    row = module.sample(decisive[0], answers[0])
    assert row["dilemma"] == decisive[0].situation
    assert row[f"expected by {rule}"] == expected_action(decisive[0], rule)
    undecided = dataclasses.replace(decisive[0], not_to_do=decisive[0].to_do)
    assert module.sample(undecided, answers[0])[f"expected by {rule}"] == "-"
    assert module.prediction(decisive[0], answers[0])["id"] == decisive[0].id


def test_rules_that_agree_are_counted(dilemmas: list[Dilemma]) -> None:
    decided, alike = conflicts(dilemmas, "maslow_growth", "maslow_growth")
    assert decided == alike == sum(bool(expected_action(d, "maslow_growth")) for d in dilemmas)
    both, same = conflicts(dilemmas, "maslow_growth", "maslow_prepotency")
    assert 0 <= same <= both <= decided


def test_a_difference_needs_two_dilemmas(dilemmas: list[Dilemma]) -> None:
    (one, two, *_) = [d for d in dilemmas if expected_action(d, "maslow_growth")]
    for given, valid in (([one], False), ([one, two], True)):
        choices = [expected_action(d, "maslow_growth") for d in given]
        others = [NOT_TO_DO if c == TO_DO else TO_DO for c in choices]
        if not valid:
            with pytest.raises(ValueError, match="needs two decisive dilemmas"):
                paired_difference(given, choices, others, "maslow_growth")
            continue
        found = paired_difference(given, choices, others, "maslow_growth", draws=20)
        assert (found["difference"], found["decisive"]) == (1.0, 2.0)


def test_a_ratio_without_dilemmas_is_none() -> None:
    assert ExpectedRatio("maslow_growth").compute() == {}


# -- conversations ---------------------------------------------------------------------------------


def test_a_conversation_is_what_was_said_before_the_reply() -> None:
    """A line a turn; a talk in which no supporter answers is refused."""
    record = Dialogue(
        (Turn("seeker", "I lost."), Turn(SUPPORTER, "Oh."), Turn("seeker", "Yes.")), id="t"
    )
    assert replies.situation(record) == "Seeker: I lost."
    assert replies.gold(record).text == "Oh."
    with pytest.raises(InputError, match="t: no supporter turn answers a seeker"):
        replies.gold(dataclasses.replace(record, turns=record.turns[:1]))
    answer = replies.ValueReply("So.", GIVEN[:1])
    assert answer.notes() == {"instructions": "(90) Rest.", "reply": "So."}
    assert answer.plain()["instructions"][0]["report_id"] == "r1"


# -- the graph and its communities -----------------------------------------------------------------


def test_theories_are_edges_of_the_graph() -> None:
    """Needs in their order, opposites on the wheel, emotions that are made of two."""
    graph = build_graph(TABLE, principles())
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
        for p in principles()
        if re.search(r"\bhonesty\b", " ".join((p.statement, p.when, p.do, p.avoid)), re.IGNORECASE)
    ]
    assert graph.nodes["value:honesty"]["weight"] == 1 + len(naming) > 1
    (first, *_) = curated()
    for kind, part in (
        ("arises_in", f"situation:{first.when}"),
        ("avoids", f"behaviour:{first.avoid}"),
    ):
        assert graph.edges[f"principle:{first.id}", part]["kind"] == kind
    twice = [*principles(), principles()[0]]
    with pytest.raises(InputError, match="principles: two have one id"):
        build_graph(TABLE, twice)


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
        Community("a", 0, "", tuple("xyz"[:n]), leaf)
        for n, leaf in ((3, True), (2, True), (3, False))
    ]
    assert finest(made) == made[:1]
    assert finest(made, 2) == made[:2]


def test_a_node_that_hangs_on_a_principle_has_its_community(index: ValueIndex) -> None:
    groups = groups_of(index)
    leaves = {node: item.id for item in index.communities if item.leaf for node in item.nodes}
    assert {node: groups[node] for node in leaves} == leaves
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
    leaves = sum(item.leaf for item in index.communities)
    assert axes.get_title() == f"{len(nodes)} nodes in {leaves} communities"


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


# -- reports ---------------------------------------------------------------------------------------


def small() -> tuple[Any, Community, list[Principle]]:
    """Return a community of three values and a stranger's rule, with its graph."""
    found = principles()
    graph = build_graph(TABLE, found)
    own = next(p.id for p in found if p.statement.startswith("Put"))
    nodes = ("value:friendship", "value:honesty", "value:respect", f"principle:{own}")
    return graph, Community("c007", 1, "c001", tuple(sorted(nodes)), True), found


def test_a_report_by_hand() -> None:
    """The label of most values, how many have it, values with it first, and at most four rules."""
    graph, community, found = small()
    made = {item.theory: item for item in template_reports(graph, [community], found)}
    report = made["maslow"]
    assert report.id == "c007/maslow"
    assert report.title == "Self-esteem: honesty, respect and friendship"
    assert (report.rating, report.reason) == (6.7, "2 of 3 values count as self-esteem.")
    assert report.values == ("friendship", "honesty", "respect")
    assert len(report.findings) == MAX_FINDINGS
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
    nodes = tuple(sorted((*nodes, "value:caution", "value:security", "value:health")))
    (full, *_) = [
        item
        for item in template_reports(graph, [Community("c1", 0, "", nodes, True)], found)
        if item.theory == "maslow"
    ]
    assert full.findings[0].principle_ids == (rule.id,)


def test_names_are_listed_in_words() -> None:
    given = [listed(list("abc")[:n], "or") for n in range(4)]
    assert given == ["", "a", "a or b", "a, b or c"]


def test_a_models_report_has_no_more_rules_than_the_templates(tmp_path: Path) -> None:
    """Those that are no objects are passed over; sources and values stay."""
    (report, *_) = reports()
    rule = {"rule": "When you rest, sleep.", "why": "It helps."}
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
    assert asked["rules"][0] == {"rule": report.findings[0].rule, "why": report.findings[0].why}


def short_reports(count: int) -> list[Report]:
    """Return reports of one rule each."""
    return [dataclasses.replace(r, findings=r.findings[:1]) for r in reports()[:count]]


# -- what is retrieved -----------------------------------------------------------------------------


def test_principles_are_pasted_while_they_fit() -> None:
    """The first one that does not fit ends the list, though a later one would."""
    texts, sizes = ["a", "b", "c"], [4, 5, 1]
    assert retrieval._fitting([0, 1, 2], texts, sizes, 9) == ["a", "b"]
    assert retrieval._fitting([0, 1, 2], texts, sizes, 8) == ["a"]
    assert retrieval._fitting([0, 1, 2], texts, sizes, 3) == []
    (rule,) = published(TEXTS[:1])
    assert retrieval.as_chunk(rule) == "Put honesty above loyalty."
    assert retrieval.as_chunk(curated()[0]) == curated()[0].rule
    assert retrieval.load_encoder(None) is None


class Letters:
    """A sentence encoder: how often a text has each of four letters."""

    name = "letters"

    def embed(self, texts: Any) -> torch.Tensor:
        rows = torch.tensor([[float(text.count(c)) for c in "abcd"] for text in texts])
        return torch.nn.functional.normalize(rows.reshape(-1, 4), dim=1)


def test_a_rule_is_linked_to_the_values_that_are_close() -> None:
    """At most three, the closest first, from a similarity of 0.4 on."""
    rules = [Principle("r", "a"), Principle("s", "b")]
    values = ["abbbb", "aabb", "aaab", "aaa", "d", "aaaab"]
    found = tagging.similar_values(rules, values, Letters())
    assert found["r"] == ["aaa", "aaaab", "aaab"]
    assert found["s"] == ["abbbb", "aabb"]
    assert tagging.similar_values([], values, Letters()) == {}


def test_rules_of_one_meaning_are_one_of_each_theory() -> None:
    """The smaller id stays and takes over the sources; another theory's rule is another rule."""
    kept = [
        Principle("maslow-s", "a", "maslow", "safety", sources=("2",)),
        Principle("maslow-r", "a", "maslow", "safety", sources=("1", "2")),
        Principle("emotion-s", "a", "emotion", "fear", sources=("2",)),
        Principle("maslow-t", "b", "maslow", "safety", sources=("3",)),
    ]
    near = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.2], [1.0, 0.5]]), dim=1)
    merged = tagging._merge(kept, dict(zip("rst", near, strict=True)))
    assert [(item.id, item.sources) for item in merged] == [
        ("emotion-s", ("2",)),
        ("maslow-r", ("1", "2")),
        ("maslow-t", ("3",)),
    ]


def test_a_label_is_that_of_the_closest_curated_principle() -> None:
    """(T1): a softmax over labels of similarity by temperature; both limits may be met exactly."""
    seeds = [p for p in curated() if p.theory == "maslow"]
    row = torch.tensor([0.1 if p.theory == "maslow" else 9.0 for p in curated()])
    first = [i for i, p in enumerate(curated()) if p.theory == "maslow"]
    row[first[0]] = 0.3
    found = tagging._closest(row, "maslow", curated())
    assert found.keys() == {p.label for p in seeds}
    assert found[seeds[0].label] == pytest.approx(0.3)
    assert sorted(found.values())[:-1] == pytest.approx([0.1] * (len(found) - 1))


def test_a_judges_labels_are_kept_from_a_limit_on() -> None:
    """Equal odds go to the later name; rules come back by id, whatever their order."""

    class Half:
        name = "half"

        def score(self, messages: Any, labels: Any, begun: str = "") -> list[float]:
            return [0.5, 0.5, *[0.0] * (len(labels) - 2)]

    rules = published(TEXTS)
    kept, counts = tagging.tag(rules[::-1], Letters(), Half(), tau=0.5, tau_similar=-1)
    assert [item.id for item in kept] == sorted(item.id for item in kept)
    assert {item.confidence for item in kept} == {0.5}
    assert counts["unsure"] == 0
    assert tagging.tag(rules, Letters(), Half(), tau=0.51)[1]["unsure"] == 3 * len(rules)


def test_labelled_copies_take_the_place_of_their_rule() -> None:
    many = principles()
    rule = next(p for p in many if p.statement.startswith("Put"))
    copies = [
        dataclasses.replace(rule, id=f"{t}-{rule.id}", theory=t) for t in ("maslow", "emotion")
    ]
    found = with_labels(many, copies)
    assert [p.id for p in found] == sorted(p.id for p in found)
    assert rule.id not in {p.id for p in found}
    assert len(found) == len(many) + 1
    assert "When you decide, weigh in your choice the principle" in rule.rule
    labelled = dataclasses.replace(rule, label="Self-esteem")
    assert "When self-esteem is at stake, weigh in your choice" in labelled.rule


def test_an_index_counts_what_it_holds(index: ValueIndex) -> None:
    assert index.card["counts"] == {
        "principles": len(index.principles),
        "nodes": len(index.graph),
        "edges": index.graph.size(),
        "communities": len(index.communities),
        "reports": len(index.reports),
    }
    assert index.card["settings"] == {"max_size": 4, "seed": 0, "encoder": None, "judge": None}
    assert index.vectors is None


def test_files_of_a_build_that_was_cut_off_are_no_obstacle(tmp_path: Path) -> None:
    """Neither its own names nor its scratch files; a file in the folder's place is one."""
    for name in ("graph.graphml", "answers.jsonl", "reports.parquet", "x.part"):
        (tmp_path / name).write_text("")
    check_empty(tmp_path)
    check_empty(tmp_path / "new")
    with pytest.raises(InputError, match="x.part: holds no index.json"):
        check_empty(tmp_path / "x.part")


def test_the_closest_reports_are_those_of_the_theory(tmp_path: Path) -> None:
    """Places count among the theory's reports."""
    made = ValueIndex.build(tmp_path / "i", TABLE, TEXTS, encoder=Letters(), max_size=4)
    assert made.card["settings"]["encoder"] == "letters"
    for theory in ("maslow", "virtue"):
        own = made.reports_of(theory)
        texts = [report.text for report in own[:2]]
        near = made.near(theory, texts, Letters(), 1)
        vectors = Letters().embed([report.text for report in own])
        best = (Letters().embed(texts) @ vectors.T).argmax(1).tolist()
        assert near == [[place] for place in best]


def test_texts_are_cut_where_the_encoder_ends() -> None:
    encoder = SentenceEncoder.load("tiny-bert", max_length=6)
    long, short = encoder.embed(["a b c d e f g h", "a b c d e f x y"])
    assert torch.equal(long, short)
    none = encoder.embed([])
    assert none.shape == (0, encoder.model.config.hidden_size)
    assert encoder.name.startswith("tiny-bert-")
    assert SentenceEncoder.load("tiny-bert").max_length == 256


def test_positives_are_the_principles_of_the_expected_actions_labels(
    dilemmas: list[Dilemma],
) -> None:
    """Each has an equal share of one; a text shorter than they are teaches fewer."""
    rule = "maslow_growth"
    record = next(d for d in dilemmas if expected_action(d, rule))
    labels = set(record.action(expected_action(record, rule)).of(RULES[rule][0]))
    found = positives(record, rule)
    assert {candidates(rule)[i].label for i in found} == labels
    assert len(found) == sum(item.label in labels for item in candidates(rule))
    assert positives(dataclasses.replace(record, not_to_do=record.to_do), rule) == []
    example = query(list(range(90)), record, rule, 0)
    assert example.labels[: len(found)] == found
    assert example.weights[: len(found)] == pytest.approx([1 / len(found)] * len(found))
    assert example.head_weights() == {0: pytest.approx(1.0)}
    short = query([5], record, rule, 0)
    assert (short.labels[0], short.weights[0]) == (found[0], 1.0)


def test_prefixes_of_reports_are_kept_while_there_is_room(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room they are made again, and the scores are the same."""
    module = make("SoVA", "tiny-llama", kind="sova")
    mapper = MapScore(module.lm, module.tokenizer, short_reports(3), tau=-1)
    pairs = [(r, 0) for r in range(3)]
    first = mapper.scores(pairs, SITUATIONS)
    assert len(mapper.prefixes) == 3
    monkeypatch.setattr("zoo.methods.sova.instruct.KEPT_BYTES", 0)
    mapper.prefixes.clear()
    torch.testing.assert_close(mapper.scores(pairs, SITUATIONS), first)
    assert len(mapper.prefixes) == 1


def test_what_became_of_instructions_is_counted(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a bar says how many reports are scored, of how many, until all are."""
    bars: list[tqdm] = []

    def shown(**options: Any) -> tqdm:
        bars.append(tqdm(**options, file=io.StringIO()))
        return bars[-1]

    monkeypatch.setattr("zoo.methods.sova.instruct.tqdm", shown)
    module = make("SoVA", "tiny-llama", kind="sova")
    mapper = MapScore(module.lm, module.tokenizer, short_reports(3), tau=-1, top=1)
    found = mapper(SITUATIONS[:1])
    assert [len(items) for items in found.kept] == [1]
    assert found.counts == {"kept": 1, "not kept": 2}
    assert [(bar.n, bar.total, bar.disable) for bar in bars] == [(3, 3, True)]


@pytest.mark.parametrize("threshold", [0.0, 100.0])
def test_thresholds_at_the_end_of_their_range_fit(make: Any, threshold: float) -> None:
    make("SoVA", "tiny-llama", kind="direct", threshold=threshold).validate()


def test_a_retriever_needs_an_adapter(make: Any) -> None:
    with pytest.raises(
        InputError, match="retriever is an adapter, so it needs model.backbone.lora"
    ):
        make("SoVA", "tiny-llama", kind="retriever")
    made = zoo.SoVA({"name": "tiny-llama"}, kind="sft")
    assert made.untrained() == ""
    assert (
        zoo.SoVA({"name": "tiny-llama"}).untrained().startswith("model.kind: sova is not trained")
    )


def test_donors_are_others_of_the_split(make: Any, dilemmas: list[Dilemma]) -> None:
    """One to one, whatever order they come in; nobody is their own."""
    encoder = make("SoVA", "tiny-llama", kind="shuffled").encoder()
    encoder.study(dilemmas, "test")
    first = dict(encoder.donors)
    texts = {d.situation for d in dilemmas}
    assert set(first) == set(first.values()) == texts
    assert all(text != other for text, other in first.items())
    encoder.donors.clear()
    encoder.study(dilemmas[::-1], "test")
    assert encoder.donors == first
