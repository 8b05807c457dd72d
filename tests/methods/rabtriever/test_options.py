"""What options of Rabtriever allow, and in which precision its vectors are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.methods.rabtriever.document_vectors import DocumentVectors
from zoo.methods.rabtriever.teacher import check_prompt


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
