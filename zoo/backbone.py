"""From a backbone's name to a Hugging Face model and tokenizer.

A name is a preset (`smollm2-135m`, `tiny-llama`, ...), a local folder, a `.gguf` file, or a hub id.
Local paths never touch the network; nothing unpickles; `trust_remote_code` stays off.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from zoo.choices import check_choices
from zoo.errors import InputError
from zoo.model_files import cause, from_folder, resolve
from zoo.tiny_models import TINY, TINY_TOWERS, byte_tokenizer, tiny_config, tiny_model

C = TypeVar("C")

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "tekken.json")


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters on the backbone's linear layers.

    Attributes:
        rank: Rank of the update.
        alpha: Scale numerator; the update is scaled by alpha / rank.
        dropout: Dropout before the down-projection.
        targets: Names of the linear layers, or `all-linear`.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str | list[str] = "all-linear"


@dataclass(frozen=True)
class Backbone:
    """Which language model to build on, and how to hold it.

    Attributes:
        name: Preset, local folder, `.gguf` file or hub id.
        dtype: Type of the weights: `float32`, `bfloat16` or `float16`. In training it is that of
            frozen ones; what is trained is held in float32 (see `zoo.precision`).
        attention: `sdpa` runs everywhere; `flash_attention_2` and `_3` need flash-attn (or
            kernels, which finds it on the hub) and CUDA; `flex_attention`, which needs CUDA, is
            `sdpa`, but reads trees of tokens by FlexAttention, without a mask of all pairs.
        load_4bit: Quantise the blocks to 4 bit (NF4, bitsandbytes); train with `lora`.
        lora: Train low-rank adapters instead of the backbone's weights.
        freeze: Train nothing of the backbone.
        gradient_checkpointing: Recompute each block in the backward pass.
        compile: Compile each block.

    Raises:
        InputError: There is no such type of weights or attention.
    """

    name: str = "smollm2-135m"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"] = "sdpa"
    load_4bit: bool = False
    lora: LoRA | None = None
    freeze: bool = False
    gradient_checkpointing: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        """Check the names."""
        check_choices(self, "backbone")


def load(backbone: Backbone, *, meta: bool = False) -> tuple[Any, Any]:
    """Build the model and its tokenizer.

    Args:
        backbone: What to load.
        meta: Build the model on the meta device: shapes only, no weights.

    Returns:
        The causal language model and its tokenizer.

    Raises:
        InputError: The name is neither a preset nor a path nor a reachable hub id, or the
            architecture's blocks are not laid out as `model.layers`.
    """
    from transformers import AutoModelForCausalLM

    from zoo.nn.attention import OWN, implementation, read_lengths
    from zoo.nn.path_check import check_paths

    attention = implementation(backbone.attention)
    dtype = DTYPES[backbone.dtype]
    tokenizer = load_tokenizer(backbone.name)
    if backbone.name in TINY:
        lm = tiny_model(backbone.name, dtype, attention, meta=meta)
    elif meta:
        lm = _without_weights(read_config(backbone.name), dtype, attention)
    else:
        lm = from_folder(
            AutoModelForCausalLM,
            resolve(backbone.name),
            "backbone.name",
            dtype=dtype,
            attn_implementation=attention,
            quantization_config=_four_bit(dtype) if backbone.load_4bit else None,
        )
    prepare(lm)
    if backbone.attention not in OWN:  # its kernels need not run on the processor
        read_lengths(lm.config._attn_implementation)
    elif backbone.name not in TINY and not meta and not backbone.load_4bit:
        check_paths(lm)
    return lm, tokenizer


def _without_weights(config: Any, dtype: torch.dtype, attention: str) -> Any:
    """Return a model on the meta device."""
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(
                config, dtype=dtype, attn_implementation=attention, trust_remote_code=False
            )
    except (ValueError, KeyError) as error:  # no language model, or none with this attention
        first = cause(error, attention)
        raise InputError(f"backbone.name: {config.model_type} cannot be used: {first}") from error


def prepare(lm: Any) -> None:
    """Replace parts of a loaded model in place: the same values from less memory, one logit scale.

    Raises:
        InputError: See `check_layout`.
    """
    from zoo.nn.logit_scale import move_logit_scale
    from zoo.nn.norm import replace_norms
    from zoo.nn.swiglu import replace_mlps

    check_layout(lm)
    replace_norms(lm)
    replace_mlps(lm)
    move_logit_scale(lm)


def load_tokenizer(name: str) -> Any:
    """Return a backbone's tokenizer, with a padding token."""
    from transformers import AutoTokenizer

    if name in TINY + TINY_TOWERS:
        return byte_tokenizer()
    folder = resolve(name)
    no_tokenizer = (
        f"backbone.name: {folder} holds no tokenizer; copy tokenizer.json and "
        f"tokenizer_config.json of its base model there"
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # each tokenizer format has its own exceptions
        if not [file for pattern in TOKENIZER_FILES for file in Path(folder).glob(pattern)]:
            raise InputError(no_tokenizer) from error
        first = str(error).strip().split("\n")[0]
        raise InputError(f"{folder}: the tokenizer cannot be loaded: {first}") from error
    if len(tokenizer) < 3:  # without files transformers makes an empty one
        raise InputError(no_tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def read_config(name: str) -> Any:
    """Return the Hugging Face config of a backbone without loading weights."""
    from transformers import AutoConfig

    if name in TINY:
        return tiny_config(name)
    return AutoConfig.from_pretrained(resolve(name), local_files_only=True, trust_remote_code=False)


def check_layout(lm: nn.Module) -> None:
    """Raise unless the decoder has `layers`, `norm` and `embed_tokens`, as Llama has.

    Raises:
        InputError: The architecture is laid out otherwise, or caps its logits.
    """
    decoder = getattr(lm, "model", None)
    missing = [part for part in ("layers", "norm", "embed_tokens") if not hasattr(decoder, part)]
    if missing:
        raise InputError(
            f"backbone {type(lm).__name__} has no model.{missing[0]}; architectures that fit are "
            f"laid out like Llama: Llama, Qwen2, Qwen3, Gemma, Gemma 3, Mistral, Granite, ... "
            f"(README.md, 'Backbones')"
        )
    if getattr(getattr(lm, "lm_head", None), "weight", None) is None:
        raise InputError(f"backbone {type(lm).__name__} has no lm_head.weight")
    if getattr(lm.lm_head, "bias", None) is not None:
        raise InputError(
            f"backbone.name: the output head of {type(lm).__name__} has a bias, which is not "
            f"supported; use a family of the table in README.md, 'Backbones'"
        )
    caps = ("final_logit_softcapping", "attn_logit_softcapping")
    if any(getattr(lm.config, cap, None) for cap in caps):
        raise InputError(
            f"backbone.name: {type(lm).__name__} caps its logits, which is not supported; use an "
            f"architecture that does not, for example Gemma 3 instead of Gemma 2"
        )


def _four_bit(dtype: torch.dtype) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError("backbone.load_4bit needs bitsandbytes: pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def as_config(kind: type[C], value: C | Mapping[str, Any] | None) -> C:
    """Return a config object from itself, its fields, or None for the defaults."""
    if value is None:
        return kind()
    return kind(**value) if isinstance(value, Mapping) else value
