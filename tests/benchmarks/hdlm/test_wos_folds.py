"""WoS by cross-validation: folds, what the model reads, rules, whole rows, paired differences."""

import json
from collections import Counter

import numpy as np
import pytest
from scipy import stats

import datamodules
from benchmarks.hdlm import abstracts, from_scratch, wos_folds
from zoo.records import LabelPath, Taxonomy

SAMPLE = datamodules.WoS()
RECORDS = [record for split in ("train", "val", "test") for record in SAMPLE.records(split)]
TAXONOMY = Taxonomy({(): ("a", "b"), ("a",): ("x", "y"), ("b",): ("z",)})


def record(text, *labels, name="r"):
    """Return a record of the small taxonomy."""
    return LabelPath(text, labels, TAXONOMY, name)


def test_every_abstract_is_held_out_once_and_paths_are_spread():
    records = [
        record("", *labels, name=str(i))
        for i, labels in enumerate([("a", "x")] * 12 + [("a", "y")] * 7 + [("b", "z")] * 6)
    ]
    folds = [abstracts.fold_of(records, fold) for fold in range(5)]
    assert sorted(r.id for _, held in folds for r in held) == sorted(r.id for r in records)
    for train, held in folds:
        assert len(held) == 5
        assert [r.id for r in records if r in train or r in held] == [r.id for r in records]
        assert not {r.id for r in train} & {r.id for r in held}
        sizes = Counter(r.labels for r in held)
        assert sizes["a", "x"] in (2, 3)
        assert sizes["a", "y"] in (1, 2)
        assert sizes["b", "z"] in (1, 2)
    assert abstracts.fold_of(records, 1) == folds[1]


def test_content_words_are_neither_rare_nor_common():
    train = [record(f"The cell, the CELL {i}", "a", "x") for i in range(2)]
    train += [record("the once" if i else "the", "a", "x") for i in range(2)]
    train += [record("the", "a", "x")] * 16
    assert abstracts.content_words(train) == {"cell"}


def test_the_model_reads_kept_words_and_one_word_for_a_class():
    kept = abstracts.content_words(RECORDS)
    found = abstracts.shortened(RECORDS, kept, 5)
    taxonomy = found[0].taxonomy
    for before, after in zip(RECORDS, found, strict=True):
        words = [word for word in abstracts.words_of(before.text) if word in kept]
        assert after.text.split() == words[:5]
        assert after.labels[1] in taxonomy.below(after.labels[:1])
        assert all(label.isalpha() for label in after.labels)
    before = RECORDS[0].taxonomy.children
    assert [len(set(names)) for names in taxonomy.children.values()] == [*map(len, before.values())]


def test_naive_bayes_equals_the_formula():
    train = [record("m m n", "a", "x"), record("n", "a", "y"), record("o o", "b", "z")]
    words = ["m", "o"]
    a, b = (  # prior, then (count + 1) / (words of the class + known words)
        (2 / 3) * (2 + 1) / (4 + 3) * (0 + 1) / (4 + 3),
        (1 / 3) * (0 + 1) / (2 + 3) * (2 + 1) / (2 + 3),
    )
    assert abstracts.counted(train, 0)(words) == ("a" if a > b else "b")
    test = [record("m", "a", "x"), record("o o o", "b", "z"), record("n n", "a", "y")]
    assert abstracts.naive_bayes(train, test) == [["a", "x"], ["b", "z"], ["a", "y"]]


def test_the_most_frequent_area_is_one_of_the_most_frequent_domain():
    train = [record("", *path) for path in [("b", "z")] * 3 + [("a", "x")] * 2 + [("a", "y")] * 2]
    assert abstracts.most_frequent(train, train[:2]) == [["a", "x"]] * 2


def test_differences_are_paired_by_abstract_and_by_fold():
    draws = np.random.default_rng(0)
    scores = draws.integers(0, 2, (2, 3, 20))  # row, fold, abstract
    rows = [
        [
            {"seed": fold, "items": {"joint": {f"{fold}/{i}": int(x) for i, x in enumerate(part)}}}
            for fold, part in enumerate(row)
        ]
        for row in scores
    ]
    sizes, difference, over_abstracts, over_folds = wos_folds.differences(*rows, "joint")
    gap = 100.0 * (scores[0] - scores[1])
    assert (sizes, difference) == ("3, 60", f"{gap.mean():+.1f}")
    for shown, values in ((over_abstracts, gap.flatten()), (over_folds, gap.mean(1))):
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert shown == f"{low:+.1f} to {high:+.1f}"


def test_validation_abstracts_are_training_abstracts_of_the_first_fold(monkeypatch):
    monkeypatch.setenv("ZOO_DATA", "")
    monkeypatch.setattr(datamodules, "WoS", lambda path: SAMPLE)
    (train, test), (less, val) = (wos_folds.read(held, 0) for held in ("test", "val"))
    assert {r.id for r in less} | {r.id for r in val} == {r.id for r in train}
    assert not {r.id for r in val} & {r.id for r in test}


def test_rows_are_run_once_and_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(datamodules, "WoS", lambda path: SAMPLE)
    monkeypatch.setattr(from_scratch, "WIDTH", 16)
    path = tmp_path / "rows.json"
    asked = ["--json", str(path), "--epochs", "1", "--seeds", "1", "3"]
    asked += ["--rows", "naive Bayes", "HdLM", "flat SFT"]
    wos_folds.main(asked)
    entries = json.loads(path.read_text())
    assert [(e["row"], e["seed"]) for e in entries] == [
        *(("naive Bayes", 1), ("naive Bayes", 3)),
        *(("HdLM", 1), ("flat SFT", 1), ("HdLM", 3), ("flat SFT", 3)),
    ]
    for entry in entries:
        for level, metric in wos_folds.LEVELS.items():
            right = entry["items"][level].values()
            assert entry["metrics"][metric] == pytest.approx(np.mean([*right]), abs=1e-4)
    assert not entries[0]["items"]["joint"].keys() & entries[1]["items"]["joint"].keys()
    assert entries[2]["tokens"] == entries[3]["tokens"] > 0
    printed = capsys.readouterr().out
    assert "| flat SFT | 2 | " in printed
    assert "| HdLM - flat SFT | level_1 | 2, " in printed
    monkeypatch.setattr(wos_folds, "run_row", lambda *_: pytest.fail("it was there"))
    wos_folds.main(asked)
