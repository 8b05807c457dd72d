"""Export a method to a folder that Hugging Face tools load, and load it from there.

config.json, model.safetensors, tokenizer files   the backbone, plain layout, adapters merged; a
                                                  method with several has a subfolder for each
adapters/NAME/                                    of a method with several adapters, which are not
                                                  merged: each as peft writes it
zoo.safetensors                                   parameters that no backbone has, full copies too
zoo.json                                          method and constructor arguments
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

import zoo
from zoo.adapters import adapter_names, adapter_of, save_adapters, using
from zoo.backbone import LoRA, as_config
from zoo.errors import InputError
from zoo.weights import CARD, SIDE, load_weights, read_card

if TYPE_CHECKING:
    from zoo.module import ZooModule

ADAPTERS = "adapters"  # subfolder of an export
PICTURES = "preprocessor_config.json"  # which pictures an encoder was made for


class Pretrained(NamedTuple):
    """A Hugging Face model inside a method.

    Attributes:
        path: Attribute path in the module, for example `lm`.
        model: The model.
        tokenizer: Saved beside it; None if it reads no text.
        folder: Subfolder of an export that it is written to; empty for the export itself.
        argument: Constructor argument that names it.
        plain: Fields of that argument for a model whose adapters are merged.
    """

    path: str
    model: Any
    tokenizer: Any
    folder: str
    argument: str
    plain: dict[str, Any]


def save(module: ZooModule, folder: str | Path) -> None:
    """Export a built module; the folder appears whole or not at all.

    Args:
        module: A method after `configure_model`, not sharded.
        folder: Where to write; must not exist.

    Raises:
        InputError: The folder exists, or the backbone is quantised.
    """
    target = Path(folder)
    if target.exists():
        raise InputError(f"output: {target} exists; name a new folder")
    if module.backbone.load_4bit:
        raise InputError("export of a 4-bit backbone: load it with load_4bit: false first")
    several = len(module.adapters) > 1 and bool(adapter_names(module.lm))
    state = plain_names(module.state_dict()) if several else merged_state(module)
    added = new_names(module)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        for part in module.pretrained():
            start = len(part.path) + 1
            plain = {
                name[start:]: value
                for name, value in state.items()
                if name.startswith(f"{part.path}.") and name not in added
            }
            part.model.save_pretrained(scratch / part.folder, state_dict=plain)
            origin = part.model.config.name_or_path
            if origin and (Path(origin) / PICTURES).is_file():
                shutil.copy(Path(origin) / PICTURES, scratch / part.folder)
            if part.tokenizer is not None:
                part.tokenizer.save_pretrained(scratch / part.folder)
        if several and module.backbone.lora is not None:
            save_adapters(module.lm, as_config(LoRA, module.backbone.lora), scratch / ADAPTERS)
        side = {name: state[name].clone().contiguous() for name in sorted(added) if name in state}
        save_file(side, scratch / SIDE, metadata={"format": "pt"})
        card = {
            "class": public_path(type(module)),
            "pretrained": {
                part.argument: {"name": part.folder, **part.plain} for part in module.pretrained()
            },
            "hyper_parameters": {k: v for k, v in module.hparams.items() if k[0] != "_"},
        }
        (scratch / CARD).write_text(json.dumps(card, indent=2) + "\n")
        scratch.chmod(0o755)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def save_merged(module: ZooModule, folder: str | Path, adapter: str) -> None:
    """Write the language model with one adapter merged into it, as a plain model; no method.

    Args:
        module: A method with several adapters, built, not sharded.
        folder: Where to write; must not exist.
        adapter: Which one.

    Raises:
        InputError: The folder exists, or there is no such adapter.
    """
    target = Path(folder)
    if target.exists():
        raise InputError(f"output: {target} exists; name a new folder")
    with using(module.lm, adapter):
        state = plain_names(merged_state(module))
    own = f".copies.{adapter}"  # of a full copy
    state |= {n.replace(own, ""): v for n, v in module.state_dict().items() if f"{own}." in n}
    plain = {n[3:]: v for n, v in state.items() if n.startswith("lm.") and adapter_of(n) is None}
    module.lm.save_pretrained(target, state_dict=plain)
    module.tokenizer.save_pretrained(target)


def load(folder: str | Path, cls: type[ZooModule] | None = None) -> ZooModule:
    """Return the method that `save` exported, built and in evaluation mode.

    Args:
        folder: An exported folder.
        cls: Its class; needed for a class outside `zoo`, because a file must not choose what to
            import.

    Raises:
        InputError: The folder is no export, or its class is not the zoo's and `cls` is missing.
    """
    path = Path(folder)
    if not (path / CARD).is_file():
        raise InputError(f"{path}: no {CARD} there; it is not an exported folder")
    card = read_card(path)
    cls = cls or _method(card["class"])
    if cls is None:
        raise InputError(f"{path}: made by {card['class']}; pass it: zoo.load(folder, cls=...)")
    arguments = dict(card["hyper_parameters"])
    for argument, plain in card["pretrained"].items():
        here = {**plain, "name": str(path / plain["name"])}
        arguments[argument] = {**(arguments.get(argument) or {}), **here}
    module = cls(**arguments)
    module.configure_model()
    load_weights(module, path)
    return module.eval()


def how_to_load(module: ZooModule, folder: str) -> str:
    """Return a line that says how an exported folder becomes the method again."""
    path = public_path(type(module))
    cls = "" if path.startswith("zoo.") else f", cls={path}"  # of a file, only the zoo's load
    return f"exported to {folder}; zoo.load({folder!r}{cls}) restores the method"


def public_path(cls: type) -> str:
    """Return what is written to disk for a class: `zoo.StraQ`, or the full path of another one."""
    if getattr(zoo, cls.__name__, None) is cls:
        return f"zoo.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def _method(path: str) -> type[ZooModule] | None:
    """Return a public class of `zoo` by its path, None if it is no method there.

    Exports of before the public paths name the module that a method then lived in
    (`zoo.methods.straq.StraQ`); its last part is the public name.
    """
    from lightning.pytorch import LightningModule

    home, _, title = path.rpartition(".")
    if home != "zoo" and not home.startswith("zoo.methods."):
        return None
    public = getattr(zoo, title, None) if title in zoo.__all__ else None
    known = isinstance(public, type) and issubclass(public, LightningModule)
    return cast("type[ZooModule]", public) if known else None


def merged_state(module: ZooModule) -> dict[str, Tensor]:
    """Return the state with low-rank adapters merged, under the names of the plain model."""
    if not any(".lora_" in name for name in module.state_dict()):
        return dict(module.state_dict())
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[Any] = [m for m in module.modules() if isinstance(m, BaseTunerLayer)]
    before = [layer.get_base_layer().weight.detach().clone() for layer in layers]
    for layer in layers:
        layer.merge()
    state = {
        name: value.clone()
        for name, value in plain_names(module.state_dict()).items()
        if adapter_of(name) is None
    }
    for layer, weight in zip(layers, before, strict=True):
        layer.unmerge()
        with torch.no_grad():  # adding and subtracting rounds
            layer.get_base_layer().weight.copy_(weight)
    return state


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state under the names of the plain model, adapters under their own."""
    return {name.replace(".base_layer", ""): value for name, value in state.items()}


def new_names(module: ZooModule) -> list[str]:
    """Return the names of parameters that no plain backbone has; of adapters, if of several."""
    several = len(module.adapters) > 1
    known = set()
    with torch.device("meta"):
        for part in module.pretrained():
            plain = type(part.model)(part.model.config)
            known |= {f"{part.path}.{name}" for name in plain.state_dict()}
    names = plain_names(module.state_dict())
    return [n for n in names if n not in known and (several or adapter_of(n) is None)]
