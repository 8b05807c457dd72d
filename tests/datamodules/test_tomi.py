"""ToMi and its belief tracker."""

import re
import shutil
import zipfile
from collections import Counter

import pytest

from datamodules import ToMi
from datamodules import belief_tracker as belief
from datamodules.files import SAMPLES
from datamodules.tomi import locate, read_questions

STORY = [
    "Ann entered the hall.",
    "Bob entered the hall.",
    "The key is in the tin.",
]


def beliefs(*more: str) -> dict[str, str]:
    story = belief.track([*STORY, *more])
    return {
        "Ann": belief.first_order(story, "Ann")[1],
        "Bob": belief.first_order(story, "Bob")[1],
        "Ann>Bob": belief.second_order(story, "Ann", "Bob")[1],
        "Bob>Ann": belief.second_order(story, "Bob", "Ann")[1],
    }


MOVE, LEAVE, BACK = "Ann moved the key to the jar.", "Bob exited the hall.", "Bob entered the hall."


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], "tin tin tin tin"),
        ([MOVE], "jar jar jar jar"),
        ([MOVE, LEAVE], "jar jar jar jar"),
        ([LEAVE, MOVE], "jar tin tin tin"),
        ([LEAVE, BACK, MOVE], "jar jar jar jar"),
        ([LEAVE, MOVE, BACK], "jar jar jar jar"),
        ([LEAVE, "Bob entered the attic.", MOVE], "jar tin tin tin"),
        ([LEAVE, MOVE, "Cy entered the attic."], "jar tin tin tin"),
        # ToMi's rule: a third agent in the room, or a return nobody sees, informs both.
        ([LEAVE, MOVE, "Cy entered the hall."], "jar tin jar jar"),
        (["Cy entered the hall.", "Cy exited the hall.", LEAVE, MOVE], "jar tin jar jar"),
        ([LEAVE, MOVE, "Ann exited the hall.", BACK], "jar jar jar jar"),
        ([LEAVE, BACK, LEAVE, MOVE], "jar tin tin tin"),
    ],
)
def test_tracker(events, expected):
    names = ("Ann", "Bob", "Ann>Bob", "Bob>Ann")
    assert beliefs(*events) == dict(zip(names, expected.split(), strict=True))


def test_trace_wording():
    story = belief.track([*STORY, LEAVE, MOVE])
    start = "The key was in the tin at the beginning."
    assert belief.memory(story) == (start, "tin")
    left = "Bob left before Ann moved it to the jar"
    assert (
        belief.first_order(story, "Bob")[0]
        == f"{start} {left}, so Bob still believes it is in the tin."
    )
    assert belief.second_order(story, "Ann", "Bob")[0] == (
        f"{start} {left}, so Ann thinks that Bob still believes it is in the tin."
    )
    assert (
        belief.reality(story)[0] == f"{start} Ann moved it to the jar, so it is really in the jar."
    )


def test_sample_covers_all_kinds():
    data = ToMi()
    records = data.records("train")
    assert len(records) == 24
    assert sorted(r.id for r in data.records("test")) == sorted(r.id for r in records)
    kinds = Counter(record.kind for record in records)
    assert kinds["memory"] == kinds["reality"] == 4
    assert kinds["false_belief"] == 6
    assert kinds["true_belief"] == 10
    assert data.disagreements["train"] == 0
    for record in records:
        assert re.search(rf"\b{record.answer}\b[^.]*\.$", record.thought)
        assert not re.search(r"\d", record.query)
        assert record.query.endswith("?")
    assert sorted(r.id for r in records) != [r.id for r in records]


def test_thought_never_depends_on_the_answer(tmp_path):
    text = (SAMPLES / "tomi.txt").read_text(encoding="utf-8")
    (tmp_path / "train.txt").write_text(re.sub(r"\t\w+\t", "\tnowhere\t", text), encoding="utf-8")
    shutil.copy(SAMPLES / "tomi.trace", tmp_path / "train.trace")
    honest = [triple.thought for triple, _ in read_questions(SAMPLES / "tomi.txt")]
    assert [triple.thought for triple, _ in read_questions(tmp_path / "train.txt")] == honest


