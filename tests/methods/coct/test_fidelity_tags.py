"""CoCT's tags: text comes back from them, names are canonical, replies have no residue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from dialogues import TALK
from methods.coct.coct_answers import WIDE, WORDS, answering

from zoo.methods.coct.concepts import DELIMITERS, INVENTORIES, Concepts, TaggedText, split_tags
from zoo.methods.coct.read_tagged import read_tagged, spoken
from zoo.metrics.text import tokenize
from zoo.records import SUPPORTER, Turn
from zoo.support.decisions import decisions

ESC = Concepts(INVENTORIES["esconv"])


def joined(parts: Sequence[TaggedText], concepts: Concepts) -> str:
    """The tagged text that parts come from."""
    return "".join((concepts.tag(p.tag) if p.tag is not None else "") + p.text for p in parts)


@pytest.mark.fidelity("coct", 2)
@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_tagged_text_comes_back(delimiter: str) -> None:
    concepts = Concepts(INVENTORIES["esconv"], delimiter)
    opening, closing = DELIMITERS[delimiter]
    tagged = WORDS.replace("<", opening).replace(">", closing)
    for text in (tagged, f"Well. {tagged}", tagged.replace("?", "? \n\n"), "No tag at all.", ""):
        parts = split_tags(text, concepts)
        assert joined(parts, concepts) == text
    tags = [part.tag for part in split_tags(tagged, concepts)]
    assert tags == ["Reflection of Feelings", "sadness", "Questions"]
    kinds = [concepts.kind_of(tag) for tag in tags if tag]
    assert kinds == [
        ("strategy", "Reflection of feelings"),
        ("emotion", "sadness"),
        ("strategy", "Question"),
    ]


@pytest.mark.fidelity("coct", 2)
def test_canonical_names() -> None:
    """Case and aliases are folded; what no list has is kept as it is, as unlisted."""
    assert ESC.kind_of("affirmation") == ("strategy", "Affirmation and Reassurance")
    assert ESC.kind_of("QUESTIONING") == ("strategy", "Question")
    assert ESC.kind_of("Warm  Hug") == ("other", "Warm Hug")
    for words in ("Affirmation & Reassurance", "Strategy: affirmation", "5. Affirmation"):
        assert ESC.kind_of(words) == ("strategy", "Affirmation and Reassurance")
    assert ESC.kind_of("Emotion: sadness") == ("emotion", "sadness")
    assert Concepts(INVENTORIES["cskills"]).kind_of("Animals") == ("topic", "animal")
    assert Concepts({}, extra=("Humor",)).kind_of("humor") == ("other", "Humor")


@pytest.mark.fidelity("coct", 3)
@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_replies_have_no_residue(make: Any, monkeypatch: Any, delimiter: str) -> None:
    """Whole, closing, doubled and broken tags are gone, and scores see the words alone."""
    opening, closing = DELIMITERS[delimiter]
    module = make("CoCT", "tiny-llama", delimiter=delimiter, **WIDE)
    words = (
        f"{opening}Question{closing} How? {opening}{closing} {opening}Hug{closing}{opening}pain"
        f"{closing}There. {opening}Information See. {closing}"
    )
    answering(monkeypatch, words)
    (one,) = module.respond(decisions(TALK)[:1])
    assert one.reply == "How? There. See."
    assert not set(one.reply) & {opening, closing}
    decision = decisions(TALK)[0]
    gold = Turn(SUPPORTER, "How? There. See.", strategy="Question")
    module.answers = {decision.id: (replace(decision, target=gold), one)}
    scores = module.score_answers([*module.answers.values()], "val")
    assert scores["bleu_2"] == scores["rouge_l"] == pytest.approx(100)
    assert scores["length"] == len(tokenize("How? There. See."))
    assert scores["accuracy"] == 100


@pytest.mark.fidelity("coct", 3)
@pytest.mark.parametrize(
    "tag",
    ["Emotion: sadness", "Affirmation & Reassurance", "1. Question", "Hug, warm (big)", "Step 2"],
)
def test_tags_with_other_signs_are_tags(tag: str) -> None:
    """None of them leaks into the reply; one that no list has is counted as unlisted."""
    parts = split_tags(f"<{tag}> Oh. <Question> So?", ESC)
    assert [part.tag for part in parts] == [tag, "Question"]
    assert spoken(f"<{tag}> Oh. <Question> So?", ESC) == "Oh. So?"
    assert joined(parts, ESC) == f"<{tag}> Oh. <Question> So?"


@pytest.mark.fidelity("coct", 3)
def test_no_sentence_is_a_tag(make: Any, monkeypatch: Any) -> None:
    square = Concepts(INVENTORIES["esconv"], "[]")
    words = "[Question] Why? [I am so sorry.] 2 < 3"
    assert [part.tag for part in split_tags(words, square)] == ["Question"]
    assert [p.tag for p in split_tags("i < 3 and 4 > 2", ESC)] == [None]
    module = make("CoCT", "tiny-llama", **WIDE)
    answering(monkeypatch, " <Question> Why?\nSeeker: I fell.\nSupporter: <Others> Oh.")
    (one,) = module.respond(decisions(TALK)[:1])
    assert one.reply == "Why?"  # the next turns are not this reply
    assert one.concepts == ("strategy: Question",)
    empty = module.read("<Question>\nSeeker: I fell.")
    assert (empty.reply, empty.failed) == ("", ("reply",))
    assert module.read("Seeker: I fell.").reply == ""
    inside = module.read("<Question: how was it?> <sadness> I am sorry.")
    assert inside.reply == "how was it? I am sorry."
    assert inside.concepts == ("strategy: Question", "emotion: sadness")


@pytest.mark.fidelity("coct", 3)
def test_ordinary_signs_stay_where_they_are_no_delimiter() -> None:
    assert spoken("<Others> R&D is #1 [sic]", ESC) == "R&D is #1 [sic]"
    amp = Concepts(INVENTORIES["esconv"], "&")
    assert spoken("&Others& you & me", amp) == "you and me"


@pytest.mark.fidelity("coct", 3)
@pytest.mark.parametrize(
    ("words", "reply", "concepts"),
    [
        ("<Question> Why? </Question>\n<Seeker> I am sad. </Seeker>", "Why?", "Question"),
        ("<Question> Why? </Question> <Answer> I am sad.", "Why?", "Question"),
        ("<Question> Why?</Question> <fear>Seeker: I am.", "Why?", "Question fear"),
        ("<Supporter> <fear> Oh. <Supporter> So?", "Oh.", "fear"),
        ("<Question> <Supporter> Why? <Reply> I fell.", "Why?", "Question"),
        ("<User> I am sad.", "", ""),
        ("<Question> Why?\nUser: I fell.\nAssistant: Oh.", "Why?", "Question"),
        ("**<Question>** How? **<fear>:** Oh.", "How? Oh.", "Question fear"),
        ("<Question>: How?", "How?", "Question"),
        ("Supporter <Question>: How?", "How?", "Question"),
        ("<fear> Oh.\nSupporter <Question> How?", "Oh.", "fear"),
        ("<fear> Oh. User <Question> How?", "Oh.", "fear"),
        (
            "<Information> It is the Assistant <Question> Did you ask him?",
            "It is the Assistant Did you ask him?",
            "Information Question",
        ),
        (
            "<Information> Talk to the user <Question> Did you?",
            "Talk to the user Did you?",
            "Information Question",
        ),
        ("<Question> Why? user <fear> Oh.", "Why? user Oh.", "Question fear"),
        ("&Question& rock & roll &sadness& Ok", "rock and roll Ok", "Question sadness"),
        ("#Question# we're #1 in # of #sadness# Ok", "we're 1 in of Ok", "Question sadness"),
    ],
)
def test_the_supporters_first_turn(words: str, reply: str, concepts: str) -> None:
    """A tagged speaker begins another turn; what stands around a tag is no word of the reply."""
    lists = Concepts(INVENTORIES["esconv"], words[0] if words[0] in "&#" else "<>")
    found = read_tagged(words, lists, "Others")
    assert (found.reply, [c.split(": ")[1] for c in found.concepts]) == (reply, concepts.split())
