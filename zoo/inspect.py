"""What `list` and `check` print: what there is; parameters, memory, a sample with its masks."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule

import zoo
from zoo.encoding import NO_HEAD, Example
from zoo.export import new_names
from zoo.module import ZooModule

COLOURS = ("\033[32m", "\033[36m", "\033[35m", "\033[33m")  # one per head
PLAIN, DIM = "\033[0m", "\033[2m"


def describe(module: ZooModule, loader: Any, num_batches: int) -> list[str]:
    """Return lines on parameters and training memory.

    Args:
        module: Built, possibly on the meta device.
        loader: Training loader; its first micro-batch gives the token count.
        num_batches: Micro-batches per epoch.
    """
    parameters = dict(module.named_parameters())
    total = sum(p.numel() for p in parameters.values())
    trained = sum(p.numel() for p in parameters.values() if p.requires_grad)
    added = set(new_names(module))
    new = sum(p.numel() for name, p in parameters.items() if name in added)
    weights = sum(p.numel() * p.element_size() for p in parameters.values())
    states = sum(3 * p.numel() * p.element_size() for p in parameters.values() if p.requires_grad)
    batch = next(iter(loader))
    config = module.lm.config
    width = next(iter(parameters.values())).element_size()
    per_block = (
        2
        if module.backbone.gradient_checkpointing
        else 20
        + 4 * (getattr(config, "intermediate_size", 4 * config.hidden_size) // config.hidden_size)
    )
    activations = (
        batch.num_tokens * config.hidden_size * config.num_hidden_layers * per_block * width
    )
    gib = 2**30
    return [
        f"method      {type(module).__name__} on {module.backbone.name}",
        f"parameters  {total:,}, trainable {trained:,}, new {new:,}",
        f"new         {', '.join(sorted(added)) or 'none'}",
        f"memory      about {(weights + states + activations) / gib:.1f} GiB in training: weights "
        f"{weights / gib:.2f}, gradients and AdamW {states / gib:.2f}, activations of "
        f"{batch.num_tokens} tokens {activations / gib:.2f} (estimate)",
        f"data        {num_batches} micro-batches per epoch; the first has {batch.num_tokens} "
        f"tokens, {batch.num_supervised} supervised",
    ]


def preview(example: Example, tokenizer: Any) -> list[str]:
    """Return a sample's text with each head's tokens in its colour and context dimmed."""
    heads = [NO_HEAD, *example.head_ids[:-1]]  # undo the shift: the head that learns each token
    learned = [head for head in heads if head != NO_HEAD]
    text, start = "", 0
    for end in range(1, len(heads) + 1):
        if end == len(heads) or heads[end] != heads[start]:
            head = heads[start]
            piece = tokenizer.decode(example.input_ids[start:end])
            text += (DIM if head == NO_HEAD else COLOURS[head % len(COLOURS)]) + piece + PLAIN
            start = end
    legend = " ".join(
        f"{COLOURS[head % len(COLOURS)]}head {head}: {learned.count(head)} tokens{PLAIN}"
        for head in sorted(set(learned))
    )
    context = len(heads) - len(learned)
    return [f"sample      {legend} {DIM}context: {context} tokens{PLAIN}", text]


def methods() -> dict[str, type[ZooModule]]:
    """Return the methods by name."""
    homes = zoo._HOME.items()
    return {name: getattr(zoo, name) for name, home in homes if home.startswith("zoo.methods.")}


def data_modules() -> dict[str, Any]:
    """Return the data modules by name."""
    package = importlib.import_module("datamodules")
    return {name: getattr(package, name) for name in package.__all__ if name != "ZooDataModule"}


def listing() -> list[str]:
    """Return the lines of `python -m zoo list`: methods, data modules, configs."""
    modules = data_modules()
    lines = ["methods"]
    for name, cls in methods().items():
        doc = (cls.__doc__ or "").strip().splitlines()[0]
        takes = {kind.__name__ for kind in cls.takes}
        fit = [n for n, m in modules.items() if takes & {k.__name__ for k in m.record_types}]
        lines.append(f"  zoo.{name:<12} {doc}")
        lines.append(f"    takes {', '.join(sorted(takes))}; data: {', '.join(fit)}")
    lines.append("data modules")
    for name, cls in modules.items():
        doc = (cls.__doc__ or "").strip().splitlines()[0]
        yields = ", ".join(kind.__name__ for kind in cls.record_types)
        lines.append(f"  datamodules.{name:<12} {yields:<9} {doc}")
    lines.append("configs")
    lines += [f"  {path}" for path in sorted(Path("configs").rglob("*.yaml"))]
    return lines


def choices() -> dict[str, tuple[type, list[str]]]:
    """Return, for `model` and `data`, the base class and the class paths to suggest."""
    return {
        "model": (ZooModule, [f"zoo.{name}" for name in methods()]),
        "data": (LightningDataModule, [f"datamodules.{name}" for name in data_modules()]),
    }


def changes(before: Any, after: Any) -> list[str]:
    """Return `key old -> new` for each setting that differs."""
    old, new = flat(before), flat(after)
    keys = sorted({*old, *new})
    return [f"{k} {old.get(k)} -> {new.get(k)}" for k in keys if old.get(k) != new.get(k)]


def flat(value: Any, above: str = "") -> dict[str, Any]:
    """Return nested settings as one mapping with dotted keys."""
    pairs = vars(value) if isinstance(value, Namespace) else value
    if not isinstance(pairs, dict):
        return {above: value}
    found: dict[str, Any] = {}
    for key, below in pairs.items():
        inner = above if key == "init_args" else f"{above}.{key}".strip(".")
        found |= {} if key == "class_path" else flat(below, inner)
    return found
