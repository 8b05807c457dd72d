"""LaMsS' targets: which tokens and levels are learned of texts, answers and second passes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from methods.lamss.lamss_sequences import (
    LEVEL,
    NORMAL,
    OPEN,
    SIGMA,
    START,
    STOP,
    TEXTS,
    Make,
    asked_ids,
    batch_of,
    by_whole_forwards,
    doubts_of,
    examples_of,
    judged_ids,
    learned,
    separate,
)

from zoo.records import Question

pytestmark = pytest.mark.usefixtures("own_cache")


def choices(module: Any) -> list[Question]:
    """Return eight questions of which the model answers three rightly before training."""
    found = []
    for i in range(8):
        letter = pick_letter(module, Question(f"Question {i}?", ("red", "blue", "green"), 0))
        gold = letter if i < 3 else (letter + 1) % 3
        found.append(Question(f"Question {i}?", ("red", "blue", "green"), gold, id=f"c{i}"))
    return found


def pick_letter(module: Any, record: Question) -> int:
    """Return the option whose letter the backbone as it was likes best, by a whole forward."""
    from zoo import backbone as backbones

    lm, _ = backbones.load(module.backbone)
    logits = lm.eval()(torch.tensor([asked_ids(module, record)])).logits[0, -1]
    return int(logits[[byte(module, name) for name in "ABC"]].argmax())


def byte(module: Any, char: str) -> int:
    return module.tokenizer(char)["input_ids"][0]


@pytest.mark.fidelity("lamss", 4)
def test_masks_of_texts_and_first_pass(make: Make, shape: str) -> None:
    """Of a text all but x_1; of a question the gold answer, its end, and their levels."""
    module = make("LaMsS", shape)
    for example in examples_of(module, TEXTS[:2]):
        n = len(example)
        expected = [(i, example.input_ids[i], i % 2) for i in range(1, n)]
        assert learned(example) == expected
    for record, example in zip(OPEN, examples_of(module, OPEN)[::2], strict=True):
        prompt = asked_ids(module, record)
        gold = [*module.tokenizer(record.answer)["input_ids"], STOP]
        assert example.input_ids[: len(prompt)] == prompt
        assert example.input_ids[len(prompt) :: 2] == gold
        assert set(example.input_ids[len(prompt) + 1 :: 2]) <= set(module.level_ids)
        found = learned(example)
        assert [(i, head) for i, _, head in found] == [
            (len(prompt) + k, k % 2) for k in range(2 * len(gold))
        ]


@pytest.mark.fidelity("lamss", 4)
@pytest.mark.parametrize("flags", [{}, {"interleave": False}, {"num_levels": 2}])
def test_second_pass_learns_one_token(make: Make, shape: str, flags: dict[str, Any]) -> None:
    """Its one target is s_0 after a right answer and s_{N-1} after a wrong one."""
    module = make("LaMsS", shape, **flags)
    records = choices(module)
    encoder = module.encoder()
    encoder.study(records, "val")
    for i, record in enumerate(records):
        _, second = encoder(record)
        level = module.level_ids[0 if i < 3 else -1]
        assert learned(second) == [(len(second) - 1, level, LEVEL)]
        prompt, judged = asked_ids(module, record), judged_ids(module)
        shown = second.input_ids[len(prompt) : -len(judged) - 1]
        letter = byte(module, "ABC"[pick_letter(module, record)])
        step = 2 if module.interleave else 1
        assert second.input_ids[: len(prompt)] == prompt
        assert shown[::step] == [letter, STOP]
        assert second.input_ids[-len(judged) - 1 : -1] == judged


@pytest.mark.fidelity("lamss", 4)
def test_wrong_answers_teach_nothing_but_doubt(make: Make, shape: str) -> None:
    """The loss is that of the targets above, and terms with weight 0 leave no gradient."""
    module = make("LaMsS", shape, padding_free=False, sigma_weight=0.5, level_weight=2.0)
    records = choices(module)
    examples = examples_of(module, records)
    terms = module.losses(batch_of(module, examples))
    sums = by_whole_forwards(module, examples)
    for name, head in (("token", NORMAL), ("sigma", SIGMA), ("level", LEVEL)):
        assert terms[name].mean.item() == pytest.approx(sum(sums[head]) / len(sums[head]), rel=1e-4)
    module.log = lambda *args, **kwargs: None
    means = {head: sum(part) / len(part) for head, part in sums.items()}
    total = module.training_step(batch_of(module, examples), 0).item()
    assert total == pytest.approx(means[0] + 0.5 * means[1] + 2.0 * means[2], rel=1e-4)

    wrong = [e for e in examples if learned(e)[-1][1:] == (module.level_ids[-1], LEVEL)]
    assert wrong
    module.loss_weights = {"token": 1.0, "sigma": 1.0, "level": 0.0}
    module.zero_grad(set_to_none=True)
    module.training_step(batch_of(module, wrong), 0).backward()
    assert all(p.grad is None or not p.grad.any() for p in module.parameters())


@pytest.mark.fidelity("lamss", 4)
def test_right_and_wrong_are_balanced_in_training_only(make: Make, shape: str) -> None:
    """Three right and five wrong: 5 + 5 in training, 3 + 5 elsewhere; all of one split."""
    module = make("LaMsS", shape)
    records = choices(module)
    for split, right in (("train", 5), ("val", 3), ("test", 3)):
        examples = examples_of(module, records, split)
        levels = Counter(e.labels[-2] for e in examples if learned(e)[-1][2] == LEVEL)
        assert levels == {module.level_ids[0]: right, module.level_ids[-1]: 5}
        firsts = [e.record.id for e in examples if learned(e)[-1][2] != LEVEL]
        assert firsts == [record.id for record in records]
        assert {e.record for e in examples} == set(records)


@pytest.mark.fidelity("lamss", 4)
def test_levels_in_the_query_are_not_learned(make: Make, shape: str) -> None:
    """On demand Q is interleaved too, in quantiles of its own doubts; all else is as without."""

    plain = examples_of(make("LaMsS", shape), OPEN)
    module = make("LaMsS", shape, interleave_query=True)
    found = examples_of(module, OPEN)
    asked = {record: asked_ids(module, record) for record in OPEN}
    pairs = []
    for before, after in zip(plain, found, strict=True):
        prompt = asked[after.record]
        length = len(prompt)
        tokens, levels = separate(after.input_ids[: 2 * length])
        assert tokens == prompt
        assert after.input_ids[2 * length :] == before.input_ids[length:]
        assert learned(after) == [(i + length, *rest) for i, *rest in learned(before)]
        pairs += zip(doubts_of(module, [START], tokens), levels, strict=True)
    ordered = [module.level_ids.index(level) for _, level in sorted(pairs)]
    assert ordered == sorted(ordered)
    assert set(ordered) == set(range(5))
