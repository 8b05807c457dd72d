"""Scores are made in float32 wherever autocast is on, and only from the product of equation (2)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import zoo
from zoo.decoding.option_logits import option_log_probs
from zoo.records import Corpus, Document, Ranking

POOL = Corpus({str(i): Document(str(i), f"skill number {i}") for i in range(300)})
QUERY = "open the door"
RECORD = Ranking(QUERY, POOL, (("0", 1),), id="r")
SIZE = len(POOL.documents)


def bf16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.fidelity("rabtriever", 6)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_documents_tie_in_bfloat16(make: Any, dtype: str) -> None:
    """`bf16-mixed`, and a backbone in bfloat16: every document has a score of its own."""
    module = make("Rabtriever", "tiny-llama", spread=8.0, backbone={"dtype": dtype})
    with bf16():
        (row,) = module.scores([RECORD])
        states = module.offline(list(POOL.documents.values()))
        (online,) = module.online([QUERY], states)
        (vector,) = module.search_vectors([QUERY])
    assert vector.dtype == states["vectors"].dtype == torch.float32
    assert len(set(row)) == len(set(online.tolist())) == SIZE
    plain = vector @ states["vectors"].t()
    torch.testing.assert_close(online, plain.double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.tensor(row).double(), online, rtol=0, atol=1e-5)


def test_a_literal_score_does_not_tie_in_bfloat16(make: Any) -> None:
    """The printed ratio of LaHoRe, over the whole vocabulary."""
    module = make("LaHoRe", "tiny-llama", spread=8.0, score="literal")
    states = torch.randn(SIZE, module.lm.config.hidden_size)
    wide = module.read(states)
    with bf16():
        narrow = module.read(states)
    assert len(set(narrow.tolist())) == len(set(wide.tolist())) == SIZE
    torch.testing.assert_close(narrow, wide)


def test_log_probabilities_are_those_of_the_whole_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """log softmax(W norm(h)) at the options, however many rows of W are read at a time."""
    states, weight, options = torch.randn(5, 8), torch.randn(37, 8), [3, 31]
    expected = (states.tanh() @ weight.t()).log_softmax(1)[:, options]
    for rows in (1, 10, 100):
        monkeypatch.setattr("zoo.decoding.option_logits.ROWS", rows)
        found = option_log_probs(states, torch.tanh, weight, options)
        torch.testing.assert_close(found, expected)


class Sum(zoo.Rabtriever):
    """Equation (2) with a sum."""

    def forward(self, queries: Tensor, documents: Tensor) -> Tensor:  # type: ignore[override]
        return self.predictor(queries) + documents.float()


class SumThatRanks(Sum):
    """The same with scores of its own."""

    def query_vectors(self, tails: Any) -> Tensor:
        true, false = self.lm.lm_head.weight[self.encoder().option_ids].float()
        return (true - false).expand(len(tails), -1)  # <W, u + z>: u moves no document


def test_another_equation_two_is_not_ranked_by_the_product() -> None:
    """What is learned would not be what ranks; with a ranking of its own it is taken."""
    module, fine = Sum({"name": "tiny-llama"}), SumThatRanks({"name": "tiny-llama"})
    for made in (module, fine):
        made.configure_model()
    states = fine.offline(list(POOL.documents.values()))
    for rank in (
        lambda: module.scores([RECORD]),
        lambda: module.online([QUERY], states),
        lambda: module.search_vectors([QUERY]),
    ):
        with pytest.raises(TypeError, match="Sum overrides forward, equation .2., but"):
            rank()
    assert len(set(fine.scores([RECORD])[0])) == SIZE
