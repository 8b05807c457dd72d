"""M3-JEPA on questions about pictures: an answer matches every question that has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from methods.m3_jepa.m3_jepa_samples import ANSWERS, asked, at_step, make

from datamodules.epoch_plan import micro_batches, shuffled
from datamodules.sizes import Sizes
from zoo.methods.m3_jepa.evaluation import ComparedVectors

WAY = "image+text2text"


def recalled(module: Any, examples: list[Any], wanted: list[str]) -> dict[str, float]:
    """Return the recall of queries that are each the vector of the answer that is wanted."""
    rows = torch.eye(len(ANSWERS))
    source, target = (
        rows[[ANSWERS.index(answer) for answer in answers]]
        for answers in (wanted, [example.text for example in examples])
    )
    module.forward = lambda tokens, direction: ComparedVectors(source, target, source, target)
    batch = module.encoder().collate(examples, {0: float(len(examples))})
    at_step(module, 0).start_evaluation()
    module.evaluate(batch, "val")
    return module.banks.recall()


def test_recall_of_answers(tmp_path: Path) -> None:
    """The answers' own vectors find them all; those of a picture's other answer find none."""
    module = make(("tiny-bert", "tiny-vit"), directions=[WAY])
    module._count_usage = lambda direction: None
    records = asked(tmp_path).records("test")
    examples = [example for record in records for example in module.encoder()(record)]
    own = [example.text for example in examples]
    other = [text for pair in zip(own[1::2], own[::2], strict=True) for text in pair]
    assert recalled(module, examples, own)[f"R@1_{WAY}"] == 1
    assert len(module.banks.gallery["contrastive", "text"]) == len(ANSWERS)
    assert len(module.banks.queries["contrastive", WAY]) == len(examples)
    assert recalled(module, examples, other)[f"R@1_{WAY}"] == 0


@pytest.mark.parametrize("seed", range(3))
def test_no_training_batch_holds_an_answer_twice(tmp_path: Path, seed: int) -> None:
    """Else the answer of one question would be a negative of another one that has it too."""
    module = make(("tiny-bert", "tiny-vit"), directions=[WAY])
    records = asked(tmp_path).records("test")
    examples = [example for record in records for example in module.encoder()(record)]
    sizes = Sizes.of(examples)
    order = shuffled(sizes.learned(), str(seed))
    order, starts = micro_batches(sizes, order, 4, None, grouped=True)
    for batch in torch.tensor(order).tensor_split(starts[1:].tolist()):
        texts = [examples[i].text for i in batch.tolist()]
        assert len(set(texts)) == len(texts)
