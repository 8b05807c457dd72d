"""Encoded pictures and sounds to tensors.

Pictures go through Hugging Face's processors on Pillow, which need no torchvision; sounds are read
by the standard library.
"""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.records import Media

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture_processor(folder: str | Path | None, config: Any, size: int | None = None) -> Any:
    """Return the Hugging Face processor that an encoder's pictures go through.

    It is the encoder's own (DINOv2's, for example, scales the shorter side to 256 pixels and keeps
    the middle 224), unless its folder names none or a size is given. Then the shorter side is
    scaled to the size (bicubic) and the middle is kept.

    Args:
        folder: The encoder's folder; None if it has none.
        config: Its Hugging Face config.
        size: Height and width in pixels to use instead of its own.

    Raises:
        InputError: The folder's `preprocessor_config.json` is unreadable; names it.
    """
    from transformers import AutoImageProcessor
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    path = Path(folder or "") / "preprocessor_config.json"
    try:
        saved = json.loads(path.read_text()) if folder and path.is_file() else {}
        named = saved.keys() & {"image_processor_type", "feature_extractor_type"}
        if size is None and saved and (named or type(config) in IMAGE_PROCESSOR_MAPPING):
            local = {"local_files_only": True, "trust_remote_code": False}
            return AutoImageProcessor.from_pretrained(folder, config=config, backend="pil", **local)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not the settings of a picture processor ({error})") from error
    side: Any = saved.get("crop_size") or saved.get("size") or getattr(config, "image_size", 224)
    if isinstance(side, dict):
        side = side.get("height") or side.get("shortest_edge")
    side = int(size or side)
    return BitImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=saved.get("image_mean", IMAGENET_MEAN),
        image_std=saved.get("image_std", IMAGENET_STD),
    )


def decode_picture(media: Media, processor: Any) -> Tensor:
    """Return a picture as `(3, height, width)`, float32, normalised.

    Grey and palette pictures become RGB; transparent pixels become white.

    Args:
        media: The picture's file.
        processor: See `picture_processor`.

    Raises:
        InputError: The bytes are no picture that Pillow reads, or a damaged one.
    """
    return processor(read_picture(media), return_tensors="pt")["pixel_values"][0]


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
