"""Data modules: they know files and records, nothing of models.

`datamodules.ESConv(path).records("train")` works without tokenizer, model or trainer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.base import ZooDataModule
    from datamodules.bigtom import BigToM
    from datamodules.digits_text import DigitsText
    from datamodules.emoji_names import EmojiNames
    from datamodules.esconv import ESConv
    from datamodules.false_belief import FalseBelief
    from datamodules.image_text import ImageText
    from datamodules.tomi import ToMi
    from datamodules.triples import Triples

__all__ = [
    "BigToM",
    "DigitsText",
    "ESConv",
    "EmojiNames",
    "FalseBelief",
    "ImageText",
    "ToMi",
    "Triples",
    "ZooDataModule",
]

_HOME = {
    "BigToM": "bigtom",
    "DigitsText": "digits_text",
    "ESConv": "esconv",
    "EmojiNames": "emoji_names",
    "FalseBelief": "false_belief",
    "ImageText": "image_text",
    "ToMi": "tomi",
    "Triples": "triples",
    "ZooDataModule": "base",
}


def __getattr__(name: str) -> Any:
    """Import a data module at its first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'datamodules' has no attribute {name!r}")
    return getattr(import_module(f"datamodules.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
