"""Means over the token states of an item, equations (6), (7) and (9), in half precision."""

from __future__ import annotations

import pytest
import torch
from methods.m3_jepa.m3_jepa_samples import make

from zoo.methods.m3_jepa.predictor import lay_out


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_mean_of_large_states(dtype: torch.dtype) -> None:
    """257 tokens of a picture with states of 300: their sum is past the range of float16."""
    mean = lay_out(torch.full((2, 257, 3), 300.0, dtype=dtype)).mean()
    assert mean.tolist() == [[300.0] * 3] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_mean_is_that_of_the_states_as_they_are(dtype: torch.dtype) -> None:
    """Nothing is rounded on the way: 257 tokens, some of them masked."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(3, 257, 8, generator=generator).to(dtype)
    lengths = (257, 100, 3)
    mask = torch.arange(257) < torch.tensor(lengths)[:, None]
    expected = torch.stack(
        [row[:n].double().mean(0) for row, n in zip(states, lengths, strict=True)]
    )
    found = lay_out(states, mask).mean()
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_predictor_of_half_precision_reads_them() -> None:
    """The heads take the means in the type of their weights."""
    module = make(("tiny-bert", "tiny-vit")).bfloat16()
    tokens = lay_out(torch.randn(2, 5, module.towers["text"].width).bfloat16())
    predicted, source = module.predictor({"text": tokens}, "text2image")
    assert predicted.dtype == source.dtype == torch.bfloat16
    assert module.predictor.target(tokens, "text").dtype == torch.bfloat16
