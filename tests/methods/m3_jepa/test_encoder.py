"""From media-text records to pair batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.methods.m3_jepa.encoder import PAIR, PairBatch, PairEncoder
from zoo.records import Media, MediaText
from zoo.tiny_models import byte_tokenizer


def decode(media: Media) -> Tensor:
    """A picture of one value: the length of its bytes."""
    return torch.full((3, 2, 2), float(len(media.read())))


def encoder(**options: Any) -> PairEncoder:
    return PairEncoder(byte_tokenizer(), {"image": decode}, **options)


def record(name: str, *texts: str, **options: Any) -> MediaText:
    return MediaText(Media(name, data=name.encode()), texts, id=name, **options)


def test_an_example_for_every_text() -> None:
    found = encoder()(record("cat", "a cat", "it purrs"))
    assert [example.text for example in found] == ["a cat", "it purrs"]
    assert [len(example) for example in found] == [5, 8]
    assert {example.group for example in found} == {"cat"}
    assert found[0].head_weights() == {PAIR: 1.0}


def test_groups() -> None:
    """The record, its named group, or for questions the answer, whatever the group."""
    make = encoder()
    (plain,) = make(record("x", "a"))
    (grouped,) = make(record("x", "a", group="threes"))
    (asked,) = make(record("x", "yes", question="A cat?"))
    (both,) = make(record("x", "yes", question="A cat?", group="x.png"))
    assert [e.group for e in (plain, grouped, asked, both)] == ["x", "threes", "yes", "yes"]


def test_long_texts_are_cut() -> None:
    (example,) = encoder(max_text_tokens=4)(record("x", "abcdefgh", question="ABCDEFGH"))
    assert len(example.ids) == len(example.question_ids) == 4


@pytest.mark.parametrize("texts", [(), ("",), (" \n",), ("a cat", "")])
def test_no_text(texts: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"^photo: no text, or an empty one"):
        encoder()(record("photo", *texts))


def test_media_without_an_encoder() -> None:
    with pytest.raises(InputError, match=r"^beep: audio where the method has encoders for image"):
        encoder()(record("beep", "a beep", modality="audio"))


def batch_of(*records: MediaText) -> PairBatch:
    make = encoder()
    return make.collate([e for r in records for e in make(r)], {PAIR: 3.0})


def test_a_batch() -> None:
    batch = batch_of(record("cat", "a cat", "it purrs"), record("bee", "a bee", group="insects"))
    assert len(batch) == 3
    assert batch.groups == ["cat", "cat", "insects"]
    assert batch.normalizers == {PAIR: 3.0}
    assert batch.inputs["image"]["pixel_values"].shape == (3, 3, 2, 2)
    assert batch.inputs["text"]["attention_mask"].sum(1).tolist() == [5, 8, 5]
    ids = batch.inputs["text"]["input_ids"]
    assert ids.shape == (3, 8)
    assert (ids[0, 5:] == byte_tokenizer().pad_token_id).all()
    assert byte_tokenizer().decode(ids[0, :5]) == "a cat"
    assert batch.keys["text"] == ["a cat", "it purrs", "a bee"]
    assert batch.keys["image"][0] == batch.keys["image"][1] != batch.keys["image"][2]
    assert set(batch.inputs) == {"image", "text"}
    assert batch.counts() == {"pairs": 3, "text_tokens": 18}


def test_a_batch_is_a_mean_of_its_own_unless_a_step_is_longer() -> None:
    make = encoder()
    examples = [*make(record("x", "a", "b")), *make(record("y", "c"))]
    assert make.collate(examples, {}).normalizers == {0: 3.0}
    assert make.collate(examples, {0: 8.0}).normalizers == {0: 8.0}


def test_questions_are_texts_of_their_own() -> None:
    batch = batch_of(record("x", "yes", question="A cat?"), record("y", "no", question="A b?"))
    assert batch.keys["question"] == ["A cat?", "A b?"]
    assert batch.inputs["question"]["attention_mask"].sum(1).tolist() == [6, 4]
    assert batch.counts() == {"pairs": 2, "text_tokens": 15}


def test_mixed_modalities() -> None:
    make = PairEncoder(byte_tokenizer(), {"image": decode, "audio": decode})
    some = [*make(record("x", "a")), *make(record("beep", "b", modality="audio"))]
    with pytest.raises(InputError, match=r"^x: modalities are mixed in one batch"):
        make.collate(some, {})


def test_sounds_are_waves() -> None:
    make = PairEncoder(byte_tokenizer(), {"audio": lambda media: torch.zeros(7)})
    batch = make.collate(make(record("beep", "a beep", modality="audio")), {})
    assert batch.inputs["audio"]["input_values"].shape == (1, 7)


def test_moving_a_batch_keeps_everything() -> None:
    batch = batch_of(record("x", "yes", question="A cat?"))
    moved = batch.to("meta")
    devices = {t.device.type for part in moved.inputs.values() for t in part.values()}
    assert devices == {"meta"}
    assert (moved.keys, moved.groups, moved.normalizers) == (
        batch.keys,
        batch.groups,
        batch.normalizers,
    )
    assert moved.examples == batch.examples
    assert batch.inputs["text"]["input_ids"].device.type == "cpu"


def test_preview() -> None:
    make = encoder()
    (example,) = make(record("x.png", "yes", question="A cat?"))
    assert make.preview(example) == [
        "media       x.png",
        "question    A cat?",
        "text        yes",
    ]
