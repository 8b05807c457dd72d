"""`label_from` names the model whose probabilities and answers label the training data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import zoo
from zoo import backbone as backbones
from zoo.methods.lamss.token_probabilities import probabilities


def saved(folder: Path, seed: int) -> str:
    """Save a tiny model of its own weights."""
    torch.manual_seed(seed)
    lm, tokenizer = backbones.load(zoo.Backbone(name="tiny-llama"))
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_labels_come_from_the_named_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    trained, labeling = saved(tmp_path / "trained", 0), saved(tmp_path / "labeling", 1)
    rows = [((1, 2, 3), (4, 5, 6))]
    doubts = {}
    for name in (trained, labeling):
        lm, _ = backbones.load(zoo.Backbone(name=name))
        doubts[name] = [1 - p for p in probabilities(lm.eval(), rows)[0]]
    assert doubts[trained] != pytest.approx(doubts[labeling], abs=1e-4)

    for label_from, source in ((labeling, labeling), (None, trained)):
        module = zoo.LaMsS(zoo.Backbone(name=trained), label_from=label_from)
        labels = module.encoder().labels
        assert labels.doubts(rows)[0] == pytest.approx(doubts[source], abs=1e-6)
