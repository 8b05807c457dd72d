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
from zoo.records.labels import LabelPath, Taxonomy
from zoo.records.media import Media, MediaText
from zoo.records.questions import Question, Triple
from zoo.records.ranking import Corpus, Document, Ranking
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
    | Ranking
    | SubtitleBlock
    | ScoredBlock
)

__all__ = [
    "SEEKER",
    "SUPPORTER",
    "Conditioned",
    "Corpus",
    "Dialogue",
    "Document",
    "LabelPath",
    "Media",
    "MediaText",
    "PlainText",
    "Question",
    "Ranking",
    "Record",
    "ScoredBlock",
    "ScoredSegment",
    "SubtitleBlock",
    "Taxonomy",
    "Triple",
    "Turn",
    "awaiting_reply",
    "opened_by_seeker",
]
