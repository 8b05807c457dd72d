"""Where our metrics and torchmetrics' agree, and both numbers where they do not."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryCalibrationError,
    MulticlassAccuracy,
    MulticlassF1Score,
)
from torchmetrics.retrieval import RetrievalMRR, RetrievalNormalizedDCG, RetrievalRecall
from torchmetrics.text import BLEUScore, Perplexity, ROUGEScore

import zoo.metrics
from zoo.support.labels import STRATEGIES

REPLIES = ["i feel very sad", "you talked to him"]
REFERENCES = ["i feel sad today", "have you talked to your friend"]


def test_bleu() -> None:
    """The same, except where an order has no match."""
    ours = zoo.metrics.CorpusBleu(2)(REPLIES, REFERENCES)
    theirs = BLEUScore(n_gram=2)(REPLIES, [[text] for text in REFERENCES])
    assert float(ours) == pytest.approx(100 * float(theirs), abs=1e-4)
    ours = zoo.metrics.CorpusBleu(4)(REPLIES, REFERENCES)
    theirs = BLEUScore(n_gram=4)(REPLIES, [[text] for text in REFERENCES])
    smoothed = BLEUScore(n_gram=4, smooth=True)(REPLIES, [[text] for text in REFERENCES])
    assert float(ours) == pytest.approx(30.472, abs=1e-3)
    assert float(theirs) == float(smoothed) == 0


def test_rouge_l() -> None:
    """The same at beta = 1 without punctuation; recall weighs more here."""
    theirs = ROUGEScore(rouge_keys="rougeL")(REPLIES, REFERENCES)
    ours = zoo.metrics.RougeL(beta=1.0)(REPLIES, REFERENCES)
    assert float(ours) == pytest.approx(100 * float(theirs["rougeL_fmeasure"]), abs=1e-4)
    assert float(zoo.metrics.RougeL()(REPLIES, REFERENCES)) == pytest.approx(66.456, abs=1e-3)
    assert 100 * float(theirs["rougeL_fmeasure"]) == pytest.approx(67.5)
    dotted = ["yes ."], ["yes !"]
    assert float(zoo.metrics.RougeL(beta=1.0)(*dotted)) == pytest.approx(50)
    assert float(ROUGEScore(rouge_keys="rougeL")(*dotted)["rougeL_fmeasure"]) == 1


def test_perplexity() -> None:
    """The same number, from logits and from their sums."""
    logits, labels = torch.randn(2, 5, 11), torch.randint(0, 11, (2, 5))
    labels[1, 3:] = -100
    theirs = Perplexity(ignore_index=-100)(logits, labels)
    nll = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), labels, ignore_index=-100, reduction="none"
    )
    ours = zoo.metrics.ReplyPerplexity()(nll.sum(1).tolist(), [5, 3])
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_strategies() -> None:
    """Accuracy and weighted F1 are theirs; macro F1 counts absent classes here."""
    draw = random.Random(0)
    gold = draw.choices(range(6), k=60)
    found = [g if draw.random() < 0.5 else draw.randrange(6) for g in gold]
    pair = torch.tensor(found), torch.tensor(gold)
    ours = zoo.metrics.StrategyScores()(
        [STRATEGIES[i] for i in found], [STRATEGIES[i] for i in gold]
    )
    accuracy = MulticlassAccuracy(num_classes=8, average="micro")(*pair)
    weighted = MulticlassF1Score(num_classes=8, average="weighted")(*pair)
    macro = MulticlassF1Score(num_classes=8, average="macro")(*pair)
    assert ours["accuracy"] == pytest.approx(100 * float(accuracy), abs=1e-4)
    assert ours["weighted_f1"] == pytest.approx(100 * float(weighted), abs=1e-4)
    assert ours["proficiency"] == pytest.approx(100 * float(macro) * 6 / 8, abs=1e-4)
    same = ["Question", "Others"]
    assert float(zoo.metrics.StrategyProficiency()(same, same)) == 25
    two = torch.tensor([0, 7])
    assert MulticlassF1Score(num_classes=8, average="macro")(two, two) == 1


def test_paths() -> None:
    """A path that gold lacks is no class here."""
    ours = zoo.metrics.PathScores()([["a"], ["new"]], [["a"], ["a"]])
    theirs = MulticlassF1Score(num_classes=2, average="macro")(
        torch.tensor([0, 1]), torch.tensor([0, 0])
    )
    assert ours["joint_macro_f1"] == pytest.approx(2 / 3)
    assert float(theirs) == pytest.approx(1 / 3)
    assert ours["joint_micro_f1"] == ours["joint_accuracy"] == 0.5


def test_rankings() -> None:
    """Ties, scores below 0 and documents that were not ranked."""
    scores, judged = torch.tensor([0.9, 0.8, 0.3]), torch.tensor([0, 2, 1])
    query = torch.zeros(3, dtype=torch.long)
    ours = zoo.metrics.RankingScores()([{"a": 0.9, "b": 0.8, "c": 0.3}], [{"b": 2, "c": 1}])
    assert ours["nDCG@10"] == pytest.approx(
        float(RetrievalNormalizedDCG(top_k=10)(scores, judged, indexes=query))
    )
    assert ours["MRR@10"] == float(RetrievalMRR()(scores, judged > 0, indexes=query)) == 0.5
    assert ours["R@1"] == float(RetrievalRecall(top_k=1)(scores, judged > 0, indexes=query)) == 0
    tied = torch.ones(3)
    ours = zoo.metrics.RankingScores()([{"a": 1.0, "b": 1.0, "c": 1.0}], [{"c": 1}])
    theirs = RetrievalNormalizedDCG()(tied, torch.tensor([0, 0, 1]), indexes=query)
    assert ours["nDCG@10"] == 1  # c sorts last, so it comes first
    assert float(theirs) == pytest.approx((1 + 1 / math.log2(3) + 0.5) / 3)
    below = zoo.metrics.RankingScores()([{"a": -1.0, "b": -2.0}], [{"a": 1}])
    theirs = RetrievalRecall(top_k=1)(
        torch.tensor([-1.0, -2.0]), torch.tensor([True, False]), indexes=query[:2]
    )
    assert (below["R@1"], float(theirs)) == (1, 0)
    missing = zoo.metrics.RankingScores()([{"a": 1.0}], [{"a": 1, "z": 1}])
    assert missing["R@3"] == 0.5  # theirs cannot know of z


def test_doubt() -> None:
    """The same numbers; with right answers only theirs warn or say 0."""
    draw = random.Random(0)
    doubts = [draw.randrange(20) / 20 for _ in range(60)]
    right = [draw.random() > 0.6 * u for u in doubts]
    sure, correct = 1 - torch.tensor(doubts, dtype=torch.float64), torch.tensor(right).int()
    ours = zoo.metrics.SelectiveScores()(doubts, right)
    assert ours["auc"] == pytest.approx(float(BinaryAUROC()(sure, correct)))
    assert ours["ap"] == pytest.approx(float(BinaryAveragePrecision()(sure, correct)))
    assert ours["ece"] == pytest.approx(float(BinaryCalibrationError(n_bins=10)(sure, correct)))
    alone = zoo.metrics.SelectiveScores()([0.1, 0.2], [True, True])
    with pytest.warns(UserWarning, match="No negative samples"):
        theirs = BinaryAUROC()(torch.tensor([0.9, 0.8]), torch.tensor([1, 1]))
    assert (alone["auc"], float(theirs)) == (0.5, 0)
