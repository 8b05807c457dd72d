"""EfficientNet-Lite0: its published size, its maps, and which blocks add their input."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from zoo.methods.m3_jepa import efficientnet_lite
from zoo.methods.m3_jepa.efficientnet_lite import (
    PREPROCESSING,
    Conv,
    EfficientNetLite,
    EfficientNetLiteConfig,
    convert,
)


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


def test_pixels_are_scaled_as_the_weights_were_made() -> None:
    """TensorFlow Lite's (x - 127) / 128 of bytes, pictures of 224 x 224."""
    assert PREPROCESSING["size"] == 224
    for mean, std in zip(PREPROCESSING["image_mean"], PREPROCESSING["image_std"], strict=True):
        scaled = [(byte / 255 - mean) / std for byte in (0, 127, 255)]
        assert scaled == pytest.approx([-127 / 128, 0, 1], abs=1e-12)
    assert len(PREPROCESSING["image_mean"]) == 3


@torch.no_grad()
def test_the_odd_pixel_of_the_padding_is_right_and_below() -> None:
    """A kernel's first weight meets pixels 0, 2, ... of an even side, -1, 1, ... of an odd one."""
    conv = Conv(1, 1, 3, stride=2, active=False).eval()
    conv.conv.weight.zero_()[..., 0, 0] = math.sqrt(1 + 1e-3)  # undoes the norm at its start
    for side, first in ((6, 0), (5, 1)):
        x = torch.arange(1.0, 1 + side * side).view(1, 1, side, side)
        found = conv(x)[0, 0]
        assert found.shape == (3, 3)
        torch.testing.assert_close(found[first:, first:], x[0, 0, first::2, first::2])


def test_a_wheels_file_becomes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every weight is found under its name there, the classifier is left out."""
    monkeypatch.setattr(efficientnet_lite, "STAGES", efficientnet_lite.STAGES[:2])
    model = EfficientNetLite(EfficientNetLiteConfig())
    theirs = {their_name(name): tensor for name, tensor in model.state_dict().items()}
    assert {"_conv_stem.weight", "_bn1.weight", "_blocks.2._bn2.running_mean"} <= set(theirs)
    torch.save({**theirs, "_fc.weight": torch.ones(2, 2)}, tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "out")
    read = load_file(tmp_path / "out/model.safetensors")
    assert read.keys() == model.state_dict().keys()
    for name, tensor in read.items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert json.loads((tmp_path / "out/preprocessor_config.json").read_text()) == PREPROCESSING


def their_name(name: str) -> str:
    """The wheel's name of a parameter, by its own rules: norms are counted in each block."""
    *path, kind, leaf = name.split(".")
    if path[0] != "blocks":
        norm = {"stem": "_bn0", "head": "_bn1"}[path[0]]
        return f"{f'_conv_{path[0]}' if kind == 'conv' else norm}.{leaf}"
    norms = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    layer = f"_{path[2]}_conv" if kind == "conv" else norms[path[2]]
    return f"_blocks.{path[1]}.{layer}.{leaf}"
