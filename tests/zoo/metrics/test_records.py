"""Metrics as others use them: alone, reset, moved, copied, and over two processes."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
import torchmetrics
from running import free_port

import zoo.metrics
from zoo.support.labels import STRATEGIES

Updates = list[tuple[Any, ...]]
IDS = ["a", "b", "c"]
EXAMPLES: dict[str, tuple[Any, ...]] = {  # the arguments of an update with three records
    "AnswerAccuracy": (["x", "y", "the z"], ["x", "x", "z"], [["k"], ["k"], ["m"]]),
    "CorpusBleu": (["a b c", "a d", "b c d"], ["a b d", "a d", "c d"]),
    "Distinct": (["a b c", "a d", "b c d"],),
    "Meteor": (["a b c", "a d", "b c d"], ["a b d", "a d", "c d"]),
    "RougeL": (["a b c", "a d", "b c d"], ["a b d", "a d", "c d"]),
    "Cider": (["a b c", "a d", "b c d"], ["a b d", "a d", "c d"]),
    "RecordMean": ([0.1, 2.7, 0.3],),
    "ReplyPerplexity": ([1.1, 2.7, 0.3], [1, 2, 3]),
    "StrategyBias": (["Question", "Question", "Others"], ["Question", "Others", "Question"]),
    "StrategyProficiency": (["Question", "hm", "Others"], ["Question", "Others", "Question"]),
    "StrategyScores": (["Question", "hm", "Others"], ["Question", "Others", "Question"]),
    "SupportRatings": ([{"acceptance": 1.1}, {"acceptance": 2.7}, {"acceptance": 4.9}],),
    "DialogueValue": ([[1.1, 2.7], [4.9], [0.3, 0.1]],),
    "RankingScores": (
        [{"d": 0.1, "e": 0.7}, {"d": 0.4}, {"d": 0.2, "e": 0.1}],
        [{"d": 1}, {"d": 2, "x": 1}, {"e": 1}],
        ["k", "", "k"],
    ),
    "PathScores": ([["a", "x"], ["a", "y"], ["b", "x"]], [["a", "x"], ["b", "y"], ["b", "y"]]),
    "SelectiveScores": ([0.1, 0.7, 0.4], [True, False, True]),
    "DoubtScores": (
        [{"u": 0.1, "v": 0.3}, {"u": 0.7, "v": 0.2}, {"u": 0.4, "v": 0.9}],
        [True, False, True],
        ["k", "", "k"],
        [{"n": 1}, {"n": 3}, {"n": 4}],
    ),
    "RiskCoverage": ([0.1, 0.7, 0.4], [True, False, True]),
    "TagScores": ([[["strategy", "Question"]], [], [["other", "Hug"]]],),
}


def rows(arguments: tuple[Any, ...], chosen: list[int]) -> tuple[Any, ...]:
    """Return the arguments with some of the records."""
    return tuple([column[i] for i in chosen] for column in arguments)


def plain(value: Any) -> Any:
    """Return the value of a metric as JSON would hold it."""
    return json.loads(json.dumps(float(value) if isinstance(value, torch.Tensor) else value))


def test_every_public_metric_is_one_of_torchmetrics() -> None:
    for name in zoo.metrics.__all__:
        assert issubclass(getattr(zoo.metrics, name), torchmetrics.Metric), name
        assert getattr(zoo.metrics, name).__name__ == name
    others = {"RecordMetric", "GroupRecall", "SupportScores", "ReplyScores"}  # tested on their own
    assert set(EXAMPLES) == set(zoo.metrics.__all__) - others
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = zoo.metrics.Nonsense


@pytest.mark.parametrize("name", EXAMPLES)
def test_parts_with_ids_are_the_whole(name: str) -> None:
    """Records that come twice count once; `reset` forgets; a call gives the batch's own score."""
    whole, parts = getattr(zoo.metrics, name)(), getattr(zoo.metrics, name)()
    whole.update(*EXAMPLES[name])
    for chosen in ([0, 1], [], [1, 2], [0]):
        parts.update(*rows(EXAMPLES[name], chosen), ids=[IDS[i] for i in chosen])
    assert plain(parts.compute()) == plain(whole.compute())
    parts.reset()
    assert plain(parts(*EXAMPLES[name])) == plain(whole.compute())
    with pytest.raises(ValueError, match="zip"):
        whole.update(*EXAMPLES[name], ids=["a"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_metric_inside_a_module_is_moved_copied_and_not_saved(name: str) -> None:
    """Half precision rounds nothing, a state dict holds nothing."""
    holder = torch.nn.Module()
    holder.score = getattr(zoo.metrics, name)()
    holder.score.update(*EXAMPLES[name])
    expected = plain(holder.score.compute())
    assert holder.state_dict() == {}
    assert list(holder.parameters()) == []
    for moved in (holder.to(torch.bfloat16), copy.deepcopy(holder), holder.half()):
        moved.score.update(*rows(EXAMPLES[name], []))
        assert plain(moved.score.compute()) == expected
    assert plain(pickle.loads(pickle.dumps(holder.score)).compute()) == expected


def test_metrics_without_records_say_nothing() -> None:
    for name in EXAMPLES:
        score = getattr(zoo.metrics, name)()
        score.update(*rows(EXAMPLES[name], []))
        value = score.compute()
        if isinstance(value, torch.Tensor):
            assert value == 0 or value.isnan(), name
        elif name != "TagScores":
            assert not value, name


# -- two processes -----------------------------------------------------------------------------

UNEVEN = ([0], [1, 2, 0]), ([], [2, 0, 1])  # records of either process; some in both


def share(rank: int, port: int, folder: str) -> None:
    """Update every metric with the records of one process; write what it computes."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    found = []
    for division in UNEVEN:
        for name in EXAMPLES:
            score, chosen = getattr(zoo.metrics, name)(), division[rank]
            if chosen:  # a process without records does not even call update
                score.update(*rows(EXAMPLES[name], chosen), ids=[IDS[i] for i in chosen])
            together = plain(score.compute())
            assert not score._is_synced  # its own records are back
            score.update(*rows(EXAMPLES[name], chosen), ids=[IDS[i] for i in chosen])
            assert plain(score.compute()) == together
            found.append(together)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_two_processes_with_uneven_records(tmp_path: Path) -> None:
    """Both compute the score of all records, those that both have counted once."""
    torch.multiprocessing.spawn(share, (free_port(), str(tmp_path)), nprocs=2)
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert one == other
    expected = []
    for _ in UNEVEN:
        for name in EXAMPLES:
            expected.append(plain(getattr(zoo.metrics, name)()(*EXAMPLES[name])))
    for found, alone in zip(one, expected, strict=True):
        assert found == (alone if isinstance(alone, list) else pytest.approx(alone))


def test_strategies_are_checked() -> None:
    score = zoo.metrics.StrategyScores()
    with pytest.raises(ValueError, match="no support strategy 'Asking'"):
        score.update(["Question"], ["Asking"])
    assert score(STRATEGIES, STRATEGIES)["proficiency"] == 100
