"""What `list` and `check` print: what there is; parameters, memory, a sample with its masks."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule

import zoo
from zoo.cli.config_files import home, names
from zoo.cli.step_memory import memory_line
from zoo.errors import InputError
from zoo.export import new_names
from zoo.module import ZooModule
from zoo.precision import types as precision_types


def describe(
    module: ZooModule, loader: Any, num_batches: int, precision: str, accumulate: int
) -> list[str]:
    """Return lines on parameters and training memory.

    Args:
        module: Built, possibly on the meta device; its weights have no content afterwards.
        loader: Training loader; its first micro-batch gives the token count, its largest one the
            memory of a step, if it knows which that is.
        num_batches: Micro-batches per epoch.
        precision: Lightning's name of the precision.
        accumulate: Micro-batches per optimiser step.
    """
    parameters = dict(module.named_parameters())
    total = sum(p.numel() for p in parameters.values())
    trained = sum(p.numel() for p in parameters.values() if p.requires_grad)
    added = set(new_names(module))
    new = sum(p.numel() for name, p in parameters.items() if name in added)
    batch = next(iter(loader))
    amounts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in batch.counts().items())
    bases = (part.model.config for part in module.pretrained())
    names = ", ".join(config.name_or_path or config.model_type for config in bases)
    largest = loader.largest() if hasattr(loader, "largest") else None
    return [
        f"method      {type(module).__name__} on {names}",
        f"parameters  {total:,}, trainable {trained:,}, new {new:,}",
        f"new         {', '.join(sorted(added)) or 'none'}",
        f"types       {precision_types(module)}",
        memory_line(module, largest or batch, precision, accumulate),
        f"data        {num_batches} micro-batches per epoch; the first has {amounts}",
    ]


def methods() -> dict[str, type[ZooModule]]:
    """Return the methods by name."""
    public = {name: getattr(zoo, name) for name in zoo.__all__}
    return {
        name: item
        for name, item in public.items()
        if isinstance(item, type) and issubclass(item, ZooModule) and item is not ZooModule
    }


def data_modules() -> dict[str, Any]:
    """Return the data modules by name.

    Raises:
        InputError: The package that Python finds under this name is not the zoo's.
    """
    package = importlib.import_module("datamodules")
    if "ZooDataModule" not in getattr(package, "__all__", ()):
        place = package.__file__ or next(iter(package.__path__))
        raise InputError(
            f"{place}: hides the zoo's package of the same name, datamodules; rename it, or start "
            f"the command in another folder"
        )
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
    own = Path("configs")
    lines += [f"  {path}" for path in sorted(own.rglob("*.yaml"))]
    if own.absolute() != home():
        lines += [f"  {name}" for name in names()]
    return lines


def copy_configs(folder: Path) -> str:
    """Copy the zoo's own configs; return a line that says where they are.

    Raises:
        InputError: The folder exists.
    """
    if folder.exists():
        raise InputError(f"{folder} exists; name a new folder: python -m zoo configs copy FOLDER")
    shutil.copytree(home(), folder, ignore=lambda _, found: {n for n in found if n[:1] in "._"})
    return f"configs     {folder}: {len(names())} files"


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
    settings: dict[str, Any] = {}
    for key, below in pairs.items():
        inner = above if key == "init_args" else f"{above}.{key}".strip(".")
        settings |= {} if key == "class_path" else flat(below, inner)
    return settings
