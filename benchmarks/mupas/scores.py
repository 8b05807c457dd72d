"""Scores of a test split, as a whole and by scene, of a model and of the rules without one."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.methods.mupas.metrics import placed
from zoo.methods.mupas.reading import SceneReading
from zoo.methods.mupas.speaker_rules import Rule
from zoo.metrics.text_metrics import CorpusBleu, Distinct, ReplyPerplexity, RougeL
from zoo.records import Scene

Scores = dict[str, dict[str, Any]]
"""`metrics` by name; `items`, a mean over its turns or tokens for each scene; `sizes`, how many.

Scenes are named by what is behind the first colon of their ids.
"""

RESAMPLES = 2000


def of_readings(scenes: Sequence[Scene], readings: Sequence[SceneReading]) -> Scores:
    """Return how well a model names speakers, and how likely words are to it.

    `words_least` and `words_most` are nats per token of who says least and most in a scene of three
    speakers or more.
    """
    found = _nats(scenes, readings)
    perplexity = ReplyPerplexity()
    perplexity.update(
        [sum(reading.nats.values()) for reading in readings],
        [sum(reading.tokens.values()) for reading in readings],
    )
    found["metrics"]["perplexity"] = float(perplexity.compute())
    if readings[0].chances:
        chances = [r.chances[1 : len(s.turns)] for s, r in zip(scenes, readings, strict=True)]
        found = joined(found, of_chances(scenes, chances))
    return found


def of_rule(scenes: Sequence[Scene], rule: Rule) -> Scores:
    """Return how well a rule names speakers: its share of the right ones, not a draw."""
    items: dict[str, dict[str, float]] = {"speaker_accuracy": {}, "speaker_accuracy_3plus": {}}
    for scene in scenes:
        said = scene.turns
        hits = [rule(scene, t).get(said[t].speaker, 0.0) for t in range(1, len(said))]
        items["speaker_accuracy"][name_of(scene)] = statistics.mean(hits)
        if len(scene.speakers) >= 3:
            items["speaker_accuracy_3plus"][name_of(scene)] = statistics.mean(hits)
    return _with_metrics(items, _turns(scenes))


def of_chances(scenes: Sequence[Scene], chances: Sequence[Sequence[Mapping[str, float]]]) -> Scores:
    """Return accuracy and mean reciprocal rank of next speakers, all and with three speakers."""
    items: dict[str, dict[str, float]] = {}
    for scene, each in zip(scenes, chances, strict=True):
        rows = []
        for turn, expected in enumerate(each, start=1):
            last = scene.turns[turn - 1].speaker
            others = {name: value for name, value in expected.items() if name != last}
            rows.append(placed(others, scene.turns[turn].speaker))
        for name, values in zip(
            ("speaker_accuracy", "speaker_mrr"), zip(*rows, strict=True), strict=True
        ):
            for end in ("", "_3plus") if len(scene.speakers) >= 3 else ("",):
                items.setdefault(name + end, {})[name_of(scene)] = statistics.mean(values)
    return _with_metrics(items, _turns(scenes))


def of_replies(scenes: Sequence[Scene], replies: Sequence[str]) -> dict[str, float]:
    """Return B-2, R-L and distinct-2 of replies to the last turns of scenes."""
    gold = [scene.turns[-1].text for scene in scenes]
    bleu, rouge, distinct = CorpusBleu(2), RougeL(), Distinct(2)
    bleu.update(replies, gold)
    rouge.update(replies, gold)
    distinct.update(replies)
    scores = {"bleu_2": bleu, "rouge_l": rouge, "distinct_2": distinct}
    return {name: float(score.compute()) for name, score in scores.items()}


def name_of(scene: Scene) -> str:
    """Return the short name of a scene, its id without the file's name."""
    return scene.id.partition(":")[2] or scene.id


def _turns(scenes: Sequence[Scene]) -> dict[str, int]:
    return {name_of(scene): len(scene.turns) - 1 for scene in scenes}


def _with_metrics(items: dict[str, dict[str, float]], turns: Mapping[str, int]) -> Scores:
    """Return scores by scene with their means over turns."""
    sizes = {name: {i: turns[i] for i in values} for name, values in items.items()}
    metrics = {name: mean(values, sizes[name]) for name, values in items.items()}
    return {"metrics": metrics, "items": items, "sizes": sizes}


def _nats(scenes: Sequence[Scene], readings: Sequence[SceneReading]) -> Scores:
    items: dict[str, dict[str, float]] = {"words": {}, "words_least": {}, "words_most": {}}
    sizes: dict[str, dict[str, float]] = {name: {} for name in items}
    for scene, reading in zip(scenes, readings, strict=True):
        by_length = sorted(scene.speakers, key=reading.tokens.__getitem__)
        people = {"words": scene.speakers}
        if len(by_length) >= 3:
            people |= {"words_least": by_length[:1], "words_most": by_length[-1:]}
        for name, group in people.items():
            size = sizes[name][name_of(scene)] = sum(reading.tokens[each] for each in group)
            items[name][name_of(scene)] = sum(reading.nats[each] for each in group) / size
    metrics = {name: mean(values, sizes[name]) for name, values in items.items()}
    return {"metrics": metrics, "items": items, "sizes": sizes}


def joined(*parts: Scores) -> Scores:
    """Return scores of several kinds as one."""
    return {
        key: {name: value for part in parts for name, value in part[key].items()}
        for key in ("metrics", "items", "sizes")
    }


def mean(values: Mapping[str, float], sizes: Mapping[str, float]) -> float:
    """Return the mean over turns, or tokens, from means by scene."""
    total = sum(sizes[name] for name in values)
    return sum(value * sizes[name] for name, value in values.items()) / total


def difference(
    pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]], sizes: Mapping[str, float]
) -> tuple[float, float, float]:
    """Return a paired difference and its 95 % bootstrap interval over scenes.

    Args:
        pairs: For each seed the values of two rows by scene; seeds are averaged first.
        sizes: Turns, or tokens, of each scene.
    """
    names = sorted(pairs[0][0])
    gaps = {name: statistics.mean(a[name] - b[name] for a, b in pairs) for name in names}
    draw = random.Random(0)
    means = []
    for _ in range(RESAMPLES):
        chosen = draw.choices(names, k=len(names))
        total = sum(sizes[name] for name in chosen)
        means.append(sum(gaps[name] * sizes[name] for name in chosen) / total)
    means.sort()
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]
    return mean(gaps, sizes), low, high
