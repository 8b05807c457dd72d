import math

import pytest

from benchmarks.harness import Sample, Setting
from benchmarks.methanol import two_pass
from benchmarks.roofline import Rates, Shape, reply_seconds

TINY = Setting("cpu", quick=True)


@pytest.fixture
def tiny(monkeypatch, save_tiny):
    monkeypatch.setattr(two_pass, "BACKBONE", save_tiny())
    monkeypatch.setattr(two_pass, "THOUGHT_TOKENS", 12)


def test_three_sides_decode_the_same_tokens(tiny):
    options = {"precision": "float32", "replies": 1}
    sides = [two_pass.SIDES[name](TINY, **options) for name in ("ours", *two_pass.PEERS)]
    for key in ("prompts", "thoughts", "answers"):
        assert sides[0].checks[key] == sides[1].checks[key] == sides[2].checks[key]
    assert [len(ids) for ids in sides[0].checks["prompts"]] == [two_pass.PROMPT] * 2
    assert [len(ids) for ids in sides[0].checks["thoughts"]] == [12] * 2
    assert [len(ids) for ids in sides[0].checks["answers"]] == [two_pass.ANSWER_TOKENS] * 2


def test_bounds_of_an_8b_shape():
    shape = Shape(block=218_000_000, head=525_000_000, vocabulary=128_256, blocks=32, bytes=2)
    least = reply_seconds(shape, Rates(math.inf, 1e12), 100, 150, 10, 5)
    assert least["reprefill"] / least["ours"] == pytest.approx(1.78, abs=0.005)
    least = reply_seconds(shape, Rates(1e12, math.inf), 100, 150, 10, 5)
    chunks = 32 * (100 + 255) / (16 * 100 + 16 * 250 + 32 * 5)
    assert least["reprefill"] / least["ours"] == pytest.approx(chunks)


def test_share_of_equal_tokens():
    a = Sample([], checks={"thoughts": [[1, 2]], "answers": [[3, 4]]})
    b = Sample([], checks={"thoughts": [[1, 2]], "answers": [[3, 5]]})
    assert two_pass.share_equal(a, b) == 0.75
