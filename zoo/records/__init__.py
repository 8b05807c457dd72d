"""Records: what a data module yields. Plain text, no tensors, no model.

A record is one unit of annotated data in the words of its dataset. A method's encoder says which
record types it takes and turns each into token ids (`zoo/encoding.py`). `datamodules` imports this
package (and `zoo.errors`) and nothing else of `zoo`.
"""

from __future__ import annotations

from zoo.records.dialogue import (
    SEEKER,
    SUPPORTER,
    Dialogue,
    Turn,
    awaiting_reply,
    opened_by_seeker,
)
from zoo.records.dilemmas import (
    ACTION_TYPES,
    NOT_TO_DO,
    THEORIES,
    TO_DO,
    Action,
    Dilemma,
    PrincipleText,
    unlabelled,
)
from zoo.records.labels import LabelPath, Taxonomy
from zoo.records.media import Media, MediaText
from zoo.records.questions import Preference, Question, Triple
from zoo.records.ranking import Corpus, Document, Ranking
from zoo.records.scene import Role, Scene
from zoo.records.subtitles import ScoredBlock, ScoredSegment, SubtitleBlock
from zoo.records.text import Conditioned, PlainText

Record = (
    Triple
    | Dialogue
    | MediaText
    | LabelPath
    | Question
    | Conditioned
    | PlainText
    | Preference
    | Ranking
    | SubtitleBlock
    | ScoredBlock
    | Dilemma
    | Scene
)

__all__ = [
    "ACTION_TYPES",
    "NOT_TO_DO",
    "SEEKER",
    "SUPPORTER",
    "THEORIES",
    "TO_DO",
    "Action",
    "Conditioned",
    "Corpus",
    "Dialogue",
    "Dilemma",
    "Document",
    "LabelPath",
    "Media",
    "MediaText",
    "PlainText",
    "Preference",
    "PrincipleText",
    "Question",
    "Ranking",
    "Record",
    "Role",
    "Scene",
    "ScoredBlock",
    "ScoredSegment",
    "SubtitleBlock",
    "Taxonomy",
    "Triple",
    "Turn",
    "awaiting_reply",
    "opened_by_seeker",
    "unlabelled",
]
