"""Data modules: they know files and records, nothing of models.

`datamodules.ESConv(path).records("train")` works without tokenizer, model or trainer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.aqua import AQuA as AQuA
    from datamodules.base import ZooDataModule as ZooDataModule
    from datamodules.beir import BEIR as BEIR
    from datamodules.bigtom import BigToM as BigToM
    from datamodules.chats import Chats as Chats
    from datamodules.chinese_exams import CMMLU as CMMLU
    from datamodules.chinese_exams import CEval as CEval
    from datamodules.clinc150 import CLINC150 as CLINC150
    from datamodules.commonsense_qa import CommonsenseQA as CommonsenseQA
    from datamodules.conditioned_chat import ConditionedChat as ConditionedChat
    from datamodules.cranfield import Cranfield as Cranfield
    from datamodules.daily_dialog import DailyDialog as DailyDialog
    from datamodules.daily_dilemmas import DailyDilemmas as DailyDilemmas
    from datamodules.dbpedia import DBpedia as DBpedia
    from datamodules.digits_text import DigitsText as DigitsText
    from datamodules.documents import Documents as Documents
    from datamodules.emoji_names import EmojiNames as EmojiNames
    from datamodules.emorynlp import EmoryNLP as EmoryNLP
    from datamodules.empathetic_dialogues import EmpatheticDialogues as EmpatheticDialogues
    from datamodules.esconv import ESConv as ESConv
    from datamodules.esconv_strategies import ESConvStrategies as ESConvStrategies
    from datamodules.fact_world import FactWorld as FactWorld
    from datamodules.false_belief import FalseBelief as FalseBelief
    from datamodules.image_text import ImageText as ImageText
    from datamodules.label_paths import LabelPaths as LabelPaths
    from datamodules.meld import MELD as MELD
    from datamodules.mixture_corpus import MixtureCorpus as MixtureCorpus
    from datamodules.mmlu import MMLU as MMLU
    from datamodules.msmarco_triples import MSMARCOTriples as MSMARCOTriples
    from datamodules.multiwoz import MultiWOZ as MultiWOZ
    from datamodules.preferences import Preferences as Preferences
    from datamodules.psyqa import PsyQA as PsyQA
    from datamodules.ranking_records import RankingRecords as RankingRecords
    from datamodules.saycan import SayCan as SayCan
    from datamodules.scenes import Scenes as Scenes
    from datamodules.scored_blocks import ScoredBlocks as ScoredBlocks
    from datamodules.subtitles import Subtitles as Subtitles
    from datamodules.task_views import TaskViews as TaskViews
    from datamodules.tomi import ToMi as ToMi
    from datamodules.triples import Triples as Triples
    from datamodules.truthful_qa import TruthfulQA as TruthfulQA
    from datamodules.wos import WoS as WoS

_HOME = {
    "AQuA": "aqua",
    "BEIR": "beir",
    "BigToM": "bigtom",
    "CEval": "chinese_exams",
    "CLINC150": "clinc150",
    "CMMLU": "chinese_exams",
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
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a data module at its first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'datamodules' has no attribute {name!r}")
    return getattr(import_module(f"datamodules.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
