"""CoCT learns tagged replies, and refuses what it cannot train on or read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from dialogues import TALK
from methods.coct.coct_answers import TWO, WIDE

from datamodules import ESConv
from zoo.encoding import IGNORE, sum_head_weights
from zoo.errors import InputError
from zoo.support.decisions import decisions


@pytest.mark.parametrize("two", TWO)
def test_tagged_replies_are_learned(make: Any, two: str, tmp_path: Path) -> None:
    """The target is the teacher's reply; L is the mean over its tokens, and falls in training."""
    path = tmp_path / "teacher.jsonl"
    rows = [
        {"id": d.id, "tagged": f"<Question> {'ab'[d.depth]}? <fear> c."} for d in decisions(TALK)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    module = make("CoCT", two, learn=True, tagged=str(path), free=True, **WIDE)
    encoder = module.encoder()
    examples = encoder(TALK)
    end = encoder.chat.end
    texts = [module.tokenizer.decode([t for t in e.labels if t != IGNORE]) for e in examples]
    assert texts == [row["tagged"] + end for row in rows]
    batch = encoder.collate(examples, sum_head_weights(examples))
    total, count = 0.0, 0
    for example in examples:
        with torch.no_grad():
            logits = module.lm(torch.tensor([example.input_ids])).logits[0].float()
        labels = torch.tensor(example.labels)
        total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        count += int((labels != IGNORE).sum())
    first = float(module.losses(batch)["speak"].loss)
    assert first == pytest.approx(total / count, rel=1e-4)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    for _ in range(20):
        loss = module.losses(batch)["speak"].loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.8 * first


def test_replies_without_words_are_not_learned(make: Any, tmp_path: Path, caplog: Any) -> None:
    """Neither a tag alone nor an empty reply: the model would learn to say nothing."""
    first, second = decisions(TALK)
    path = tmp_path / "teacher.jsonl"
    for silent in ("", "<Question>", "Seeker: I fell."):
        rows = [{"id": first.id, "tagged": silent}, {"id": second.id, "tagged": "<fear> Oh."}]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        caplog.clear()
        module = make("CoCT", "tiny-llama", learn=True, tagged=str(path), **WIDE)
        examples = module.encoder()(TALK)
        learned = [any(t != IGNORE for t in example.labels) for example in examples]
        assert learned == [False, True]
        assert f"1 of 2 replies hold no words and are not learned; the first is {first.id}" in (
            caplog.text
        )


def test_what_cannot_be_trained_or_read(make: Any, tmp_path: Path) -> None:
    module = make("CoCT", "tiny-llama", **WIDE)
    assert module.untrained() == "model.learn: false trains nothing"
    broken = tmp_path / "teacher.jsonl"
    broken.write_text('{"id": "x"}\n')
    with pytest.raises(InputError, match=r"teacher.jsonl:1: expected an object with id and tagged"):
        make("CoCT", "tiny-llama", learn=True, tagged=str(broken), **WIDE).encoder()
    annotated = make("CoCT", "tiny-llama", learn=True, **WIDE).encoder()(TALK)[0]
    told = module.tokenizer.decode([t for t in annotated.labels if t != IGNORE])
    assert told.startswith("<Question> When?")
    for kinds in (["emotion"], ["topic"]):  # nothing of these is annotated beside a reply
        bare = make("CoCT", "tiny-llama", kinds=kinds, learn=True, **WIDE)
        with pytest.raises(InputError, match="model.(tagged|kinds): "):
            bare.check_data(ESConv())
