"""Scripts of your own: JSON Lines, or a list, of scenes.

    {"setting": "A kitchen at night.", "roles": [{"name": "Ann", "description": "a cook"}, "Bob"],
     "turns": [{"speaker": "Ann", "text": "Who is there?"}, {"speaker": "Bob", "text": "Me."}],
     "ended": true, "id": "kitchen"}

`roles` may be missing: then they are the speakers, sorted by name. The model reads the list in its
order, so one in the order of first turns tells it who speaks next. A role is an object or a name.
`setting`, `ended` (true) and `id` may be missing; an `id` that is null or empty is missing: the
scene is named after its file and line. A speaker that `roles` does not name is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from datamodules.files import SAMPLES, as_object, data_path, field, find, text_field
from datamodules.json_files import read_each
from datamodules.scene_data import SceneData, check_names, speakers_of
from datamodules.tables import only
from zoo.errors import InputError, nearest
from zoo.records import Role, Scene, Turn

FIELDS = ("setting", "roles", "turns", "ended", "id")


class Scenes(SceneData):
    """Scenes of JSON files as `Scene` records.

    Args:
        path: Folder with `train.jsonl`, `val.jsonl` and `test.jsonl` (or `.json`, each may be
            gzipped), or one file for all splits. None reads a small sample that comes with the
            package.
        **scenes: People and names, batches and limits; see `SceneData`.
    """

    def __init__(self, path: str | None = None, **scenes: Any) -> None:
        super().__init__(**scenes)
        self.path = path

    def read(self, split: str) -> Iterable[Scene]:
        """Yield the scenes of a split."""
        path = SAMPLES / "scenes.jsonl" if self.path is None else data_path(self.path)
        if path.is_dir():
            path = find(path, *(f"{split}.{kind}" for kind in ("jsonl", "json", "jsonl.gz")))
        return read_each(path, read_scene)


def read_scene(item: dict[str, Any], where: str, name: str) -> Scene:
    """Return the scene of an object.

    Raises:
        InputError: A field is wrong, a name comes twice, or a speaker has no role.
    """
    only(item, FIELDS, where)
    turns = []
    for i, value in enumerate(field(item, "turns", list, where)):
        place = f"{where}: turn {i + 1}"
        turn = as_object(value, place)
        turns.append(Turn(text_field(turn, "speaker", place), text_field(turn, "text", place)))
    if "roles" in item:
        roles = tuple(_role(value, where) for value in field(item, "roles", list, where))
    else:
        roles = speakers_of(turns)
    names = [role.name for role in roles]
    twice = [n for i, n in enumerate(names) if n in names[:i]]
    if twice:
        raise InputError(f"{where}: the role {twice[0]!r} is there twice")
    check_names(names, where)
    for i, turn_ in enumerate(turns, start=1):
        if turn_.speaker not in names:
            hint = nearest(turn_.speaker, names)
            raise InputError(f"{where}: turn {i}: no role is called {turn_.speaker!r}; {hint}")
    setting = field(item, "setting", str, where) if "setting" in item else ""
    ended = field(item, "ended", bool, where) if "ended" in item else True
    named = name if item.get("id") in (None, "") else str(item["id"])
    return Scene(roles, tuple(turns), setting.strip(), ended, named)


def _role(value: Any, where: str) -> Role:
    if isinstance(value, str):
        value = {"name": value}
    item = as_object(value, f"{where}: roles")
    only(item, ("name", "description"), f"{where}: roles")
    description = field(item, "description", str, where) if "description" in item else ""
    return Role(text_field(item, "name", f"{where}: roles"), description.strip())
