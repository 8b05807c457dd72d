"""Our PPO losses beside those of TRL's trainer on the same tensors."""

from __future__ import annotations

import pytest
import torch

from benchmarks.dreamcub.trl_ppo import EPS, tensors
from zoo.methods.dreamcub.behaviour import policy_loss, value_loss

# python -m benchmarks.dreamcub.trl_ppo, with trl 0.27.0: lengths -> L_pi, L_V.
OF_TRL = {
    (4, 4, 4): (-0.10185511809780694, 0.45323371057726697),
    (3, 1, 4): (-0.6790293660826195, 0.349388735748478),
}


@pytest.mark.fidelity("dreamcub", 8)
@pytest.mark.parametrize("lengths", OF_TRL)
def test_losses_are_those_of_trl(lengths: tuple[int, ...]) -> None:
    """TRL's mean is over tokens, ours over a reply's tokens first: the weights are the lengths."""
    given = tensors(list(lengths))
    logp, old, advantages, values, before, returns = given.values()
    policy_R = policy_loss(logp, old, advantages, list(lengths), EPS)
    value_R = value_loss(values, before, returns, EPS)
    weights_R = torch.tensor(lengths, dtype=torch.float64) / sum(lengths)
    found = [float((loss_R * weights_R).sum()) for loss_R in (policy_R, value_R)]
    assert found == pytest.approx(OF_TRL[lengths], abs=1e-12)
    if len(set(lengths)) == 1:
        assert [float(policy_R.mean()), float(value_R.mean())] == pytest.approx(found)
