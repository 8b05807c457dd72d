"""Check, once after loading, that the zoo runs a model as Hugging Face does.

A family may scale, cap or add something that a view of its blocks does not see, or may not hand the
lengths of a packed batch on to its attention. Then a loss would be wrong without a word. A few
tokens through the first blocks show it: a second or less for a small model, some for 8B.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from zoo.encoding import Example, collate
from zoo.errors import InputError
from zoo.nn.attention import NAME
from zoo.nn.blocks import Blocks, grow_mask, num_blocks, place

BLOCKS = 8  # blocks that are run: kinds of blocks repeat within these
LENGTHS = (5, 3)
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}  # mean difference / mean size of a logit
COARSE = 0.1  # the same in 16 bits


def check_paths(lm: Any) -> None:
    """Compare `lm(ids).logits` with the zoo's passes: packed, padded, split at a block.

    Args:
        lm: A loaded model with real weights, after `prepare`.

    Raises:
        InputError: A pass differs or fails; names the family and the pass.
    """
    short = _first_blocks(lm, min(BLOCKS, num_blocks(lm)))
    size = lm.config.get_text_config().vocab_size
    rows = [[(3 + 7919 * (i + 5 * r)) % size for i in range(n)] for r, n in enumerate(LENGTHS)]
    paths: dict[str, Callable[[Any, list[list[int]]], list[Tensor]]] = {
        "a packed batch": lambda model, ids: _batch(model, ids, packed=True),
        "a padded batch": lambda model, ids: _batch(model, ids, packed=False),
        "blocks split at a depth": _split,
    }
    training = lm.training
    lm.eval()
    try:
        with torch.no_grad(), own_attention(lm):
            name = "its own pass"
            try:
                wanted = [_plain(short, row) for row in rows]
                for name, path in paths.items():
                    _compare(lm, name, path(short, rows), wanted)
            except InputError:
                raise
            except Exception as error:  # whatever a family's own code raises
                first = str(error).strip().split("\n")[0]
                raise _refusal(lm, f"{name} fails ({first})") from error
    finally:
        lm.train(training)


def _compare(lm: Any, name: str, found: list[Tensor], wanted: list[Tensor]) -> None:
    limit = TOLERANCE.get(lm.dtype, COARSE)
    a, b = torch.cat(found).float(), torch.cat(wanted).float()
    error = float((a - b).abs().mean() / b.abs().mean().clamp_min(1e-12))
    if not error <= limit:
        raise _refusal(lm, f"the logits of {name} differ from its own by {error:.1%}")


def _refusal(lm: Any, what: str) -> InputError:
    return InputError(
        f"backbone.name: {type(lm).__name__} (model_type {lm.config.model_type}) cannot be used: "
        f"{what}; families that fit are listed in README.md, 'Backbones'"
    )


def _first_blocks(lm: Any, stop: int) -> Any:
    """Return a view of a model that ends after some blocks, with its own norm and head."""
    below = Blocks(lm, 0, stop)
    below.view._modules["norm"] = lm.model.norm
    short = copy.copy(lm)
    short._modules = lm._modules | {"model": below.view}
    return short


@contextmanager
def own_attention(lm: Any) -> Iterator[None]:
    """Run the attention that needs no GPU, where weights have not been moved to one yet."""
    configs = {id(m.config): m.config for m in lm.modules() if hasattr(m, "config")}.values()
    before = [(config, config._attn_implementation) for config in configs]
    for config in configs:
        config._attn_implementation = NAME
    try:
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name


def _plain(lm: Any, row: list[int]) -> Tensor:
    """Return Hugging Face's own logits of one sequence, `(L, V)`."""
    logits: Tensor = lm(torch.tensor([row], device=lm.device), use_cache=False).logits[0]
    return logits


def _project(lm: Any, states: Tensor) -> Tensor:
    logits: Tensor = lm.model.norm(states) @ lm.lm_head.weight.t()
    return logits


def _batch(lm: Any, rows: list[list[int]], *, packed: bool) -> list[Tensor]:
    """Return the logits of each sequence from one pass, `(L, V)` each."""
    examples = [Example(row, row, [0] * len(row), [1.0] * len(row)) for row in rows]
    batch = collate(examples, packed=packed).to(lm.device)
    logits = _project(lm, Blocks(lm, 0, num_blocks(lm))(batch.input_ids, **place(batch)))
    if packed:
        return list(logits[0].split(batch.lengths))
    return [row[:n] for row, n in zip(logits, batch.lengths, strict=True)]


def _split(lm: Any, rows: list[list[int]]) -> list[Tensor]:
    """Return the logits of each sequence, token by token below a depth, then caught up above it."""
    depth, found = num_blocks(lm) // 2, []
    for row in rows:
        ids = torch.tensor([row], device=lm.device)
        slots = torch.arange(len(row), device=lm.device)[None]
        mask = torch.ones_like(ids)
        below, above = Blocks(lm, 0, depth), Blocks(lm, depth, num_blocks(lm))
        cache, states = below.new_cache(), []
        for start, stop in ((0, len(row) - 1), (len(row) - 1, len(row))):
            where = (mask[:, :stop], slots[:, :stop])
            seen = grow_mask(below.config, *where, stop - start)
            here = {"attention_mask": seen, "position_ids": slots[:, start:stop]}
            states.append(below(ids[:, start:stop], cache, **here))
        seen = grow_mask(above.config, mask, slots, len(row))
        top = above(
            torch.cat(states, 1), above.new_cache(), attention_mask=seen, position_ids=slots
        )
        found.append(_project(lm, top)[0])
    return found
