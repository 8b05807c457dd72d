"""Networks that the zoo can not open are refused before anything is trained."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
)

from zoo.backbone import Backbone, check_layout, load
from zoo.errors import InputError
from zoo.tiny_models import byte_tokenizer, tiny_model

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


# -- folders of models that are not whole -------------------------------------------------------

WEIGHTS, NORM = "model.safetensors", "model.norm.weight"


def keep_one(folder: Path) -> None:
    """Keep one of all tensors."""
    save_file({NORM: load_file(folder / WEIGHTS)[NORM]}, folder / WEIGHTS, {"format": "pt"})


def cut_one(folder: Path) -> None:
    """Shorten one tensor."""
    state = load_file(folder / WEIGHTS)
    save_file({**state, NORM: state[NORM][:7].clone()}, folder / WEIGHTS, {"format": "pt"})


def leave_adapter(folder: Path) -> None:
    """Leave what PEFT writes for an adapter."""
    for name in ("config.json", WEIGHTS):
        (folder / name).unlink()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").touch()


def name_code(folder: Path) -> None:
    """Add code that writes a file when it is imported, and name it as the model's."""
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "x.C", "AutoModelForCausalLM": "x.M"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "x.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")


def without(pattern: str) -> Callable[[Path], None]:
    """Return what removes files."""
    return lambda folder: [path.unlink() for path in folder.glob(pattern)] and None


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "one tensor": (keep_one, r"lack lm_head.weight, model.embed_tokens.weight, .* and \d+ more"),
    "short tensor": (cut_one, r"have other shapes: model.norm.weight \[7\] instead of \[32\]"),
    "half a file": (
        lambda f: os.truncate(f / WEIGHTS, 9000),
        r"\(LlamaForCausalLM\) cannot be loa",
    ),
    "no weights": (without(WEIGHTS), "holds no weights"),
    "empty config": (
        lambda f: (f / "config.json").write_text("{}"),
        "config.json: no 'model_type'",
    ),
    "no config": (without("config.json"), "holds no config.json"),
    "no tokenizer": (without("tokenizer*"), "holds no tokenizer; copy tokenizer.json"),
    "adapter": (leave_adapter, "is a PEFT adapter, not a model; merge it"),
    "code": (name_code, "cannot be loaded: ValueError: .* contains custom code"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_folder_that_is_not_whole(kind: str, tmp_path: Path) -> None:
    """Refused with what is missing; nothing starts from random numbers, no code of it runs."""
    harm, said = BAD[kind]
    tiny_model("tiny-llama", torch.float32, "sdpa", meta=False).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    harm(tmp_path)
    with pytest.raises(InputError, match=said) as refused:
        load(Backbone(str(tmp_path)))
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("meta", [False, True])
def test_attention_that_cannot_be_replaced(meta: bool, tmp_path: Path) -> None:
    """Falcon's blocks look their attention up in a table of their own."""
    config = FalconConfig(**SMALL, num_attention_heads=1)
    FalconForCausalLM(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="its attention is part of its blocks .*'Backbones'"):
        load(Backbone(str(tmp_path)), meta=meta)
