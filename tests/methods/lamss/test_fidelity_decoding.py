"""LaMsS' decoding: tokens and levels take turns, and are those of whole forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from methods.lamss.lamss_sequences import (
    FLAGS,
    OPEN,
    STOP,
    Make,
    asked_ids,
    judged_ids,
    whole_forward,
)

pytestmark = pytest.mark.usefixtures("own_cache")


# -- 3: the grammar of decoding ----------------------------------------------------------------


@pytest.mark.fidelity("lamss", 3)
@pytest.mark.parametrize("loud", ["levels", "normal", "neither"])
def test_slots_alternate_whatever_the_weights(
    make: Make, shape: str, loud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Normal slots never emit a level and level slots nothing else; no level in the answer."""
    from zoo.decoding.depth_decoder import DepthDecoder

    module = make("LaMsS", shape, spread=12.0, max_answer_tokens=7)
    project, is_level = module.last_logits, torch.zeros(len(module.tokenizer), dtype=torch.bool)
    is_level[module.level_ids] = True
    shift = {"levels": 1e3, "normal": -1e3, "neither": 0.0}[loud]
    monkeypatch.setattr(module, "last_logits", lambda hidden: project(hidden) + shift * is_level)
    pushed: list[tuple[list[int], list[bool]]] = []
    push = DepthDecoder.push

    def recorded(decoder: Any, token_B: Any, alive_B: Any, level: int) -> None:
        pushed.append((token_B.tolist(), alive_B.tolist()))
        push(decoder, token_B, alive_B, level)

    monkeypatch.setattr(DepthDecoder, "push", recorded)
    answers = module.answer(OPEN)
    assert len(pushed) >= 4
    for i, (tokens, alive) in enumerate(pushed):
        for token, live in zip(tokens, alive, strict=True):
            assert not live or (token in module.level_ids) == bool(i % 2)
    for row, answer in enumerate(answers):
        normal = [t[row] for t, alive in pushed[0::2] if alive[row]]
        assert "skeptic" not in answer.text
        assert [text for text, _ in answer.tokens] == [
            module.tokenizer.decode([token]) for token in normal[: len(answer.tokens)]
        ]
        assert normal[-1] == STOP


@pytest.mark.fidelity("lamss", 3)
def test_decoding_equals_whole_forwards(make: Make, shape: str) -> None:
    """Tokens, u_t and fed levels are those of a full forward per slot."""
    module = make("LaMsS", shape, spread=12.0, max_answer_tokens=6)
    for answer, record in zip(module.answer(OPEN), OPEN, strict=True):
        ids, tokens, doubts = asked_ids(module, record), [], []
        while len(tokens) < 6 and STOP not in tokens:
            logits = whole_forward(module, ids)[-1]
            logits[module.level_ids] = -torch.inf
            tokens.append(int(logits.argmax()))
            levels = whole_forward(module, [*ids, tokens[-1]])[-1][module.level_ids].softmax(0)
            doubts.append(sum(j / 4 * levels[j].item() for j in range(5)))
            ids += [tokens[-1], module.level_ids[int(levels.argmax())]]
        assert [text for text, _ in answer.tokens] == module.tokenizer.batch_decode(
            [[token] for token in tokens]
        )
        assert [u for _, u in answer.tokens] == pytest.approx(doubts, abs=1e-5)
        assert answer.skepticism["tokens"] == pytest.approx(sum(doubts) / len(doubts), abs=1e-5)
        assert answer.skepticism["max"] == pytest.approx(max(doubts), abs=1e-5)
        assert answer.skepticism["last"] == pytest.approx(doubts[-1], abs=1e-5)


# -- 9: the cache ------------------------------------------------------------------------------


@pytest.mark.fidelity("lamss", 9)
@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: "-".join(flags) or "default")
def test_second_pass_reuses_the_cache(
    make: Make, shape: str, flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """U after the first pass's cache is U of the whole sequence run again; nothing is run twice."""
    from zoo.decoding.depth_decoder import DepthDecoder

    module = make("LaMsS", shape, spread=12.0, max_answer_tokens=5, **flags)
    fed: list[torch.Tensor] = []
    masks: list[torch.Tensor] = []
    feed = DepthDecoder._feed

    def recorded(decoder: Any, ids_BT: Any, mask_BT: Any, level: int) -> None:
        fed.append(ids_BT)
        masks.append(mask_BT)
        feed(decoder, ids_BT, mask_BT, level)

    monkeypatch.setattr(DepthDecoder, "_feed", recorded)
    answers = module.answer(OPEN)
    ids, mask = torch.cat(fed, 1), torch.cat(masks, 1).bool()
    for row, (record, answer) in enumerate(zip(OPEN, answers, strict=True)):
        sequence = ids[row][mask[row]].tolist()
        prompt, judged = asked_ids(module, record), judged_ids(module)
        assert sequence[: len(prompt)] == prompt
        assert sequence[-len(judged) :] == judged
        shown = sequence[len(prompt) : -len(judged)]
        levels = [token in module.level_ids for token in shown]
        assert levels == ([False, True] * (len(shown) // 2) if module.interleave else levels)
        assert any(levels) == module.interleave
        chances = whole_forward(module, sequence)[-1][module.level_ids].softmax(0)
        expected = sum(j / 4 * chances[j].item() for j in range(5))
        assert answer.skepticism["response"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.fidelity("lamss", 9)
@pytest.mark.parametrize("flags", [{}, {"hide_sigma": True}, {"shared_positions": True}])
def test_query_is_read_with_the_model_s_own_levels(
    make: Make, shape: str, flags: dict[str, Any]
) -> None:
    """After every token of Q comes the likeliest level, as in a whole forward at each step."""
    module = make("LaMsS", shape, spread=12.0, interleave_query=True, max_answer_tokens=3, **flags)
    answers = module.answer(OPEN)
    for record, answer in zip(OPEN, answers, strict=True):
        ids: list[int] = []
        for token in asked_ids(module, record):
            ids.append(token)
            ids.append(best(module, ids, module.level_ids))
        shown, doubts = [], []
        while len(shown) < 3 and STOP not in shown:
            normal = [i for i in range(len(module.tokenizer)) if i not in module.level_ids]
            shown.append(best(module, ids, normal))
            ids.append(shown[-1])
            chances = whole_forward(module, ids)[-1][module.level_ids].softmax(0)
            doubts.append(sum(j / 4 * chances[j].item() for j in range(5)))
            ids.append(best(module, ids, module.level_ids))
        assert [doubt for _, doubt in answer.tokens] == pytest.approx(doubts, abs=1e-5)
        if STOP not in shown:
            ids.append(STOP)
            ids.append(best(module, ids, module.level_ids))
        chances = whole_forward(module, [*ids, *judged_ids(module)])[-1][module.level_ids]
        expected = (chances.softmax(0) @ torch.linspace(0, 1, 5)).item()
        assert answer.skepticism["response"] == pytest.approx(expected, abs=1e-5)


def best(module: Any, ids: Sequence[int], among: Sequence[int]) -> int:
    """Return the likeliest next token among some."""
    return list(among)[int(whole_forward(module, ids)[-1][list(among)].argmax())]
