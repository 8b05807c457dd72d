"""What the benchmarks' tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch


@pytest.fixture
def save_tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Write a tiny model to a folder, so that all sides load the same weights; data is synthetic.

    `scale` multiplies the matrices of its blocks, so that answers differ.
    """
    monkeypatch.delenv("ZOO_DATA", raising=False)

    def save(scale: float = 1) -> str:
        from zoo.backbone import Backbone, load

        lm, tokenizer = load(Backbone("tiny-llama"))
        with torch.no_grad():
            for weight in lm.model.layers.parameters():
                weight.mul_(scale if weight.ndim > 1 else 1)
        lm.config._attn_implementation = "sdpa"
        lm.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return str(tmp_path)

    return save
