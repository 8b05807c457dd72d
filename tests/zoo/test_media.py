"""Pictures and sounds of any kind become tensors; damaged ones are named."""

from __future__ import annotations

import io
import json
import struct
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.errors import InputError
from zoo.media import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    decode_picture,
    decode_sound,
    picture_processor,
    read_picture,
    thumbnail,
)
from zoo.records import Media

PLAIN = picture_processor(None, None, 8)
PLAIN.image_mean, PLAIN.image_std = (0.0,) * 3, (1.0,) * 3  # values in 0..1, unchanged
RATE = 16_000


def encoded(picture: Any, form: str = "PNG", **options: Any) -> Media:
    stream = io.BytesIO()
    picture.save(stream, format=form, **options)
    return Media("some picture", data=stream.getvalue())


def one_colour(mode: str, colour: Any, size: tuple[int, int] = (8, 8)) -> Any:
    return Image.new(mode, size, colour)


def palette() -> Any:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    return picture


RED = (1.0, 0.0, 0.0)
PICTURES = {
    "rgb": (one_colour("RGB", (255, 0, 0)), RED),
    "grey": (one_colour("L", 51), (0.2,) * 3),
    "black and white": (one_colour("1", 1), (1.0,) * 3),
    "grey with alpha": (one_colour("LA", (0, 255)), (0.0,) * 3),
    "opaque": (one_colour("RGBA", (255, 0, 0, 255)), RED),
    "transparent": (one_colour("RGBA", (255, 0, 0, 0)), (1.0,) * 3),
    "palette": (palette(), RED),
    "one pixel": (one_colour("RGB", (255, 0, 0), (1, 1)), RED),
    "wide": (one_colour("RGB", (255, 0, 0), (200, 3)), RED),
    "tall": (one_colour("RGB", (255, 0, 0), (3, 200)), RED),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_any_picture_becomes_rgb_of_the_right_size(kind: str) -> None:
    picture, colour = PICTURES[kind]
    found = decode_picture(encoded(picture), PLAIN)
    assert found.shape == (3, 8, 8)
    assert found.dtype == torch.float32
    expected = torch.tensor(colour)[:, None, None].expand(3, 8, 8)
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=0)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_other_file_formats(form: str) -> None:
    found = decode_picture(encoded(one_colour("RGB", (255, 0, 0)), form), PLAIN)
    torch.testing.assert_close(found.mean((1, 2)), torch.tensor(RED), atol=0.05, rtol=0)


def test_the_middle_is_kept() -> None:
    """A picture three times as wide as high: its middle third."""
    pixels = np.zeros((8, 24, 3), dtype=np.uint8)
    pixels[:, 8:16] = 255
    assert decode_picture(encoded(Image.fromarray(pixels)), PLAIN).min() > 0.99


def test_mean_and_deviation() -> None:
    form = picture_processor(None, None, 8)
    form.image_mean, form.image_std = (0.5, 0.25, 0.0), (0.5, 0.25, 2.0)
    found = decode_picture(encoded(one_colour("RGB", (255, 0, 0))), form)
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([1.0, -1.0, 0.0]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "no bytes there"), (b"not a picture", "not a readable picture")],
)
def test_no_picture(content: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=f"^photo 7: {reason}"):
        decode_picture(Media("photo 7", data=content), PLAIN)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_picture(form: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), form).data
    with pytest.raises(InputError, match=r"^cut\.png: not a readable picture"):
        decode_picture(Media("cut.png", data=whole[: int(len(whole) * share)]), PLAIN)


def test_corrupt_picture() -> None:
    """A byte inside the compressed pixels is wrong."""
    content = bytearray(encoded(one_colour("RGB", (9, 8, 7), (64, 64))).data)
    content[content.index(b"IDAT") + 8] ^= 0xFF
    with pytest.raises(InputError, match=r"^wrong\.png: not a readable picture"):
        decode_picture(Media("wrong.png", data=bytes(content)), PLAIN)


def test_zero_bytes_and_missing_files(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    with pytest.raises(InputError, match=r"^empty: no bytes there"):
        decode_picture(Media("empty", path=str(empty)), PLAIN)
    with pytest.raises(InputError, match=r"^gone: cannot read .*gone\.png"):
        decode_picture(Media("gone", path=str(tmp_path / "gone.png")), PLAIN)


def test_a_stretch_of_a_file(tmp_path: Path) -> None:
    content = encoded(one_colour("RGB", (255, 0, 0))).data
    path = tmp_path / "all.tar"
    path.write_bytes(b"before" + content + b"after")
    media = Media("x", path=str(path), offset=6, size=len(content))
    torch.testing.assert_close(decode_picture(media, PLAIN)[:, 0, 0], torch.tensor(RED))


def test_thumbnail_keeps_the_sides() -> None:
    assert thumbnail(encoded(one_colour("RGB", 0, (200, 100)))).shape == (48, 96, 3)
    assert read_picture(encoded(one_colour("L", 0, (5, 3)))).size == (5, 3)


# -- what an encoder wants ---------------------------------------------------------------------

STATISTICS = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 2.0, 3.0]}
CROPPED = {
    "size": {"shortest_edge": 256},
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
}
DINOV2 = {"image_processor_type": "BitImageProcessor", **CROPPED}
SQUARE = {"image_processor_type": "ViTImageProcessor", "size": 224, "resample": 3}


