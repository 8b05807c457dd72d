"""How scenes are read, gone on with, scored and shown."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from zoo.decoding.batching import in_step
from zoo.decoding.think_answer import Phase, answer
from zoo.errors import InputError
from zoo.evaluation import EvaluatedModule, Pair
from zoo.losses.preference import node_log_probs, sequence_log_probs
from zoo.methods.mupas.encoder import Key, Objective
from zoo.methods.mupas.figures import speaker_figures
from zoo.methods.mupas.metrics import SpeakerScores, evenness, repetition
from zoo.methods.mupas.simulate import chances_of, simulate, write_scenes
from zoo.methods.mupas.windows import Window
from zoo.metrics.text_metrics import CorpusBleu, Distinct, ReplyPerplexity, RougeL
from zoo.module import evaluating
from zoo.records import Scene, Turn
from zoo.trees import collate_trees

SEED_TURNS = 2  # of a scene that a simulation begins with


@dataclass(frozen=True, slots=True)
class SceneReading:
    """What a model makes of a scene.

    Attributes:
        chances: P(r_t = i) of each turn, and of the one after the last, by name; none without
            names (pairwise).
        nats: Negative log-likelihood of all words, their speakers given.
        tokens: Number of these tokens.
        reply: Words for the last turn, given what is before and who speaks.
    """

    chances: tuple[dict[str, float], ...]
    nats: float
    tokens: int
    reply: str = ""


class SceneModule(EvaluatedModule):
    """A module that reads scenes and goes on with them.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_answer_tokens: Limit of a turn.
        max_turns: Limit of turns that are added to a scene.
        max_generated: Scenes to read in each validation or test; None for all.
    """

    headline: ClassVar[tuple[str, ...]] = ("speaker_accuracy", "perplexity")
    objective: Objective

    def __init__(
        self,
        backbone: Any,
        optimizer: Any,
        *,
        max_answer_tokens: int,
        max_turns: int,
        max_generated: int | None,
    ) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.max_answer_tokens, self.max_turns = max_answer_tokens, max_turns
        self.metrics["speakers"] = SpeakerScores()
        self.metrics["perplexity"] = ReplyPerplexity()
        self.metrics["bleu_2"], self.metrics["rouge_l"] = CorpusBleu(2), RougeL()
        self.metrics["distinct_2"] = Distinct(2)

    # -- reading -------------------------------------------------------------------------------

    def read(self, scene: Scene) -> SceneReading:
        """Return who is expected at each turn, and how likely the words are."""
        return self.read_all([scene])[0]

    @evaluating
    def read_all(self, scenes: Sequence[Scene]) -> list[SceneReading]:
        """Read scenes window by window, as many passes in every process."""
        encoder = self.encoder()
        pairwise = self.objective == "pairwise"
        jobs: list[tuple[int, Any]] = []
        tokens = [0] * len(scenes)
        for i, scene in enumerate(scenes):
            for window in encoder.windows(scene):
                tokens[i] += sum(len(turn.words) for turn in window.turns)
                jobs += (
                    [(i, one) for one in encoder.pair_examples(window)]
                    if pairwise
                    else [(i, window)]
                )
        chances: list[list[dict[str, float]]] = [[] for _ in scenes]
        nats = [0.0] * len(scenes)
        for (i, job), counts in in_step(jobs, self.everyone_done):
            expected_, lost = self._read_pair(job) if pairwise else self._read_window(job)
            if counts:
                del chances[i][0 if pairwise else job.first :]  # its first boundary was the last
                chances[i] += expected_
                nats[i] += lost
        rows = zip(chances, nats, tokens, strict=True)
        return [SceneReading(tuple(c), n, t) for c, n, t in rows]

    def _read_window(self, window: Window) -> tuple[list[dict[str, float]], float]:
        """Return the chances at each boundary of a window, and the nats of its words."""
        tree, keys = self.encoder().tree(window, scoring=True)
        batch = collate_trees([tree], pad_id=self.tokenizer.pad_token_id).to(self.device)
        values = node_log_probs(self(batch), batch, *self.output_head).tolist()
        words = [v for (kind, _, _), v in zip(keys, values, strict=True) if kind == "words"]
        return self.distributions(keys, values), -sum(words)

    def _read_pair(self, example: Any) -> tuple[list[dict[str, float]], float]:
        """Return the nats of the words of one pairwise example; it knows no names."""
        batch = self.encoder().collate([example], {}).to(self.device)
        return [], -float(sequence_log_probs(self(batch), batch, *self.output_head).sum())

    def distributions(self, keys: Sequence[Key], values: Sequence[float]) -> list[dict[str, float]]:
        """Return P(r_t = i) of equation (5) for each boundary, from log-probabilities of leaves."""
        scores: dict[int, dict[str, float]] = defaultdict(dict)
        for (kind, turn, name), value in zip(keys, values, strict=True):
            if kind == "speaker":
                scores[turn][name] = value
        return [chances_of(scores[turn], self.encoder().in_trees) for turn in sorted(scores)]

    def next_speaker(self, scene: Scene) -> dict[str, float]:
        """Return the chance of each person of a scene to speak after its last turn."""
        return self.read(scene).chances[-1]

    # -- going on ------------------------------------------------------------------------------

    @evaluating
    def generate(self, records: Sequence[Scene], *, temperature: float = 0.0) -> list[str]:
        """Return words for the last turn of each scene, whose speaker is known."""
        encoder = self.encoder()
        prompts = [encoder.prompt(scene) for scene in records]
        speak = Phase(0, self.last_logits, self.max_answer_tokens, temperature)
        return answer(self.new_decoder(len(records)), encoder, prompts, speak=speak)

    @evaluating
    def simulate(
        self,
        scene: Scene,
        *,
        user: str | None = None,
        listen: Callable[[], str | None] | None = None,
        told: Callable[[Turn], Any] = lambda turn: None,
        max_turns: int | None = None,
        min_turns: int = 0,
        temperature: float = 0.0,
    ) -> Scene:
        """Go on with a scene turn by turn (see `zoo.methods.mupas.simulate`).

        Raises:
            InputError: `pairwise` knows no names, or nobody is called like the user.
        """
        if self.objective == "pairwise":
            raise InputError("model.objective: pairwise does not know who speaks next")
        return simulate(
            self,
            scene,
            user=user,
            listen=listen,
            told=told,
            max_turns=self.max_turns if max_turns is None else max_turns,
            min_turns=min_turns,
            temperature=temperature,
        )

    # -- the life cycle ------------------------------------------------------------------------

    def answer(self, records: Sequence[Scene]) -> list[SceneReading]:
        """Read scenes, and find words for the last turn of each."""
        pairs = zip(self.read_all(records), self.generate(records), strict=True)
        return [replace(reading, reply=reply) for reading, reply in pairs]

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Score speakers, likelihood and replies."""
        scenes, readings = [scene for scene, _ in pairs], [reading for _, reading in pairs]
        metrics = self.each_metric()
        named = [i for i, reading in enumerate(readings) if reading.chances]
        metrics["speakers"].update(
            [scenes[i] for i in named],
            [readings[i].chances[1 : len(scenes[i].turns)] for i in named],
            [ids[i] for i in named],
        )
        nats, tokens = [r.nats for r in readings], [r.tokens for r in readings]
        metrics["perplexity"].update(nats, tokens, ids)
        replies, gold = [r.reply for r in readings], [scene.turns[-1].text for scene in scenes]
        metrics["bleu_2"].update(replies, gold, ids)
        metrics["rouge_l"].update(replies, gold, ids)
        metrics["distinct_2"].update(replies, ids)

    def sample(self, record: Scene, answer: SceneReading) -> dict[str, str]:
        """Return the row that TensorBoard shows of a scene's last turn."""
        last = record.turns[-1]
        return {
            "before": "\n".join(spoken(turn) for turn in record.turns[-4:-1]),
            "expected": ", ".join(expected(answer)[-1:]),
            "speaker": last.speaker,
            "reply": answer.reply,
            "gold reply": last.text,
        }

    def prediction(self, record: Scene, answer: SceneReading) -> dict[str, Any]:
        """Return who was expected at each turn, the likelihood, and the reply."""
        ppl = math.exp(answer.nats / answer.tokens)
        speakers = expected(answer)
        return {"id": record.id, "speakers": speakers, "perplexity": ppl, "reply": answer.reply}

    def figures(self) -> dict[str, Any]:
        """Return shares of turns and speaker confusions of the scenes that were read."""
        said, guessed = [], []
        for scene, reading in self.answers.values():
            names = expected(reading)
            said += [turn.speaker for turn in scene.turns[: len(names)]]
            guessed += names
        return speaker_figures(said, guessed)

    def show(
        self, records: Sequence[Scene], *, prompt: str | None = None, output: str | None = None
    ) -> list[dict[str, str]]:
        """Return scenes that go on by themselves after their first turns.

        Args:
            records: Scenes; their first turns are given.
            prompt: A setting for the people of the first one, who begin to talk there.
            output: JSONL file to write them to; it must not exist.

        Raises:
            InputError: The file exists.
        """
        if output is not None and Path(output).exists():
            raise InputError(f"output: {output} exists; give a new name")
        begun = [replace(scene, turns=scene.turns[:SEED_TURNS]) for scene in records]
        if prompt:
            begun = [replace(records[0], setting=prompt, turns=(), id="prompt")]
        scenes = [self.simulate(scene) for scene in begun]
        if output is not None:
            write_scenes(Path(output), scenes)
        return [_shown(first, scene) for first, scene in zip(begun, scenes, strict=True)]


def _shown(begun: Scene, scene: Scene) -> dict[str, str]:
    speakers = [turn.speaker for turn in scene.turns]
    row = {"scene": scene.setting or "-", "people": ", ".join(scene.names)}
    for number, turn in enumerate(scene.turns, start=1):
        given = " (given)" if number <= len(begun.turns) else ""
        row[f"turn {number}{given}"] = spoken(turn)
    how = "by itself" if scene.ended else "at its limit of turns"
    even = evenness(speakers, scene.names)
    again = repetition([turn.text for turn in scene.turns])
    row["ended"] = f"{how}; evenness of turns {even:.2f}, repeated {again:.2f}"
    return row


def expected(reading: SceneReading) -> list[str]:
    """Return the most likely speaker of each turn."""
    return [max(chances, key=chances.__getitem__) for chances in reading.chances[:-1]]


def spoken(turn: Turn) -> str:
    """Return a turn as a line of a script."""
    return f"{turn.speaker}: {' '.join(turn.text.split())}"
