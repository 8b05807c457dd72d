"""LaMsS' doubt U: its value, its threshold, its scores, and that it knows what it knows."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.lamss import lamss_world
from methods.lamss.lamss_sequences import OPEN, STOP, Make

import zoo
from zoo.records import Triple

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.fidelity("lamss", 5)
def test_the_end_of_an_answer_has_no_part_in_the_doubt_about_its_tokens(make: Make) -> None:
    """An answer that is its end alone has no other token."""
    from zoo.methods.lamss.decoding import Graded

    module = make("LaMsS", "tiny-llama")
    for ids, doubts, said in (
        ([65, 66, STOP], [0.25, 0.75, 1.0], [0.25, 0.75]),
        ([65, 66], [0.25, 0.75], [0.25, 0.75]),
        ([STOP], [1.0], [1.0]),
    ):
        answer = module._answer(Graded(ids, doubts), 0.5)
        mean = sum(said) / len(said)
        expected = {"tokens": mean, "max": max(said), "last": said[-1], "both": (0.5 + mean) / 2}
        assert answer.skepticism == {"response": 0.5, **expected}
        assert [doubt for _, doubt in answer.tokens] == doubts  # it is shown


# -- 5: U --------------------------------------------------------------------------------------


@pytest.mark.fidelity("lamss", 5)
@pytest.mark.parametrize("num_levels", [2, 5, 10])
def test_expected_level(num_levels: int) -> None:
    """U is in [0, 1], v_j when P is one-hot, and equal to the sum written out."""
    from zoo.methods.lamss.decoding import expected_level

    ids = list(range(20, 20 + num_levels))
    for j in range(num_levels):
        logits = torch.full((1, 40), 1e4)  # other tokens play no part
        logits[0, ids] = -1e4
        logits[0, ids[j]] = 1e4
        u, hard = expected_level(logits, ids)
        assert u.item() == pytest.approx(j / (num_levels - 1), abs=1e-6)
        assert hard.item() == j
    for scale in (0.1, 1.0, 30.0, 1e4):
        logits = torch.randn(200, 40) * scale
        u, _ = expected_level(logits, ids)
        assert bool(((u >= 0) & (u <= 1)).all())
        chances = logits[:, ids].double().softmax(1)
        expected = sum(chances[:, j] * j / (num_levels - 1) for j in range(num_levels))
        torch.testing.assert_close(u.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.fidelity("lamss", 5)
def test_threshold_ends(make: Make, shape: str) -> None:
    """eps just above 1 answers everything, eps = 0 nothing; else U < eps decides."""
    from zoo.methods.lamss.metrics import EVERYTHING, willing

    module = make("LaMsS", shape, max_answer_tokens=3)
    answers = module.answer(OPEN)
    doubts = [next(iter(answer.skepticism.values())) for answer in answers]
    assert list(answers[0].skepticism)[0] == "response"
    assert all(0 <= u <= 1 for answer in answers for u in answer.skepticism.values())
    for eps, rate in ((EVERYTHING, 1.0), (0.0, 0.0)):
        assert willing([*doubts, 0.0, 1.0], [True] * 5, eps).rate == rate
    module.eps = sorted(doubts)[1]
    assert [module.willing(a) for a in answers] == [u < module.eps for u in doubts]


# -- 6: metrics --------------------------------------------------------------------------------


@pytest.mark.fidelity("lamss", 6)
@pytest.mark.parametrize("ties", [False, True])
def test_sweep_and_reference_scores(ties: bool) -> None:
    """Answer rate never falls with eps; AUC and AP are scikit-learn's, ties included."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    from zoo.methods.lamss.metrics import EVERYTHING, selective_scores, willing

    rng = random.Random(0)
    for size in (2, 7, 60):
        doubts = [rng.randrange(5) / 4 if ties else rng.random() for _ in range(size)]
        right = [True, False] + [rng.random() > u for u in doubts[2:]]
        scores = selective_scores(doubts, right, 0.5)
        minus = [-u for u in doubts]
        assert scores["auc"] == pytest.approx(roc_auc_score(right, minus))
        assert scores["ap"] == pytest.approx(average_precision_score(right, minus))
        edges = [0.0, *sorted({*doubts}), EVERYTHING]
        rates = [willing(doubts, right, eps).rate for eps in edges]
        assert rates == sorted(rates)
        assert rates[0] == 0
        assert rates[-1] == 1
        given = [r for u, r in zip(doubts, right, strict=True) if u < 0.5]
        assert scores["answer_rate"] == len(given) / size
        assert scores["willing_accuracy"] == (sum(given) / len(given) if given else 0.0)


