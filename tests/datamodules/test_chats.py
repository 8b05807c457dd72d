"""A user's own chats: the public forms, each read or refused by name as the page says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from datamodules import Chats, Triples
from zoo.records import SEEKER, SUPPORTER, Dialogue, Triple, Turn

PAGE = (Path(__file__).parents[2] / "datamodules" / "README.md").read_text(encoding="utf-8")
TOOL = "chats with tools are not read"


def openai(*turns: Any, **beside: Any) -> dict[str, Any]:
    """Return messages by role and text, or as they are."""
    told = [
        turn if isinstance(turn, dict) else dict(zip(("role", "content"), turn, strict=True))
        for turn in turns
    ]
    return {"messages": told, **beside}


def share(*turns: tuple[str, str], **beside: Any) -> dict[str, Any]:
    said = [{"from": role, "value": text} for role, text in turns]
    return {"conversations": said, **beside}


def talk(*texts: str, system: str = "", **beside: Any) -> Dialogue:
    """Return a dialogue that the seeker begins."""
    turns = [
        Turn(SUPPORTER, text, thought="") if i % 2 else Turn(SEEKER, text)
        for i, text in enumerate(texts)
    ]
    return Dialogue(tuple(turns), system=system, **{"id": "x:1", **beside})


Q, A = ("user", "q"), ("assistant", "a")
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
PARTS = {"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "text", "text": "r"}]}
PICTURE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
UNLEARNED = {"role": "assistant", "content": "a", "weight": 0}
SPARE = {"refusal": None, "annotations": []}
FORMS: dict[str, tuple[dict[str, Any], Any]] = {
    # name on the page: a row, and what is read, or parts of the error
    "OpenAI fine-tuning": (openai(("system", "s"), Q, A), talk("q", "a", system="s")),
    "OpenAI responses, kept": (
        openai(Q, {"role": "assistant", "content": "a", **SPARE}),
        talk("q", "a"),
    ),
    "OpenAI text parts": (openai(PARTS, A), talk("q\nr", "a")),
    "OpenAI pictures": (openai(PICTURE, A), ["messages[0].content[0]", "'image_url'"]),
    "OpenAI tool calls": (openai(Q, CALL, ("tool", "3"), A), ["messages[1]: 'tool_calls'", TOOL]),
    "OpenAI names": (
        openai({"role": "user", "content": "q", "name": "b"}, A),
        ["unknown field 'name'"],
    ),
    "OpenAI preferences": ({"input": openai(Q), "preferred_output": []}, ["OpenAI's form of pref"]),
    "OpenAI batch": ({"custom_id": "1", "body": openai(Q)}, ["OpenAI's batch service"]),
    "ChatGPT export": ({"title": "t", "mapping": {}}, ["an export of ChatGPT"]),
    "UltraChat": (openai(Q, A, prompt="q", prompt_id="7"), ["unknown field 'prompt'"]),
    "WildChat": ({"conversation": openai(Q, A)["messages"]}, talk("q", "a")),
    "ShareGPT": (share(("human", "q"), ("gpt", "a"), id="k"), talk("q", "a", id="k")),
    "ShareGPT with a system": (
        share(("human", "q"), ("gpt", "a"), system="s"),
        talk("q", "a", system="s"),
    ),
    "ShareGPT system turn": (
        share(("system", "s"), ("human", "q"), ("gpt", "a")),
        talk("q", "a", system="s"),
    ),
    "ShareGPT tools": (share(("human", "q"), ("function_call", "{}")), ["'function_call'", TOOL]),
    "Alpaca": ({"instruction": "i", "input": "", "output": "a"}, talk("i", "a")),
    "Alpaca with input": ({"instruction": "i", "input": "in", "output": "a"}, talk("i\n\nin", "a")),
    "Alpaca with history": (
        {"instruction": "q", "output": "a", "history": [["p", "o"]], "system": "s"},
        talk("p", "o", "q", "a", system="s"),
    ),
    "Alpaca with text": (
        {"instruction": "i", "output": "a", "text": "i a"},
        ["unknown field 'text'"],
    ),
    "Dolly": ({"instruction": "i", "context": "c", "response": "a"}, talk("i\n\nc", "a")),
    "OpenOrca": (
        {"id": 5, "system_prompt": "s", "question": "q", "response": "a"},
        talk("q", "a", system="s", id="5"),
    ),
    "prompt and completion": ({"prompt": "q", "completion": "a"}, talk("q", "a")),
    "prompt as messages": (
        {"prompt": [], "completion": []},
        ["'prompt' must be a string, found a list"],
    ),
    "two replies": (
        {"prompt": "q", "response": "a", "answer": "b"},
        ["both 'response' and 'answer'"],
    ),
    "preference pairs": ({"prompt": "q", "chosen": "a", "rejected": "b"}, ["pairs of preference"]),
    "plain text": ({"text": "t"}, ["texts without roles"]),
    "another schema": ({"src": "q", "tgt": "a"}, ["no known chat ('src', 'tgt')"]),
}


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """Return the records of some rows, by `Chats` or another data module."""

    def read(*rows: Any, kind: Any = Chats, name: str = "x", **options: Any) -> list[Any]:
        path = tmp_path / name
        text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows)
        path.write_bytes(text.encode(errors="surrogateescape"))
        return kind(str(path), str(path), **options).records("train")

    return read


@pytest.mark.parametrize("form", FORMS)
def test_public_forms(form: str, load: Any, refused: Any) -> None:
    row, expected = FORMS[form]
    if isinstance(expected, list):
        refused(lambda: load(row), "x:1: ", *expected)
    else:
        assert load(row) == [expected]
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {form} |"))
    assert ("refused" if isinstance(expected, list) else "read") in line.split("|")[3]


def test_fields_that_say_nothing_are_named(load: Any, refused: Any) -> None:
    row, _ = FORMS["UltraChat"]
    refused(lambda: load(row), "if it says nothing, name it in data.ignore")
    assert load(row, ignore=["prompt", "prompt_id"]) == [talk("q", "a")]


def test_the_rule_for_turns(load: Any, refused: Any) -> None:
    """System texts and neighbours of one role are joined; weight 0 is shown, not learned."""
    rows = openai(("system", "s"), ("system", "t"), Q, ("user", "r"), A, ("assistant", "b"))
    assert load(rows) == [talk("q\n\nr", "a\n\nb", system="s\n\nt")]
    (record,) = load(openai(Q, UNLEARNED, Q, A))
    assert [turn.learned for turn in record.turns] == [True, False, True, True]
    for row, parts in (
        (openai(Q, ("system", "s"), A), ["messages[1]: a system message"]),
        (openai(Q, UNLEARNED), ["messages[1]: weight 0, as every reply"]),
        (openai(Q, UNLEARNED, A), ["messages[2]: another 'weight'"]),
        (openai(Q, {**UNLEARNED, "weight": 2}), ["messages[1]: field 'weight' is 2; 0 or 1"]),
        (openai(Q, {**UNLEARNED, "wieght": 0}), ["messages[1]: unknown field 'wieght'"]),
        (openai(("user", " "), A), ["messages[0]: field 'content' is empty"]),
        (openai(("usr", "q"), A), ["field 'role' is 'usr'; did you mean 'user'?"]),
        (openai(), ["field 'messages' is empty"]),
        (openai(Q, A, tools=[{"name": "f"}]), ["unknown field 'tools'"]),
        (share(("human", "q"), ("gtp", "a")), ["field 'from' is 'gtp'; did you mean 'gpt'?"]),
    ):
        refused(lambda row=row: load(row), "x:1", *parts)


def test_replies_that_are_not_there_are_counted(load: Any, caplog: Any, refused: Any) -> None:
    empty = ("assistant", "")
    rows = [
        openai(Q, A, Q, empty, Q, A, Q, empty),
        openai(Q, A, Q),
        openai(Q),
        openai(A),
        openai(Q, empty),
    ]
    assert [record.turns for record in load(*rows)] == [talk("q", "a").turns] * 2
    for said in (
        "x: 1 chats end before an empty assistant message: ",
        "x: 1 chats lose a last user message without a reply: ",
        "x: 3 chats without a reply are left out: ",
    ):
        assert said in caplog.text
    refused(lambda: load(openai(Q)), "no records")


def test_bad_rows_are_left_out_by_choice(load: Any, caplog: Any, refused: Any) -> None:
    rows = [openai(Q, A), "{", openai(Q, CALL), {"text": "t"}, "[1]", '{"messages": "\\ud83d"}']
    refused(lambda: load(*rows), "x:2: invalid JSON", "data.on_bad: skip leaves such rows out")
    assert load(*rows, on_bad="skip") == [talk("q", "a")]
    assert "5 of 6 rows are bad and left out: " in caplog.text
    assert all(f"x:{i}: " in caplog.text for i in (2, 3, 4))
    assert "and 2 more" in caplog.text
    caplog.clear()
    assert load(*rows, on_bad="skip")
    assert not caplog.text  # a second reading finds nothing new
    refused(lambda: load(*rows[1:], on_bad="skip"), "all 5 rows are bad", "x:1: invalid JSON")
    refused(lambda: load(rows[0], on_bad="skpi"), "data.on_bad: 'skpi'", "skip")


@pytest.mark.parametrize("kind", [Chats, Triples])
def test_encodings(kind: Any, load: Any, refused: Any) -> None:
    """A byte order mark and Windows' line ends are fine; other bytes are named with their line."""
    row = json.dumps(openai(Q, A))
    (record,) = load("\ufeff" + row + "\r", kind=kind)
    assert record == (talk("q", "a") if kind is Chats else Triple("q", "", "a", id="x:1"))
    latin = row.replace("q", "\udce9")  # one byte
    refused(lambda: load(row, latin, kind=kind), "x:2: not UTF-8: byte 0xe9")
    refused(lambda: load(row, row.replace("q", "\\ud83d"), kind=kind), "x:2: ", "half a character")


