"""HdLM's figures, rows and chat, with a script in place of the decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zoo.methods.hdlm import evaluation
from zoo.methods.hdlm.evaluation import MAX_CLASSES
from zoo.methods.hdlm.metrics import FAILED
from zoo.methods.hdlm.prompts import classification, plans
from zoo.records import SEEKER, SUPPORTER, Dialogue, LabelPath, Taxonomy, Turn
from zoo.support.labels import EMOTIONS, STRATEGIES

TREE = Taxonomy({(): ("med", "law"), ("med",): ("ear", "eye"), ("law",): ("tax",)})
TEXTS = [
    LabelPath("Deaf.", ("med", "ear"), TREE, id="a"),
    LabelPath("Blind.", ("med", "eye"), TREE, id="b"),
    LabelPath("Owing.", ("law", "tax"), TREE, id="c"),
]
TALK = Dialogue(
    (
        Turn(SEEKER, "I am sad."),
        Turn(SUPPORTER, "Why is that?", "Question"),
        Turn(SEEKER, "My dog died."),
    ),
    id="d",
)


@pytest.fixture
def module(make: Callable[..., Any]) -> Any:
    return make("HdLM", "tiny-llama")


def scripted(module: Any, *paths: list[str]) -> list[dict[str, Any]]:
    """Let a module decode given paths; return what each call was asked."""
    calls: list[dict[str, Any]] = []

    def generate(asked: Any, **options: Any) -> list[list[str]]:
        calls.append({"plans": asked, **options})
        return [paths[i % len(paths)] for i in range(len(asked))]

    module.generate = generate
    return calls


def test_confusion_is_a_share_of_the_gold_class(module: Any) -> None:
    """A row per gold name, a column per name and one for what was no class; levels apart."""
    module.on_validation_epoch_start()
    assert module.figures() == {}
    found = [["med", "eye"], ["med", FAILED], ["med", "tax"]]
    for record, path in zip(TEXTS, found, strict=True):
        module.answers[record.id] = (classification(record), path)
    drawn = module.figures()
    assert list(drawn) == ["confusion/level_1", "confusion/level_2"]
    axes = drawn["confusion/level_1"].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["law", "med"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["law", "med", FAILED]
    assert axes.images[0].get_array().tolist() == [[0, 1, 0], [0, 1, 0]]
    assert drawn["confusion/level_1"].get_suptitle().split()[:2] == ["level", "1:"]
    second = drawn["confusion/level_2"].axes[0].images[0].get_array().tolist()
    assert second == [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]  # ear, eye, tax


@pytest.mark.parametrize(("count", "shown"), [(MAX_CLASSES, True), (MAX_CLASSES + 1, False)])
def test_a_matrix_of_too_many_classes_is_not_drawn(
    module: Any, count: int, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "heat_map", lambda *_: "drawn")
    names = tuple(f"c{i}" for i in range(count))
    module.on_validation_epoch_start()
    for name in names:
        plan = classification(LabelPath("x", (name,), Taxonomy({(): names}), id=name))
        module.answers[name] = (plan, [name])
    assert bool(module.figures()) == shown


def test_replies_have_no_matrix(module: Any) -> None:
    module.on_validation_epoch_start()
    (plan,) = plans(TALK, 2)
    module.answers["d"] = (plan, ["Question", "Why?"])
    assert module.figures() == {}


def test_rows_hold_what_was_decoded_beside_the_gold(module: Any) -> None:
    plan = classification(TEXTS[0])
    assert module.prediction(plan, ["med", "eye"]) == {
        **{"id": "a", "path": ["med", "eye"], "gold": ["med", "ear"]}
    }
    row = module.sample(plan, ["med", "eye"])
    assert row.pop("text").startswith("Deaf.")
    assert row == {"level 1": "med", "gold 1": "med", "level 2": "eye", "gold 2": "ear"}


def test_show_decodes_records_or_another_text(module: Any) -> None:
    calls = scripted(module, ["med", "eye"], ["law", "tax"])
    rows = module.show(TEXTS[:2])
    assert [row["level 2"] for row in rows] == ["eye   [gold: ear]", "tax   [gold: eye]"]
    assert rows[0]["level 1"] == "med   [gold: med]"
    assert rows[1]["text"].startswith("Blind.")
    (row,) = module.show(TEXTS, prompt="Lame.", given="law")
    assert row["text"].startswith("Lame.")
    assert (row["level 1"], row["level 2"]) == ("med", "eye")
    assert [call["forced"] for call in calls] == [None, [["law"]]]
    turns = Dialogue((*TALK.turns, Turn(SUPPORTER, "I am sorry.", "Self-disclosure")), id="two")
    assert len(module.show([turns])) == 1, "a row a record, though it has two replies"


@pytest.mark.parametrize("named", ["Question", "no strategy"])
def test_a_chat_says_the_strategy_beside_the_reply(module: Any, named: str) -> None:
    """The history keeps it; what is no strategy stands there as the last one, `Others`."""
    calls = scripted(module, [named, "Tell me about it."])
    notes, dialogue = module.converse(TALK, temperature=0.7)
    assert notes == {"strategy": named}
    assert dialogue.turns[:-1] == TALK.turns
    kept = named if named in STRATEGIES else "Others"
    assert dialogue.turns[-1] == Turn(SUPPORTER, "Tell me about it.", kept)
    assert dialogue.emotion == TALK.emotion
    ((plan,), heat) = calls[0]["plans"], calls[0]["temperature"]
    assert (plan.turns[-1], heat) == (("user", "My dog died."), 0.7)
    module.converse(TALK)
    assert calls[1]["temperature"] == 0.0


def test_a_chat_guided_by_feelings_reads_none(make: Callable[..., Any]) -> None:
    """A dialogue without annotation is asked about the emotions of ESConv."""
    module = make("HdLM", "tiny-llama", guide=["emotion"])
    calls = scripted(module, ["anger", "I hear you."])
    notes, dialogue = module.converse(TALK)
    assert notes == {"emotion": "anger"}
    assert calls[0]["plans"][0].choices([]) == EMOTIONS
    assert dialogue.turns[-1].strategy == "Others"
    joyful, _ = calls, module.converse(Dialogue(TALK.turns, emotion="joyful", id="e"))
    assert "joyful" in joyful[1]["plans"][0].choices([])
