"""The baselines of emotional support conversation as plain data: what is asked, in which order.

A recipe is a row of calls to one model. Every call sees the same conversation; its task may quote
the answers of calls before it as `{name}`. The wording is ours; the recipes follow one-line
descriptions of the papers that compare with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from zoo.labels import Labels
from zoo.metrics.tags import strip_tags
from zoo.prompts.talk import SPEAKS

SYSTEM = "You are a supportive listener who helps a person in distress."
SHORT = "in one or two sentences"
FORM = (
    "Begin with the name of one strategy in square brackets: [Strategy] reply. Strategies: {names}."
)
WRITE = f"Write what the supporter says next, {SHORT}. {FORM}"

Reads = Literal["words", "points", "vote", "each", "draft", "emotion", "strategy", "found", "reply"]


@dataclass(frozen=True, slots=True)
class Call:
    """One question to the model.

    Attributes:
        name: What later tasks call the answer.
        task: What is asked; `{names}`, `{defined}`, `{emotions}` and earlier answers are filled in.
        begins: What the model's answer is begun with: its first field, or the name of who speaks
            (small models otherwise go on as the seeker).
        reads: What the answer is: `words`; `points`, a list, a line each; `vote`, the number of one
            of the points before it, whose text is the answer; `each`, asked for every point, the
            answers joined; a `draft` of a reply; a label; what a retriever `found`, without asking
            the model; or the `reply`.
        begins: What the answer is begun with: its first field, or the name of who speaks (small
            models otherwise go on as the seeker).
    """

    name: str
    task: str
    reads: Reads = "words"
    begins: str = ""


REPLY = Call("reply", WRITE, "reply", SPEAKS)
CHAIN = Call(
    "reply",
    "Think step by step, in three lines. `Emotion:` what the seeker feels, for example one of "
    "{emotions}. `Strategy:` the name of the strategy that fits, one of: {names}. `Response:` what "
    f"the supporter says next by it, {SHORT}.",
    "reply",
    "Emotion:",
)
WALK = (
    Call(
        "emotion",
        "Which emotion does the seeker feel now? Answer with one of: {emotions}.",
        "emotion",
    ),
    Call(
        "strategy",
        "The seeker's emotion: {emotion}.\nWhich strategy should the supporter use next? Answer "
        "with the name of one:\n{defined}",
        "strategy",
    ),
    Call(
        "reply",
        "The seeker's emotion: {emotion}.\nThe supporter's strategy: {strategy}.\nWrite what the "
        f"supporter says next by this strategy, {SHORT}.",
        "reply",
        SPEAKS,
    ),
)
DRAFT = Call("draft", WRITE, "draft", SPEAKS)
RECIPES: dict[str, tuple[Call, ...]] = {
    "direct": (REPLY,),
    "direct_refine": (
        Call(
            "reply",
            f"{WRITE} Do it twice, in two lines: `Draft:` a first version; `Revision:` a version "
            "that is better emotional support. Both have the form above.",
            "reply",
            "Draft:",
        ),
    ),
    "self_refine": (
        DRAFT,
        Call(
            "feedback",
            "A draft of what the supporter says next: {draft}\nHow could it be better emotional "
            f"support? Answer {SHORT}.",
        ),
        Call(
            "reply",
            "A draft of what the supporter says next: {draft}\nFeedback on it: {feedback}\nWrite "
            f"it again, better, {SHORT}. {FORM}",
            "reply",
            SPEAKS,
        ),
    ),
    "self_refine_two_calls": (
        DRAFT,
        Call(
            "reply",
            "A draft of what the supporter says next: {draft}\nIn two lines: `Feedback:` how it "
            f"could be better emotional support; `Revision:` the better version. {FORM}",
            "reply",
            "Feedback:",
        ),
    ),
    "cot": (CHAIN,),
    "plan_and_solve": (
        Call(
            "plan",
            f"Make a plan of what the supporter's next words should reach, {SHORT}. Do not write "
            "them yet.",
        ),
        Call("reply", f"A plan: {{plan}}\nCarry it out. {WRITE}", "reply", SPEAKS),
    ),
    "tot": (
        Call(
            "thoughts",
            "Write three different thoughts, a line each: which strategy the supporter could use "
            "next, one of {names}, and to what end.",
            "points",
        ),
        Call(
            "thought",
            "Thoughts about what the supporter could do next:\n{thoughts}\nWhich one helps the "
            "seeker most? Answer with its number.",
            "vote",
        ),
        Call(
            "intents",
            "The supporter decided: {thought}\nWrite three different ways to carry it out, a line "
            "each.",
            "points",
        ),
        Call(
            "intent",
            "The supporter decided: {thought}\nWays to carry it out:\n{intents}\nWhich one helps "
            "the seeker most? Answer with its number.",
            "vote",
        ),
        Call(
            "reply",
            f"The supporter decided: {{thought}}\nBy: {{intent}}\n{WRITE}",
            "reply",
            SPEAKS,
        ),
    ),
    "sot": (
        Call(
            "skeleton",
            "Write the skeleton of what the supporter says next: two or three points of three to "
            "five words, a line each.",
            "points",
        ),
        Call(
            "strategy",
            "Points of what the supporter says next:\n{skeleton}\nWhich strategy is that? Answer "
            "with the name of one: {names}.",
            "strategy",
        ),
        Call(
            "reply",
            "Points of what the supporter says next:\n{skeleton}\nWrite out this point alone, in "
            "one sentence: {point}",
            "each",
            SPEAKS,
        ),
    ),
    "rag": (
        Call("found", "", "found"),
        Call("reply", f"Strategies that may fit:\n{{found}}\n{WRITE}", "reply", SPEAKS),
    ),
    "csim": (
        Call(
            "reply",
            "In two lines: `Simulation:` imagine how the next two turns of the conversation could "
            f"go; `Response:` with that in mind, what the supporter says next, {SHORT}. {FORM}",
            "reply",
            "Simulation:",
        ),
    ),
    "fsm": WALK,
    "sft": (REPLY,),
    "sft_cot": (CHAIN,),
    "sft_fsm": WALK,
}
"""Kind of baseline -> its calls. The kinds that begin with `sft` are fine-tuned on `[Strategy]
reply` after the task of `direct`; `ecot` is `cot`."""

NOTE = r"(?: \((?P<{}>[^()\n]*)\))?[*_`]*\s*:[*_`]*"
FIELD = re.compile(  # opens a line, in any case; or stands inside one, spelled as it is asked for
    r"^[\s*_`>-]*(?i:(?P<opens>emotion|strategy|draft|feedback|simulation|revision|response|reply"
    rf"|supporter|seeker)){NOTE.format('note')}"
    r"|(?<=[\s.;,|!?)\]\"'*`])(?P<inside>Strategy|Draft|Feedback|Simulation|Revision|Response"
    rf"|Supporter|Seeker){NOTE.format('remark')}"
    r"|\[(?P<speaker>Seeker|Supporter)\]:?",
    re.M,
)
SAID = ("revision", "response", "reply")
SOURCES = ((SAID, -1), (("supporter",), 1), (("",), 1), (("draft",), -1), (("simulation",), -1))
"""Where a reply is looked for: names of fields, the first (1) or the last (-1) of them first; the
empty name is text outside of all fields."""
BRACKET = re.compile(r"^[*_`]*\[([^\[\]\n]{1,60})\][*_`]*\s*:?[*_`]*\s*")
TITLE = re.compile(r"^[*_`]*([^\W\d_][\w -]{2,40})[*_`]*:[*_`]*\s*")


class Reading(NamedTuple):
    """What a model's words say.

    Attributes:
        reply: The reply, without fields and tags; empty if there is none.
        strategy: Name of its strategy; None if none was named.
        begun: What stands before the reply.
        given: The reply stands where it was asked for.
    """

    reply: str
    strategy: str | None
    begun: str
    given: bool


class Part(NamedTuple):
    """A field of a model's words and where its text starts and ends."""

    name: str
    start: int
    end: int
    note: str = ""


