"""Option labels and relevance prompts: bad labels, slots that cut, equal halves once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from zoo.errors import InputError
from zoo.losses.preference import sequence_log_probs
from zoo.methods.lahore import encoder as lahore_encoder
from zoo.methods.lahore.encoder import RelevanceEncoder
from zoo.prompts.option_tokens import option_ids
from zoo.records import Corpus, Document, Ranking
from zoo.tiny_models import byte_tokenizer

POOL = Corpus({"a": Document("a", "x" * 60), "b": Document("b", "short")})


def words() -> Any:
    """A tokenizer of words, where a label's token depends on what stands before it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", "A", "B", "\u2581A", "\u2581B", ":", "x", "AB", "<|im_end|>"]
    core = Tokenizer(
        models.BPE(
            vocab={n: i for i, n in enumerate([*names, "\u2581"])},
            merges=[("\u2581", "A"), ("\u2581", "B"), ("A", "B")],
            unk_token="<unk>",
        )
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="<|im_end|>")


def test_labels_are_read_where_they_stand() -> None:
    tokenizer = words()
    assert option_ids(tokenizer, ["A", "B"], "x:") == [1, 2]
    assert option_ids(tokenizer, [" A", " B"], "x:") == [3, 4]
    with pytest.raises(InputError, match=r"'B' is another token after 'xA', where it is read"):
        option_ids(tokenizer, ["A", "B"], "xA")
    with pytest.raises(InputError, match=r"'A' is another token after 'x: '"):
        option_ids(tokenizer, ["A", "B"], "x: ")
    assert option_ids(tokenizer, list("AB"), "x:", key="k") == [1, 2]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["<T>", "<F>"], r"model\.labels: '<T>' is 3 tokens .*'<', 'T', '>'.*such as A and B"),
        (["A", "A"], r"'A' and 'A' are the same token"),
        (["A", ""], r"'' is 0 tokens of this tokenizer \(nothing\)"),
        (["A", "B", "C"], r"are not two, for true and for false"),
        (["A"], r"are not two"),
    ],
)
def test_bad_labels(labels: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        RelevanceEncoder(byte_tokenizer(), labels=labels)


def test_an_unknown_token_is_no_label() -> None:
    with pytest.raises(InputError, match=r"'q' is 1 tokens of this tokenizer"):
        option_ids(words(), ["A", "q"], "x:")


def test_bad_template_and_window() -> None:
    with pytest.raises(InputError, match=r"model\.template: no 'papr'; did you mean 'paper'"):
        RelevanceEncoder(byte_tokenizer(), template="papr")
    with pytest.raises(InputError, match=r"model\.max_length: 250 leaves no room for a query"):
        RelevanceEncoder(byte_tokenizer(), max_length=250, document_tokens=64)
    with pytest.raises(InputError, match="document 'e' is empty"):
        RelevanceEncoder(byte_tokenizer()).halves("q", Document("e", " "))


def test_long_texts_lose_a_document_end_and_a_query_beginning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The cut texts fill their slots; each is counted once; every prompt fits the window."""
    tokenizer = byte_tokenizer()
    room = RelevanceEncoder(tokenizer).max_length - RelevanceEncoder(tokenizer).query_tokens - 512
    encoder = RelevanceEncoder(tokenizer, document_tokens=8, max_length=room + 8 + 10)
    assert encoder.query_tokens == 10
    record = Ranking("0123456789abcdef", POOL, (("a", 1),), id="r")
    for _ in range(2):
        pairs = encoder(record)
    text = tokenizer.decode([*pairs[0].head, *pairs[0].tail])
    assert "document: xxxxxxx\n" in text
    assert "query:6789abcdef\n" in text
    assert encoder.cut == {"document": 1, "query": 1}
    assert all(len(pair) <= encoder.max_length for pair in pairs)
    assert max(map(len, pairs)) == encoder.max_length
    with caplog.at_level(logging.WARNING):
        encoder.report_cut()
    assert [r.getMessage() for r in caplog.records] == [
        "1 texts are longer than the slot of a document, 8 tokens, and lose their end",
        "1 texts are longer than the slot of a query, 10 tokens, and lose their beginning",
    ]


def test_memory_of_tokenised_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as many documents as fit: no more are kept, and each long one is counted once."""
    monkeypatch.setattr(lahore_encoder, "HALVES_BYTES", 20_000)
    encoder = RelevanceEncoder(byte_tokenizer(), document_tokens=8)
    one = 40 * len(encoder.half("head", "document", "text 100")) + 4 * len("text 100")
    count = 10 * 20_000 // one
    texts = [f"text {100 + i}" for i in range(count)]  # nine tokens with their blank
    first = [encoder.half("head", "document", text) for text in texts]
    assert encoder._halves.num_bytes <= 20_000
    assert 1 <= len(encoder._halves) <= count // 10
    again = [encoder.half("head", "document", text) for text in texts]
    assert again == first
    assert len(set(first)) < len(texts), "what lies behind the slot is left out"
    assert encoder.cut == {"document": count, "query": 0}


@pytest.mark.parametrize("order", ["document_first", "query_first"])
def test_a_grid_holds_equal_halves_once(order: Any) -> None:
    encoder = RelevanceEncoder(byte_tokenizer(), order=order)
    records = [Ranking(q, POOL, (("a", 1),), id=str(i)) for i, q in enumerate(("x", "y", "x"))]
    grid = encoder.grid(records)
    assert (len(grid.heads), len(grid.tails)) == (2, 2)
    assert len(grid.pairs) == 6
    assert grid.pairs[:2] == grid.pairs[4:]
    for (key, tail), (query, name) in zip(
        grid.pairs, [(r.query, n) for r in records for n in r.pool], strict=True
    ):
        halves = encoder.halves(query, POOL.documents[name])
        assert (grid.heads[key], grid.tails[tail]) == halves


@pytest.mark.parametrize("packed", [True, False])
def test_preference_batches_and_their_log_probs(make: Callable[..., Any], packed: bool) -> None:
    """Right answers first; each sequence's log-probability is that of its own two tokens."""
    module = make("LaHoRe", "tiny-qwen2", spread=5.0, objective="dpo", padding_free=packed)
    encoder = module.encoder()
    pairs = encoder(Ranking("hello", POOL, (("b", 1),), id="r"))
    batch = encoder.collate(pairs, {}).to("cpu")
    assert batch.keys == ["r\na", "r\nb"]
    assert batch.records == [pairs[0].record, None]
    assert len(batch.lengths) == 4
    assert [len(pair) for pair in pairs] == [2 * n for n in batch.lengths[:2]]
    weight, norm = module.lm.lm_head.weight, module.lm.model.norm
    found = sequence_log_probs(module(batch), batch, weight, norm)
    for value, (pair, right) in zip(
        found, [(p, r) for r in (True, False) for p in pairs], strict=True
    ):
        option = encoder.option_ids[0 if pair.relevant is right else 1]
        ids = [*pair.head, *pair.tail, option, *encoder.end_ids]
        log_probs = module.lm(torch.tensor([ids])).logits[0].log_softmax(1)
        expected = log_probs[-3, ids[-2]] + log_probs[-2, ids[-1]]
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)
