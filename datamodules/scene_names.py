"""Other names for the people of a scene: in headers, on the list of people and in what is said.

Headers and the list always have the new name. A text has it where a name can be told from other
words:

- a full name; of several that begin alike the longest;
- the first word of a longer name, if no other name begins with it and the name has no word of
  `NO_NAMES`: `Joey` of `Joey Tribbiani`, but not `The` of `The Waiter`, not `Rachel` of `Rachel and
  Phoebe`, and not `Joey` where there is `Joey Tribbiani Sr.` too;
- a name that is a word as well (`ALSO_WORDS`, or a whole name in `NO_NAMES` such as `All`) only
  inside a sentence: in "Oh, Will!", not in "Will you?" and not in "Will, come here!".

Capital letters count: a name that begins with a small letter (`a man`), like a name of a single
character, stays in texts. Latin, Greek and Cyrillic letters around a name make it another word; in
other scripts, which may have no blanks between words, a name is found inside longer words too.

Not covered: both lists are English and short, a role `Stone` changes "Stone walls"; words written
like a name inside a sentence (`in May`); nicknames, plurals, and last names alone.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from zoo.records import Role, Scene

NAMES = (
    *("Ada", "Bruno", "Carla", "Dario", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kira"),
    *("Levi", "Mona", "Nils", "Olga", "Pavel", "Quinn", "Rosa", "Sami", "Tara", "Umar", "Vera"),
    *("Wanda", "Xenia", "Yusuf", "Zoe"),
)
"""What renamed people are called."""

_NO_NAMES = """
    a an the her his my our their your another other first second third old older young little
    big best fake drunk and or of in on with at to from for no all both everyone everybody
    others mr mrs ms miss sir madam lady lord dr doctor prof professor father sister brother
    mother aunt uncle grandma grandpa captain officer sergeant nurse judge king queen prince
    princess saint st man woman boy girl kid kids guy guys friend friends crowd voice narrator
    host guest student teacher director clerk waiter waitress customer fireman policeman
    security stage front ticket tour flight hotel casting delivery wedding sick evil gym
    airline employee attendant
"""
NO_NAMES = frozenset(_NO_NAMES.split())
"""Words, in small letters, that name nobody by themselves: articles, titles, what people are."""

_ALSO_WORDS = """
    will may mark hope faith grace joy rose rob sue pat bill drew dawn chance chase skip art
    frank grant page summer autumn april june august
"""
ALSO_WORDS = frozenset(_ALSO_WORDS.split())
"""First names, in small letters, that are words as well."""

LETTER = r"[0-9A-Za-z_\u00c0-\u052f\u1e00-\u1fff]"  # Latin, Greek, Cyrillic, or a digit
FIRST_NAME = re.compile(r"[^\W\d_]{2,}(-[^\W\d_]+)*")  # letters only: not `Joey's`, `Dr.`, `1st`


def renamed(scene: Scene, draw: random.Random) -> Scene:
    """Return the scene with other names; see the module for where a text changes.

    A scene of more people than there are names stays as it is.
    """
    taken = set(re.findall(r"\w+", " ".join(scene.names)))  # their first names may stay in texts
    free = [name for name in NAMES if name not in taken]
    if len(free) < len(scene.roles):
        return scene
    names = dict(zip(scene.names, draw.sample(free, len(scene.roles)), strict=True))
    table = said_names(names)
    longest = sorted(table, key=lambda old: -len(old))
    pattern = re.compile("|".join(map(_pattern, longest)) or r"(?!)")  # or what is nowhere

    def new(text: str) -> str:
        return pattern.sub(lambda match: table[" ".join(match[0].split())], text)

    return replace(
        scene,
        roles=tuple(Role(names[role.name], new(role.description)) for role in scene.roles),
        turns=tuple(replace(t, speaker=names[t.speaker], text=new(t.text)) for t in scene.turns),
        setting=new(scene.setting),
    )


def said_names(names: Mapping[str, str]) -> dict[str, str]:
    """Return what is replaced in a text, from a dictionary of full names.

    Example:
        >>> said_names({"Joey Tribbiani": "Ada", "The Waiter": "Levi", "a man": "Zoe"})
        {'Joey': 'Ada', 'Joey Tribbiani': 'Ada', 'The Waiter': 'Levi'}
    """
    words = {old: old.split() for old in names}
    begin = Counter(parts[0] for parts in words.values())
    said: dict[str, str] = {}
    for old, parts in words.items():
        plain = NO_NAMES.isdisjoint(part.rstrip(".").lower() for part in parts)
        if plain and begin[parts[0]] == 1 and FIRST_NAME.fullmatch(parts[0]):
            said[parts[0]] = names[old]
        said[" ".join(parts)] = names[old]
    return {old: new for old, new in said.items() if len(old) > 1 and not old[0].islower()}


def _pattern(old: str) -> str:
    """Return the pattern of a name in a text: any blanks in it, no letters around it."""
    found = r"\s+".join(map(re.escape, old.split()))
    if re.match(LETTER, old):
        found = rf"(?<!{LETTER}){found}"
    if re.match(LETTER, old[-1]):
        found = rf"{found}(?!{LETTER})"
    return rf"(?<=[\w,] ){found}" if old.rstrip(".").lower() in NO_NAMES | ALSO_WORDS else found
