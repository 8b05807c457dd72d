"""Data modules: they know files and records, nothing of models.

`datamodules.ESConv(path).records("train")` works without tokenizer, model or trainer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.aqua import AQuA
    from datamodules.base import ZooDataModule
    from datamodules.bigtom import BigToM
    from datamodules.clinc150 import CLINC150
    from datamodules.commonsense_qa import CommonsenseQA
    from datamodules.conditioned_chat import ConditionedChat
    from datamodules.dbpedia import DBpedia
    from datamodules.digits_text import DigitsText
    from datamodules.emoji_names import EmojiNames
    from datamodules.empathetic_dialogues import EmpatheticDialogues
    from datamodules.esconv import ESConv
    from datamodules.false_belief import FalseBelief
    from datamodules.image_text import ImageText
    from datamodules.label_paths import LabelPaths
    from datamodules.mmlu import MMLU
    from datamodules.task_views import TaskViews
    from datamodules.tomi import ToMi
    from datamodules.triples import Triples
    from datamodules.truthful_qa import TruthfulQA
    from datamodules.wos import WoS

__all__ = [
    "AQuA",
    "BigToM",
    "CLINC150",
    "CommonsenseQA",
    "ConditionedChat",
    "DBpedia",
    "DigitsText",
    "ESConv",
    "EmojiNames",
    "EmpatheticDialogues",
    "FalseBelief",
    "ImageText",
    "LabelPaths",
    "MMLU",
    "TaskViews",
    "ToMi",
    "Triples",
    "TruthfulQA",
    "WoS",
    "ZooDataModule",
]

_HOME = {
    "AQuA": "aqua",
    "BigToM": "bigtom",
    "CLINC150": "clinc150",
    "CommonsenseQA": "commonsense_qa",
    "ConditionedChat": "conditioned_chat",
    "DBpedia": "dbpedia",
    "DigitsText": "digits_text",
    "ESConv": "esconv",
    "EmojiNames": "emoji_names",
    "EmpatheticDialogues": "empathetic_dialogues",
    "FalseBelief": "false_belief",
    "ImageText": "image_text",
    "LabelPaths": "label_paths",
    "MMLU": "mmlu",
    "TaskViews": "task_views",
    "ToMi": "tomi",
    "Triples": "triples",
    "TruthfulQA": "truthful_qa",
    "WoS": "wos",
    "ZooDataModule": "base",
}


def __getattr__(name: str) -> Any:
    """Import a data module at its first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'datamodules' has no attribute {name!r}")
    return getattr(import_module(f"datamodules.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