def read_reply(words: str, labels: Labels, begins: str = SPEAKS) -> Reading:
    r"""Return the reply that stands in a model's words.

    It is the last `Revision:`, `Response:` or `Reply:` that is not empty; without one what the
    supporter says first, text outside of all fields, the draft, or the simulation. It ends where a
    speaker's name begins another turn.

    Args:
        words: All that the model wrote: fields, or the reply alone; `[Strategy]` before it, or a
            field of it.
        labels: The strategies.
        begins: What the model's answer was begun with; `words` are the rest.

    Example:
        >>> from zoo.labels import SUPPORT
        >>> read_reply(" fear\nStrategy: Questions\nResponse: Since when?", SUPPORT, "Emotion:")[:2]
        ('Since when?', 'Question')
        >>> read_reply(" [Hug] There.\nSeeker: Thanks.", SUPPORT)
        Reading(reply='There.', strategy=None, begun=' [Hug] ', given=True)
    """
    whole = begins + words
    parts = _parts(whole)
    found = _last(parts, "strategy")
    named = labels.find(whole[found.start : found.end]) if found else None
    sought = [p for names, i in SOURCES for p in [p for p in parts if p.name in names][::i]]
    rest = [part for part in parts if part not in sought and part.name != "seeker"]
    for part in (*sought, *rest):  # of the rest only what has the form: `Emotion: [Question] When?`
        start, strategy = _after_tags(whole, part, labels)
        reply = strip_tags(whole[start : part.end].strip(" \n`"))
        if reply and (part in sought or strategy):
            asked = SAID if begins not in ("", SPEAKS) else (*SAID, "supporter", "")
            begun = whole[len(begins) : max(start, len(begins))]
            return Reading(reply, strategy or named, begun, part.name in asked)
    return Reading("", named, words, given=False)


