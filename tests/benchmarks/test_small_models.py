"""Small Llamas from scratch: their weights follow from the seed and the deviation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.small_models import bpe_tokenizer, write_llama


def weights(folder: Path, **options: float) -> dict[str, torch.Tensor]:
    write_llama(folder, bpe_tokenizer(["a few words"] * 9, 300), 64, 128, **options)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("deviation", [0.02, 0.125])
def test_the_weights_have_the_deviation(tmp_path: Path, deviation: float) -> None:
    for weight in weights(tmp_path, deviation=deviation).values():
        if weight.ndim > 1:
            assert weight.std().item() == pytest.approx(deviation, rel=0.1)


def test_a_seed_decides_the_weights(tmp_path: Path) -> None:
    first, again, other = (weights(tmp_path / str(i), seed=s) for i, s in enumerate((0, 0, 1)))
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
