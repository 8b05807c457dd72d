"""The schedule: its stages and cycles, what a run learns, which lengths are refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from methods.dreamcub.dreamcub_reference import states_of

from zoo.errors import InputError
from zoo.methods.dreamcub.schedule import Schedule


def test_cycles_of_the_early_stages_are_as_long_as_those_of_joint_learning() -> None:
    schedule = Schedule(4, 3, None, world_per_cycle=1, minibatches=2, epochs=1)
    found = [schedule.phase(step) for step in range(11)]
    assert [f.begins for f in found[:4]] == [True, False, False, True]
    assert [f.cycle for f in found[:4]] == [0, 0, 0, 1]
    assert [f.begins for f in found[4:7]] == [True, False, False]
    assert [f.stage for f in found[7:]] == ["reward"] * 4
    joint = Schedule(0, 0, 0, world_per_cycle=1, minibatches=2, epochs=2)
    assert joint.updates == 4
    assert [joint.phase(step).index for step in range(6)] == [0, 0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("lengths", "world", "pairs"),
    [
        ((None, 1, 1, 1), False, False),
        ((1, None, 0, 0), True, False),
        ((1, 0, 0, 0), False, False),
        ((1, 0, 0, 1), True, True),
        ((0, 0, 1, 0), True, True),
        ((1, 1, None, 0), True, True),
    ],
)
def test_what_a_run_comes_to(lengths: tuple[Any, ...], world: bool, pairs: bool) -> None:
    """A stage without end is the last one; what is never learned is not evaluated either."""
    schedule = Schedule(*lengths)
    assert (schedule.learns_world, schedule.learns_pairs) == (world, pairs)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        *((name, 0) for name in ("policy", "world", "reward", "world_per_cycle")),
        *((name, 1) for name in ("minibatches", "epochs", "interact_every")),
    ],
)
def test_lengths_below_the_least_are_refused(name: str, least: int) -> None:
    Schedule(**{name: least})
    with pytest.raises(InputError, match=f"model.schedule.{name}: {least - 1} is not {least} or"):
        Schedule(**{name: least - 1})


def test_pairs_are_learned_from_the_third_stage_on(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S2 has no reward; S3 and joint learning have; a held-out state has what the run comes to."""
    worse: list[Any] = []
    monkeypatch.setattr(
        module.world, "losses", lambda *a, **told: worse.append(told["worse"]) or {}
    )
    monkeypatch.setattr(module.learning, "sampled", lambda states, heat: [[1]] * len(states))
    batch = SimpleNamespace(records=[states_of(0)[0].decision], normalizers={})

    def learned(schedule: Schedule, rewards: str = "pairs") -> list[bool]:
        """Return whether there are pairs: of three steps, and of a held-out batch."""
        monkeypatch.setattr(module, "schedule", schedule)
        monkeypatch.setattr(module, "rewards", rewards)
        worse.clear()
        for step in range(3):
            monkeypatch.setattr(module, "_trainer", SimpleNamespace(global_step=step))
            module.learning.world_losses(batch)
        module.learning.world_losses(batch, validating=True)
        return [turns is not None for turns in worse]

    assert learned(Schedule(0, 1, 1, world_per_cycle=1)) == [False, True, True, True]
    assert learned(Schedule(0, 1, 1, world_per_cycle=1), "user") == [False] * 4
    no_third = Schedule(0, 1, 0, world_per_cycle=1, minibatches=1)  # S2, world step, imagination
    assert learned(no_third) == [False, True, False, True], "joint learning has the reward anyway"
    assert learned(Schedule(0, None)) == [False] * 4
    monkeypatch.setattr(module, "schedule", Schedule(None))
    assert module.learning.world_losses(batch, validating=True) == {}
