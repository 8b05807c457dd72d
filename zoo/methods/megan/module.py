"""MeGan: a hypernetwork-driven meta-gated LLM.

arXiv 2605.01973 (ICML 2026). A SwiGLU gates with Swish_beta(g) = g sigmoid(beta g), beta = 1 in
every shipped model. Here a small hypernetwork reads a condition in words (task, domain, persona,
style) and gives every token, channel and layer a beta of its own, so that the same frozen weights
run with a non-linearity that depends on the condition.

    (1)-(3)  beta = 1 + tanh(W_b z) / 2,  z = attention(x; condition) + e_l   hypernetwork.py
    (4)-(5)  y = down(g sigmoid(beta g) * up(x)),  g = gate(x)                gate_function.py
    (6)  L = mean over the reply of CE + lambda_beta sum |delta| + lambda_w sum ||W_b||_F

with delta = beta - 1, summed over layers, tokens and channels. Both lambdas are 0 in every released
script; the code calls the first penalty "l2", but it is L1.

Shapes: B batch, L tokens, D width, F inner width, R bottleneck, S sequences, C condition tokens.

Follows (released code): the condition's token ids through the input embedding without gradient, no
positions, no pooling; one hypernetwork for all layers with a layer embedding, or one per layer
without; one head where there is a bottleneck; initialisation; greedy decoding.
Deviates: keys and values of the condition are made once per forward pass and dialogue; an empty
condition means beta = 1; the whole condition is read and padding is not (`official_condition_len:
16` with `condition_mask: false` trains as released); layer embeddings are trained
(`freeze_layer_emb` as released, where their name does not match); beta is computed in float32.
Unknown in the paper, chosen here: the penalty counts tokens that have a condition; everything on
small backbones. The attention's reverse direction and deeper beta heads do not run in the released
code and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.backbone import Backbone, as_config, read_config
from zoo.decoding.think_answer import Phase, answer
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term, head_loss
from zoo.methods.megan.decoding import GatedDecoder
from zoo.methods.megan.encoder import REPLY, ConditionedBatch, ConditionEncoder, Conditions
from zoo.methods.megan.evaluation import ConditionedReply, ConditioningModule
from zoo.methods.megan.gated_swiglu import Gating, StaticGating, condition, replace_gates
from zoo.methods.megan.hypernetwork import Hyper, build
from zoo.module import evaluating
from zoo.nn.blocks import num_blocks
from zoo.nn.swiglu import check_swiglu
from zoo.optimizer import Optimizer
from zoo.records import Conditioned

Source = Literal["hyper", "static", "none"]
Part = Literal["hyper", "full"]
HEAD = "head.weight"  # name of W_b in a hypernetwork


class MeGan(ConditioningModule):
    """A language model whose feed-forward gates bend with a condition told in words.

    Args:
        backbone: Which language model to build on; its blocks must have a SwiGLU.
        optimizer: AdamW and its schedule.
        hyper: What makes beta of a condition; a mapping is taken as its fields.
        gate: Where beta comes from: `hyper`, the condition; `static`, a free beta per channel and
            block (ablation); `none`, beta = 1, which is plain fine-tuning (baseline).
        train: `hyper` trains what makes beta, and adapters if there are any; `full` also all
            weights of the backbone.
        lambda_beta: Weight of sum |beta - 1|.
        lambda_w: Weight of the Frobenius norms of W_b.
        official_condition_len: Cut and pad conditions to this length in every batch, for the
            losses of training, validation and test (released: 16, in training); None reads them
            whole. Replies are always given under whole conditions.
        condition_mask: False lets that padding be seen, as released.
        max_condition: Longest condition in tokens.
        max_length: Window in tokens.
        padding_free: Lay sequences end to end instead of padding them.
        max_answer_tokens: Limit of a generated reply.
        max_generated: Records to answer in each validation or test; None for all.
    """

    takes: ClassVar[tuple[type, ...]] = (Conditioned,)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        hyper: Hyper | None = None,
        gate: Source = "hyper",
        train: Part = "hyper",
        lambda_beta: float = 0.0,
        lambda_w: float = 0.0,
        official_condition_len: int | None = None,
        condition_mask: bool = True,
        max_condition: int = 512,
        max_length: int = 2048,
        padding_free: bool = True,
        max_answer_tokens: int = 128,
        max_generated: int | None = 128,
    ) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.save_hyperparameters()
        self.hyper = as_config(Hyper, hyper)
        self.gate, self.trained = gate, train
        self.lambdas = {"beta": lambda_beta, "weight": lambda_w}
        self.loss_weights = {"reply": 1.0, **self.lambdas}
        self.official_condition_len, self.condition_mask = official_condition_len, condition_mask
        self.max_condition, self.max_length = max_condition, max_length
        self.padding_free, self.max_answer_tokens = padding_free, max_answer_tokens

    def validate(self) -> None:
        """Check the settings against each other and against the backbone.

        Raises:
            InputError: The backbone has no SwiGLU, or a setting does not fit.
        """
        config, fixed = read_config(self.backbone.name), self.official_condition_len
        check_swiglu(config, self.backbone.name)
        self.hyper.check(config.hidden_size)
        idle = self.gate == "none" and self.trained == "hyper" and self.backbone.lora is None
        wrong = {
            "train: hyper has nothing to train with gate: none; set full, or backbone.lora": idle,
            "lambda_beta, lambda_w: they need gate: hyper": (
                self.gate != "hyper" and any(self.lambdas.values())
            ),
            "lambda_beta, lambda_w: less than 0": min(self.lambdas.values()) < 0,
            f"official_condition_len: {fixed} is less than 1": fixed is not None and fixed < 1,
            "condition_mask: false needs official_condition_len": (
                not self.condition_mask and fixed is None
            ),
        }
        for complaint, applies in wrong.items():
            if applies:
                raise InputError(f"model.{complaint}")

    def install(self) -> None:
        """Let the gates bend and add what bends them; freeze the backbone if it is not trained."""
        if self.trained == "hyper":
            self.lm.requires_grad_(False)
        if self.gate == "none":
            return
        replace_gates(self.lm)
        config, device = self.lm.config, self.lm.device
        if self.gate == "hyper":
            freeze = self.hyper.freeze_layer_emb and self.trained == "hyper"
            hyper = replace(self.hyper, freeze_layer_emb=freeze)
            self.hypers = nn.ModuleList(build(hyper, config, device))
        else:
            ones_LF = torch.ones(config.num_hidden_layers, config.intermediate_size, device=device)
            self.beta = nn.Parameter(ones_LF)

    def build_encoder(self, tokenizer: Any) -> ConditionEncoder:
        """Return the encoder: the reply is learned, the condition goes to the hypernetwork."""
        return ConditionEncoder(
            tokenizer,
            max_length=self.max_length,
            packed=self.padding_free,
            max_condition=self.max_condition,
            fixed_condition=self.official_condition_len,
            see_padding=not self.condition_mask,
        )

    def gating(
        self, told: Conditions, batch: ConditionedBatch | None = None
    ) -> Gating | StaticGating | None:
        """Return what bends the gates under some conditions; None where every beta is 1.

        Args:
            told: The condition of each sequence.
            batch: The batch of these sequences; None for one row each.
        """
        if self.gate == "static":
            return StaticGating(self.beta)
        # In a batch the hypernetwork takes part in any case: other processes wait for it.
        if self.gate == "none" or (batch is None and not any(told.told)):
            return None
        with torch.no_grad():
            embedded_SCD = self.lm.model.embed_tokens(told.ids)
        held_BL = None if batch is None else batch.attention_mask
        gates = condition(
            self.hypers,
            embedded_SCD,
            told.mask,
            lengths=batch.lengths if batch is not None and held_BL is None else None,
            held_BT=held_BL if self.lambdas["beta"] else None,
            unconditioned=not all(told.told),
        )
        gates.sizes = {} if self.lambdas["beta"] else None
        return gates

    def forward(self, batch: ConditionedBatch) -> tuple[Tensor, Gating | StaticGating | None]:
        """Return the residual stream after the last block, `(B, L, D)`, and the gating."""
        gating = self.gating(batch.conditions, batch)
        options: dict[str, Any] = {} if gating is None else {"gating": gating}
        return self.run_blocks(batch, **options), gating

    def losses(self, batch: ConditionedBatch) -> dict[str, Term]:
        """Return the terms of equation (6); a penalty of weight 0 is not computed.

        A penalty is a sum over the batch, in the objective as in what is logged of it.
        """
        top_BLD, gating = self(batch)
        terms = {"reply": head_loss(top_BLD, batch, REPLY, *self.output_head)}
        filler = math.inf if math.inf in batch.normalizers.values() else 1.0  # counts nothing
        once = torch.tensor(1.0)
        if isinstance(gating, Gating) and gating.sizes:
            terms["beta"] = Term(gating.size(), once, filler)
        if self.lambdas["weight"]:
            norms = torch.stack([p.norm() for n, p in self.hypers.named_parameters() if HEAD in n])
            terms["weight"] = Term(norms.sum(), once, filler)
        return terms

    @evaluating
    def generate(
        self, records: Sequence[Conditioned], *, temperature: float = 0.0
    ) -> list[ConditionedReply]:
        """Answer each record under its whole condition; the gating serves the whole dialogue.

        Args:
            records: What to answer.
            temperature: 0 is greedy.
        """
        encoder = self.encoder()
        gating = self.gating(encoder.conditions(records).to(self.lm.device))
        if isinstance(gating, Gating):
            gating.means = {}
        decoder = self.new_decoder(len(records), kind=GatedDecoder, gating=gating)
        speak = Phase(0, self.last_logits, self.max_answer_tokens, temperature)
        prompts = [encoder.prompt(record) for record in records]
        texts = answer(decoder, encoder, prompts, speak=speak)
        betas = torch.ones(len(records), num_blocks(self.lm))
        betas = betas if gating is None else gating.mean_betas(decoder.mask_BL)
        return [ConditionedReply(*pair) for pair in zip(texts, betas.tolist(), strict=True)]
