"""DreamCUB with a fault at a chosen place: a process that is killed, a judge that fails."""

from __future__ import annotations

import os
import signal
from typing import Any

import zoo
from zoo.methods.dreamcub.environment import Answer, ScriptedEnv
from zoo.records import Turn
from zoo.support.decisions import Decision

KILL_IN = "ZOO_TEST_KILL_IN"  # `visit:9`: while replies are written in the visit of step 9


class Killed(zoo.DreamCUB):
    """Kills its process (kill -9) in the middle of what `$ZOO_TEST_KILL_IN` names."""

    place = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("visit", "dream"):
            setattr(self.learning, name, self.inside(name, getattr(self.learning, name)))

    def inside(self, name: str, work: Any) -> Any:
        """Return work that says where it is."""

        def working(*args: Any) -> None:
            self.place = name
            work(*args)
            self.place = ""

        return working

    def written(self, *args: Any) -> Any:
        """Write, then die if this is the place."""
        rows = super().written(*args)
        self.die_in(self.place)
        return rows

    def training_step(self, *args: Any) -> Any:
        """Return the loss, or die before anything is learned from it."""
        loss = super().training_step(*args)
        self.die_in("step")
        return loss

    def die_in(self, place: str) -> None:
        """Die if this is where."""
        if os.environ.get(KILL_IN) == f"{place}:{self.global_step}":
            os.kill(os.getpid(), signal.SIGKILL)


class HalfJudged(zoo.DreamCUB):
    """Its user gives no grade in the second process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.learning.env = Ungraded(self)


class Ungraded(ScriptedEnv):
    """A script whose judge fails in the second process."""

    def __init__(self, module: zoo.DreamCUB) -> None:
        super().__init__()
        self.module = module

    def answer(self, decision: Decision, reply: Turn) -> Answer:
        """Return the answer, its grade only in the first process."""
        given = super().answer(decision, reply)
        return given if self.module.global_rank == 0 else given._replace(reward=None)
