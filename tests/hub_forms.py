"""Datasets in their official form on the Hugging Face hub, made from the samples."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets

import datamodules
from datamodules import daily_dialog as daily_dialog_module
from datamodules.files import SAMPLES

SPLITS = ("train", "val", "test")
FORMS = ("saved", "parquet", "jsonl")


@dataclass(frozen=True)
class Case:
    """A dataset in its official form on the hub.

    Attributes:
        module: Name of the data module.
        tables: Columns by the hub's split, with the content of the sample.
        features: Types of columns that are not plain; their numbers are class labels.
        subset: The hub's subset (config).
        arguments: Of the data module.
        files: Writes the authors' files of the same content; None compares with the sample.
    """

    module: str
    tables: Callable[[], dict[str, dict[str, list[Any]]]]
    missing: str
    features: dict[str, Any] | None = None
    subset: str = ""
    arguments: dict[str, Any] | None = None
    files: Callable[[Path], None] | None = None


def columns(items: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [item[name] for item in items] for name in items[0]}


def esconv() -> dict[str, Any]:
    """One JSON dialogue a row."""
    items = json.loads((SAMPLES / "esconv.json").read_text(encoding="utf-8"))
    table = {"text": [json.dumps(item) for item in items]}
    return {"train": table, "validation": table, "test": table}


def commonsense_qa() -> dict[str, Any]:
    """Twenty questions to train, two of dev; the answers of test are empty."""
    items = [
        {
            "id": f"q{i}",
            "question": f"Where do {i} gulls sleep?",
            "question_concept": "gull",
            "choices": {"label": list("ABCDE"), "text": [f"{spot} {i}" for spot in SPOTS]},
            "answerKey": "ABCDE"[i % 5],
        }
        for i in range(22)
    ]
    unanswered = [{**item, "answerKey": ""} for item in items]
    tables = {"train": items[:20], "validation": items[20:], "test": unanswered}
    return {split: columns(rows) for split, rows in tables.items()}


def commonsense_qa_files(folder: Path) -> None:
    for split, name in (("train", "train"), ("validation", "dev")):
        table = commonsense_qa()[split]
        with (folder / f"{name}_rand_split.jsonl").open("w") as stream:
            for name_, stem, choices, key in zip(
                *(table[k] for k in ("id", "question", "choices", "answerKey")), strict=True
            ):
                listed = [
                    {"label": label, "text": text}
                    for label, text in zip(choices["label"], choices["text"], strict=True)
                ]
                question = {"stem": stem, "choices": listed}
                item = {"id": name_, "answerKey": key, "question": question}
                stream.write(json.dumps(item) + "\n")


SPOTS = ("on the roof", "in the bay", "under the pier", "on a mast", "in the reeds")


def truthful_qa() -> dict[str, Any]:
    items = [
        {
            "type": "Adversarial",
            "category": "Birds" if i % 2 else "Boats",
            "question": f"What happens to boat {i} at low tide?",
            "best_answer": f"It lies on the sand, {i} hours",
            "correct_answers": ["It lies on the sand", "Nothing"],
            "incorrect_answers": [f"It sinks {k}" for k in range(1 + i % 3)],
            "source": "https://example.org",
        }
        for i in range(20)
    ]
    return {"validation": columns(items)}


def truthful_qa_file(folder: Path) -> None:
    data = truthful_qa()["validation"]
    head = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source"
    with (folder / "TruthfulQA.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(head.split(","))
        for cells in zip(*data.values(), strict=True):
            writer.writerow("; ".join(c) if isinstance(c, list) else c for c in cells)


def aqua() -> dict[str, Any]:
    lines = (SAMPLES / "aqua.json").read_text(encoding="utf-8").splitlines()
    table = columns([json.loads(line) for line in lines])
    return {"train": table, "validation": table, "test": table}


def dbpedia() -> dict[str, Any]:
    with (SAMPLES / "dbpedia.csv").open(newline="", encoding="utf-8") as stream:
        table = columns(list(csv.DictReader(stream)))
    return {"train": table, "validation": table, "test": table}


def mmlu() -> dict[str, Any]:
    """The sample with its subjects in another order, and a split that is not read."""
    tables: dict[str, Any] = {}
    for split, end in (("dev", "dev"), ("validation", "val"), ("test", "test")):
        items = []
        for subject in ("river_maps", "garden_tools"):
            with zipfile.ZipFile(SAMPLES / "mmlu.zip") as archive:
                text = archive.read(f"data/{end}/{subject}_{end}.csv").decode()
            items += [
                {
                    "question": question,
                    "subject": subject,
                    "choices": options,
                    "answer": "ABCD".index(letter),
                }
                for question, *options, letter in csv.reader(io.StringIO(text))
            ]
        tables[split] = columns(items)
    tables["auxiliary_train"] = tables["test"]
    return tables


def clinc150() -> dict[str, Any]:
    """The sample, its out-of-scope queries first."""
    data = json.loads((SAMPLES / "clinc150.json").read_text(encoding="utf-8"))
    tables = {}
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        pairs = [*data[f"oos_{split}"], *data[split]]
        numbers = [INTENTS.index(intent) for _, intent in pairs]
        tables[name] = {"text": [text for text, _ in pairs], "intent": numbers}
    return tables


INTENTS = sorted(
    {
        intent
        for pairs in json.loads((SAMPLES / "clinc150.json").read_text(encoding="utf-8")).values()
        for _, intent in pairs
    }
)
CLINC150 = {
    "domains": str(SAMPLES / "clinc150_domains.json"),
    "variant": "oos_plus",
    "out_of_scope": True,
}


def daily_dialog() -> dict[str, Any]:
    texts, *numbers = (
        (SAMPLES / f"dailydialog{part}.txt").read_text(encoding="utf-8").splitlines()
        for part in ("", "_act", "_emotion")
    )
    acts, emotions = ([[int(n) for n in line.split()] for line in lines] for lines in numbers)
    dialogs = [line.split("__eou__")[:-1] for line in texts]
    table = {"dialog": dialogs, "act": acts, "emotion": emotions}
    return {"train": table, "validation": table, "test": table}


ACTS = datasets.List(datasets.ClassLabel(names=["__dummy__", *daily_dialog_module.ACTS]))
EMOTIONS = datasets.List(datasets.ClassLabel(names=list(daily_dialog_module.EMOTIONS)))


def empathetic_dialogues() -> dict[str, Any]:
    with (SAMPLES / "empathetic_dialogues.csv").open(encoding="utf-8") as stream:
        items = list(csv.DictReader(stream))
    table = columns([{**item, "utterance_idx": int(item["utterance_idx"])} for item in items])
    return {"train": table, "validation": table, "test": table}


def msmarco() -> dict[str, Any]:
    lines = (SAMPLES / "msmarco_triples.tsv").read_text(encoding="utf-8").splitlines()
    lines += [f"query {i}\tright {i}\twrong {i}" for i in range(20)]
    items = [line.split("\t") for line in lines]
    return {"train": {n: [row[i] for row in items] for i, n in enumerate(TRIPLE)}}


def msmarco_file(folder: Path) -> None:
    rows = zip(*msmarco()["train"].values(), strict=True)
    (folder / "triples.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))


TRIPLE = ("query", "positive", "negative")
CASES = [
    Case("MSMARCOTriples", msmarco, "negative", subset="triplet", files=msmarco_file),
    Case(
        "CLINC150",
        clinc150,
        "intent",
        {"intent": datasets.ClassLabel(names=INTENTS)},
        "plus",
        CLINC150,
    ),
    Case("DailyDialog", daily_dialog, "emotion", {"act": ACTS, "emotion": EMOTIONS}),
    Case("EmpatheticDialogues", empathetic_dialogues, "context"),
    Case("DBpedia", dbpedia, "l3"),
    Case("MMLU", mmlu, "subject", {"answer": datasets.ClassLabel(names=list("ABCD"))}, "all"),
    Case("ESConv", esconv, "text"),
    Case("CommonsenseQA", commonsense_qa, "answerKey", files=commonsense_qa_files),
    Case("TruthfulQA", truthful_qa, "category", subset="generation", files=truthful_qa_file),
    Case("AQuA", aqua, "rationale", subset="raw"),
]
NAMES = [case.module for case in CASES]


def written(case: Case, table: dict[str, list[Any]], form: str) -> datasets.Dataset:
    """Return a table with its types; JSON lines have none, and names for class labels."""
    labels = case.features or {}
    if form == "jsonl":
        kinds = {n: kind for n, kind in labels.items() if isinstance(kind, datasets.ClassLabel)}
        named = {name: [kind.names[i] for i in table[name]] for name, kind in kinds.items()}
        return datasets.Dataset.from_dict({**table, **named})
    data = datasets.Dataset.from_dict(table)
    for name, feature in labels.items():
        data = data.cast_column(name, feature)
    return data


def write(folder: Path, case: Case, form: str) -> None:
    """Write the official form of a dataset as a folder."""
    tables = {split: written(case, table, form) for split, table in case.tables().items()}
    place = folder / case.subset
    place.mkdir(parents=True, exist_ok=True)
    if form == "saved":
        datasets.DatasetDict(tables).save_to_disk(str(place))
    for split, data in tables.items():
        if form == "parquet":
            data.to_parquet(place / f"{split}-00000-of-00001.parquet")
        elif form == "jsonl":
            data.to_json(place / f"{split}-0.jsonl")


def records(case: Case, path: Path | None) -> dict[str, list[Any]]:
    """Return the records of all splits without their places."""
    arguments = case.arguments or {}
    data = getattr(datamodules, case.module)(path and str(path), **arguments)
    return {split: [replace(item, id="") for item in data.records(split)] for split in SPLITS}
