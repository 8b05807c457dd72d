"""Training in a test: a batch of records, gradients without a Trainer, a Trainer that is silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning
import torch

import zoo
from datamodules.base import ZooDataModule
from zoo.encoding import sum_head_weights
from zoo.records import Triple


def batch_of(module: Any, records: Sequence[Any]) -> Any:
    """Return one batch whose normalisers are the supervised weights of each head."""
    encoder = module.encoder()
    examples = [example for record in records for example in encoder(record)]
    return encoder.collate(examples, sum_head_weights(examples))


def silence(module: Any) -> Any:
    """Let `training_step` run without a Trainer."""
    module.log = lambda *args, **kwargs: None
    return module


def learn(
    module: Any, batches: Iterator[Any], steps: int, rate: Callable[[int], float]
) -> list[dict[str, float]]:
    """Train with AdamW and clipping; return the mean of each term at every step."""
    silence(module).train()
    history: list[dict[str, float]] = []
    losses = module.losses

    def recorded(batch: Any) -> Any:
        terms = losses(batch)
        history.append({name: term.mean.item() for name, term in terms.items()})
        return terms

    module.losses = recorded
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=0.01)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate(step)
        loss = module.training_step(next(batches), 0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    module.losses = losses
    module.eval()
    return history


def our_gradients(module: Any, batch: Any) -> dict[str, torch.Tensor | None]:
    """Return the gradient of the module's own training loss by parameter name."""
    module.zero_grad(set_to_none=True)
    silence(module).training_step(batch, 0).backward()
    return {name: p.grad for name, p in module.named_parameters()}


def assert_same_gradients(
    ours: dict[str, torch.Tensor | None], expected: dict[str, torch.Tensor | None]
) -> None:
    """Compare gradients by parameter name; None is no gradient, or one of zeros."""
    assert ours.keys() == expected.keys()
    for name, want in expected.items():
        got = ours[name]
        if want is None:
            assert got is None or not got.any(), f"{name} should get no gradient"
            continue
        assert got is not None, f"{name} gets no gradient"
        tolerance = {"rtol": 1e-4, "atol": 1e-5 * want.abs().max().item() + 1e-9}
        torch.testing.assert_close(got, want, **tolerance, msg=lambda m, n=name: f"{n}: {m}")


def quiet_trainer(**options: Any) -> lightning.Trainer:
    """Return a Trainer on the CPU that prints and writes nothing."""
    quiet = {
        **{"accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False},
        **{"enable_progress_bar": False, "enable_model_summary": False},
    }
    return lightning.Trainer(**{**quiet, **options})


class Fixed(lightning.LightningDataModule):
    """The same batch again and again."""

    def __init__(self, records: list[Any], batches: int = 6) -> None:
        super().__init__()
        self.records, self.batches = records, batches

    def train_dataloader(self) -> Any:
        encoder = self.trainer.lightning_module.encoder()
        examples = [example for record in self.records for example in encoder(record)]
        batch = encoder.collate(examples, sum_head_weights(examples))
        return torch.utils.data.DataLoader([batch] * self.batches, batch_size=None)


class Data(ZooDataModule):
    """Triples of unequal lengths."""

    record_types = (Triple,)

    def __init__(self, train: int = 8, held_out: int = 5, **options: Any) -> None:
        super().__init__(**options)
        self.sizes = {"train": train, "val": held_out, "test": held_out}

    def load(self, split: str) -> list[Any]:
        return [
            Triple(f"q{i}", "t" * (1 + 5 * i % 13), "a" * (1 + 3 * i % 7), id=f"{split}:{i}")
            for i in range(self.sizes[split])
        ]


class Watched(zoo.MeTHanol):
    """Remembers the first step's gradients and the ids of every batch."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if self.trainer.global_step == 0:
            trained = {n: p for n, p in self.named_parameters() if p.requires_grad}
            self.first = {n: p.grad.clone() for n, p in trained.items()}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.__dict__.setdefault("trained", []).append([r.id for r in batch.records])
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.__dict__.setdefault("validated", []).extend(r.id for r in batch.records)
        return super().validation_step(batch, batch_idx)


def watched(name: str = "tiny-llama") -> Watched:
    return Watched(zoo.Backbone(name), zoo.Optimizer(lr=1e-2), max_generated=0)
