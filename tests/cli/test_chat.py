"""Talking to methods: the loop, and `python -m zoo chat` over a pipe."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import Any

import pytest
from running import ROOT, main, start, tiny

import zoo
from zoo.cli.chat import chat, run
from zoo.decoding.think_answer import Reply
from zoo.errors import InputError, TooLongError
from zoo.module import ZooModule
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn

OPENING = Dialogue((), situation="I lost my job.", id="chat")
BACKBONE = ("--model.backbone.name", "tiny-llama", "--model.max_length", "8192")
CPU = ("--trainer.accelerator", "cpu", "--trainer.precision", "32-true")


class Echo:
    """Repeats what is said; a long message does not fit, and the second best is `Again.`."""

    def __init__(self) -> None:
        self.seen: list[Dialogue] = []

    def converse(
        self, dialogue: Dialogue, *, temperature: float = 0.0
    ) -> tuple[dict[str, str], Dialogue]:
        self.seen.append(dialogue)
        if len(dialogue.turns[-1].text) > 40:
            raise TooLongError("too long")
        said = "Again." if temperature else dialogue.turns[-1].text.replace("(nothing)", "")
        turn = Turn(SUPPORTER, f"{said}\n!" * bool(said), strategy="Others")
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


@pytest.mark.parametrize("drop", [False, True])
def test_a_message_that_is_too_long_over_a_pipe(drop: bool) -> None:
    """It ends the conversation, or gets an empty line of its own, and the next one is answered."""
    said: list[str] = []
    ends = contextlib.nullcontext() if drop else pytest.raises(InputError, match="too long")
    with ends:
        chat(Echo(), OPENING, ["x" * 50, "hi"], said.append, drop=drop)
    assert [line.split("\t")[0] for line in said] == (["", "hi !"] if drop else [])
    assert all("error: too long" in line for line in said[:1])


def test_in_a_terminal() -> None:
    """Dimmed notes stand beside the reply; what does not fit is told and left out."""
    said: list[str] = []
    model = Echo()
    chat(model, OPENING, ["x" * 50, "hi", "/quit", "no"], said.append, terminal=True)
    assert said[0] == "error: too long"
    assert said[1:] == ["hi !  \033[2mwalk: s0 -> s3 | mood: fine\033[0m"]
    assert len(model.seen[1].turns) == 1
    with pytest.raises(InputError, match="too long"):
        chat(model, OPENING, ["x" * 50], said.append)


def talk(*messages: str, full: int = 99) -> tuple[list[str], Dialogue]:
    """Return what an echo says, and the dialogue; replies of `full` letters fill their limit."""
    said: list[str] = []
    told = chat(Echo(), OPENING, messages, said.append, is_cut=lambda text: len(text) >= full)
    return [line.replace("walk: s0 -> s3 | mood: fine", "-") for line in said], told


@pytest.mark.parametrize("again", ["What is it?", "what is  IT?", "(nothing)"])
def test_a_repeated_or_empty_reply_is_tried_again(again: str) -> None:
    """The second best is said, once; where that was said before too, the note tells it."""
    fault = "empty" if again == "(nothing)" else "a repetition"
    lines, told = talk("What is it?", again, again)
    assert lines[0] == "What is it? !\t-"
    assert lines[1] == f"Again. !\t- | reply: second try, the first was {fault}"
    assert lines[2].endswith(f"\t- | reply: {fault}, also at the second try")
    assert [turn.text for turn in told.turns if turn.speaker == SUPPORTER][1] == "Again.\n!"


def test_a_cut_reply_ends_with_a_sentence() -> None:
    """Also in the history; a reply that is not cut, or has no whole sentence, stays."""
    lines, told = talk('Go on. "Tell me." And then you', "no end here at all you see", full=20)
    assert [line.split("\t")[0] for line in lines] == [
        'Go on. "Tell me."',
        "no end here at all you see !",
    ]
    assert told.turns[1].text == 'Go on. "Tell me."'
    assert talk("Go on. And", full=20)[0] == ["Go on. And !\t-"]


METHODS = [
    ("SFT", {"max_answer_tokens": 3}, []),
    (
        "MeTHanol",
        {"thinking_layer": 2, "max_thought_tokens": 3, "max_answer_tokens": 3},
        ["thought"],
    ),
    ("StraQResponder", {"strategy": "Question", "max_answer_tokens": 3}, []),
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


TALKING = [
    *[(name, options) for name, options, _ in METHODS],
    ("ALMR", {"max_answer_tokens": 3}),
    ("DreamCUB", {"backbone": {"lora": {"rank": 2}}, "max_new_tokens": 3}),
    ("SoVA", {"kind": "direct", "max_reply_tokens": 3}),
]


@pytest.mark.parametrize(("name", "options"), TALKING, ids=[method[0] for method in TALKING])
def test_the_verb_knows_the_limit_of_every_method(
    make: Any,
    name: str,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever the setting is called; a method that names none talks without a limit."""
    module = make(name, "tiny-llama", max_length=8192, **options)
    limits = [", in whole sentences, at least"]
    if name == "SFT":
        limits.append(None)
    for limit in limits:
        if limit is None:
            monkeypatch.setattr(type(module), "reply_setting", None)
        monkeypatch.setattr("sys.stdin", io.StringIO("I lost my job.\n"))
        run(module, OPENING)
        out, err = capsys.readouterr()
        assert len(out.splitlines()) == 1
        assert (f"replies of up to 3 tokens{limit}" in err) == (limit is not None)


