"""LaHoRe's prompt: document, query, instruction, answer; the paper's words; its labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods.lahore.lahore_records import POOL, RECORDS
from methods.lahore.lahore_reference import END, log_odds, prompt, quality, task

from zoo.methods.lahore.prompts import TEMPLATES

# -- 1: the prompt -----------------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 1)
@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_document_then_query_then_instruction_then_answer(
    make: Any, shape: str, template: str
) -> None:
    """The answer is read at the last prompt position; the head depends on no query."""
    module = make("LaHoRe", shape, template=template)
    encoder, words = module.encoder(), TEMPLATES[template]
    (record, other) = RECORDS
    for pair, name in zip(encoder(record), record.pool, strict=True):
        text = module.tokenizer.decode([*pair.head, *pair.tail])
        places = [
            text.index(part)
            for part in (
                POOL.documents[name].content,
                record.query,
                words.choice[:6],
                "\n<|im_start|>assistant",
            )
        ]
        assert places == sorted(places)
        assert text.endswith("<|im_start|>assistant\n")
        assert record.query not in module.tokenizer.decode(pair.head)
        assert pair.head == encoder.half("head", "document", POOL.documents[name].content)
        batch = encoder.collate([pair], {})
        first = int((batch.head_ids[0] != -1).nonzero()[0])
        assert first == len(pair.head) + len(pair.tail) - 1
        assert batch.labels[0, first] == encoder.option_ids[0 if pair.relevant else 1]
    heads = [[pair.head for pair in encoder(r)] for r in (record, other)]
    assert heads[0] == heads[1]


@pytest.mark.fidelity("lahore", 1)
def test_the_papers_wording_and_its_parts(make: Any) -> None:
    """The whole prompt is the printed one; I_r and I_bc go one by one; the order turns."""
    module = make("LaHoRe", "tiny-llama")
    pair = module.encoder()(RECORDS[0])[2]
    text = module.tokenizer.decode([*pair.head, *pair.tail])
    assert text == prompt(RECORDS[0].query, "Information\na source")

    def told(**options: Any) -> str:
        pair = make("LaHoRe", "tiny-llama", **options).encoder()(RECORDS[0])[2]
        return module.tokenizer.decode([*pair.head, *pair.tail])

    question = "Can Q be appropriately responded with D?"
    assert told(relevance=False) == text.replace(f"{question} ", "")
    choice = text[text.index(" If you think") : text.index(END, text.index(" If you think"))]
    assert told(choice=False) == text.replace(choice, "")
    turned = told(order="query_first")
    assert turned.index(RECORDS[0].query) < turned.index("Information")
    assert sorted(turned) == sorted(text)


# -- 7: labels ---------------------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 7)
def test_swapped_labels_swap_prompt_target_and_reading(make: Any, shape: str) -> None:
    plain, swapped = (make("LaHoRe", shape, spread=8.0, labels=list(x)) for x in ("AB", "BA"))
    assert swapped.encoder().option_ids == plain.encoder().option_ids[::-1]
    for ours, theirs in zip(
        plain.encoder()(RECORDS[0]), swapped.encoder()(RECORDS[0]), strict=True
    ):
        said = swapped.tokenizer.decode([*theirs.head, *theirs.tail])
        assert said == prompt(RECORDS[0].query, POOL.documents[ours.key[4:]].content, "BA")
        ends = [m.encoder().example(p).input_ids for m, p in ((plain, ours), (swapped, theirs))]
        assert {ids[-2] for ids in ends} == set(plain.encoder().option_ids)
        assert theirs.relevant == ours.relevant
    for row, record in zip(swapped.scores(RECORDS), RECORDS, strict=True):
        want = [
            log_odds(swapped, record.query, POOL.documents[n].content, "BA") for n in record.pool
        ]
        assert row == pytest.approx(torch.stack(want).tolist(), abs=1e-4)


@pytest.mark.fidelity("lahore", 7)
def test_both_orders_of_the_labels_learn_the_task(learned: dict[str, Any]) -> None:
    for name in ("sft", "dpo"):
        assert quality(learned[name].module, task()) == 1.0
