"""HdLM's decoding at batch 1: coarse text at block k only, and coarse-to-fine replies with reuse.

- `coarse`: 150 tokens after a prompt of 100, k = K/2. `ours` runs k blocks per token. The peer is
  the same loop at full depth: it runs all blocks and reads the states at k, as the released code
  does.
- replies of the sizes `wos`, `esconv` and `rationale` (query, coarse, subtask and fine tokens; k in
  proportion to the released settings). `ours` stops at k and pushes the waiting states up in one
  chunk. The peer is Hugging Face with a KV cache as the released code uses it: all blocks in every
  pass, the coarse head on a hidden state, everything prefilled again at each level.

Greedy; the coarse head is a copy of the final head; end-of-turn has no chance on any side, so that
the texts have their lengths. Float32 weights, SmolLM2-135M. The tokens of both sides are equal
before a time is looked at (a difference stops the run).

The bounds count the bytes of weights that each token decoded one by one reads and the FLOPs of each
chunk, at the rates measured in the same run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Sample, Setting, interleave, measure
from benchmarks.meters import time_steps
from benchmarks.peers import PlainDecoder, hugging_face, without
from benchmarks.result import Peer, Result, agree, compare, summarise
from benchmarks.roofline import Rates, Shape, rates
from benchmarks.workload import BACKBONE, dialogues, shuffled, token_ids
from zoo.backbone import Backbone, resolve
from zoo.decoding.depth_decoder import DepthDecoder
from zoo.methods.hdlm.module import HdLM
from zoo.prompts.chat_format import chat_format

CLAIM = "coarse tokens/s at k = K/2: >= 1.5x of the full depth; coarse-to-fine reply: >= 1.3x"
NAME = "early_exit"
SIZES = {  # share of the blocks below the coarse head; tokens: query, coarse, subtask, fine
    "coarse": (16 / 32, (100, 150, 0, 0)),
    "wos": (25 / 32, (400, 2, 80, 2)),
    "esconv": (20 / 32, (500, 2, 30, 40)),
    "rationale": (16 / 32, (100, 150, 0, 10)),
}
FULL_DEPTH = "the same loop at full depth, coarse head on block K/2"
PREFILLED = "Hugging Face, all blocks, prefilled again at each level"
Reply = tuple[list[int], list[int]]


class WholeStack(DepthDecoder):
    """The same loop without the early exit: every token runs all blocks at once."""

    def _raise_to(self, level: int) -> Tensor:
        states = super()._raise_to(level)
        above = level + 1
        for stage, cache in list(zip(self.stages, self.caches, strict=True))[above:]:
            new = torch.cat(self.waiting[above], 1)
            self.waiting[above] = []
            stage(
                new,
                attention_mask=self.mask_BL,
                position_ids=self.positions_BL[:, -new.shape[1] :],
                cache=cache,
            )
        return states


def questions(tokenizer: Any, kind: str, count: int) -> tuple[list[list[int]], list[int]]:
    """Return queries that end with the coarse level's header, and what is between the levels.

    Where the sizes leave nothing for a subtask the fine level's header alone is there.
    """
    query, _, subtask, _ = SIZES[kind][1]
    chat = chat_format(tokenizer)
    ids = partial(token_ids, tokenizer)
    opening, header = ids(chat.open("user", first=True)), ids(chat.end + chat.open("thought"))
    last = ids(chat.open("assistant"))
    queries, between = [], last
    for record in shuffled(dialogues()[0]):
        words = ids("\n".join(turn.text for turn in record.turns))
        room = query - len(opening) - len(header)
        if len(words) < room + subtask:
            continue
        queries.append([*opening, *words[:room], *header])
        between = [*words[room : room + max(0, subtask - len(last))], *last]
        if len(queries) == count:
            break
    return queries, between


def ours(
    setting: Setting, *, kind: str, replies: int, decoder_type: type[DepthDecoder] = DepthDecoder
) -> Sample:
    """Decode with `DepthDecoder`."""
    share, (_, coarse_tokens, _, fine_tokens) = SIZES[kind]
    module = HdLM(Backbone(BACKBONE), layers=[1])
    module.configure_model()
    module.to(setting.device).eval()
    blocks = len(module.lm.model.layers)
    module.ks = [max(1, round(share * blocks)), blocks]
    asked, between = questions(module.tokenizer, kind, replies + 1)
    stop = module.encoder().stop_id

    def level(i: int) -> Callable[[Tensor], Tensor]:
        return without(stop, lambda states: module.logits(i, states))

    def reply(query: list[int]) -> Reply:
        decoder = decoder_type(module.lm, module.ks, batch_size=1, pad_id=0)
        decoder.feed([query], 0)
        more: dict[str, Any] = {"max_new_tokens": coarse_tokens - 1, "close": fine_tokens > 0}
        (coarse,) = decoder.decode(0, level(0), stop_id=stop, **more)
        if not fine_tokens:
            return coarse, []
        decoder.feed([between], 1)
        more = {"max_new_tokens": fine_tokens, "close": False}
        return coarse, decoder.decode(1, level(1), stop_id=stop, **more)[0]

    shape = {"shape": asdict(Shape.of(module.lm)), "k": module.ks[0], "between": len(between)}
    return _time(reply, module, asked, setting, kind, **shape)


def reprefill(setting: Setting, *, kind: str, replies: int) -> Sample:
    """Decode with Hugging Face, all blocks and a prefill of everything at each level."""
    from transformers import AutoTokenizer

    share, (_, coarse_tokens, _, fine_tokens) = SIZES[kind]
    lm = hugging_face(BACKBONE, setting.device)
    head = copy.deepcopy(lm.lm_head)
    tokenizer = AutoTokenizer.from_pretrained(resolve(BACKBONE), trust_remote_code=False)
    asked, between = questions(tokenizer, kind, replies + 1)
    stop: Any = tokenizer.convert_tokens_to_ids(chat_format(tokenizer).end)
    peer = PlainDecoder(lm, max(1, round(share * len(lm.model.layers))), stop)

    def reply(query: list[int]) -> Reply:
        coarse = peer.decode(query, peer.state_at_k, head, coarse_tokens - 1)
        fine_prompt = [*query, *coarse, stop, *between]
        return coarse, peer.decode(fine_prompt, peer.top, lm.lm_head, fine_tokens)

    return _time(reply, torch.nn.ModuleList([lm, head]), asked, setting, kind)


@torch.inference_mode()
def _time(
    reply: Callable[[list[int]], Reply],
    model: torch.nn.Module,
    asked: list[list[int]],
    setting: Setting,
    kind: str,
    **notes: Any,
) -> Sample:
    """Time one reply per query; the first one warms up."""
    decoded, measured = time_steps(reply, asked, model, setting.device)
    return Sample(
        **measured,
        work={"tokens": [float(sum(map(len, decoded[0])))] * (len(asked) - 1)},
        checks={"queries": asked, "replies": decoded},
        notes={"data": dialogues()[1], "sizes": SIZES[kind][1], **notes},
    )


def bound(sample: Sample, found: Rates) -> float:
    """Return the ratio of the least times of the peer and of ours for one reply."""
    shape, k = Shape(**sample.notes["shape"]), sample.notes["k"]
    query, coarse, _, fine = sample.notes["sizes"]
    between, full = sample.notes["between"], shape.blocks
    block, head = shape.block * shape.bytes, shape.head * shape.bytes
    heads = (coarse - 1 + fine) * head
    if not fine:  # the first token comes from the prefill, the state of the last is not computed
        chunks = {"ours": k * query, "peer": full * query}
        steps = {"ours": (coarse - 2) * k, "peer": (coarse - 2) * full}
    else:  # ours feeds the end-of-turn too
        upper = (full - k) * (query + coarse) + full * between
        chunks = {"ours": k * query + upper, "peer": full * (2 * query + coarse + between)}
        steps = {
            "ours": coarse * k + (fine - 1) * full,
            "peer": (coarse - 2 + fine - 1) * full,
        }
    least = {
        side: found.seconds(2.0 * shape.block * chunks[side], steps[side] * block + heads)
        for side in chunks
    }
    return least["peer"] / least["ours"]


SIDES: dict[str, Callable[..., Sample]] = {
    "ours": ours,
    "whole_stack": partial(ours, decoder_type=WholeStack),
    "reprefill": reprefill,
    "rates": rates,
}


def run(setting: Setting) -> Result:
    """For each workload: time both sides in turn, compare all tokens."""
    replies, repeats = (1, 2) if setting.quick else (3, 3)
    machine = Rates(**measure(NAME, "rates", setting).notes)
    samples: dict[str, list[Sample]] = {}
    checks: dict[str, Any] = {}
    details: dict[str, Any] = {"rates": asdict(machine)}
    peers: list[Peer] = []
    for kind, (_, tokens) in SIZES.items():
        side, label, target = "whole_stack", FULL_DEPTH, 1.5
        if kind != "coarse":
            side, target = "reprefill", 1.3
            label = f"{PREFILLED}: {kind} {'/'.join(map(str, tokens))}"
        sides = dict.fromkeys(("ours", side), {"kind": kind, "replies": replies})
        mine, other = interleave(NAME, sides, setting, repeats).values()
        samples |= {f"{kind} ours": mine, f"{kind} peer": other}
        checks[kind] = agree(mine[0], other[0], {"queries": 0.0, "replies": 0.0})
        details[kind] = [summarise(mine), summarise(other)]
        limit = bound(mine[0], machine)
        peers.append(Peer(label, f"{kind} peer", f"{kind} ours", target, bound=limit))
    return compare(NAME, CLAIM, peers, samples, checks, **details)
