"""CLINC150: domains and intents."""

import gzip
import json
from collections import Counter

import pytest

from datamodules import CLINC150
from datamodules.clinc150 import in_file_order
from datamodules.files import SAMPLES

SPLITS = ("train", "val", "test")


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the sample under the authors' names."""
    for name, sample in (("data_full", "clinc150"), ("domains", "clinc150_domains")):
        text = (SAMPLES / f"{sample}.json").read_text(encoding="utf-8")
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    return tmp_path


def test_sample():
    data = CLINC150()
    records = in_file_order(data.records("train"))
    assert [len(data.records(split)) for split in SPLITS] == [8, 4, 4]
    assert records[0].text == "start the sprinkler behind the shed"
    assert records[0].labels == ("garden", "water plants")
    assert records[0].id == "clinc150.json:train[0]"
    taxonomy = records[0].taxonomy
    assert taxonomy.depth == 2
    assert taxonomy.below(()) == ("garden", "music")
    assert taxonomy.below(("music",)) == ("play song", "turn down")
    assert data.records("test")[0].taxonomy is taxonomy


def test_out_of_scope_is_a_class_if_asked_for(folder):
    data = CLINC150(str(folder), out_of_scope=True)
    assert [len(data.records(split)) for split in SPLITS] == [9, 5, 5]
    (record,) = (r for r in data.records("val") if "oos" in r.id)
    assert record.labels == ("out of scope", "out of scope")
    assert record.taxonomy.below(()) == ("garden", "music", "out of scope")
    assert record.taxonomy.below(("out of scope",)) == ("out of scope",)


def test_gzip_and_variant(folder, refused):
    text = (folder / "data_full.json").read_bytes()
    (folder / "data_small.json.gz").write_bytes(gzip.compress(text))
    assert len(CLINC150(str(folder), variant="small").records("train")) == 8
    refused(lambda: CLINC150(variant="tiny"), "data.variant: 'tiny'", "small")
    refused(
        lambda: CLINC150(str(folder), variant="imbalanced").records("val"), "data_imbalanced.json"
    )


@pytest.mark.parametrize("split", SPLITS)
def test_a_part_of_a_split_has_queries_of_many_intents(tmp_path, split):
    """The file is grouped by intent: its first queries are all of one."""
    intents = [f"intent_{i}" for i in range(20)]
    pairs = [[f"query {k}", name] for name in intents for k in range(30)]
    (tmp_path / "domains.json").write_text(json.dumps({"all": intents}))
    (tmp_path / "data_full.json").write_text(json.dumps(dict.fromkeys(SPLITS, pairs)))
    data = CLINC150(str(tmp_path), **{f"max_{split}": 40})
    part = data.records(split)
    assert len({record.labels for record in part}) > 12
    assert CLINC150(str(tmp_path), seed=1).records(split)[:40] == part, "the same in every run"
    whole = in_file_order(CLINC150(str(tmp_path)).records(split))
    assert [[r.text, r.labels[1].replace(" ", "_")] for r in whole] == pairs


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"train": None}, ["'train' must be a list"]),
        ({"train": ["x"]}, ["train[0]", "pair of strings"]),
        ({"train": [["x", 3]]}, ["train[0]", "pair of strings"]),
        ({"train": [["ok", "play_song"], [" ", "play_song"]]}, ["train[1]", "text is empty"]),
        (
            {"train": [["x", "play_sonk"]]},
            ["train[0]", "'play_sonk'", "did you mean 'play_song'?"],
        ),
    ],
)
def test_bad_data(folder, refused, change, parts):
    path = folder / "data_full.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refused(lambda: CLINC150(str(folder)).records("train"), "data_full.json", *parts)


def test_bad_files(folder, refused):
    def load():
        return CLINC150(str(folder)).records("train")

    data = folder / "data_full.json"
    data.write_text('{"trian": []}')
    refused(load, "'train' is missing", "did you mean 'trian'?")
    data.write_text("[]")
    refused(load, "data_full.json:1: expected an object, found a list")
    data.write_text('{\n"train": [}')
    refused(load, "data_full.json:2", "invalid JSON")
    data.write_text('{"train": []}')
    domains = folder / "domains.json"
    domains.write_text('{"a": ["x"], "b": ["x"]}')
    refused(load, "domains.json", "'x' is in a and in b")
    domains.write_text('{"a": "x"}')
    refused(load, "domains.json", "'a' must be a list")
    domains.unlink()
    refused(load, "none of domains.json")


def test_real_files(zoo_data):
    data = CLINC150(str(zoo_data / "clinc150"))
    assert [len(data.records(split)) for split in SPLITS] == [15000, 3000, 4500]
    part = CLINC150(str(zoo_data / "clinc150"), max_val=128).records("val")
    assert len({record.labels for record in part}) > 60
    small = CLINC150(str(zoo_data / "clinc150"), variant="small")
    assert len(small.records("train")) == 7500
    scope = CLINC150(str(zoo_data / "clinc150"), out_of_scope=True)
    assert [len(scope.records(split)) for split in SPLITS] == [15100, 3100, 5500]
    counts = Counter(record.labels for record in data.records("test"))
    assert set(counts.values()) == {30}
    taxonomy = data.records("train")[0].taxonomy
    assert [len(taxonomy.below((name,))) for name in taxonomy.below(())] == [15] * 10
    assert set(counts) == {(a, b) for a in taxonomy.below(()) for b in taxonomy.below((a,))}
