"""Rabtriever's states of documents are the teacher's; the predictor alone is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from methods.lahore.lahore_reference import Data
from methods.rabtriever.rabtriever_samples import (
    RECORDS,
    batch_of,
    padded,
    pairs_of,
    student,
    teacher_scores,
)
from training import quiet_trainer

from zoo.cache import weights_digest
from zoo.decoding.prefix_cache import prefill, run_packed

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


# -- 1: documents ------------------------------------------------------------------------------


@pytest.mark.fidelity("rabtriever", 1)
@torch.no_grad()
def test_a_document_alone_is_the_teachers_slice(make: Any, shape: str) -> None:
    """All states of a document, padded on the left to one slot, whatever query follows."""
    module = student(make, shape)
    slot, norm = module.encoder().slot, module.lm.model.norm
    assert slot == len(module.encoder().opening) + 32
    lengths = set()
    for pair in pairs_of(module):
        together = padded(module, pair)
        start = slot - len(pair.head)
        alone = norm(run_packed(module.lm, [pair.head], [start]))
        torch.testing.assert_close(alone, together[start:slot], **CLOSE)
        kept = prefill(module.lm, [pair.head], slot=slot)
        torch.testing.assert_close(norm(kept.last)[0], together[slot - 1], **CLOSE)
        vector = module.document_vectors([pair.head])[0]
        torch.testing.assert_close(vector, together[slot - 1], **CLOSE)
        lengths.add(len(pair.head))
    assert len(lengths) == 3
    assert max(lengths) == slot  # the long document fills it and loses its end


@pytest.mark.fidelity("rabtriever", 1)
@torch.no_grad()
def test_views_are_those_of_the_padded_rows(make: Any, shape: str) -> None:
    module = student(make, shape)
    pairs = pairs_of(module)
    views = module.views(pairs)
    for i, pair in enumerate(pairs):
        wanted = padded(module, pair)[module.encoder().slot :]
        torch.testing.assert_close(views.wanted[i, : len(pair.tail)], wanted, **CLOSE)
        assert views.real[i].sum() == len(pair.tail) == views.last[i] + 1
    again = module.views(pairs)  # from what is kept
    assert torch.equal(again.wanted, views.wanted)
    assert torch.equal(again.predicted, views.predicted)


# -- 2: what is trained ------------------------------------------------------------------------


@pytest.mark.fidelity("rabtriever", 2)
def test_only_the_predictor_changes(make: Any, shape: str, tmp_path: Path) -> None:
    module = make("Rabtriever", shape, optimizer={"lr": 1e-2, "warmup_ratio": 0.0})
    before = weights_digest(module.lm.state_dict().items())
    start = {n: p.clone() for n, p in module.predictor.named_parameters()}
    trainer = quiet_trainer(max_steps=2, default_root_dir=tmp_path, limit_val_batches=0)
    trainer.fit(module, Data(RECORDS, batch_size=6))
    assert weights_digest(module.lm.state_dict().items()) == before
    for name, parameter in module.predictor.named_parameters():
        assert not torch.equal(parameter, start[name]), name
    trained = [n for n, p in module.named_parameters() if p.requires_grad]
    assert trained == [f"predictor.{name}" for name in start]
    (optimizer,) = trainer.optimizers
    held = {p.data_ptr() for g in optimizer.param_groups for p in g["params"]}
    assert held == {p.data_ptr() for p in module.predictor.parameters()}
    width = module.lm.config.hidden_size
    assert sum(p.numel() for p in module.predictor.parameters()) == 2 * (width * width + width)
    module.train()
    assert module.predictor.training
    assert not any(part.training for part in module.lm.modules())


@pytest.mark.fidelity("rabtriever", 2)
def test_teacher_and_student_share_the_head(make: Any) -> None:
    """Another head changes both distributions alike: they stay equal where the states are."""
    module = student(make, "tiny-llama")
    module.forward = lambda blind, ends: module.wanted
    batch = batch_of(module)
    module.wanted = module_views(module, batch)
    assert module.losses(batch)["kl"].loss.item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        module.lm.lm_head.weight.normal_()
    assert module.losses(batch)["kl"].loss.item() == pytest.approx(0, abs=1e-6)


def module_views(module: Any, batch: Any) -> torch.Tensor:
    """Return e_tea of a batch."""
    module.wanted = torch.zeros(1)
    return module.views(batch.pairs).wanted


# -- 3: the true states ------------------------------------------------------------------------


@pytest.mark.fidelity("rabtriever", 3)
@torch.no_grad()
def test_true_states_give_the_teachers_score_and_no_loss(make: Any, shape: str) -> None:
    module = student(make, shape)
    pairs = pairs_of(module)
    batch, teacher = batch_of(module), teacher_scores(module, RECORDS)
    apart = module.losses(batch)
    assert min(term.loss.item() for term in apart.values()) > 1e-4
    wanted = module.views(pairs).wanted
    module.forward = lambda blind, ends: wanted
    for term in module.losses(batch).values():
        assert term.loss.item() == pytest.approx(0, abs=1e-9)
    _, ends = module.views(pairs).ends()
    true, false = module.encoder().option_ids
    logits = ends @ module.lm.lm_head.weight.t()
    expected = (logits[:, true] - logits[:, false]).tolist()
    assert [score for row in teacher for score in row] == pytest.approx(expected, abs=1e-5)
    # and the teacher is LaHoRe with the same prompt
    reranker = make("LaHoRe", shape, spread=8.0, template="followup", document_tokens=32)
    for ours, theirs in zip(teacher, reranker.scores(RECORDS), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
