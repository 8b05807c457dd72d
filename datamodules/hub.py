"""Datasets of the Hugging Face hub: `hf://owner/name@revision`, or the same data in a folder.

A folder is what `save_to_disk` of a `datasets.Dataset` or `DatasetDict` wrote, or it holds the
files of the dataset's page: Parquet, `.jsonl` or `.csv` (or gzipped), named by their split
(`train.jsonl`, `data/test-00000-of-00001.parquet`, `validation/0000.parquet`), those of a subset
in a folder of its name. Local folders never touch the network; `HF_HUB_OFFLINE=1` reads what an
earlier start downloaded, whatever branch or tag is named, but of a commit only that one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.chat_rows import read_rows
from datamodules.files import data_path
from zoo.errors import InputError

SCHEME = "hf://"
SPLIT_NAMES = {
    "train": ("train",),
    "val": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
"""What datasets call the splits, the usual name first."""

SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk leaves in a folder
FILE = re.compile(
    r"(train|validation|valid|val|dev|test|corpus|queries)([-_.]\d[\w-]*)?\.(parquet|(jsonl|csv)(\.gz)?)"
)
SHARD = re.compile(r"\d+\.parquet")  # named by its folder
ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
COMMIT = re.compile("[0-9a-f]{40}")

Row = tuple[str, str, dict[str, Any]]
"""Place for errors, name (split or file, and number), row by column."""


def is_hub(path: str, *own: str) -> bool:
    """Say whether a path is `hf://...` or a local folder in the form of the hub.

    Args:
        path: What the user wrote.
        *own: Files of the dataset's other forms; a folder with one of them is not the hub's.
    """
    if path.startswith(SCHEME):
        return True
    folder = data_path(path)
    if not folder.is_dir() or any((folder / name).is_file() for name in own):
        return False
    return bool(_saved_in(folder)) or any(_files(folder))


def rows(
    path: str, split: Sequence[str], columns: Sequence[str], subset: str | None = None
) -> Iterator[Row]:
    """Return the rows of a split; numbers of class labels are their names.

    Args:
        path: `hf://owner/name`, optional `@revision` (a branch, tag or commit), or a folder.
        split: Names that the split may have; the first one that is there is read.
        columns: The columns that the dataset's official form has and the reader needs.
        subset: The dataset's subset (its `config`), where it has several.

    Raises:
        InputError: No such dataset, split or column; says what is there.
    """
    if not path.startswith(SCHEME):
        folder = data_path(path)
        own = folder / (subset or "")
        place = own if own.is_dir() else folder
        if not _saved_in(place):
            return _file_rows(place, split, columns)
        return _table_rows(path, _saved(place), split, columns)
    return _table_rows(path, _downloaded(path, subset), split, columns)


def streamed(path: str, columns: Sequence[str]) -> Any:
    """Return the split `train` of `hf://owner/name` as an iterable dataset, read as it is needed.

    None with `HF_HUB_OFFLINE=1`: `rows` then reads what was downloaded before.

    Raises:
        InputError: No such dataset, split or column.
    """
    import datasets

    if datasets.config.HF_HUB_OFFLINE:
        return None
    splits = _loaded(path, None, streaming=True)
    split = splits[_chosen(path, SPLIT_NAMES["train"], splits)]
    if split.column_names is not None:  # known before the first row
        _check_columns(path, split.column_names, columns)
    return split


def shard_rows(path: str, split: Any, number: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a shard of what `streamed` returned.

    Raises:
        InputError: It cannot be read any further.
    """
    try:
        yield from split.shard(num_shards=split.num_shards, index=number)
    except Exception as error:  # see `_loaded`
        why = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: shard {number} cannot be read: {why}") from error


def subsets(path: str) -> list[str]:
    """Return the names of a dataset's subsets; of a folder, those of the folders in it."""
    if not path.startswith(SCHEME):
        return sorted(folder.name for folder in data_path(path).iterdir() if folder.is_dir())
    import datasets

    name, revision = _address(path)
    try:
        return sorted(datasets.get_dataset_config_names(name, revision=revision))
    except Exception as error:  # see `_loaded`
        why = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: its subsets cannot be listed: {why}") from error


def _loaded(path: str, subset: str | None, **options: bool) -> Mapping[str, Any]:
    """Return the splits of a dataset of the hub."""
    import datasets

    name, revision = _address(path)
    try:
        data: Any = datasets.load_dataset(
            name, subset, revision=revision, trust_remote_code=False, **options
        )
        return dict(data)
    except Exception as error:  # libraries below raise many kinds; all mean that it cannot be read
        why = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: cannot be read: {why}; without a network download the files of "
            f"https://huggingface.co/datasets/{name} elsewhere (or save_to_disk) and set path to "
            "their folder; of a dataset that is a script, name @refs/convert/parquet"
        ) from error


