"""MuPaS: supervised fine-tuning for dialogues of several people.

arXiv 2412.05342 (IJCNN 2025). One language model speaks for every person of a scene: each turn is
tied to its role, each role's words are a task of their own, and the tasks count alike, however much
somebody talks. The same model says who speaks next, so it can run a whole conversation by itself.

s the scene and its people 1..L, u_t turn t, r_t its role, M_i the tokens of role i's turns.

    (1)  l_i   = sum_k M_i[k] CE(z_{k-1}, x_k) / sum_k M_i[k]
    (2)  L_utt = mean of l_i over the R roles that speak in the window
    (3)  S1: L_spk = mean over turns of -log P(header_{r_t} | s, u_<t), summed over its tokens
         S2: L_spk = 1/N sum over boundaries, mean over who is silent there, of
             -log P(SILENCE | s, u_<t, header_i); N tokens of words in the window
    (4)  L = L_utt + lambda L_spk, mean over windows
    (5)  S1: P(r_t = i) = softmax_i log P(header_i | s, u_<t)
         S2: P(r_t = i) ~ 1 - P(SILENCE | s, u_<t, header_i)

One pass: (2) is a cross-entropy in which a token of role i weighs 1 / (R sum_k M_i[k]), counted
after the scene is cut (encoder.py). The silences of S2 are leaves of the window's prefix tree, seen
by no later turn (zoo/trees.py). Headers are learned once: in L_spk, or with lambda = 0 (S1) with
the words of their role; in S2 they are given. `single_role` with lambda > 0 leaves them unlearned,
so with one trained role L is that of assistant-only SFT.

Shapes: B windows, L tokens, D width, V vocabulary.

Follows: masks are of the loss, everything before is seen; the end of a turn is learned with it; the
scene and the cards never; headers in full with their closing delimiter, so that names of several
tokens compare fairly.
Deviates: no token is added to a vocabulary. SILENCE is the end of a turn in place of its first
word, the end of a scene is an empty turn of nobody. L_spk takes the end of a scene for a turn.
Unknown in the paper, chosen here: what its two strategies are; S1 and S2 are both reconstructions.
lambda = 1. A long scene is cut between turns, its windows are samples of their own. Order of the
people and other names are drawn once per scene (datamodules/scene_data.py). In S2 the silences of a
boundary weigh 1/N, what a token of words does on average in (2), so with lambda = 1 they and the
first word of the turn, between which the model chooses there, are about 1:1. A scene ends where it
is likelier that nobody speaks than that any one does, the weight 1/(L - 1) of silences undone
(chances.py). The words of a known speaker are read and written given that this one is not silent:
P(u | header) / (1 - P(SILENCE | header)). Before training, S1 prefers short names.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from zoo.backbone import Backbone
from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term, head_loss, linear_cross_entropy
from zoo.methods.mupas.encoder import (
    SPEAKER,
    UTTERANCE,
    WORDS_ALONE,
    Objective,
    SceneEncoder,
    Strategy,
)
from zoo.methods.mupas.evaluation import SceneModule
from zoo.optimizer import Optimizer
from zoo.records import Scene
from zoo.trees import TreeBatch, tree_attention


class MuPaS(SceneModule):
    """A language model that speaks for all people of a scene and says who is next.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        strategy: `speaker_as_token` (S1): names are written in the stream. `speak_or_silence` (S2):
            each person is asked whether to speak.
        objective: `role_mean`, equation (2). Baselines: `token_mean` over all words; `single_role`,
            equation (2) for who has most turns alone; `pairwise`, each person in turn as
            `assistant` before all others as `user`, which knows no names. The last two have no
            L_spk.
        speaker_weight: lambda.
        max_length: Window in tokens.
        max_answer_tokens: Limit of a turn.
        max_turns: Limit of turns that are added to a scene.
        max_generated: Scenes to read and go on with in each validation or test; None for all.
    """

    takes: ClassVar[tuple[type, ...]] = (Scene,)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        strategy: Strategy = "speaker_as_token",
        objective: Objective = "role_mean",
        speaker_weight: float = 1.0,
        max_length: int = 4096,
        max_answer_tokens: int = 64,
        max_turns: int = 12,
        max_generated: int | None = 32,
    ) -> None:
        super().__init__(
            backbone,
            optimizer,
            objective=objective,
            max_answer_tokens=max_answer_tokens,
            max_turns=max_turns,
            max_generated=max_generated,
        )
        self.save_hyperparameters()
        self.strategy = strategy
        self.speaker_weight, self.max_length = speaker_weight, max_length
        self.loss_weights = {"utterance": 1.0, "speaker": speaker_weight}

    def validate(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            InputError: A weight below 0; S2 without its silences, or with an objective of words.
        """
        if self.speaker_weight < 0:
            raise InputError(f"model.speaker_weight: {self.speaker_weight} is below 0")
        if self.strategy == "speak_or_silence":
            if not self.speaker_weight:
                raise InputError("model.speaker_weight: 0, but speak_or_silence learns silences")
            if self.objective in WORDS_ALONE:
                raise InputError(
                    f"model.objective: {self.objective} learns words alone, so no silences either"
                )

    def build_encoder(self, tokenizer: Any) -> SceneEncoder:
        """Return the encoder: windows with the weights of equation (2)."""
        return SceneEncoder(
            tokenizer,
            max_length=self.max_length,
            strategy=self.strategy,
            objective=self.objective,
            headers_apart=self.speaker_weight > 0,
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return the residual stream after the last block, `(B, L, D)`; trees under their mask."""
        if isinstance(batch, TreeBatch):
            return self.run_blocks(batch, attention_mask=tree_attention(self.lm, batch))
        return self.run_blocks(batch)

    def losses(self, batch: Batch) -> dict[str, Term]:
        """Return L_utt of equation (2) and L_spk of equation (3)."""
        states_BLD = self(batch)
        if isinstance(batch, TreeBatch):
            words = self.tree_loss(states_BLD, batch, UTTERANCE)
            silences = self.tree_loss(states_BLD, batch, SPEAKER)
            return {"utterance": words, "speaker": silences._replace(weight=words.weight)}
        terms = {"utterance": head_loss(states_BLD, batch, UTTERANCE, *self.output_head)}
        if self.speaker_weight and self.objective not in WORDS_ALONE:
            speaker = head_loss(states_BLD, batch, SPEAKER, *self.output_head)
            windows = speaker.weight.new_tensor(len(batch.lengths))  # each a mean over its turns
            terms["speaker"] = speaker._replace(weight=windows)
        return terms

    def tree_loss(self, states_BLD: Tensor, tree: TreeBatch, head: int) -> Term:
        """Return the cross-entropy of the targets of trees that a head learns."""
        mine = tree.head_ids == head
        weight_VD, norm = self.output_head
        hidden_ND = norm(states_BLD.flatten(0, 1).index_select(0, tree.rows[mine]))
        weights_N = tree.weights[mine]
        total = linear_cross_entropy(hidden_ND, weight_VD, tree.labels[mine], weights_N)
        return Term(total, weights_N.sum(), tree.normalizers.get(head, 1.0))
