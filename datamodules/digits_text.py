"""Handwritten digits with the text `the digit three`: real pictures that need no download.

They are the 1,797 grey 8x8 pictures that come with scikit-learn (`load_digits`, the test part of
the UCI set), encoded as PNG in memory, white ink on black. scikit-learn and Pillow are imported at
the first use.

`group` is the text: two pictures of one digit are never each other's negatives, so a batch holds at
most ten pictures.

Of each digit, in the order of scikit-learn, the ninth of every ten pictures is for validation, the
tenth for test. That gives 1,444 / 177 / 176, for each digit 140 to 147 / 17 or 18 / 17 or 18. The
13 writers are not told apart in the data, so all splits have pictures of the same writers.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from datamodules.base import ZooDataModule
from zoo.errors import InputError
from zoo.records import Media, MediaText, Record

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLACES = {8: "val", 9: "test"}
"""Split of a picture by its number among those of its digit, modulo ten; the others train."""

WHITE = 16
"""The largest value of a pixel in scikit-learn's pictures."""


class DigitsText(ZooDataModule):
    """Handwritten digits with their names as `MediaText` records."""

    record_types = (MediaText,)

    def load(self, split: str) -> list[Record]:
        """Return the digits of a split."""
        return [record for place, record in read_digits() if place == split]


def read_digits() -> Iterator[tuple[str, MediaText]]:
    """Yield `(split, record)` of each picture.

    Raises:
        InputError: scikit-learn or Pillow is not installed.
    """
    datasets = _needed("sklearn.datasets", "scikit-learn")
    image = _needed("PIL.Image", "pillow")
    digits = datasets.load_digits()
    seen: Counter[int] = Counter()
    for number, (pixels, target) in enumerate(zip(digits.images, digits.target, strict=True)):
        digit = int(target)
        split = PLACES.get(seen[digit] % 10, "train")
        seen[digit] += 1
        text, name = f"the digit {NAMES[digit]}", f"digits:{number}"
        media = Media(name=name, data=_png(image, pixels))
        yield split, MediaText(media, (text,), group=text, id=name)


def _png(image: Any, pixels: Any) -> bytes:
    stream = io.BytesIO()
    grey = (pixels * (255 / WHITE)).round().astype("uint8")
    image.fromarray(grey).save(stream, format="PNG")
    return stream.getvalue()


def _needed(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"DigitsText needs {module} ({error}); install it: pip install {package}"
        ) from error
