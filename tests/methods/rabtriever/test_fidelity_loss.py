"""Rabtriever's loss: squared errors, the divergence and its direction, their weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.rabtriever.rabtriever_samples import batch_of, padded, pairs_of, student

from zoo.methods.rabtriever.distillation import divergence


def plain_terms(module: Any, pair: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return squared errors, KL(student || teacher) and KL(teacher || student) of one pair."""
    slot, head = module.encoder().slot, module.lm.lm_head.weight
    both = padded(module, pair)
    z, wanted = both[slot - 1], both[slot:]
    ids = torch.tensor([pair.tail])
    places = torch.arange(slot, slot + len(pair.tail))[None]
    blind = module.lm.model(ids, position_ids=places, use_cache=False).last_hidden_state[0]
    parts = [m for m in module.predictor.layers if isinstance(m, torch.nn.Linear)]
    hidden = (blind @ parts[0].weight.t() + parts[0].bias).clamp_min(0)
    predicted = (hidden @ parts[1].weight.t() + parts[1].bias) * z
    s, t = ((h[-1] @ head.t()).log_softmax(0) for h in (predicted, wanted))
    squares = ((predicted - wanted) ** 2).mean(1)
    return squares, (s.exp() * (s - t)).sum(), (t.exp() * (t - s)).sum()


# -- 4: the divergence -------------------------------------------------------------------------


@pytest.mark.fidelity("rabtriever", 4)
def test_divergence_and_its_direction() -> None:
    torch.manual_seed(0)
    p, q = torch.randn(2, 5, 11).mul(2).unbind()
    assert (divergence(p, q) > 0).all()
    assert torch.equal(divergence(p, p), torch.zeros(5))
    torch.testing.assert_close(divergence(p, p + 3), torch.zeros(5), rtol=0, atol=1e-5)
    expected = torch.stack(
        [(a.softmax(0) * (a.softmax(0).log() - b.softmax(0).log())).sum() for a, b in zip(p, q)]  # noqa: B905
    )
    torch.testing.assert_close(divergence(p, q), expected)
    # One-sided: the student misses a mode of the teacher; only the forward value punishes that.
    student_, teacher = torch.tensor([[5.0, -5.0]]), torch.tensor([[0.0, 0.0]])
    assert divergence(student_, teacher) < 0.7 < divergence(teacher, student_)


@pytest.mark.fidelity("rabtriever", 4)
@pytest.mark.parametrize("options", [{}, {"divergence": "forward"}, {"positions": "last"}])
def test_both_terms_by_the_transcription(make: Any, shape: str, options: dict[str, str]) -> None:
    """MSE over query positions and width, and KL(student || teacher), over two queries."""
    module = student(make, shape, **options)
    with torch.no_grad():
        module.lm.lm_head.weight.mul_(10)  # peaked distributions, far from symmetric
    found = module.losses(batch_of(module))
    parts = [plain_terms(module, pair) for pair in pairs_of(module)]
    squares = [p[0][-1:] if options.get("positions") else p[0] for p in parts]
    assert found["mse"].loss.item() == pytest.approx(torch.cat(squares).mean().item(), rel=1e-3)
    kl = torch.stack([p[2 if options.get("divergence") else 1] for p in parts]).mean().item()
    other = torch.stack([p[1 if options.get("divergence") else 2] for p in parts]).mean().item()
    assert found["kl"].loss.item() == pytest.approx(kl, rel=1e-3)
    assert abs(kl - other) > 0.05 * kl, "the directions must differ here"


# -- 10: weights -------------------------------------------------------------------------------


@pytest.mark.fidelity("rabtriever", 10)
def test_the_weighting_is_told_in_both_forms(
    make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """w = 0.025 is w_e = 40; both forms have one direction; the run says both numbers."""
    first, second = (student(make, "tiny-llama", form=form) for form in ("w", "w_e"))
    assert first.loss_weights == {"mse": 1.0, "kl": 0.025}
    assert second.loss_weights == pytest.approx({"mse": 40.0, "kl": 1.0})
    grads = []
    for module in (first, second):
        module.predictor.load_state_dict(first.predictor.state_dict())
        module.log = lambda *_, **__: None
        module.training_step(batch_of(module), 0).backward()
        grads.append(torch.cat([p.grad.flatten() for p in module.predictor.parameters()]))
    torch.testing.assert_close(grads[1], 40 * grads[0], rtol=1e-3, atol=1e-6)
    paper = student(make, "tiny-llama", kl_weight=0.25, form="w_e")  # the settings' number
    assert paper.loss_weights == pytest.approx({"mse": 4.0, "kl": 1.0})
    with caplog.at_level(logging.WARNING):
        first.on_train_start()
    assert "w = 0.025; the same as w_e MSE + KL, w_e = 40" in caplog.text
