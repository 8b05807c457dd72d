"""The multi-gate mixture-of-experts predictor of M3-JEPA (arXiv 2409.05929, section 3).

It maps the states of a source modality into the latent space of the target, for every direction
with one pool of experts and one gate. Two branches pass through them side by side, one for each
loss; a learned vector per branch lets the shared gate route them differently.

    (1)  X   = GELU(W_src (E_src + e_direction))
    (2)  X_b = X + e_b                                        b in {regression, contrastive}
    (3)  p   = top-K of softmax(g X_b), not renormalised      g shared by branches and directions
    (4)  M_b = sum over top-K of p_k Expert_k(X_b)
    (5)  Z_b = X_b + GELU(LayerNorm_b(M_b))
    (6)  prediction = mean_L(W_reg^direction Z_reg),  c_src = mean_L(W_cl^direction Z_cl)
    (7)  c_tgt = mean_L(W_cl^modality E_tgt)

The means of (6) and (7) are taken before the linear maps, which is the same and cheaper.

Shapes: B items, L tokens of an item, T tokens of all items, D source width, H hidden width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import InputError, nearest
from zoo.methods.m3_jepa.experts import Experts, kaiming_


@dataclass(frozen=True)
class Direction:
    """From which modalities to which; written `image2text`, or `image+text2text` for VQA."""

    sources: tuple[str, ...]
    target: str

    @property
    def name(self) -> str:
        """Its written form."""
        return f"{'+'.join(self.sources)}2{self.target}"


def split(name: str) -> Direction:
    """Return the direction of a name, whatever it names."""
    left, _, target = name.partition("2")
    return Direction(tuple(left.split("+")), target)


def parse(name: str, known: Mapping[str, Any]) -> Direction:
    """Return the direction of a name.

    Raises:
        InputError: It is not `a2b` or `a+b2c` with modalities that have an encoder.
    """
    direction = split(name)
    for modality in (*direction.sources, direction.target):
        if modality not in known:
            raise InputError(
                f"model.directions: {name!r} names {modality!r}, which has no encoder; "
                f"{nearest(modality, list(known))}"
            )
    return direction


class Tokens(NamedTuple):
    """Token states of several items, laid end to end.

    Attributes:
        states_TD: The states.
        rows_T: Item that each token belongs to.
        num_items: B.
    """

    states_TD: Tensor
    rows_T: Tensor
    num_items: int

    def item(self, row: int) -> Tensor:
        """Return the states of one item, `(L, D)`."""
        return self.states_TD[self.rows_T == row]

    def mean(self) -> Tensor:
        """Return the mean state of each item, `(B, D)`; states of half precision as float32.

        A sum in half precision overflows (float16) or loses small terms and counts (bfloat16).
        """
        states = self.states_TD.to(torch.promote_types(self.states_TD.dtype, torch.float32))
        total = states.new_zeros(self.num_items, states.shape[1])
        total = total.index_add(0, self.rows_T, states)
        counts = torch.bincount(self.rows_T, minlength=self.num_items)
        return total / counts[:, None]


def join(states: Sequence[Tensor]) -> Tokens:
    """Return the tokens of items given one by one, `(L_i, D)` each."""
    lengths = torch.tensor([len(part) for part in states], device=states[0].device)
    rows = torch.arange(len(states), device=states[0].device).repeat_interleave(lengths)
    return Tokens(torch.cat(list(states)), rows, len(states))


def lay_out(states_BLD: Tensor, mask_BL: Tensor | None = None) -> Tokens:
    """Return the tokens of a padded batch; all of them if there is no mask."""
    batch, length, width = states_BLD.shape
    rows = torch.arange(batch, device=states_BLD.device)[:, None].expand(batch, length)
    if mask_BL is None:
        return Tokens(states_BLD.reshape(-1, width), rows.flatten(), batch)
    keep = mask_BL.bool()
    return Tokens(states_BLD[keep], rows[keep], batch)


class Routing(NamedTuple):
    """What the gate chose for each token of a branch: experts and weights, `(T, K)`."""

    chosen_TK: Tensor
    weights_TK: Tensor


class Predictor(nn.Module):
    """Equations (1) to (7).

    Args:
        widths: D of each modality.
        directions: The directions it serves.
        hidden: H.
        num_experts: N.
        top_k: K.
        dropout: Dropout of the experts.
        mixture: `moe`, or `mlp`: one feed-forward network of the same cost, K H wide (ablation).
        gate_input: `add`: the gate reads X_b as in (3). `concat`: it reads [X ; e_b], as the
            paper writes it, and the experts read X.
        branches: 2, or 1: both losses use one branch (ablation).
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        directions: Sequence[Direction],
        *,
        hidden: int = 2048,
        num_experts: int = 12,
        top_k: int = 4,
        dropout: float = 0.1,
        mixture: Literal["moe", "mlp"] = "moe",
        gate_input: Literal["add", "concat"] = "add",
        branches: Literal[1, 2] = 2,
    ) -> None:
        super().__init__()
        self.top_k, self.mixture, self.gate_input = top_k, mixture, gate_input
        self.num_branches = branches
        self.directions = {direction.name: direction for direction in directions}
        sources = sorted({m for direction in directions for m in direction.sources})
        self.direction_vectors = nn.ParameterDict(
            {f"{d.name}:{m}": learned_vector(widths[m]) for d in directions for m in d.sources}
        )
        self.inputs = nn.ModuleDict({m: linear(widths[m], hidden) for m in sources})
        self.branch_vectors = nn.ParameterList(learned_vector(hidden) for _ in range(branches))
        if mixture == "moe":
            self.gate = linear(hidden * (2 if gate_input == "concat" else 1), num_experts)
            self.experts = Experts(num_experts, hidden, dropout)
        else:
            self.mlp = nn.Sequential(
                *(linear(hidden, top_k * hidden), nn.GELU(), nn.Dropout(dropout)),
                *(linear(top_k * hidden, hidden), nn.Dropout(dropout)),
            )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(branches))
        self.regression = nn.ModuleDict(
            {d.name: linear(hidden, widths[d.target]) for d in directions}
        )
        self.contrastive = nn.ModuleDict({d.name: linear(hidden, hidden) for d in directions})
        self.targets = nn.ModuleDict(
            {m: linear(widths[m], hidden) for m in sorted({d.target for d in directions})}
        )
        self.routings: list[Routing] = []

    def forward(self, sources: Mapping[str, Tokens], direction: str) -> tuple[Tensor, Tensor]:
        """Return the prediction `(B, D_target)` and the contrastive source vector `(B, H)`.

        Args:
            sources: Tokens of each source modality of the direction.
            direction: Its name.
        """
        x = self.enter(sources, direction)
        z = [x._replace(states_TD=states).mean() for states in self.mix(x.states_TD)]
        return head(self.regression[direction], z[0]), head(self.contrastive[direction], z[-1])

    def enter(self, sources: Mapping[str, Tokens], direction: str) -> Tokens:
        """Return X of equation (1); the tokens of several sources together."""
        parts = []
        for modality in self.directions[direction].sources:
            tokens = sources[modality]
            moved = tokens.states_TD + self.direction_vectors[f"{direction}:{modality}"]
            parts.append(tokens._replace(states_TD=F.gelu(self.inputs[modality](moved))))
        states = torch.cat([part.states_TD for part in parts])
        rows = torch.cat([part.rows_T for part in parts])
        return Tokens(states, rows, parts[0].num_items)

    def mix(self, x_TH: Tensor) -> list[Tensor]:
        """Return Z_b of each branch, equations (2) to (5), `(T, H)` each."""
        moved = [x_TH + vector for vector in self.branch_vectors]
        self.routings = []
        if self.mixture == "mlp":
            mixed = [self.mlp(branch) for branch in moved]
        else:
            self.routings = [self.route(x_TH, branch) for branch in range(self.num_branches)]
            # The branches share the experts: one dispatch for both.
            read = [x_TH] * self.num_branches if self.gate_input == "concat" else moved
            chosen, weights = (torch.cat(parts) for parts in zip(*self.routings, strict=True))
            mixed = list(self.experts(torch.cat(read), chosen, weights).split(len(x_TH)))
        return [
            branch + F.gelu(norm(m))
            for branch, norm, m in zip(moved, self.norms, mixed, strict=True)
        ]

    def route(self, x_TH: Tensor, branch: int) -> Routing:
        """Return the top-K experts of each token and their share of the softmax, equation (3)."""
        vector = self.branch_vectors[branch]
        if self.gate_input == "concat":
            logits = self.gate(torch.cat([x_TH, vector.expand_as(x_TH)], dim=1))
        else:
            logits = self.gate(x_TH + vector)
        weights, chosen = logits.softmax(1, dtype=torch.float32).topk(self.top_k)
        return Routing(chosen, weights)

    def target(self, tokens: Tokens, modality: str) -> Tensor:
        """Return c_tgt of equation (7), `(B, H)`."""
        return head(self.targets[modality], tokens.mean())


def head(layer: nn.Module, means_BD: Tensor) -> Tensor:
    """Return what a linear layer makes of means, in the type of its weight."""
    return layer(means_BD.to(cast("Tensor", layer.weight).dtype))


def linear(fan_in: int, fan_out: int) -> nn.Linear:
    """Return a linear layer, Kaiming-uniform for ReLU, bias zero."""
    layer = nn.Linear(fan_in, fan_out)
    kaiming_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def learned_vector(width: int) -> nn.Parameter:
    """Return a vector that is added to every token, within sqrt(6 / width)."""
    bound = math.sqrt(6 / width)
    return nn.Parameter(torch.empty(width).uniform_(-bound, bound))
