"""Metrics: `torchmetrics.Metric` classes over records, and the formulas that they compute.

The metrics of all rooms have their public names here; each is imported on first use:

    score = zoo.metrics.StrategyBias()
    score(["Question", "Question"], ["Question", "Others"])

Where torchmetrics has a score as the field defines it, use torchmetrics.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "AnswerAccuracy": "zoo.metrics.answers",
    "RecordMean": "zoo.metrics.records",
    "RecordMetric": "zoo.metrics.records",
    "CorpusBleu": "zoo.metrics.text_metrics",
    "Distinct": "zoo.metrics.text_metrics",
    "Meteor": "zoo.metrics.text_metrics",
    "ReplyPerplexity": "zoo.metrics.text_metrics",
    "RougeL": "zoo.metrics.text_metrics",
    "Cider": "zoo.support.cider",
    "DialogueValue": "zoo.support.ratings",
    "SupportRatings": "zoo.support.ratings",
    "SupportScores": "zoo.support.metrics",
    "ReplyScores": "zoo.support.scores",
    "StrategyBias": "zoo.support.strategy_metrics",
    "StrategyProficiency": "zoo.support.strategy_metrics",
    "StrategyScores": "zoo.support.strategy_metrics",
    "RankingScores": "zoo.ranking.metrics",
    "PathScores": "zoo.methods.hdlm.metrics",
    "DoubtScores": "zoo.methods.lamss.doubt_metrics",
    "RiskCoverage": "zoo.methods.lamss.doubt_metrics",
    "SelectiveScores": "zoo.methods.lamss.doubt_metrics",
    "TagScores": "zoo.methods.coct.metrics",
    "GroupRecall": "zoo.methods.m3_jepa.metrics",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a metric on first use: `import zoo.metrics` stays light and imports no method."""
    if name not in _HOME:
        raise AttributeError(f"module 'zoo.metrics' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
