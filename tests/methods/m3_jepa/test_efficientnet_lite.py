"""EfficientNet-Lite0: its published size, its maps, and which blocks add their input."""

from __future__ import annotations

import torch
from transformers import AutoModel

from zoo.methods.m3_jepa.efficientnet_lite import EfficientNetLiteConfig


@torch.no_grad()
def test_size_maps_and_residual_blocks() -> None:
    """4,652,008 parameters with the classifier; 16 blocks, of which nine keep shape and input."""
    model = AutoModel.from_config(EfficientNetLiteConfig()).eval()
    assert sum(p.numel() for p in model.parameters()) == 4_652_008 - (1280 * 1000 + 1000)
    x = model.stem(torch.randn(1, 3, 64, 64))
    shapes, kept = [], 0
    for block in model.blocks:
        block.project.norm.weight.zero_()  # what is left is the way past the block
        made = block(x)
        assert made.shape == block.project(block.depthwise(block.expand(x))).shape
        assert torch.equal(made, x) or not made.any()
        kept += torch.equal(made, x)
        shapes.append(tuple(made.shape[1:]))
        x = torch.randn_like(made)
    assert (kept, len(shapes)) == (9, 16)
    assert shapes[0] == (16, 32, 32)
    assert shapes[-1] == (320, 2, 2)
    assert model(torch.randn(1, 3, 64, 64)).last_hidden_state.shape == (1, 1280, 2, 2)