def test_every_method_that_talks_names_its_limit() -> None:
    classes = [getattr(zoo, name) for name in zoo.__all__]
    methods = [c for c in classes if isinstance(c, type) and issubclass(c, ZooModule)]
    talking = {c for c in methods if c.converse is not ZooModule.converse}
    assert talking == {getattr(zoo, name) for name, _ in TALKING}
    assert all(c.reply_setting in c().hparams for c in talking)


def test_the_next_prompt_holds_the_own_thought(make: Any, monkeypatch: Any) -> None:
    """MeTHanol's thoughts of a chat stay in its history as it thought them; none is made up."""
    limits = {"max_thought_tokens": 3, "max_answer_tokens": 3}
    module = make("MeTHanol", "tiny-llama", thinking_layer=2, max_length=8192, **limits)
    for thought in ("She needs a friend.", ""):
        reply = [Reply(thought, "Oh no.")]
        monkeypatch.setattr(module, "generate", lambda *_, reply=reply, **__: reply)
        notes, told = module.converse(replace(OPENING, turns=(Turn(SEEKER, "I lost my job."),)))
        assert notes.get("thought", "") == thought
        asked = replace(told, turns=(*told.turns, Turn(SEEKER, "Last week."), Turn(SUPPORTER, "")))
        text = module.tokenizer.decode(module.encoder().prompt(asked))
        own = f"<|im_start|>thought\n{thought}<|im_end|>\n" if thought else ""
        assert f"job.<|im_end|>\n{own}<|im_start|>assistant\nOh no.<|im_end|>" in text


def test_a_copied_prompt_is_no_reply(make: Any, monkeypatch: Any) -> None:
    """CoCT's model that copies its prompt speaks after the supporter's name."""
    module = make("CoCT", "tiny-llama", max_length=8192)

    def ask(_: Any, questions: list[str], **__: Any) -> list[str]:
        copied = "Dialogue so far:\nSeeker: I lost my job.\n\nReply:"
        return ['"I hear you.' if questions[0].endswith("Supporter:") else copied]

    monkeypatch.setattr("zoo.decoding.shared_context.SharedContext.ask", ask)
    said: list[str] = []
    chat(module, OPENING, ["I lost my job."], said.append)
    assert said[0].startswith("I hear you.\tbegun: Supporter: | strategy: Others")


def test_methods_without_dialogues_do_not_talk(make: Any) -> None:
    module = make("ConfidentSFT", "tiny-llama")
    with pytest.raises(InputError, match="model: ConfidentSFT does not talk"):
        module.converse(OPENING)


def test_over_a_pipe(monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m zoo chat` reads a line a turn and writes a line a turn."""
    config = str(ROOT / "configs" / "fisminess.yaml")
    monkeypatch.setattr("sys.stdin", io.StringIO("I lost my job.\nLast week.\n"))
    main("chat", "--config", config, *BACKBONE, *CPU, "--model.max_new_tokens", "3")
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 2
    assert "FiSMiness on tiny-llama (0 M parameters, cpu); replies of up to 3 tokens, in" in err
    assert all("walk: s0 -" in line and "-> s1 -" in line for line in lines)


@pytest.mark.parametrize("kind", ["sova", "direct"])
def test_value_instructions_stand_beside_a_reply(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SoVA's reply is followed by what it was told; the plain agent's by nothing."""
    monkeypatch.setattr("sys.stdin", io.StringIO("I lied to my friend.\nShe knows.\n\n"))
    options = ("--model.kind", kind, "--model.threshold", "1", "--model.max_reply_tokens", "3")
    main("chat", *tiny("sova"), *options)
    out, err = capsys.readouterr()
    assert "SoVA on tiny-llama (0 M parameters, cpu); replies of up to 3 tokens" in err
    notes = [line.partition("\t")[2] for line in out.splitlines()]
    assert len(notes) == 2
    assert ["instructions: (" in note for note in notes] == [kind == "sova"] * 2


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
