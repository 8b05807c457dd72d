"""The evaluation of support replies in one call, and its intervals."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from zoo.errors import InputError
from zoo.metrics.text import bleu, distinct, meteor, rouge_l, tokenize
from zoo.support.labels import ACTS, STRATEGIES
from zoo.support.metrics import SupportAnswer, SupportScores, support_scores
from zoo.support.strategy_metrics import count_pairs, depth_bins, strategy_scores

WORDS = ("i", "you", "feel", "sad", "work", "tired", "hear", "that", "sounds", "hard", "what")


def answers(dialogues: int = 12, seed: int = 0) -> list[SupportAnswer]:
    rng = random.Random(seed)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(3, 9))) + "."

    return [
        SupportAnswer(
            dialogue=f"d{d}",
            depth=depth,
            gold_strategy=rng.choice(STRATEGIES),
            gold_reply=text(),
            strategy=rng.choice([*STRATEGIES, "no idea"]),
            reply=f"[Question] {text()}",
            nll=rng.random() * 20,
            tokens=rng.randint(1, 9),
        )
        for d in range(dialogues)
        for depth in range(rng.randint(6, 12))
    ]


def test_scores_are_those_of_the_parts() -> None:
    found = answers()
    scores = support_scores(found, draws=0)
    gold = [a.gold_strategy for a in found]
    told = ["Others" if a.strategy == "no idea" else a.strategy for a in found]
    for name, value in strategy_scores(count_pairs(gold, told)).items():
        assert scores[name] == pytest.approx(float(value))
    unread = sum(a.strategy == "no idea" for a in found)
    assert scores["failed"] == pytest.approx(100 * unread / len(found))
    references = [tokenize(a.gold_reply) for a in found]
    replies = [tokenize(a.reply.removeprefix("[Question] ")) for a in found]
    for n in (1, 2, 4):
        assert scores[f"bleu_{n}"] == pytest.approx(bleu(references, replies, n))
    for n in (1, 2):
        assert scores[f"distinct_{n}"] == pytest.approx(distinct(replies, n))
    pairs = list(zip(references, replies, strict=True))
    assert scores["rouge_l"] == pytest.approx(np.mean([rouge_l(r, h) for r, h in pairs]))
    assert scores["meteor"] == pytest.approx(np.mean([meteor(r, h) for r, h in pairs]))
    assert scores["length"] == pytest.approx(np.mean([len(words) for words in replies]))
    nll, tokens = sum(a.nll for a in found), sum(a.tokens for a in found)
    assert scores["perplexity"] == pytest.approx(math.exp(nll / tokens))
    assert (scores["answers"], scores["dialogues"]) == (len(found), 12)
    assert not [name for name in scores if name.endswith(("low", "high"))]


def test_early_and_late_turns() -> None:
    found = answers()
    scores = support_scores(found, draws=0)
    for title, inside in (("early", range(7)), ("late", range(7, 99))):
        part = support_scores([a for a in found if a.depth in inside], draws=0, bins={})
        assert scores[f"{title}/answers"] == part["answers"]
        for name in ("accuracy", "proficiency", "bias", "bleu_2", "rouge_l", "distinct_2"):
            assert scores[f"{title}/{name}"] == pytest.approx(part[name])
    thirds = support_scores(found, draws=0, bins=depth_bins(4, 8))
    assert "0-3/accuracy" in thirds
    assert "early/accuracy" not in thirds
    assert sum(thirds[f"{title}/answers"] for title in depth_bins(4, 8)) == len(found)


def test_intervals_hold_the_score() -> None:
    scores = support_scores(answers(20), draws=200, bins={})
    for name in ("accuracy", "weighted_f1", "failed", "rouge_l", "meteor", "cider", "distinct_1"):
        assert scores[f"{name}/low"] < scores[name] < scores[f"{name}/high"]
    for name in ("bleu_2", "proficiency", "bias", "distinct_2"):
        assert scores[f"{name}/low"] < scores[f"{name}/high"]


def test_intervals_are_over_dialogues() -> None:
    """A dialogue that says the same thing ten times is one observation, not ten."""
    rng = random.Random(0)
    right = [rng.random() < 0.5 for _ in range(40)]
    once = [
        SupportAnswer(f"d{i}", 0, "Question", "hello", "Question" if ok else "Information", "hello")
        for i, ok in enumerate(right)
    ]
    tenfold = [replace(a, depth=k) for a in once for k in range(10)]
    apart = [replace(a, dialogue=f"{a.dialogue}-{a.depth}") for a in tenfold]
    widths = []
    for found in (once, tenfold, apart):
        scores = support_scores(found, draws=400, bins={})
        widths.append(scores["accuracy/high"] - scores["accuracy/low"])
    share = sum(right) / 40
    normal = 2 * 1.96 * 100 * math.sqrt(share * (1 - share) / 40)
    assert widths[0] == pytest.approx(normal, rel=0.15)
    assert widths[1] == pytest.approx(widths[0])
    assert widths[2] == pytest.approx(normal / math.sqrt(10), rel=0.15)


def test_the_interval_of_distinct_is_a_jackknife() -> None:
    found = answers(6)
    scores = support_scores(found, bins={}, draws=1)
    without = []
    for d in range(6):
        kept = [a for a in found if a.dialogue != f"d{d}"]
        without.append(support_scores(kept, draws=0, bins={})["distinct_2"])
    spread = math.sqrt(5 / 6 * sum((x - np.mean(without)) ** 2 for x in without))
    assert scores["distinct_2/high"] == pytest.approx(scores["distinct_2"] + 1.96 * spread)
    assert scores["distinct_2/low"] == pytest.approx(scores["distinct_2"] - 1.96 * spread)


def test_the_seed_fixes_the_draws() -> None:
    found = answers(8)
    one, same, other = (support_scores(found, draws=50, seed=s) for s in (0, 0, 1))
    assert one == same != other


def test_parts_that_data_or_model_lack_are_left_out() -> None:
    found = answers(4)
    plain = [replace(a, gold_strategy="", tokens=0) for a in found]  # EmpatheticDialogues
    scores = support_scores(plain, draws=0)
    assert not {"accuracy", "bias", "failed", "perplexity"} & set(scores)
    assert "bleu_2" in scores
    assert "accuracy" not in support_scores([replace(a, strategy="") for a in found], draws=0)


def test_acts_instead_of_strategies() -> None:
    found = [replace(a, gold_strategy="inform", strategy="Informing") for a in answers(3)]
    scores = support_scores(found, labels=ACTS, draws=0)
    assert scores["accuracy"] == 100
    assert scores["proficiency"] == 100 / 4


def test_bad_answers_are_refused() -> None:
    found = answers(2)
    with pytest.raises(ValueError, match="no answers"):
        support_scores([])
    with pytest.raises(ValueError, match="answer 1 has no gold strategy"):
        support_scores([found[0], replace(found[1], gold_strategy="")])
    with pytest.raises(InputError, match=r"d0: no support strategy 'Asking'"):
        support_scores([replace(found[0], gold_strategy="Asking")])


def test_an_alias_in_gold_is_its_name() -> None:
    found = [replace(a, gold_strategy="Questions", strategy="Question") for a in answers(2)]
    assert support_scores(found, draws=0)["accuracy"] == 100


def test_one_dialogue_and_empty_replies() -> None:
    (first, *_) = answers(1)
    scores = support_scores([replace(first, reply="")], draws=10)
    assert scores["rouge_l"] == scores["bleu_2"] == scores["distinct_1"] == scores["length"] == 0
    assert all(math.isfinite(value) for value in scores.values())


def test_one_dialogue_has_no_interval() -> None:
    """Of several dialogues too, a bin that holds decisions of one alone has none."""
    found = answers(2)
    alone = support_scores([a for a in found if a.dialogue == "d0"], draws=50)
    assert not [name for name in alone if name.endswith(("/low", "/high"))]
    assert alone["dialogues"] == 1
    most = support_scores([a for a in found if a.dialogue == "d0" or a.depth < 7], draws=50)
    assert {"rouge_l/low", "early/distinct_2/high"} <= set(most)
    assert most["late/dialogues"] == 1
    assert not [name for name in most if name.startswith("late/") and name.count("/") > 1]


def test_the_metric_gives_the_scores_of_all_answers() -> None:
    """Intervals too; an answer that comes twice counts once."""
    found = answers(5)
    names = [f"{a.dialogue}/{a.depth}" for a in found]
    score = SupportScores(draws=20)
    score.update(found[:20], names[:20])
    score.update(found[10:], names[10:])
    assert score.compute() == support_scores(found, draws=20)
    score.reset()
    assert score([]) == {}
