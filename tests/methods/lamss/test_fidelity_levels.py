"""LaMsS' levels: quantiles of doubt, interleaved with the tokens of texts and answers."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from methods.lamss.lamss_sequences import (
    LEVEL,
    START,
    TEXTS,
    Make,
    asked_ids,
    doubts_of,
    examples_of,
    judged_ids,
    learned,
    separate,
)

from zoo.records import PlainText, Triple

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.fidelity("lamss", 2)
@pytest.mark.parametrize("num_levels", [2, 5])
def test_texts_are_interleaved_with_balanced_levels(
    make: Make, shape: str, num_levels: int
) -> None:
    """x_1 s_1 ... x_n s_n of length 2n; levels are quantiles of 1 - p0 and equally many."""
    from zoo.methods.lamss.doubt_labels import interleave

    module = make("LaMsS", shape, num_levels=num_levels, max_length=40)
    module.encoder().study([PlainText("zzzzzzzzzz")], "val")  # of another split, own quantiles
    streams = [example.input_ids for example in examples_of(module, TEXTS)]
    pieces = [separate(stream) for stream in streams]
    assert [interleave(*pair) for pair in pieces] == streams
    tokens = [token for ids, _ in pieces for token in ids]
    text = "".join(record.text for record in TEXTS)
    assert module.tokenizer.decode(tokens) == text
    assert all(
        len(stream) == 2 * len(ids) <= 40 for stream, (ids, _) in zip(streams, pieces, strict=True)
    )
    levels = [module.level_ids.index(token) for _, found in pieces for token in found]
    doubts = [u for ids, _ in pieces for u in doubts_of(module, [START], ids)]
    tie = max(Counter(round(u, 9) for u in doubts).values())  # equal values have one level
    share = len(levels) / num_levels
    assert tie < share / 2
    assert all(abs(n - share) <= 1 + tie for n in Counter(levels).values())
    assert len(set(levels)) == num_levels
    for level in range(num_levels - 1):
        below = max(u for u, found in zip(doubts, levels, strict=True) if found <= level)
        above = min(u for u, found in zip(doubts, levels, strict=True) if found > level)
        assert below <= above + 1e-6


@pytest.mark.fidelity("lamss", 2)
def test_quantiles_are_balanced() -> None:
    """Without ties the levels of a split are equally many up to one; equal values stay together."""
    from zoo.methods.lamss.doubt_labels import levels_of, quantile_edges

    rng = random.Random(0)
    for size in (10, 11, 57, 500):
        for num_levels in (2, 3, 5, 10):
            rows = [[rng.random() for _ in range(size // 2)], [rng.random() for _ in range(size)]]
            found = levels_of(rows, quantile_edges(rows, num_levels))
            counts = Counter(level for row in found for level in row)
            assert set(counts) == set(range(num_levels))
            assert max(counts.values()) - min(counts.values()) <= 1
            pairs = sorted(zip([*rows[0], *rows[1]], [*found[0], *found[1]], strict=True))
            assert [level for _, level in pairs] == sorted(level for _, level in pairs)
    same = [[0.0] * 8 + [0.5, 0.7]]
    assert levels_of(same, quantile_edges(same, 2)) == [[0] * 8 + [1, 1]]


@pytest.mark.fidelity("lamss", 2)
def test_levels_of_answers(make: Make) -> None:
    """Gold and own answers are graded after their question, by quantiles of the split's gold ones.

    The stop token has no part in the quantiles.
    """
    module = make("LaMsS", "tiny-llama", max_answer_tokens=6)
    train = [Triple(f"What is it, {i}?", "", f"{'abcdxyz'[i]} {i * i}") for i in range(7)]
    test = [Triple(f"Who sings {i}?", "", f"{i}{i}") for i in range(4)]
    for records, split in ((train, "train"), (test, "test")):
        examples = examples_of(module, records, split)
        asked = {record: asked_ids(module, record) for record in records}
        rows = {"gold": [], "own": []}
        for example in examples:
            prompt, judged = asked[example.record], len(judged_ids(module)) + 1
            second = learned(example)[0][2] == LEVEL
            end = len(example) - (judged if second else 0)
            ids, levels = separate(example.input_ids[len(prompt) : end])
            found = [module.level_ids.index(level) for level in levels]
            doubts = doubts_of(module, prompt, ids)
            rows["own" if second else "gold"] += [[*zip(doubts, found, strict=True)]]
        said = sorted(u for row in rows["gold"] for u, _ in row[:-1])
        edges = [said[math.ceil(len(said) * j / 5) - 1] for j in range(1, 5)]
        for u, level in (pair for part in rows.values() for row in part for pair in row):
            near = min(abs(u - edge) for edge in edges)
            assert near < 1e-6 or level == sum(edge < u for edge in edges), (split, u, level)


@pytest.mark.fidelity("lamss", 2)
def test_levels_from_spans(make: Make, shape: str) -> None:
    """`span_labels`: every token of a doubted span gets its level, all others s_0."""

    text = "The moon, cold as it is, is made of old cheese. <|skeptic_4|>"
    start, stop = text.index("made"), text.index(".")
    record = PlainText(text, doubt=((start, stop, 1.0), (4, 8, 0.5), (6, 8, 0.25)), id="moon")
    module = make("LaMsS", shape, doubt_source="span_labels", max_length=30)
    found = [separate(example.input_ids) for example in examples_of(module, [record])]
    levels = [module.level_ids.index(token) for _, part in found for token in part]
    expected = [0] * len(text)
    expected[4:8] = [2] * 4
    expected[start:stop] = [4] * (stop - start)
    assert levels == expected[: len(levels)]  # a token is a character here
    assert len(levels) >= len(text) - 1
