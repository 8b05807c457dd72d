"""Networks that the zoo can not open are refused before anything is trained."""

from __future__ import annotations

import pytest
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from zoo.backbone import check_layout
from zoo.errors import InputError

SMALL = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8, "vocab_size": 8}


def test_another_layout() -> None:
    lm = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=8))
    with pytest.raises(InputError, match=r"GPT2LMHeadModel has no model.layers; .*Qwen3"):
        check_layout(lm)


@pytest.mark.parametrize("cap", ["final_logit_softcapping", "attn_logit_softcapping"])
def test_capped_logits(cap: str) -> None:
    caps = {"final_logit_softcapping": None, "attn_logit_softcapping": None}
    check_layout(Gemma2ForCausalLM(Gemma2Config(**SMALL, **caps)))
    with pytest.raises(InputError, match="Gemma2ForCausalLM caps its logits"):
        check_layout(Gemma2ForCausalLM(Gemma2Config(**SMALL, **{**caps, cap: 30.0})))
