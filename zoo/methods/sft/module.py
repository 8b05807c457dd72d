"""Plain supervised fine-tuning: one head, one depth. The baseline of the other methods.

Two controls of MeTHanol (arXiv 2409.12059, framework figure) are configs of it: SFT(Q -> A) with
`learn_thought: false`, and SFT(Q -> T, A at one head) with `learn_thought: true`.

    L = mean over the supervised tokens of CE(W_A norm(h_K))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from zoo.backbone import Backbone
from zoo.decoding.think_answer import Phase, Reply, think_and_answer
from zoo.encoding import Batch
from zoo.losses.cross_entropy import Term, head_loss
from zoo.module import evaluating
from zoo.optimizer import Optimizer
from zoo.prompts.thoughts import ThoughtEncoder
from zoo.records import Dialogue, Triple
from zoo.text_evaluation import ReplyingModule

SPEAK = 0


class SFT(ReplyingModule):
    """Supervised fine-tuning on answers, or on thoughts and answers, at the final head.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        learn_thought: Write the thought before the answer and learn both; else answers only.
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
        learn_thought: bool = False,
        max_length: int = 2048,
        padding_free: bool = True,
        max_thought_tokens: int = 256,
        max_answer_tokens: int = 256,
        max_generated: int | None = 128,
    ) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.save_hyperparameters()
        self.learn_thought, self.max_length = learn_thought, max_length
        self.padding_free = padding_free
        self.max_thought_tokens, self.max_answer_tokens = max_thought_tokens, max_answer_tokens

    def build_encoder(self, tokenizer: Any) -> ThoughtEncoder:
        """Return the encoder: everything learned is learned by the one head."""
        return ThoughtEncoder(
            tokenizer,
            think=SPEAK if self.learn_thought else None,
            speak=SPEAK,
            max_length=self.max_length,
            packed=self.padding_free,
        )

    def losses(self, batch: Batch) -> dict[str, Term]:
        """Return the one term."""
        return {"speak": head_loss(self(batch), batch, SPEAK, *self.output_head)}

    @evaluating
    def generate(
        self, records: Sequence[Triple | Dialogue], *, temperature: float = 0.0
    ) -> list[Reply]:
        """Answer each record, after a thought if thoughts are learned."""
        encoder = self.encoder()
        think = Phase(0, self.last_logits, self.max_thought_tokens, temperature)
        return think_and_answer(
            self.new_decoder(len(records)),
            encoder,
            [encoder.prompt(record) for record in records],
            think=think if self.learn_thought else None,
            speak=Phase(0, self.last_logits, self.max_answer_tokens, temperature),
        )
