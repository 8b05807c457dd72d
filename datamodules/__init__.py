"""Data modules: they know files and records, nothing of models.

`datamodules.ESConv(path).records("train")` works without tokenizer, model or trainer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.aqua import AQuA
    from datamodules.base import ZooDataModule
    from datamodules.beir import BEIR
    from datamodules.bigtom import BigToM
    from datamodules.chats import Chats
    from datamodules.clinc150 import CLINC150
    from datamodules.commonsense_qa import CommonsenseQA
    from datamodules.conditioned_chat import ConditionedChat
    from datamodules.cranfield import Cranfield
    from datamodules.daily_dialog import DailyDialog
    from datamodules.daily_dilemmas import DailyDilemmas
    from datamodules.dbpedia import DBpedia
    from datamodules.digits_text import DigitsText
    from datamodules.documents import Documents
    from datamodules.emoji_names import EmojiNames
    from datamodules.emorynlp import EmoryNLP
    from datamodules.empathetic_dialogues import EmpatheticDialogues
    from datamodules.esconv import ESConv
    from datamodules.esconv_strategies import ESConvStrategies
    from datamodules.fact_world import FactWorld
    from datamodules.false_belief import FalseBelief
    from datamodules.image_text import ImageText
    from datamodules.label_paths import LabelPaths
    from datamodules.meld import MELD
    from datamodules.mixture_corpus import MixtureCorpus
    from datamodules.mmlu import MMLU
    from datamodules.msmarco_triples import MSMARCOTriples
    from datamodules.multiwoz import MultiWOZ
    from datamodules.preferences import Preferences
    from datamodules.psyqa import PsyQA
    from datamodules.ranking_records import RankingRecords
    from datamodules.saycan import SayCan
    from datamodules.scenes import Scenes
    from datamodules.scored_blocks import ScoredBlocks
    from datamodules.subtitles import Subtitles
    from datamodules.task_views import TaskViews
    from datamodules.tomi import ToMi
    from datamodules.triples import Triples
    from datamodules.truthful_qa import TruthfulQA
    from datamodules.wos import WoS

__all__ = [
    "AQuA",
    "BEIR",
    "BigToM",
    "CLINC150",
    "Chats",
    "CommonsenseQA",
    "ConditionedChat",
    "Cranfield",
    "DBpedia",
    "DailyDialog",
    "DailyDilemmas",
    "DigitsText",
    "Documents",
    "ESConv",
    "ESConvStrategies",
    "EmojiNames",
    "EmoryNLP",
    "EmpatheticDialogues",
    "FactWorld",
    "FalseBelief",
    "ImageText",
    "LabelPaths",
    "MELD",
    "MMLU",
    "MSMARCOTriples",
    "MixtureCorpus",
    "MultiWOZ",
    "Preferences",
    "PsyQA",
    "RankingRecords",
    "SayCan",
    "Scenes",
    "ScoredBlocks",
    "Subtitles",
    "TaskViews",
    "ToMi",
    "Triples",
    "TruthfulQA",
    "WoS",
    "ZooDataModule",
]

_HOME = {
    "AQuA": "aqua",
    "BEIR": "beir",
    "BigToM": "bigtom",
    "CLINC150": "clinc150",
    "Chats": "chats",
    "CommonsenseQA": "commonsense_qa",
    "ConditionedChat": "conditioned_chat",
    "Cranfield": "cranfield",
    "DBpedia": "dbpedia",
    "DailyDialog": "daily_dialog",
    "DailyDilemmas": "daily_dilemmas",
    "DigitsText": "digits_text",
    "Documents": "documents",
    "ESConv": "esconv",
    "ESConvStrategies": "esconv_strategies",
    "EmojiNames": "emoji_names",
    "EmoryNLP": "emorynlp",
    "EmpatheticDialogues": "empathetic_dialogues",
    "FactWorld": "fact_world",
    "FalseBelief": "false_belief",
    "ImageText": "image_text",
    "LabelPaths": "label_paths",
    "MELD": "meld",
    "MMLU": "mmlu",
    "MSMARCOTriples": "msmarco_triples",
    "MixtureCorpus": "mixture_corpus",
    "MultiWOZ": "multiwoz",
    "Preferences": "preferences",
    "PsyQA": "psyqa",
    "RankingRecords": "ranking_records",
    "SayCan": "saycan",
    "Scenes": "scenes",
    "ScoredBlocks": "scored_blocks",
    "Subtitles": "subtitles",
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
