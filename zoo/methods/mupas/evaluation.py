"""How scenes are read, gone on with, scored and shown."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from zoo.cache import check_new_file
from zoo.decoding.batching import in_step
from zoo.encoding import join
from zoo.errors import InputError
from zoo.evaluation import EvaluatedModule, Pair
from zoo.losses.preference import node_log_probs, sequence_log_probs
from zoo.methods.mupas.chances import chances_of, log_speaking
from zoo.methods.mupas.encoder import Key, Objective
from zoo.methods.mupas.figures import speaker_figures
from zoo.methods.mupas.metrics import SpeakerScores
from zoo.methods.mupas.reading import SceneReading, continued, expected, spoken
from zoo.methods.mupas.simulate import (
    check_turn,
    first_words,
    simulate,
    write_scenes,
    write_turns,
)
from zoo.methods.mupas.windows import Window
from zoo.metrics.text_metrics import CorpusBleu, Distinct, ReplyPerplexity, RougeL
from zoo.module import evaluating
from zoo.records import Scene, Turn
from zoo.trees import collate_trees

TOP_P = 0.9
SEED_TURNS = 2  # of a scene that a simulation begins with


class SceneModule(EvaluatedModule):
    """A module that reads scenes and goes on with them.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        objective: Whose words are learned; see `zoo.MuPaS`.
        max_answer_tokens: Limit of a turn.
        max_turns: Limit of turns that are added to a scene.
        max_generated: Scenes to read in each validation or test; None for all.
    """

    headline: ClassVar[tuple[str, ...]] = ("speaker_accuracy", "perplexity")

    def __init__(
        self,
        backbone: Any,
        optimizer: Any,
        *,
        objective: Objective,
        max_answer_tokens: int,
        max_turns: int,
        max_generated: int | None,
    ) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.objective = objective
        self.max_answer_tokens, self.max_turns = max_answer_tokens, max_turns
        if self.objective != "pairwise":  # which knows no names
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
        jobs: list[tuple[int, Any]] = []
        tokens: list[Counter[str]] = [Counter() for _ in scenes]
        for i, scene in enumerate(scenes):
            for window in encoder.windows(scene):
                tokens[i] += window.counts(headers=False)
                jobs += [(i, job) for job in self._jobs(window)]
        chances: list[list[dict[str, float]]] = [[] for _ in scenes]
        nats: list[dict[str, float]] = [dict.fromkeys(counts, 0.0) for counts in tokens]
        for (i, (window, name)), counts in in_step(jobs, self.everyone_done):
            read = self._read_window(window) if name is None else self._read_pair(window, name)
            if not counts:
                continue
            known = len(chances[i]) - window.first  # its first boundary was the last one before,
            chances[i] += read[0][max(0, known) :]  # which saw the turns of that window
            for speaker, lost in read[1].items():
                nats[i][speaker] += lost
        rows = zip(chances, nats, tokens, strict=True)
        return [SceneReading(tuple(c), n, dict(t)) for c, n, t in rows]

    def _jobs(self, window: Window) -> list[tuple[Window, str | None]]:
        """Return the passes over a window: one, or one for each person's view (pairwise)."""
        if self.objective != "pairwise":
            return [(window, None)]
        return [(window, name) for name in window.counts(headers=False)]

    def _read_window(self, window: Window) -> tuple[list[dict[str, float]], dict[str, float]]:
        """Return the chances at each boundary of a window, and the nats of each one's words.

        Who speaks is given, so with S2 the words are those of somebody who is not silent:
        P(words | header) / (1 - P(SILENCE | header)).
        """
        tree, keys = self.encoder().tree(window, scoring=True)
        batch = collate_trees([tree], pad_id=self.tokenizer.pad_token_id).to(self.device)
        values = node_log_probs(self(batch), batch, *self.output_head).tolist()
        nats: dict[str, float] = defaultdict(float)
        silences: dict[tuple[int, str], float] = {}
        for (kind, turn, name), value in zip(keys, values, strict=True):
            if kind == "words":
                nats[name] += log_speaking(silences[turn, name]) - value
            elif kind == "speaker":
                silences[turn, name] = value if self.encoder().in_trees else -math.inf
        return self.distributions(keys, values), nats

    def _read_pair(self, window: Window, name: str) -> tuple[list[Any], dict[str, float]]:
        """Return the nats of one person's words in the pairwise view; it knows no names."""
        encoder = self.encoder()
        example = join(encoder.pair_pieces(window, name), record=window.scene)
        batch = encoder.collate([example], {}).to(self.device)
        values = sequence_log_probs(self(batch), batch, *self.output_head)
        return [], {name: -float(values.sum())}

    def distributions(self, keys: Sequence[Key], values: Sequence[float]) -> list[dict[str, float]]:
        """Return P(r_t = i) of equation (5) for each boundary, from log-probabilities of leaves."""
        scores: dict[int, dict[str, float]] = defaultdict(dict)
        for (kind, turn, name), value in zip(keys, values, strict=True):
            if kind == "speaker":
                scores[turn][name] = value
        return [chances_of(scores[turn], self.encoder().in_trees) for turn in sorted(scores)]

    def next_speaker(self, scene: Scene) -> dict[str, float]:
        """Return the chance of each person of a scene to speak after its last turn.

        Raises:
            InputError: `pairwise` knows no names.
        """
        self._check_names()
        return self.read(scene).chances[-1]

    def _check_names(self) -> None:
        if self.objective == "pairwise":
            raise InputError("model.objective: pairwise does not know who speaks next")

    # -- going on ------------------------------------------------------------------------------

    @evaluating
    def generate(self, records: Sequence[Scene], *, temperature: float = 0.0) -> list[str]:
        """Return words for the last turn of each scene, whose speaker is known and not silent.

        Raises:
            InputError: Nobody says anything in a scene.
            TooLongError: Beside the people the window has no room for `max_answer_tokens`.
        """
        encoder, decoder = self.encoder(), self.new_decoder(len(records))
        room = self.max_answer_tokens + 1  # the end of the turn
        decoder.feed([encoder.prompt(scene, room) for scene in records], 0)
        begin = first_words(self.tokenizer)
        ids = write_turns(self, decoder, begin, temperature, close=False)
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

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
        top_p: float = TOP_P,
    ) -> Scene:
        """Go on with a scene turn by turn (see `zoo.methods.mupas.simulate`).

        Raises:
            InputError: `pairwise` knows no names, nobody is called like the user, or a temperature
                below 0.
        """
        self._check_names()
        return simulate(
            self,
            scene,
            user=user,
            listen=listen,
            told=told,
            max_turns=self.max_turns if max_turns is None else max_turns,
            min_turns=min_turns,
            temperature=temperature,
            top_p=top_p,
        )

    def check_turn(self, scene: Scene, turn: Turn) -> None:
        """Raise `TooLongError` for a turn that does not fit the window as `simulate` goes on."""
        check_turn(self, scene, turn)

    # -- the life cycle ------------------------------------------------------------------------

    def answer(self, records: Sequence[Scene]) -> list[SceneReading]:
        """Read scenes, and find words for the last turn of each."""
        pairs = zip(self.read_all(records), self.generate(records), strict=True)
        return [replace(reading, reply=reply) for reading, reply in pairs]

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Score speakers, likelihood and replies."""
        scenes, readings = [scene for scene, _ in pairs], [reading for _, reading in pairs]
        metrics = self.each_metric()
        if "speakers" in metrics:
            chances = [r.chances[1 : len(s.turns)] for s, r in zip(scenes, readings, strict=True)]
            metrics["speakers"].update(scenes, chances, ids)
        nats = [sum(reading.nats.values()) for reading in readings]
        tokens = [sum(reading.tokens.values()) for reading in readings]
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
            "expected": expected(record, answer)[-1] if answer.chances else "-",
            "speaker": last.speaker,
            "reply": answer.reply,
            "gold reply": last.text,
        }

    def prediction(self, record: Scene, answer: SceneReading) -> dict[str, Any]:
        """Return who was expected at each turn, the likelihood, and the reply."""
        ppl = math.exp(sum(answer.nats.values()) / sum(answer.tokens.values()))
        speakers = expected(record, answer)
        return {"id": record.id, "speakers": speakers, "perplexity": ppl, "reply": answer.reply}

    def figures(self) -> dict[str, Any]:
        """Return shares of turns and speaker confusions of what `SpeakerScores` counts."""
        said, guessed = [], []
        for scene, reading in self.answers.values():
            if reading.chances:
                said += [turn.speaker for turn in scene.turns[1:]]
                guessed += expected(scene, reading)[1:]
        return speaker_figures(said, guessed)

    def show(
        self,
        records: Sequence[Scene],
        *,
        prompt: str | None = None,
        output: str | None = None,
        temperature: float = 0.0,
    ) -> list[dict[str, str]]:
        """Return scenes that go on by themselves after their first turns.

        Args:
            records: Scenes; their first turns are given.
            prompt: A setting for the people of the first one, who begin to talk there.
            output: JSONL file to write them to; it must not exist.
            temperature: Of speakers and words; 0 takes the most likely.

        Raises:
            InputError: The file exists, or cannot be written.
        """
        if output is not None:
            check_new_file(Path(output))
        begun = [replace(scene, turns=scene.turns[:SEED_TURNS]) for scene in records]
        if prompt:
            begun = [replace(records[0], setting=prompt, turns=(), id="prompt")]
        scenes = [self.simulate(scene, temperature=temperature) for scene in begun]
        if output is not None:
            write_scenes(Path(output), scenes)
        return [continued(first, scene) for first, scene in zip(begun, scenes, strict=True)]
