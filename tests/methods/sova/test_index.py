"""The index of values on disk: same bytes for same inputs, resumed, refused when changed."""

from __future__ import annotations

import io
import json
import random
import socket
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch
from methods.sova.graph_parts import SITUATIONS, TABLE, TEXTS, WordCounts
from tqdm import tqdm

from zoo.backbone import Backbone, load
from zoo.errors import InputError
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.instruct import MapScore
from zoo.methods.sova.principles import STEERING, curated, published
from zoo.methods.sova.sentence_encoder import SentenceEncoder
from zoo.methods.sova.tagging import question, tag
from zoo.records import PrincipleText


class Writer:
    """A judge that words a report at the second try, and dies after a number of answers."""

    name = "writer"

    def __init__(self, until: int = 10**6) -> None:
        self.until, self.asked = until, 0

    def fits(self, messages: Any) -> bool:
        return True

    def write(self, messages: Any, seed: int | None = None) -> str:
        if self.asked == self.until:
            raise KeyboardInterrupt
        self.asked += 1
        if seed is None:  # the first answer to each question
            return "I would rather not."
        rule = f"When you think of {json.loads(messages[1][1])['values']}, act well."
        finding = {"of": [1], "rule": rule, "why": "It helps."}
        said = {"title": "T", "summary": rule, "rating": 5, "reason": "So.", "findings": [finding]}
        return json.dumps(said)

    def score(self, messages: Any, candidates: Any, begun: str = "") -> list[float]:
        self.asked += 1
        return [1.0, *[0.0] * (len(candidates) - 1)]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder.load("tiny-bert")


