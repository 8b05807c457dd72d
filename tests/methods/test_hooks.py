"""What a method adds to a step of a run, it adds to what every method does there."""

from __future__ import annotations

from typing import Any

import pytest
from methods.test_settings import NAMES, NEEDED

import zoo
from zoo.evaluation import EvaluatedModule
from zoo.module import ZooModule


@pytest.mark.parametrize("name", NAMES)
def test_every_checkpoint_can_be_resumed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random state and place are kept and restored, whatever else a method keeps."""
    done: list[str] = []
    for hook in ("on_save_checkpoint", "on_load_checkpoint"):
        monkeypatch.setattr(ZooModule, hook, lambda self, checkpoint, hook=hook: done.append(hook))
    module = getattr(zoo, name)(**NEEDED.get(name, {}))
    checkpoint: dict[str, Any] = {"state_dict": {}}
    module.on_save_checkpoint(checkpoint)
    module.on_load_checkpoint(checkpoint)
    assert done == ["on_save_checkpoint", "on_load_checkpoint"]


@pytest.mark.parametrize("name", NAMES)
def test_every_evaluation_begins_without_answers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = getattr(zoo, name)
    if not issubclass(kind, EvaluatedModule):
        pytest.skip("it answers nothing")
    module = kind(**NEEDED.get(name, {}))
    module.answers = {"old": (None, None)}
    module.start_evaluation()
    assert module.answers == {}
