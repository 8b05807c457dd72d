"""LaHoRe's scores: cached as uncached, rising with the odds, untrained and trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods.lahore.lahore_records import POOL, RECORDS
from methods.lahore.lahore_reference import (
    MARKS,
    ids_of,
    log_odds,
    next_logits,
    prompt,
    quality,
    task,
)

from zoo.decoding.option_logits import literal_score, relevance_score
from zoo.ranking.metrics import query_scores
from zoo.records import Ranking

# -- 2: cached scores --------------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 2)
@pytest.mark.parametrize("order", ["document_first", "query_first"])
def test_cached_scores_are_uncached_scores(make: Any, shape: str, order: str) -> None:
    """A padded batch of all pairs over kept prefixes scores as every pair run alone."""
    module = make("LaHoRe", shape, spread=12.0, order=order)
    expected = [
        [
            next_logits(module, module.tokenizer.decode([*head, *tail]))
            for name in record.pool
            for head, tail in [module.encoder().halves(record.query, POOL.documents[name])]
        ]
        for record in RECORDS
    ]
    true, false = module.encoder().option_ids
    for kept in (None, module.new_store()):
        module.store = kept
        for _ in range(2):  # the second time prefixes come from the store
            found = module.scores(RECORDS)
            for ours, row in zip(found, expected, strict=True):
                want = [(x[true] - x[false]).item() for x in row]
                assert ours == pytest.approx(want, abs=1e-4)
    assert max(map(max, found)) - min(map(min, found)) > 0.01, "equal scores would prove nothing"
    if order == "document_first":
        z = log_odds(module, RECORDS[0].query, "Question").detach()
        assert found[0][0] == pytest.approx(z.item(), abs=1e-4)


@pytest.mark.fidelity("lahore", 2)
def test_every_document_is_run_once(make: Any) -> None:
    """Tokens that the blocks see: each document once, then the queries' parts."""
    module = make("LaHoRe", "tiny-llama")
    seen: list[int] = []
    hook = module.lm.model.layers[0].register_forward_hook(
        lambda _, inputs, __: seen.append(inputs[0].shape[0] * inputs[0].shape[1])
    )
    module.store = module.new_store()
    records = [Ranking(f"query {i}", POOL, (("ask", 1),), id=str(i)) for i in range(6)]
    module.scores(records)
    hook.remove()
    encoder = module.encoder()
    heads = [len(encoder.half("head", "document", d.content)) for d in POOL.documents.values()]
    tails = 6 * 4 * len(encoder.half("tail", "query", "query 0"))
    assert sum(seen) == sum(heads) + tails


@pytest.mark.parametrize("forget", ["start_evaluation", "log_scores", "on_predict_epoch_end"])
def test_documents_are_kept_during_one_evaluation_only(make: Any, forget: str) -> None:
    """Once it ends, or where the next one starts after one that was broken off, none is left."""
    module, fresh = make("LaHoRe", "tiny-llama"), make("LaHoRe", "tiny-llama")
    module.start_evaluation()
    module.scores(RECORDS)
    assert len(module.store) == len(POOL.documents)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn_like(parameter) / 10
    fresh.load_state_dict(module.state_dict())
    assert module.scores(RECORDS) != fresh.scores(RECORDS), "nothing was kept"
    getattr(module, forget)(*["val"] * (forget == "log_scores"))
    assert module.scores(RECORDS) == fresh.scores(RECORDS)


@pytest.mark.fidelity("lahore", 2)
def test_an_index_scores_the_same(make: Any, shape: str) -> None:
    module = make("LaHoRe", shape, spread=8.0)
    states = module.offline(list(POOL.documents.values()))
    found = module.online([record.query for record in RECORDS], states)
    for ours, row in zip(found.tolist(), module.scores(RECORDS), strict=True):
        assert ours == pytest.approx(row, abs=1e-4)


# -- 6: the score ------------------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 6)
def test_the_score_rises_with_the_odds_and_the_printed_formula_falls() -> None:
    z = torch.arange(-300, 301).float()  # beyond 36 a sigmoid would be 1, all ties
    found = relevance_score(torch.stack([z, torch.zeros_like(z)], 1))
    assert (found.diff() > 0).all()
    assert found[300] == 0
    p = torch.tensor([0.1, 0.5, 0.9])
    printed = p.log() / (p.log() + (1 - p).log())
    assert printed.tolist() == pytest.approx([0.956, 0.5, 0.044], abs=1e-3)
    ours = literal_score(torch.stack([p.log(), (1 - p).log()], 1))
    assert ours.tolist() == pytest.approx((-printed).tolist())
    assert (ours.diff() > 0).all()


@pytest.mark.fidelity("lahore", 6)
def test_the_modules_literal_score_reads_the_whole_vocabulary(make: Any, shape: str) -> None:
    module = make("LaHoRe", shape, spread=8.0, score="literal")
    found = module.scores(RECORDS[:1])[0]
    for ours, document in zip(found, POOL.documents.values(), strict=True):
        text = prompt(RECORDS[0].query, document.content)
        log_probs = next_logits(module, text).log_softmax(0)
        true, false = (log_probs[ids_of(module, label)[0]].item() for label in "AB")
        assert ours == pytest.approx(-true / (true + false), abs=1e-4)


# -- 8: directions -----------------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 8)
def test_untrained_is_random_and_bi_encoder_below_sft_up_to_dpo(learned: dict[str, Any]) -> None:
    """Three documents: random MRR is (1 + 1/2 + 1/3) / 3 = 0.611."""
    chance = (1 + 1 / 2 + 1 / 3) / 3
    sft, dpo = (quality(learned[name].module, task()) for name in ("sft", "dpo"))
    assert learned["sft"].untrained == pytest.approx(chance, abs=0.25)
    module = learned["sft"].module  # its own states, pooled and compared by cosine
    bi_encoder = []
    for record in task():
        texts = [record.query, *(mark * 4 for mark in MARKS)]
        with torch.no_grad():
            vectors = [
                module.lm.model(torch.tensor([ids_of(module, t)])).last_hidden_state[0].mean(0)
                for t in texts
            ]
        cosines = [torch.cosine_similarity(vectors[0], v, dim=0).item() for v in vectors[1:]]
        scores = dict(zip(MARKS, cosines, strict=True))
        bi_encoder.append(query_scores(scores, dict(record.relevant))["MRR@10"])
    assert sum(bi_encoder) / len(bi_encoder) < sft <= dpo
    assert sft > chance + 0.3
    for name in ("sft", "dpo"):
        assert learned[name].losses[-1] < 0.5 * learned[name].losses[0]


# -- 9: no new parameters ----------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 9)
def test_no_parameter_is_added(make: Any, shape: str) -> None:
    """Zero-shot scores come from the backbone's own parameters, bit for bit."""
    from zoo.backbone import Backbone, load

    plain, _ = load(Backbone(shape))
    module = make("LaHoRe", shape)
    ours, theirs = module.state_dict(), plain.state_dict()
    assert set(ours) == {f"lm.{name}" for name in theirs}
    assert all(torch.equal(ours[f"lm.{name}"], value) for name, value in theirs.items())
    assert sum(p.numel() for p in module.parameters()) == sum(p.numel() for p in plain.parameters())
    assert len(module.scores(RECORDS)[0]) == len(POOL)
