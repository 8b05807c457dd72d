"""Several low-rank adapters over one base: who computes is chosen by a context.

    with using(lm, "policy"):          # base + the policy's adapter
        ...
    with using(lm, None):              # the base alone, as a reference

There is one copy of the base; an adapter is a few low-rank matrices beside its linear layers. Which
one is active says nothing about which ones learn: all of them stay trainable, and a pass gives a
gradient to the active one alone. (peft's own `set_adapter` also freezes the others, after which an
optimiser would not know them and FSDP2 would reduce other parameters than it laid out.)

A name can stand for a full copy of the model instead (`zoo.copies`), which is switched alike.

A module that has several names them in `ZooModule.adapters`. They are exported beside the base, a
folder in peft's format for each (`save_adapters`), or one of them merged into it
(`zoo.export.save_merged`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from zoo.copies import Copied
from zoo.errors import InputError, nearest

DEFAULT = "default"  # the name of the one adapter that most methods have
MARK = re.compile(r"\.(?:lora_(?:A|B|embedding_A|embedding_B|magnitude_vector)|copies)\.(\w+)")


def add_adapters(lm: Any, lora: Any, names: Sequence[str] = (DEFAULT,)) -> None:
    """Add trainable low-rank adapters in place; every other weight of the model is frozen.

    Args:
        lm: Causal language model.
        lora: Rank, scale and places of each (`zoo.LoRA`).
        names: What they are called; the first one is active.
    """
    from peft import inject_adapter_in_model

    lm.requires_grad_(False)
    for name in names:
        inject_adapter_in_model(lora_config(lora), lm, adapter_name=name)
    for layer in adapted_layers(lm):
        layer.set_adapter(list(names))  # all of them trainable
    _activate(adapted_layers(lm), names[0])


def lora_config(lora: Any) -> Any:
    """Return peft's settings of an adapter."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        exclude_modules=["lm_head"],
    )


def adapted_layers(lm: nn.Module) -> list[Any]:
    """Return the layers of a model that have adapters or copies."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [part for part in lm.modules() if isinstance(part, BaseTunerLayer | Copied)]


def adapter_names(lm: nn.Module) -> tuple[str, ...]:
    """Return the names of a model's adapters or copies in their order."""
    layers = adapted_layers(lm)
    named = (part.copies if isinstance(part, Copied) else part.lora_A for part in layers)
    return tuple(dict.fromkeys(name for each in named for name in each))


def adapter_of(parameter: str) -> str | None:
    """Return the adapter or copy that a parameter belongs to by its name; None if to none.

    Example:
        >>> adapter_of("lm.layers.0.q_proj.lora_A.policy.weight"), adapter_of("lm.norm.weight")
        ('policy', None)
    """
    found = MARK.search(parameter)
    return found[1] if found else None


@contextmanager
def using(lm: nn.Module, name: str | None) -> Iterator[None]:
    """Let a model compute with one adapter, or without any; afterwards as before.

    Args:
        lm: Model with adapters.
        name: Which one; None for the base alone.

    Raises:
        InputError: It has no adapter of this name.
    """
    layers = adapted_layers(lm)
    if name is not None and name not in adapter_names(lm):
        raise InputError(f"adapter: no {name!r}; {nearest(name, adapter_names(lm))}")
    before = [(layer._active_adapter, layer._disable_adapters) for layer in layers]
    _activate(layers, name)
    try:
        yield
    finally:
        for layer, (active, disabled) in zip(layers, before, strict=True):
            layer._active_adapter, layer._disable_adapters = active, disabled


def _activate(layers: Sequence[Any], name: str | None) -> None:
    for layer in layers:  # not `set_adapter`, which changes who learns
        layer._disable_adapters = name is None
        if name is not None:
            layer._active_adapter = [name]


def adapter_state(lm: nn.Module, name: str) -> dict[str, Tensor]:
    """Return the matrices of one adapter under the names that peft writes."""
    return {
        f"base_model.model.{key.replace(f'.{name}.', '.')}": value
        for key, value in lm.state_dict().items()
        if adapter_of(key) == name
    }


def save_adapters(lm: Any, lora: Any, folder: Path) -> None:
    """Write a subfolder for each adapter, which `peft.PeftModel.from_pretrained` reads.

    Args:
        lm: Model with adapters, not sharded.
        lora: Their settings.
        folder: Where to write.
    """
    for name in adapter_names(lm):
        target = folder / name
        target.mkdir(parents=True)
        config = lora_config(lora)
        config.task_type, config.inference_mode = "CAUSAL_LM", True
        config.save_pretrained(target)
        state = {key: value.clone().contiguous() for key, value in adapter_state(lm, name).items()}
        save_file(state, target / "adapter_model.safetensors", metadata={"format": "pt"})
