"""The part of a LightningModule that no paper cares about.

Life cycle of the backbone (load, install, freeze, shard, compile: in that order), optimiser, valid
gradient clipping, token-weighted logging, random state in checkpoints. A method adds `install`,
`encoder`, `losses` and its two steps; nothing here calls a paper's code but `install`.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, ClassVar, Literal, TypeVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from zoo import backbone as backbones
from zoo import export, parallel
from zoo.backbone import Backbone, LoRA
from zoo.errors import InputError
from zoo.export import Pretrained
from zoo.losses.cross_entropy import Term

C = TypeVar("C")
R = TypeVar("R")


@dataclass(frozen=True)
class Optimizer:
    """AdamW and its schedule.

    Attributes:
        lr: Peak learning rate.
        schedule: After warm-up: `constant`, or `linear` or `cosine` decay to `final_ratio`.
        warmup_ratio: Share of all optimiser steps with linearly rising learning rate.
        weight_decay: Decoupled weight decay; not applied to vectors (norms, biases).
        beta1: Decay of the gradient mean.
        beta2: Decay of the squared gradient mean.
        final_ratio: Share of the peak learning rate that a decay ends at.
    """

    lr: float = 1e-5
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup_ratio: float = 0.1
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    final_ratio: float = 0.0


class ZooModule(LightningModule):
    """Base of all methods.

    `takes` names the record types that a method's encoder accepts, `passes` the methods that are
    one forward pass each, in which sharded weights stay whole. A method whose step runs several
    passes with other weights names none and makes each of them a call of the module itself.

    Args:
        backbone: Which language model to build on; a mapping is taken as its fields.
        optimizer: AdamW and its schedule; a mapping is taken as its fields.
    """

    takes: ClassVar[tuple[type, ...]] = ()
    passes: ClassVar[tuple[str, ...]] = parallel.STEPS
    may_start_new: ClassVar[tuple[str, ...]] = ()  # prefixes of parameters that weights may lack

    def __init__(
        self,
        backbone: Backbone | Mapping[str, Any] | None = None,
        optimizer: Optimizer | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = as_config(Backbone, backbone)
        self.optimizer = as_config(Optimizer, optimizer)
        self.lm: Any = None
        self.tokenizer: Any = None
        self.init_from: str | None = None  # weights to load after building
        self.built = False
        self._encoder: Any = None

    # -- for a method to write -----------------------------------------------------------------

    def validate(self) -> None:
        """Raise `InputError` for settings that do not fit the backbone; reads its config only."""

    def install(self) -> None:
        """Add the paper's parts to the loaded backbone, on full weights."""

    def build_encoder(self, tokenizer: Any) -> Any:
        """Return the method's encoder (see `zoo.encoding.Encoder`)."""
        raise TypeError(f"{type(self).__name__} does not implement build_encoder(tokenizer)")

    def pretrained(self) -> list[Pretrained]:
        """Return the Hugging Face models inside this module; one language model by default."""
        plain = {"lora": None, "load_4bit": False}
        return [Pretrained("lm", self.lm, self.tokenizer, "", "backbone", plain)]

    def blocks(self) -> list[nn.Module]:
        """Return the blocks that are sharded and compiled one by one."""
        return list(self.lm.model.layers)

    def show(
        self, records: Sequence[Any], *, prompt: str | None = None, thought: str | None = None
    ) -> list[dict[str, str]]:
        """Return what `generate` prints of some records, a mapping of names to texts each."""
        raise TypeError(f"{type(self).__name__} does not implement show(records)")

    def untrained(self) -> str:
        """Return why nothing is trained with these settings; empty if something is."""
        return ""

    def converse(self, dialogue: Any) -> tuple[dict[str, str], Any]:
        """Return what to show beside a reply, and the dialogue with the reply as its last turn.

        Args:
            dialogue: A `Dialogue` that ends with a seeker's turn.

        Raises:
            InputError: The method does not talk.
        """
        raise InputError(f"model: {type(self).__name__} does not talk")

    def check_data(self, datamodule: Any) -> None:
        """Raise `InputError` for data settings that do not fit the method."""

    def figures(self) -> dict[str, Any]:
        """Return what TensorBoard should show of this method (see `zoo.callbacks.Figures`)."""
        return {}

    # -- life cycle ----------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Load, install, freeze, shard, compile; a second call does nothing."""
        if self.built:
            return
        self.validate()
        self.build()
        self.built = True
        if self.init_from is not None:
            export.load_weights(self, self.init_from)
        parallel.shard(self)
        for block in self.blocks() if self.backbone.compile else ():
            block.compile()

    def build(self, *, meta: bool = False) -> None:
        """Load the backbone, install the surgery, freeze: everything before sharding.

        Args:
            meta: Shapes only, on the meta device.
        """
        self.lm, self.tokenizer = backbones.load(self.backbone, meta=meta)
        self.install()
        if self.backbone.freeze:
            self.lm.requires_grad_(False)
        if self.backbone.lora is not None:
            backbones.add_lora(self.lm, as_config(LoRA, self.backbone.lora))
        if self.backbone.gradient_checkpointing:
            self.lm.gradient_checkpointing_enable({"use_reentrant": False})
        self.train()

    def encoder(self) -> Any:
        """Return the method's encoder; needs the tokenizer only, not the weights."""
        if self._encoder is None:
            tokenizer = self.tokenizer or backbones.load_tokenizer(self.backbone.name)
            self._encoder = self.build_encoder(tokenizer)
        return self._encoder

    @property
    def everyone_done(self) -> Callable[[bool], bool]:
        """True once its argument is true in every process that shares the weights."""
        return parallel.everyone_done(self)

    # -- optimisation --------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Return AdamW with a warm-up schedule over the run's optimiser steps."""
        o = self.optimizer
        trained = {n: p for n, p in self.named_parameters() if p.requires_grad}
        plain = {n for n, p in trained.items() if p.ndim <= 1 or n.endswith("bias")}
        groups = [
            {
                "params": [p for n, p in trained.items() if n not in plain],
                "weight_decay": o.weight_decay,
            },
            {"params": [p for n, p in trained.items() if n in plain], "weight_decay": 0.0},
        ]
        adamw = torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=o.lr, betas=(o.beta1, o.beta2), fused=True
        )
        total = self._total_steps()
        warmup = math.ceil(o.warmup_ratio * total)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            left = max(0.0, (total - step) / max(1, total - warmup))
            decay = {
                "constant": 1.0,
                "linear": left,
                "cosine": 0.5 - 0.5 * math.cos(math.pi * left),
            }
            return o.final_ratio + (1 - o.final_ratio) * decay[o.schedule]

        schedule = torch.optim.lr_scheduler.LambdaLR(adamw, factor)
        stepwise = {"scheduler": schedule, "interval": "step", "name": "lr"}
        return {"optimizer": adamw, "lr_scheduler": stepwise}

    def _total_steps(self) -> int:
        # Not trainer.estimated_stepping_batches: reading it here loses the loader's saved place.
        trainer = self.trainer
        limit = trainer.max_steps if trainer.max_steps > 0 else math.inf
        data = getattr(trainer, "datamodule", None)
        if not trainer.max_epochs or trainer.max_epochs < 0:
            return int(limit if limit < math.inf else trainer.estimated_stepping_batches)
        if data is None:
            return int(trainer.estimated_stepping_batches)
        batches = len(data.train_dataloader())
        share = trainer.limit_train_batches
        batches = min(batches, share) if isinstance(share, int) else int(batches * share)
        epochs = math.ceil(batches / trainer.accumulate_grad_batches) * trainer.max_epochs
        return int(min(limit, epochs))

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by global norm in a way that is valid under sharding; raise on a non-finite norm.

        Raises:
            RuntimeError: The gradient norm is NaN or infinite.
        """
        if gradient_clip_algorithm == "value":
            raise InputError("trainer.gradient_clip_algorithm: only norm is supported")
        norm = parallel.clip_grad_norm(self, gradient_clip_val or math.inf)
        if not torch.isfinite(norm):
            raise RuntimeError(
                f"gradient norm is {norm.item()} at step {self.global_step}: the loss diverged; "
                f"lower model.optimizer.lr or use bfloat16 instead of float16"
            )
        self.log("train/grad_norm", norm)

    # -- logging -------------------------------------------------------------------------------

    def log_terms(self, stage: str, terms: Mapping[str, Term]) -> None:
        """Log each term's mean in nats per supervised token, weighted by its tokens."""
        training = stage == "train"
        processes = 1 if self._trainer is None else self._trainer.world_size
        for name, term in terms.items():
            count = 0.0 if math.isinf(term.normalizer) else float(term.weight)  # inf: a filler
            if not count and (training or processes == 1):
                continue  # in evaluation all processes log all terms: they are reduced together
            self.log(
                f"{stage}/{name}_loss",
                term.mean,
                # Lightning divides the sum over processes by their number, without a remainder.
                batch_size=max(1, round(count)) * processes if count else 0,
                on_step=training,
                on_epoch=not training,
                prog_bar=True,
                sync_dist=not training,
            )

    # -- checkpoints ---------------------------------------------------------------------------

    def save_hyperparameters(self, *args: Any, **kwargs: Any) -> None:
        """Save the constructor's arguments as plain values, so that loading never unpickles."""
        kwargs.setdefault("frame", inspect.currentframe().f_back)  # type: ignore[union-attr]
        super().save_hyperparameters(*args, **kwargs)
        for key, value in self.hparams.items():
            self.hparams[key] = asdict(value) if is_dataclass(value) else value  # type: ignore[arg-type]
        self._hparams_initial = dict(self.hparams)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the random state, so that a resumed run samples as the unbroken one."""
        checkpoint["rng"] = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            checkpoint["rng"]["cuda"] = torch.cuda.get_rng_state_all()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the random state."""
        rng = checkpoint.get("rng", {})
        if "cpu" in rng:
            torch.set_rng_state(rng["cpu"].cpu())
        if "cuda" in rng and torch.cuda.device_count() == len(rng["cuda"]):
            torch.cuda.set_rng_state_all([state.cpu() for state in rng["cuda"]])


def evaluating(method: Callable[..., R]) -> Callable[..., R]:
    """Run a method in evaluation mode and without gradients (recomputed blocks keep no cache)."""

    @functools.wraps(method)
    def wrapped(self: ZooModule, *args: Any, **kwargs: Any) -> R:
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                return method(self, *args, **kwargs)
        finally:
            self.train(training)

    return wrapped


def as_config(kind: type[C], value: C | Mapping[str, Any] | None) -> C:
    """Return a config object from itself, its fields, or None for the defaults."""
    if value is None:
        return kind()
    return kind(**value) if isinstance(value, Mapping) else value


def total_loss(terms: Mapping[str, Term], weights: Mapping[str, float] | None = None) -> Tensor:
    """Return sum_i weights[i] * terms[i].loss; every weight is 1 by default."""
    parts = [
        term.loss * (1.0 if weights is None else weights[name]) for name, term in terms.items()
    ]
    return torch.stack(parts).sum()
