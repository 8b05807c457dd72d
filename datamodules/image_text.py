"""Image-text pairs of your own, or of Flickr30k, COCO and webdataset collections.

What lies at `path` says which form is read:

- Without `annotations`, webdataset: a `.tar`, or a folder or glob of them. A name up to its first
  dot is the sample: `000.jpg` (or `.jpeg`, `.png`, `.webp`) is the picture, `000.txt` its caption;
  without `.txt` the key `caption` of `000.json` is. Other members of a sample are not read. Tars
  must be uncompressed, since a record holds where in the tar a picture's bytes lie.
- With `annotations`, a folder of pictures (at any depth) and a Flickr30k token file, Karpathy's
  JSON, COCO captions JSON, or JSONL; `datamodules/caption_files.py` shows them.

Karpathy's JSON and a JSONL file with `split` name the splits (`restval` is trained on). Else a hash
of the picture's file name (with a tar's: its name and the sample's) decides, so that a picture
keeps its split when others are added, and never is in two.

Every picture must have a caption and every caption a picture. A picture that Karpathy's JSON or a
JSONL file does not name is left out: Flickr30k has 31,783 pictures, its Karpathy split 31,014.

All of it is checked when the first split is read; no picture is decoded.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.base import SPLITS, ZooDataModule
from datamodules.caption_files import Captions, read_entries
from datamodules.files import SAMPLES, data_path
from datamodules.picture_files import UNDERSTOOD, is_picture, split_of
from datamodules.streams import hidden
from datamodules.webdataset import find_tars, read_shards
from zoo.errors import InputError
from zoo.records import Media, MediaText, Record


class ImageText(ZooDataModule):
    """Pictures with captions, or with questions and answers, as `MediaText` records.

    Args:
        path: A `.tar`, a folder or glob of them, or a folder of pictures. None reads eight small
            drawings that come with the package, the same for every split.
        annotations: File with the captions of a folder of pictures; a tar holds its own.
        val_share: Share of the pictures for validation where the files name no splits.
        test_share: The same for the test split.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (MediaText,)

    def __init__(
        self,
        path: str | None = None,
        annotations: str | None = None,
        *,
        val_share: float = 0.1,
        test_share: float = 0.1,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.path, self.annotations = path, annotations
        self.shares = {"val": val_share, "test": test_share}
        for name, share in self.shares.items():
            if not 0 <= share < 1:
                raise InputError(f"{name}_share is {share}; it must be at least 0 and below 1")
        if val_share + test_share >= 1:
            raise InputError(
                f"val_share {val_share} and test_share {test_share} leave nothing to train on"
            )
        if path is None and annotations is not None:
            raise InputError("annotations without path: set path to the folder of pictures")
        self._parts: dict[str, list[Record]] = {}

    def load(self, split: str) -> list[Record]:
        """Read all records at the first call, and return those of a split."""
        if self.path is None:
            return [record for _, record in read_shards([SAMPLES / "image_text.tar"])]
        if not self._parts:
            self._parts = self._read(self.path)
        if not self._parts[split]:
            count = sum(len(part) for part in self._parts.values())
            share = f" ({split}_share is {self.shares[split]})" if split in self.shares else ""
            raise InputError(f"{self.path}: none of {count} records is in {split!r}{share}")
        return self._parts[split]

    def _read(self, path: str) -> dict[str, list[Record]]:
        parts: dict[str, list[Record]] = {name: [] for name in SPLITS}
        if self.annotations is None:
            for key, record in read_shards(find_tars(path)):
                parts[self._split(key)].append(record)
        else:
            for entry, record in read_folder(data_path(path), data_path(self.annotations)):
                name = entry.split or self._split(Path(record.media.name).name)
                parts[name].append(record)
        return parts

    def _split(self, key: str) -> str:
        return split_of(key, self.shares["val"], self.shares["test"])


def read_folder(folder: Path, annotations: Path) -> Iterator[tuple[Captions, MediaText]]:
    """Yield each entry of an annotation file with the record of it and its picture.

    Raises:
        InputError: A picture is missing, empty, in two splits, or without the caption that this
            form of annotations promises.
    """
    sizes = _pictures(folder)
    entries, complete = read_entries(annotations)
    seen: dict[str, Captions] = {}
    records = []
    for entry in entries:
        name = _locate(entry, folder, sizes)
        before = seen.setdefault(name, entry)
        if before.split != entry.split:
            raise InputError(
                f"{entry.where}: {name} is in {entry.split!r}, but in {before.split!r} at "
                f"{before.where}"
            )
        media = Media(name=name, path=str(folder / name))
        records.append((entry, _record(entry, media)))
    missing = [name for name in sizes if name not in seen]
    if complete and missing:
        raise InputError(
            f"{annotations}: no caption for {len(missing)} of {len(sizes)} pictures in {folder}, "
            f"the first is {missing[0]}"
        )
    yield from records


def _record(entry: Captions, media: Media) -> MediaText:
    """Return the record; the captions of one picture are one group."""
    return MediaText(
        media,
        entry.texts,
        question=entry.question,
        group=media.name,
        id=entry.id or media.name,
    )


def _pictures(folder: Path) -> dict[str, int]:
    """Return `{path in the folder: bytes}` of all pictures that are not hidden, sorted."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {what}; annotations go with a folder of pictures")
    found = {}
    for place, _, names in os.walk(folder, followlinks=True):
        for name in filter(is_picture, names):
            path = Path(place, name)
            inside = path.relative_to(folder)
            if path.is_file() and not hidden(inside):
                found[inside.as_posix()] = path.stat().st_size
    if not found:
        raise InputError(f"{folder}: holds no picture; {UNDERSTOOD}")
    return dict(sorted(found.items()))


def _locate(entry: Captions, folder: Path, sizes: dict[str, int]) -> str:
    """Return where in the folder the picture of an entry lies."""
    for written in entry.names:
        name = os.path.normpath(written).replace(os.sep, "/")
        if name in sizes:
            if not sizes[name]:
                raise InputError(f"{entry.where}: {folder / name} is a picture of zero bytes")
            return name
    wanted = entry.names[0]
    if not is_picture(wanted):
        raise InputError(f"{entry.where}: {wanted!r} is not understood; {UNDERSTOOD}")
    close = difflib.get_close_matches(wanted, sizes, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"it holds {next(iter(sizes))!r}, ..."
    raise InputError(
        f"{entry.where}: the picture {wanted!r} is not in {folder} ({len(sizes)} pictures); {hint}"
    )
