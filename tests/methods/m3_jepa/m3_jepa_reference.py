"""M3-JEPA's equations once more, for its fidelity tests (its sheet of arXiv 2409.05929).

An independent transcription of the sheet: Hugging Face's own list of hidden states, all N experts
on every token and then a gather of the best K, every mean over the sequence taken last, both losses
written out, autograd. It uses nothing of `zoo` but the weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear


class Reference:
    """The sheet's section 2 and 3 on the module's own parameters, `(B, L, D)` all along."""

    def __init__(self, module: Any) -> None:
        self.weights = dict(module.named_parameters())
        self.towers = {name: tower.model for name, tower in module.towers.items()}

    def layer(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def states(self, batch: Any, modality: str) -> Tensor:
        """Return the mean of the last two entries of the list of hidden states."""
        out = self.towers[modality](**batch.inputs[modality], output_hidden_states=True)
        return (out.hidden_states[-1] + out.hidden_states[-2]) / 2

    def gate(self, x: Tensor, branch: int, *, concat: bool = False) -> Tensor:
        """Return the softmax over all N experts."""
        e = self.weights[f"predictor.branch_vectors.{branch}"]
        read = torch.cat([x, e.expand_as(x)], -1) if concat else x + e
        return self.layer("predictor.gate", read).softmax(-1)

    def enter(self, states: Tensor, way: str) -> Tensor:
        """Return X: direction vector, projection of the source, GELU."""
        source = way.split("2")[0]
        moved = states + self.weights[f"predictor.direction_vectors.{way}:{source}"]
        return gelu(self.layer(f"predictor.inputs.{source}", moved))

    def experts(self, x: Tensor) -> Tensor:
        """Return every expert of every token, `(B, L, N, H)`."""
        w = {n: self.weights[f"predictor.experts.{n}"] for n in ("up_NHH", "down_NHH")}
        b = {n: self.weights[f"predictor.experts.{n}"] for n in ("up_bias", "down_bias")}
        made = [
            linear(
                gelu(linear(x, w["up_NHH"][n], b["up_bias"][n])),
                w["down_NHH"][n],
                b["down_bias"][n],
            )
            for n in range(len(w["up_NHH"]))
        ]
        return torch.stack(made, -2)

    def branch(self, x: Tensor, branch: int, top_k: int, *, concat: bool = False) -> Tensor:
        """Return Z_b = X_b + GELU(LayerNorm_b(M_b))."""
        x_b = x + self.weights[f"predictor.branch_vectors.{branch}"]
        best = self.gate(x, branch, concat=concat).sort(-1, descending=True)
        weight, chosen = best.values[..., :top_k], best.indices[..., :top_k]
        made = self.experts(x if concat else x_b)
        picked = made.gather(-2, chosen[..., None].expand(*chosen.shape, made.shape[-1]))
        mixed = (weight[..., None] * picked).sum(-2)
        scale, shift = (self.weights[f"predictor.norms.{branch}.{n}"] for n in ("weight", "bias"))
        return x_b + gelu(layer_norm(mixed, mixed.shape[-1:], scale, shift))

    def vectors(
        self, batch: Any, way: str, top_k: int, *, concat: bool = False, masked: bool = False
    ) -> dict[str, Tensor]:
        """Return p, the target's mean state, c_src and c_tgt."""
        source, target = way.split("2")
        masks = {
            m: batch.inputs[m].get("attention_mask") if masked else None for m in (source, target)
        }

        def mean(x: Tensor, modality: str) -> Tensor:
            if masks[modality] is None:
                return x.mean(1)
            rows = zip(x, masks[modality].sum(1).tolist(), strict=True)
            return torch.stack([row[:length].mean(0) for row, length in rows])

        x = self.enter(self.states(batch, source), way)
        reg, cl = (self.branch(x, b, top_k, concat=concat) for b in (0, 1))
        wanted = self.states(batch, target)
        return {
            "predicted": mean(self.layer(f"predictor.regression.{way}", reg), source),
            "wanted": mean(wanted, target),
            "source": mean(self.layer(f"predictor.contrastive.{way}", cl), source),
            "target": mean(self.layer(f"predictor.targets.{target}", wanted), target),
        }


def smooth_l1(p: Tensor, t: Tensor) -> Tensor:
    """Return the mean over all numbers of d^2 / 2 where |d| < 1, |d| - 1/2 elsewhere."""
    d = (p - t).abs()
    return torch.where(d < 1, d * d / 2, d - 0.5).mean()


def symmetric_info_nce(source: Tensor, target: Tensor, tau: float) -> Tensor:
    """Return 1/2 [CE(c_src c_tgt^T / tau, I) + CE(c_tgt c_src^T / tau, I)], lengths one."""
    s, t = (x / x.pow(2).sum(1, keepdim=True).sqrt() for x in (source, target))
    logits = s @ t.T / tau
    rows = [logits[i].logsumexp(0) - logits[i, i] for i in range(len(s))]
    columns = [logits[:, i].logsumexp(0) - logits[i, i] for i in range(len(s))]
    return (torch.stack(rows).mean() + torch.stack(columns).mean()) / 2
