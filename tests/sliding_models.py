"""Small models with sliding windows, and Hugging Face's own pass through any model."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MistralConfig,
    MistralForCausalLM,
)

from zoo.nn.attention import NAME

WINDOW = 5


def spread(lm: Any) -> Any:
    with torch.no_grad():
        for parameter in lm.model.layers.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return lm.eval()


def sliding(name: str, **changed: int) -> Any:
    """A 4-block model whose sliding window is shorter than the test's sequences."""
    common: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": WINDOW,
        "attn_implementation": NAME,
        "pad_token_id": 0,
        **changed,
    }
    torch.manual_seed(0)
    if name == "mistral":
        return spread(MistralForCausalLM(MistralConfig(**common)))
    types = ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"]
    return spread(Gemma3ForCausalLM(Gemma3TextConfig(**common, layer_types=types)))


def plain(lm: Any, row: list[int]) -> Any:
    """Hugging Face's own forward with its own eager attention."""
    used = lm.config._attn_implementation
    lm.set_attn_implementation("eager")
    try:
        return lm(torch.tensor([row]), output_hidden_states=True, use_cache=False)
    finally:
        lm.set_attn_implementation(used)
