"""What SoVA's model reads: instructions, the question for an action, a report."""

from __future__ import annotations

import re

from methods.sova.graph_parts import GIVEN, reports

from zoo.methods.sova import prompts
from zoo.methods.sova.map_prompts import GRADES, LENS, after, before, quote
from zoo.prompts.chat_format import CHATML


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
    shares = re.findall(r"(four|two) tenths.*?(agrees|fits|clear)", text, re.IGNORECASE)
    assert shares == [("Four", "agrees"), ("four", "fits"), ("two", "clear")]
    assert f"Report:\n{quote(report.text)}\n\nSituation:\n> Do\n> you?\n\nHow well?" in text
    assert text.endswith("<|im_start|>assistant\n")
    assert len(GRADES) == 5
