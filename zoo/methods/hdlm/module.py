"""HdLM: making a language model a hierarchical classifier and generator.

arXiv 2507.12930. A decoder-only model speaks at its last layer only. Here intermediate layers get
copies of the language head and learn to decode coarse text (a class, an emotion, a strategy, a
rationale); deeper layers decode finer text given the coarse one. D levels, at k_1 < ... < k_D = K.

    (1)  h_{k_i} = blocks_1..k_i(x)                       raw residual stream
    (2)  L_i = mean over the tokens of level i of CE(W_i h_{k_i}),  i < D
    (3)  L_D = mean over the tokens of level D of CE(W_D norm(h_K))
    (4)  L = sum_i w_i L_i
    (5)  y_i = decode(W_i h_{k_i} | x, y_1, s_1, ..., y_{i-1}, s_{i-1}),  s_i = subtask(y_i)

Shapes: B batch, L tokens, D width (as a size), V vocabulary.

Follows (released code): heads off the raw residual stream after k_i blocks, initialised as untied
copies of the final head; no adapters, no stop-gradient; role names `thought`, `subtask`, ...; text
and end-of-turn of a level are learned by its head, headers and subtasks by none; a class is its
number in the list of its parent's classes; a decoded text that is no such number counts as failed.
Deviates: levels are decoded with early exit and the states below are reused
(`zoo/decoding/depth_decoder.py`), with the same tokens in float32 (in bfloat16 a tie can fall the
other way); the released code runs all layers and encodes the prompt again. Of a text to classify
that is too long the end is left out, but no class; a question or query too long is an error.
Unknown in the paper, chosen here: k_1 = 0.78 K (from the released WoS setting, 25 of 32), with
three levels 0.62 K and 0.94 K, below K in any case; full fine-tuning on small backbones.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from zoo.backbone import Backbone, read_config
from zoo.decoding.constrained import only
from zoo.decoding.depth_decoder import DepthDecoder
from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term, head_loss
from zoo.methods.hdlm.encoder import LevelEncoder
from zoo.methods.hdlm.evaluation import LevelingModule
from zoo.methods.hdlm.metrics import FAILED
from zoo.methods.hdlm.prompts import Emotions, Guide, Plan
from zoo.module import evaluating
from zoo.nn.blocks import Blocks, num_blocks, place
from zoo.nn.heads import copy_of_head
from zoo.optimizer import Optimizer
from zoo.records import Dialogue, LabelPath, Question, Triple

SHARES = {0: (), 1: (0.78,), 2: (0.62, 0.94)}  # of K
EMOTIONS_OF: dict[str, Emotions] = {  # by data module
    "ESConv": "esconv",
    "EmpatheticDialogues": "empathetic_dialogues",
}


class HdLM(LevelingModule):
    """A language model that decodes each level of a hierarchy at a depth of its own.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        depth: Number of levels D; used if `layers` is None.
        layers: k_1, ..., k_{D-1}, blocks below each intermediate head. K stands for the final
            head itself: with K everywhere this is plain fine-tuning on the same sequences.
        weights: w_1, ..., w_D; None for ones.
        head_norm: Put a copy of the final norm before each intermediate head.
        share_head: One intermediate head for all levels.
        guide: What is decoded before the reply of a dialogue.
        emotions: Which emotions a guide chooses from; None for those of the data: a run, a chat and
            an export on ESConv or EmpatheticDialogues keep theirs.
        separate: Every level is a call whose prompt holds those before it (two-call baseline).
        constrain: Decode class numbers only.
        max_length: Window in tokens.
        padding_free: Lay sequences end to end instead of padding them.
        max_new_tokens: Limit of a decoded level.
        max_generated: Records to decode in each validation or test; None for all.
    """

    takes: ClassVar[tuple[type, ...]] = (LabelPath, Dialogue, Triple, Question)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        depth: int = 2,
        layers: list[int] | None = None,
        weights: list[float] | None = None,
        head_norm: bool = False,
        share_head: bool = False,
        guide: list[Guide] | None = None,
        emotions: Emotions | None = None,
        separate: bool = False,
        constrain: bool = False,
        max_length: int = 2048,
        padding_free: bool = True,
        max_new_tokens: int = 256,
        max_generated: int | None = 128,
    ) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.save_hyperparameters()
        self.layers = layers
        self.depth = depth if layers is None else len(layers) + 1
        self.level_weights = weights or [1.0] * self.depth
        self.loss_weights = {f"level_{i + 1}": w for i, w in enumerate(self.level_weights)}
        self.head_norm, self.share_head, self.constrain = head_norm, share_head, constrain
        self.guide: list[Guide] = guide or ["strategy"]
        self.emotions: Emotions | None = emotions
        self.separate, self.max_length, self.padding_free = separate, max_length, padding_free
        self.max_new_tokens = max_new_tokens

    def validate(self) -> None:
        """Check layers and weights against the backbone's depth and the number of levels.

        Raises:
            InputError: Layers do not ascend within 1..K, or the weights are not one per level.
        """
        top = read_config(self.backbone.name).num_hidden_layers
        layers = list(self.layers or ())
        if self.layers is None and self.depth - 1 not in SHARES:
            raise InputError(
                f"model.layers: {self.depth} levels have no default; name {self.depth - 1} blocks"
            )
        if any(not 1 <= k <= top for k in layers) or sorted(layers) != layers:
            raise InputError(
                f"model.layers: {layers} do not ascend within 1..{top}, the depth of "
                f"{self.backbone.name}"
            )
        if len(self.level_weights) != self.depth:
            raise InputError(
                f"model.weights: {len(self.level_weights)} for {self.depth} levels; give one per "
                f"level, from coarse to fine"
            )

    def check_data(self, datamodule: Any) -> None:
        """Take the data's emotions, if they are left open; checkpoints and exports keep them."""
        if self.emotions is None:
            self.emotions = EMOTIONS_OF.get(type(datamodule).__name__)
            self.hparams["emotions"], self._encoder = self.emotions, None

    def install(self) -> None:
        """Add the intermediate heads W_i, untied copies of the final head."""
        top = num_blocks(self.lm)
        layers = self.layers
        if layers is None:  # below the final head also where rounding would reach it
            layers = [max(1, min(round(s * top), top - 1)) for s in SHARES[self.depth - 1]]
        self.ks = [*layers, top]
        self.depths = sorted(set(self.ks))
        own = [i for i, k in enumerate(self.ks) if k < top]
        shared = copy_of_head(self.lm) if self.share_head and own else None
        self.heads = nn.ModuleDict({str(i): shared or copy_of_head(self.lm) for i in own})
        norm = self.lm.model.norm if self.head_norm else nn.Identity()
        self.norms = nn.ModuleDict({str(i): copy.deepcopy(norm) for i in own})

    def whole_with_lora(self) -> list[nn.Module]:
        """Return the final norm and head: every head of the method trains as a whole."""
        return [self.lm.model.norm, self.lm.lm_head]

    def copied_heads(self) -> list[nn.Module]:
        """Return the heads W_i below the final one, a shared one once."""
        return [*dict.fromkeys(self.heads.values())]

    def build_encoder(self, tokenizer: Any) -> LevelEncoder:
        """Return the encoder: level i is learned by head i."""
        return LevelEncoder(
            tokenizer,
            self.depth,
            guide=tuple(self.guide),
            emotions=self.emotions,
            max_length=self.max_length,
            packed=self.padding_free,
            max_new_tokens=self.max_new_tokens,
            separate=self.separate,
        )

    def forward(self, batch: Batch) -> list[Tensor]:
        """Return h_{k_i} of equation (1), `(B, L, D)` each, no deeper than this batch needs."""
        weighted = [i for i, w in enumerate(self.level_weights) if w and i in batch.normalizers]
        deepest = max(weighted, default=0)
        states: list[Tensor] = []
        hidden, start = batch.input_ids, 0
        for k in self.ks[: deepest + 1]:
            hidden = Blocks(self.lm, start, k)(hidden, **place(batch)) if k > start else hidden
            states.append(hidden)
            start = k
        return states

    def losses(self, batch: Batch) -> dict[str, Term]:
        """Return L_i of equations (2) and (3), each over the tokens of its level."""
        terms = {}
        for level, hidden_BLD in enumerate(self(batch)):
            weight, norm = self.head(level)
            terms[f"level_{level + 1}"] = head_loss(hidden_BLD, batch, level, weight, norm)
        return terms

    def head(self, level: int) -> tuple[Tensor, nn.Module]:
        """Return the weight of a level's head and the norm before it."""
        if str(level) in self.heads:
            return self.heads[str(level)].get_parameter("weight"), self.norms[str(level)]
        return self.output_head

    def logits(self, level: int, hidden_BD: Tensor) -> Tensor:
        """Return W_i h_{k_i}, or W_D norm(h_K), `(B, V)`."""
        weight, norm = self.head(level)
        return nn.functional.linear(norm(hidden_BD), weight)

    @evaluating
    def generate(
        self,
        plans: Sequence[Plan],
        *,
        forced: Sequence[Sequence[str]] | None = None,
        temperature: float = 0.0,
    ) -> list[list[str]]:
        """Decode every level of each plan, equation (5); return the names found.

        Args:
            plans: What is asked (`encoder().plans(record)`).
            forced: Names to use for the first levels instead of decoding them (an intervention).
            temperature: Of the last level; 0 is greedy.
        """
        encoder = self.encoder()
        paths: list[list[str]] = [[] for _ in plans]
        sequences = [list(encoder.opening(plan)) for plan in plans]
        for level in range(self.depth):
            if level == 0 or self.separate:  # the one call, or one that reads what others said
                decoder, held = self.new_decoder(len(plans), self.depths), [0] * len(plans)
            for ids, plan, path in zip(sequences, plans, paths, strict=True):
                ids += encoder.between(plan, path)
            if forced is not None and level < len(forced[0]):
                given = zip(plans, paths, forced, strict=True)
                texts = [plan.text(path, names[level]) for plan, path, names in given]
                replies = [encoder.ids(text) for text in texts]
            else:
                new = [ids[n:] for ids, n in zip(sequences, held, strict=True)]
                heat = temperature if level + 1 == self.depth else 0.0
                replies = self._decode(decoder, new, level, plans, paths, heat)
                texts = self.tokenizer.batch_decode(replies, skip_special_tokens=True)
                held = [len(i) + len(r) + 1 for i, r in zip(sequences, replies, strict=True)]
            for i, (plan, path, text) in enumerate(zip(plans, paths, texts, strict=True)):
                sequences[i] += [*replies[i], encoder.stop_id]
                path.append(plan.name(path, text) or FAILED)
        return paths

    def _decode(
        self,
        decoder: DepthDecoder,
        new: Sequence[Sequence[int]],
        level: int,
        plans: Sequence[Plan],
        paths: Sequence[Sequence[str]],
        temperature: float,
    ) -> list[list[int]]:
        encoder, depth = self.encoder(), self.depths.index(self.ks[level])
        decoder.feed(new, depth)
        allowed = None
        listed = [plan.choices(path) for plan, path in zip(plans, paths, strict=True)]
        if self.constrain and all(names is not None for names in listed):
            numbers = [[encoder.ids(str(i)) for i in range(len(names or ()))] for names in listed]
            allowed = only(numbers, encoder.stop_id)
        return decoder.decode(
            depth,
            lambda hidden: self.logits(level, hidden),
            stop_id=encoder.stop_id,
            max_new_tokens=self.max_new_tokens,
            temperature=temperature,
            close=level + 1 < self.depth and not self.separate,
            allowed=allowed,
        )
