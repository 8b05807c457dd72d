"""Prompts with conditions: masks, condition ids, batches, what may be wrong; evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tokenizers import normalizers

from datamodules import ConditionedChat
from zoo.encoding import NO_HEAD, sum_head_weights
from zoo.errors import InputError
from zoo.methods.megan.encoder import ConditionedBatch, ConditionEncoder
from zoo.methods.megan.evaluation import ConditionedReply, beta_map
from zoo.records import Conditioned
from zoo.tiny_models import byte_tokenizer

Make = Callable[..., Any]
WARM = Conditioned("warm", "Hi", "yes", task="greet", group="seen", id="a")
LONG = Conditioned("a condition of many words", "Why?", "no", system="Be brief.", id="b")
BARE = Conditioned("", "Who", "me", id="c")


def encoder(**options: Any) -> ConditionEncoder:
    return ConditionEncoder(byte_tokenizer(), **options)


def batch_of(coder: ConditionEncoder, *records: Conditioned) -> ConditionedBatch:
    examples = [example for record in records for example in coder(record)]
    return coder.collate(examples, sum_head_weights(examples))


def test_the_reply_is_learned_and_the_condition_stands_beside() -> None:
    coder = encoder()
    (example,) = coder(WARM)
    text = coder.tokenizer.decode(example.input_ids)
    assert text == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>"
        "\n<|im_start|>assistant\nyes<|im_end|>"
    )
    learned = [
        label
        for label, head in zip(example.labels, example.head_ids, strict=True)
        if head != NO_HEAD
    ]
    assert coder.tokenizer.decode(learned) == "yes<|im_end|>"
    assert coder.tokenizer.decode(example.condition) == "warm"  # no special tokens
    prompt = coder.prompt(WARM)
    assert example.input_ids[: len(prompt)] == prompt
    assert len(example) == len(prompt) + 4
    assert "system\nBe brief.<|im_end|>" in coder.tokenizer.decode(coder.prompt(LONG))
    assert any("warm" in line for line in coder.preview(example))


@pytest.mark.parametrize("packed", [True, False])
def test_batches_carry_conditions(packed: bool) -> None:
    batch = batch_of(encoder(packed=packed), WARM, LONG, BARE)
    assert batch.told == [True, True, False]
    assert batch.condition_ids.shape == (3, 25)
    assert batch.condition_mask.sum(1).tolist() == [4, 25, 0]
    moved = batch.to("cpu")
    assert type(moved) is ConditionedBatch
    assert moved.records == [WARM, LONG, BARE]
    assert torch.equal(moved.condition_ids, batch.condition_ids)
    alone = batch_of(encoder(packed=packed), BARE)
    assert alone.condition_ids.shape == (1, 1)
    assert not alone.condition_mask.any()


@pytest.mark.parametrize("seen", [True, False])
def test_fixed_conditions_are_cut_and_padded(seen: bool) -> None:
    """Cut and padded to 16; padding is seen or not; none stays none; replies: whole ones."""
    coder = encoder(fixed_condition=16, see_padding=seen)
    batch = batch_of(coder, WARM, LONG, BARE)
    pad = coder.tokenizer.pad_token_id
    assert batch.condition_ids[0].tolist() == [*coder.ids("warm"), *[pad] * 12]
    assert batch.condition_ids[1].tolist() == coder.ids(LONG.condition)[:16]
    assert batch.condition_mask.sum(1).tolist() == ([16, 16, 0] if seen else [4, 16, 0])
    assert batch_of(coder, WARM).condition_ids.shape == (1, 16)
    whole = coder.conditions([WARM, LONG])
    assert whole.mask.sum(1).tolist() == [4, 25]


def test_conditions_are_cut_in_validation_too() -> None:
    """A validation loss is that of the training's form, not of whole conditions."""
    coder = encoder(fixed_condition=16)
    data = ConditionedChat(eval_batch_size=6)
    data.examples("val", coder)
    (batch,) = data.val_dataloader()
    assert max(len(coder.condition(record)) for record in batch.records) > 16
    assert batch.condition_ids.shape == (6, 16)


