"""Imagination in a batch against one dialogue at a time; bytes of three adapters against one.

    python -m benchmarks.dreamcub.speed --json FILE --backbone smollm2-135m --rows 16 --tokens 48
    python -m benchmarks.dreamcub.speed --json FILE --backbone small --rows 32 --tokens 40
    python -m benchmarks.dreamcub.speed --json FILE --backbone random --rows 32 --tokens 48

`small` is the base of `small_base.py` in full copies, whose replies end by themselves (ZOO_DATA
holds esconv/); `random` has its size and vocabulary and random weights, so every reply has all
tokens. Both sides write the same tokens (near-greedy replies, beliefs from seeds of their own),
which is counted. Bytes are those of all weights, gradients and moments that are there after an
optimiser step of every adapter; activations are the same, since one adapter computes at a time. The
reference is the base without adapters, so it has none of its own. Copies are not weighed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

import zoo
from benchmarks import trials
from benchmarks.dreamcub import replies
from benchmarks.dreamcub.beliefs import data_of
from benchmarks.dreamcub.small_base import SIZE, base_in
from benchmarks.small_models import write_llama
from zoo.methods.dreamcub.encoder import State
from zoo.methods.dreamcub.environment import ScriptedEnv
from zoo.methods.dreamcub.imagination import imagine

RANDOM = "random"
SMALL = ("small", RANDOM)
NEARLY_GREEDY = 1e-7  # at 1e-4 two almost equal logits of a random model are still drawn


def built(method: Any, name: str, **options: Any) -> Any:
    """Return a ready method, with adapters of rank 16 unless it has full copies."""
    torch.manual_seed(0)
    lora = None if options.get("full_copies") else zoo.LoRA()
    module = method(zoo.Backbone(name, lora=lora), max_generated=0, **options)
    module.configure_model()
    return module.eval()


def imagining(name: str, folder: Path, **options: Any) -> Any:
    """Return a method that imagines, over a backbone, or over the base in a folder."""
    from transformers import AutoTokenizer

    options |= {"temperature": NEARLY_GREEDY, "strategy_line": False}
    if name not in SMALL:
        return built(zoo.DreamCUB, name, **options)
    records = data_of("esconv", 0).records("train")
    base = base_in(folder, "esconv", lambda n: replies.method_of(n, "full", 1.0)[0], records)
    with tempfile.TemporaryDirectory() as scratch:
        if name == RANDOM:
            tokenizer = AutoTokenizer.from_pretrained(
                base, local_files_only=True, trust_remote_code=False
            )
            write_llama(Path(scratch), tokenizer, *SIZE)
            base = scratch
        return built(zoo.DreamCUB, base, full_copies=True, **options)


def held_bytes(module: Any) -> int:
    """Return the bytes of weights, gradients and moments after a step that moves every adapter."""
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = [value for state in optimizer.state.values() for value in state.values()]
    tensors = [*module.parameters(), *(p.grad for p in trained), *moments]
    return sum(t.numel() * t.element_size() for t in tensors)


def measure(
    name: str, rows: int, tokens: int, horizon: int, number: int, folder: Path
) -> dict[str, Any]:
    """Return seconds of both sides, how many dialogues were the same, and the ratio of bytes.

    Args:
        name: Of the backbone.
        rows: Dialogues.
        tokens: Limit of a reply.
        horizon: Turns.
        number: Of the run.
        folder: Holds the base `small`.
    """
    module = imagining(name, folder, max_new_tokens=tokens, horizon=horizon)
    env = ScriptedEnv()
    states = [State(env.open(i)) for i in range(rows)]
    names = [state.decision.id for state in states]

    def dream(first: int, last: int) -> Any:
        return module.quietly(lambda: imagine(module, states[first:last], names[first:last]))

    dream(0, 1)  # warm up
    clocks = [(time.perf_counter(), time.process_time())]
    together = dream(0, rows)
    clocks.append((time.perf_counter(), time.process_time()))
    alone = [dream(i, i + 1) for i in range(rows)]
    clocks.append((time.perf_counter(), time.process_time()))
    (batched, batched_cpu), (single, single_cpu) = (
        [round(end - start, 2) for start, end in zip(*pair, strict=True)]
        for pair in (clocks[:2], clocks[1:])
    )
    pairs = zip(together.states, alone, strict=True)
    same = sum(a.decision.turns == b.states[0].decision.turns for a, b in pairs)
    written = sum(len(reply) for reply in together.buffer.replies)
    entry = {
        **{"backbone": name, "rows": rows, "tokens": tokens, "horizon": horizon, "run": number},
        **{"batched_s": batched, "single_s": single, "speedup": round(single / batched, 2)},
        **{"batched_cpu_s": batched_cpu, "single_cpu_s": single_cpu},
        **{"reply_tokens": written, "same_dialogues": same},
    }
    if name not in SMALL:
        entry["bytes_ratio"] = round(held_bytes(module) / held_bytes(built(zoo.SFT, name)), 3)
    return entry


def main() -> None:
    """Measure, unless the file holds it; print a line for each setting."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="finished settings")
    parser.add_argument("--backbone", default="tiny-llama")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--horizon", type=int, default=1)
    parser.add_argument("--runs", type=int, nargs="+", default=[1], help="their numbers")
    parser.add_argument("--folder", type=Path, default=Path("runs/beliefs"), help="keeps `small`")
    torch.set_num_threads(1)
    given = parser.parse_args()
    finished = trials.FinishedRows(given.json, "backbone", "rows", "tokens", "horizon", "run")
    setting = (given.backbone, given.rows, given.tokens, given.horizon)
    jobs = [(*setting, number) for number in given.runs]
    finished.run(jobs, partial(measure, folder=given.folder))
    for entry in finished.entries:
        print(entry)


if __name__ == "__main__":
    main()
