"""LaHoRe's memory for documents, its index, its pairs and their preview."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from zoo.encoding import sum_head_weights
from zoo.errors import InputError
from zoo.losses.cross_entropy import total_loss
from zoo.records import Corpus, Document, Ranking

POOL = Corpus({name: Document(name, f"skill {name}") for name in "abcd"})
RECORD = Ranking("hello", POOL, (("b", 1), ("c", 0)), id="r")


def test_memory_for_documents_is_what_is_asked_for(make: Any) -> None:
    """Kept while an evaluation lasts, in bytes; none in between, none if there is no room."""
    module = make("LaHoRe", "tiny-llama", cache_gib=0.25)
    assert module.new_store().max_bytes == 2**28
    assert module.store is None
    module.start_evaluation()
    module.scores([RECORD])
    assert len(module.store) == 4
    module.on_predict_epoch_end()
    assert module.store is None
    bare = make("LaHoRe", "tiny-llama", cache_gib=0.0)
    bare.start_evaluation()
    bare.scores([RECORD])
    assert len(bare.store) == 0


def test_an_index_is_of_one_prompt(make: Any) -> None:
    """A document's states depend on the words before it and its slot, not on the question."""
    module = make("LaHoRe", "tiny-llama", document_tokens=16, system="Be brief.", choice=False)
    assert module.offline_settings() == {
        "template": "paper",
        "order": "document_first",
        "system": "Be brief.",
        "document_tokens": 16,
    }
    with pytest.raises(InputError, match=r"model\.order: an index needs document_first"):
        make("LaHoRe", "tiny-llama", order="query_first").offline_settings()


def test_scores_by_an_index_are_in_float64_and_in_order(make: Any) -> None:
    module = make("LaHoRe", "tiny-llama", spread=4.0)
    states = module.offline(list(POOL.documents.values()))
    found = module.online(["hello", "another query"], states)
    assert (found.dtype, found.shape) == (torch.float64, (2, 4))
    other = Ranking("another query", POOL, (), id="s")
    for row, wanted in zip(found.tolist(), module.scores([RECORD, other]), strict=True):
        assert row == pytest.approx(wanted, abs=1e-4)


def test_pairs_of_a_record(make: Any) -> None:
    """A grade of 0 is not relevant; the record stands on the first pair that is used."""
    encoder = make("LaHoRe", "tiny-llama").encoder()
    pairs = encoder(RECORD)
    assert [pair.relevant for pair in pairs] == [False, True, False, False]
    assert [pair.record is not None for pair in pairs] == [True, False, False, False]
    assert [pair.key for pair in pairs] == [f"r\n{name}" for name in "abcd"]
    for count, wanted in ((0, 1), (1, 2), (2, 3), (3, 4), (9, 4)):
        few = make("LaHoRe", "tiny-llama", negatives=count).encoder()(RECORD)
        assert len(few) == wanted
        assert sum(pair.relevant for pair in few) == 1
        assert [pair.record is not None for pair in few] == [True] + [False] * (wanted - 1)
    two = make("LaHoRe", "tiny-llama", objective="dpo").encoder()(RECORD)
    assert [len(pair) for pair in two] == [2 * len(pair) for pair in pairs]


def test_the_preview_shows_the_right_answer(make: Any) -> None:
    encoder = make("LaHoRe", "tiny-llama").encoder()
    for pair in encoder(RECORD)[:2]:
        shown = encoder.preview(pair)[1]
        answer = shown.rpartition("assistant\n")[2]
        assert ("B" if not pair.relevant else "A") in answer
        assert ("A" if not pair.relevant else "B") not in answer


def test_a_step_is_the_loss_of_its_objective(make: Any) -> None:
    """It logs the terms by name and leaves the other objective alone."""
    for objective, name in (("sft", "answer"), ("dpo", "preference")):
        module = make("LaHoRe", "tiny-llama", objective=objective)
        pairs = module.encoder()(RECORD)
        batch = module.encoder().collate(pairs, sum_head_weights(pairs))
        module.reference.places = {key: i for i, key in enumerate(batch.keys)}
        module.reference.values = torch.zeros(4, 2)
        logged: dict[str, Any] = {}
        module.log_terms = lambda stage, terms, logged=logged: logged.update({stage: terms})
        loss = module.training_step(batch, 0)
        assert list(logged) == ["train"]
        assert list(logged["train"]) == [name]
        assert loss.item() == pytest.approx(total_loss(logged["train"]).item())
        module.training = False
        evaluated = module.losses(batch)
        assert list(evaluated) == ["answer"], "in validation the likelihood, for both"


def test_a_query_needs_room_for_one_token(make: Any) -> None:
    """The smallest window that is accepted leaves one; every pair fits it."""
    wide = make("LaHoRe", "tiny-llama", document_tokens=8).encoder()
    least = wide.max_length - wide.query_tokens + 1
    encoder = make("LaHoRe", "tiny-llama", document_tokens=8, max_length=least).encoder()
    assert encoder.query_tokens == 1
    assert max(len(pair) for pair in encoder(RECORD)) <= least
    with pytest.raises(InputError, match="leaves no room for a query"):
        make("LaHoRe", "tiny-llama", document_tokens=8, max_length=least - 1)


def test_what_was_not_cut_is_not_reported(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    encoder = make("LaHoRe", "tiny-llama", document_tokens=8).encoder()
    encoder(Ranking("hello", Corpus({"a": Document("a", "short")}), (("a", 1),), id="r"))
    encoder.report_cut()
    assert not caplog.records
    encoder(RECORD)
    encoder(Ranking("hello", Corpus({"e": Document("e", "long " * 9)}), (("e", 1),), id="s"))
    encoder.report_cut()
    (record,) = caplog.records
    assert "of a document, 8 tokens, and lose their end" in record.getMessage()
