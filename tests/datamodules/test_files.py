"""Every bad input is one line that names file, line and field."""

import gzip
import zipfile
from pathlib import Path

import pytest

from datamodules import json_files
from datamodules.files import field, find, read_lines, read_text, shuffled, text_field
from datamodules.json_files import read_each, read_objects
from datamodules.tables import members


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_lines_end_at_newline_only(tmp_path):
    path = write(tmp_path / "a.txt", '{"a": "x\u2028y\u0085z"}\r\n\n{"a": "b"}\n')
    assert list(read_objects(path)) == [("1", {"a": "x\u2028y\u0085z"}), ("3", {"a": "b"})]


def test_byte_order_mark_gzip_and_zip_read_the_same(tmp_path):
    data = b'\xef\xbb\xbf{"a": 1}\n'
    plain = write(tmp_path / "a.txt", data)
    packed = write(tmp_path / "a.txt.gz", gzip.compress(data))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("folder/a.txt", data)
    inside = find(tmp_path / "a.zip", "a.txt")
    assert inside == tmp_path / "a.zip" / "folder" / "a.txt"
    for path in (plain, packed, inside):
        assert list(read_objects(path)) == [("1", {"a": 1})]


def test_json_list_names_the_line_where_an_item_starts(tmp_path):
    path = write(tmp_path / "a.json", '[\n  {"a": 1},\n\n  {"a":\n 2}\n]\n')
    assert list(read_objects(path)) == [("2", {"a": 1}), ("4", {"a": 2})]
    assert list(read_objects(write(tmp_path / "b.json", "[ ]"))) == []
    pair = write(tmp_path / "c.json", '{"a": "\\ud83d\\ude00"}')  # lines, whatever its name
    assert list(read_objects(pair)) == [("1", {"a": "\U0001f600"})]


def test_items_on_one_line_have_different_places(tmp_path, refused):
    """The first one on a line is named by the line alone, further ones by their place on it."""
    path = write(tmp_path / "a.json", '[{"a": 1}, {"a": 2},\n{"a": 3}, {"a": 4}, {"a": 5}]')
    places = ["1", "1[1]", "2", "2[1]", "2[2]"]
    assert [place for place, _ in read_objects(path)] == places
    names = list(read_each(path, lambda item, where, name: (where, name)))
    assert names == [(f"{path}:{place}", f"a.json:{place}") for place in places]
    bad = write(tmp_path / "b.json", '[{"a": 1}, 2]')
    refused(lambda: list(read_objects(bad)), "b.json:1[1]")


def test_what_stands_behind_an_object_is_named_by_its_own_line(refused):
    text = '{"a": "\\u00e4",\n "b": 1}\n\n x'
    refused(lambda: json_files.parse_object(text, "a.json", 5), "a.json:8: invalid JSON: more text")


def test_plain_objects_are_not_looked_at_twice(monkeypatch):
    """What is one whole object without escapes is decoded once, however many there are."""

    def closely(*args):
        raise AssertionError("looked at closely")

    monkeypatch.setattr(json_files, "_decode", closely)
    assert json_files.parse_object('{"a": "\u00e4"}', "x") == {"a": "\u00e4"}
    with pytest.raises(AssertionError, match="looked at closely"):
        json_files.parse_object('{"a": "\\u00e4"}', "x")


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b'[{"a": 1},\n {"a": }]', ["a.json:2", "invalid JSON"]),
        (b'[{"a": 1}\n', ["a.json:2", "not closed"]),
        (b'[{"a": 1},', ["a.json:1", "invalid JSON"]),
        (b"[", ["a.json:1", "invalid JSON"]),
        (b'[{"a": 1}\n {"a": 2}]', ["a.json:2", "not closed"]),
        (b"[1]", ["a.json:1", "expected an object, found an integer"]),
        (b'[{"a": 1}]\n{"b": 2}', ["a.json:2", "the list ends, but the file does not"]),
        (b'[{"a": 1},\n{"a": {"b": 1, "b": 2}}]', ["a.json:2: field 'b' is there twice"]),
        (b'[{"a": ["x", {"b": "\\ud83d!"}]}]', ["a.json:1: field 'a[1].b' holds \\ud83d"]),
        (b'[{"a": 1}, {"a": ' + b"[" * 100_000, ["a.json:1", "nested too deep"]),
        (b'[{"a":\n "\xff"}]', ["a.json:2", "0xff", "byte 3"]),
        (b" \n", ["a.json", "empty"]),
    ],
)
def test_bad_json_list(refused, tmp_path, data, parts):
    path = write(tmp_path / "a.json", data)
    refused(lambda: list(read_objects(path)), *parts)


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b'{"a": 1}\n{"a"', ["a.txt:2", "invalid JSON"]),
        (b'{"a": 1}\n[1]', ["a.txt:2", "expected an object, found a list"]),
        (b'{"a": 1}\n{"a": 1} x', ["a.txt:2", "more text after the value"]),
        (b'{"a": 1}\n{"a": 1, "a": 2}', ["a.txt:2: field 'a' is there twice"]),
        (b'{"a": 1}\n{"a\\udc00": 1}', ["a.txt:2: field 'a?' holds \\udc00"]),
        (b'{"a": 1}\n{"a": ' + b"9" * 5000 + b"}", ["a.txt:2", "an integer has too many digits"]),
        (b'{"a": 1}\n' + b'{"a": ' * 100_000, ["a.txt:2", "nested too deep"]),
        (b'{"a": 1}\n{"a": "\xe9"}', ["a.txt:2", "not UTF-8", "0xe9", "byte 8"]),
        (b"", ["a.txt", "the file is empty"]),
        (b"\n\n", ["a.txt", "the file is empty"]),
    ],
)
def test_bad_jsonl(refused, tmp_path, data, parts):
    path = write(tmp_path / "a.txt", data)
    refused(lambda: list(read_objects(path)), *parts)


