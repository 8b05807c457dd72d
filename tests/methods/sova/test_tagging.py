"""Labels of published rules: values close to them, rules of one meaning, a judge's odds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from methods.sova.graph_parts import TEXTS, Letters, principles

from zoo.methods.sova import tagging
from zoo.methods.sova.index import with_labels
from zoo.methods.sova.principles import Principle, curated, published


def test_a_rule_is_linked_to_the_values_that_are_close() -> None:
    """At most three, the closest first, from a similarity of 0.4 on."""
    rules = [Principle("r", "a"), Principle("s", "b")]
    values = ["abbbb", "aabb", "aaab", "aaa", "d", "aaaab"]
    found = tagging.similar_values(rules, values, Letters())
    assert found["r"] == ["aaa", "aaaab", "aaab"]
    assert found["s"] == ["abbbb", "aabb"]
    assert tagging.similar_values([], values, Letters()) == {}


def test_rules_of_one_meaning_are_one_of_each_theory() -> None:
    """The smaller id stays and takes over the sources; another theory's rule is another rule."""
    kept = [
        Principle("maslow-s", "a", "maslow", "safety", sources=("2",)),
        Principle("maslow-r", "a", "maslow", "safety", sources=("1", "2")),
        Principle("emotion-s", "a", "emotion", "fear", sources=("2",)),
        Principle("maslow-t", "b", "maslow", "safety", sources=("3",)),
    ]
    near = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.2], [1.0, 0.5]]), dim=1)
    merged = tagging._merge(kept, dict(zip("rst", near, strict=True)))
    assert [(item.id, item.sources) for item in merged] == [
        ("emotion-s", ("2",)),
        ("maslow-r", ("1", "2")),
        ("maslow-t", ("3",)),
    ]


def test_a_label_is_that_of_the_closest_curated_principle() -> None:
    """(T1): a softmax over labels of similarity by temperature; both limits may be met exactly."""
    seeds = [p for p in curated() if p.theory == "maslow"]
    row = torch.tensor([0.1 if p.theory == "maslow" else 9.0 for p in curated()])
    first = [i for i, p in enumerate(curated()) if p.theory == "maslow"]
    row[first[0]] = 0.3
    found = tagging._closest(row, "maslow", curated())
    assert found.keys() == {p.label for p in seeds}
    assert found[seeds[0].label] == pytest.approx(0.3)
    assert sorted(found.values())[:-1] == pytest.approx([0.1] * (len(found) - 1))


def test_a_judges_labels_are_kept_from_a_limit_on() -> None:
    """Equal odds go to the later name; rules come back by id, whatever their order."""

    class Half:
        name = "half"

        def score(self, messages: Any, labels: Any, begun: str = "") -> list[float]:
            return [0.5, 0.5, *[0.0] * (len(labels) - 2)]

    rules = published(TEXTS)
    kept, counts, gone = tagging.tag(rules[::-1], Letters(), Half(), tau=0.5, tau_similar=-1)
    assert [item.id for item in kept] == sorted(item.id for item in kept)
    assert {item.confidence for item in kept} == {0.5}
    assert counts["unsure"] == 0
    assert tagging.tag(rules, Letters(), Half(), tau=0.51)[1]["unsure"] == 3 * len(rules)


def test_labelled_copies_take_the_place_of_their_rule() -> None:
    many = principles()
    rule = next(p for p in many if p.statement.startswith("Put"))
    copies = [
        dataclasses.replace(rule, id=f"{t}-{rule.id}", theory=t) for t in ("maslow", "emotion")
    ]
    found = with_labels(many, copies)
    assert [p.id for p in found] == sorted(p.id for p in found)
    assert rule.id not in {p.id for p in found}
    assert len(found) == len(many) + 1
    assert "When you decide, weigh in your choice the principle" in rule.rule
    labelled = dataclasses.replace(rule, label="Self-esteem")
    assert "When self-esteem is at stake, weigh in your choice" in labelled.rule
