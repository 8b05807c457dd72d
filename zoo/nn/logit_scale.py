"""Models that scale their logits, with the scale where every reader of the head finds it.

Cohere computes s * (W norm(h)), Granite (W norm(h)) / s, HyperCLOVAX s * (W norm(h)). Losses, extra
heads and decoders project `lm.model.norm(h)` themselves, so the scale moves to the norm's output;
`lm(ids).logits` is divided by it again. Parameters, their names and the config stay as they are.
"""

from __future__ import annotations

from typing import Any


def logit_scale(config: Any) -> float:
    """Return what a model multiplies its logits by, 1 for most."""
    if hasattr(config, "logit_scale"):
        return float(config.logit_scale)
    scaling = float(getattr(config, "logits_scaling", None) or 1.0)
    return scaling if config.model_type == "hyperclovax" else 1.0 / scaling


def move_logit_scale(lm: Any) -> None:
    """Scale the output of the final norm instead of the logits, in place."""
    scale = logit_scale(lm.config)
    if scale == 1.0:
        return

    def scaled(norm: Any, args: Any, states: Any) -> Any:
        return states * scale

    def unscaled(model: Any, args: Any, output: Any) -> Any:
        output.logits = output.logits / scale
        return output

    lm.model.norm.register_forward_hook(scaled)
    lm.register_forward_hook(unscaled)