@pytest.mark.parametrize(
    ("record", "options", "said"),
    [
        (replace(WARM, response=" "), {}, "a: the field 'response' is empty"),
        (LONG, {"max_condition": 24}, "b: a condition of 25 tokens, longer than max_condition=24"),
        (WARM, {"max_length": 20}, "longer than the window max_length=20"),
    ],
)
def test_samples_that_do_not_fit(record: Conditioned, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        encoder(**options)(record)


def test_condition_without_tokens() -> None:
    """Some tokenizers make nothing of a text; that is not the same as no condition."""
    coder = encoder()
    coder.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    with pytest.raises(InputError, match=r"a: the condition '\\u200b' gives no token"):
        coder.condition(replace(WARM, condition="\u200b"))
    assert coder.condition(BARE) == []


def test_prompt_that_fills_the_window() -> None:
    with pytest.raises(InputError, match="a: .* leaves no room in the window max_length=30"):
        encoder(max_length=30).prompt(WARM)


# -- evaluation --------------------------------------------------------------------------------


@pytest.fixture
def module(make: Make) -> Any:
    built = make("MeGan", "tiny-llama", hyper={"bottleneck": 4}, max_answer_tokens=2)
    built.on_validation_epoch_start()
    return built


def logged(module: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    found: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: found.update({name: value}))
    module.log_scores("val")
    return found


def answer(module: Any, name: str, record: Conditioned, reply: ConditionedReply) -> None:
    """Give a record, under a name of its own, an answer of this epoch."""
    module.answers[name] = (record, reply)
    module.answered.append([name])
    module.update_metrics([(record, reply)], [name])


def test_accuracy_by_task_and_group(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strict after normalising, and the released default: the reference stands in the reply."""
    other = replace(WARM, response="related", task="relate", group="unseen")
    pairs = ((WARM, "Yes."), (WARM, "no"), (other, "not Related"), (other, "Relate"))
    for i, (record, text) in enumerate(pairs):
        answer(module, str(i), record, ConditionedReply(text, [1.0] * 4))
    found = logged(module, monkeypatch)
    assert {name: value for name, value in found.items() if "accuracy" in name} == {
        "val/accuracy": 0.25,
        "val/accuracy_greet": 0.5,
        "val/accuracy_relate": 0.0,
        "val/accuracy_seen": 0.5,
        "val/accuracy_unseen": 0.0,
        "val/mention_accuracy": 0.5,
        "val/mention_accuracy_greet": 0.5,
        "val/mention_accuracy_relate": 0.5,
        "val/mention_accuracy_seen": 0.5,
        "val/mention_accuracy_unseen": 0.5,
    }


def test_overlap_and_variety_of_free_replies(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-L's F with beta = 1, B-2 and Distinct-n, by hand; a single word counts as one pair."""
    style = "Please answer the question with the style of an old sailor."
    pairs = (("we sail at dawn", "we sail at dawn today"), ("aye", "no"))
    for i, (gold, reply) in enumerate(pairs):
        told = Conditioned(style, "When?", gold, id=str(i))
        answer(module, str(i), told, ConditionedReply(reply, [1.0] * 4))
    found = logged(module, monkeypatch)
    scores = {name: float(metric.compute()) for name, metric in found.items() if "acc" not in name}
    precision, recall = 4 / 5, 4 / 4
    assert scores == {
        "val/rouge_l": pytest.approx(100 * 2 * precision * recall / (precision + recall) / 2),
        "val/bleu_2": pytest.approx(100 * (4 / 6 * 3 / 5) ** 0.5),
        "val/distinct_1": pytest.approx(100.0),
        "val/distinct_2": pytest.approx(100.0),
    }


def test_heat_map_has_a_row_for_each_condition(module: Any) -> None:
    assert module.figures() == {}
    pairs = ((WARM, 1.001), (WARM, 1.003), (LONG, 0.99), (BARE, 1.0))
    for i, (record, beta) in enumerate(pairs):
        answer(module, str(i), record, ConditionedReply("", [beta] * 4))
    axes = module.figures()["beta"].axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["warm", LONG.condition, "none"]
    shown = axes.images[0].get_array()
    torch.testing.assert_close(
        torch.tensor(shown), torch.tensor([[1.002] * 4, [0.99] * 4, [1.0] * 4])
    )
    assert axes.texts[0].get_text() == "1.002"
    module.on_validation_epoch_start()
    assert module.figures() == {}


def test_figures_are_of_a_dozen_conditions_with_short_names(module: Any) -> None:
    for i in range(20):
        told = replace(WARM, condition=f"{i:02}\n\n" + "word " * 20)
        answer(module, str(i), told, ConditionedReply("", [1.0] * 4))
    axes = module.figures()["beta"].axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert [name[:7] for name in names] == [f"{i:02} word" for i in range(12)]
    assert all(name.endswith("...") and len(name) <= 32 for name in names)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3", "4"]


def test_a_prediction_and_a_sample_hold_reply_and_betas(module: Any) -> None:
    reply = ConditionedReply("yes", [1.0, 1.25, 0.75])
    assert module.prediction(WARM, reply) == {"id": WARM.id, "answer": "yes", "betas": reply.betas}
    assert module.sample(WARM, reply) == {
        **{"condition": "warm", "query": WARM.prompt, "reply": "yes", "gold": WARM.response},
        "beta": "block 1 1.0000, block 2 1.2500, block 3 0.7500",
    }


def test_show(module: Any) -> None:
    first, second = module.show([WARM, BARE])
    assert first["condition"] == "warm"
    assert first["reply"].endswith("[gold: yes]")
    assert second["condition"] == "none"
    assert second["beta"] == ", ".join(f"block {i} 1.0000" for i in range(1, 5))
    (asked,) = module.show([WARM, BARE], prompt="What?", condition="")
    assert (asked["query"], asked["condition"]) == ("What?", "none")
    assert "gold" not in asked["reply"]
    rows = module.show([WARM, BARE], condition="cold")
    assert [row["condition"] for row in rows] == ["cold", "cold"]
    with pytest.raises(TypeError, match="given"):
        module.show([WARM], given="x")


def test_beta_map() -> None:
    assert beta_map([1.0] * 30).startswith("blocks 1-6 1.0000, blocks 7-12 1.0000, blocks 13-18")
    assert beta_map([1.0] * 10 + [0.5] * 2).endswith("blocks 10-12 0.6667")
    assert beta_map([1.0, 1.25]) == "block 1 1.0000, block 2 1.2500"
