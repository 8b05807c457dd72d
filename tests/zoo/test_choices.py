"""A choice that does not exist is refused in Python, whatever the class."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import pytest

import datamodules
import zoo
from datamodules.base import ZooDataModule
from zoo.choices import check_choice
from zoo.errors import InputError, arguments
from zoo.module import ZooModule

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

NEEDED: dict[str, dict[str, Any]] = {"M3JEPA": {"text": {"name": "tiny-bert"}}}
SECTIONS = {zoo: ("model", ZooModule), datamodules: ("data", ZooDataModule)}


def listed(kind: Any) -> list[Any]:
    """Return the values that a type lists, by itself or inside of others."""
    if "Literal" not in str(kind):
        return []
    inner = [value for part in get_args(kind) for value in listed(part)]
    return inner or [value for value in get_args(kind) if not isinstance(value, type)]


def choices() -> Iterator[Any]:
    """Yield each public class with the arguments that take one of a few values."""
    for home, (section, base) in SECTIONS.items():
        for title in home.__all__:
            made = getattr(home, title)
            if not isinstance(made, type) or not issubclass(made, base):
                continue
            for name, kind in (arguments(made) or {}).items():
                if values := listed(kind):
                    case = (made, section, name, kind, values[-1])
                    yield pytest.param(*case, id=f"{title}-{name}")


ALL = list(choices())


def refused(made: Any, key: str, wrong: Any, near: Any, **options: Any) -> None:
    """Assert that a value is refused by its key, with what would fit."""
    said = rf"^{re.escape(f'{key}: {wrong!r}; ')}.*one of: .*{re.escape(str(near))}"
    with pytest.raises(InputError, match=said):
        made(**options)


@pytest.mark.parametrize(("made", "section", "name", "kind", "value"), ALL)
def test_a_misspelt_choice_is_refused(
    made: type, section: str, name: str, kind: Any, value: Any
) -> None:
    """By the class itself, and by a subclass that hands its arguments on."""

    class Ours(made):  # type: ignore[misc, valid-type]
        def __init__(self, width: int = 1, **given: Any) -> None:
            super().__init__(**given)

    wrong = f"{value}x"
    given = [wrong] if "list[" in str(kind) else wrong
    for one in (made, Ours):
        refused(
            one, f"{section}.{name}", wrong, value, **NEEDED.get(made.__name__, {}), **{name: given}
        )


def test_there_are_choices_of_methods_and_of_data() -> None:
    """So that the test above is one."""
    names = {case.id for case in ALL}
    assert {"MuPaS-objective", "MuPaS-strategy", "ALPO-normalize", "ALPO-gate_statistic"} <= names
    assert {"DreamCUB-belief_in", "Subtitles-part", "FalseBelief-moves", "MELD-too_long"} <= names


def test_choices_of_a_subclass() -> None:
    """Its own ones, also beside a type that cannot be read, and what it sets in its base class."""

    class Ours(zoo.MuPaS):
        def __init__(
            self,
            trainer: Trainer | None = None,
            tone: Literal["dry", "warm"] | None = None,
            objective: Any = "role_mean",
        ) -> None:
            super().__init__({"name": "tiny-llama"}, None, "speaker_as_token", objective)

    refused(Ours, "model.tone", "warn", "warm", tone="warn")
    refused(Ours, "model.objective", "role_means", "role_mean", objective="role_means")
    for tone in (None, "dry", "warm"):
        assert Ours(tone=tone).objective == "role_mean"


def test_choices_by_place() -> None:
    """`ALPO(backbone, optimizer, "outcome")` is no outcome DPO."""
    with pytest.raises(InputError, match=r"model.objective: 'outcome'; did you mean 'outcome_dpo'"):
        zoo.ALPO({"name": "tiny-llama"}, None, "outcome")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [list[Literal["a", "b"]] | None, tuple[Literal["a", "b"], ...]])
def test_choices_in_a_list(kind: Any) -> None:
    """Each has to fit, and has to stand in a list."""
    check_choice("key", ["a", "b", "a"], kind)
    check_choice("key", [], kind)
    with pytest.raises(InputError, match="^key: 'c'; one of: a, b$"):
        check_choice("key", ["a", "c"], kind)
    with pytest.raises(InputError, match="^key: 'a' is no list$"):
        check_choice("key", "a", kind)


def test_types_that_list_nothing_are_not_looked_at() -> None:
    """Not even where a value is a choice among others."""
    for kind in (str, int | None, Literal["all"] | int, list[str]):
        check_choice("key", object(), kind)
    with pytest.raises(InputError, match="^key: None; one of: 1, 2$"):
        check_choice("key", None, Literal[1, 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.Backbone(dtype="bf16"), "backbone.dtype: 'bf16'; did you mean 'bfloat16'"),
        (lambda: zoo.Backbone(attention="eager"), "backbone.attention: 'eager'"),
        (lambda: zoo.Tower("tiny-bert", dtype="half"), "tower.dtype: 'half'"),
        (lambda: zoo.Optimizer(schedule="cosin"), "optimizer.schedule: 'cosin'; did you mean"),
    ],
)
def test_settings_of_backbones_and_optimizers_are_refused_too(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
    assert zoo.Backbone("tiny-llama", dtype="bfloat16").dtype == "bfloat16"
