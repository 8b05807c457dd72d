"""What a step learns: the stages of one run, and the turns of joint learning.

    S1 policy   supervised, on the replies of the data
    S2 world    belief, observation, KL of the world model
    S3 reward   the same, and its reward head; from the user's grades if there are no pairs
    S4 joint    cycles: `world_per_cycle` steps of the world model on real data (with the reward),
                then imagination and `updates` steps of policy and critic on what was imagined

Everything follows from the number of the step, so a resumed run goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.errors import InputError

Stage = Literal["policy", "world", "reward", "joint"]
Loss = Literal["policy", "world", "reward", "behaviour"]


@dataclass(frozen=True)
class StepPlan:
    """What one optimiser step does.

    Attributes:
        stage: Stage of the run.
        loss: What is learned.
        cycle: Number of the cycle of joint learning.
        index: Number of the step among those of its loss in this cycle.
        begins: This step begins a cycle. Those of S1 to S3 are as long as those of S4.
    """

    stage: Stage
    loss: Loss
    cycle: int = 0
    index: int = 0
    begins: bool = False


@dataclass(frozen=True)
class Schedule:
    """Lengths of the stages in optimiser steps.

    Attributes:
        policy: Steps of S1; None for the rest of the run.
        world: Steps of S2; None for the rest of the run.
        reward: Steps of S3; None for the rest of the run. Joint learning is what is left.
        world_per_cycle: n_dwm, steps of the world model in a cycle; 0 freezes it in S4.
        minibatches: Parts of the imagined turns, a step each.
        epochs: How often all of them are learned.
        interact_every: M, cycles between visits to the environment.
    """

    policy: int | None = 60
    world: int | None = 60
    reward: int | None = 30
    world_per_cycle: int = 2
    minibatches: int = 1
    epochs: int = 1
    interact_every: int = 5

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("policy", "world", "reward", "world_per_cycle"):
            if (getattr(self, name) or 0) < 0:
                raise InputError(f"model.schedule.{name}: {getattr(self, name)} is not 0 or more")
        for name in ("minibatches", "epochs", "interact_every"):
            if getattr(self, name) < 1:
                raise InputError(f"model.schedule.{name}: {getattr(self, name)} is not 1 or more")

    @property
    def updates(self) -> int:
        """Steps of policy and critic in a cycle."""
        return self.epochs * self.minibatches

    @property
    def learns_world(self) -> bool:
        """Whether the run comes to the world model."""
        parts = (self.world, self.reward, self.world_per_cycle)
        return self.policy is not None and any(part is None or part > 0 for part in parts)

    @property
    def learns_pairs(self) -> bool:
        """Whether the run comes to rewards of pairs."""
        parts = (self.reward, self.world_per_cycle)
        return None not in (self.policy, self.world) and any(part != 0 for part in parts)

    def phase(self, step: int, *, imagines: bool = True) -> StepPlan:
        """Return what an optimiser step does.

        Args:
            step: Optimiser steps before it.
            imagines: Policy and critic learn in S4; else only the world model does.
        """
        stages: tuple[Literal["policy", "world", "reward"], ...] = ("policy", "world", "reward")
        for stage in stages:
            length = getattr(self, stage)
            if length is None or step < length:
                cycle, place = divmod(step, self.world_per_cycle + self.updates)
                return StepPlan(stage, stage, cycle, step, begins=place == 0)
            step -= length
        updates = self.updates if imagines else 0
        cycle, place = divmod(step, max(1, self.world_per_cycle + updates))
        if place < self.world_per_cycle or not updates:
            return StepPlan("joint", "reward", cycle, place, begins=place == 0)
        index = place - self.world_per_cycle
        return StepPlan("joint", "behaviour", cycle, index, begins=place == 0)