def _after_tags(words: str, part: Part, labels: Labels) -> tuple[int, str | None]:
    """Return where the text of a part starts, and the strategy of the tags or note before it."""
    start, strategy = part.start, labels.find(part.note) if part.note else None
    while True:
        start += len(words[start : part.end]) - len(words[start : part.end].lstrip())
        tag = BRACKET.match(words[start : part.end])
        if tag is None:
            titled = TITLE.match(words[start : part.end])
            name = labels.known(titled[1]) if titled else None
            return start + (titled.end() if titled and name else 0), strategy or name
        strategy = strategy or labels.find(tag[1])
        start += tag.end()


def _parts(words: str) -> list[Part]:
    """Return the fields in order; a label ends with its line, what follows is outside of fields."""
    marks = list(FIELD.finditer(words))
    ends = [*(mark.start() for mark in marks), len(words)]
    found = [Part("", 0, ends[0])]
    for mark, end in zip(marks, ends[1:], strict=True):
        name = (mark["opens"] or mark["inside"] or mark["speaker"]).lower()
        stop = words.find("\n", mark.end(), end) if name in ("emotion", "strategy") else -1
        stop = end if stop < 0 else stop
        note = mark["note"] or mark["remark"] or ""
        found += [Part(name, mark.end(), stop, note), Part("", stop, end)]
    return found


def _last(parts: Sequence[Part], name: str) -> Part | None:
    return next((part for part in reversed(parts) if part.name == name), None)


def read_points(words: str, limit: int = 3) -> list[str]:
    r"""Return the lines of a list without their numbers and bullets, at most `limit`; at least one.

    Example:
        >>> read_points("1. Ask.\n- Comfort.\n\n3) Wait.\n4. More.")
        ['Ask.', 'Comfort.', 'Wait.']
    """
    rows = [re.sub(r"^\s*(?:\d+[.):]|[-*])\s*", "", row).strip() for row in words.splitlines()]
    return [row for row in rows if row][:limit] or [words.strip()]
