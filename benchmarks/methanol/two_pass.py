"""A two-pass reply at batch 1: 100 prompt, 150 thought and 10 answer tokens, thought at block K/2.

- `ours`: `DepthDecoder`; the thought runs the lower half of the blocks only, then the waiting
  states catch up through the upper half in one chunk.
- `reprefill`, the first peer: plain Hugging Face with a KV cache. The thought is decoded with the
  full stack, the thinking head reads hidden state K/2; then prompt and thought are prefilled again
  for the answer. The final head is not run in pass 1, where nobody reads it.
- `early_exit`: the same, but pass 1 stops at block K/2. What is left to win is the second prefill.

Greedy; the thinking head is a copy of the final head; end-of-turn has no chance on any side, so
that exactly 150 and 10 tokens are decoded. Tokens of all sides are equal in fp32 before a time is
looked at; in bfloat16, where chunked and stepwise products round differently, the equal share is
reported.

The bound counts the bytes of weights that each decoded token reads and the FLOPs of each prefill,
at the rates measured in the same run; `bytes_only` leaves the prefills out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from benchmarks.harness import Sample, Setting, interleave, measure
from benchmarks.meters import time_steps
from benchmarks.peers import PlainDecoder, States, hugging_face, without
from benchmarks.result import Peer, Result, agree, compare, summarise
from benchmarks.roofline import Rates, Shape, rates, reply_seconds
from benchmarks.workload import BACKBONE, dialogues, shuffled, token_ids
from zoo.backbone import Backbone, resolve
from zoo.decoding.depth_decoder import DepthDecoder
from zoo.methods.methanol.module import MeTHanol
from zoo.nn.blocks import Blocks
from zoo.prompts.chat_format import chat_format
from zoo.prompts.thoughts import ANSWER, THOUGHT

CLAIM = "two-pass reply, 100/150/10 tokens: >= 1.4x as fast as re-prefilling after the thought"
NAME = "two_pass"
PROMPT, THOUGHT_TOKENS, ANSWER_TOKENS = 100, 150, 10
Reply = tuple[list[int], list[int]]


def prompts(tokenizer: Any, count: int) -> tuple[list[list[int]], list[int]]:
    """Return prompts that end with the thought's header, and end-of-turn with answer's header."""
    chat = chat_format(tokenizer)
    ids = partial(token_ids, tokenizer)
    opening, header = ids(chat.open("user", first=True)), ids(chat.end + chat.open(THOUGHT))
    room = PROMPT - len(opening) - len(header)
    questions = []
    for record in shuffled(dialogues()[0])[:count]:
        words = ids("\n".join(turn.text for turn in record.turns))
        questions.append([*opening, *words[:room], *header])
    return questions, ids(chat.end + chat.open(ANSWER))


def ours(setting: Setting, *, precision: str, replies: int) -> Sample:
    """Decode with `DepthDecoder`."""
    module = MeTHanol(Backbone(BACKBONE, dtype=precision))  # type: ignore[arg-type]
    module.configure_model()
    module.to(setting.device).eval()
    questions, bridge = prompts(module.tokenizer, replies + 1)
    depths = [module.k, len(module.lm.model.layers)]

    def reply(prompt: list[int]) -> Reply:
        decoder = DepthDecoder(module.lm, depths, batch_size=1, pad_id=0)
        stop = bridge[0]
        think, speak = without(stop, module.think_logits), without(stop, module.last_logits)
        decoder.feed([prompt], 0)
        thought = decoder.decode(0, think, stop_id=stop, max_new_tokens=THOUGHT_TOKENS)
        decoder.feed([bridge[1:]], 1)
        answer = decoder.decode(1, speak, stop_id=stop, max_new_tokens=ANSWER_TOKENS, close=False)
        return thought[0], answer[0]

    shape = {**asdict(Shape.of(module.lm)), "bridge": len(bridge)}
    return _time(reply, module, questions, setting, shape=shape)


def reprefill(setting: Setting, *, precision: str, replies: int, early: bool = False) -> Sample:
    """Decode with Hugging Face; prefill prompt and thought again for the answer.

    Args:
        setting: How to run.
        precision: Type of the weights.
        replies: How many are timed.
        early: The first pass stops at block K/2.
    """
    from transformers import AutoTokenizer

    lm = hugging_face(BACKBONE, setting.device, getattr(torch, precision))
    thinking_head = copy.deepcopy(lm.lm_head)
    k = len(lm.model.layers) // 2
    tokenizer = AutoTokenizer.from_pretrained(resolve(BACKBONE), trust_remote_code=False)
    questions, bridge = prompts(tokenizer, replies + 1)
    peer = PlainDecoder(lm, k, stop=bridge[0])
    thinking: States = Blocks(lm, 0, k) if early else peer.state_at_k

    def reply(prompt: list[int]) -> Reply:
        thought = peer.decode(prompt, thinking, thinking_head, THOUGHT_TOKENS)
        answer_prompt = [*prompt, *thought, *bridge]
        return thought, peer.decode(answer_prompt, peer.top, lm.lm_head, ANSWER_TOKENS)

    return _time(reply, torch.nn.ModuleList([lm, thinking_head]), questions, setting)


@torch.inference_mode()
def _time(
    reply: Callable[[list[int]], Reply],
    model: torch.nn.Module,
    questions: list[list[int]],
    setting: Setting,
    **notes: Any,
) -> Sample:
    """Time one reply per question; the first one warms up."""
    decoded, measured = time_steps(reply, questions, model, setting.device)
    return Sample(
        **measured,
        work={"tokens": [float(THOUGHT_TOKENS + ANSWER_TOKENS)] * (len(questions) - 1)},
        checks={
            "prompts": questions,
            "thoughts": [thought for thought, _ in decoded],
            "answers": [answer for _, answer in decoded],
        },
        notes={"data": dialogues()[1], **notes},
    )


def bounds(sample: Sample, found: Rates) -> dict[str, float]:
    """Return the highest ratio against each peer, and without the prefills."""
    note = dict(sample.notes["shape"])
    lengths = PROMPT, THOUGHT_TOKENS, ANSWER_TOKENS, note.pop("bridge")
    least = reply_seconds(Shape(**note), found, *lengths)
    decoding = reply_seconds(Shape(**note), Rates(math.inf, found.bytes), *lengths)
    return {
        **{peer: least[peer] / least["ours"] for peer in PEERS},
        "bytes_only": decoding["reprefill"] / decoding["ours"],
    }


def share_equal(ours: Sample, theirs: Sample) -> float:
    """Return the share of tokens that are equal, place by place."""
    pairs = [
        (a, b)
        for kind in ("thoughts", "answers")
        for mine, other in zip(ours.checks[kind], theirs.checks[kind], strict=True)
        for a, b in zip(mine, other, strict=True)
    ]
    return sum(a == b for a, b in pairs) / len(pairs)


SIDES: dict[str, Callable[..., Sample]] = {
    "ours": ours,
    "reprefill": reprefill,
    "early_exit": partial(reprefill, early=True),
    "rates": rates,
}
PEERS = {
    "reprefill": "Hugging Face, full stack in pass 1, prefilled again",
    "early_exit": "Hugging Face, early exit in pass 1, prefilled again",
}


def run(setting: Setting) -> Result:
    """Compare tokens in fp32; time fp32 (the first comparison) and bfloat16 weights."""
    replies, repeats = (2, 2) if setting.quick else (5, 3)
    checks: dict[str, Any] = {}
    details: dict[str, Any] = {}
    peers: list[Peer] = []
    samples: dict[str, list[Sample]] = {}
    for precision in ("float32", "bfloat16"):
        options = {"precision": precision, "replies": replies}
        sides = interleave(NAME, dict.fromkeys(("ours", *PEERS), options), setting, repeats)
        samples |= {f"{precision} {side}": taken for side, taken in sides.items()}
        mine = sides["ours"][0]
        machine = Rates(**measure(NAME, "rates", setting, precision=precision).notes)
        limits = bounds(mine, machine)
        exact = ("prompts", "thoughts", "answers") if precision == "float32" else ("prompts",)
        for peer, words in PEERS.items():
            other, side = sides[peer][0], f"{precision} {peer}"
            same = agree(mine, other, dict.fromkeys(exact, 0.0))
            checks[side] = {**same, "equal_tokens": share_equal(mine, other)}
            label, target = f"{words}, {precision} weights", 1.4 if peer == "reprefill" else None
            peers.append(Peer(label, side, f"{precision} ours", target, bound=limits[peer]))
        summaries = {side: summarise(taken) for side, taken in sides.items()}
        details[precision] = {"bounds": limits, "rates": asdict(machine), **summaries}
    return compare(NAME, CLAIM, peers, samples, checks, **details)