def test_contradicted_questions_are_left_out_of_training_only(tmp_path):
    text = (SAMPLES / "tomi.txt").read_text(encoding="utf-8")
    changed = text.replace("searches for the kite?\ttin_box", "searches for the kite?\thamper")
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").write_text(changed, encoding="utf-8")
        shutil.copy(SAMPLES / "tomi.trace", tmp_path / f"{split}.trace")
    data = ToMi(str(tmp_path))
    assert len(data.records("train")) == 22
    assert len(data.records("test")) == 24
    assert data.disagreements == {"train": 2, "test": 2}


def broken(tmp_path, text=None, trace=None):
    text = text or (SAMPLES / "tomi.txt").read_text(encoding="utf-8")
    trace = trace or (SAMPLES / "tomi.trace").read_text(encoding="utf-8")
    (tmp_path / "train.txt").write_text(text, encoding="utf-8")
    (tmp_path / "train.trace").write_text(trace, encoding="utf-8")
    return lambda: ToMi(str(tmp_path)).records("train")


QUESTION = "1 The key is in the tin.\n2 Where is the key really?"
TRACE = "enter_agent_0,reality,true_belief\n"


@pytest.mark.parametrize(
    ("text", "trace", "parts"),
    [
        (f"{QUESTION}\ttin\t1\n", "x,realty,y\n", ["trace:1", "question type", "'reality'"]),
        (f"{QUESTION}\ttin\t1\n", "x,memory,y\n", ["trace:1", "'memory'", "reality"]),
        (f"{QUESTION}\ttin\t1\n", TRACE * 2, ["trace:2", "more lines than train.txt"]),
        (f"{QUESTION}\ttin\t1\n" * 2, TRACE, ["train.txt:4", "train.trace has no line"]),
        (f"{QUESTION}\t\t1\n", TRACE, ["train.txt:2", "'answer'"]),
        ("The key is in the tin.\n", TRACE, ["train.txt:1", "line number"]),
        ("1 The key is lost.\n2 Where is the key really?\ttin\t1\n", TRACE, ["txt:2", "lost"]),
        ("1 Ann entered the hall.\n2 Where is it?\ttin\t1\n", TRACE, ["txt:2", "no sentence"]),
        ("1 The key is in the tin.\n2 Why?\ttin\t1\n", TRACE, ["train.txt:2", "'Why?'"]),
        (
            "1 The key is in the tin.\n2 Where will Ann look for the key?\ttin\t1\n",
            TRACE,
            ["train.txt:2", "Ann never sees the key"],
        ),
    ],
)
def test_bad_files(refused, tmp_path, text, trace, parts):
    refused(broken(tmp_path, text, trace), *parts)


def test_missing_files(refused, tmp_path):
    refused(lambda: ToMi(str(tmp_path)).records("val"), "fb_all_val.txt", "holds nothing")
    shutil.copy(SAMPLES / "tomi.txt", tmp_path / "val.txt")
    refused(lambda: ToMi(str(tmp_path)).records("val"), "val.trace", "no such file")


def test_zip_reads_as_the_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "tomi_balanced_story_types.zip", "w") as archive:
        for suffix in ("txt", "trace"):
            archive.write(SAMPLES / f"tomi.{suffix}", f"folder/fb_all_test.{suffix}")
    for path in (tmp_path, tmp_path / "tomi_balanced_story_types.zip"):
        data = ToMi(str(path))
        assert len(data.records("test")) == 24
        assert data.records("test")[0].id.startswith("fb_all_test.txt:")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_real_files(zoo_data, split):
    pairs = list(read_questions(locate(zoo_data / "tomi", split)))
    assert len(pairs) == 5994
    assert [triple.id for triple, conclusion in pairs if triple.answer != conclusion] == []
    for triple, conclusion in pairs:
        last = re.search(r"\b(\w+)[^.\w]*(?: at the beginning)?\.$", triple.thought)
        assert last is not None
        assert last[1] == conclusion
    data = ToMi(str(zoo_data / "tomi"))
    assert len(data.records(split)) == 5994
    kinds = Counter(triple.kind for triple, _ in pairs)
    assert kinds["memory"] == kinds["reality"] == 999
    assert kinds["false_belief"] + kinds["true_belief"] == 3996
