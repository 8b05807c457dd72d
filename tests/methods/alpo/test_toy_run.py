"""From SFT to preferences on a toy language whose judge likes some words better than others."""

from __future__ import annotations

import random
import statistics
from typing import Any

import pytest
import torch

from zoo.methods.alpo.choose import mixing
from zoo.records import ScoredBlock, ScoredSegment, SubtitleBlock

SCORES = {"no": 10.0, "hm": 30.0, "ok": 50.0, "yes": 70.0, "sure": 85.0, "grand": 95.0}
LINES = 2
INFERENCE = 0.5  # temperature of translating


def blocks(count: int, seed: int) -> list[SubtitleBlock]:
    """Return blocks whose references are drawn among all words alike."""
    draw = random.Random(seed)
    return [
        SubtitleBlock(
            source=("a",) * LINES,
            target=tuple(draw.choices(list(SCORES), k=LINES)),
            source_language="zh",
            target_language="en",
            id="toy",  # one wording of the instruction
            index=index,
        )
        for index in range(count)
    ]


def learn(module: Any, batches: Any, lr: float) -> None:
    weights = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    module.train()
    for batch in batches:
        optimizer.zero_grad()
        (term,) = module.losses(batch).values()
        term.loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()


def samples(module: Any, temperature: float) -> list[tuple[str, ...] | None]:
    torch.manual_seed(0)
    return module.generate(blocks(1, 0) * 200, temperature=temperature)


def judged(found: list[tuple[str, ...] | None]) -> tuple[float, float]:
    """Return the mean score of the valid samples' lines, and the share of valid ones."""
    lines = [line for block in found if block for line in block]
    valid = sum(block is not None for block in found) / len(found)
    return statistics.mean(SCORES.get(line, 0.0) for line in lines), valid


def scored(found: list[tuple[str, ...] | None], draw: random.Random) -> list[ScoredBlock]:
    """Return blocks whose candidates are the reference and eight samples, without repeats."""
    whole = [block for block in found if block]
    records = []
    for block in blocks(16, 1):
        taken = draw.sample(whole, 12)
        segments = []
        for i, reference in enumerate(block.target or ()):
            texts = dict.fromkeys([reference, *(sample[i] for sample in taken)])
            values = tuple(SCORES.get(text, 0.0) for text in texts)
            segments.append(ScoredSegment(tuple((text,) for text in texts), values))
        records.append(ScoredBlock(block, tuple(segments)))
    return records


@pytest.mark.fidelity("alpo", 10)
def test_scores_of_samples_rise_and_lines_stay_whole(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SFT, then 60 steps of ALPO on trees with rising prefixes; the judge is a table."""
    monkeypatch.setattr("zoo.methods.alpo.encoder.instruction", lambda block: "Go.")  # short
    options = {"max_answer_tokens": 30, "max_length": 1024}
    module = make("ALPO", "tiny-llama", objective="sft", **options)
    encoder, draw = module.encoder(), random.Random(0)
    examples = [example for block in blocks(64, 0) for example in encoder(block)]
    for steps, size, lr in ((150, 8, 5e-3), (60, 16, 5e-4)):
        learn(module, (encoder.collate(draw.sample(examples, size), {}) for _ in range(steps)), lr)
    module.eval()
    before, valid = judged(samples(module, INFERENCE))
    tuned = make("ALPO", "tiny-llama", objective="alpo", **options)
    tuned.load_state_dict(module.state_dict())
    tuned.reference.sync(tuned)
    encoder = tuned.encoder()
    plans = [
        p
        for record in scored(samples(module, 1.0), draw)
        for p in encoder(record)
        if p.head_weights()
    ]
    steps = 60
    trees = (
        encoder.regrow(encoder.collate(draw.sample(plans, 4), {}), mixing(t, steps), t)
        for t in range(steps)
    )
    learn(tuned, trees, 1e-4)
    tuned.eval()
    after, still_valid = judged(samples(tuned, INFERENCE))
    print(f"score {before:.1f} -> {after:.1f}, whole lines {valid:.3f} -> {still_valid:.3f}")
    assert after > before + 5
    assert still_valid >= valid
