"""Questions with options: what is asked, which letter is chosen, how it is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from running import main, scalars, tiny

from zoo.errors import InputError
from zoo.methods.almr.choices import CUE, as_triple, letter_ids
from zoo.records import PlainText, Question

Make = Callable[..., Any]
QUESTIONS = [
    Question("What falls?", ("rain", "smoke", "light"), 0, kind="nature", id="q0"),
    Question("Two and three?", ("four", "five"), 1, kind="sums", id="q1"),
    Question("Which is a river?", ("Rhine", "Alps", "Ruhr", "Harz"), 2, kind="nature", id="q2"),
]


@pytest.fixture
def module(make: Make) -> Any:
    return make("ALMR", "tiny-llama", max_length=4096, spread=4.0)


def log_probs(module: Any, record: Question) -> torch.Tensor:
    """Of each letter behind the question, by transformers itself."""
    text = as_triple(record).query
    start = module.tokenizer.bos_token_id
    ids = [*([] if start is None else [start]), *module.encoder().ids(text)]
    with torch.no_grad():
        logits = module.lm(torch.tensor([ids])).logits[0, -1].float()
    return logits.log_softmax(-1)[letter_ids(module.tokenizer, len(record.options))]


def test_a_question_is_asked_in_letters() -> None:
    asked = as_triple(QUESTIONS[1])
    assert asked.query == f"Two and three?\nA. four\nB. five\n{CUE}"
    assert (asked.answer, asked.kind) == ("B", "sums")


def test_the_most_likely_letter_is_chosen(module: Any) -> None:
    """Of as many letters as the question has, whatever stands beside it in the batch."""
    text = PlainText("The river is high after the rain.", id="t")
    replies = module.generate([QUESTIONS[0], text, *QUESTIONS[1:]])
    assert len(replies) == 4
    chosen = [replies[0], *replies[2:]]
    for record, reply in zip(QUESTIONS, chosen, strict=True):
        assert reply.answer == "ABCD"[int(log_probs(module, record).argmax())]
    assert len({reply.answer for reply in module.generate([QUESTIONS[2]] * 2)}) == 1


def test_the_right_letter_alone_is_learned(module: Any) -> None:
    encoder = module.encoder()
    batch = encoder.collate([e for record in QUESTIONS for e in encoder(record)], {})
    term = module.losses(batch)["answer"]
    by_hand = []
    for record in QUESTIONS:
        start = module.tokenizer.bos_token_id
        ids = [*([] if start is None else [start]), *encoder.ids(as_triple(record).query)]
        right = letter_ids(module.tokenizer, len(record.options))[record.gold]
        with torch.no_grad():
            logits = module.lm(torch.tensor([ids])).logits[0, -1].float()
        by_hand.append(-float(logits.log_softmax(-1)[right]))
    assert float(term.weight) == len(QUESTIONS)
    assert float(term.mean) == pytest.approx(sum(by_hand) / 3, rel=1e-4)


def test_a_text_goes_on_without_markup(module: Any) -> None:
    """What is written after a text's first half follows it at once, no turn is opened."""
    encoder, text = module.encoder(), PlainText("The river is high after the rain.", id="t")
    ids = encoder.prompt(text)
    expected = []
    with torch.no_grad():
        for _ in range(4):
            token = int(module.lm(torch.tensor([ids + expected])).logits[0, -1].argmax())
            expected.append(token)
    module.max_answer_tokens = 4
    (reply,) = module.generate([text])
    assert encoder.stop_id not in expected
    assert reply.answer == encoder.tokenizer.decode(expected, skip_special_tokens=True).strip()


def test_a_long_text_goes_on_from_what_fits(make: Make) -> None:
    """A held-out text longer than two windows stops no run: the end of its first half is shown."""
    module = make("ALMR", "tiny-llama", max_length=16, max_answer_tokens=2)
    text = PlainText("The river is high after the rain. " * 9, id="t")
    prompt = module.encoder().prompt(text)
    first_half = text.text[: len(text.text) // 2]
    assert len(prompt) == 8
    assert first_half.endswith(module.tokenizer.decode(prompt))
    assert len(module.generate([text])) == 1


def test_accuracy_is_logged_by_subject(tmp_path: Path) -> None:
    """`validate` on the sample of MMLU, from the command line."""
    given = ("--data", "datamodules.MMLU", "--data.max_val", "6", "--data.batch_size", "3")
    limits = ("--model.max_length", "512", "--model.domains", "null")
    config = tiny("almr_sft")
    root = ("--trainer.default_root_dir", str(tmp_path))
    main("validate", *config, *given, *limits, *root)
    logged = scalars(tmp_path)
    assert 0.0 <= logged["val/accuracy"] <= 1.0
    assert any(name.startswith("val/accuracy_") for name in logged)
    assert logged["val/answer_loss"] > 0.0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"question": " "}, "q0: the field 'question' is empty"),
        ({"options": ("one",)}, "q0: 1 options; 2 to 26 have letters"),
    ],
)
def test_bad_questions_are_named(module: Any, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        module.encoder()(replace(QUESTIONS[0], **changed))
