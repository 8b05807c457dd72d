"""CoCT's wording by its settings, its tables and figures, and what a reply means that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dialogues import TALK

from zoo.decoding.shared_context import SharedContext
from zoo.errors import InputError
from zoo.methods.coct import tagged_replies
from zoo.methods.coct.concepts import (
    CSKILLS,
    INVENTORIES,
    KINDS,
    Concepts,
    chosen,
    split_tags,
    topic_labels,
)
from zoo.methods.coct.metrics import TagScores, as_csv, inner_transitions, of_kind
from zoo.methods.coct.read_tagged import first_turn, read_tagged, spoken
from zoo.methods.coct.tagged_replies import chain_of, transition_figures, write_tables
from zoo.records import Dialogue
from zoo.support.decisions import decisions
from zoo.support.encoder import SPEAKS
from zoo.support.labels import ACTS, Labels

ESC = Concepts(INVENTORIES["esconv"])
CHAIN = [("strategy", "Question"), ("emotion", "pain"), ("strategy", "Others"), ("other", "x")]
COLOURS = Labels("colour", {"red": "", "blue": ""}, {}, "")
WIDE = {"max_length": 8192, "reserve": 2048, "max_new_tokens": 4}


# -- wording -----------------------------------------------------------------------------------


def test_concepts_are_listed_with_their_definitions() -> None:
    """A line each where there are definitions, in a row where there are none."""
    text = Concepts(INVENTORIES["daily_dialog"], extra=("Humor", "Irony")).listing()
    acts = "\n".join(f"- {name}: {told}" for name, told in ACTS.definitions.items())
    assert f"Available strategies:\n{acts}\nAvailable topics: sports, travel" in text
    assert text.endswith(", animal.\nFurther concepts: Humor, Irony.")
    half = Labels("colour", {"red": "like blood", "blue": ""}, {}, "")
    assert Concepts({"topic": half}).listing() == "Available topics:\n- red: like blood\n- blue"
    assert "Further" not in ESC.listing()


def test_rules_name_the_kinds_that_are_used() -> None:
    lists = INVENTORIES["daily_dialog"]
    two = Concepts({kind: lists[kind] for kind in ("emotion", "topic")})
    assert "how the emotion or topic moves on" in two.chain_rule()
    assert "how the concept moves on" in Concepts({}).chain_rule()
    assert two.tag_rule().count(" tag where ") == 2
    assert " Put " not in Concepts({}).tag_rule()
    one = Concepts(lists, limit=1)
    assert one.tag_rule() == (
        "Begin your reply with one tag, such as <XX>, that names the concept it expresses, then "
        "write the reply."
    )
    assert one.instruction().startswith("Available emotions")
    assert Concepts({}, free=True).instruction().startswith("Begin every sentence")


def test_lists_are_chosen_by_kind() -> None:
    """In one order; topics of one's own stand for those of the data, and where it has none."""
    every = INVENTORIES["daily_dialog"]
    assert chosen("daily_dialog", KINDS, None) == every
    assert list(chosen("daily_dialog", ("topic", "emotion"), None)) == ["emotion", "topic"]
    assert list(chosen("esconv", KINDS, None)) == ["emotion", "strategy"]
    mine = chosen("esconv", KINDS, ["rain", "sun"])
    assert list(mine) == list(KINDS)
    assert mine["topic"].names == ("rain", "sun")
    assert INVENTORIES["esconv"].keys() == {"emotion", "strategy"}, "not changed"
    assert topic_labels(["sports"]).known("sport") == "sports"
    assert CSKILLS.known("animals") == "animal"


# -- tags --------------------------------------------------------------------------------------


def test_a_tag_has_no_more_than_sixty_characters() -> None:
    for length, tags in ((60, ["x" * 60]), (61, [None])):
        words = f"<{'x' * length}> Oh."
        assert [part.tag for part in split_tags(words, ESC)] == tags
    equal = Concepts(INVENTORIES["esconv"], "#")
    for length, tags in ((40, ["x" * 40]), (41, [None])):
        words = f"#{'x' * length}# Oh."
        assert [part.tag for part in split_tags(words, equal)] == tags


