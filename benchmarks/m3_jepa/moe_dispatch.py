"""The experts of M3-JEPA's predictor: K of N computed for each token, or all N and K gathered.

Width 2048, 12 experts, 4 per token, both branches of one text -> image step in one dispatch (two
rows per text token), float32, dropout off, so that both sides can be compared.

- `ours`: `zoo.methods.m3_jepa.experts.Experts`; each expert gets the rows that chose it.
- `dense`, the peer: the released code's way. Every expert reads every row, the results are stacked,
  the chosen four are gathered and summed with their weights. Same stacked weights.

Output and gradients (rows, weights of the gate, all parameters) of both are equal before anything
is timed. The first comparison is forward and backward; the second is the forward alone, as at
inference.

The bound is N / K, the ratio of FLOPs; smaller products of ours and the copies of both are not in
it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.exactness import distance, require_equal
from benchmarks.harness import Sample, Setting, interleave, measure
from benchmarks.meters import time_steps
from benchmarks.result import Peer, Result, agree, compare, summarise
from zoo.methods.m3_jepa.experts import Experts
from zoo.methods.m3_jepa.predictor import learned_vector, linear

CLAIM = "12 experts, 4 per token: sparse dispatch >= 1.5x as fast as all experts, then gathered"
NAME = "moe_dispatch"
NUM_EXPERTS, TOP_K = 12, 4
BRANCHES = 2
EXACT_TOKENS = 64
WARM_UP = 1
TOLERANCE = 1e-5
TOLERANCES = {"data": 0.0, "loss": 1e-4, "gradient": 1e-4}
Mix = Callable[[Experts, Tensor, Tensor, Tensor], Tensor]


class Rows(NamedTuple):
    """What the experts get in one step, T rows of width H, and what their output is weighed with.

    Attributes:
        x: Rows of both branches, `(T, H)`.
        chosen: Experts of each row, `(T, K)`.
        weights: Weight of each of them, `(T, K)`.
        pull: Gradient of the loss with respect to the output, `(T, H)`.
    """

    x: Tensor
    chosen: Tensor
    weights: Tensor
    pull: Tensor


def sparse(experts: Experts, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Mix K experts per row by computing those K."""
    mixed: Tensor = experts(x, chosen, weights)
    return mixed


def all_experts(experts: Experts, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Mix K experts per row by computing all N and gathering K."""
    each = [experts.apply_expert(expert, x) for expert in experts.each()]
    made = torch.stack(each, dim=1)
    index = chosen[..., None].expand(-1, -1, x.shape[1])
    return (made.gather(1, index) * weights[..., None]).sum(1)


def pool(setting: Setting, width: int) -> Experts:
    """Return the experts with biases that are not zero, the same in every process."""
    torch.manual_seed(0)
    experts = Experts(NUM_EXPERTS, width)
    for bias in (experts.up_bias, experts.down_bias):
        nn.init.normal_(bias, std=0.1)
    return experts.to(setting.device)


@torch.no_grad()
def draw(setting: Setting, width: int, tokens: int, steps: int) -> list[Rows]:
    """Return the rows of some steps: random tokens, routed by a random gate as the predictor's."""
    torch.manual_seed(1)
    gate = linear(width, NUM_EXPERTS)
    vectors = [learned_vector(width) for _ in range(BRANCHES)]
    batches = []
    for _ in range(steps):
        x = nn.functional.gelu(torch.randn(tokens, width))
        both = torch.cat([x + vector for vector in vectors])
        weights, chosen = gate(both).softmax(1).topk(TOP_K)
        parts = (both, chosen, weights, torch.randn_like(both))
        batches.append(Rows(*(part.to(setting.device) for part in parts)))
    return batches


def gradients(mix: Mix, experts: Experts, rows: Rows) -> list[Tensor]:
    """Return the output and the gradients of rows, weights and parameters."""
    x, weights = (part.detach().requires_grad_() for part in (rows.x, rows.weights))
    out = mix(experts, x, rows.chosen, weights)
    inputs = [x, weights, *experts.parameters()]
    return [out, *torch.autograd.grad(out, inputs, rows.pull)]


def exact(setting: Setting, *, width: int) -> Sample:
    """Compare output and gradients of both ways in one process."""
    experts = pool(setting, width)
    (rows,) = draw(setting, width, EXACT_TOKENS, 1)
    names = ["output", "rows", "weights", *(name for name, _ in experts.named_parameters())]
    tensors = [gradients(mix, experts, rows) for mix in (sparse, all_experts)]
    pairs = zip(names, *tensors, strict=True)
    return Sample([], checks={name: distance(mine, other) for name, mine, other in pairs})


def timed(
    mix: Mix, setting: Setting, *, width: int, tokens: int, steps: int, backward: bool
) -> Sample:
    """Time one of the two ways."""
    experts = pool(setting, width)
    batches = draw(setting, width, tokens, steps + WARM_UP)

    def step(rows: Rows) -> tuple[float, float]:
        x = rows.x.detach().requires_grad_(backward)
        with torch.set_grad_enabled(backward):
            out = mix(experts, x, rows.chosen, rows.weights)
        if backward:
            out.backward(rows.pull)
            experts.zero_grad(set_to_none=True)
        norm = float(x.grad.norm()) if x.grad is not None else 0.0
        return float(out.detach().square().mean()), norm

    values, measured = time_steps(step, batches, experts, setting.device)
    load = torch.bincount(batches[-1].chosen.flatten(), minlength=NUM_EXPERTS)
    return Sample(
        **measured,
        work={"tokens": [float(tokens)] * steps},
        checks={
            "data": [float(rows.x.double().sum()) for rows in batches],
            "loss": values[-1][0],
            "gradient": values[-1][1],
        },
        notes={"rows": BRANCHES * tokens, "width": width, "rows_of_each_expert": load.tolist()},
    )


SIDES: dict[str, Callable[..., Sample]] = {
    "exact": exact,
    "ours": partial(timed, sparse),
    "dense": partial(timed, all_experts),
}


def run(setting: Setting, width: int = 2048) -> Result:
    """Compare output and gradients, then time both ways with and without the backward."""
    same = measure(NAME, "exact", setting, width=width)
    require_equal(same.checks, TOLERANCE)
    checks: dict[str, Any] = {"exact": {**same.checks, "tolerance": TOLERANCE}}
    tokens, steps, repeats = (256, 3, 2) if setting.quick else (1024, 4, 3)
    kinds: dict[str, dict[str, list[Sample]]] = {}
    for kind, backward in (("step", True), ("forward", False)):
        options = {"width": width, "tokens": tokens, "steps": steps, "backward": backward}
        sides = dict.fromkeys(("ours", "dense"), options)
        kinds[kind] = interleave(NAME, sides, setting, repeats)
        checks[kind] = agree(kinds[kind]["ours"][0], kinds[kind]["dense"][0], TOLERANCES)
    label = f"all {NUM_EXPERTS} experts on every row, stacked, {TOP_K} gathered (released code)"
    bound = NUM_EXPERTS / TOP_K
    peers = [
        Peer(label, "step dense", "step ours", target=1.5, bound=bound),
        Peer(f"{label}, forward only", "forward dense", "forward ours", bound=bound),
    ]
    samples = {f"{kind} {side}": s for kind in kinds for side, s in kinds[kind].items()}
    forward = {side: summarise(taken) for side, taken in kinds["forward"].items()}
    return compare(NAME, CLAIM, peers, samples, checks, forward=forward)
