"""Label paths, a question and HdLM's encoder for the tests of its wording."""

from __future__ import annotations

from typing import Any

from zoo.methods.hdlm.encoder import LevelEncoder
from zoo.records import LabelPath, Question, Taxonomy
from zoo.tiny_models import byte_tokenizer

TWO = Taxonomy({(): ("med", "law"), ("med",): ("eye", "ear", "toe"), ("law",): ("tax", "eye")})
THREE = Taxonomy(
    {(): ("a", "b"), ("a",): ("c",), ("b",): ("d", "e"), ("a", "c"): ("f",), ("b", "e"): ("g", "h")}
)
PAPER = LabelPath("Deaf.", ("med", "ear"), TWO, id="p")
QUESTION = Question("2 + 2?", ("3", "4"), 1, rationale="Count on.", id="q")


def encoder(depth: int = 2, **options: Any) -> LevelEncoder:
    return LevelEncoder(byte_tokenizer(), depth, **options)


def rendered(found: LevelEncoder, record: Any) -> list[str]:
    return [found.tokenizer.decode(example.input_ids) for example in found(record)]