def test_a_listed_name_may_be_numbered_and_titled() -> None:
    for inside in ("Question", " question ", "2. Question", "Strategy: Question", "2) Question"):
        for concepts in (ESC, Concepts(INVENTORIES["esconv"], "^")):
            words = f"Well. {concepts.tag(inside)} How?"
            assert [part.text for part in split_tags(words, concepts)] == ["Well. ", " How?"]
            assert concepts.kind_of(inside) == ("strategy", "Question")


def test_words_inside_a_tag_are_said() -> None:
    assert ESC.named("Question: How?") == ("Question", " How?")
    assert ESC.named("Oh dear: how?") == ("Oh dear: how?", "")
    assert ESC.named("Question") == ("Question", "")
    assert first_turn("<Question: How?> Well?", ESC)[0].split() == ["\0", "How?", "Well?"]


def test_what_a_reply_means() -> None:
    """The chain, the reply as it was tagged, and its first strategy; else the one to fall back."""
    one = read_tagged("<fear> Oh. <Question> How? <Hug> So.", ESC, "Others")
    assert one.steps == (
        ("chain", "<fear> <Question> <Hug>"),
        ("tagged", "<fear> Oh. <Question> How? <Hug> So."),
    )
    assert (one.strategy, one.failed, one.reply) == ("Question", (), "Oh. How? So.")
    assert chain_of(one) == [("emotion", "fear"), ("strategy", "Question"), ("other", "Hug")]
    odd = read_tagged("<Step: one: two> Oh.", ESC, "Others")  # small models write so
    assert chain_of(odd) == [("other", "Step: one: two")]
    bare = read_tagged("Oh.", ESC, "Others")
    assert (dict(bare.steps)["chain"], bare.strategy, bare.failed) == (
        *("(no tag)", "Others"),
        ("strategy",),
    )
    unplanned = read_tagged("<Question> How?", ESC)  # tags name no strategy of the data
    assert (unplanned.strategy, unplanned.failed) == ("", ())
    silent = read_tagged("<fear>", ESC, "Others")
    assert (silent.reply, silent.failed) == ("", ("strategy", "reply"))


def test_broken_tags_are_no_words() -> None:
    assert spoken("<Question How are you?", ESC) == "How are you?"
    assert spoken("<Question: How are you?", ESC) == "How are you?"
    assert spoken("</Question How?", ESC) == "How?"
    assert spoken("<Questionable words", ESC) == "Questionable words"
    assert spoken("<Hug How?", Concepts({})) == "Hug How?"


# -- tables ------------------------------------------------------------------------------------


def test_transitions_of_one_kind_are_shares_of_a_row() -> None:
    """Tags of other kinds between two do not count; the numbers themselves on demand."""
    assert of_kind(CHAIN, "strategy") == ["Question", "Others"]
    chains = [[("topic", name) for name in names] for names in (("red", "blue", "red", "red"),)]
    names, table = inner_transitions(chains, "topic", COLOURS)
    assert names == ["red", "blue"]
    assert table.tolist() == [[0.5, 0.5], [1.0, 0.0]]
    _, counts = inner_transitions(chains, "topic", COLOURS, rows=False)
    assert counts.tolist() == [[1, 1], [1, 0]]


def test_a_table_on_file_has_its_names(tmp_path: Path) -> None:
    tables = {"topic": (["red", "blue"], np.array([[0.25, 0.75], [1.0, 0.0]]))}
    write_tables(tables, tmp_path / "new" / "run")
    write_tables(tables, tmp_path / "new" / "run")  # a second test writes over it
    (path,) = (tmp_path / "new" / "run").iterdir()
    assert path.name == "transitions_topic.csv"
    assert path.read_text("utf-8") == ",red,blue\nred,0.2500,0.7500\nblue,1.0000,0.0000\n"
    assert as_csv(*tables["topic"]) == path.read_text("utf-8")


def test_only_tables_with_transitions_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(tagged_replies, "heat_map", lambda *given: drawn.append(given))
    some = (["red", "blue"], np.array([[0.0, 1.0], [0.0, 0.0]]))
    figures = transition_figures({"topic": some, "emotion": (["fear"], np.zeros((1, 1)))})
    assert list(figures) == ["chain/topic"]
    ((values, rows, columns, title, label),) = drawn
    assert torch.equal(values, torch.tensor(some[1]))
    assert (rows, columns) == (some[0], some[0])
    assert title == "topic tags inside a reply: from row to column"
    assert label == "share of the row"


