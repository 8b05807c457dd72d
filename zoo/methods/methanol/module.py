"""MeTHanol: modularized thinking language models with intermediate layer thinking.

arXiv 2409.12059 (IJCNN 2025). Early blocks comprehend, middle blocks think, late blocks speak: one
intermediate block k gets a language head of its own and learns to decode a natural-language thought
T, while the last block K keeps decoding the answer A to the query Q. Trained at two depths at once
on (Q, T, A); at inference T is decoded at block k, then A at block K given Q and T.

    (1)  h_k = blocks_1..k(Q, T, A),  h_K = blocks_k+1..K(h_k)
    (2)  L_think = mean over T of CE(W_T h_k)             thinking head, untied copy of W_A
    (3)  L_speak = mean over A of CE(W_A norm(h_K))       the backbone's own head
    (4)  L = lambda_T L_think + lambda_A L_speak
    (5)  T = decode(W_T h_k | Q),  A = decode(W_A norm(h_K) | Q, T)

Shapes: B batch, L tokens, D width, V vocabulary.

Follows: head off the raw residual stream, initialised from the final head; label masks of (2) and
(3), end-of-turn included, headers never; two-pass inference.
Deviates: pass 2 does not run Q and T again; their states wait at block k and catch up in one chunk
(`zoo/decoding/depth_decoder.py`), with the same tokens in float32 (in bfloat16 a tie can fall the
other way).
Unknown in the paper, chosen here: k = K/2; lambdas 1 : 1; no norm before W_T (the successor's
code); full fine-tuning; roles `thought` and `assistant` in the backbone's own turn markers.
Left out: what the title calls bootstrapping, sampling T and A and learning those with a right A
again; the paper gives no recipe for it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from zoo.backbone import Backbone, read_config
from zoo.decoding.think_answer import Phase, Reply, think_and_answer
from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term, head_loss
from zoo.module import evaluating
from zoo.nn.blocks import Blocks, num_blocks, place
from zoo.nn.heads import copy_of_head, stream_size
from zoo.optimizer import Optimizer
from zoo.prompts.thoughts import ThoughtEncoder
from zoo.records import Dialogue, Triple
from zoo.text_evaluation import ReplyingModule

THINK, SPEAK = 0, 1
SAMPLE = "Nora put the lemon on the desk and left. Peter moved it to the trunk while she was away."


class MeTHanol(ReplyingModule):
    """A language model whose block k thinks and whose last block speaks.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        thinking_layer: k, the number of blocks below the thinking head; None for K/2.
        think_weight: lambda_T of equation (4).
        speak_weight: lambda_A of equation (4). With 0 the blocks above k do not run.
        thinking_norm: Put a copy of the final norm before the thinking head.
        match_scale: Divide W_T at its start by the size of h_k (root mean square over `SAMPLE`): a
            raw stream can be hundreds of times as large as what W_A reads, and the loss as high.
        speak_on_thought: Ablation: let W_A learn the thought's tokens too.
        keep_thoughts: Keep the thoughts of past turns in a dialogue's context. Of those made from
            annotation the first says feeling and topic, later ones the plan alone.
        max_length: Window in tokens.
        padding_free: Lay sequences end to end instead of padding them.
        max_thought_tokens: Limit of a generated thought.
        max_answer_tokens: Limit of a generated answer.
        max_generated: Records to answer in each validation or test; None for all.
    """

    takes: ClassVar[tuple[type, ...]] = (Triple, Dialogue)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        thinking_layer: int | None = None,
        think_weight: float = 1.0,
        speak_weight: float = 1.0,
        thinking_norm: bool = False,
        match_scale: bool = False,
        speak_on_thought: bool = False,
        keep_thoughts: bool = True,
        max_length: int = 2048,
        padding_free: bool = True,
        max_thought_tokens: int = 256,
        max_answer_tokens: int = 256,
        max_generated: int | None = 128,
    ) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.save_hyperparameters()
        self.thinking_layer = thinking_layer
        self.loss_weights: dict[str, float] = {  # of equation (4)
            "think": think_weight,
            "speak": speak_weight,
            "speak_thought": speak_weight,
        }
        self.thinking_norm, self.match_scale = thinking_norm, match_scale
        self.speak_on_thought = speak_on_thought
        self.keep_thoughts, self.max_length = keep_thoughts, max_length
        self.padding_free = padding_free
        self.max_thought_tokens, self.max_answer_tokens = max_thought_tokens, max_answer_tokens

    def validate(self) -> None:
        """Check the thinking layer against the backbone's depth.

        Raises:
            InputError: k is not in 1..K, or both a norm and a scale are asked for.
        """
        depth = read_config(self.backbone.name).num_hidden_layers
        if self.match_scale and self.thinking_norm:
            raise InputError("model.match_scale: a norm gives h_k its size; set one of both")
        if self.thinking_layer is not None and not 1 <= self.thinking_layer <= depth:
            raise InputError(
                f"model.thinking_layer: {self.thinking_layer} is not in 1..{depth}, the depth of "
                f"{self.backbone.name}"
            )

    def install(self) -> None:
        """Add the thinking head W_T, an untied copy of W_A, and its norm if there is one."""
        self.k = self.thinking_layer or num_blocks(self.lm) // 2
        self.thinking_head = copy_of_head(self.lm)
        self.norm_before_thinking = (
            copy.deepcopy(self.lm.model.norm) if self.thinking_norm else nn.Identity()
        )
        if self.match_scale and not self.thinking_head.weight.is_meta:
            size = stream_size(self.lm, self.k, self.encoder().ids(SAMPLE))
            self.thinking_head.weight.data.div_(size)

    def whole_with_lora(self) -> list[nn.Module]:
        """Return the final norm and head: every head of the method trains as a whole."""
        return [self.lm.model.norm, self.lm.lm_head]

    def copied_heads(self) -> list[nn.Module]:
        """Return the thinking head."""
        return [self.thinking_head]

    def build_encoder(self, tokenizer: Any) -> ThoughtEncoder:
        """Return the encoder: T is learned by the thinking head, A by the speaking head."""
        return ThoughtEncoder(
            tokenizer,
            think=THINK,
            speak=SPEAK,
            max_length=self.max_length,
            packed=self.padding_free,
            keep_thoughts=self.keep_thoughts,
        )

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return h_k and h_K of equation (1), raw residual streams `(B, L, D)`.

        h_K is None if nothing is learned from it (lambda_A = 0).
        """
        where = place(batch)
        middle_BLD = Blocks(self.lm, 0, self.k)(batch.input_ids, **where)
        if self.loss_weights["speak"] == 0:
            return middle_BLD, None
        return middle_BLD, Blocks(self.lm, self.k, num_blocks(self.lm))(middle_BLD, **where)

    def losses(self, batch: Batch) -> dict[str, Term]:
        """Return the terms of equation (4), each over the tokens of its own head."""
        middle_BLD, top_BLD = self(batch)
        terms = {"think": head_loss(middle_BLD, batch, THINK, *self.thinking_output)}
        if top_BLD is not None:
            terms["speak"] = head_loss(top_BLD, batch, SPEAK, *self.output_head)
            if self.speak_on_thought:
                terms["speak_thought"] = head_loss(top_BLD, batch, THINK, *self.output_head)
        return terms

    @evaluating
    def generate(
        self,
        records: Sequence[Triple | Dialogue],
        *,
        thoughts: Sequence[str] | None = None,
        temperature: float = 0.0,
    ) -> list[Reply]:
        """Think at block k, then answer at block K: equation (5).

        Args:
            records: What to answer; a dialogue is answered at its last supporter turn.
            thoughts: Thoughts to use instead of thinking (an intervention); an empty one skips it.
            temperature: 0 is greedy.
        """
        encoder = self.encoder()
        return think_and_answer(
            self.new_decoder(len(records), [self.k, num_blocks(self.lm)]),
            encoder,
            [encoder.prompt(record) for record in records],
            think=Phase(0, self.think_logits, self.max_thought_tokens, temperature),
            speak=Phase(1, self.last_logits, self.max_answer_tokens, temperature),
            thoughts=thoughts,
        )

    @property
    def thinking_output(self) -> tuple[Tensor, nn.Module]:
        """W_T, `(V, D)`, and what stands before it: the loss and the decoding both read it."""
        return self.thinking_head.weight, self.norm_before_thinking

    def think_logits(self, middle_BD: Tensor) -> Tensor:
        """Return W_T h_k, `(B, V)`."""
        weight_VD, norm = self.thinking_output
        return nn.functional.linear(norm(middle_BD), weight_VD)

    def show(
        self,
        records: Sequence[Any],
        *,
        prompt: str | None = None,
        given: str | None = None,
        **options: Any,
    ) -> list[dict[str, str]]:
        """Return what was asked, thought and answered, with the gold beside it.

        Args:
            records: What to answer.
            prompt: Answer this instead.
            given: Use this thought instead of decoding one; an empty one skips it.
            options: See `generate`.
        """
        if given is not None:
            options["thoughts"] = [given] * (1 if prompt else len(records))
        return super().show(records, prompt=prompt, **options)
