"""HdLM's decoded paths: a small taxonomy by heart, a wrong coarse label, joint F1."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from methods.hdlm.hdlm_abstracts import abstracts, plans_of
from methods.hdlm.hdlm_reference import END, TWO, contexts, opening

# -- 7: overfitting and intervention -----------------------------------------------------------


@pytest.mark.fidelity("hdlm", 7)
def test_small_taxonomy_is_overfitted(trained: SimpleNamespace) -> None:
    """All paths of the training texts are decoded."""
    from zoo.methods.hdlm.metrics import path_scores

    records = abstracts()
    found = trained.module.generate(plans_of(trained.module, records))
    scores = path_scores(found, [record.labels for record in records])
    assert scores["joint_accuracy"] == 1, scores
    assert scores["joint_macro_f1"] == pytest.approx(1)
    assert scores["failed"] == 0


@pytest.mark.fidelity("hdlm", 7)
def test_a_wrong_coarse_label_changes_the_fine_answer(
    trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subtask lists the classes under the forced label, and the fine answer is one of them."""
    from zoo.decoding.depth_decoder import DepthDecoder

    module, records = trained.module, abstracts()
    domains = TWO.children[()]
    wrong = [domains[(domains.index(r.labels[0]) + 1) % 3] for r in records]
    fed: list[list[list[int]]] = []
    feed = DepthDecoder.feed

    def recorded(decoder: Any, ids: Any, level: int) -> None:
        fed.append(ids)
        feed(decoder, ids, level)

    monkeypatch.setattr(DepthDecoder, "feed", recorded)
    plans = plans_of(module, records)
    right = module.generate(plans, forced=[[r.labels[0]] for r in records])
    other = module.generate(plans, forced=[[name] for name in wrong])
    assert right == [list(r.labels) for r in records]
    assert [path[0] for path in other] == wrong
    for record, name, path, row in zip(records, wrong, other, fed[1], strict=True):
        number = str(domains.index(name))
        prompt = opening(record) + contexts(record, 2)([]) + number + END
        assert module.tokenizer.decode(row) == prompt + contexts(record, 2)([number])
        assert path[1] not in TWO.children[record.labels[0],]
    inside = [path[1] in TWO.children[path[0],] for path in other]
    assert sum(inside) > len(inside) / 2  # a number that the other list has


# -- 8: scores ---------------------------------------------------------------------------------


def brute_force(predicted: Sequence[Any], gold_paths: Sequence[Any]) -> dict[str, float]:
    """Count true and false positives and misses of every joint path, one record at a time."""
    f1 = []
    both = [(tuple(p), tuple(g)) for p, g in zip(predicted, gold_paths, strict=True)]
    for label in {g for _, g in both}:
        pairs = [(p == label, g == label) for p, g in both]
        hit = sum(p and g for p, g in pairs)
        f1.append(2 * hit / (sum(p for p, _ in pairs) + sum(g for _, g in pairs)))
    right = sum(p == g for p, g in both)
    wrong = len(gold_paths) - right  # each is one false positive and one miss
    return {
        "joint_accuracy": right / len(gold_paths),
        "joint_micro_f1": 2 * right / (2 * right + wrong + wrong),
        "joint_macro_f1": sum(f1) / len(f1),
    }


@pytest.mark.fidelity("hdlm", 8)
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_joint_f1_is_that_of_counting(seed: int, depth: int) -> None:
    """Random paths, wrong ones and failed ones; the same name under two parents."""
    from zoo.methods.hdlm.metrics import FAILED, path_scores

    rng = random.Random(seed)

    def path(*more: str) -> list[str]:
        return [rng.choice(["a", "b", "c", *more]) for _ in range(depth)]

    wanted = [path() for _ in range(40)]
    found = [g if rng.random() < 0.5 else path(FAILED, "new") for g in wanted]
    scores = path_scores(found, wanted)
    for name, value in brute_force(found, wanted).items():
        assert scores[name] == pytest.approx(value), name
    assert scores["joint_micro_f1"] == pytest.approx(scores["joint_accuracy"])
    for i in range(depth):
        level = sum(p[i] == g[i] for p, g in zip(found, wanted, strict=True)) / 40
        assert scores[f"level_{i + 1}_accuracy"] == pytest.approx(level)
