"""How MeGan's hypernetwork starts, whatever its library filled it with before."""

from __future__ import annotations

import torch

from zoo.methods.megan.hypernetwork import Hypernetwork


def test_every_parameter_is_drawn_anew() -> None:
    """Biases become zero and weights are drawn, the attention's packed map among them."""
    hyper = Hypernetwork(64, 96, layers=5, bottleneck=48, head_bias=True)
    with torch.no_grad():
        for parameter in hyper.parameters():
            parameter.fill_(7.0)
    hyper.initialise(0.02, "official")
    for name, parameter in hyper.named_parameters():
        assert parameter.any() != name.endswith("bias"), name
        assert parameter.abs().max() < 1, name