# -- 7 and 8: the world of facts ---------------------------------------------------------------


def answers_in(module: Any, records: Sequence[Triple]) -> tuple[list[float], list[bool]]:
    """Return U and whether the answer is right, for each question."""
    from zoo.methods.lamss.questions import right

    found = module.answer(records)
    doubts = [next(iter(answer.skepticism.values())) for answer in found]
    return doubts, [right(r, answer.text) for r, answer in zip(records, found, strict=True)]


def skeptical(world: lamss_world.World, steps: int, **options: Any) -> Any:
    backbone = zoo.Backbone(str(world.folder))
    module = zoo.LaMsS(backbone=backbone, max_answer_tokens=2, padding_free=False, **options)
    return lamss_world.fine_tune(module, world.train, steps)


def plain(world: lamss_world.World, steps: int) -> Any:
    """Return plain fine-tuning on the same questions; its doubt is the sequence's chance."""
    module = zoo.ConfidentSFT(
        backbone=zoo.Backbone(str(world.folder)),
        confidence=["sequence"],
        max_new_tokens=2,
        padding_free=False,
    )
    return lamss_world.fine_tune(module, world.train, steps)


def known_facts_are_doubted_less(world: lamss_world.World, doubts: list[float]) -> None:
    by_kind = lamss_world.mean_by_kind(world.test, doubts)
    ordered = [by_kind[f"seen_{times}"] for times in lamss_world.TIMES]
    assert ordered == sorted(ordered, reverse=True), by_kind
    assert ordered[0] > ordered[-1] + 0.3, by_kind
    assert by_kind["unreal"] > (ordered[0] + ordered[-1]) / 2, by_kind


def accuracies_agree(right: list[bool], other: list[bool]) -> bool:
    """Return whether two accuracies differ by less than two errors of their difference."""
    n, expected = len(right), sum(other) / len(other)
    error = math.sqrt(2 * expected * (1 - expected) / n)
    return abs(sum(right) / n - expected) < 2 * error


@pytest.mark.fidelity("lamss", 7)
@pytest.mark.fidelity("lamss", 8)
def test_knows_what_it_knows(tmp_path: Path) -> None:
    """AUC well above chance on facts it was not trained to answer; accuracy does not fall.

    U falls with how often a fact was told, and is high for what was never mentioned. Beside plain
    fine-tuning for as long: at least its AUC by sequence chance, and its accuracy. So it is in this
    small world; a larger one measured the opposite: `benchmarks/results/2026-11-30-lamss.md`.
    """
    from zoo.methods.lamss.metrics import auc

    world = lamss_world.make(tmp_path / "world", "tiny-llama", num_facts=1200, steps=200)
    module = skeptical(world, 100)
    doubts, right = answers_in(module, world.test)
    assert auc(doubts, right) > 0.7
    known_facts_are_doubted_less(world, doubts)

    before = zoo.ConfidentSFT(
        backbone=zoo.Backbone(str(world.folder)), confidence=["sequence"], max_new_tokens=2
    )
    before.configure_model()
    _, right_before = answers_in(before.eval(), world.test)
    assert sum(right) / len(right) > sum(right_before) / len(right) - 0.06

    theirs, their_right = answers_in(plain(world, 100), world.test)
    assert auc(doubts, right) >= auc(theirs, their_right)
    assert accuracies_agree(right, their_right)


@pytest.mark.slow
@pytest.mark.fidelity("lamss", 7)
@pytest.mark.fidelity("lamss", 8)
@pytest.mark.parametrize("shape", ["tiny-llama", "tiny-qwen2"])
def test_beats_plain_fine_tuning(tmp_path: Path, shape: str) -> None:
    """Beside plain fine-tuning for as long: at least its AUC by sequence chance, and its accuracy.

    Accuracies differ by less than two standard errors of their difference.
    """
    from zoo.methods.lamss.metrics import auc

    world = lamss_world.make(tmp_path / "world", shape, num_facts=2000, steps=300)
    doubts, right = answers_in(skeptical(world, 200), world.test)
    known_facts_are_doubted_less(world, doubts)
    theirs, their_right = answers_in(plain(world, 200), world.test)
    assert auc(doubts, right) > 0.8
    assert auc(doubts, right) >= auc(theirs, their_right)
    assert accuracies_agree(right, their_right)
