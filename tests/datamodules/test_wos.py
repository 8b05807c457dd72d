"""Web of Science abstracts."""

import gzip
from collections import Counter

from datamodules import WoS
from datamodules.files import SAMPLES
from datamodules.tables import unquoted
from datamodules.wos import hold_out, read_abstracts
from zoo.records import LabelPath, Taxonomy

SPLITS = ("train", "val", "test")


def test_sample():
    data = WoS()
    assert [len(data.records(split)) for split in SPLITS] == [12, 4, 5]
    records = {record.id: record for split in SPLITS for record in data.records(split)}
    assert len(records) == 21
    assert records["wos.txt:2"].labels == ("CS", "Networks")
    assert '"lazy" merge' in records["wos.txt:7"].text
    assert not records["wos.txt:7"].text.startswith('"')
    taxonomy = records["wos.txt:2"].taxonomy
    assert taxonomy.below(()) == ("CS", "Medical")
    assert taxonomy.below(("CS",)) == ("Networks", "Sorting")
    assert {id(record.taxonomy) for record in records.values()} == {id(taxonomy)}


def test_a_single_abstract_of_an_area_stays_in_training():
    labels = [record.labels for record in WoS().records("train")]
    assert ("Medical", "Allergies") in labels


def test_hold_out_is_stratified_and_depends_on_the_seed():
    taxonomy = Taxonomy({(): ("a", "b", "c")})
    names = ["a"] * 50 + ["b"] * 7 + ["c"] * 2 + [f"rare {i}" for i in range(10)]
    records = [LabelPath(str(i), (name,), taxonomy) for i, name in enumerate(names)]
    kept, held = hold_out(records, 42)
    assert Counter(record.labels[0] for record in held) == {"a": 11, "b": 2, "c": 1}
    assert sorted([*kept, *held], key=lambda r: int(r.text)) == records
    assert [int(r.text) for r in kept] == sorted(int(r.text) for r in kept)
    assert hold_out(records, 42) == (kept, held)
    assert hold_out(records, 1)[1] != held


def test_quotes():
    assert unquoted('"A ""small"" step."') == 'A "small" step.'
    assert unquoted('"A" and "B"') == '"A" and "B"'
    assert unquoted('"') == '"'


def test_label_files(tmp_path, refused):
    codes = [codes for _, codes in read_abstracts(SAMPLES / "wos.txt")]

    def write(first, second):
        (tmp_path / "YL1.txt").write_text("\n".join(first) + "\n")
        (tmp_path / "YL2.txt").write_text("\n".join(second) + "\n")
        return lambda: WoS(label_files=str(tmp_path)).records("train")

    ones, twos = [a for a, _ in codes], [b for _, b in codes]
    assert len(write(ones, twos)()) == 12
    refused(write(ones[1:], twos), "YL1.txt: 20 labels for 21 abstracts")
    twos[3] = "8"
    refused(write(ones, twos), "YL2.txt:4", "label 8, but Y2 is 0", "wos.txt:5")


def test_bad_files(tmp_path, refused):
    header, line = (SAMPLES / "wos.txt").read_text(encoding="utf-8").splitlines()[:2]
    path = tmp_path / "Data.txt"

    def load(*lines):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return lambda: WoS(str(tmp_path)).records("train")

    refused(load(header.replace("area", "aera"), line), "Data.txt:1", "did you mean 'aera'?")
    refused(load("\t".join(reversed(header.split("\t"))), line), "Data.txt:1", "another order")
    refused(load(header, line, line + "\tx"), "Data.txt:3", "8 cells between tabs, expected 7")
    cells = line.split("\t")
    refused(load(header, "\t".join([*cells[:6], '""'])), "Data.txt:2", "'Abstract' is empty")
    refused(
        load(header, "\t".join([*cells[:3], " ", *cells[4:]])), "Data.txt:2", "'Domain' is empty"
    )
    refused(lambda: WoS(str(tmp_path / "x.txt")).records("train"), "x.txt: no such file")
    path.unlink()
    refused(lambda: WoS(str(tmp_path)).records("train"), "none of Data.txt")
    (tmp_path / "Data.txt.gz").write_bytes(gzip.compress(f"{header}\n{line}\n".encode()))
    assert len(WoS(str(tmp_path)).records("train")) == 1


def test_real_file(zoo_data):
    data = WoS(str(zoo_data / "wos" / "Data1k.txt.gz"))
    parts = {split: data.records(split) for split in SPLITS}
    assert [len(parts[split]) for split in SPLITS] == [640, 160, 200]
    records = [record for split in SPLITS for record in parts[split]]
    assert len({record.id for record in records}) == 1000
    paths = {record.labels for record in records}
    assert len(paths) == 132
    assert len({domain for domain, _ in paths}) == 7
    assert {record.labels for record in parts["train"]} == paths
    assert {d for d, area in paths if area == "Depression"} == {"Medical", "Psychology"}
