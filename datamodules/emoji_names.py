"""Emoji and their names: 1,911 small pictures with a text, from npm's emoji-datasource-twitter.

Read are `emoji.json` (or `emoji.json.gz`) and `img_twitter_64.tar`, the package's folder
`img/twitter/64` of 64x64 PNG as a tar.

The text is the file's `name` in lower case: `grinning face`, `clock face two-thirty`,
`france flag`. These are the Unicode names (hence `black` for filled and `white` for outlined
signs). The alternative, `short_name`, holds abbreviations: `x`, `cow2`, `de`, `feet` for paw
prints. With skin tones the text is, for example, `raised hand, medium-dark skin tone`, or
`handshake, light skin tone and dark skin tone`; that adds 1,875 pictures.

Odd entries of version 16.0.0:

- Two emoji are named `man in tuxedo`; by its short name one of them is the person in tuxedo.
- 43 names share 10 pictures, byte for byte: 13 flags (France, Clipperton Island, St. Martin) and 30
  families, which Twitter draws as the same four silhouettes. Another pair has a skin tone.

Emoji with the same text or the same picture are one `group`, so they never are each other's
negatives, and are in one split with all their skin tones: a hash of the (first) name decides, about
80 / 10 / 10 percent. An emoji is in the same split with and without skin tones.

Records in version 16.0.0: 1,503 / 185 / 223; with skin tones 2,963 / 405 / 418.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, field, find, text_field
from datamodules.json_files import read_objects
from datamodules.picture_files import split_of, tar_members
from zoo.errors import InputError, nearest
from zoo.records import Media, MediaText, Record

PICTURES = "img_twitter_64.tar"
HELD = 0.1
"""Share of the names in validation, and in test."""

TONES = {
    "1F3FB": "light skin tone",
    "1F3FC": "medium-light skin tone",
    "1F3FD": "medium skin tone",
    "1F3FE": "medium-dark skin tone",
    "1F3FF": "dark skin tone",
}


@dataclass(frozen=True, slots=True)
class Emoji:
    """One picture: the emoji's name in lower case, its text, and where the picture lies."""

    name: str
    text: str
    media: Media
    id: str


class EmojiNames(ZooDataModule):
    """Emoji with their names as `MediaText` records.

    Args:
        path: Folder with `emoji.json(.gz)` and `img_twitter_64.tar`. None reads six drawings that
            come with the package, the same for every split.
        skin_tones: Also read the variants with a skin tone.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (MediaText,)

    def __init__(self, path: str | None = None, *, skin_tones: bool = False, **loader: Any) -> None:
        super().__init__(**loader)
        self.path, self.skin_tones = path, skin_tones
        self._found: list[tuple[str, Record]] = []

    def load(self, split: str) -> list[Record]:
        """Read all emoji at the first call, and return those of a split."""
        if not self._found:
            self._found = self._read(data_path(self.path) if self.path is not None else SAMPLES)
        return [record for place, record in self._found if self.path is None or place == split]

    def _read(self, folder: Path) -> list[tuple[str, Record]]:
        emoji = list(read_emoji(folder))
        digests = [hashlib.sha256(one.media.read()).hexdigest() for one in emoji]
        groups = joined([(f"text {e.text}", d) for e, d in zip(emoji, digests, strict=True)])
        homes = joined([(f"name {e.name}", d) for e, d in zip(emoji, digests, strict=True)])
        found: list[tuple[str, Record]] = []
        for one, group, home in zip(emoji, groups, homes, strict=True):
            if self.skin_tones or one.text == one.name:
                record = MediaText(one.media, (one.text,), group=emoji[group].text, id=one.id)
                found.append((split_of(emoji[home].name, HELD, HELD), record))
        return found


def read_emoji(folder: Path) -> Iterator[Emoji]:
    """Yield all emoji in the order of the file, each before its skin tones.

    Raises:
        InputError: A file is missing or damaged, or an emoji has no name or no picture.
    """
    table = find(folder, "emoji.json", "emoji.json.gz")
    tar = find(folder, PICTURES)
    members = _members(tar)
    for index, (place, item) in enumerate(read_objects(table)):
        where = f"{table}:{place}: [{index}]"
        text = text_field(item, "name", where).lower()
        if _drawn(item, where):
            media = _picture(item, members, tar, where)
            yield Emoji(text, text, media, f"{table.name}:{item['image']}")
        variations = field(item, "skin_variations", dict, where) if _toned(item) else {}
        for tone in variations:
            variant = field(variations, tone, dict, f"{where}.skin_variations")
            place = f"{where}.skin_variations.{tone}"
            if _drawn(variant, place):
                media = _picture(variant, members, tar, place)
                said = f"{text}, {_tone(tone, place)}"
                yield Emoji(text, said, media, f"{table.name}:{variant['image']}")


def joined(keys: Sequence[tuple[str, ...]]) -> list[int]:
    """Return for each item the first of those that it shares a key with, over any number of links.

    Args:
        keys: The keys of each item.
    """
    first = list(range(len(keys)))

    def root(item: int) -> int:
        while first[item] != item:
            item = first[item]
        return item

    holder: dict[str, int] = {}
    for item, names in enumerate(keys):
        for name in names:
            one, other = root(holder.setdefault(name, item)), root(item)
            first[max(one, other)] = min(one, other)
    return [root(item) for item in range(len(keys))]


def _members(tar: Path) -> dict[str, Media]:
    """Return the pictures of the tar by their names without folder."""
    members: dict[str, Media] = {}
    for path, media in tar_members(tar).items():
        name = PurePosixPath(path).name
        if name in members:
            raise InputError(f"{tar}: {path} and {members[name].name} have one name; keep one set")
        members[name] = media
    return members


def _toned(item: dict[str, Any]) -> bool:
    return item.get("skin_variations") is not None


def _drawn(item: dict[str, Any], where: str) -> bool:
    """Return whether this set of pictures has the emoji."""
    return field(item, "has_img_twitter", bool, where)


def _picture(item: dict[str, Any], members: dict[str, Media], tar: Path, where: str) -> Media:
    name = text_field(item, "image", where)
    if name not in members:
        raise InputError(f"{where}: the picture {name} is not in {tar}")
    if not members[name].size:
        raise InputError(f"{where}: {name} in {tar} is a picture of zero bytes")
    return members[name]


def _tone(code: str, where: str) -> str:
    parts = code.split("-")
    for part in parts:
        if part not in TONES:
            raise InputError(f"{where}: unknown skin tone {part!r}; {nearest(part, TONES)}")
    return " and ".join(dict.fromkeys(TONES[part] for part in parts))