def _downloaded(path: str, subset: str | None) -> Mapping[str, Any]:
    """Return the splits of a dataset of the hub, from its cache if it is there."""
    data, (_, revision) = _loaded(path, subset), _address(path)
    cached = {
        Path(file["filename"]).parent.name for part in data.values() for file in part.cache_files
    }
    if revision and COMMIT.fullmatch(revision) and cached - {revision}:
        raise InputError(  # without a network `datasets` takes the latest one that it has
            f"{path}: the cache holds the commit {', '.join(sorted(cached))}; name that one, or "
            "start once with a network"
        )
    return data


def _address(path: str) -> tuple[str, str | None]:
    match = ADDRESS.fullmatch(path)
    if match is None:
        raise InputError(f"{path}: expected hf://owner/name or hf://owner/name@revision")
    return match[1], match[2]


def _saved_in(folder: Path) -> list[Path]:
    """Return the folder if `save_to_disk` wrote it, else those in it that it wrote."""
    saved = {
        path.parent for name in SAVED for path in (*folder.glob(name), *folder.glob(f"*/{name}"))
    }
    return [folder] if folder in saved else sorted(saved)


def _saved(folder: Path) -> Mapping[str, Any]:
    """Return the splits that `save_to_disk` wrote; a single dataset is one split."""
    import datasets

    splits: dict[str, Any] = {}
    for place in _saved_in(folder):
        try:
            data: Any = datasets.load_from_disk(str(place))
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = " ".join(str(error).split())[:200]
            raise InputError(f"{place}: not a whole save_to_disk folder: {why}") from error
        if isinstance(data, dict):
            splits |= data if place == folder else {}
        else:
            splits[str(data.split or "train") if place == folder else place.name] = data
    return splits


def _table_rows(
    path: str, tables: Mapping[str, Any], split: Sequence[str], columns: Sequence[str]
) -> Iterator[Row]:
    name = _chosen(path, split, tables)
    table = tables[name]
    _check_columns(f"{path}: {name}", table.column_names, columns)
    features = dict(table.features)
    return (
        (f"{path}: {name}[{i}]", f"{name}[{i}]", _worded(row, features))
        for i, row in enumerate(table)
    )


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield `(split, file)` of the files named by their split, in order."""
    for path in sorted(folder.rglob("*")):
        match = FILE.fullmatch(path.name)
        if match:
            yield match[1], path
        elif SHARD.fullmatch(path.name) and FILE.fullmatch(f"{path.parent.name}.parquet"):
            yield path.parent.name, path


def _file_rows(folder: Path, split: Sequence[str], columns: Sequence[str]) -> Iterator[Row]:
    by_split: dict[str, list[Path]] = {}
    for found, path in _files(folder):
        by_split.setdefault(found, []).append(path)
    name = _chosen(str(folder), split, by_split)
    folders = {file.parent for file in by_split[name]}
    if len(folders) > 1:
        listed = ", ".join(sorted(str(path.relative_to(folder)) for path in folders))
        raise InputError(f"{folder}: {name!r} lies in several folders: {listed}; name one of them")
    for file in by_split[name]:
        features = _features(file)

        def read(row: dict[str, Any], where: str, place: str, features: Any = features) -> Row:
            _check_columns(where, list(row), columns)
            return where, place, _worded(row, features)

        yield from read_rows(file, read)


def _features(file: Path) -> dict[str, Any]:
    """Return the types that `datasets` wrote into a Parquet file; none for other files."""
    if file.suffix != ".parquet":
        return {}
    import pyarrow
    from datasets import Features
    from pyarrow.parquet import read_schema

    try:
        return dict(Features.from_arrow_schema(read_schema(file)))
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file}: invalid Parquet: {str(error).splitlines()[0]}") from error


def _chosen(path: str, split: Sequence[str], there: Mapping[str, Any]) -> str:
    for name in split:
        if name in there:
            return name
    listed = ", ".join(sorted(there)) or "none"
    raise InputError(f"{path}: no split {' or '.join(split)}; it has {listed}")


def _check_columns(where: str, found: Sequence[str], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in found]
    if missing:
        raise InputError(
            f"{where}: no column {', '.join(missing)}: another form of the dataset; found "
            f"{', '.join(found)}; expected {', '.join(columns)}"
        )


def _worded(value: Any, feature: Any) -> Any:
    """Return a value with the names of its class labels for their numbers, at any depth."""
    from datasets import ClassLabel, LargeList, List

    if isinstance(feature, ClassLabel):
        known = isinstance(value, int) and 0 <= value < len(feature.names)
        return feature.names[value] if known else value
    if isinstance(feature, List | LargeList) and isinstance(value, list):
        return [_worded(item, feature.feature) for item in value]
    if isinstance(feature, dict) and isinstance(value, dict):
        return {name: _worded(item, feature.get(name)) for name, item in value.items()}
    return value
