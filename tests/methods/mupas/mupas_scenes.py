"""A scene of three people, written out as tokens by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from zoo.records import Role, Scene, Turn

Made = Callable[..., Any]
SAID = (
    ("Ann", "Who took the boat?"),
    ("Bob", "Not me, I was asleep all night."),
    ("Cleo de Witt", "The wind did."),
    ("Ann", "Then we walk."),
    ("Bob", "No."),
)
STRATEGIES = ("speaker_as_token", "speak_or_silence")


def scene_of(said: Any = SAID, *, ended: bool = True) -> Scene:
    """Return a scene of three people."""
    roles = (Role("Ann", "a sailor"), Role("Bob"), Role("Cleo de Witt", "a guest"))
    return Scene(roles, tuple(Turn(*pair) for pair in said), "A pier.", ended, "scene:1")


def batch_of(module: Any, *scenes: Scene) -> Any:
    """Return scenes as one batch."""
    encoder = module.encoder()
    return encoder.collate([e for scene in scenes for e in encoder(scene)], {})


def role_tokens(
    module: Any, scene: Scene, *, headers: bool = False
) -> tuple[torch.Tensor, dict[str, list[int]]]:
    """Return the ids of a scene, written out by hand, and where the tokens of each role stand.

    With `headers` those are a role's too, and the end of the scene is of who spoke last.
    """
    encoder = module.encoder()
    ids = list(encoder.prefix(scene))
    places: dict[str, list[int]] = {}
    for turn in scene.turns:
        begin = len(ids)
        ids += encoder.header(turn.speaker)
        begin = begin if headers else len(ids)
        words = [*encoder.tokenizer(turn.text, add_special_tokens=False)["input_ids"]]
        words.append(encoder.tokenizer.convert_tokens_to_ids("<|im_end|>"))
        ids += words
        places.setdefault(turn.speaker, []).extend(range(begin, len(ids)))
    if headers and scene.ended:
        places[scene.turns[-1].speaker].append(len(ids))
        ids.append(encoder.stop_id)
    return torch.tensor([ids]), places
