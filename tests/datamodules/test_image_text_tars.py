"""Image-text pairs in webdataset tars: where pictures lie, captions, damaged ones, splits."""

import tarfile

import pytest
from image_text_files import NOT_STRICT, PICTURE, SPLITS, everything, pairs, pictures, tar

from datamodules import ImageText
from datamodules.picture_files import split_of


def test_sample_is_every_split():
    data = ImageText()
    records = data.records("train")
    assert len(records) == 8
    assert data.records("val") == records
    assert records[0].texts == ("a red circle",)
    assert records[0].id == "image_text.tar:000"
    assert all(record.media.read().startswith(b"\x89PNG") for record in records)


def test_a_tar_is_read_where_its_pictures_lie(tmp_path):
    path = tar(tmp_path / "photos.tar", pairs(60))
    found = everything(ImageText(str(path)))
    records = sum(found.values(), [])
    assert sorted(r.id for r in records) == [f"photos.tar:{i:03}" for i in range(60)]
    assert all(len(part) > 1 for part in found.values())
    for record in records:
        number = record.id.removeprefix("photos.tar:")
        assert record.texts == (f"caption {number}",)
        assert record.media.read() == f"picture {number}".encode()
        assert record.media.name == f"photos.tar: {number}.jpg"
        assert record.media.data == b""
    assert everything(ImageText(str(path))) == found


def test_folder_and_glob_keep_every_split(tmp_path):
    for name in ("a", "b"):
        tar(tmp_path / f"{name}.tar", pairs(40, name))
    alone = {split: ImageText(str(tmp_path / "a.tar")).records(split) for split in SPLITS}
    for path in (tmp_path, tmp_path / "*.tar", tmp_path / "**" / "?.tar"):
        found = everything(ImageText(str(path)))
        assert sum(len(part) for part in found.values()) == 80
        for split, part in alone.items():
            assert [r for r in found[split] if r.id.startswith("a.tar")] == part


def test_shards_of_one_name_in_two_folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        tar(tmp_path / name / "0.tar", pairs(1))
    data = ImageText(str(tmp_path / "*" / "0.tar"), val_share=0.0, test_share=0.0)
    assert [r.id for r in data.records("train")] == ["a/0.tar:000", "b/0.tar:000"]


def test_captions_of_a_tar(tmp_path):
    members = [
        ("./x/1.JPEG", PICTURE),
        ("./x/1.json", '{"caption": " from json "}'),
        ("./x/1.cls", "3"),
        ("2.webp", PICTURE),
        ("2.json", '{"caption": null}'),
        ("2.txt", b"\xef\xbb\xbffrom text"),
        ("._2.png", "left by macOS"),
        ("README", "no sample"),
    ]
    path = tar(tmp_path / "a.tar", members)
    records = ImageText(str(path), val_share=0, test_share=0).records("train")
    assert [r.texts for r in records] == [("from json",), ("from text",)]
    assert [r.id for r in records] == ["a.tar:x/1", "a.tar:2"]


@pytest.mark.parametrize(
    ("members", "parts"),
    [
        ([("7.jpg", PICTURE)], ["7 has a picture but no caption", "7.txt"]),
        ([("7.txt", "x")], ["7 has a caption but no picture", ".txt", ".jpg, .jpeg"]),
        ([("7.gif", PICTURE), ("7.txt", "x")], ["7 has a caption but no", ".gif", ".webp"]),
        ([("7.npy", "x")], ["7 has members but no picture", ".npy"]),
        ([("7.jpg", b""), ("7.txt", "x")], ["7.jpg", "zero bytes"]),
        ([("7.jpg", PICTURE), ("7.txt", " \n")], ["7.txt: the caption is empty"]),
        ([("7.jpg", PICTURE), ("7.txt", "")], ["7.txt: the caption is empty"]),
        ([("7.jpg", PICTURE), ("7.txt", b"\xff")], ["7.txt: not UTF-8", "0xff"]),
        ([("7.jpg", PICTURE), ("7.json", '{"a":\n}')], ["7.json:2: invalid JSON"]),
        ([("7.jpg", PICTURE), ("7.json", "")], ["7.json:1: invalid JSON"]),
        ([("7.jpg", PICTURE), ("7.json", "[]")], ["7.json:1: expected an object, found a list"]),
        *(
            ([("7.jpg", PICTURE), ("7.json", text)], ["7.json:1", problem])
            for text, problem in NOT_STRICT
        ),
        ([("7.jpg", PICTURE), ("7.json", '{"captoin": "x"}')], ["'caption'", "'captoin'?"]),
        ([("7.jpg", PICTURE), ("7.json", '{"caption": ""}')], ["'caption' is empty"]),
        ([("7.jpg", PICTURE), ("7.png", PICTURE)], ["7 has two pictures: .jpg, .png"]),
        ([("7.jpg", PICTURE), ("7.jpg", PICTURE)], ["7.jpg is there twice"]),
        ([], ["holds no samples"]),
    ],
)
def test_bad_samples(refused, tmp_path, members, parts):
    path = tar(tmp_path / "a.tar", [*pairs(2)][: 4 * bool(members)] + members)
    refused(lambda: ImageText(str(path)).records("train"), "a.tar", *parts)


