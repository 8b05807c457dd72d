"""Talking to methods: the loop, and `python -m zoo chat` over a pipe."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from running import ROOT, main, start

from zoo.cli.chat import chat
from zoo.errors import InputError
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn

OPENING = Dialogue((), situation="I lost my job.", id="chat")
BACKBONE = ("--model.backbone.name", "tiny-llama", "--model.max_length", "8192")
CPU = ("--trainer.accelerator", "cpu", "--trainer.precision", "32-true")


class Echo:
    """Repeats what is said; a long message does not fit."""

    def __init__(self) -> None:
        self.seen: list[Dialogue] = []

    def converse(self, dialogue: Dialogue) -> tuple[dict[str, str], Dialogue]:
        self.seen.append(dialogue)
        if len(dialogue.turns[-1].text) > 20:
            raise InputError("too long")
        turn = Turn(SUPPORTER, f"{dialogue.turns[-1].text}\n!", strategy="Others")
        notes = {"walk": "s0 ->\ns3", "mood": "fine"}
        return notes, replace(dialogue, turns=(*dialogue.turns, turn))


def test_a_line_a_turn() -> None:
    """Reply, tab, notes; the history grows; an empty line ends."""
    said: list[str] = []
    model = Echo()
    messages = ["hi  there\n", "more\n", "/new\n", "again\n", "\n", "unheard\n"]
    told = chat(model, OPENING, messages, said.append)
    assert said == [
        "hi there !\twalk: s0 -> s3 | mood: fine",
        "more !\twalk: s0 -> s3 | mood: fine",
        "again !\twalk: s0 -> s3 | mood: fine",
    ]
    assert [len(dialogue.turns) for dialogue in model.seen] == [1, 3, 1]
    assert [turn.speaker for turn in told.turns] == [SEEKER, SUPPORTER]
    assert told.situation == "I lost my job."


def test_in_a_terminal() -> None:
    """Notes stand before the reply; what does not fit is told and left out."""
    said: list[str] = []
    model = Echo()
    chat(model, OPENING, ["x" * 30, "hi", "/quit", "no"], said.append, terminal=True)
    assert said[0] == "error: too long"
    assert "walk:" in said[1]
    assert said[-1] == "hi !"
    assert len(model.seen[1].turns) == 1
    with pytest.raises(InputError, match="too long"):
        chat(model, OPENING, ["x" * 30], said.append)


METHODS = [
    ("SFT", {"max_answer_tokens": 3}, []),
    (
        "MeTHanol",
        {"thinking_layer": 2, "max_thought_tokens": 3, "max_answer_tokens": 3},
        ["thought"],
    ),
    ("StraQResponder", {"max_answer_tokens": 3}, []),
    ("StraQ", {"responder": {"name": "tiny-qwen2"}, "max_new_tokens": 3}, ["strategy", "Q"]),
    ("HdLM", {"layers": [2], "max_new_tokens": 3}, ["strategy"]),
    ("FiSMiness", {"max_new_tokens": 3}, ["emotion", "strategy", "walk"]),
    ("CoCT", {"max_new_tokens": 3}, ["strategy", "chain", "tagged"]),
    ("ESCBaseline", {"kind": "self_refine", "max_new_tokens": 3}, ["strategy", "draft"]),
]


@pytest.mark.parametrize(("name", "options", "notes"), METHODS, ids=[m[0] for m in METHODS])
def test_every_dialogue_method_talks(
    make: Any, name: str, options: dict[str, Any], notes: list[str]
) -> None:
    """Two turns; strategies that were chosen are in the history of the second."""
    module = make(name, "tiny-llama", max_length=8192, **options)
    said: list[str] = []
    told = chat(module, OPENING, ["I lost my job.", "Last week."], said.append)
    assert len(said) == 2
    assert [turn.speaker for turn in told.turns] == [SEEKER, SUPPORTER] * 2
    for line in said:
        assert [p.partition(":")[0] for p in line.partition("\t")[2].split(" | ")][
            : len(notes)
        ] == (notes or [""])[: len(notes)]
    if "strategy" in notes:
        assert all(turn.strategy for turn in told.turns if turn.speaker == SUPPORTER)
    if name == "FiSMiness":
        assert all(turn.emotion for turn in told.turns if turn.speaker == SEEKER)


def test_methods_without_dialogues_do_not_talk(make: Any) -> None:
    module = make("ConfidentSFT", "tiny-llama")
    with pytest.raises(InputError, match="model: ConfidentSFT does not talk"):
        module.converse(OPENING)


def test_over_a_pipe(monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m zoo chat` reads a line a turn and writes a line a turn."""
    config = str(ROOT / "configs" / "fisminess.yaml")
    monkeypatch.setattr("sys.stdin", io.StringIO("I lost my job.\nLast week.\n"))
    main("chat", "--config", config, *BACKBONE, *CPU, "--model.max_new_tokens", "3")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all("walk: s0 -" in line and "-> s1 -" in line for line in lines)


@pytest.mark.slow
def test_over_a_real_pipe(tmp_path: Any) -> None:
    config = str(ROOT / "configs" / "straq.yaml")
    import subprocess

    given = (*BACKBONE, *CPU, "--model.responder.name", "tiny-qwen2", "--model.max_new_tokens", "3")
    process = start("chat", "--config", config, *given, cwd=tmp_path, stdin=subprocess.PIPE)
    out, err = process.communicate("Hello.\nI am sad.\n", timeout=300)
    assert process.returncode == 0, err
    assert len(out.splitlines()) == 2
    assert "strategy: " in out
