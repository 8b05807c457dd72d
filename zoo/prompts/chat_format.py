"""Turn markers of a chat format, found by the tokens that a tokenizer knows, or by its template.

A method writes its own roles (`thought` beside `user` and `assistant`), which chat templates do not
know, so the markers are used directly. No token is added to any vocabulary.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from zoo.encoding import NO_HEAD, Segment
from zoo.markup import Markup

log = logging.getLogger(__name__)
PLAIN_HEADER = "### {role}\n"
SEPARATOR = "<|im_sep|>"  # of Phi 4, whose markers are those of ChatML otherwise


@dataclass(frozen=True)
class ChatFormat:
    """Markers around a turn.

    Attributes:
        begin: Text before the first turn.
        header: Opening of a turn, with `{role}`.
        end: End-of-turn token, as `Markup`; the last thing a head learns of a segment.
        gap: Text between an end-of-turn and the next header.
        turns: Role -> what opens and what closes its turns, where it is not gap, header and end.
    """

    begin: str
    header: str
    end: Markup
    gap: str
    turns: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def open(self, role: str, *, first: bool = False) -> Markup:
        """Return what precedes a turn's text: gap and header, or begin and header."""
        opening, _ = self.turns.get(role, (self.gap + self.header.format(role=role), ""))
        return Markup(self.begin + opening.lstrip() if first else opening)

    def close(self, role: str) -> Markup:
        """Return what ends a turn's text."""
        return Markup(self.turns[role][1]) if role in self.turns else self.end

    def turn(
        self, role: str, text: str, *, head: int = NO_HEAD, first: bool = False, weight: float = 1.0
    ) -> list[Segment]:
        """Return a turn's segments; text and end-of-turn belong to `head`, the header never."""
        return [
            Segment(self.open(role, first=first), "header"),
            Segment(text + self.close(role), role, head, weight),
        ]


CHATML = ChatFormat(begin="", header="<|im_start|>{role}\n", end=Markup("<|im_end|>"), gap="\n")
LLAMA3 = ChatFormat(
    begin="<|begin_of_text|>",
    header="<|start_header_id|>{role}<|end_header_id|>\n\n",
    end=Markup("<|eot_id|>"),
    gap="",
)
GEMMA = ChatFormat(
    begin="<bos>",
    header="<start_of_turn>{role}\n",
    end=Markup("<end_of_turn>"),
    gap="\n",
)


@lru_cache(maxsize=64)
def chat_format(tokenizer: Any) -> ChatFormat:
    """Return the format whose end-of-turn is a token of this tokenizer.

    Other models' markers are learned from their chat template. A base model without one, and a
    model whose template is not additive, get plain headers and their end-of-sequence token.
    """
    vocabulary = tokenizer.get_vocab()
    for known, token in (
        (CHATML, "<|im_start|>"),
        (LLAMA3, "<|start_header_id|>"),
        (GEMMA, "<start_of_turn>"),
    ):
        if token in vocabulary and known.end in vocabulary and SEPARATOR not in vocabulary:
            return known
    if tokenizer.chat_template:
        learned = learned_format(tokenizer)
        if learned is not None:
            return learned
        log.warning(
            "%s: no turn markers can be taken from its chat template, which is not additive; turns "
            "begin with plain `### role` lines",
            tokenizer.name_or_path or "tokenizer",
        )
    return ChatFormat(
        begin=tokenizer.bos_token or "",
        header=PLAIN_HEADER,
        end=Markup(tokenizer.eos_token),
        gap="\n",
    )


EXCHANGES = ("user", "assistant") * 3
WITH_SYSTEM = ("system", *EXCHANGES)


def learned_format(tokenizer: Any) -> ChatFormat | None:
    """Return the turn markers of a tokenizer's chat template; None if it is not additive.

    Where a template has no system turn, a system text is a user's turn of its own. Roles that it
    does not know (`thought`) get headers like those of its roles, or `### thought`.
    """
    told, bare = between(tokenizer, WITH_SYSTEM), between(tokenizer, EXCHANGES)
    _, question_end, answer_end, *_ = bare or (told or [""] * 4)[1:]
    stop = re.match(r"\s*(?:" + "|".join(_control_names(tokenizer)) + ")", answer_end)
    if stop is None:
        return None
    user_opens, closes = answer_end[stop.end() :], stop[0]
    user_closes, answer_opens = "", question_end
    if question_end.startswith(closes):
        user_closes, answer_opens = closes, question_end[len(closes) :]
    elif "assistant" not in question_end.lower():
        user_closes, answer_opens = question_end, ""
    turns = {"user": (user_opens, user_closes), "assistant": (answer_opens, closes)}
    begin = bare[0].removesuffix(user_opens.lstrip()) if bare else ""
    turns["system"] = turns["user"]
    if told and told[1].endswith(user_opens):
        named = header_of(user_opens, answer_opens)
        system_opens = told[0].removeprefix(begin)
        if named:  # what a template says where there is no system text is not the beginning
            system_opens = named.format(role="system").lstrip()
            begin = told[0].removesuffix(system_opens)
        turns["system"] = system_opens, told[1].removesuffix(user_opens)
    chat = ChatFormat(
        begin=begin,
        header=header_of(user_opens, answer_opens) or f"\n{PLAIN_HEADER}",
        end=Markup(stop[0].strip()),
        gap="",
        turns=turns,
    )
    own_system = turns["system"] != turns["user"]
    return chat if is_additive(tokenizer, chat, WITH_SYSTEM if own_system else EXCHANGES) else None


def header_of(user_opens: str, answer_opens: str) -> str:
    """Return the opening of a turn with `{role}`; empty if the roles' names do not stand in it."""
    pattern = answer_opens.replace("{", "{{").replace("}", "}}").replace("assistant", "{role}", 1)
    return pattern if pattern.format(role="user") == user_opens != answer_opens else ""


def is_additive(tokenizer: Any, chat: ChatFormat, roles: Sequence[str]) -> bool:
    """Return whether a template writes shorter and longer conversations by these markers."""
    for length in range(2 + len(roles) % 2, len(roles) + 1, 2):
        words = [f"Are these {length} the {i}th words?" for i in range(length)]
        pairs = list(zip(roles, words, strict=False))
        turns = (chat.turn(*pair, first=i == 0) for i, pair in enumerate(pairs))
        joined = "".join(str(part.text) for turn in turns for part in turn)
        written = render(tokenizer, pairs)
        if written is None or written.strip() != joined.strip():
            return False
    return True


def between(tokenizer: Any, roles: Sequence[str]) -> list[str] | None:
    """Return what a template writes before, between and after the texts of a conversation.

    None if it refuses these roles, or leaves a text out.
    """
    words = [f"word{i}word" for i in range(len(roles))]
    written = render(tokenizer, list(zip(roles, words, strict=True))) or ""
    pieces = re.split("|".join(words), written)
    found = re.findall("|".join(words), written)
    same = all(a == b for a, b in itertools.pairwise(pieces[-6:-1:2]))
    return pieces if found == words and same else None


def render(tokenizer: Any, turns: Sequence[tuple[str, str]]) -> str | None:
    """Return what a template writes of (role, text); None if it refuses."""
    from jinja2 import TemplateError

    messages = [{"role": role, "content": text} for role, text in turns]
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False)
    except (TemplateError, TypeError, KeyError, ValueError):  # what templates raise
        return None


def _control_names(tokenizer: Any) -> list[str]:
    """Return the names of all added tokens as patterns, long ones first."""
    names = {token.content for token in tokenizer.added_tokens_decoder.values()}
    return [re.escape(name) for name in sorted(names, key=len, reverse=True) if name.strip()]
