"""The part of a LightningModule that all methods share.

Life cycle of the backbone (load, install, freeze, shard, compile: in that order), optimiser,
gradient clipping that is valid under sharding, logging of loss terms weighted by their tokens,
random state in checkpoints. A method adds `install`, `build_encoder`, `losses` and, if its pass is
not the plain one, `forward`; `zoo.evaluation` adds validation, test and prediction.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, ClassVar, TypeVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from zoo import backbone as backbones
from zoo import loss_logs, parallel, precision, resuming, weights
from zoo.adapters import DEFAULT, add_adapters
from zoo.backbone import Backbone, LoRA, as_config
from zoo.choices import check_choices
from zoo.decoding.depth_decoder import DepthDecoder
from zoo.errors import InputError, check_counts, counts_among
from zoo.export import Pretrained
from zoo.losses.cross_entropy import Term, total_loss
from zoo.nn.blocks import Blocks, num_blocks, place
from zoo.optimizer import Optimizer, adamw, clip_gradients, total_steps

R = TypeVar("R")


class ZooModule(LightningModule):
    """Base of all methods.

    `takes` names the record types that a method's encoder accepts, `passes` the methods that are
    one forward pass each, in which sharded weights stay whole. A method whose step runs several
    passes with other weights names none and makes each of them a call of the module itself.

    Args:
        backbone: Which language model to build on; a mapping is taken as its fields.
        optimizer: AdamW and its schedule; a mapping is taken as its fields.

    Raises:
        InputError: An argument of the method is none of its choices.
    """

    takes: ClassVar[tuple[type, ...]] = ()
    passes: ClassVar[tuple[str, ...]] = parallel.STEPS
    adapters: ClassVar[tuple[str, ...]] = (DEFAULT,)  # what `backbone.lora` adds, the active first
    may_start_new: ClassVar[tuple[str, ...]] = ()  # prefixes of parameters that weights may lack
    reply_setting: ClassVar[str | None] = None  # that limits what `converse` says, in tokens
    loss_weights: Mapping[str, float] | None = None  # of each term of `losses`; None for ones

    def __init__(
        self,
        backbone: Backbone | Mapping[str, Any] | None = None,
        optimizer: Optimizer | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_choices(self, "model")
        self.backbone = as_config(Backbone, backbone)
        self.optimizer = as_config(Optimizer, optimizer)
        self.lm: Any = None
        self.tokenizer: Any = None
        self.init_from: str | None = None  # weights to load after building
        self.built = False
        self.supervised: dict[str, float] = {}  # weight of each loss term in this epoch
        self._encoder: Any = None
        self._step_start: resuming.RandomState | None = None

    # -- for a method to write -----------------------------------------------------------------

    def validate(self) -> None:
        """Raise `InputError` for settings that do not fit the backbone; reads its config only."""

    def install(self) -> None:
        """Add the paper's parts to the loaded backbone, on full weights."""

    def whole_with_lora(self) -> list[nn.Module]:
        """Return the parts of the language model that LoRA leaves trainable as a whole."""
        return []

    def build_encoder(self, tokenizer: Any) -> Any:
        """Return the method's encoder (see `zoo.prompts.base.PromptEncoder`)."""
        raise TypeError(f"{type(self).__name__} does not implement build_encoder(tokenizer)")

    def forward(self, batch: Any) -> Any:
        """Return the residual stream after the last block, `(B, L, D)`."""
        return self.run_blocks(batch)

    def losses(self, batch: Any) -> dict[str, Term]:
        """Return the loss terms of a batch by name."""
        raise TypeError(f"{type(self).__name__} does not implement losses(batch)")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Log the loss terms; return their sum, weighted by `loss_weights`."""
        terms = self.losses(batch)
        self.log_terms("train", terms)
        return total_loss(terms, self.loss_weights)

    def pretrained(self) -> list[Pretrained]:
        """Return the Hugging Face models inside this module; one language model by default."""
        plain: dict[str, Any] = {"load_4bit": False}
        if len(self.adapters) == 1:
            plain = {"lora": None, **plain}
        return [Pretrained("lm", self.lm, self.tokenizer, "", "backbone", plain)]

    def blocks(self) -> list[nn.Module]:
        """Return the blocks that are sharded and compiled one by one."""
        return list(self.lm.model.layers)

    def show(self, records: Sequence[Any], *, prompt: str | None = None) -> list[dict[str, str]]:
        """Return what `generate` prints of some records, a mapping of names to texts each.

        Args:
            records: What to answer.
            prompt: Answer this text instead. A method may take more by name, for example `given`.
        """
        raise TypeError(f"{type(self).__name__} does not implement show(records)")

    def copied_heads(self) -> list[nn.Module]:
        """Return the heads beside the final one, which `Optimizer.clip_heads_apart` is about."""
        return []

    def untrained(self) -> str:
        """Return why nothing is trained with these settings; empty if something is."""
        return ""

    def converse(self, dialogue: Any, *, temperature: float = 0.0) -> tuple[dict[str, str], Any]:
        """Return what to show beside a reply, and the `Dialogue` with the reply as its last turn.

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
        precision.prepare(self)
        self.built = True
        if self.init_from is not None:
            weights.load_weights(self, self.init_from)
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
            add_adapters(self.lm, as_config(LoRA, self.backbone.lora), self.adapters)
            for part in () if self.backbone.freeze else self.whole_with_lora():
                part.requires_grad_(True)
        if self.backbone.gradient_checkpointing:
            self.lm.gradient_checkpointing_enable({"use_reentrant": False})
        self.train()

    def encoder(self) -> Any:
        """Return the method's encoder; needs the tokenizer only, not the weights."""
        if self._encoder is None:
            tokenizer = self.tokenizer or backbones.load_tokenizer(self.backbone.name)
            self._encoder = self.build_encoder(tokenizer)
        return self._encoder

    # -- the language model --------------------------------------------------------------------

    def run_blocks(self, batch: Any, **options: Any) -> Tensor:
        """Return the residual stream after the last block, `(B, L, D)`.

        Args:
            batch: Token ids with their places (see `zoo.encoding.Batch`).
            options: Further arguments of the blocks; they replace those of the batch.
        """
        return Blocks(self.lm, 0, num_blocks(self.lm))(batch.input_ids, **(place(batch) | options))

    @property
    def output_head(self) -> tuple[Tensor, nn.Module]:
        """The weight of the language head, `(V, D)`, and the norm before it."""
        return self.lm.lm_head.weight, self.lm.model.norm

    def last_logits(self, states: Tensor) -> Tensor:
        """Return the language head's logits of states after the last block, `(..., V)`."""
        return self.lm.lm_head(self.lm.model.norm(states))

    def new_decoder(
        self, num_rows: int, depths: Any = None, kind: type = DepthDecoder, **options: Any
    ) -> Any:
        """Return an empty decoder of the language model.

        Args:
            num_rows: Texts that are decoded at once.
            depths: Blocks below each place where tokens are chosen; None for the last block.
            kind: Class of the decoder.
            options: What that class takes beside the arguments of `DepthDecoder`.
        """
        return kind(
            self.lm,
            depths,
            batch_size=num_rows,
            pad_id=self.tokenizer.pad_token_id,
            everyone_done=self.everyone_done,
            **options,
        )

    @property
    def everyone_done(self) -> Callable[[bool], bool]:
        """True once its argument is true in every process that shares the weights."""
        return parallel.everyone_done(self)

    # -- optimisation --------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Return AdamW with a warm-up schedule over the run's optimiser steps."""
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        return adamw(self.optimizer, trained, total_steps(self.trainer))

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by global norm in a way that is valid under sharding; log the norm before."""
        if gradient_clip_algorithm == "value":
            raise InputError("trainer.gradient_clip_algorithm: only norm is supported")
        norm = clip_gradients(self, optimizer, gradient_clip_val or math.inf)
        self.log("train/grad_norm", norm)

    # -- logging -------------------------------------------------------------------------------

    def log_terms(self, stage: str, terms: Mapping[str, Term]) -> None:
        """Log the loss terms of a batch (see `zoo.loss_logs`)."""
        loss_logs.log_terms(self, stage, terms)

    # -- checkpoints ---------------------------------------------------------------------------

    def save_hyperparameters(self, *args: Any, **kwargs: Any) -> None:
        """Save the constructor's arguments as plain values, so that loading never unpickles."""
        kwargs.setdefault("frame", inspect.currentframe().f_back)  # type: ignore[union-attr]
        super().save_hyperparameters(*args, **kwargs)
        for key, value in self.hparams.items():
            self.hparams[key] = asdict(value) if is_dataclass(value) else value  # type: ignore[arg-type]
        self._hparams_initial = dict(self.hparams)
        check_counts("model", counts_among(self.hparams))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Remember the random state where an optimiser step begins."""
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._step_start = resuming.random_state()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what exact resuming needs: the random state, and the place of a whole step."""
        resuming.complete(checkpoint, self._trainer, self._step_start)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse what does not fit; restore the random state."""
        resuming.accept(checkpoint, self, self._trainer)


def evaluating(method: Callable[..., R]) -> Callable[..., R]:
    """Run a method in evaluation mode and without gradients (recomputed blocks keep no cache)."""

    @functools.wraps(method)
    def wrapped(self: ZooModule, *args: Any, **kwargs: Any) -> R:
        training = self.training
        self.eval()
        try:
            with torch.no_grad(), precision.computing(self):
                return method(self, *args, **kwargs)
        finally:
            self.train(training)

    return wrapped
