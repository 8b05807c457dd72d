"""Dialogues as straQ*'s transitions: prompts, next states, windows, batches, previews."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from dialogues import TALK
from methods.straq.straq_rated_talk import encoder, talk

import zoo
from datamodules import DailyDialog
from zoo.errors import InputError
from zoo.methods.straq.prompts import letters
from zoo.records import opened_by_seeker
from zoo.support.decisions import current_decision, decisions
from zoo.support.labels import ACTS, STRATEGIES, SUPPORT
from zoo.tiny_models import byte_tokenizer


def text(ids: list[int]) -> str:
    return byte_tokenizer().decode(ids)


def test_each_state_follows_the_one_before() -> None:
    """The opening is history only, each of two supporter turns is a decision, the last one ends."""
    found = encoder()(talk())
    assert [len(one.record.turns) for one in found] == [2, 4, 5, 7]
    for one, after in zip(found, found[1:], strict=False):
        assert one.next_ids == after.ids
        assert one.ends == (False, False)
    assert found[-1].ends == (True, True)
    assert len(found[-1].next_ids) == 1
    first = text(found[0].ids)
    assert first.startswith("<|im_start|>system\nYou plan support strategies")
    assert "Seeker's emotion: sadness\n\nDialogue so far:\nSupporter (Others): Hello.\n" in first
    assert first.endswith("Answer with one letter.<|im_end|>\n<|im_start|>assistant\nAnswer:")
    assert "(Reflection of feelings): That must hurt.\nWhich support strategy" in text(found[2].ids)
    assert "(Question): When?" in text(found[1].ids)  # canonical names in the history
    golds = [STRATEGIES[one.judged[0].action] for one in found]
    assert golds == ["Question", "Reflection of feelings", "Self-disclosure", "Information"]


def test_one_road_to_a_state() -> None:
    """A decision alone and as part of its dialogue has the same prompt."""
    made = encoder()
    for one in made(talk()):
        assert made.state(one.record) == one.ids


def test_negatives_may_end() -> None:
    found = encoder(reuse_next=False)(talk())
    assert [one.ends for one in found] == [(False, True)] * 3 + [(True, True)]


def test_the_oldest_turns_are_left_out() -> None:
    whole = encoder()(talk())[-1].ids
    cut = encoder(max_length=len(whole) - 1)(talk())[-1].ids
    assert text(whole).replace("Supporter (Others): Hello.\n", "") == text(cut)
    with pytest.raises(InputError, match=r"talk:1, turn 2: does not fit .* max_length=300"):
        encoder(max_length=300)(talk())


def test_batch() -> None:
    """Judged strategies point at their state; packed and padded prompts end where they end."""
    made = encoder()
    found = made(talk())[:3]
    for packed in (True, False):
        made.packed = packed
        batch = made.collate(found, {0: 6.0})
        assert batch.state.tolist() == [0, 0, 1, 1, 2, 2]
        assert batch.reward.tolist() == [1, -1] * 3
        assert batch.done.tolist() == [False] * 6
        assert batch.action.tolist()[::2] == [0, 2, 3]
        for part, rows in ((batch.now, "ids"), (batch.after, "next_ids")):
            last = part.input_ids.flatten()[part.ends]
            assert last.tolist() == [getattr(one, rows)[-1] for one in found]
            assert part.lengths == [len(getattr(one, rows)) for one in found]
        moved = batch.to("cpu")
        assert moved.counts() == {"tokens": sum(map(len, found)), "transitions": 6}
        assert moved.records == batch.records


def test_preview_shows_the_letter_and_the_rewards() -> None:
    made = encoder()
    lines = made.preview(made(talk())[0])
    assert lines[1].endswith("Answer:\033[0m\033[32mA\033[0m")
    assert lines[2].startswith("rewards     Question +1 (logged), ")
    assert lines[2].endswith(" tokens")
    assert made.preview(made(talk())[-1])[2].endswith("then nothing")
    example = made(talk())[0]
    unnamed = replace(example.record, target=replace(example.record.target, strategy=""))
    lines = made.preview(replace(example, record=unnamed))  # the first letter stands in
    assert lines[1].endswith("Answer:\033[0m\033[32mA\033[0m")
    other = replace(example.record, target=replace(example.record.target, strategy="Others"))
    lines = made.preview(replace(example, record=other))
    assert lines[1].endswith("Answer:\033[0m\033[32mH\033[0m")


def test_current_decision() -> None:
    """Open dialogues are continued, closed ones asked once more; a bare text is a state too."""
    whole = talk()
    assert current_decision(whole).turns == decisions(whole)[-1].turns
    waiting = replace(whole, turns=whole.turns[:7])
    assert current_decision(waiting).turns[-1].text == "Did you?"
    assert current_decision(waiting).target.text == ""
    assert current_decision(opened_by_seeker("Hi")).query == "Hi"


# -- acts --------------------------------------------------------------------------------------


def test_dialogue_acts() -> None:
    """DailyDialog's four acts are letters A to D."""
    module = zoo.StraQ(backbone={"name": "tiny-llama"}, labels="acts", max_length=10**5)
    found = [e for record in DailyDialog().records("train") for e in module.encoder()(record)]
    assert len(module.encoder().letter_ids) == 4
    assert "A. inform\nB. question\nC. directive\nD. commissive\n" in text(found[0].ids)
    assert {one.action for e in found for one in e.judged} <= set(range(len(ACTS.names)))


def test_torch_is_seeded_by_nobody_here() -> None:
    """Drawing strategies leaves torch's random state alone."""
    before = torch.get_rng_state()
    encoder()(talk())
    assert torch.equal(torch.get_rng_state(), before)


def test_letters_are_in_order() -> None:
    assert letters(SUPPORT) == list("ABCDEFGH")


def test_training_logs_the_mean_value_and_the_loss(module: Any) -> None:
    """Of all strategies of all states of the step."""
    encoder = module.encoder()
    batch = encoder.collate(encoder(TALK), {})
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})
    module.log_terms = lambda stage, terms: logged.update(
        {f"{stage}/{name}": term.mean.item() for name, term in terms.items()}
    )
    loss = module.training_step(batch, 0)
    assert logged["train/value"] == pytest.approx(module(batch.now).mean().item())
    assert logged["train/td"] == pytest.approx(loss.item())


def test_a_batch_moves_as_a_whole(module: Any) -> None:
    encoder = module.encoder()
    batch = encoder.collate(encoder(TALK), {0: 3.0})
    moved = batch.to("meta")
    tensors = [moved.state, moved.action, moved.reward, moved.done]
    assert all(part.is_meta for part in (*tensors, moved.now.input_ids, moved.after.input_ids))
    assert (moved.normalizers, moved.records) == ({0: 3.0}, batch.records)
    assert moved.counts() == {
        "tokens": sum(batch.now.lengths) + sum(batch.after.lengths),
        "transitions": 4,
    }


def test_a_preview_says_that_nothing_is_learned(module: Any) -> None:
    encoder = module.encoder()
    first, last = encoder(TALK)
    assert encoder.preview(replace(first, judged=(), ends=()))[-1] == "rewards     none"
    said = encoder.preview(first)[-1]
    assert said.startswith("rewards     Question +1 (logged), ")
    assert said.endswith(f"; then a prompt of {len(last.ids)} tokens")
