"""Encoded pictures and sounds to tensors, with Pillow and the standard library.

Hugging Face's image processors need torchvision, which not every machine has; the sizes and
statistics that they would use are read from the encoder's `preprocessor_config.json`.
"""

from __future__ import annotations

import io
import json
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.records import Media

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class PictureFormat:
    """The form in which an encoder takes pictures.

    Attributes:
        size: Height and width in pixels.
        mean: Mean of each channel, of values in 0..1.
        std: Standard deviation of each channel.
    """

    size: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


def picture_format(
    folder: str | Path | None, config: Any, size: int | None = None
) -> PictureFormat:
    """Return an encoder's picture format: its preprocessor file, else its config and ImageNet.

    Args:
        folder: The encoder's folder; None if it has none.
        config: Its Hugging Face config.
        size: Height and width to use instead of its own.
    """
    path = Path(folder or "") / "preprocessor_config.json"
    saved = json.loads(path.read_text()) if folder and path.is_file() else {}
    named: Any = saved.get("crop_size") or saved.get("size") or getattr(config, "image_size", 224)
    if isinstance(named, dict):
        named = named.get("height") or named.get("shortest_edge")
    return PictureFormat(
        int(size or named),
        tuple(saved.get("image_mean", IMAGENET_MEAN)),
        tuple(saved.get("image_std", IMAGENET_STD)),
    )


def decode_picture(media: Media, form: PictureFormat) -> Tensor:
    """Return a picture as `(3, size, size)`, float32, normalised.

    Grey and palette pictures become RGB; transparent pixels become white. The picture is scaled
    (bicubic) so that its shorter side fits, and cropped in the middle.

    Raises:
        InputError: The bytes are no picture that Pillow reads, or a damaged one.
    """
    from PIL import Image

    picture = read_picture(media)
    width, height = picture.size
    scale = form.size / min(width, height)
    width, height = (max(form.size, round(side * scale)) for side in (width, height))
    left, top = (width - form.size) // 2, (height - form.size) // 2
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    picture = picture.crop((left, top, left + form.size, top + form.size))
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (form.mean, form.std))
    return (pixels - mean) / std


def read_picture(media: Media) -> Any:
    """Return a picture as an RGB Pillow image; transparent pixels become white.

    Raises:
        InputError: The bytes are no picture that Pillow reads, or a damaged one.
    """
    from PIL import Image

    content = media.read()
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            picture = opened.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{media.name}: not a readable picture ({error})") from error
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def thumbnail(media: Media, size: int = 96) -> Any:
    """Return a picture as a small array `(height, width, 3)`, its longer side `size` pixels."""
    picture = read_picture(media)
    picture.thumbnail((size, size))
    return np.array(picture)


def decode_sound(media: Media, rate: int = 16_000, seconds: float = 10.0) -> Tensor:
    """Return a sound as `(rate * seconds,)`, mono, zero mean and unit variance.

    A longer sound is cut, a shorter one followed by silence.

    Raises:
        InputError: The bytes are no 16-bit WAV file of this rate.
    """
    content = media.read()
    try:
        with wave.open(io.BytesIO(content)) as file:
            width, file_rate = file.getsampwidth(), file.getframerate()
            channels, raw = file.getnchannels(), file.readframes(int(rate * seconds))
    except (wave.Error, EOFError) as error:
        raise InputError(f"{media.name}: not a readable WAV file ({error})") from error
    if (width, file_rate) != (2, rate):
        raise InputError(
            f"{media.name}: {8 * width} bits at {file_rate} Hz; convert it to 16 bits at {rate} Hz"
        )
    raw = raw[: len(raw) // (2 * channels) * (2 * channels)]  # a file cut off inside a sample
    if not raw:
        raise InputError(f"{media.name}: no sound in it")
    samples = torch.frombuffer(bytearray(raw), dtype=torch.int16).float()
    samples = samples.view(-1, channels).mean(1)
    samples = (samples - samples.mean()) / (samples.std(correction=0) + 1e-7)
    out = torch.zeros(int(rate * seconds))
    out[: len(samples)] = samples
    return out
