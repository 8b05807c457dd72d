"""BigToM scenarios."""

from collections import Counter

import pytest

from datamodules import BigToM
from datamodules.bigtom import read_rows
from datamodules.files import SAMPLES

SPLITS = ("train", "val", "test")


def options(query: str) -> dict[str, str]:
    return {line[0]: line[3:] for line in query.split("\n")[-2:]}


def test_sample():
    data = BigToM()
    records = data.records("train")
    assert data.records("test") == records
    assert [r.kind for r in records] == ["true_belief", "false_belief"] * 4
    true, false = records[:2]
    assert (true.id, false.id) == ("bigtom.csv:1 true_belief", "bigtom.csv:1 false_belief")
    assert true.answer == "Ines believes the tires of the red bicycle are flat."
    assert false.answer == "Ines believes the tires of the red bicycle are firm."
    assert "Ines does not see the tires of the red bicycle." in false.query
    assert "Ines sees that the tires" not in false.query
    assert false.thought == (
        "Ines believes that the tires of the red bicycle are firm. During the night a nail in the "
        "yard let the air out of both tires. Ines does not see the tires of the red bicycle. So "
        "the belief stays the same."
    )
    assert true.thought.endswith("So the belief changes.")


def test_a_constant_letter_is_right_once_a_scenario():
    letters = [
        next(letter for letter, text in options(r.query).items() if text == r.answer)
        for r in BigToM().records("train")
    ]
    assert all({a, b} == {"a", "b"} for a, b in zip(letters[::2], letters[1::2], strict=True))


def test_action_questions_and_hidden_belief():
    record = BigToM(questions="action").records("val")[0]
    assert record.answer == "Ines will repair the tires before she lends the bicycle."
    assert "What will Ines do?" in record.query
    hidden = BigToM(initial_belief=False).records("val")[1]
    assert "believes that" not in hidden.query.split("\n")[0]
    assert "believes that" not in hidden.thought


def test_scenarios_are_divided_60_20_20(tmp_path):
    """Each in one split, with both of its conditions."""
    line = (SAMPLES / "bigtom.csv").read_text("utf-8").split("\n")[0]
    names = [f"Ines{'abcdefghij'[i]}" for i in range(10)]
    text = "".join(line.replace("Ines", name) + "\n" for name in names)
    (tmp_path / "bigtom.csv").write_text(text, "utf-8")
    parts = [BigToM(str(tmp_path)).records(split) for split in SPLITS]
    assert [len(part) for part in parts] == [12, 4, 4]
    scenarios = [{record.id.split()[0] for record in part} for part in parts]
    assert [len(part) for part in scenarios] == [6, 2, 2]
    assert len(set.union(*scenarios)) == 10


def test_bad_files(refused, tmp_path):
    rows = (SAMPLES / "bigtom.csv").read_text(encoding="utf-8").splitlines()
    path = tmp_path / "bigtom.csv"

    def load(*lines: str, split: str = "train"):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return lambda: BigToM(str(path)).records(split)

    cells = rows[1].split(";")
    short = ";".join(cells[:5])
    refused(load(rows[0], short), "bigtom.csv:2", "5 fields", "19", "'belief question'")
    refused(load(rows[0], rows[1] + ";x"), "bigtom.csv:2", "20 fields")
    for broken in (rows[1].replace(" ", "\r", 1), rows[1] + "x" * 140_000):
        refused(load(rows[0], broken), "bigtom.csv:2: invalid CSV")
    blank = ";".join([*cells[:8], "", *cells[9:]])
    refused(load(rows[0], blank), "bigtom.csv:2", "'belief answer aware' is empty")
    four = ";".join([cells[0].split(". ", 1)[1], *cells[1:]])
    refused(load(*[four] * 5), "bigtom.csv:", "'story' has 4 sentences")
    refused(load(*rows), "4 scenarios are too few")
    refused(lambda: BigToM(str(tmp_path / "none")).records("train"), "no such file or folder")
    refused(lambda: BigToM(str(tmp_path / "x.csv")).records("train"), "x.csv", "no such file")
    refused(lambda: BigToM(questions="desire"), "'desire'", "action, belief")


@pytest.mark.parametrize("questions", ["belief", "action"])
def test_real_files(zoo_data, questions):
    data = BigToM(str(zoo_data / "bigtom"), questions=questions)
    assert len(list(read_rows(zoo_data / "bigtom" / "bigtom.csv"))) == 200
    parts = {split: data.records(split) for split in SPLITS}
    assert [len(parts[split]) for split in SPLITS] == [240, 80, 80]
    scenarios = [{record.id.split()[0] for record in parts[split]} for split in SPLITS]
    assert len(set.union(*scenarios)) == sum(map(len, scenarios)) == 200
    records = [record for split in SPLITS for record in parts[split]]
    assert Counter(r.kind for r in records) == {"true_belief": 200, "false_belief": 200}
    assert all(r.answer in options(r.query).values() for r in records)
    right = Counter(options(r.query)["a"] == r.answer for r in parts["test"])
    assert right == {True: 40, False: 40}