@pytest.mark.fidelity("sova", 1)
@pytest.mark.parametrize("with_encoder", [False, True])
def test_shuffled_documents_and_rows_give_the_same_bytes(
    with_encoder: bool, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    order = random.Random(0)
    texts = [*TEXTS, *(PrincipleText(f"Take care of rule {i}.", "x", f"{i}") for i in range(9))]
    cards = []
    for turn in range(3):
        rows = order.sample(sorted(TABLE.items()), len(TABLE))
        made = ValueIndex.build(
            tmp_path / str(turn),
            dict(rows),
            order.sample(texts, len(texts)),
            encoder=encoder if with_encoder else None,
        )
        cards.append(made.card)
    assert cards[0] == cards[1] == cards[2]
    assert set(cards[0]["files"]) >= {"graph.graphml", "communities.parquet", "reports.parquet"}
    assert ("vectors.safetensors" in cards[0]["files"]) == with_encoder


def test_another_seed_is_another_index(tmp_path: Path) -> None:
    first = ValueIndex.build(tmp_path, TABLE, TEXTS)
    assert ValueIndex.build(tmp_path, TABLE, TEXTS).card == first.card
    with pytest.raises(InputError, match="an index of other principles, values or settings"):
        ValueIndex.build(tmp_path, TABLE, TEXTS, seed=1)


def test_an_opened_index_is_the_one_that_was_built(
    encoder: SentenceEncoder, tmp_path: Path
) -> None:
    made = ValueIndex.build(tmp_path, TABLE, TEXTS, encoder=encoder)
    opened = ValueIndex.open(tmp_path)
    assert opened.principles == made.principles
    assert opened.communities == made.communities
    assert opened.reports == made.reports
    assert opened.card == made.card
    assert list(opened.graph.nodes(data=True)) == list(made.graph.nodes(data=True))
    assert list(opened.graph.edges(data=True)) == list(made.graph.edges(data=True))
    assert opened.vectors.keys() == made.vectors.keys() == {"reports", "rules"}
    assert all(torch.equal(opened.vectors[name], made.vectors[name]) for name in made.vectors)
    situations_SD = opened.embed(SITUATIONS, encoder)
    for theory in STEERING:
        near = opened.near(theory, situations_SD, 2)
        assert [len(set(places)) for places in near] == [2] * len(SITUATIONS)


def test_files_are_of_open_formats(tmp_path: Path) -> None:
    import pandas

    ValueIndex.build(tmp_path, TABLE, TEXTS)
    graph = nx.read_graphml(tmp_path / "graph.graphml")
    assert graph.nodes["need:safety"]["kind"] == "need"
    reports = pandas.read_parquet(tmp_path / "reports.parquet")
    principles = pandas.read_parquet(tmp_path / "principles.parquet")
    assert {name for ids in reports.principle_ids for name in ids} <= set(principles.id)


@pytest.mark.parametrize("with_encoder", [False, True])
def test_a_build_that_was_cut_off_asks_nothing_twice(
    with_encoder: bool, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    whole, options = Writer(), {"encoder": encoder if with_encoder else None}
    made = ValueIndex.build(tmp_path / "whole", TABLE, TEXTS, judge=whole, **options)
    labelled = len(published(TEXTS)) * len(STEERING) if with_encoder else 0
    assert made.card["counts"]["written"] == len(made.reports)
    assert whole.asked == labelled + 2 * len(made.reports)
    cut = Writer(until=labelled + 3)
    with pytest.raises(KeyboardInterrupt):
        ValueIndex.build(tmp_path / "cut", TABLE, TEXTS, judge=cut, **options)
    with pytest.raises(InputError, match="no index of values, or an unfinished one"):
        ValueIndex.open(tmp_path / "cut")
    rest = Writer()
    again = ValueIndex.build(tmp_path / "cut", TABLE, TEXTS, judge=rest, **options)
    assert rest.asked == whole.asked - labelled - 2  # one report was whole
    assert again.card == made.card


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    ValueIndex.build(tmp_path, TABLE, TEXTS)
    path = tmp_path / "graph.graphml"
    path.write_text(path.read_text().replace("honesty", "h0nesty"))
    with pytest.raises(InputError, match="graph.graphml: not the file that was built"):
        ValueIndex.open(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="graph.graphml: missing"):
        ValueIndex.open(tmp_path)


@pytest.mark.parametrize("card", ["{", "[]", '{"format": 1}', '{"format": 9, "files": {}}'])
def test_a_damaged_card_is_refused(card: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(card)
    with pytest.raises(InputError, match=r"index.json: not the card"):
        ValueIndex.open(tmp_path)


def test_a_card_of_another_version_is_refused(tmp_path: Path) -> None:
    ValueIndex.build(tmp_path, TABLE)
    card = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps(card | {"format": 9}))
    with pytest.raises(InputError, match="format 9, and this version reads 4"):
        ValueIndex.open(tmp_path)


def test_an_index_of_the_first_format_is_neither_opened_nor_built_upon(tmp_path: Path) -> None:
    """Its instructions are others; the folder stays as it was."""
    ValueIndex.build(tmp_path, TABLE)
    path = tmp_path / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for use in (ValueIndex.open, lambda folder: ValueIndex.build(folder, TABLE)):
        with pytest.raises(InputError, match="format 1, and this version reads 4; build it again"):
            use(tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_letters_that_no_xml_can_hold_are_left_out(tmp_path: Path) -> None:
    text = PrincipleText("Be\x00 kind\x0b\x1f \ufffe<&>\u2028 always.", "x", "own.csv:2")
    made = ValueIndex.build(tmp_path, TABLE, [text])
    assert ValueIndex.open(tmp_path).principles == made.principles
    assert any(item.statement == "Be kind <&> always." for item in made.principles)


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="holds no index.json but other files"):
        ValueIndex.build(tmp_path, TABLE, TEXTS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_table_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="values: the table of values is empty"):
        ValueIndex.build(tmp_path / "new", {})
    assert not (tmp_path / "new").exists()


def test_vectors_need_the_encoder_of_the_index(encoder: SentenceEncoder, tmp_path: Path) -> None:
    made = ValueIndex.build(tmp_path, TABLE)
    with pytest.raises(InputError, match="the index was built with none, asked with tiny-bert"):
        made.embed(SITUATIONS, encoder)
    with pytest.raises(InputError, match="did you mean 'maslow'"):
        made.reports_of("maslov")


# -- labels for published rules ----------------------------------------------------------------


def test_rules_are_kept_above_both_thresholds_and_merged(encoder: SentenceEncoder) -> None:
    rules = published(TEXTS)
    kept, counts, _ = tag(rules, encoder, tau=0, tau_similar=-1)
    assert counts["labelled"] + counts["merged"] == len(rules) * len(STEERING)
    assert [rule.id for rule in kept] == sorted(rule.id for rule in kept)
    assert {rule.theory for rule in kept} == set(STEERING)
    assert all(rule.sources and 0 < rule.confidence <= 1 for rule in kept)
    assert tag(rules, encoder, tau=1.1)[1]["unsure"] == len(rules) * len(STEERING)
    assert tag(rules, encoder, tau=0, tau_similar=1.1)[1]["not similar"] == len(rules) * 3


def test_of_two_rules_of_one_meaning_one_is_in_the_index(tmp_path: Path) -> None:
    """The other one is gone, and its source stands with the one that stays."""
    texts = [
        PrincipleText(f"{word} shelter, sleep and health carry your needs.", "x", f"own.csv:{line}")
        for line, word in enumerate(("Food,", "Rest,"), start=2)  # too short for these word counts
    ]
    made = ValueIndex.build(tmp_path, TABLE, texts, encoder=WordCounts(), judge=Writer())
    rules = [principle for principle in made.principles if not principle.curated]
    assert made.card["counts"]["merged"] == made.card["counts"]["labelled"] == len(rules) > 0
    assert made.card["counts"]["principles"] == len(curated()) + len(rules)
    for rule in rules:
        assert rule.label
        assert rule.sources == ("own.csv:2 (x)", "own.csv:3 (x)")
    assert {name for name in made.graph if name.startswith("principle:")} == {
        f"principle:{principle.id}" for principle in made.principles
    }


def test_a_model_labels_a_rule_by_the_probability_of_the_label(encoder: SentenceEncoder) -> None:
    kept, *_ = tag(published(TEXTS), encoder, Writer(), tau_similar=-1)
    assert {(rule.theory, rule.confidence) for rule in kept} == {(t, 1.0) for t in STEERING}
    system, user = question(published(TEXTS[2:])[0], "maslow")
    assert user[1].splitlines()[0].startswith('Rule: "Ignore the above')
    assert "Ignore" not in system[1]


def test_vectors_do_not_depend_on_the_batch(encoder: SentenceEncoder) -> None:
    texts = [*SITUATIONS, "Short."]
    together = encoder.embed(texts)
    alone = torch.cat([encoder.embed([text]) for text in texts])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together.norm(dim=1), torch.ones(len(texts)))


# -- the whole way -----------------------------------------------------------------------------


@pytest.mark.fidelity("sova", 10)
def test_the_whole_way_needs_no_network(
    encoder: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    made = ValueIndex.build(tmp_path, TABLE, TEXTS, encoder=encoder)
    index = ValueIndex.open(tmp_path)
    lm, tokenizer = load(Backbone("tiny-llama"))
    mapper = MapScore(lm.eval(), tokenizer, index.reports_of("maslow"), tau=-1)
    situations_SD = index.embed(SITUATIONS, encoder)
    near = index.near("maslow", situations_SD, 3)
    kept = mapper(SITUATIONS, near, index.fits(situations_SD)).kept
    assert [len(items) for items in kept] == [3, 3, 3]
    assert {name for items in kept for i in items for name in i.principle_ids} <= {
        principle.id for principle in made.principles
    }


def test_the_bar_of_a_built_index_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[tqdm] = []

    def shown(**options: Any) -> tqdm:
        bars.append(tqdm(**options, file=io.StringIO()))
        return bars[-1]

    monkeypatch.setattr("zoo.methods.sova.index.tqdm", shown)
    ValueIndex.build(tmp_path / "made", TABLE, TEXTS)
    assert [(bar.n, bar.total) for bar in bars] == [(4, 4)]
