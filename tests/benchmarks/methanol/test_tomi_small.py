"""The trial on ToMi with a small base model: its texts, rules, names of items, one tiny run."""

from __future__ import annotations

import json
import random
import shutil

import pytest

from benchmarks.methanol import base_model, tomi_base, tomi_small
from datamodules import belief_tracker
from datamodules.files import SAMPLES

AWAY = (
    "Mia entered the hall. Owen entered the hall. Jack entered the attic. The pear is in the "
    "redbox. Owen exited the hall. Mia moved the pear to the bluebox. Jack entered the hall."
)


def asked():
    return tomi_base.questions(None, "train")


def test_words_are_one_token_and_answers_stand_in_the_story():
    for each in asked():
        assert "_" not in each.query + each.thought + each.answer
        assert f" {each.answer}." in each.query
    reports = tomi_base.Reports(sorted({tomi_base.story_of(each) for each in asked()}))
    words = tomi_base.tokenizer(asked(), reports)
    for group in reports.groups:
        assert len(group) >= 4
        assert all(len(words.tokenize(f" {word}")) == 1 for word in group)


def test_facts_say_who_was_where_and_where_it_was():
    told = {tomi_base.facts(random.Random(i), AWAY) for i in range(40)}
    where = " When it went to the bluebox, Mia was there, Owen was away, "
    where += "Jack was away and came later."
    assert all(where in text for text in told)
    ways = {text.replace(where, "") for text in told}
    assert ways == {
        " From the redbox it went to the bluebox.",
        " It was in the redbox at first.",
        " It is in the bluebox now.",
    }


def test_stories_of_the_base_model_have_other_words_and_no_beliefs():
    stories = sorted({tomi_base.story_of(each) for each in asked()})
    reports, rng = tomi_base.Reports(stories), random.Random(0)
    told = [reports(rng) for _ in range(100)]
    assert not any(word in f"{s}{f}" for s, f in told for word in ("think", "believe", "look", "?"))
    assert len({story for story, _ in told} - set(stories)) > 80
    kept = {sum(word in " ".join(reports.groups[0]) for word in s.split()) for s in stories}
    assert {sum(word in " ".join(reports.groups[0]) for word in s.split()) for s, _ in told} <= kept
    for story, _ in told:  # exchanged one for one: the story still holds together
        belief_tracker.track(tomi_base.sentences(story))


def test_tracker_is_always_right_and_the_present_place_for_no_false_belief():
    questions = asked()
    assert all(tomi_small.concluded(each) == each.answer for each in questions)
    found = tomi_small.scores(questions, [tomi_small.present_place(each) for each in questions])
    metrics = found["metrics"]
    assert metrics["false_belief"] == 0
    assert metrics["true_belief"] == metrics["reality"] == 1


def test_questions_of_a_story_share_the_first_part_of_their_name():
    questions = sorted(asked(), key=lambda each: each.kind)
    hits = tomi_small.scores(questions, [each.answer for each in questions])["hits"]
    names = [name for kind in tomi_small.KINDS for name in hits[kind]]
    assert len(names) == len(set(names)) == len(questions)
    groups = {name.partition("/")[0] for name in names}
    assert len(groups) == len({tomi_base.story_of(each) for each in questions})
    assert set(hits["belief"]) == set(hits["false_belief"]) | set(hits["true_belief"])


def test_as_many_of_each_kind_are_drawn():
    kinds = [each.kind for each in tomi_small.drawn(asked(), 2)]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(tomi_small.KINDS, 2)


def test_a_run_is_kept_and_resumed(tmp_path, monkeypatch, capsys):
    for split in ("train", "test"):
        for ending in ("txt", "trace"):
            (tmp_path / "tomi").mkdir(exist_ok=True)
            shutil.copy(SAMPLES / f"tomi.{ending}", tmp_path / "tomi" / f"fb_all_{split}.{ending}")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(base_model, "SIZE", (16, 32))
    monkeypatch.setattr(base_model, "BATCH", 2)
    monkeypatch.setattr(tomi_base, "ROUNDS", (1,))
    path = tmp_path / "rows.json"
    given = ["--json", str(path), "--base", str(tmp_path / "base"), "--seeds", "0"]
    given += ["--steps", "1", "--questions", "2"]
    tomi_small.main(given)
    entries = json.loads(path.read_text())
    assert [e["row"] for e in entries] == list(tomi_small.ROWS)
    assert all(len(e["hits"]["belief"]) == 4 for e in entries)
    assert [e["row"] for e in entries if "thoughts" in e["metrics"]] == list(tomi_small.ROWS[3:])
    assert "| tracker | 0 | 0 | 1 |" in capsys.readouterr().out
    monkeypatch.setattr(tomi_small, "run_row", lambda *_, **__: pytest.fail("it was there"))
    tomi_small.main(given)