def test_damaged_and_missing_files(refused, tmp_path):
    whole = gzip.compress(b"".join(f'{{"a": {i}}}\n'.encode() for i in range(5000)))
    cut = write(tmp_path / "cut.txt.gz", whole[: len(whole) // 2])
    refused(lambda: list(read_lines(cut)), "cut.txt.gz", "truncated")
    fake = write(tmp_path / "fake.txt.gz", b"plain text")
    refused(lambda: list(read_lines(fake)), "fake.txt.gz", "damaged archive")
    refused(lambda: list(read_lines(tmp_path / "no.txt")), "no.txt", "no such file")
    refused(lambda: list(read_lines(tmp_path)), "is a folder")
    refused(lambda: find(tmp_path / "nowhere", "a.txt"), "nowhere", "no such file or folder")
    refused(lambda: find(fake, "a.txt"), "fake.txt.gz", "not a folder and not a zip archive")
    broken = write(tmp_path / "b.zip", b"PK\x03\x04 not really")
    refused(lambda: find(broken, "a.txt"), "b.zip", "zip")


def test_find_names_what_it_looked_for_and_what_is_there(refused, tmp_path):
    write(tmp_path / "other.txt", "x")
    assert find(tmp_path, "a.txt", "other.txt").name == "other.txt"
    refused(lambda: find(tmp_path, "a.txt", "b.txt"), "a.txt, b.txt", "it holds other.txt")


def zipped(path, *names, text="the text", mode="w"):
    with zipfile.ZipFile(path, mode) as archive:
        for name in names:
            archive.writestr(name, text)
    return path


HIDDEN = ("__MACOSX/x/a.txt", "x/._a.txt", "x/.ipynb_checkpoints/a.txt", ".Trash/a.txt")


@pytest.mark.parametrize("look", [lambda p: [find(p, "a.txt")], lambda p: members(p, "a.txt")])
def test_what_tools_leave_is_not_found(refused, tmp_path, look):
    path = zipped(tmp_path / "a.zip", "x/a.txt")
    zipped(path, *HIDDEN, text="another", mode="a")
    (found,) = look(path)
    assert read_text(found) == "the text"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "folder")
    assert members(tmp_path / "folder", "a.txt") == [tmp_path / "folder" / "x" / "a.txt"]
    zipped(path, "y/a.txt", mode="a")
    refused(lambda: look(path), "y/a.txt: a file of this name lies in", "a.zip/x too")


def test_encrypted_archives(refused, tmp_path):
    path = zipped(tmp_path / "a.zip", "a.txt")
    data = bytearray(path.read_bytes())
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(header) + flags] |= 1
    path.write_bytes(data)
    refused(lambda: list(read_lines(path / "a.txt")), "a.zip/a.txt: cannot be", "is encrypted")


def test_fields(refused):
    record = {"dialogue": [], "n": True, "text": "  "}
    refused(lambda: field(record, "dialog", list, "f.txt:3"), "f.txt:3", "'dialog'", "'dialogue'")
    refused(lambda: field(record, "dialogue", str, "f.txt:3"), "a string", "found a list")
    refused(lambda: field(record, "n", int, "f.txt:3"), "an integer", "found true or false")
    refused(lambda: text_field(record, "text", "f.txt:3"), "f.txt:3", "'text'", "empty")
    refused(lambda: field({}, "a", str, "f.txt:3"), "f.txt:3", "'a'", "object is empty")


def test_shuffle_depends_on_the_seed_only():
    assert shuffled("abcdef", 0) == shuffled("abcdef", 0)
    assert sorted(shuffled("abcdef", 1)) == list("abcdef")
    assert shuffled(range(100), 0) != shuffled(range(100), 1)
