"""What the words of a model mean as a tagged reply: the first turn, its tags, the reply without."""

from __future__ import annotations

import re

from zoo.methods.coct.concepts import DELIMITERS, Concepts, split_tags
from zoo.methods.coct.metrics import of_kind
from zoo.support.encoder import SPEAKS, one_turn
from zoo.support.labels import SUPPORT, plain
from zoo.support.read_reply import read_reply
from zoo.support.reply import SupportReply

SPEAKERS = {
    **dict.fromkeys(("seeker", "user", "client"), "Seeker"),
    **dict.fromkeys(("supporter", "assistant", "answer", "reply", "response"), "Supporter"),
}
"""Tag that names who speaks -> the speaker: behind the first words it begins another turn."""
TAG = "\0"  # stands for a tag while a text is read
FORM = re.compile(  # a tag with what small models write around it: a name, stars, a colon
    rf"(?:(?:^[ \t*_`#>-]*|(?<=[.!?{TAG}]\s)|(?<=[.!?][\"']\s)|(?<={TAG}))"
    rf"(?P<name>Seeker|Supporter|User|Assistant)\s*)?(?P<stars>[*_`]*){TAG}"
    r"\s*(?P<colon>:?)(?P=stars)\s*:?",
    re.M,
)
"""A name counts at the start of a line, after a sentence or after a tag; else it is a word of the
reply, as in `<Information> It is the Assistant <Question> Did you ask him?`, and so is `user`."""


def read_tagged(
    words: str, concepts: Concepts, fallback: str = "", *, nll: float = 0.0, tokens: int = 0
) -> SupportReply:
    """Return what a model's words say: equations (2) and (3).

    Args:
        words: All that it wrote.
        concepts: The tags.
        fallback: Strategy of a reply without a strategy tag; empty if tags name no strategies.
        nll: See `SupportReply`.
        tokens: See `SupportReply`.
    """
    text, tags = first_turn(words, concepts)
    chain = [concepts.kind_of(tag) for tag in tags]
    strategies = of_kind(chain, "strategy") if fallback else []
    reply = spoken(words, concepts)
    failed = ("strategy",) if fallback and not strategies else ()
    left = iter(tags)
    return SupportReply(
        reply=reply,
        strategy=strategies[0] if strategies else fallback,
        emotion="",  # the tags say what the agent expresses, not what the seeker feels
        steps=(
            ("chain", " ".join(concepts.tag(name) for _, name in chain) or "(no tag)"),
            (
                "tagged",
                re.sub(rf"\s*{TAG}", lambda _: f" {concepts.tag(next(left))}", text).strip(),
            ),
        ),
        words=words,
        concepts=tuple(f"{kind}: {name}" for kind, name in chain),
        failed=failed if reply else (*failed, "reply"),
        nll=nll,
        tokens=tokens,
    )


def first_turn(words: str, concepts: Concepts) -> tuple[str, list[str]]:
    r"""Return the supporter's first turn, `TAG` in the place of each tag, and these tags.

    A turn ends where a speaker's name or tag begins another one.

    Example:
        >>> first_turn("<Question> Why? </Question>\n<Seeker> I am sad.", Concepts({}))
        ('\x00 Why?', ['Question'])
    """
    opening, closing = (re.escape(mark) for mark in DELIMITERS[concepts.delimiter])
    text, tags = "", []
    for part in split_tags(words.replace(TAG, " "), concepts):
        name, inside = ("", "") if part.tag is None else concepts.named(part.tag)
        speaker = SPEAKERS.get(plain(name))
        if speaker == "Supporter" and not text.replace(TAG, "").strip():
            pass  # the supporter's name before the first words
        elif speaker:
            text += f"\n{speaker}: "
        elif part.tag is not None:
            text += TAG
            tags.append(part.tag)
        ends = re.sub(rf"{opening}/[^\n]{{0,39}}?{closing}", "\n", part.text)
        text += f"{inside} {ends}" if inside else ends
    text = one_turn(FORM.sub(_named_form, text).replace(TAG, f"\n{TAG}\n"))
    text = re.sub(rf"\s*{TAG}\s*", f" {TAG} ", text).strip()
    return text, tags[: text.count(TAG)]


def _named_form(found: re.Match[str]) -> str:
    """Return a tag without what stands around it; a speaker's name begins a turn."""
    return f"\n{found['name']}: {TAG} " if found["name"] else f"{TAG} "


def spoken(words: str, concepts: Concepts) -> str:
    """Return the reply without tags, and without what is left of broken ones.

    What the common reader takes off (`zoo/support/read_reply.py`) is taken off too. A name right
    behind an opening delimiter that nothing closes is a broken tag. A free `&` becomes `and`.
    """
    opening, closing = DELIMITERS[concepts.delimiter]
    names = "|".join(re.escape(n) for n in sorted(concepts.names(), key=len, reverse=True))
    text = first_turn(words, concepts)[0].replace(TAG, " ")
    text = text.replace(" & ", " and ") if opening == "&" else text
    if names:
        text = re.sub(rf"{re.escape(opening)}/?\s*(?:{names})(?![\w-]):?", " ", text, flags=re.I)
    text = " ".join(text.replace(opening, " ").replace(closing, " ").split())
    return read_reply(text, concepts.lists.get("strategy", SUPPORT), SPEAKS).reply
