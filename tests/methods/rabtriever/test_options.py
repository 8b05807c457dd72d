"""What options of Rabtriever allow, and in which precision its vectors are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.errors import InputError
from zoo.methods.rabtriever import document_vectors
from zoo.methods.rabtriever.document_vectors import DocumentVectors
from zoo.methods.rabtriever.teacher import check_prompt
from zoo.records import Corpus, Document, Ranking
from zoo.sample_preview import DIM, PLAIN


@pytest.mark.parametrize("layers", [1, 3])
def test_a_predictor_of_one_or_three_layers(make: Any, layers: int) -> None:
    module = make("Rabtriever", "tiny-llama", num_layers=layers)
    linear = [m for m in module.predictor.modules() if isinstance(m, torch.nn.Linear)]
    assert len(linear) == layers
    states = torch.randn(5, module.lm.config.hidden_size)
    assert (module.predictor(states) < 0).any(), "no ReLU after the last layer"


def test_a_query_vector_is_made_in_float32(make: Any) -> None:
    """W_T - W_F of rows in bfloat16 that differ by less than its precision is not rounded."""
    module = make("Rabtriever", "tiny-llama")
    head, (true, false) = module.lm.lm_head, module.encoder().option_ids
    head.weight = torch.nn.Parameter(head.weight.detach().bfloat16(), requires_grad=False)
    with torch.no_grad():
        head.weight[true], head.weight[false] = 1.0, -1 / 512  # 1.00195 rounds to 1 in bfloat16
    tail = module.encoder().half("tail", "query", "What?")
    (vector,) = module.query_vectors([tail])
    states = module.frozen.alone(module.lm, [tail], module.everyone_done)[tail]
    made = module.predictor(module.lm.model.norm(states[-1]))
    torch.testing.assert_close(vector, made * (1 + 1 / 512), rtol=1e-5, atol=1e-6)


def test_a_checkpoint_that_is_not_there_is_not_read(tmp_path: Path) -> None:
    """Who loads it says that it is missing."""
    check_prompt({}, str(tmp_path / "gone.ckpt"))


def test_documents_that_were_not_met_are_no_figure() -> None:
    met = DocumentVectors()
    met.kept["a"] = "A title", torch.ones(2)
    assert met.figure({"b"}) == {}
    vectors, titles = met.figure({"a", "b"})["documents"]
    assert (vectors.tolist(), titles) == ([[1.0, 1.0]], ("A title",))


def test_the_first_documents_are_shown_with_their_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, up to the limit, in the pool's order; a title, or the text's beginning."""
    monkeypatch.setattr(document_vectors, "MAX_VECTORS", 3)
    texts = {"a": Document("a", "words", title="A title"), "b": Document("b", "x" * 100)}
    rest = {name: Document(name, name) for name in "cde"}
    few, many = Corpus(texts), Corpus(texts | rest)
    records = [Ranking("q", pool, (("a", 1),), id="q") for pool in (few, many)]
    met = DocumentVectors()
    vectors = torch.arange(7.0)[:, None]
    met.add(records, vectors)
    assert {name: (title, row.item()) for name, (title, row) in met.kept.items()} == {
        "a": ("A title", 0.0),
        "b": ("x" * 80, 1.0),
        "c": ("c", 4.0),  # the pools come one after the other
    }
    with pytest.raises(ValueError, match="shorter"):
        met.add(records, vectors[1:])


def test_a_batch_says_how_much_work_it_is(make: Any) -> None:
    encoder = make("Rabtriever", "tiny-llama").encoder()
    pool = Corpus({name: Document(name, f"skill {name}") for name in "ab"})
    pairs = encoder(Ranking("hello", pool, (("b", 1),), id="r"))
    batch = encoder.collate(pairs, {})
    tokens = sum(len(pair.head) + len(pair.tail) for pair in pairs)
    assert batch.counts() == {"tokens": tokens, "pairs": 2}
    assert [record is None for record in batch.records] == [False, True]
    assert batch.normalizers == {0: float(sum(len(pair.tail) for pair in pairs)), 2: 2.0}
    assert encoder.collate(pairs, {0: 7.0}).normalizers == {0: 7.0}


