import pytest

from benchmarks.harness import Sample, Setting
from benchmarks.result import agree
from benchmarks.straq import option_scoring

TINY = Setting("cpu", quick=True)


@pytest.fixture
def tiny(monkeypatch, save_tiny):
    monkeypatch.setattr(option_scoring, "BACKBONE", save_tiny(5))
    monkeypatch.setattr(option_scoring, "WINDOW", 640)


def test_all_sides_score_alike(tiny):
    mine, *others = (side(TINY, states=1) for side in option_scoring.SIDES.values())
    keys = [key for key in mine.checks if key != "prompts"]
    assert len(keys) == 2 * 8
    assert len({round(mine.checks[key], 4) for key in keys}) > 8
    for theirs in others:
        agree(mine, theirs, {"prompts": 0.0, **dict.fromkeys(keys, 1e-3)})
    assert mine.work["prompt_tokens"] == others[0].work["prompt_tokens"]


def test_bound_of_long_prompts_is_eight():
    shape = {"block": 3_540_096, "head": 49152 * 576, "vocabulary": 49152, "blocks": 30, "bytes": 4}
    long = Sample([], notes={"shape": shape, "lengths": [10**6]})
    assert option_scoring.bound(long) == pytest.approx(8, abs=1e-4)
    short = Sample([], notes={"shape": shape, "lengths": [1]})  # twice the tokens, and the head
    assert option_scoring.bound(short) == pytest.approx(20.3, abs=0.1)
