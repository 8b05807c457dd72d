"""Image-text pairs in folders of pictures, with each form of annotations."""

import gzip
import json
from pathlib import Path

import pytest
from image_text_files import NOT_STRICT, PICTURE, SPLITS, everything, pairs, pictures, tar

from datamodules import ImageText
from datamodules.picture_files import split_of


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
