"""Records with pools of documents, and batches of their pairs, for LaHoRe's fidelity tests."""

from __future__ import annotations

from zoo.records import Corpus, Document, Ranking

POOL = Corpus(
    {
        "ask": Document("ask", "Question"),
        "say": Document("say", "Restatement or Paraphrasing of what was told"),
        "fact": Document("fact", "a source", title="Information"),
        "other": Document("other", "Others"),
    }
)
RECORDS = [
    Ranking("seeker: I lost my job.\nsupporter: When?", POOL, (("say", 1), ("ask", 0)), id="one"),
    Ranking("seeker: hi", POOL, (("other", 2), ("ask", 1)), id="two"),
]
