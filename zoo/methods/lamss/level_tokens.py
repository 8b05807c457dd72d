"""Graded tokens at the end of a vocabulary: s_0, ..., s_{N-1}, from no doubt to full doubt.

Two halves that do not need each other: the tokenizer gets the tokens (data can be encoded before
there is a model), the embedding and the head get a row for each. Old rows keep their bits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import InputError

NAME = "<|skeptic_{}|>"
WRITTEN = re.compile(r"<\|skeptic_\d+\|>")
MARK = "num_skepticism_levels"  # in the config of a model that has the rows
WRITES = "writes_skepticism"  # in it too: whether a level follows every token that it has learned
FORM = "skepticism_form"  # in it too: `hide_sigma` and `shared_positions` of those levels
GRADED = ("certain", "sure", "likely", "possible", "uncertain", "doubtful")
NOISE, SHARE = 0.1, 0.5  # of the rows' standard deviation; of the way to a graded word


def add_levels(tokenizer: Any, num_levels: int, config: Any, name: str) -> list[int]:
    """Add the level tokens to a tokenizer in place; return their ids, s_0 first.

    Args:
        tokenizer: A Hugging Face tokenizer; one that has these tokens already stays as it is.
        num_levels: N.
        config: Config of the model that it belongs to; says whether the model has their rows.
        name: What errors call the model.

    Raises:
        InputError: The tokenizer has such tokens, but not N of them or not from `grow`.
    """
    tokens = [NAME.format(j) for j in range(num_levels)]
    vocabulary = tokenizer.get_vocab()
    known = sorted(token for token in vocabulary if WRITTEN.search(token))
    held = getattr(config, MARK, None)
    if known and held is None:
        raise InputError(
            f"backbone.name: the tokenizer of {name} has a token {known[0]!r} that was not made "
            f"here; use a backbone without it"
        )
    if known and set(known) != set(tokens):
        raise InputError(f"model.num_levels: {num_levels}, but {name} has {held} levels already")
    if not known:
        from tokenizers import AddedToken

        added = [AddedToken(token, special=True, normalized=False) for token in tokens]
        tokenizer.add_tokens(added, special_tokens=True)
    return tokenizer.convert_tokens_to_ids(tokens)


def level_ids(tokenizer: Any, config: Any) -> list[int]:
    """Return the ids of the levels that the model of a config has, s_0 first; empty for none."""
    held = getattr(config, MARK, None) or 0
    return [tokenizer.convert_tokens_to_ids(NAME.format(j)) for j in range(held)]


def writes_levels(config: Any) -> bool:
    """Return whether a model has learned to write a level after every token.

    One that has the rows and does not say (older exports) has.
    """
    return bool(getattr(config, WRITES, getattr(config, MARK, None)))


def levels_form(config: Any) -> dict[str, bool] | None:
    """Return how levels stand in what a model has learned: `hide_sigma`, `shared_positions`.

    None for a model without levels after its tokens, and for exports of before this was written.
    """
    return getattr(config, FORM, None)


def check_form(config: Any, name: str, form: dict[str, bool]) -> None:
    """Refuse a form of levels that is not the one that a model has learned.

    Args:
        config: Config of the model.
        name: What errors call it.
        form: `hide_sigma` and `shared_positions`, as they are set.

    Raises:
        InputError: One of them differs.
    """
    for flag, learned in (levels_form(config) or form).items():
        if form[flag] != learned:
            raise InputError(
                f"model.{flag}: {str(form[flag]).lower()}, but {name} has learned its levels with "
                f"{str(learned).lower()}"
            )


def letter_offsets(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Return the first character of each token of a plain text, and one past its last."""
    places = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    return places["offset_mapping"]


def grow(lm: Any, tokenizer: Any, level_ids: Sequence[int]) -> None:
    """Give every level token a row in the embedding and in the head, on full weights.

    A level's row is the mean of the old rows, moved half way to a graded word (`certain` for s_0,
    `doubtful` for s_{N-1}), with a little noise (seed 0). Rows that a backbone keeps free beyond
    its tokenizer are used first. A tied head stays tied; a model that has the rows stays as it is.

    Args:
        lm: Causal language model; shapes alone on the meta device.
        tokenizer: Its tokenizer, with the level tokens.
        level_ids: Ids of the level tokens in ascending order of doubt.
    """
    if getattr(lm.config, MARK, None) is not None:
        return
    table, head = lm.get_input_embeddings(), lm.get_output_embeddings()
    tied = head.weight is table.weight
    rows = max(table.weight.shape[0], max(level_ids) + 1)
    words = [[*tokenizer(f" {w}", add_special_tokens=False)["input_ids"]] for w in GRADED]
    table.weight = _grown(table.weight, rows, level_ids, words)
    head.weight = table.weight if tied else _grown(head.weight, rows, level_ids, words)
    table.num_embeddings = head.out_features = rows
    lm.vocab_size = lm.config.vocab_size = rows
    lm.model.vocab_size = rows
    setattr(lm.config, MARK, len(level_ids))


def _grown(
    old_VD: Tensor, rows: int, level_ids: Sequence[int], words: Sequence[Sequence[int]]
) -> nn.Parameter:
    """Return a weight with `rows` rows: the old ones and those of the levels."""
    num_old, width = old_VD.shape
    new_VD = torch.cat([old_VD.detach(), old_VD.new_zeros(rows - num_old, width)])
    if not old_VD.is_meta:
        used = old_VD.detach()[: min(level_ids)].float()
        mean_D = used.mean(0)
        graded_WD = torch.stack([used[ids].mean(0) for ids in words])
        seeded = torch.Generator().manual_seed(0)
        noise_ND = torch.randn(len(level_ids), width, generator=seeded, device="cpu").to(used)
        for j, row in enumerate(level_ids):
            place = j / (len(level_ids) - 1) * (len(words) - 1)
            low = min(int(place), len(words) - 2)
            word_D = torch.lerp(graded_WD[low], graded_WD[low + 1], place - low)
            level_D = torch.lerp(mean_D, word_D, SHARE) + NOISE * used.std() * noise_ND[j]
            new_VD[row] = level_D.to(new_VD.dtype)
    return nn.Parameter(new_VD, requires_grad=old_VD.requires_grad)
