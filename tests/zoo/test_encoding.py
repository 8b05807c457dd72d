"""Segments to tensors: shift, masks, packing, errors."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from zoo.encoding import (
    IGNORE,
    NO_HEAD,
    Example,
    Segment,
    collate,
    encode,
    sum_head_weights,
)
from zoo.errors import InputError
from zoo.records import Triple


class Words:
    """Word-level tokenizer whose ids are the lengths of the words; counts its calls."""

    added_tokens_decoder: ClassVar[dict[int, Any]] = {}
    unk_token = unk_token_id = None

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __len__(self) -> int:
        return 100

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        self.texts.append(text)
        return {"input_ids": [len(word) for word in text.split()]}


SEGMENTS = [
    Segment("a bb", "user"),
    Segment("ccc dddd", "thought", head=0, weight=0.5),
    Segment("eeeee", "header"),
    Segment("ffffff ggggggg", "assistant", head=1),
]


def example(length: int, head: int = 0, weight: float = 1.0) -> Example:
    return encode(
        Words(), [Segment("q", "user"), Segment("xx " * (length - 1), "assistant", head, weight)]
    )


def test_labels_are_shifted_once() -> None:
    made = encode(Words(), SEGMENTS)
    assert made.input_ids == [1, 2, 3, 4, 5, 6, 7]
    assert made.labels == [IGNORE, 3, 4, IGNORE, 6, 7, IGNORE]
    assert made.head_ids == [NO_HEAD, 0, 0, NO_HEAD, 1, 1, NO_HEAD]
    assert made.weights == [0, 0.5, 0.5, 0, 1, 1, 0]
    assert made.head_weights() == {0: 1.0, 1: 2.0}
    assert len(made) == 7


def test_a_supervised_first_token_has_nothing_that_predicts_it() -> None:
    made = encode(Words(), [Segment("a bb", "assistant", head=0)])
    assert made.labels == [2, IGNORE]


def test_segments_are_tokenised_one_by_one() -> None:
    tokenizer = Words()
    encode(tokenizer, SEGMENTS)
    assert tokenizer.texts == [segment.text for segment in SEGMENTS]
    alone = encode(Words(), [Segment("a", "user"), Segment("b", "assistant", head=0)])
    assert len(alone) == 2  # joined, "ab" would be one word


def test_nothing_supervised_is_an_error_that_names_the_sample() -> None:
    record = Triple("q", "t", "a", id="file.jsonl:3")
    with pytest.raises(InputError, match=r"^file\.jsonl:3: no token is supervised"):
        encode(Words(), [Segment("a bb", "user")], record=record)
    with pytest.raises(InputError, match=r"^sample: no token is supervised"):
        encode(Words(), [Segment("a", "assistant", head=0), Segment("b", "user")])


def test_too_long_is_an_error_that_says_how_long() -> None:
    record = Triple("q", "t", "a", id="file.jsonl:3")
    assert len(encode(Words(), SEGMENTS, max_length=7)) == 7
    with pytest.raises(InputError) as caught:
        encode(Words(), SEGMENTS, max_length=6, record=record)
    for part in ("file.jsonl:3", "7 tokens", "max_length=6"):
        assert part in str(caught.value)


def test_packed_layout() -> None:
    batch = collate([example(3), example(2, head=1), example(4, weight=0.25)])
    assert batch.input_ids.shape == (1, 9)
    assert batch.lengths == [3, 2, 4]
    assert batch.offsets.tolist() == [0, 3, 5, 9]
    assert batch.offsets.dtype == torch.int32
    assert batch.attention_mask is None
    assert batch.position_ids[0].tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]
    # The last token of a sequence predicts nothing, least of all its neighbour's first.
    assert batch.labels[0, [2, 4, 8]].tolist() == [IGNORE] * 3
    assert batch.head_ids[0].tolist() == [0, 0, -1, 1, -1, 0, 0, 0, -1]
    assert batch.normalizers == {0: 2.75, 1: 1.0}
    assert (batch.num_tokens, batch.num_supervised) == (9, 6)


def test_padded_layout() -> None:
    batch = collate([example(3), example(2, head=1)], packed=False, pad_id=99)
    assert batch.input_ids.tolist() == [[1, 2, 2], [1, 2, 99]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.labels.tolist() == [[2, 2, IGNORE], [2, IGNORE, IGNORE]]
    assert batch.head_ids.tolist() == [[0, 0, -1], [1, -1, -1]]
    assert batch.weights.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert batch.offsets is None
    assert batch.num_tokens == 5


def test_packed_and_padded_hold_the_same_supervision() -> None:
    examples = [example(5), example(2, head=1), example(3, weight=0.5)]
    packed, padded = collate(examples), collate(examples, packed=False)
    real = padded.attention_mask.bool()
    for name in ("input_ids", "labels", "head_ids", "weights", "position_ids"):
        assert torch.equal(getattr(padded, name)[real], getattr(packed, name)[0]), name
        filler = getattr(padded, name)[~real]
        if name in ("labels", "head_ids"):
            assert (filler < 0).all()
    assert packed.normalizers == padded.normalizers == sum_head_weights(examples)
    assert packed.num_tokens == padded.num_tokens
    assert packed.num_supervised == padded.num_supervised


def test_given_normalizers_are_kept() -> None:
    assert collate([example(3)], {0: 7.5}).normalizers == {0: 7.5}


def test_moving_a_batch_keeps_everything() -> None:
    record = Triple("q", "t", "a")
    made = encode(Words(), SEGMENTS, record=record)
    moved = collate([made]).to("meta")
    assert moved.input_ids.device.type == "meta"
    assert moved.records == [record]
    assert moved.normalizers == {0: 1.0, 1: 2.0}
    assert moved.lengths == [7]


def test_prompt_tokens_are_the_example_tokens() -> None:
    """A generation's prompt has the tokens of training, even where neighbours could merge."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from zoo.prompts.thoughts import ThoughtEncoder
    from zoo.tiny_models import CHAT_TOKENS

    # A byte tokenizer that merges two line ends, as real vocabularies do.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, "ĊĊ"])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ċ", "Ċ")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(CHAT_TOKENS))
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>")
    encoder = ThoughtEncoder(tokenizer, think=0, speak=1)
    record = Triple("\n\nWhere?", "t", "a")
    (made,) = encoder(record)
    prompt = encoder.prompt(record)
    assert prompt == made.input_ids[: len(prompt)]
