"""ESConv in both published forms."""

import gzip
import json
import random
from collections import Counter

import pytest

import datamodules
from datamodules import ESConv
from datamodules.esconv import read_dialogues
from datamodules.files import SAMPLES
from zoo.records import SEEKER, SUPPORTER
from zoo.support.decisions import decisions
from zoo.support.labels import EMOTIONS, STRATEGIES

SPLITS = ("train", "val", "test")
FIRST_OF_SEED_13 = ["844", "1063", "1268", "1179"]


def dialogue(**changes):
    item = {
        "experience_type": "Current Experience",
        "emotion_type": "fear",
        "problem_type": "sleep problems",
        "situation": "s",
        "survey_score": {},
        "dialog": [
            {"speaker": "seeker", "annotation": {"feedback": "4"}, "content": "Hi\n"},
            {"speaker": "supporter", "annotation": {"strategy": "Question"}, "content": "Hi?\n"},
        ],
    }
    return {**item, **changes}


def test_sample_is_every_split():
    data = ESConv()
    records = data.records("train")
    assert len(records) == 5
    assert data.records("val") == records
    assert data.records("test") == records
    first = records[0]
    assert first.id == "esconv.json:2"
    assert first.emotion == "anxiety"
    assert first.problem == "job crisis"
    assert [turn.speaker for turn in first.turns[:2]] == [SEEKER, SUPPORTER]
    assert first.turns[1].strategy == "Others"
    assert first.turns[4].feedback == 4
    assert first.turns[0].feedback is None
    assert all(turn.text == turn.text.strip() for turn in first.turns)


def test_both_forms_say_the_same():
    ours = list(read_dialogues(SAMPLES / "esconv.json"))[:3]
    hub = list(read_dialogues(SAMPLES / "esconv_valid.txt"))
    said = [[(t.speaker, t.text, t.strategy) for t in d.turns] for d in ours]
    assert said == [[(t.speaker, t.text, t.strategy) for t in d.turns] for d in hub]
    assert hub[2].id == "esconv_valid.txt:3"
    assert all(turn.feedback is None for d in hub for turn in d.turns)


def test_split_of_the_single_file(tmp_path):
    items = [dialogue(situation=str(i)) for i in range(1300)]
    (tmp_path / "ESConv.json").write_text(json.dumps(items), encoding="utf-8")
    for path in (tmp_path, tmp_path / "ESConv.json"):
        data = ESConv(str(path))
        parts = {split: [d.situation for d in data.records(split)] for split in SPLITS}
        assert [len(parts[split]) for split in SPLITS] == [910, 195, 195]
        assert sorted(sum(parts.values(), [])) == sorted(str(i) for i in range(1300))
    order = list(range(1300))  # the authors' code: shuffle, then valid, test, train
    random.Random(13).shuffle(order)
    assert parts["val"] == [str(i) for i in order[:195]]
    assert parts["test"] == [str(i) for i in order[195:390]]
    assert parts["train"] == [str(i) for i in order[390:]]
    assert parts["val"][:4] == FIRST_OF_SEED_13
    other = ESConv(str(tmp_path), split_seed=1).records("test")
    assert [d.situation for d in other] != parts["test"]


def test_hub_files_may_be_gzipped(tmp_path):
    text = (SAMPLES / "esconv_valid.txt").read_bytes()
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress(text))
    (tmp_path / "valid.txt").write_bytes(text)
    data = ESConv(str(tmp_path))
    assert data.records("train")[1].id == "train.txt.gz:2"
    assert data.records("val")[1].id == "valid.txt:2"


def test_the_authors_file_never_stands_in_for_one_of_the_hub(tmp_path, refused):
    """Its split overlaps the hub's."""
    hub = (SAMPLES / "esconv_valid.txt").read_bytes()
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).write_bytes(hub)
    items = [dialogue(situation=str(i)) for i in range(20)]
    (tmp_path / "ESConv.json").write_text(json.dumps(items), encoding="utf-8")
    data = ESConv(str(tmp_path))
    assert data.records("train")[0].id == "train.txt:1"
    refused(lambda: data.records("test"), "none of test.txt, ", "ESConv.json")


def test_relatives_have_one_spelling_of_strategies(tmp_path):
    turns = [{"speaker": "speaker", "annotation": {}, "content": "Hi"}]
    written = ("Questions", "Other", "Reflection of Feelings", "Providing Information")
    turns += [{"speaker": "listener", "annotation": {"strategy": s}, "content": s} for s in written]
    path = tmp_path / "FailedESConv.json"
    path.write_text("\n".join(json.dumps(dialogue(dialog=turns)) for _ in range(2)))  # lines, too
    record, _ = read_dialogues(path)
    assert [turn.speaker for turn in record.turns] == [SEEKER, *[SUPPORTER] * 4]
    names = ["", "Question", "Others", "Reflection of feelings", "Information"]
    assert [turn.strategy for turn in record.turns] == names
    assert tuple(STRATEGIES) == datamodules.esconv.STRATEGIES


