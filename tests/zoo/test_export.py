"""Export: any Hugging Face tool loads the folder, `zoo.load` restores the method."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import zoo
from zoo import export
from zoo.cli.trainer import ZooTrainer
from zoo.errors import InputError

Make = Callable[..., Any]
LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": "all-linear"}
IDS = torch.arange(3, 43)[None]
NEW = {"MeTHanol": {"thinking_head.weight"}, "SFT": set()}


@pytest.fixture(params=["MeTHanol", "SFT"])
def method(request: pytest.FixtureRequest) -> str:
    return request.param


def trained(
    make: Make, method: str, shape: str, lora: dict[str, Any] | None, **options: Any
) -> Any:
    """Return a module whose every trainable parameter has moved away from its start."""
    if method == "MeTHanol":
        options.setdefault("thinking_layer", 2)
    module = make(method, shape, backbone={"lora": lora}, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return module


def logits(module: Any) -> dict[str, torch.Tensor]:
    """Return the logits of each head, adapters in effect."""
    from zoo.nn.blocks import Blocks, num_blocks

    with torch.no_grad():
        depth = num_blocks(module.lm)
        where = {"position_ids": torch.arange(IDS.shape[1])[None]}
        top = Blocks(module.lm, 0, depth)(IDS, **where)
        found = {"speak": module.last_logits(top)}
        if hasattr(module, "k"):
            found["think"] = module.think_logits(Blocks(module.lm, 0, module.k)(IDS, **where))
    return found


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lora", [None, LORA], ids=["plain", "lora"])
def test_both_ways_back(
    make: Make, method: str, shape: str, lora: dict[str, Any] | None, tmp_path: Path
) -> None:
    """Plain transformers gets the speaking logits, `zoo.load` those of both heads."""
    module = trained(make, method, shape, lora)
    before = logits(module)
    out = tmp_path / "out"
    export.save(module, out)

    plain = AutoModelForCausalLM.from_pretrained(out, local_files_only=True).eval()
    with torch.no_grad():
        close(plain(IDS).logits, before["speak"])
    restored = zoo.load(out)
    assert type(restored) is type(module)
    assert not restored.training
    for name, value in logits(restored).items():
        close(value, before[name])

    assert set(load_file(out / "zoo.safetensors")) == NEW[method]
    names = set(load_file(out / "model.safetensors"))
    assert not [n for n in names if "lora" in n or "base_layer" in n or "thinking" in n]
    assert names <= set(plain.state_dict())
    assert plain.config.tie_word_embeddings == (shape != "tiny-llama")
    tokenizer = AutoTokenizer.from_pretrained(out, local_files_only=True)
    assert tokenizer("a thought")["input_ids"] == module.tokenizer("a thought")["input_ids"]
    for name, value in logits(module).items():  # merging for the export left no trace
        close(value, before[name])


def test_norm_before_the_thinking_head(make: Make, tmp_path: Path) -> None:
    module = trained(make, "MeTHanol", "tiny-llama", None, thinking_norm=True)
    export.save(module, tmp_path / "out")
    new = {"thinking_head.weight", "norm_before_thinking.weight"}
    assert set(load_file(tmp_path / "out" / "zoo.safetensors")) == new
    close(logits(zoo.load(tmp_path / "out"))["think"], logits(module)["think"])


def test_nothing_to_unpickle(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only JSON, text and safetensors are written; loading opens no socket and no pickle."""
    import pickle

    export.save(trained(make, "MeTHanol", "tiny-llama", None), tmp_path / "out")
    kinds = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert kinds <= {".json", ".safetensors", ".jinja", ".txt", ".model"}

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket or a pickle was opened")

    for target in (socket.socket, pickle.Unpickler):
        monkeypatch.setattr(target.__module__.lstrip("_") + "." + target.__name__, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    zoo.load(tmp_path / "out")


def test_class_of_ones_own(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder must not choose what to import: a class outside the zoo is passed, `export` says."""
    from zoo.methods.methanol.module import MeTHanol

    class Mine(MeTHanol):
        pass

    module = Mine(backbone={"name": "tiny-llama"}, thinking_layer=3)
    module.configure_model()
    export.save(module.eval(), tmp_path / "out")
    with pytest.raises(InputError, match=r"made by .*Mine; pass it: zoo.load\(folder, cls="):
        zoo.load(tmp_path / "out")
    restored = zoo.load(tmp_path / "out", cls=Mine)
    assert type(restored) is Mine
    assert restored.k == 3
    again = str(tmp_path / "again")
    trainer = ZooTrainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.export(restored, None, ckpt_path=str(tmp_path / "out"), output=again)
    assert (
        f"zoo.load({again!r}, cls={Mine.__module__}.{Mine.__qualname__})" in capsys.readouterr().out
    )


@pytest.mark.parametrize("name", ["os.system", "zoo.methods.methanol.copy", "zoo.methods.gone.X"])
def test_card_that_names_something_else(make: Make, tmp_path: Path, name: str) -> None:
    """An edited card imports nothing but a method of the zoo."""
    export.save(make("SFT", "tiny-llama"), tmp_path / "out")
    card = tmp_path / "out" / "zoo.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "class": name}))
    with pytest.raises(InputError, match=r"out.*cls="):
        zoo.load(tmp_path / "out")
    assert "zoo.methods.gone" not in sys.modules


@pytest.mark.parametrize("text", ["", "{", "[]", '{"class": "zoo.SFT"}'])
def test_a_damaged_card_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "zoo.json").write_text(text)
    with pytest.raises(InputError, match=r"zoo\.json: damaged"):
        zoo.load(tmp_path)


def test_failure_leaves_nothing(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(export, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        export.save(make("SFT", "tiny-llama"), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_existing_folder(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="out exists; name a new folder"):
        export.save(make("SFT", "tiny-llama"), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_not_an_export(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no zoo\.json there; it is not an exported folder"):
        zoo.load(tmp_path)


@pytest.mark.parametrize("missing", ["zoo.safetensors", "model.safetensors"])
def test_damaged_export(make: Make, tmp_path: Path, missing: str) -> None:
    """A folder without one of its files is an error, not a random head."""
    export.save(make("MeTHanol", "tiny-llama"), tmp_path / "out")
    (tmp_path / "out" / missing).unlink()
    with pytest.raises((InputError, OSError), match=missing.replace(".", r"\.")):
        zoo.load(tmp_path / "out")


def test_four_bit_is_refused(make: Make, tmp_path: Path) -> None:
    import dataclasses

    module = make("SFT", "tiny-llama")
    module.backbone = dataclasses.replace(module.backbone, load_4bit=True)
    with pytest.raises(InputError, match="load_4bit: false"):
        export.save(module, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_exported_folder_is_a_backbone(make: Make, tmp_path: Path) -> None:
    """Training may go on from the folder with any method."""
    export.save(trained(make, "MeTHanol", "tiny-qwen2", LORA), tmp_path / "out")
    module = zoo.SFT(backbone={"name": str(tmp_path / "out")})
    module.configure_model()
    close(
        logits(module.eval())["speak"],
        AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()(IDS).logits.detach(),
    )
