"""Imagination in a batch against one dialogue at a time; bytes of three adapters against one.

    python -m benchmarks.dreamcub.speed --backbone smollm2-135m --rows 16

Both sides write the same tokens (near-greedy replies, beliefs from seeds of their own), which is
checked. Bytes are those of weights, gradients and Adam's two moments; activations are the same,
since one adapter computes at a time.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch

import zoo
from zoo.methods.dreamcub.encoder import State
from zoo.methods.dreamcub.environment import ScriptedEnv
from zoo.methods.dreamcub.imagination import imagine

NEARLY_GREEDY = 1e-4


def built(method: Any, name: str, **options: Any) -> Any:
    """Return a ready method with adapters of rank 16."""
    torch.manual_seed(0)
    module = method(zoo.Backbone(name, lora=zoo.LoRA()), max_generated=0, **options)
    module.configure_model()
    return module.eval()


def held_bytes(module: Any) -> int:
    """Return the bytes of weights, and of gradients and moments of what is trained."""
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in module.parameters()]
    return sum(size * (4 if trained else 1) for size, trained in sizes)


def measure(name: str, rows: int, tokens: int, horizon: int) -> dict[str, Any]:
    """Return seconds of both sides, whether they wrote the same, and the ratio of bytes."""
    options = {"strategy_line": False, "max_new_tokens": tokens, "horizon": horizon}
    module = built(zoo.DreamCUB, name, temperature=NEARLY_GREEDY, **options)
    env = ScriptedEnv()
    states = [State(env.open(i)) for i in range(rows)]
    names = [state.decision.id for state in states]

    def dream(first: int, last: int) -> Any:
        return module.quietly(lambda: imagine(module, states[first:last], names[first:last]))

    dream(0, 1)  # warm up
    start = time.perf_counter()
    together = dream(0, rows)
    batched = time.perf_counter() - start
    alone = [dream(i, i + 1) for i in range(rows)]
    single = time.perf_counter() - start - batched
    pairs = zip(together.states, alone, strict=True)
    same = sum(a.decision.turns == b.states[0].decision.turns for a, b in pairs)
    bytes_of_one = held_bytes(built(zoo.SFT, name))
    return {
        **{"backbone": name, "rows": rows, "tokens": tokens, "horizon": horizon},
        **{"batched_s": round(batched, 2), "single_s": round(single, 2)},
        **{"speedup": round(single / batched, 2), "same_dialogues": f"{same}/{rows}"},
        "bytes_ratio": round(held_bytes(module) / bytes_of_one, 3),
    }


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default="tiny-llama")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--horizon", type=int, default=2)
    torch.set_num_threads(1)
    given = parser.parse_args()
    print(json.dumps(measure(given.backbone, given.rows, given.tokens, given.horizon)))


if __name__ == "__main__":
    main()