def by_hand(
    picture: Any, size: tuple[int, int], corner: tuple[int, int], side: int
) -> torch.Tensor:
    """Scale a picture to a size and keep the square at a corner; normalise by `STATISTICS`."""
    left, top = corner
    scaled = picture.resize(size, Image.Resampling.BICUBIC)
    pixels = np.array(scaled.crop((left, top, left + side, top + side))) / 255
    normalised = (pixels - STATISTICS["image_mean"]) / STATISTICS["image_std"]
    return torch.from_numpy(normalised).permute(2, 0, 1).float()


@pytest.mark.parametrize(
    ("content", "size", "scaled", "corner", "side"),
    [
        (DINOV2, None, (384, 256), (80, 16), 224),  # its own: scaled to 256, the middle 224 kept
        (SQUARE, None, (224, 224), (0, 0), 224),  # its own: squeezed, nothing cut off
        (DINOV2, 32, (48, 32), (8, 0), 32),  # a size of ours: the shorter side, and the middle
        ({"size": 48}, None, (72, 48), (12, 0), 48),  # no processor is named
        ({}, None, (24, 16), (4, 0), 16),  # no size either: the config's
    ],
)
def test_pictures_go_through_the_encoders_own_processor(
    content: Any, size: Any, scaled: Any, corner: Any, side: int, tmp_path: Path
) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**content, **STATISTICS}))
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    processor = picture_processor(tmp_path, SimpleNamespace(image_size=16), size)
    expected = by_hand(picture, scaled, corner, side)
    torch.testing.assert_close(
        decode_picture(encoded(picture), processor), expected, atol=1e-5, rtol=0
    )


def test_a_config_names_the_processor_where_its_file_does_not(tmp_path: Path) -> None:
    from transformers import Dinov2Config

    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**CROPPED, **STATISTICS}))
    processor = picture_processor(tmp_path, Dinov2Config(image_size=518))
    assert (processor.size["shortest_edge"], processor.crop_size["height"]) == (256, 224)


def test_no_processor_is_known(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        processor = picture_processor(folder, SimpleNamespace(image_size=28))
        assert processor.crop_size["height"] == processor.size["shortest_edge"] == 28
        assert (processor.image_mean, processor.image_std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert picture_processor(None, SimpleNamespace()).crop_size["height"] == 224


@pytest.mark.parametrize("content", ["{", "[1]", '{"image_processor_type": "Nonesuch"}'])
def test_an_unreadable_processor_file_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(InputError, match="preprocessor_config.json: not the settings of a picture"):
        picture_processor(tmp_path, SimpleNamespace(image_size=16))


# -- sounds ------------------------------------------------------------------------------------


def sound(samples: Any, *, rate: int = RATE, channels: int = 1, width: int = 2) -> Media:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(np.asarray(samples).astype("<i2").tobytes())
    return Media("some sound", data=stream.getvalue())


def test_sound_is_normalised_and_followed_by_silence() -> None:
    found = decode_sound(sound([1000, -1000] * 50), seconds=0.01)
    assert found.shape == (160,)
    torch.testing.assert_close(found[:100], torch.tensor([1.0, -1.0] * 50))
    assert not found[100:].any()


def test_a_longer_sound_is_cut() -> None:
    long = [1000, -1000] * 80 + [30000] * 500
    found = decode_sound(sound(long), seconds=0.01)
    torch.testing.assert_close(found, torch.tensor([1.0, -1.0] * 80))


def test_stereo_becomes_mono() -> None:
    both = decode_sound(sound([3000, 1000, -3000, -1000] * 10, channels=2), seconds=0.001)
    torch.testing.assert_close(both, torch.tensor([1.0, -1.0] * 8))


def test_silence_stays_silence() -> None:
    assert not decode_sound(sound([0] * 20), seconds=0.01).any()


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        (Media("beep", data=b""), "beep: no bytes there"),
        (Media("beep", data=b"RIFF"), "beep: not a readable WAV file"),
        (Media("beep", data=b"not a sound at all, but long"), "beep: not a readable WAV file"),
        (
            sound([1] * 9, rate=8000),
            "some sound: 16 bits at 8000 Hz; convert it to 16",
        ),
        (sound([1] * 9, width=1), "some sound: 8 bits at 16000 Hz"),
        (sound([]), "some sound: no sound in it"),
    ],
)
def test_no_sound(media: Media, reason: str) -> None:
    with pytest.raises(InputError, match=f"^{reason}"):
        decode_sound(media)


@pytest.mark.parametrize("bytes_left", [401, 402, 403])
def test_sound_cut_off_inside_a_sample(bytes_left: int) -> None:
    """What is whole is read, whatever the header promises."""
    content = sound([1000, -1000] * 500, channels=2).data
    found = decode_sound(Media("cut", data=content[: 44 + bytes_left]), seconds=0.1)
    assert found.shape == (1600,)
    assert torch.isfinite(found).all()


def test_float_wav() -> None:
    """Format 3 (float samples) is not read as integers."""
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 52, b"WAVE", b"fmt ", 16, 3, 1),
        *(RATE, 4 * RATE, 4, 32, b"data", 16),
    )
    with pytest.raises(InputError, match=r"not a readable WAV file"):
        decode_sound(Media("float", data=header + bytes(16)))
