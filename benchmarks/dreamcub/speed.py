"""Imagination in a batch against one dialogue at a time; bytes of three adapters against one.

    python -m benchmarks.dreamcub.speed --json FILE --backbone smollm2-135m --rows 16 --tokens 48

Both sides write the same tokens (near-greedy replies, beliefs from seeds of their own), which is
counted. Bytes are those of all weights, gradients and moments that are there after an optimiser
step of every adapter; activations are the same, since one adapter computes at a time. The reference
is the base without adapters, so it has none of its own.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

import zoo
from benchmarks import trials
from zoo.methods.dreamcub.encoder import State
from zoo.methods.dreamcub.environment import ScriptedEnv
from zoo.methods.dreamcub.imagination import imagine

NEARLY_GREEDY = 1e-7  # at 1e-4 two almost equal logits of a random model are still drawn


def built(method: Any, name: str, **options: Any) -> Any:
    """Return a ready method with adapters of rank 16."""
    torch.manual_seed(0)
    module = method(zoo.Backbone(name, lora=zoo.LoRA()), max_generated=0, **options)
    module.configure_model()
    return module.eval()


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


def measure(name: str, rows: int, tokens: int, horizon: int) -> dict[str, Any]:
    """Return seconds of both sides, how many dialogues were the same, and the ratio of bytes."""
    options = {"strategy_line": False, "max_new_tokens": tokens, "horizon": horizon}
    module = built(zoo.DreamCUB, name, temperature=NEARLY_GREEDY, **options)
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
    return {
        **{"backbone": name, "rows": rows, "tokens": tokens, "horizon": horizon},
        **{"batched_s": batched, "single_s": single, "speedup": round(single / batched, 2)},
        **{"batched_cpu_s": batched_cpu, "single_cpu_s": single_cpu},
        **{"reply_tokens": written, "same_dialogues": same},
        "bytes_ratio": round(held_bytes(module) / held_bytes(built(zoo.SFT, name)), 3),
    }


def main() -> None:
    """Measure, unless the file holds it; print a line for each setting."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="finished settings")
    parser.add_argument("--backbone", default="tiny-llama")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--horizon", type=int, default=1)
    torch.set_num_threads(1)
    given = parser.parse_args()
    finished = trials.FinishedRows(given.json, "backbone", "rows", "tokens", "horizon")
    finished.run([(given.backbone, given.rows, given.tokens, given.horizon)], measure)
    for entry in finished.entries:
        print(entry)


if __name__ == "__main__":
    main()
