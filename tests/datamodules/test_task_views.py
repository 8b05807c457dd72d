"""One text, two questions."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from datamodules import TaskViews
from datamodules.task_views import HELD_OUT, OPTIONS, WORDINGS
from zoo.errors import InputError


def test_wordings_are_distinct():
    texts = [text for wordings in WORDINGS.values() for text in wordings]
    assert len(set(texts)) == len(texts) == 40


def test_only_the_condition_tells_the_views_apart():
    """Every prompt comes with two answers, under conditions of two views and nothing else."""
    records = TaskViews().records("train")
    by_prompt = defaultdict(list)
    for record in records:
        by_prompt[record.system, record.prompt].append(record)
    assert all(len(pair) == 2 for pair in by_prompt.values())
    for one, other in by_prompt.values():
        assert one.response != other.response
        assert one.task != other.task
        for record in (one, other):
            assert record.condition in WORDINGS[record.task][:-HELD_OUT]
            assert record.system == ""
    assert {record.task for record in records} == set(WORDINGS)
    assert records == TaskViews().records("train")


def test_other_splits_have_seen_and_unseen_wordings():
    records = TaskViews().records("test")
    assert Counter(record.group for record in records) == {
        "seen": len(records) // 2,
        "unseen": len(records) // 2,
    }
    for record in records:
        held = record.condition in WORDINGS[record.task][-HELD_OUT:]
        assert held == (record.group == "unseen")


def test_options_hold_the_answer():
    places = Counter()
    for record in TaskViews(place="options").records("test"):
        listed = record.system.split("\n[")[1].removesuffix("; ]").split("; ")
        assert len(set(listed)) == len(listed) <= OPTIONS
        assert record.response in listed
        places[listed.index(record.response)] += 1
    assert len(places) == OPTIONS


def test_held_out_view():
    data = TaskViews(held_out="clinc150 intent")
    assert {r.task for r in data.records("train")} == set(WORDINGS) - {"clinc150 intent"}
    groups = {(r.task == "clinc150 intent"): r.group for r in data.records("test")}
    assert groups[True] == "unseen_task"
    assert {r.group for r in data.records("test")} == {"seen", "unseen", "unseen_task"}


def test_one_source():
    """The records of one source are those that both give, without the other's."""
    alone = TaskViews(sources=["clinc150"]).records("train")
    both = TaskViews().records("train")
    assert alone == [r for r in both if r.task.startswith("clinc150")]


def test_shuffled():
    plain, mixed = (TaskViews(shuffle_conditions=flag).records("train") for flag in (False, True))
    assert [r.prompt for r in plain] == [r.prompt for r in mixed]
    assert Counter(r.condition for r in plain) == Counter(r.condition for r in mixed)
    assert any(r.condition not in WORDINGS[r.task] for r in mixed)  # a condition of another view


def test_a_group_goes_with_its_shuffled_condition():
    data = TaskViews(held_out="clinc150 intent", shuffle_conditions=True)
    held = {text for wordings in WORDINGS.values() for text in wordings[-HELD_OUT:]}
    for record in data.records("test"):
        group = "unseen" if record.condition in held else "seen"
        if record.condition in WORDINGS["clinc150 intent"]:
            group = "unseen_task"
        assert record.group == group


def test_bad_values():
    with pytest.raises(InputError, match="data.place: 'option'; did you mean 'options'"):
        TaskViews(place="option")
    with pytest.raises(InputError, match="held_out is 'esconv'"):
        TaskViews(held_out="esconv")
    with pytest.raises(InputError, match="sources is 'clinc'; did you mean 'clinc150'"):
        TaskViews(sources=["clinc"])
    with pytest.raises(InputError, match="held_out is 'esconv problem'"):
        TaskViews(sources=["clinc150"], held_out="esconv problem")


def test_real_files(zoo_data: Path):
    data = TaskViews(str(zoo_data), intents=3, max_texts=50)
    train = data.records("train")
    assert len(train) == 2 * 2 * 50
    assert len(data.records("test")) == 2 * 2 * 2 * 50
    names = defaultdict(set)
    for record in train:
        names[record.task].add(record.response)
    assert len(names["clinc150 domain"]) == 10
    assert len(names["clinc150 intent"]) <= 30
    train_texts = {record.prompt for record in train}
    assert not train_texts & {record.prompt for record in data.records("test")}