def test_damaged_tars(refused, tmp_path):
    path = tmp_path / "a.tar"
    whole = tar(path, pairs(5)).read_bytes()
    broken = bytearray(whole)
    broken[2048 + 148 : 2048 + 156] = b"?" * 8
    for data, part in [
        (whole[:1024], "damaged tar: cut off at byte 1024"),
        (whole[:1300], "damaged tar"),
        (whole[:600], "damaged tar"),
        (broken, "damaged tar: no member header at byte 2048"),
        (whole + whole, "two tars in one file"),
        (b"no tar at all" * 100, "damaged tar"),
        (b"", "empty"),
    ]:
        path.write_bytes(data)
        refused(lambda: ImageText(str(path)).records("train"), "a.tar", part)


def test_compressed_tars_and_links(refused, tmp_path):
    for mode, name in (("gz", "gzip"), ("bz2", "bzip2"), ("xz", "xz")):
        path = tar(tmp_path / f"a.tar.{mode}", pairs(2), f"w:{mode}")
        for place in (path, tmp_path):
            refused(lambda p=place: ImageText(str(p)).records("val"), f"compressed ({name})")
        path.unlink()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("000.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "001.jpg"
        archive.addfile(link)
    refused(lambda: ImageText(str(tmp_path / "a.tar")).records("val"), "000.jpg is a link")


def test_bad_paths_and_shares(refused, tmp_path):
    def read(path, *rest):
        return lambda: ImageText(str(path), *rest).records("train")

    refused(read(tmp_path), "the folder is empty")
    refused(read(tmp_path / "no"), "no such file or folder")
    refused(read(tmp_path / "*.tar"), "no file matches")
    (tmp_path / "a.zip").write_bytes(b"PK")
    refused(read(tmp_path / "a.zip"), "a.zip: not a .tar", "folder of pictures")
    refused(read(tmp_path), "holds a.zip", "understood are a .tar")
    refused(read(tmp_path, "x.jsonl"), "holds no picture", ".jpg")
    refused(read(tmp_path / "no", "x.jsonl"), "no such folder")
    refused(read(tmp_path / "a.zip", "x.jsonl"), "is a file", "folder of pictures")
    pictures(tmp_path, "sub/1.jpg")
    refused(read(tmp_path), "set annotations")
    refused(lambda: ImageText(annotations="x.jsonl"), "set path")
    refused(lambda: ImageText(val_share=-0.1), "val_share is -0.1")
    refused(lambda: ImageText(val_share=0.5, test_share=0.5), "nothing to train on")
    tar(tmp_path / "a.tar", pairs(2))
    few = ImageText(str(tmp_path), val_share=0.0)
    refused(lambda: few.records("val"), "none of 2 records is in 'val' (val_share is 0.0)")


def test_the_hash_is_fixed():
    split = [split_of(f"{i:03}.jpg", 0.1, 0.1) for i in range(1000)]
    assert [split.count(name) for name in SPLITS] == [808, 97, 95]
    assert [i for i in range(30) if split[i] == "test"] == [3, 22]
