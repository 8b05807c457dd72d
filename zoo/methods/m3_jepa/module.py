"""M3-JEPA: multimodal alignment with a multi-gate mixture of experts in a joint embedding space.

arXiv 2409.05929 (ICML 2025). Frozen encoders turn an input and an output of different modalities
into token states. One light predictor, a mixture of experts (`predictor.py`, equations 1 to 7),
maps the states of one into the latent space of the other, in every direction. No vocabulary head
and no generation: what is minimised is the distance in latent space and a contrastive energy.

    (8)  E_m    = mean of the last two hidden-state entries of encoder m, a sequence
    (9)  L_reg  = SmoothL1(prediction, mean_L(E_tgt))
    (10) L_cl   = 1/2 [CE(c_src c_tgt^T / tau, I) + CE(c_tgt c_src^T / tau, I)], lengths one
    (11) L      = alpha L_reg + (1 - alpha) L_cl
    (12) step i trains direction i mod T only (alternating gradient descent)
    (13) score(x, y) = cos(c_src(x), c_tgt(y)); the c_tgt of a gallery are computed once

Shapes: B pairs, L tokens of an item, D width of an encoder, H hidden width.

Follows (paper, released code): encoder outputs, pictures prepared as their encoder wants them,
adapters without biases on query and value of the last three blocks, predictor and its
initialisation, both losses, the gradient that reaches the target's adapters, tau 0.03, alpha 0.5,
one optimiser, negatives of this process only.
Deviates: only the chosen experts are computed (the released code computes all); padding is left out
of routing and means (`mask_padding: false` for strict parity), but not the silence that fills up a
sound of less than ten seconds; pairs that match each other never share a batch, nor are they
negatives over processes; `mse` is the mean, not the sum, over the width.
Unknown or contradictory in the sources, chosen here: SmoothL1 (the paper's summary says squared
L2: `regression_loss`); adapter rank 4 (summary: 64); one pool of 12 experts; the direction follows
optimiser steps, so that it is one under accumulation and the same on every rank; the width of
the MLP of the ablation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.backbone import as_config, load_tokenizer
from zoo.errors import InputError
from zoo.export import Pretrained
from zoo.losses.cross_entropy import Term, total_loss
from zoo.media import decode_picture, decode_sound, picture_processor
from zoo.methods.m3_jepa import towers
from zoo.methods.m3_jepa.contrastive import info_nce
from zoo.methods.m3_jepa.encoder import PAIR, PairBatch, PairEncoder
from zoo.methods.m3_jepa.evaluation import AligningModule, ComparedVectors, reads, sources
from zoo.methods.m3_jepa.predictor import Direction, Predictor, Tokens, lay_out, parse, split
from zoo.methods.m3_jepa.split_encoder import SplitEncoder
from zoo.methods.m3_jepa.towers import Tower
from zoo.optimizer import Optimizer
from zoo.records import MediaText


class M3JEPA(AligningModule):
    """Frozen encoders joined by a mixture-of-experts predictor.

    Args:
        text: Text encoder.
        image: Vision encoder; None without pictures.
        audio: Sound encoder; None without sounds.
        optimizer: AdamW and its schedule.
        directions: For example `image2text`, or `image+text2text` for questions about a picture;
            None for both ways between text and each other modality.
        alpha: Weight of the regression loss; the contrastive one has 1 - alpha.
        temperature: tau of equation (10).
        alternate: One direction per optimiser step; False trains all in each (ablation).
        hidden: H of the predictor.
        num_experts: N.
        top_k: K, experts per token.
        dropout: Dropout of the experts.
        mixture: `moe`, or `mlp`: one network of the same cost instead (ablation).
        gate_input: `add` as released, `concat` as the paper writes it.
        branches: 2, or 1: both losses share one branch (ablation).
        regression_loss: `smooth_l1` as released, or `mse`.
        detach_target: Keep the regression's gradient from the target's adapters.
        mask_padding: Leave padding out of routing and means.
        across_ranks: Take the pairs of every process as negatives.
        max_text_tokens: Longer texts are cut there.
    """

    takes: ClassVar[tuple[type, ...]] = (MediaText,)

    def __init__(
        self,
        text: Tower,
        image: Tower | None = None,
        audio: Tower | None = None,
        optimizer: Optimizer | None = None,
        directions: list[str] | None = None,
        alpha: float = 0.5,
        temperature: float = 0.03,
        alternate: bool = True,
        hidden: int = 2048,
        num_experts: int = 12,
        top_k: int = 4,
        dropout: float = 0.1,
        mixture: Literal["moe", "mlp"] = "moe",
        gate_input: Literal["add", "concat"] = "add",
        branches: Literal[1, 2] = 2,
        regression_loss: Literal["smooth_l1", "mse"] = "smooth_l1",
        detach_target: bool = False,
        mask_padding: bool = True,
        across_ranks: bool = False,
        max_text_tokens: int = 64,
    ) -> None:
        super().__init__(None, optimizer)
        self.save_hyperparameters()
        given = {"text": text, "image": image, "audio": audio}
        self.configs = {m: as_config(Tower, t) for m, t in given.items() if t is not None}
        self.alternate, self.alpha, self.temperature = alternate, alpha, temperature
        self.regression_loss, self.detach_target = regression_loss, detach_target
        self.mask_padding, self.across_ranks = mask_padding, across_ranks
        self.max_text_tokens = max_text_tokens
        both = [name for m in self.media for name in (f"{m}2text", f"text2{m}")]
        self.directions = [split(name) for name in (both if directions is None else directions)]
        weights = {"regression": alpha, "contrastive": 1 - alpha}  # of equation (11)
        self.loss_weights: dict[str, float] = {
            f"{d.name}_{term}": weight for d in self.directions for term, weight in weights.items()
        }
        self.sizes: dict[str, Any] = {
            "hidden": hidden,
            "num_experts": num_experts,
            "top_k": top_k,
            "dropout": dropout,
            "mixture": mixture,
            "gate_input": gate_input,
            "branches": branches,
        }

    @property
    def media(self) -> list[str]:
        """The modalities beside text."""
        return [modality for modality in self.configs if modality != "text"]

    def validate(self) -> None:
        """Check the settings against each other.

        Raises:
            InputError: No modality beside text, a direction without encoders, alpha outside 0..1,
                more experts per token than there are, or an encoder that does not fit.
        """
        if not self.media:
            raise InputError("model: give model.image or model.audio beside model.text")
        if not self.directions:
            raise InputError("model.directions: name at least one, or null for the default")
        for direction in self.directions:
            parse(direction.name, self.configs)
        if not 0 <= self.alpha <= 1:
            raise InputError(f"model.alpha: {self.alpha} is not between 0 and 1")
        if not 1 <= self.sizes["top_k"] <= self.sizes["num_experts"]:
            raise InputError(
                f"model.top_k: {self.sizes['top_k']} is not in 1..{self.sizes['num_experts']}, "
                f"the number of experts"
            )
        for modality, tower in self.configs.items():
            towers.validate(tower, f"model.{modality}")

    def check_data(self, datamodule: Any) -> None:
        """Refuse a batch size that leaves the contrastive loss undefined.

        Raises:
            InputError: Batches of one pair with a contrastive loss.
        """
        if getattr(datamodule, "batch_size", 2) == 1 and self.alpha < 1 and not self.across_ranks:
            raise InputError(
                "data.batch_size: 1 leaves a pair without negatives for the contrastive loss; use "
                "at least 2, or model.alpha: 1"
            )

    def build(self, *, meta: bool = False) -> None:
        """Load the encoders and make the predictor."""
        loaded = {m: towers.load(t, f"model.{m}", meta=meta) for m, t in self.configs.items()}
        self.towers = nn.ModuleDict(loaded)
        widths = {m: tower.width for m, tower in loaded.items()}
        with torch.device("meta" if meta else "cpu"):
            self.predictor = Predictor(widths, self.directions, **self.sizes)
        self.tokenizer = self.encoder().tokenizer
        self.train()

    def encoder(self) -> PairEncoder:
        """Return the encoder of records: tokenizer and media decoders, no weights."""
        if self._encoder is None:
            decode: dict[str, Any] = {"audio": decode_sound}
            if "image" in self.configs:
                tower = self.configs["image"]
                config = towers.read_config(tower, "model.image")
                folder = None if towers.is_tiny(tower) else towers.find(tower, "model.image")
                processor = picture_processor(folder, config, tower.picture_size)
                decode["image"] = partial(decode_picture, processor=processor)
            self._encoder = PairEncoder(
                load_tokenizer(self.configs["text"].name),
                {modality: decode[modality] for modality in self.media},
                self.max_text_tokens,
            )
        return self._encoder

    def pretrained(self) -> list[Pretrained]:
        """Return the encoders; each is exported to a folder of its own."""
        tokenizers = {"text": self.tokenizer}
        plain = {"adapt_blocks": 0}
        return [
            Pretrained(f"towers.{m}.model", tower.model, tokenizers.get(m), m, m, plain)
            for m, tower in self.towers.items()
        ]

    def blocks(self) -> list[nn.Module]:
        """Return the encoders' blocks."""
        encoders = cast("Iterable[SplitEncoder]", self.towers.values())
        return [block for tower in encoders for block in tower.blocks]

    def encode(self, batch: PairBatch, modality: str) -> Tokens:
        """Return E of equation (8) for one modality of a batch; `question` is text too.

        Raises:
            InputError: The data have nothing of this modality.
        """
        if modality not in batch.inputs:
            raise InputError(f"data: a direction needs the {modality} of a record that has none")
        inputs = batch.inputs[modality]
        tower = self.towers["text" if modality == "question" else modality]
        kept = self.mask_padding or "attention_mask" not in inputs  # states of padding are not kept
        states_BLD = tower(inputs, batch.keys[modality] if kept else None)
        return lay_out(states_BLD, inputs.get("attention_mask") if self.mask_padding else None)

    def forward(  # type: ignore[override]
        self, tokens: Mapping[str, Tokens], direction: Direction
    ) -> ComparedVectors:
        """Return what the losses and the scores of a direction compare.

        Args:
            tokens: E of the direction's modalities.
            direction: Which way.
        """
        predicted, source = self.predictor(sources(tokens, direction), direction.name)
        target = tokens[direction.target]
        wanted = target.mean()
        contrasted = self.predictor.target(target, direction.target)
        wanted = wanted.detach() if self.detach_target else wanted
        return ComparedVectors(predicted, wanted, source, contrasted)

    def losses(
        self,
        views: ComparedVectors,
        normalizer: float | None = None,
        groups: Sequence[str] | None = None,
    ) -> dict[str, Term]:
        """Return L_reg and L_cl, equations (9) and (10), summed over pairs.

        A batch of one pair has no negatives: its contrastive term is left out.

        Args:
            views: What `forward` returned.
            normalizer: What the sums are divided by; None for the number of pairs.
            groups: The group of each pair; those of one group are no negatives of each other.
        """
        predicted, wanted, source, target = views
        distance = F.smooth_l1_loss if self.regression_loss == "smooth_l1" else F.mse_loss
        regression = distance(predicted.float(), wanted.float(), reduction="none").mean(1)
        ranks = self.across_ranks
        contrast = info_nce(source, target, self.temperature, groups, across_ranks=ranks)
        pairs = torch.tensor(float(len(predicted)), device=predicted.device)
        alone = len(predicted) == 1 and not self.across_ranks
        normalizer = normalizer or len(predicted)
        return {
            "regression": Term(regression.sum(), pairs, normalizer),
            "contrastive": Term(contrast.sum(), pairs * (not alone), normalizer),
        }

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Return L of equation (11) for the direction whose turn it is."""
        turn = self.global_step % len(self.directions)
        chosen = [self.directions[turn]] if self.alternate else self.directions
        needed = {part for direction in chosen for part in reads(direction)}
        tokens = {part: self.encode(batch, part) for part in sorted(needed)}
        terms: dict[str, Term] = {}
        for direction in chosen:
            views = self(tokens, direction)
            found = self.losses(views, batch.normalizers[PAIR], batch.groups)
            terms |= {f"{direction.name}_{k}": term for k, term in found.items()}
        self.log_terms("train", terms)
        return total_loss(terms, self.loss_weights)