def change(turn, **values):
    item = dialogue()
    item["dialog"][turn] = {**item["dialog"][turn], **values}
    return item


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        (dialogue(dialog=dialogue()["dialog"][:1]), ["'dialog'", "no supporter turn"]),
        (dialogue(dialog=[]), ["'dialog'", "no supporter turn"]),
        (dialogue(dialog="hi"), ["'dialog'", "must be a list, found a string"]),
        (dialogue(dialog=["hi"]), ["dialog[0]", "expected an object"]),
        (dialogue(emotion_type=3), ["'emotion_type'", "must be a string, found an integer"]),
        (
            {k: v for k, v in dialogue().items() if k != "problem_type"},
            ["'problem_type' is missing", "did you mean"],
        ),
        (change(1, annotation={}), ["dialog[1].annotation", "'strategy' is missing"]),
        (
            change(1, annotation={"strategy": "Qestion"}),
            ["dialog[1].annotation: unknown strategy 'Qestion'", "did you mean 'Question'?"],
        ),
        (change(1, speaker="suporter"), ["dialog[1]", "'speaker'", "did you mean 'supporter'?"]),
        (change(0, content=""), ["dialog[0]", "'content' is empty"]),
        (change(0, annotation={"feedback": "6"}), ["dialog[0]", "'feedback' is '6'"]),
        (
            dialogue(survey_score={"seeker": {"final_emotion_intensity": "much"}}),
            ["'final_emotion_intensity' is 'much'"],
        ),
    ],
)
def test_bad_dialogues(refused, tmp_path, item, parts):
    path = tmp_path / "ESConv.json"
    path.write_text(json.dumps([dialogue(), item], indent=1), encoding="utf-8")
    line = 2 + json.dumps([dialogue()], indent=1).count("\n") - 1
    refused(lambda: ESConv(str(path)).records("train"), f"ESConv.json:{line}:", *parts)


def test_bad_paths(refused, tmp_path):
    single = SAMPLES / "esconv_valid.txt"
    refused(lambda: ESConv(str(single)).records("val"), "esconv_valid.txt", "not a folder")
    refused(lambda: ESConv(str(tmp_path / "no")).records("train"), "no such file or folder")
    refused(lambda: ESConv(str(tmp_path)).records("val"), "valid.txt", "ESConv.json", "nothing")
    (tmp_path / "ESConv.json").write_text(json.dumps([dialogue()]), encoding="utf-8")
    refused(lambda: ESConv(str(tmp_path)).records("val"), "too few to split")


def test_real_files(zoo_data):
    data = ESConv(str(zoo_data / "esconv"))
    records = {split: data.records(split) for split in SPLITS}
    assert [len(records[split]) for split in SPLITS] == [910, 195, 195]
    turns = [turn for split in SPLITS for d in records[split] for turn in d.turns]
    assert len(turns) == 38365
    supporter = [turn for turn in turns if turn.speaker == SUPPORTER]
    assert len(supporter) == 18376
    assert all(turn.strategy for turn in supporter)
    counts = Counter(turn.strategy for turn in supporter)
    assert counts["Question"] == 3801
    assert counts["Others"] == 3341
    assert len(counts) == 8
    assert records["train"][16].id == "train.txt.gz:17"


# -- decision points ---------------------------------------------------------------------------


def test_sample_serves_decision_points():
    for path in ("esconv.json", "esconv_valid.txt"):
        for record in read_dialogues(SAMPLES / path):
            found = decisions(record)
            supporter = [i for i, t in enumerate(record.turns) if i and t.speaker == SUPPORTER]
            assert [d.target.text for d in found] == [record.turns[i].text for i in supporter]
            assert [len(d.turns) for d in found] == supporter
            assert all(d.target.strategy in STRATEGIES for d in found)
            past = [t for d in found for t in d.turns if t.speaker == SUPPORTER]
            assert all(turn.strategy in STRATEGIES for turn in past)
            assert all(d.emotion in EMOTIONS and d.situation for d in found)


@pytest.mark.parametrize(
    ("survey", "found"),
    [
        ({"seeker": {"initial_emotion_intensity": "5", "final_emotion_intensity": "2"}}, (5, 2)),
        ({"seeker": {"initial_emotion_intensity": "4"}}, (4, None)),
        ({}, (None, None)),
    ],
)
def test_intensities_are_those_of_the_survey(tmp_path, survey, found):
    (tmp_path / "ESConv.json").write_text(json.dumps([dialogue(survey_score=survey)] * 10))
    assert ESConv(str(tmp_path)).records("train")[0].intensities == found


def test_feedback_reaches_the_turns_that_it_rates(tmp_path):
    item = dialogue()
    rated = {"speaker": "seeker", "annotation": {"feedback": "2"}, "content": "No.\n"}
    item["dialog"] += [item["dialog"][1], rated, item["dialog"][1]]
    (tmp_path / "ESConv.json").write_text(json.dumps([item] * 10))
    (record, *_) = ESConv(str(tmp_path)).records("train")
    assert [d.feedback for d in decisions(record)] == [2, 2, None]
    assert [d.query for d in decisions(record)] == ["Hi", "", "No."]  # a row of two, then one


def test_decision_points_of_the_real_files(zoo_data):
    data = ESConv(str(zoo_data / "esconv"))
    found = {s: [decisions(record) for record in data.records(s)] for s in SPLITS}
    assert [sum(map(len, found[s])) for s in SPLITS] == [12271, 2621, 2801]
    rows = [d for s in SPLITS for ds in found[s] for d in ds if not d.query]
    assert len(rows) == 2080 + 465 + 506  # supporter turns right after another one
    assert all(d.target.strategy in STRATEGIES for d in rows)
