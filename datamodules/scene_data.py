"""What data modules of scenes share: repairs of a script, and changes of names in training.

A scene has two speakers or more. Where a file lists no people they are its speakers, by name: the
order of their first turns would tell who speaks next. Neighbouring turns of one speaker are one
turn. Beyond `max_roles` speakers, those with fewest turns are called `others`. In training the list
of people may be put into another order and people may be renamed (see `datamodules.scene_names`),
so that a model does not learn names by heart; both depend on the seed and the scene's number alone.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, count
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import first_few
from datamodules.scene_names import renamed
from zoo.errors import InputError, check_counts
from zoo.records import Record, Role, Scene, Turn
from zoo.records.scene import one_line, same_in_one_line

log = logging.getLogger(__name__)

OTHERS = "others"  # `others 2` and so on where somebody has that name


class SceneData(ZooDataModule):
    """A data module whose records are `Scene`s; a subclass implements `read(split)`.

    Args:
        max_roles: People of a scene; those with fewest turns beyond it are called `others`.
        shuffle_roles: Put the people of a training scene into a random order.
        rename: Share of training scenes whose people get other names.
        **loader: Batches and limits; see `ZooDataModule`.

    Raises:
        InputError: `max_roles` is below 2, or `rename` not in 0..1.
    """

    record_types = (Scene,)

    def __init__(
        self,
        *,
        max_roles: int = 8,
        shuffle_roles: bool = True,
        rename: float = 0.3,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        check_counts("data", {"max_roles": max_roles})
        if max_roles < 2:
            raise InputError(f"data.max_roles: {max_roles} is below 2")
        if not 0 <= rename <= 1:
            raise InputError(f"data.rename: {rename} is not in 0..1")
        self.max_roles, self.shuffle_roles, self.rename = max_roles, shuffle_roles, rename

    def read(self, split: str) -> Iterable[Scene]:
        """Yield the scenes of a split as they stand in the files."""
        raise TypeError(f"{type(self).__name__} does not implement read(split)")

    def load(self, split: str) -> list[Record]:
        """Return the scenes of a split that have two speakers or more, repaired."""
        scenes: list[Scene] = []
        alone: list[str] = []
        crowded: list[str] = []
        for scene in self.read(split):
            if len(scene.speakers) < 2:
                alone.append(scene.id)
                continue
            if len(scene.roles) > self.max_roles:
                crowded.append(scene.id)
            scenes.append(merged(few_roles(scene, self.max_roles)))
        if alone:
            log.warning(
                "%s: %d scenes of one speaker are left out: %s",
                *(type(self).__name__, len(alone), first_few(alone)),
            )
        if crowded:
            log.warning(
                "%s: more than %d people in %d scenes, those with fewest turns are %r there: %s",
                *(type(self).__name__, self.max_roles, len(crowded), OTHERS, first_few(crowded)),
            )
        return list(self._changed(scenes)) if split == "train" else list(scenes)

    def _changed(self, scenes: Sequence[Scene]) -> Iterator[Scene]:
        """Yield training scenes with people in another order and under other names."""
        for number, scene in enumerate(scenes):
            draw = random.Random(f"{self.seed}-{number}")
            if draw.random() < self.rename:
                scene = renamed(scene, draw)
            if self.shuffle_roles:
                scene = replace(scene, roles=tuple(draw.sample(scene.roles, len(scene.roles))))
            yield scene


def merged(scene: Scene) -> Scene:
    """Return the scene with neighbouring turns of one speaker joined by a blank."""
    turns: list[Turn] = []
    for turn in scene.turns:
        if turns and turns[-1].speaker == turn.speaker:
            turns[-1] = replace(turns[-1], text=f"{turns[-1].text} {turn.text}")
        else:
            turns.append(turn)
    return replace(scene, turns=tuple(turns))


def few_roles(scene: Scene, most: int) -> Scene:
    """Return the scene with at most so many people; the others are called `others`.

    That is `others 2`, or the first free name like it, where one of the kept people is `others`.
    """
    if len(scene.roles) <= most:
        return scene
    counts = Counter(turn.speaker for turn in scene.turns)
    ranked = sorted(scene.names, key=lambda name: -counts[name])
    kept = set(ranked[: most - 1])
    taken = {one_line(name) for name in kept}
    free = chain([OTHERS], (f"{OTHERS} {number}" for number in count(2)))
    rest = next(name for name in free if name not in taken)
    roles = [role for role in scene.roles if role.name in kept]
    turns = [turn if turn.speaker in kept else replace(turn, speaker=rest) for turn in scene.turns]
    return replace(scene, roles=(*roles, Role(rest)), turns=tuple(turns))


def check_names(names: Iterable[str], where: str) -> None:
    """Raise for two names that would be the same before turns, where they are one line.

    Raises:
        InputError: There are two; names both.
    """
    if same := same_in_one_line(names):
        raise InputError(f"{where}: the roles {same[0]!r} and {same[1]!r} are one name in one line")


def speakers_of(turns: Iterable[Turn]) -> tuple[Role, ...]:
    """Return the speakers of turns, sorted by name: their order says nothing of who is next."""
    return tuple(map(Role, sorted({turn.speaker for turn in turns})))


def scene_of(turns: Sequence[Turn], name: str, setting: str = "") -> Scene:
    """Return a scene whose people are its speakers, sorted by name."""
    return Scene(speakers_of(turns), tuple(turns), setting, id=name)
