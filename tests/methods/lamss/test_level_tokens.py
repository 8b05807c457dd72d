"""Graded tokens in tokenizer, embedding and head."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from zoo import backbone as backbones
from zoo.backbone import Backbone
from zoo.errors import InputError
from zoo.markup import token_ids
from zoo.methods.lamss.level_tokens import (
    GRADED,
    MARK,
    add_levels,
    grow,
    letter_offsets,
    level_ids,
)


def grown(shape: str, num_levels: int = 5, dtype: str = "float32") -> tuple[Any, Any, list[int]]:
    lm, tokenizer = backbones.load(Backbone(shape, dtype=dtype))  # type: ignore[arg-type]
    ids = add_levels(tokenizer, num_levels, lm.config, shape)
    grow(lm, tokenizer, ids)
    return lm, tokenizer, ids


def test_rows_are_drawn_on_the_processor(shape: str) -> None:
    """The same rows on every card: a trainer builds modules in the context of its device."""
    want, _, _ = grown(shape)
    lm, tokenizer = backbones.load(Backbone(shape))
    ids = add_levels(tokenizer, 5, lm.config, shape)
    with torch.device("meta"):
        grow(lm, tokenizer, ids)
    assert torch.equal(lm.get_input_embeddings().weight, want.get_input_embeddings().weight)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_start_on_the_way_to_graded_words(shape: str, dtype: str) -> None:
    """s_0 leans to `certain`, s_{N-1} to `doubtful`; the rest are between; the same every time."""
    lm, tokenizer, ids = grown(shape, dtype=dtype)
    table = lm.get_input_embeddings().weight.detach().float()
    words = [
        table[tokenizer(f" {word}", add_special_tokens=False)["input_ids"]].mean(0)
        for word in GRADED
    ]
    mean = table[: ids[0]].mean(0)
    for level, word in ((0, words[0]), (4, words[-1])):
        off = table[ids[level]] - (mean + word) / 2
        assert off.std() < 0.2 * table[: ids[0]].std()  # the noise
    assert len(torch.unique(table[ids], dim=0)) == 5
    again = grown(shape, dtype=dtype)[0].get_input_embeddings().weight
    assert torch.equal(again.float(), table)


def test_shapes_alone_on_the_meta_device(shape: str) -> None:
    lm, tokenizer = backbones.load(Backbone(shape), meta=True)
    ids = add_levels(tokenizer, 3, lm.config, shape)
    grow(lm, tokenizer, ids)
    assert lm.lm_head.weight.is_meta
    assert lm.lm_head.weight.shape[0] == lm.model.embed_tokens.weight.shape[0] == 262
    assert (lm.lm_head.weight is lm.model.embed_tokens.weight) == (shape != "tiny-llama")


def test_tokens_of_ones_own_stay(shape: str) -> None:
    """A second call changes nothing; other levels, or tokens of another origin, are an error."""
    lm, tokenizer, ids = grown(shape)
    before = lm.get_input_embeddings().weight
    assert add_levels(tokenizer, 5, lm.config, "here") == ids == level_ids(tokenizer, lm.config)
    grow(lm, tokenizer, ids)
    assert lm.get_input_embeddings().weight is before
    with pytest.raises(InputError, match=r"model.num_levels: 3, but here has 5 levels already"):
        add_levels(tokenizer, 3, lm.config, "here")
    delattr(lm.config, MARK)
    with pytest.raises(InputError, match=r"tokenizer of here has a token '<\|skeptic_0\|>'"):
        add_levels(tokenizer, 5, lm.config, "here")


def test_names_in_a_text_are_letters() -> None:
    _, tokenizer, ids = grown("tiny-llama")
    text = "a <|skeptic_3|><|skeptic_12|> <|im_end|>"
    found = token_ids(tokenizer, text)
    assert not set(found) & {*ids, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert tokenizer.decode(found) == text
    assert [text[a:b] for a, b in letter_offsets(tokenizer, text)] == list(text)
