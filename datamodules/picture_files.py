"""What the picture data modules share: which files are pictures, tars, and splits by hash.

No picture is opened here. A picture in a tar is a `Media` with the place of its bytes, so a tar
must not be compressed.
"""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from datamodules.streams import hidden
from zoo.errors import InputError
from zoo.records import Media

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""How the name of a picture ends, in either case."""

UNDERSTOOD = f"a picture ends in {', '.join(SUFFIXES)}"

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_CHUNK = 1 << 20


def is_picture(name: str) -> bool:
    """Return whether a file of this name is taken for a picture."""
    return name.lower().endswith(SUFFIXES)


def split_of(name: str, val_share: float, test_share: float) -> str:
    """Return the split of a name: the same on every machine, whatever other names there are."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    if point < test_share:
        return "test"
    return "val" if point < test_share + val_share else "train"


def tar_members(path: Path) -> dict[str, Media]:
    """Return the files of an uncompressed tar by name, in its order, without hidden ones.

    Raises:
        InputError: The tar is missing, compressed, damaged or cut off, or holds a name twice.
    """
    members: dict[str, Media] = {}
    for info in _infos(path):
        name = info.name.removeprefix("./")
        if info.isdir() or hidden(name):
            continue
        if not info.isreg() or info.issparse():
            raise InputError(f"{path}: {name} is a link or a sparse file; put the file itself in")
        if name in members:
            raise InputError(f"{path}: {name} is there twice")
        members[name] = Media(
            name=f"{path.name}: {name}", path=str(path), offset=info.offset_data, size=info.size
        )
    return members


def _infos(path: Path) -> list[tarfile.TarInfo]:
    try:
        with path.open("rb") as file:
            head = file.read(8)
            _refuse_packed(path, head)
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                infos = list(tar)
                end = tar.offset
            file.seek(end)
            _check_end(path, file.read(tarfile.BLOCKSIZE), end)
            while rest := file.read(_CHUNK):
                _check_end(path, rest, end)
    except tarfile.TarError as error:
        raise InputError(f"{path}: damaged tar: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return infos


def _refuse_packed(path: Path, head: bytes) -> None:
    if not head:
        raise InputError(f"{path}: the file is empty")
    for magic, name in _PACKED.items():
        if head.startswith(magic):
            raise InputError(
                f"{path}: is compressed ({name}); unpack it to a plain .tar, in which pictures "
                "are read where they lie"
            )


def _check_end(path: Path, block: bytes, end: int) -> None:
    """Raise unless a tar ends in zeros; `tarfile` takes any broken header for the end."""
    if not block:
        raise InputError(f"{path}: damaged tar: cut off at byte {end}, its end mark is missing")
    if block.count(0) != len(block):
        raise InputError(
            f"{path}: damaged tar: no member header at byte {end} and no end either (two tars in "
            "one file are not read)"
        )
