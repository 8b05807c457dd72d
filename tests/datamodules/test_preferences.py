"""`Preferences`: the sample, both names of the query, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules import Preferences
from zoo.errors import InputError

GOOD = {"query": "Why?", "chosen": "Because.", "rejected": "No."}


def test_the_sample_is_read() -> None:
    records = Preferences().records("train")
    assert len(records) == 8
    assert all(r.query and r.chosen != r.rejected for r in records)
    assert {r.kind for r in records} == {"", "traffic"}
    assert records[0].id == "preferences.jsonl:1"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**GOOD, "rejected": None}, "field 'rejected' is missing"),
        ({**GOOD, "chosen": " "}, "field 'chosen' is empty"),
        ({**GOOD, "chosen": [{"role": "user"}]}, "'chosen'"),
        ({**GOOD, "chosn": "x"}, "unknown field 'chosn'; did you mean 'chosen'"),
        ({**GOOD, "rejected": "Because."}, "chosen and rejected are the same text"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, [GOOD, row])))
    with pytest.raises(InputError) as refused:
        Preferences(str(path)).records("train")
    assert message in str(refused.value)
    assert f"{path}:2" in str(refused.value)
    assert len(Preferences(str(path), on_bad="skip").records("train")) == 1
