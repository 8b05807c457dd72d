"""ESConv's strategies as a ranking task."""

import json
from collections import Counter

import pytest

from datamodules import ESConv, ESConvStrategies
from datamodules.esconv_strategies import STRATEGIES, strategy_queries
from datamodules.files import SAMPLES
from zoo.records import SEEKER, SUPPORTER, Corpus, Dialogue, Document, Turn

SPLITS = ("train", "val", "test")
NAMES = Corpus({name: Document(name, name) for name in STRATEGIES})
TALK = Dialogue(
    turns=(
        Turn(SUPPORTER, "Hello.", strategy="Others"),
        Turn(SEEKER, "I failed."),
        Turn(SEEKER, "Twice."),
        Turn(SUPPORTER, "At what?", strategy="Question"),
        Turn(SUPPORTER, "I failed once too.", strategy="Self-disclosure"),
        Turn(SEEKER, "Thanks."),
    ),
    id="talk:1",
)


def test_a_query_per_supporter_turn_that_answers():
    """An opening answers nothing; a second turn in a row is a query that ends with the first."""
    first, second = strategy_queries(TALK, NAMES)
    assert first.query == "supporter: Hello.\nseeker: I failed.\nseeker: Twice."
    assert first.relevant == (("Question", 1),)
    assert first.id == "talk:1:dialog[3]"
    assert first.pool == tuple(STRATEGIES)
    assert second.query == first.query + "\nsupporter: At what?"
    assert second.relevant == (("Self-disclosure", 1),)
    assert [r.query for r in strategy_queries(TALK, NAMES, max_turns=1)] == [
        "seeker: Twice.",
        "supporter: At what?",
    ]


def test_sample_and_definitions():
    data = ESConvStrategies()
    records = data.records("train")
    assert len(records) == 17
    assert data.records("test") == records
    assert {r.relevant[0][0] for r in records} <= set(STRATEGIES)
    assert [d.content for d in records[0].corpus.documents.values()] == list(STRATEGIES)
    defined = ESConvStrategies(definitions=True).records("train")[0].corpus.documents
    assert list(defined) == list(STRATEGIES)
    assert defined["Question"].text == "Question: " + STRATEGIES["Question"]


@pytest.mark.parametrize("indent", [None, 1])
def test_the_split_is_that_of_the_dialogues(tmp_path, indent):
    """100 dialogues in one file, on one line or on many: no query of one split in another."""
    items = json.loads((SAMPLES / "esconv.json").read_text(encoding="utf-8"))
    path = tmp_path / "ESConv.json"
    path.write_text(json.dumps(items * 20, indent=indent), encoding="utf-8")
    dialogues, queries = ESConv(str(path)), ESConvStrategies(str(path))
    found = set()
    for split in SPLITS:
        names = {record.id for record in dialogues.records(split)}
        assert {record.id.split(":dialog[")[0] for record in queries.records(split)} == names
        found |= names
    assert len(found) == 100


def test_bad_input(refused, tmp_path):
    items = json.loads((SAMPLES / "esconv.json").read_text(encoding="utf-8"))
    items[0]["dialog"][3]["annotation"]["strategy"] = "Qestion"
    path = tmp_path / "ESConv.json"
    path.write_text(json.dumps(items * 2, indent=1), encoding="utf-8")
    parts = ["ESConv.json:", "dialog[3]", "unknown strategy 'Qestion'", "'Question'?"]

    def load():
        data = ESConvStrategies(str(path))
        return [data.records(split) for split in SPLITS]

    refused(load, *parts)
    refused(lambda: ESConvStrategies(max_turns=0), "data.max_turns: 0 is not above 0")
    refused(lambda: ESConvStrategies(str(tmp_path / "no")).records("val"), "no such file")


@pytest.mark.parametrize("max_turns", [None, 6])
def test_real_files(zoo_data, max_turns):
    data = ESConvStrategies(str(zoo_data / "esconv"), max_turns=max_turns)
    records = {split: data.records(split) for split in SPLITS}
    assert [len(records[split]) for split in SPLITS] == [12235, 2616, 2794]
    every = [record for split in SPLITS for record in records[split]]
    assert len({record.id for record in every}) == len(every)
    counts = Counter(name for record in every for name, _ in record.relevant)
    assert set(counts) == set(STRATEGIES)
    assert counts["Question"] > counts["Information"]
    lines = max(record.query.count("seeker: ") for record in every)
    assert lines > 6 if max_turns is None else lines <= 6
