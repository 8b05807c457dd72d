"""MeGan's training: gradients by the transcription, and the penalties on beta."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from methods.megan.megan_reference import Reference
from methods.megan.megan_samples import Make, build, close, records, samples, silence
from training import batch_of

pytestmark = pytest.mark.filterwarnings("ignore:.*activation_checkpointing.*")


# -- 4: what is trained ------------------------------------------------------------------------


@pytest.mark.fidelity("megan", 4)
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_hypernetwork_only_gradients(
    make: Make, case: tuple[str, dict[str, Any]], packed: bool
) -> None:
    """The hypernetwork's gradients are the transcription's; the backbone has none and stays."""
    module = silence(build(make, *case, padding_free=packed)).double()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    module.training_step(batch_of(module, records()), 0).backward()
    reference = Reference(module, torch.float64)
    reference.loss(samples(module, records())).backward()
    expected = reference.gradients()
    for name, parameter in module.named_parameters():
        if name.startswith("lm."):
            assert parameter.grad is None, name
            assert not parameter.requires_grad, name
        else:
            want = expected[name]
            torch.testing.assert_close(parameter.grad, want, rtol=1e-6, atol=1e-9)
    trained = [p for p in module.parameters() if p.requires_grad]
    torch.optim.AdamW(trained, lr=0.1).step()
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("lm."), name


@pytest.mark.fidelity("megan", 4)
def test_full_gradients(make: Make, shape: str) -> None:
    """`train: full`: all gradients are the transcription's, the embedding's through C is none."""
    module = silence(build(make, shape, {"bottleneck": 16}, train="full")).double()
    module.training_step(batch_of(module, records()), 0).backward()
    reference = Reference(module, torch.float64)
    reference.loss(samples(module, records())).backward()
    expected = reference.gradients()
    for name, parameter in module.named_parameters():
        want = expected[name]
        torch.testing.assert_close(parameter.grad, want, rtol=1e-6, atol=1e-9)


# -- 8: penalties ------------------------------------------------------------------------------


@pytest.mark.fidelity("megan", 8)
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_penalties_equal_the_transcription(make: Make, shape: str, packed: bool) -> None:
    """Loss and gradients of CE + lambda_beta sum |delta| + lambda_w ||W_b||, a row without."""
    weights = {"lambda_beta": 1e-3, "lambda_w": 0.7}
    module = build(make, shape, {"bottleneck": 16}, padding_free=packed, **weights)
    module = silence(module).double()
    found = [*records()[:3], replace(records()[3], condition="")]
    loss = module.training_step(batch_of(module, found), 0)
    loss.backward()
    reference = Reference(module, torch.float64)
    expected = reference.loss(samples(module, found), **weights)
    expected.backward()
    close(loss, expected)
    plain = reference.loss(samples(module, found))
    assert float(expected - plain) > 0.1
    for name, want in reference.gradients().items():
        if name.startswith("hypers."):
            ours = module.get_parameter(name).grad
            torch.testing.assert_close(ours, want, rtol=1e-6, atol=1e-9)


@pytest.mark.fidelity("megan", 8)
def test_penalty_pushes_delta_down(make: Make, shape: str) -> None:
    """Steps along its gradient alone shrink mean |delta|; without lambdas there is CE alone."""
    module = build(make, shape, {"bottleneck": 16}, lambda_beta=1.0)
    batch = batch_of(module, records())
    optimizer = torch.optim.SGD(module.hypers.parameters(), lr=1.0)
    means = []
    for _ in range(8):
        term = module.losses(batch)["beta"]
        means.append(float(term.mean))
        optimizer.zero_grad()
        (term.sum / term.weight).backward()
        optimizer.step()
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.9 * means[0]
    plain = silence(build(make, shape, {"bottleneck": 16}))
    terms = plain.losses(batch_of(plain, records()))
    assert set(terms) == {"reply"}
    step = plain.training_step(batch_of(plain, records()), 0)
    assert torch.equal(step, terms["reply"].loss)
    close(step, Reference(plain).loss(samples(plain, records())))
