"""Annotation files of a folder of pictures: four published forms, told apart by suffix and keys.

- Flickr30k tokens (`results_20130124.token`): `name.jpg#0`, a tab, a caption; `.token` or `.txt`.
- Karpathy's JSON (`dataset_flickr30k.json`, `dataset_coco.json`): `images[]` with `filename`,
  `filepath` (optional), `split` and `sentences[].raw`.
- COCO captions JSON: `images[]` with `id` and `file_name`, `annotations[]` with `image_id` and
  `caption`.
- JSONL: a line holds `image`, `text` (a string) or `texts` (a list), and may hold `question` and
  `split`. Another field is an error.

Each may be gzipped (`.gz`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.files import field, objects, read_lines, text_field
from datamodules.json_files import read_json_object, read_objects
from zoo.errors import InputError, nearest

UNDERSTOOD = (
    "annotations are a Flickr30k token file (.token, .txt), Karpathy's or COCO's JSON (.json), or "
    "JSONL (.jsonl)"
)
SPLIT_NAMES = {"train": "train", "restval": "train", "val": "val", "test": "test"}
FIELDS = ("image", "text", "texts", "question", "split")


@dataclass(frozen=True, slots=True)
class Captions:
    """The texts of one picture.

    Attributes:
        names: Where the picture may lie in the folder, the preferred place first.
        texts: Its captions, or the answers to `question`.
        where: File and place, for errors.
        split: The split that the file names, else empty.
        question: The question, else empty.
        id: Name of the entry if a picture may have several, else empty.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    where: str
    split: str = ""
    question: str = ""
    id: str = ""


def read_entries(path: Path) -> tuple[list[Captions], bool]:
    """Return the entries of an annotation file, and whether it is meant to name every picture.

    Token files and COCO captions list a whole folder. Karpathy's JSON leaves out 769 pictures of
    Flickr30k, and a JSONL file may be any selection.

    Raises:
        InputError: The form is not understood, or a line or key is wrong.
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix in (".token", ".txt"):
        return list(_tokens(path)), True
    if suffix == ".jsonl":
        return list(_lines(path)), False
    if suffix != ".json":
        raise InputError(f"{path}: unknown annotation format {suffix!r}; {UNDERSTOOD}")
    root = read_json_object(path)
    if "annotations" in root:
        return list(_coco(root, path)), True
    return list(_karpathy(root, path)), False


def _tokens(path: Path) -> Iterator[Captions]:
    texts: dict[str, list[str]] = {}
    first: dict[str, int] = {}
    for number, line in read_lines(path):
        mark, tab, text = line.partition("\t")
        name, _, index = mark.rpartition("#")
        if not tab or not name or not index.isdigit():
            raise InputError(
                f"{path}:{number}: expected 'name.jpg#0', a tab and a caption, found {line[:60]!r}"
            )
        if not text.strip():
            raise InputError(f"{path}:{number}: the caption of {mark} is empty")
        first.setdefault(name, number)
        texts.setdefault(name, []).append(text.strip())
    for name, found in texts.items():
        yield Captions((name,), tuple(found), f"{path}:{first[name]}")


def _lines(path: Path) -> Iterator[Captions]:
    with_split: bool | None = None
    for place, item in read_objects(path):
        where = f"{path}:{place}"
        for name in item:
            if name not in FIELDS:
                raise InputError(f"{where}: unknown field {name!r}; {nearest(name, FIELDS)}")
        if with_split is None:
            with_split = "split" in item
        elif with_split != ("split" in item):
            raise InputError(f"{where}: field 'split' must be on every line or on none")
        yield Captions(
            names=(text_field(item, "image", where),),
            texts=_texts(item, where),
            where=where,
            split=_split(item, where) if with_split else "",
            question=text_field(item, "question", where) if "question" in item else "",
            id=f"{path.name}:{place}",
        )


def _texts(item: dict[str, Any], where: str) -> tuple[str, ...]:
    """Return `text` or `texts` of a JSONL line, whichever is there."""
    if "texts" not in item:
        return (text_field(item, "text", where),)
    if "text" in item:
        raise InputError(f"{where}: has both 'text' and 'texts'; keep one")
    texts = field(item, "texts", list, where)
    if not texts:
        raise InputError(f"{where}: {item['image']} has no caption: 'texts' is an empty list")
    numbered = {f"texts[{i}]": text for i, text in enumerate(texts)}
    return tuple(text_field(numbered, name, where) for name in numbered)


def _karpathy(root: dict[str, Any], path: Path) -> Iterator[Captions]:
    if "images" not in root:
        raise InputError(
            f"{path}: neither Karpathy's JSON (images[].sentences) nor COCO captions (images, "
            f"annotations); its keys: {', '.join(root) or 'none'}"
        )
    for where, image in objects(root, "images", str(path)):
        name = text_field(image, "filename", where)
        folder = field(image, "filepath", str, where) if "filepath" in image else ""
        texts = tuple(
            text_field(sentence, "raw", place)
            for place, sentence in objects(image, "sentences", where)
        )
        if not texts:
            raise InputError(f"{where}: {name} has no caption: 'sentences' is an empty list")
        names = (f"{folder}/{name}", name) if folder else (name,)
        yield Captions(names, texts, where, split=_split(image, where))


def _coco(root: dict[str, Any], path: Path) -> Iterator[Captions]:
    names: dict[int, tuple[str, str]] = {}
    for where, image in objects(root, "images", str(path)):
        number = field(image, "id", int, where)
        if number in names:
            raise InputError(f"{where}: the id {number} is there twice")
        names[number] = (text_field(image, "file_name", where), where)
    texts: dict[int, list[str]] = {number: [] for number in names}
    for where, item in objects(root, "annotations", str(path)):
        number = field(item, "image_id", int, where)
        if number not in texts:
            raise InputError(f"{where}: 'image_id' is {number}, but no entry of 'images' has it")
        texts[number].append(text_field(item, "caption", where))
    for number, (name, where) in names.items():
        if not texts[number]:
            raise InputError(f"{where}: {name} has no caption: no annotation has image_id {number}")
        yield Captions((name,), tuple(texts[number]), where)


def _split(item: dict[str, Any], where: str) -> str:
    name = text_field(item, "split", where)
    if name not in SPLIT_NAMES:
        raise InputError(f"{where}: field 'split' is {name!r}; {nearest(name, SPLIT_NAMES)}")
    return SPLIT_NAMES[name]
