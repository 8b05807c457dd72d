"""What every method does with its constructor's arguments."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest

import zoo
from zoo.module import ZooModule
from zoo.optimizer import Optimizer
from zoo.support.evaluation import DEFAULTS

NAMES = [
    name
    for name in zoo.__all__
    if isinstance(kind := getattr(zoo, name), type) and issubclass(kind, ZooModule)
]
NAMES.remove("ZooModule")
NEEDED: dict[str, dict[str, Any]] = {"M3JEPA": {"text": {"name": "tiny-bert"}}}
OTHER_HEAT = {"DreamCUB", "M3JEPA"}  # of samples to learn from, of a loss
OPEN = {"args", "kwargs", "sft"}  # those of another method's constructor


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_saved(name: str) -> None:
    """A checkpoint, an export and TensorBoard have them from here."""
    method = getattr(zoo, name)
    assert set(signature(method).parameters) - OPEN <= set(method(**NEEDED.get(name, {})).hparams)


@pytest.mark.parametrize("name", ["CoCT", "ESCBaseline", "FiSMiness", "StraQ"])
def test_methods_of_one_group_train_with_its_settings(name: str) -> None:
    """Those of the script that straQ* released, unless others are given."""
    method: Any = getattr(zoo, name)
    assert method().optimizer == DEFAULTS
    assert method(optimizer=Optimizer(lr=1.0)).optimizer == Optimizer(lr=1.0)


@pytest.mark.parametrize("setting", ["max_generated", "max_length"])
@pytest.mark.parametrize(
    "group", [("MeTHanol", "SFT", "HdLM", "MeGan", "LaMsS"), ("CoCT", "ESCBaseline")]
)
def test_methods_that_are_compared_have_one_default(group: tuple[str, ...], setting: str) -> None:
    """Of the window, and of the number of records that a validation answers."""
    defaults = {signature(getattr(zoo, name)).parameters[setting].default for name in group}
    assert len(defaults) == 1


@pytest.mark.parametrize("name", NAMES)
def test_decoding_is_greedy_unless_asked_otherwise(name: str) -> None:
    method = getattr(zoo, name)
    verbs = [getattr(method, verb, None) for verb in ("generate", "respond", "converse")]
    for called in (method, *filter(None, verbs)):
        heat = signature(called).parameters.get("temperature")
        other = called is method and name in OTHER_HEAT
        assert heat is None or other or heat.default == 0.0, called