# -- replies -----------------------------------------------------------------------------------


def test_a_reply_that_was_not_scored_adds_nothing_to_the_perplexity(make: Any) -> None:
    for one in (read_tagged("Oh.", ESC), make("CoCT", "tiny-llama").read("Oh.")):
        assert (one.nll, one.tokens) == (0.0, 0)
    assert read_tagged("Oh.", ESC, nll=2.0, tokens=3).tokens == 3


def test_the_annotated_reply_is_scored_behind_the_first_tag(make: Any, monkeypatch: Any) -> None:
    """The model's own, if its reply begins with one; its likelihood is that of the plain text."""
    module = make("CoCT", "tiny-llama", spread=4.0, **WIDE)
    said = ["<Hug> Oh.", "Oh. <Question> How?"]
    monkeypatch.setattr(SharedContext, "ask", lambda *_, **__: said)
    states = decisions(TALK)
    found = module.respond(states)
    encoder = module.encoder()
    for state, one, begun in zip(states, found, ("<Hug> ", ""), strict=True):
        told = encoder.head(state) + "".join(encoder.lines(state)) + encoder.question(begins="")
        ids, reply = encoder.ids(told + begun.rstrip()), encoder.ids(f" {state.target.text}")
        reply = reply if begun else encoder.ids(state.target.text)
        with torch.no_grad():
            logits = module.lm(torch.tensor([[*ids, *reply]])).logits[0, len(ids) - 1 : -1]
        nll = torch.nn.functional.cross_entropy(logits, torch.tensor(reply), reduction="sum")
        assert one.tokens == len(reply)
        assert one.nll == pytest.approx(nll.item(), rel=1e-3)


def test_a_model_that_says_nothing_is_asked_once_more(make: Any, monkeypatch: Any) -> None:
    """With its reply begun by the supporter's name; what it says at once is taken as it is."""
    module = make("CoCT", "tiny-llama", **WIDE)
    asked: list[str] = []

    def ask(context: SharedContext, questions: Any, **_: Any) -> list[str]:
        asked.append(questions[0].rpartition("assistant\n")[2])
        return [said.pop(0)]

    monkeypatch.setattr(SharedContext, "ask", ask)
    waiting = Dialogue(TALK.turns[:3], id="talk:1")
    said = ["", "Oh."]
    notes, told = module.converse(waiting)
    assert asked == ["", SPEAKS]
    assert (notes["begun"], told.turns[-1].text, len(told.turns)) == (SPEAKS, "Oh.", 4)
    said = ["<Question> How?"]
    notes, told = module.converse(waiting)
    assert asked[2:] == [""]
    assert "begun" not in notes
    assert (told.turns[-1].text, told.turns[-1].strategy) == ("How?", "Question")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_concepts": 2}, "model.max_concepts: 2 is neither 1 nor null"),
        ({"tagged": "t.jsonl"}, "model.tagged: goes with learn: true"),
        ({"max_length": 64, "reserve": 64}, "model.reserve: 64 leaves nothing of the window"),
    ],
)
def test_settings_that_do_not_fit(make: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make("CoCT", "tiny-llama", **options)
    make("CoCT", "tiny-llama", max_length=65, reserve=64, max_concepts=1)


def test_scores_of_one_tag_and_of_none() -> None:
    """Shares of one reply and one tag are whole; without replies all are 0."""
    names = ("tagged", "tags_per_reply", "listed_concepts", "chains", "unlisted_tags")
    for chains, wanted in (
        ([[("other", "Hug")]], (100, 1, 0, 0, 100)),
        ([[("emotion", "fear")]], (100, 1, 1, 0, 0)),
        ([[("emotion", "fear"), ("strategy", "Others")]], (100, 2, 2, 100, 0)),
        ([[]], (0, 0, 0, 0, 0)),
        ([], (0, 0, 0, 0, 0)),
    ):
        assert TagScores()(chains) == dict(zip(names, wanted, strict=True))
