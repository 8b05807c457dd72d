"""Emoji and their names."""

import io
import json
import tarfile
from collections import Counter

import pytest

from datamodules import EmojiNames
from datamodules.emoji_names import joined, read_emoji

SPLITS = ("train", "val", "test")


def emoji(name, image, **more):
    return {"name": name, "image": image, "has_img_twitter": True, **more}


def write(folder, items, images):
    """Write a folder in the package's form; `images` gives the bytes of each picture."""
    (folder / "emoji.json").write_text(json.dumps(items), encoding="utf-8")
    with tarfile.open(folder / "img_twitter_64.tar", "w") as archive:
        for name, data in images.items():
            info = tarfile.TarInfo(name if "/" in name else f"img/twitter/64/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return EmojiNames(str(folder))


def test_sample_is_every_split():
    data = EmojiNames()
    records = data.records("train")
    assert [r.texts[0] for r in records][:3] == [
        "grinning face",
        "neutral face",
        "slightly frowning face",
    ]
    assert data.records("test") == records
    assert records[0].id == "emoji.json:1f600.png"
    assert records[0].group == "grinning face"
    assert all(r.media.read().startswith(b"\x89PNG") for r in records)
    toned = EmojiNames(skin_tones=True).records("train")
    assert [r.texts[0] for r in toned[5:]] == [
        "raised hand",
        "raised hand, light skin tone",
        "raised hand, dark skin tone",
    ]


def test_same_text_or_picture_is_one_group_in_one_split(tmp_path):
    items = [emoji(f"NAME {i}", f"{i}.png") for i in range(60)]
    items[7]["name"] = "NAME 3"  # same text as 3
    images = {f"{i}.png": f"{i}".encode() for i in range(60)}
    images["9.png"] = images["7.png"]  # same picture as 7
    data = write(tmp_path, items, images)
    found = {split: data.records(split) for split in SPLITS}
    groups = {r.id: (r.group, split) for split, part in found.items() for r in part}
    assert len(groups) == 60
    names = ("3", "7", "9")
    assert len({groups[f"emoji.json:{n}.png"] for n in names}) == 1
    assert Counter(group for group, _ in groups.values()).most_common(2)[1][1] == 1


def test_joined():
    assert joined([("a",), ("b",), ("c", "b"), ("d",), ("a", "c")]) == [0, 0, 0, 3, 0]
    assert joined([]) == []


@pytest.mark.parametrize(
    ("item", "images", "parts"),
    [
        ({"nam": "A"}, {}, ["'name' is missing", "did you mean 'nam'?"]),
        (emoji("", "1.png"), {}, ["'name' is empty"]),
        (emoji("A", "1.png"), {"2.png": b"x"}, ["the picture 1.png is not in", "_64.tar"]),
        (emoji("A", "1.png"), {"1.png": b""}, ["1.png in", "zero bytes"]),
        (emoji("A", "1.png"), {"a/1.png": b"x", "b/1.png": b"x"}, ["b/1.png", "a/1.png"]),
        ({"name": "A", "image": "1.png"}, {"1.png": b"x"}, ["'has_img_twitter' is missing"]),
        (
            emoji("A", "1.png", skin_variations={"1F3FZ": emoji("", "1.png")}),
            {"1.png": b"x"},
            ["[1].skin_variations.1F3FZ", "unknown skin tone '1F3FZ'", "did you mean"],
        ),
    ],
)
def test_bad_emoji(refused, tmp_path, item, images, parts):
    data = write(tmp_path, [emoji("Z", "z.png"), item], {"z.png": b"z", **images})
    refused(lambda: data.records("train"), *parts)


def test_bad_files(refused, tmp_path):
    refused(lambda: EmojiNames(str(tmp_path)).records("train"), "emoji.json, emoji.json.gz")
    data = write(tmp_path, [emoji("A", "1.png")], {"1.png": b"x"})
    tar = tmp_path / "img_twitter_64.tar"
    tar.write_bytes(tar.read_bytes()[:700])
    refused(lambda: data.records("train"), "img_twitter_64.tar", "damaged tar")
    tar.unlink()
    refused(lambda: data.records("train"), "none of img_twitter_64.tar is there")
    write(tmp_path, [], {})
    (tmp_path / "emoji.json").write_text('[\n{"name": }]')
    refused(lambda: data.records("train"), "emoji.json:2", "invalid JSON")


def test_an_emoji_that_is_not_drawn_is_left_out(tmp_path):
    items = [emoji("A", "1.png"), {"name": "B", "image": "2.png", "has_img_twitter": False}]
    write(tmp_path, items, {"1.png": b"x"})
    assert [one.text for one in read_emoji(tmp_path)] == ["a"]


@pytest.mark.parametrize(("tones", "counts"), [(False, [1503, 185, 223]), (True, [2963, 405, 418])])
def test_real_emoji(zoo_data, tones, counts):
    data = EmojiNames(str(zoo_data / "emoji_twitter"), skin_tones=tones)
    found = {split: data.records(split) for split in SPLITS}
    assert [len(found[split]) for split in SPLITS] == counts
    records = sum(found.values(), [])
    assert len({r.id for r in records}) == len(records)
    assert all(r.media.read().startswith(b"\x89PNG\r\n") for r in records)
    groups = [{r.group for r in part} for part in found.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    by_picture = {r.media.read(): r.group for r in records}
    by_text = {r.texts: r.group for r in records}
    assert all(r.group == by_picture[r.media.read()] == by_text[r.texts] for r in records)
    texts = {r.texts[0]: r for r in records}
    assert {"grinning face", "france flag", "keycap 7"} <= set(texts)
    assert texts["france flag"].group == texts["st. martin flag"].group == "clipperton island flag"
    assert sum(r.group == "man in tuxedo" for r in records) == 2
    assert ("handshake, light skin tone and dark skin tone" in texts) is tones


def test_skin_tones_move_nothing(zoo_data):
    path = str(zoo_data / "emoji_twitter")
    plain, toned = EmojiNames(path), EmojiNames(path, skin_tones=True)
    for split in SPLITS:
        assert {r.id for r in plain.records(split)} <= {r.id for r in toned.records(split)}
