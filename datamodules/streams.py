"""Opening files as bytes or lines: plain, gzipped, or inside a zip archive."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from zoo.errors import InputError

BUFFER = 2**18  # bytes that are read at a time


def raw_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield `(line number from 1, line without its end)`; lines of blanks alone are left out."""
    with open_bytes(path) as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise not_utf8(path, number, error, error.start) from error
            line = line.removesuffix("\n").removesuffix("\r")
            if line and not line.isspace():
                yield number, line


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, through gzip or zip where its path says so."""
    archive_path = _archive_of(path)
    try:
        if archive_path is not None:
            member = path.relative_to(archive_path).as_posix()
            with open_archive(archive_path) as archive, _opened(archive, member, path) as stream:
                yield stream
        elif path.suffix == ".gz":
            with gzip.open(path, "rb") as stream:
                yield cast(IO[bytes], stream)
        else:
            with path.open("rb", buffering=BUFFER) as stream:
                yield stream
    except EOFError as error:
        raise InputError(f"{path}: truncated: the file ends before its gzip data does") from error
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged archive: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, expected a file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def is_file(path: Path) -> bool:
    """Say whether there is such a file, in a folder or inside a zip archive."""
    archive_path = _archive_of(path)
    if archive_path is None:
        return path.is_file()
    with open_archive(archive_path) as archive:
        return path.relative_to(archive_path).as_posix() in archive.namelist()


def _archive_of(path: Path) -> Path | None:
    """Return the zip archive that a path points into; None for none."""
    archive_path = next((parent for parent in path.parents if parent.suffix == ".zip"), None)
    return archive_path if archive_path is not None and archive_path.is_file() else None


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: not a folder and not a zip archive") from error
    with archive:
        yield archive


def visible_members(path: Path) -> list[str]:
    """Return the names of the files in a zip archive, in order, without hidden ones."""
    with open_archive(path) as archive:
        names = sorted(archive.namelist())
    return [name for name in names if not name.endswith("/") and not hidden(name)]


def hidden(path: str | Path) -> bool:
    """Say whether a path below a data folder is one that tools leave behind.

    That is anything that begins with a dot (`.ipynb_checkpoints`, `._a.txt`), or in `__MACOSX`.
    """
    return any(part.startswith(".") or part == "__MACOSX" for part in Path(path).parts)


def _opened(archive: zipfile.ZipFile, member: str, path: Path) -> IO[bytes]:
    """Open a member of an archive; `path` names it in errors."""
    if member not in archive.namelist():
        raise InputError(f"{path}: {Path(str(archive.filename)).name} has no member {member}")
    try:
        return archive.open(member)
    except RuntimeError as error:  # encrypted, or packed in a way that Python does not know
        raise InputError(f"{path}: cannot be unpacked: {error}") from error


def not_utf8(path: Path, number: int, error: UnicodeDecodeError, column: int) -> InputError:
    """Return the error for bytes that are no UTF-8; `column` counts bytes of the line from 0."""
    byte = error.object[error.start]
    return InputError(f"{path}:{number}: not UTF-8: byte 0x{byte:02x} at byte {column + 1}")
