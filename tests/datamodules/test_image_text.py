"""Image-text pairs: webdataset tars, and folders of pictures with each form of annotations."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from datamodules import ImageText
from datamodules.picture_files import split_of

SPLITS = ("train", "val", "test")
PICTURE = b"\x89PNG not decoded here"
NOT_STRICT = [  # JSON that Python's own parser takes, or fails on with another error
    ('{"caption": "x", "caption": "y"}', "'caption' is there twice"),
    ('{"caption": "\\ud83d"}', "'caption' holds \\ud83d, half a character"),
    ('{"caption": ' + "[" * 100_000, "nested too deep"),
    ('{"caption": ' + "1" * 5000 + "}", "too many digits"),
]


def tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            data = data if isinstance(data, bytes) else data.encode()
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def pairs(count, name=""):
    """Members of a good tar; the picture holds its own name."""
    for i in range(count):
        yield f"{i:03}.jpg", f"picture {name}{i:03}"
        yield f"{i:03}.txt", f"caption {name}{i:03}\n"


def pictures(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE)
    return folder


def everything(data):
    return {split: data.records(split) for split in SPLITS}


# -- tars --------------------------------------------------------------------------------------


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


# -- folders -----------------------------------------------------------------------------------


def test_flickr_tokens(tmp_path):
    names = [f"{i:03}.jpg" for i in range(40)]
    folder = pictures(tmp_path / "images", *names)
    lines = [f"{name}#{k}\tcaption {k} of {name} ." for name in names for k in range(5)]
    for path in (tmp_path / "results.token", tmp_path / "captions.txt.gz"):
        data = "\n".join(lines).encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
        found = everything(ImageText(str(folder), str(path)))
        for split, part in found.items():
            assert part
            for record in part:
                assert split == split_of(record.id, 0.1, 0.1)
                assert record.texts == tuple(f"caption {k} of {record.id} ." for k in range(5))
                assert record.media.path == str(folder / record.id)
                assert record.group == record.id
        assert sorted(r.id for part in found.values() for r in part) == names


def test_what_tools_leave_is_no_picture(tmp_path):
    """Neither in a folder, nor in a tar, nor a tar of it."""
    backup = (".ipynb_checkpoints/a-checkpoint.jpg", "__MACOSX/a.jpg", "x/._a.jpg")
    folder = pictures(tmp_path / "images", "a.jpg", "x/b.jpg", *backup)
    (tmp_path / "a.token").write_text("a.jpg#0\tone\nx/b.jpg#0\ttwo\n")
    whole = {"val_share": 0, "test_share": 0}
    found = ImageText(str(folder), str(tmp_path / "a.token"), **whole).records("train")
    assert [r.id for r in found] == ["a.jpg", "x/b.jpg"]
    shards = tmp_path / "shards"
    shards.mkdir()
    tar(shards / "0.tar", [*pairs(3), *((name, PICTURE) for name in backup)])
    (shards / "._0.tar").write_text("what macOS knows of it")
    assert len(ImageText(str(shards), **whole).records("train")) == 3


def karpathy(name, split, folder=None, texts=("A dog .", "It runs .")):
    item = {"filename": name, "split": split, "imgid": 0, "sentences": [{"raw": t} for t in texts]}
    return item if folder is None else {**item, "filepath": folder}


def test_karpathy_json(tmp_path):
    folder = pictures(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg", "val2014/d.jpg", "unused.png")
    items = [
        karpathy("a.jpg", "train"),
        karpathy("b.jpg", "restval", "val2014"),  # lies in the folder itself
        karpathy("c.jpg", "test"),
        karpathy("d.jpg", "val", "val2014"),
    ]
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": items, "dataset": "coco"}))
    found = everything(ImageText(str(folder), str(path)))
    ids = {split: [r.id for r in part] for split, part in found.items()}
    assert ids == {"train": ["a.jpg", "b.jpg"], "val": ["val2014/d.jpg"], "test": ["c.jpg"]}
    assert found["val"][0].texts == ("A dog .", "It runs .")


def coco(images, annotations):
    return {
        "images": [{"id": number, "file_name": name} for number, name in images],
        "annotations": [{"image_id": n, "id": i, "caption": c} for i, (n, c) in annotations],
    }


def test_coco_captions(tmp_path):
    names = [f"COCO_val2014_{i:012}.jpg" for i in range(30)]
    folder = pictures(tmp_path / "val2014", *names)
    captions = [(i, f"caption {i}.\n") for i in range(30)] + [(3, "another")]
    path = tmp_path / "captions_val2014.json"
    path.write_text(json.dumps(coco(enumerate(names), enumerate(captions))))
    found = {
        r.id: r.texts
        for part in everything(ImageText(str(folder), str(path))).values()
        for r in part
    }
    assert len(found) == 30
    assert found[names[2]] == ("caption 2.",)
    assert found[names[3]] == ("caption 3.", "another")


def jsonl(path, *items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def test_jsonl(tmp_path):
    folder = pictures(tmp_path / "images", "a.png", "b/c.JPG", "unused.jpg")
    path = jsonl(
        tmp_path / "mine.jsonl",
        {"image": "a.png", "text": "a cat", "split": "train"},
        {"image": "a.png", "question": "How many?", "texts": ["one", "1"], "split": "train"},
        {"image": "./b/c.JPG", "text": "a dog", "split": "val"},
    )
    data = ImageText(str(folder), str(path))
    first, second = data.records("train")
    assert (first.id, first.texts, first.question) == ("mine.jsonl:1", ("a cat",), "")
    assert (second.id, second.texts, second.question) == (
        "mine.jsonl:2",
        ("one", "1"),
        "How many?",
    )
    assert first.group == second.group == "a.png"
    assert data.records("val")[0].media.read() == PICTURE


def test_lines_of_one_picture_share_a_split(tmp_path):
    names = [f"{i}.jpg" for i in range(40)]
    folder = pictures(tmp_path / "images", *names)
    items = [{"image": n, "text": str(k)} for k in range(3) for n in names]
    found = everything(ImageText(str(folder), str(jsonl(tmp_path / "a.jsonl", *items))))
    groups = [{r.group for r in part} for part in found.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 40


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("a.token", "a.jpg#0\tone\nb.jpg 0 two", ["a.token:2", "a tab and a caption", "b.jpg 0"]),
        ("a.token", "a.jpg\tone", ["a.token:1", "'name.jpg#0'"]),
        ("a.token", "a.jpg#0\tone\na.jpg#1\t ", ["a.token:2", "a.jpg#1 is empty"]),
        ("a.token", "a.jpg#0\tone\nbb.jpg#0\ttwo", ["a.token:2", "'bb.jpg' is not in", "'b.jpg'?"]),
        ("a.token", "a.jpg#0\tone\nx.gif#0\ttwo", ["a.token:2", "'x.gif' is not und", ".webp"]),
        ("a.token", "a.jpg#0\tone", ["a.token", "no caption for 1 of 2", "the first is b.jpg"]),
        ("a.token", "", ["a.token", "the file is empty"]),
        ("a.csv", "x", ["a.csv", "unknown annotation format '.csv'", "(.token, .txt)", ".jsonl"]),
        ("a.json", '{"images": [\n{]}', ["a.json:2", "invalid JSON"]),
        ("a.json", "[1]", ["a.json:1", "expected an object, found a list"]),
        *(("a.json", text, ["a.json:1", problem]) for text, problem in NOT_STRICT),
        ("a.json", '{"imgs": []}', ["a.json", "neither Karpathy", "its keys: imgs"]),
        ("a.json", '{"images": [3]}', ["a.json: images[0]", "expected an object"]),
        ("a.jsonl", '{"image": "a.jpg"}', ["a.jsonl:1", "'text' is missing"]),
        ("a.jsonl", '{"image": "a.jpg", "txt": ""}', ["a.jsonl:1", "'txt'", "mean 'text'?"]),
        ("a.jsonl", '{"image": "a.jpg", "text": ""}', ["a.jsonl:1", "'text' is empty"]),
        ("a.jsonl", '{"image": "a.jpg", "texts": []}', ["a.jsonl:1", "a.jpg has no caption"]),
        ("a.jsonl", '{"image": "a.jpg", "texts": ["x", ""]}', ["a.jsonl:1", "'texts[1]' is empty"]),
        ("a.jsonl", '{"image": "a.jpg", "texts": [], "text": "x"}', ["a.jsonl:1", "keep one"]),
        ("a.jsonl", '{"image": "a.jpg", "text": "x"\n', ["a.jsonl:1", "invalid JSON"]),
        ("a.jsonl", '{"image": "q.jpg", "text": "x"}', ["a.jsonl:1", "'q.jpg' is not in"]),
        (
            "a.jsonl",
            '{"image": "a.jpg", "text": "x", "split": "dev"}',
            ["a.jsonl:1", "'split' is 'dev'", "one of: "],
        ),
        (
            "a.jsonl",
            '{"image": "a.jpg", "text": "x", "split": "val"}\n{"image": "b.jpg", "text": "x"}',
            ["a.jsonl:2", "'split' must be on every line or on none"],
        ),
        (
            "a.jsonl",
            '{"image": "a.jpg", "text": "x", "split": "val"}\n'
            '{"image": "a.jpg", "text": "y", "split": "test"}',
            ["a.jsonl:2", "a.jpg is in 'test', but in 'val' at", "a.jsonl:1"],
        ),
    ],
)
def test_bad_annotations(refused, tmp_path, name, text, parts):
    folder = pictures(tmp_path / "images", "a.jpg", "b.jpg")
    (tmp_path / name).write_text(text, encoding="utf-8")
    refused(lambda: ImageText(str(folder), str(tmp_path / name)).records("train"), *parts)


@pytest.mark.parametrize(
    ("root", "parts"),
    [
        (coco([(1, "a.jpg")], []), ["images[0]", "a.jpg has no caption"]),
        (coco([(1, "a.jpg")], [(0, (2, "x"))]), ["annotations[0]", "'image_id' is 2"]),
        (coco([(1, "a.jpg"), (1, "b.jpg")], []), ["images[1]", "id 1 is there twice"]),
        (coco([(1, "a.jpg")], [(0, (1, " "))]), ["annotations[0]", "'caption' is empty"]),
        (coco([(1, "a.jpg")], [(0, (1, "x"))]), ["no caption for 1 of 2", "b.jpg"]),
        (coco([(1, "z.jpg")], [(0, (1, "x"))]), ["images[0]", "'z.jpg' is not in"]),
        ({"images": [karpathy("a.jpg", "train", texts=())]}, ["images[0]", "a.jpg has no caption"]),
        ({"images": [karpathy("a.jpg", "train", texts=("x", ""))]}, ["images[0].sentences[1]"]),
        ({"images": [karpathy("a.jpg", "tran")]}, ["images[0]", "mean 'train'?"]),
        ({"images": [karpathy("z.jpg", "train", "q")]}, ["images[0]", "'q/z.jpg' is not in"]),
    ],
)
def test_bad_json_annotations(refused, tmp_path, root, parts):
    folder = pictures(tmp_path / "images", "a.jpg", "b.jpg")
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(root))
    refused(lambda: ImageText(str(folder), str(path)).records("val"), "captions.json", *parts)


def test_a_picture_of_zero_bytes(refused, tmp_path):
    folder = pictures(tmp_path / "images", "a.jpg")
    (folder / "a.jpg").write_bytes(b"")
    path = jsonl(tmp_path / "a.jsonl", {"image": "a.jpg", "text": "x"})
    refused(lambda: ImageText(str(folder), str(path)).records("val"), "a.jsonl:1", "zero bytes")


def test_real_photographs(zoo_data: Path):
    data = ImageText(str(zoo_data / "cc12m_sample"))
    found = everything(data)
    assert [len(found[split]) for split in SPLITS] == [24, 4, 4]
    for record in sum(found.values(), []):
        content = record.media.read()
        assert content.startswith(b"\xff\xd8")
        assert content.endswith(b"\xff\xd9")
    assert found["val"][0].texts == ("Red Square is a city square in Moscow, Russia.",)
