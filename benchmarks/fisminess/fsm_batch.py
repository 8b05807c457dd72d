"""FiSMiness' three calls for two turns of each of 32 dialogues: all together, or turn by turn.

- `ours`: `FiSMiness.respond`: all dialogues' e, then all g, then all u; keys and values of a
  dialogue are computed once, for all calls and turns.
- `in_turn`, the first peer: the loop as it reads, with plain Hugging Face: one dialogue, one turn,
  one call at a time, each call's whole prompt prefilled (with a KV cache inside the call).
- `one_row`: ours, a dialogue at a time: what is left is what batching brings.

Float32, greedy, labels decoded under constraint on every side, prompts from ESConv with annotated
labels in the history and no annotated reply to score, as in a chat. Emotions, strategies and
replies of all sides are equal before a time is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from benchmarks.harness import Sample, Setting, interleave
from benchmarks.meters import time_steps
from benchmarks.peers import hugging_face
from benchmarks.result import Peer, Result, agree, compare
from benchmarks.straq.option_scoring import with_strategies
from benchmarks.workload import BACKBONE, dialogues, shuffled
from zoo.backbone import Backbone
from zoo.decoding.constrained import only
from zoo.methods.fisminess.encoder import TASKS, WalkEncoder
from zoo.methods.fisminess.machine import EMOTION, REPLY, STRATEGY, line
from zoo.methods.fisminess.module import FiSMiness
from zoo.nn.blocks import CACHE
from zoo.records import Dialogue
from zoo.support.decisions import Decision, decisions
from zoo.support.labels import EMOTIONS, SUPPORT
from zoo.support.read_reply import read_reply

CLAIM = "emotion, strategy, reply of 32 dialogues together: >= 3x as fast as turn by turn"
NAME = "fsm_batch"
WINDOW, REPLY_TOKENS = 1024, 24
DEPTHS = (3, 4)  # the turns of a dialogue that are walked
Answer = list[str]
Respond = Callable[[list[Decision]], list[Answer]]


def walker() -> FiSMiness:
    """Return an untrained method; its encoder writes the prompts of all sides."""
    return FiSMiness(
        Backbone(BACKBONE),
        mode="agent",
        oracle_history=True,
        max_length=WINDOW,
        max_new_tokens=REPLY_TOKENS,
    )


def states(count: int) -> list[list[Decision]]:
    """Return two turns of each of `count` dialogues."""
    dialogue_points: list[list[Decision]] = []
    for record in shuffled(dialogues()[0]):
        if len(dialogue_points) == count:
            break
        named = with_strategies(labelled(record))
        points = [unanswered(d) for d in decisions(named) if d.depth in DEPTHS]
        if len(points) == len(DEPTHS):
            dialogue_points.append(points)
    return dialogue_points


def unanswered(point: Decision) -> Decision:
    """Return a decision without the annotated reply, as in a chat: nothing is left to score."""
    return replace(point, target=replace(point.target, text=""))


def labelled(record: Dialogue) -> Dialogue:
    """Return a dialogue with an emotion; synthetic ones have none."""
    if record.emotion in EMOTIONS:
        return record
    return Dialogue(record.turns, EMOTIONS[0], record.problem, record.situation, f"{id(record)}")


def ours(setting: Setting, *, count: int, rows: int | None = None) -> Sample:
    """Walk `rows` dialogues at a time; None for all."""
    module = walker()
    module.configure_model()
    module.to(setting.device).eval()

    def respond(points: list[Decision]) -> list[Answer]:
        return [
            [response.emotion, response.strategy, response.reply]
            for response in module.respond(points)
        ]

    return _time(respond, module.lm, setting, count, rows or count)


def in_turn(setting: Setting, *, count: int) -> Sample:
    """Make one call at a time with Hugging Face, its prompt prefilled."""
    encoder: WalkEncoder = walker().encoder()
    lm = hugging_face(BACKBONE, setting.device)
    names = {EMOTION: encoder.emotions.names, STRATEGY: encoder.labels.names}

    def call(pieces: list[list[int]], task: str) -> str:
        ids = [*(t for piece in pieces for t in piece), *encoder.ids(encoder.questions[task])]
        paths = None if task == REPLY else [encoder.ids(name) for name in names[task]]
        answer_ids = _decode(lm, ids, paths, encoder.stop_id)
        text: str = encoder.tokenizer.decode(answer_ids, skip_special_tokens=True)
        return text.strip()

    def respond(points: list[Decision]) -> list[Answer]:
        answers = []
        for point in points:
            lines = encoder.before(point, encoder.rounds(point))
            pieces = [encoder.ids(text) for text in (encoder.head(point), *lines)]
            answer: Answer = []
            for task in TASKS:
                words = call(pieces, task)
                answer.append(read_reply(words, SUPPORT).reply if task == REPLY else words)
                pieces.append(encoder.ids(line(task, answer[-1])))
            answers.append(answer)
        return answers

    return _time(respond, lm, setting, count, 1)


def _decode(lm: Any, ids: list[int], paths: list[list[int]] | None, stop_id: int) -> list[int]:
    """Return the greedy continuation, one of `paths` if they are given."""
    allowed = only([paths], stop_id)
    cache, generated = DynamicCache(), list[int]()
    step = torch.tensor([ids], device=lm.device)
    limit = REPLY_TOKENS if paths is None else 1 + max(map(len, paths))
    while len(generated) < limit:
        states: Tensor = lm.model(step, **{CACHE: cache}).last_hidden_state
        logits = lm.lm_head(states[:, -1])[0]
        listed = allowed(0, generated)
        token = int(logits.argmax()) if listed is None else listed[int(logits[listed].argmax())]
        if token == stop_id:
            break
        generated.append(token)
        step = torch.tensor([[token]], device=lm.device)
    return generated


@torch.no_grad()
def _time(respond: Respond, lm: Any, setting: Setting, count: int, rows: int) -> Sample:
    """Time all turns of all dialogues as one step, after one dialogue that warms up."""
    warm, *points = states(count + 1)
    parts = [sum(points[start : start + rows], []) for start in range(0, count, rows)]

    def step(parts: list[list[Decision]]) -> list[Answer]:
        return [answer for part in parts for answer in respond(part)]

    (_, answers), measured = time_steps(step, [[warm], parts], lm, setting.device)
    turns = float(len(answers))
    return Sample(
        **measured,
        work={"turns": [turns], "calls": [3 * turns]},
        checks={"answers": answers},
        notes={"data": dialogues()[1], "dialogues": count, "reply_tokens": REPLY_TOKENS},
    )


SIDES: dict[str, Callable[..., Sample]] = {
    "ours": ours,
    "in_turn": in_turn,
    "one_row": partial(ours, rows=1),
}
PEERS = {
    "in_turn": "Hugging Face, one call after the other, each prompt prefilled",
    "one_row": "ours, a dialogue at a time",
}


def run(setting: Setting) -> Result:
    """Compare answers, then times."""
    count, repeats = (4 if setting.quick else 32), 1  # a step takes minutes
    samples = interleave(NAME, dict.fromkeys(SIDES, {"count": count}), setting, repeats)
    mine = samples["ours"][0]
    checks = {peer: agree(mine, samples[peer][0], {"answers": 0.0}) for peer in PEERS}
    target = None if setting.quick else 3.0
    peers = [Peer(PEERS["in_turn"], "in_turn", target=target), Peer(PEERS["one_row"], "one_row")]
    return compare(NAME, CLAIM, peers, samples, checks)
