"""HdLM's figures, rows and chat, with a script in place of the decoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import datamodules
from zoo.methods.hdlm import evaluation
from zoo.methods.hdlm.evaluation import MAX_CLASSES
from zoo.methods.hdlm.metrics import FAILED
from zoo.methods.hdlm.prompts import FEELINGS, classification, plans
from zoo.records import SEEKER, SUPPORTER, Dialogue, LabelPath, Taxonomy, Triple, Turn
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


@pytest.mark.parametrize(
    ("data", "wanted"), [("ESConv", EMOTIONS), ("EmpatheticDialogues", FEELINGS)]
)
@pytest.mark.parametrize("felt", ["", "joyful", "anger", "joy"])
def test_a_chat_offers_the_emotions_of_the_data(
    make: Callable[..., Any], data: str, wanted: tuple[str, ...], felt: str
) -> None:
    """Those that were learned, whatever the seeker says to feel; an export keeps them."""
    module = make("HdLM", "tiny-llama", guide=["emotion"])
    assert module.encoder().emotions is None
    module.check_data(getattr(datamodules, data)())
    calls = scripted(module, [wanted[0], "I hear you."])
    notes, dialogue = module.converse(replace(TALK, emotion=felt))
    assert notes == {"emotion": wanted[0]}
    assert calls[0]["plans"][0].choices([]) == wanted
    assert (dialogue.emotion, dialogue.turns[-1].strategy) == (felt, "Others")
    again = make("HdLM", "tiny-llama", guide=["emotion"], emotions=module.hparams["emotions"])
    assert again.encoder().emotions == module.encoder().emotions
    again.check_data(datamodules.Chats())
    assert again.encoder().emotions == module.encoder().emotions


def test_a_chat_without_data_goes_by_the_seekers_emotion(make: Callable[..., Any]) -> None:
    module = make("HdLM", "tiny-llama", guide=["emotion"])
    calls = scripted(module, ["anger", "I hear you."])
    for felt, wanted in (("", EMOTIONS), ("joy", EMOTIONS), ("joyful", FEELINGS)):
        module.converse(replace(TALK, emotion=felt))
        assert calls[-1]["plans"][0].choices([]) == wanted


# -- scores ------------------------------------------------------------------------------------


@pytest.mark.parametrize("gold", ["A", "the", "..."])
def test_a_failed_answer_is_never_the_right_one(module: Any, gold: str) -> None:
    """Also where the right one is but an article: option A."""
    (plan,) = plans(Triple("Which?", "", gold, id="t"), 1)
    scores = module.score_answers([(plan, [FAILED])], "val")
    assert (scores["joint_accuracy"], scores["failed"]) == (0.0, 1.0)
    scores = module.score_answers([(plan, [gold.lower()])], "val")
    assert (scores["joint_accuracy"], scores["failed"]) == (1.0, 0.0)


def test_free_text_is_right_if_equal_after_normalising(module: Any) -> None:
    (plan,) = plans(Triple("Where?", "Ann saw it.", "box", id="t"), 2)
    scores = module.score_answers([(plan, ["ann saw it", "The box."])], "val")
    assert (scores["level_1_accuracy"], scores["joint_accuracy"]) == (1.0, 1.0)


def test_a_guided_reply_is_scored_by_its_strategy(module: Any) -> None:
    """Accuracy and F1 of what guides it; the words of a reply are in no path."""
    wanted = ("Question", "Question", "Information", "Others")
    found = ("Question", "Information", "Information", FAILED)
    pairs = []
    for i, (right, said) in enumerate(zip(wanted, found, strict=True)):
        turns = (*TALK.turns, Turn(SUPPORTER, f"I am sorry {i}.", right))
        plan = plans(Dialogue(turns, id=f"d{i}"), 2)[-1]
        pairs.append((plan, [said, "Another reply."]))
    scores = module.score_answers(pairs, "val")
    assert scores["level_1_accuracy"] == scores["joint_accuracy"] == 0.5
    # F1: Question 2/3 (one of two found), Information 2/3 (found twice, once right), Others 0.
    assert scores["level_1_macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert scores["failed"] == 0.25
    assert "level_2_accuracy" not in scores
    right = [(plan, [plan.names[0], "Another reply."]) for plan, _ in pairs]
    assert module.score_answers(right, "val")["level_1_macro_f1"] == 1.0
