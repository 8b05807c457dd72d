"""Wording of the relevance question: document, query, question, one of two labels.

The paper's wording is a function: two lines with the texts, a relevance question (I_r) and a binary
choice (I_bc). `released` asks what the released script asks, in words of this project: it writes
the document as a reply strategy and the query as a conversation, and puts the relevance question
between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SYSTEM = "You are a helpful assistant."
Order = Literal["document_first", "query_first"]


@dataclass(frozen=True)
class Template:
    """Wording of a prompt.

    Attributes:
        document: Line before the document.
        query: Line before the query.
        relevance: I_r, the relevance question.
        choice: I_bc, with `{true}` and `{false}` for the labels.
        asks_first: The relevance question stands between the two texts instead of after them.
    """

    document: str
    query: str
    relevance: str
    choice: str
    asks_first: bool = False


TEMPLATES = {
    "paper": Template(
        document="document:",
        query="query:",
        relevance="Can Q be appropriately responded with D?",
        choice="If you think the answer is true, please choose {true}; otherwise choose {false}.",
    ),
    "followup": Template(  # as the paper of Rabtriever prints it
        document="Document :",
        query="Query :",
        relevance="Can Query be appropriately responded with Document?",
        choice="If the answer is true, choose {true}; otherwise, choose {false}.",
    ),
    "released": Template(
        document="### Reply strategy\n",
        query="### Conversation\n",
        relevance="Decide whether the next reply in the conversation can use this strategy.",
        choice="Answer only {true} (it can) or {false} (it cannot). Do not explain.",
        asks_first=True,
    ),
}