def test_the_preview_shows_what_is_learned(make: Any) -> None:
    """The query part, undimmed behind the dimmed document, and its number of positions."""
    encoder = make("Rabtriever", "tiny-llama").encoder()
    pool = Corpus({"a": Document("a", "skill a")})
    (pair,) = encoder(Ranking("hello", pool, (("a", 1),), id="r"))
    said, shown = encoder.preview(pair)
    assert said == f"sample      {len(pair.tail)} positions learned"
    assert shown.startswith(DIM)
    dimmed, _, plain = shown.partition(PLAIN)
    assert dimmed.endswith("Document : skill a")
    assert plain.startswith("\nQuery : hello\n")


def test_a_process_without_states_to_run_runs_along(make: Any) -> None:
    """While another one has some: its last piece again, and the states are the same."""
    module = make("Rabtriever", "tiny-llama")
    tails = [module.encoder().half("tail", "query", query) for query in ("one", "two words")]
    known = module.frozen.alone(module.lm, tails)
    passes: list[int] = []
    module.lm.model.layers[0].register_forward_hook(lambda *_: passes.append(1))
    assert module.frozen.alone(module.lm, tails).keys() == known.keys()
    assert not passes
    others = iter([False, False, False, True])  # have two pieces

    def done(mine: bool) -> bool:
        return next(others) and mine

    found = module.frozen.alone(module.lm, tails, done)
    assert len(passes) == 2
    for tail in tails:
        assert torch.equal(found[tail], known[tail])


def test_memory_of_states_is_counted_in_bytes(make: Any) -> None:
    module = make("Rabtriever", "tiny-llama")
    encoder, width = module.encoder(), module.lm.config.hidden_size
    tail, head = encoder.half("tail", "query", "one"), encoder.half("head", "document", "two")
    module.frozen.alone(module.lm, [tail])
    module.frozen.last(module.lm, [head])
    assert module.frozen.queries.num_bytes == len(tail) * width * 4
    assert module.frozen.ends.num_bytes == width * 4


def test_an_index_is_of_one_prompt(make: Any) -> None:
    """A document's vector depends on the words before it and its slot, not on the question."""
    module = make("Rabtriever", "tiny-llama", document_tokens=16, system="Be brief.")
    assert module.offline_settings() == {
        "template": "followup",
        "system": "Be brief.",
        "document_tokens": 16,
        "product": True,
    }


def test_what_is_learned_from_is_float32(make: Any) -> None:
    """Of a teacher in bfloat16: predictions, wanted states and vectors; scores in float64."""
    module = make("Rabtriever", "tiny-llama", backbone={"dtype": "bfloat16"})
    encoder = module.encoder()
    pool = Corpus({name: Document(name, f"skill {name}") for name in "ab"})
    record = Ranking("hello", pool, (("b", 1),), id="r")
    pairs = encoder(record)
    views = module.views(pairs)
    assert views.predicted.dtype == views.wanted.dtype == torch.float32
    assert module.document_vectors([pairs[0].head]).dtype == torch.float32
    states = module.offline(list(pool.documents.values()))
    online = module.online(["hello"], states)
    assert online.dtype == torch.float64
    assert online[0].tolist() == pytest.approx(module.scores([record])[0], rel=1e-2)
    assert all(term.sum.isfinite() for term in module.losses(encoder.collate(pairs, {})).values())


def test_vectors_shown_are_those_of_the_last_evaluation(make: Any) -> None:
    module = make("Rabtriever", "tiny-llama")
    pool = Corpus({name: Document(name, f"skill {name}") for name in "ab"})
    record = Ranking("hello", pool, (("b", 1),), id="r")
    assert module.figures() == {}
    module.start_evaluation()
    module.answers = {"r": (record, module.rank([record])[0])}
    vectors, titles = module.figures()["documents"]
    assert titles == ("skill a", "skill b")
    heads = [pair.head for pair in module.encoder()(record)]
    torch.testing.assert_close(vectors, module.document_vectors(heads))
    module.start_evaluation()
    assert module.shown.kept == {}


def test_a_bad_prompt_is_refused_before_anything_is_loaded() -> None:
    for method in ("Rabtriever", "LaHoRe"):
        module = getattr(zoo, method)(backbone={"name": "tiny-llama"}, labels=["A", "A"])
        with pytest.raises(InputError, match="are the same token"):
            module.validate()
