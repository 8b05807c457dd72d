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


@pytest.mark.fidelity("megan", 4)
def test_full_training_leaves_nothing_frozen(make: Make) -> None:
    """As released: `freeze_layer_emb` is about the hypernetwork alone."""
    hyper = {"bottleneck": 16, "freeze_layer_emb": True}
    for trained, frozen in (("full", []), ("hyper", ["hypers.0.layer_embedding.weight"])):
        module = build(make, "tiny-llama", hyper, train=trained)
        found = [name for name, p in module.named_parameters() if not p.requires_grad]
        assert [name for name in found if not name.startswith("lm.")] == frozen
        assert bool(found) == (trained == "hyper")


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
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "per layer"])
def test_the_logged_loss_is_the_objective(make: Make, shared: bool) -> None:
    """CE + lambda_beta sum |delta| + lambda_w sum ||W_b||, the sums of the batch."""
    weights = {"lambda_beta": 1e-3, "lambda_w": 0.7}
    module = build(make, "tiny-llama", {"bottleneck": 16, "shared": shared}, **weights)
    logged: dict[str, Any] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})
    loss = module.training_step(batch_of(module, records()), 0)
    assert logged["train/loss"] == pytest.approx(float(loss.detach()), rel=1e-6)
    norms = sum(float(hyper.head.weight.norm()) for hyper in module.hypers)
    assert logged["train/weight_loss"] == pytest.approx(norms, rel=1e-5)


@pytest.mark.fidelity("megan", 8)
def test_penalty_pushes_delta_down(make: Make, shape: str) -> None:
    """Steps along its gradient alone shrink mean |delta|; without lambdas there is CE alone."""
    module = build(make, shape, {"bottleneck": 16}, lambda_beta=1.0)
    batch = batch_of(module, records())
    optimizer = torch.optim.SGD(module.hypers.parameters(), lr=1.0)
    config = module.lm.config
    channels = config.num_hidden_layers * config.intermediate_size
    means = []
    for _ in range(8):
        mean = module.losses(batch)["beta"].sum / (sum(batch.lengths) * channels)
        means.append(float(mean))
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.9 * means[0]
    plain = silence(build(make, shape, {"bottleneck": 16}))
    terms = plain.losses(batch_of(plain, records()))
    assert set(terms) == {"reply"}
    step = plain.training_step(batch_of(plain, records()), 0)
    assert torch.equal(step, terms["reply"].loss)
    close(step, Reference(plain).loss(samples(plain, records())))