CSV = 'prompt,response,system\r\n"q, or\nr",a,\r\np,,s\r\n'


def test_tables(load: Any, tmp_path: Path, refused: Any, caplog: Any) -> None:
    """CSV and Parquet hold the same forms; a cell that is empty or null says nothing."""
    assert load(CSV, name="x.csv") == [talk("q, or\nr", "a", id="x.csv:2")]
    assert load("\ufeff" + CSV, name="x.csv", kind=Triples)[0].query == "q, or\nr"
    assert "x.csv: 1 chats without a reply are left out: " in caplog.text
    short = load(CSV + "p\n" + "p,a,s", name="x.csv", on_bad="skip")
    assert [record.system for record in short] == ["", "s"]
    refused(lambda: load("prompt\nq", name="x.csv"), "x.csv:2: fields of no known chat ('prompt')")
    path = tmp_path / "y.parquet"
    rows = [
        {**openai(Q, A), "id": 7},
        {**openai(Q, UNLEARNED, Q, A), "id": None},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    first, second = Chats(str(path), str(path)).records("train")
    assert first == talk("q", "a", id="7")
    assert (second.turns[1].learned, second.turns[3].learned, second.id) == (
        False,
        True,
        "y.parquet:2",
    )
    path.write_bytes(path.read_bytes()[:-9])
    refused(lambda: Chats(str(path), str(path)).records("train"), "y.parquet: invalid Parquet")


def test_triples_from_other_forms(load: Any, refused: Any) -> None:
    found = load(
        *[FORMS[name][0] for name in ("Alpaca with input", "OpenOrca", "ShareGPT with a system")],
        {"query": "q", "response": "a"},
        kind=Triples,
    )
    assert found == [
        Triple("i\n\nin", "", "a", id="x:1"),
        Triple("q", "", "a", "s", id="5"),
        Triple("q", "", "a", "s", id="x:3"),
        Triple("q", "", "a", id="x:4"),
    ]
    long, weightless = (
        openai(Q, A, Q, A),
        openai(Q, {"role": "assistant", "content": "a", "weight": 0}),
    )
    refused(lambda: load(long, kind=Triples), "x:1: a chat of 4 turns", "datamodules.Chats")
    refused(lambda: load(weightless, kind=Triples), "weight 0")
    assert load(long, FORMS["Dolly"][0], kind=Triples, on_bad="skip")[0].answer == "a"


def test_files_of_the_splits(tmp_path: Path, refused: Any) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([openai(("user", f"q{i}"), A) for i in range(30)], indent=1))
    data = Chats(str(path))
    train, val = data.records("train"), data.records("val")
    assert (len(train), len(val)) == (27, 3)
    assert not {record.turns[0].text for record in train} & {r.turns[0].text for r in val}
    refused(lambda: data.records("test"), "no file for 'test'; set test to one")
    assert len(Chats().records("test")) == 4


def test_what_is_learned_of_a_chat(make: Any, load: Any, refused: Any) -> None:
    """The system text is the prompt's own, a reply of weight 0 is context, thoughts are refused."""
    weightless = {"role": "assistant", "content": "one", "weight": 0}
    (record,) = load(openai(("system", "Be odd."), Q, weightless, Q, ("assistant", "two")))
    encoder = make("SFT", "tiny-llama").encoder()
    (example,) = encoder(record)
    text = encoder.tokenizer.decode(example.input_ids)
    learned = encoder.tokenizer.decode([label for label in example.labels if label >= 0])
    assert [part in text for part in ("Be odd.", "one", "supportive")] == [True, True, False]
    assert learned.startswith("two")
    assert "one" not in learned
    (early,) = load(openai(Q, ("assistant", "two"), Q, weightless))
    assert encoder.gold(early) == ("", "two")
    assert "one" not in encoder.tokenizer.decode(encoder(early)[0].input_ids)
    refused(
        lambda: make("MeTHanol", "tiny-llama").encoder()(record), "no supporter turn has a thought"
    )
