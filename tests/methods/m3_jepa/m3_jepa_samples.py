"""Pictures with texts, tiny towers, and M3-JEPA's own steps and vectors for the tests."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from training import quiet_trainer

import zoo
from datamodules import DigitsText, ImageText
from zoo.records import Media, MediaText

I2T, T2I = "image2text", "text2image"
WAYS = (I2T, T2I)
ANSWERS = ("yes", "no", "two")
PAIRS_OF_TOWERS = (
    ("tiny-bert", "tiny-vit"),
    ("tiny-llama", "tiny-dinov2"),
    ("tiny-qwen2", "tiny-vit"),
)
SMALL = {"hidden": 24, "num_experts": 12, "top_k": 4}


def make(towers: Sequence[str], *, spread: float = 1.0, **options: Any) -> Any:
    """Build a module on tiny towers; `spread` scales the weight matrices of their blocks."""
    given = {"text": towers[0], "image": towers[1]}
    tower = options.pop("tower", {})
    configs = {name: {"name": found, **tower} for name, found in given.items()}
    module = zoo.M3JEPA(**configs, **{**SMALL, **options})
    module.configure_model()
    with torch.no_grad():
        for encoder in module.towers.values():
            for block in encoder.blocks:
                for parameter in block.parameters():
                    if parameter.ndim > 1:
                        parameter.mul_(spread)
    return module.eval()


def png(seed: int) -> bytes:
    """Return a random picture of 28 x 28."""
    import numpy as np
    from PIL import Image

    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def pairs(count: int, seed: int = 0) -> list[MediaText]:
    """Return pictures with texts of clearly different lengths."""
    rng = random.Random(seed)
    found = []
    for i in range(count):
        text = f"{i} " + "".join(rng.choices("abcdefgh ", k=rng.randrange(2, 16)))
        found.append(MediaText(Media(f"{seed}-{i}", data=png(100 * seed + i)), (text,), id=str(i)))
    return found


def asked(folder: Path) -> ImageText:
    """Six pictures with two questions each, and three answers in all; the same in every split."""
    rows = []
    for i in range(6):
        (folder / f"{i}.png").write_bytes(png(i))
        for question, answer in (("Is it red?", ANSWERS[i % 2]), ("How many?", ANSWERS[1 + i % 2])):
            rows.append({"image": f"{i}.png", "question": question, "text": answer})
    file = folder / "questions.jsonl"
    file.write_text("".join(json.dumps(row | {"split": "test"}) + "\n" for row in rows))
    return ImageText(str(folder), str(file))


def batch_of(module: Any, records: Sequence[MediaText]) -> Any:
    """Return one batch with the number of its pairs as the normaliser."""
    encoder = module.encoder()
    examples = [example for record in records for example in encoder(record)]
    return encoder.collate(examples, {0: float(len(examples))})


def at_step(module: Any, step: int) -> Any:
    """Let `training_step` run without a Trainer, as at a number of past optimiser steps."""
    module.log = lambda *args, **kwargs: None
    module._trainer = SimpleNamespace(global_step=step, world_size=1)
    return module


def our_step(module: Any, batch: Any, step: int) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Return the module's own training loss at a step, and its gradients by parameter name."""
    module.zero_grad(set_to_none=True)
    loss = at_step(module, step).training_step(batch, 0)
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in module.named_parameters() if p.requires_grad}


def our_vectors(module: Any, batch: Any, way: str) -> Any:
    direction = module.directions[WAYS.index(way)]
    tokens = {m: module.encode(batch, m) for m in ("text", "image")}
    return module(tokens, direction)


def gradients(loss: Tensor, module: Any) -> dict[str, Tensor | None]:
    """Return the gradient of a transcribed loss by parameter name."""
    named = {n: p for n, p in module.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return dict(zip(named, found, strict=True))


def assert_same_gradients(
    ours: Mapping[str, Tensor | None], expected: Mapping[str, Tensor | None]
) -> None:
    assert ours.keys() == expected.keys()
    for name, want in expected.items():
        got = ours[name]
        if want is None:
            assert got is None, f"{name} should get no gradient"
        else:
            assert got is not None, f"{name} gets no gradient"
            scale = want.abs().max().item()
            torch.testing.assert_close(
                got, want, rtol=1e-4, atol=1e-5 * scale + 1e-9, msg=lambda m, n=name: f"{n}: {m}"
            )


class Watch(Callback):
    """Notes, for every optimiser step, the directions run, the missing gradients, what moved."""

    def __init__(self) -> None:
        self.ways: list[list[str]] = []
        self.missing: list[set[str]] = []
        self.moved: list[set[str]] = []
        self.now: list[str] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        def note(_: Any, args: tuple[Any, ...]) -> None:
            if pl_module.training:
                self.now.append(args[1].name)

        self.before = self.values(pl_module)
        self.hook = pl_module.register_forward_pre_hook(note)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.missing.append(
            {n for n, p in pl_module.named_parameters() if p.requires_grad and p.grad is None}
        )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if len(self.missing) > len(self.moved):  # an optimiser step was taken
            after = self.values(pl_module)
            self.moved.append({n for n in after if not torch.equal(after[n], self.before[n])})
            self.before = after
            self.ways.append(self.now)
            self.now = []

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self.hook.remove()

    @staticmethod
    def values(module: Any) -> dict[str, Tensor]:
        return {n: p.detach().clone() for n, p in module.named_parameters()}


def fit(module: Any, steps: int, *, ckpt_path: str | None = None, **options: Any) -> Any:
    """Train on digits with Lightning's own Trainer; return the trainer and what was watched."""
    watch = Watch()
    once = {"max_steps": steps, "limit_val_batches": 0, "gradient_clip_val": 1.0}
    trainer = quiet_trainer(**once, callbacks=[watch], **options)
    data = DigitsText(batch_size=4, max_train=40, max_val=8)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return trainer, watch


def constant(lr: float = 1e-2, **options: Any) -> Any:
    return zoo.Optimizer(lr=lr, schedule="constant", warmup_ratio=0.0, **options)


def learner(towers: Sequence[str], **options: Any) -> Any:
    """Return a module that is ready to train."""
    torch.manual_seed(0)
    return make(towers, optimizer=options.pop("optimizer", constant()), **options).train()
