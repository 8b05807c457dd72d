"""Handwritten digits with their names."""

import io
import sys
from collections import Counter

import pytest

from datamodules import DigitsText
from datamodules.digits_text import NAMES

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def found():
    for package in ("sklearn", "PIL"):
        pytest.importorskip(package)
    data = DigitsText()
    return {split: data.records(split) for split in SPLITS}


def test_splits_hold_the_same_share_of_each_digit(found):
    assert [len(found[split]) for split in SPLITS] == [1444, 177, 176]
    for split in ("val", "test"):
        assert set(Counter(r.texts for r in found[split]).values()) == {17, 18}
    ids = [r.id for part in found.values() for r in part]
    assert len(set(ids)) == 1797
    assert found["train"][0].id == "digits:0"


def test_text_is_the_group(found):
    for record in sum(found.values(), []):
        assert record.texts == (record.group,)
    assert {r.group for r in found["val"]} == {f"the digit {name}" for name in NAMES}


def test_pictures_are_those_of_scikit_learn(found):
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for record in found["val"]:
        number = int(record.id.removeprefix("digits:"))
        picture = Image.open(io.BytesIO(record.media.read()))
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (8, 8))
        values = [round(value * 16 / 255) for value in picture.tobytes()]
        assert values == digits.images[number].flatten().tolist()
        assert record.texts == (f"the digit {NAMES[digits.target[number]]}",)


def test_limits(found):
    assert DigitsText(max_val=3).records("val") == found["val"][:3]


@pytest.mark.parametrize(
    ("module", "package"), [("sklearn.datasets", "scikit-learn"), ("PIL.Image", "pillow")]
)
def test_without_the_package(refused, monkeypatch, module, package):
    if package == "pillow":
        pytest.importorskip("sklearn")
    monkeypatch.setitem(sys.modules, module, None)
    refused(lambda: DigitsText().records("train"), f"pip install {package}")
