"""A scene goes on by itself: who speaks is decided, then what, until the scene ends.

The scene so far is run once; headers of candidates are tried behind it and taken back. Who spoke
last does not speak again, since neighbouring turns of one speaker are one turn. The person that is
left to the user is chosen like the others, but no word is ever written for them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zoo.cache import whole_file
from zoo.decoding.constrained import pick
from zoo.errors import InputError, TooLongError, nearest
from zoo.markup import control_ids
from zoo.methods.mupas.chances import chances_of, nobody_speaks
from zoo.prompts.truncation import first_kept
from zoo.records import Scene, Turn

SPARE = 0.25  # share of the window that is freed where a scene outgrows it
NO_WORDS = "..."  # a turn of blanks


def simulate(
    module: Any,
    scene: Scene,
    *,
    user: str | None,
    listen: Callable[[], str | None] | None,
    told: Callable[[Turn], Any],
    max_turns: int,
    min_turns: int,
    temperature: float,
    top_p: float,
) -> Scene:
    """Return the scene with more turns; `ended` says whether it ended by itself.

    Args:
        module: The model, in evaluation mode.
        scene: People, and turns that are given; none is fine.
        user: Who is left to the user; None for nobody.
        listen: Returns what the user says, None to stop. Without it the scene stops where the user
            is to speak.
        told: Is given each turn that the model writes.
        max_turns: Most turns to add.
        min_turns: The scene does not end before so many more turns.
        temperature: Of speakers and words; 0 takes the most likely.
        top_p: A sampled token is one of the likeliest whose chances sum up to this.

    Raises:
        InputError: Nobody is called like the user, the scene has fewer than two people, two have
            the same header, or the temperature is below 0.
        TooLongError: The people, or what is said for one of them, do not fit the window.
    """
    if temperature < 0:
        raise InputError(f"temperature: {temperature} is below 0")
    if user is not None and user not in scene.names:
        raise InputError(f"role: nobody here is called {user!r}; {nearest(user, scene.names)}")
    if len(scene.roles) < 2:
        raise InputError(f"{scene.id or 'scene'}: {len(scene.roles)} people; a scene needs two")
    stage = Stage(module, replace(scene, ended=False))
    for added in range(max_turns):
        name = stage.choose(temperature, may_end=added >= min_turns)
        if name is None:
            return replace(stage.scene, ended=True)
        if name == user:
            text = None if listen is None else listen()
            if text is None:
                break
            stage.add(Turn(name, text))
        else:
            told(stage.speak(name, temperature, top_p))
    return stage.scene


class Stage:
    """A scene and the model's state behind its last turn.

    Args:
        module: The model.
        scene: The scene so far.
    """

    def __init__(self, module: Any, scene: Scene) -> None:
        self.module, self.scene, self.encoder = module, scene, module.encoder()
        self.first_words = first_words(module.tokenizer)
        self.headers = self.encoder.headers(scene)
        self._run()

    def _run(self) -> None:
        """Run the scene from its beginning; without its oldest turns where it is too long."""
        prefix = self.encoder.prefix(self.scene)
        budget = window_before_a_turn(self.module, self.scene)
        turns = [self._ids(turn) for turn in self.scene.turns]
        start = first_kept(len(prefix), [len(turn) for turn in turns], budget, SPARE)
        ids = [*prefix, *(token for turn in turns[start:] for token in turn)]
        self.decoder = self.module.new_decoder(1)
        self.decoder.feed([ids], 0)
        self.used, self.budget = len(ids), budget

    def _ids(self, turn: Turn) -> list[int]:
        spoken = self.encoder.spoken(turn)
        return [*spoken.header, *spoken.words]

    def add(self, turn: Turn) -> None:
        """Add a turn that somebody else wrote."""
        self.scene = replace(self.scene, turns=(*self.scene.turns, turn))
        ids = self._ids(turn)
        self.used += len(ids)
        if self.used > self.budget:
            self._run()
        else:
            self.decoder.feed([ids], 0)

    # -- who -----------------------------------------------------------------------------------

    def choose(self, temperature: float, *, may_end: bool) -> str | None:
        """Return who speaks next; None where the scene ends."""
        last = self.scene.turns[-1].speaker if self.scene.turns else None
        names = [name for name in self.headers if name != last]
        if self.encoder.in_trees:
            silences = {name: self._silence(name) for name in self.headers}
            if may_end and nobody_speaks(list(silences.values())):
                return None
            chances = chances_of({name: silences[name] for name in names}, silences=True)
            scores = {name: math.log(chance) for name, chance in chances.items()}
        else:
            scores = {name: self._header(name) for name in names}
            if may_end:
                scores[""] = self._logp()[self.encoder.stop_id].item()
        picked = pick(torch.tensor([list(scores.values())]), temperature)
        return list(scores)[int(picked)] or None

    def _logp(self) -> torch.Tensor:
        """Return the log-probabilities of what follows, `(V,)`."""
        return self.module.last_logits(self.decoder.state())[0].double().log_softmax(-1)

    def _header(self, name: str) -> float:
        """Return log P(header | scene so far)."""
        ids = self.headers[name]
        place = self.decoder.place()
        states_TD = self.decoder.follow([ids], 0)[0]
        self.decoder.rewind(place)
        logp_TV = self.module.last_logits(states_TD).double().log_softmax(-1)
        return logp_TV.gather(1, torch.tensor(ids, device=logp_TV.device)[:, None]).sum().item()

    def _silence(self, name: str) -> float:
        """Return log P(SILENCE | scene so far, header)."""
        place = self.decoder.place()
        self.decoder.feed([self.headers[name]], 0)
        silence = self._logp()[self.encoder.stop_id].item()
        self.decoder.rewind(place)
        return silence

    # -- what ----------------------------------------------------------------------------------

    def speak(self, name: str, temperature: float, top_p: float) -> Turn:
        """Write a turn; add and return it."""
        self.decoder.feed([self.headers[name]], 0)
        (ids,) = write_turns(
            self.module, self.decoder, self.first_words, temperature, top_p, close=True
        )
        text = self.encoder.tokenizer.decode(ids, skip_special_tokens=True)
        turn = Turn(name, " ".join(text.split()) or NO_WORDS)
        self.scene = replace(self.scene, turns=(*self.scene.turns, turn))
        self.used += len(self.headers[name]) + len(ids) + 1
        if self.used > self.budget:
            self._run()
        return turn


def window_before_a_turn(module: Any, scene: Scene) -> int:
    """Return how many tokens may stand before a turn that is written, so that it fits too.

    Raises:
        TooLongError: Beside setting and people the window holds no two turns.
    """
    encoder = module.encoder()
    turn = module.max_answer_tokens + max(map(len, encoder.headers(scene).values())) + 2
    people = len(encoder.prefix(scene))
    if people + 2 * turn > encoder.max_length:
        raise TooLongError(
            f"{scene.id or 'scene'}: its setting and people are {people} tokens; the window "
            f"max_length={encoder.max_length} has no room for two turns of {turn} beside them; "
            "raise max_length or shorten them"
        )
    return encoder.max_length - turn


def check_turn(module: Any, scene: Scene, turn: Turn) -> None:
    """Raise `TooLongError` for a turn that does not fit the window of a scene that goes on."""
    encoder = module.encoder()
    spoken = encoder.spoken(turn)
    size = len(spoken.header) + len(spoken.words)
    first_kept(len(encoder.prefix(scene)), [size], window_before_a_turn(module, scene))


def write_turns(
    module: Any,
    decoder: Any,
    begin: list[int],
    temperature: float,
    top_p: float = 1.0,
    *,
    close: bool,
) -> list[list[int]]:
    """Write a turn of the known speaker of each row; return its tokens without the end.

    Args:
        module: The model.
        decoder: Has read everything up to the header of who speaks.
        begin: Tokens a turn can begin with, `first_words`.
        temperature: 0 takes the most likely.
        top_p: A sampled token is one of the likeliest whose chances sum up to this.
        close: Let the decoder read the end too, so that another turn can follow.
    """
    return decoder.decode(
        0,
        module.last_logits,
        stop_id=module.encoder().stop_id,
        max_new_tokens=module.max_answer_tokens,
        temperature=temperature,
        top_p=top_p,
        close=close,
        allowed=lambda row, tokens: None if tokens else begin,
    )


def first_words(tokenizer: Any) -> list[int]:
    """Return the tokens a turn can begin with: whoever speaks is not silent (equation 5)."""
    silent = control_ids(tokenizer, len(tokenizer))
    return [token for token in range(len(tokenizer)) if token not in silent]


def write_scenes(path: Path, scenes: Sequence[Scene]) -> None:
    """Write scenes as `datamodules.Scenes` reads them, whole or not at all."""
    rows = [
        {
            "id": scene.id,
            "setting": scene.setting,
            "roles": [{"name": r.name, "description": r.description} for r in scene.roles],
            "turns": [{"speaker": turn.speaker, "text": turn.text} for turn in scene.turns],
            "ended": scene.ended,
        }
        for scene in scenes
    ]
    with whole_file(path) as scratch:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        scratch.write_text(text, encoding="utf-8")
