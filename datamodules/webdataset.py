"""Webdataset shards: tars whose members of one name are a sample (`000.jpg`, `000.txt`)."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from datamodules.files import data_path, text_field
from datamodules.json_files import parse_object
from datamodules.picture_files import SUFFIXES, UNDERSTOOD, is_picture, tar_members
from datamodules.streams import hidden
from zoo.errors import InputError
from zoo.records import Media, MediaText

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Taken for tars by name; the packed ones so that the error says what is wrong with them."""

FORMS = "a .tar, a folder or glob of .tar files, or a folder of pictures with annotations"


def find_tars(path: str) -> list[Path]:
    """Return the tars that a path means, in the order of their names.

    Args:
        path: A tar, a folder with tars, or a glob.

    Raises:
        InputError: Nothing is there, or something that is no tar.
    """
    place = data_path(path)
    if place.is_dir():
        return _tars_of(place)
    if place.exists():
        found = [place]
    elif glob.has_magic(path):
        found = [Path(name) for name in sorted(glob.glob(str(place), recursive=True))]
        if not found:
            raise InputError(f"{place}: no file matches")
    else:
        raise InputError(f"{place}: no such file or folder")
    for file in found:
        if not file.name.lower().endswith(TARS) or file.is_dir():
            raise InputError(f"{file}: not a .tar; understood are {FORMS}")
    return found


def read_shards(paths: Sequence[Path]) -> Iterator[tuple[str, MediaText]]:
    """Yield `(tar's name and sample, record)` of each sample.

    Raises:
        InputError: A tar is damaged, or a sample has no picture, two, or no caption.
    """
    root = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    for path in paths:
        shown = path.absolute().relative_to(root).as_posix()
        samples = _samples(path)
        if not samples:
            raise InputError(f"{path}: the tar holds no samples such as 000.jpg with 000.txt")
        for key, members in samples.items():
            picture = _picture(path, key, members)
            record = MediaText(picture, (_caption(path, key, members),), id=f"{shown}:{key}")
            yield f"{path.name}:{key}", record


def _tars_of(folder: Path) -> list[Path]:
    names = sorted(name for name in os.listdir(folder) if not hidden(name))
    found = [folder / name for name in names if name.lower().endswith(TARS)]
    if found:
        return found
    if not names:
        raise InputError(f"{folder}: the folder is empty")
    for _, _, files in os.walk(folder):
        if any(is_picture(name) for name in files):
            raise InputError(
                f"{folder}: a folder of pictures needs captions; set annotations to their file"
            )
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    raise InputError(f"{folder}: holds {listed}; understood are {FORMS}")


def _samples(path: Path) -> dict[str, dict[str, Media]]:
    """Return `{sample: {ending: member}}`, cut at the first dot as webdataset does."""
    samples: dict[str, dict[str, Media]] = {}
    for name, member in tar_members(path).items():
        stem, dot, ending = PurePosixPath(name).name.partition(".")
        if stem and dot:
            key = name[: len(name) - len(ending) - 1]
            samples.setdefault(key, {})[f".{ending.lower()}"] = member
    return samples


def _picture(path: Path, key: str, members: dict[str, Media]) -> Media:
    found = [ending for ending in members if ending in SUFFIXES]
    if len(found) > 1:
        raise InputError(f"{path}: {key} has two pictures: {', '.join(found)}")
    if not found:
        kind = "a caption" if {".txt", ".json"} & set(members) else "members"
        raise InputError(
            f"{path}: {key} has {kind} but no picture: it holds {', '.join(members)}; {UNDERSTOOD}"
        )
    picture = members[found[0]]
    if not picture.size:
        raise InputError(f"{path}: {key}{found[0]} is a picture of zero bytes")
    return picture


def _caption(path: Path, key: str, members: dict[str, Media]) -> str:
    if ".txt" in members:
        text = _text(path, f"{key}.txt", members[".txt"]).strip()
        if not text:
            raise InputError(f"{path}: {key}.txt: the caption is empty")
        return text
    if ".json" not in members:
        raise InputError(
            f"{path}: {key} has a picture but no caption: neither {key}.txt nor {key}.json is there"
        )
    where = f"{path}: {key}.json"
    value = parse_object(_text(path, f"{key}.json", members[".json"]), where)
    return text_field(value, "caption", where)


def _text(path: Path, name: str, member: Media) -> str:
    if not member.size:
        return ""
    try:
        return member.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise InputError(f"{path}: {name}: not UTF-8: byte 0x{byte:02x}") from error
