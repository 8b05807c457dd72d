"""Names of support strategies, dialogue acts and emotions: order, aliases, definitions, stages.

The strategies and their order are those of ESConv (Liu et al., ACL 2021), spelled as its file
spells them; names are compared without case. Aliases fold older spellings; that `Providing
Information` means Information is inferred. Definitions are in our own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from zoo.errors import InputError, nearest

LABEL_TOKENS = 16  # at most, of a name that is written freely


@dataclass(frozen=True)
class Labels:
    """A closed list of names.

    Attributes:
        kind: What errors call one of them.
        definitions: Name -> definition, in canonical order.
        aliases: Other spelling in lower case -> name.
        fallback: Name that stands for an unreadable prediction.
    """

    kind: str
    definitions: Mapping[str, str]
    aliases: Mapping[str, str]
    fallback: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names in canonical order."""
        return tuple(self.definitions)

    def known(self, text: str) -> str | None:
        """Return the name that a text is, by name and then by alias; None if it is neither."""
        wanted = plain(text)
        for name in self.definitions:
            if wanted == name.lower():
                return name
        return self.aliases.get(wanted)

    def find(self, text: str) -> str | None:
        """Return the name that a model's text means: exact, alias, or a name that it mentions.

        Names and aliases are searched as whole words; the first one counts, and of two that start
        at one place the longer. `fallback` counts only if nothing else is mentioned.

        Example:
            >>> SUPPORT.find("[Question]"), SUPPORT.find("On the other hand, self-disclosure.")
            ('Question', 'Self-disclosure')
        """
        exact = self.known(text)
        if exact is not None:
            return exact
        spelled = {name.lower(): name for name in self.definitions} | dict(self.aliases)
        words = plain(text)
        places = []
        for spelling, name in spelled.items():
            match = re.search(rf"(?<![\w-]){re.escape(spelling)}(?![\w-])", words)
            if match:
                places.append((name == self.fallback, match.start(), -len(spelling), name))
        return min(places)[-1] if places else None

    def canonical(self, text: str, where: str) -> str:
        """Return the name that a data file's label is, by name or alias.

        Args:
            text: The label.
            where: File, line or record, for the error.

        Raises:
            InputError: There is no label, or no such name.
        """
        name = self.known(text)
        if name is None:
            if not text.strip():
                raise InputError(f"{where}: no {self.kind} is annotated")
            raise InputError(f"{where}: no {self.kind} {text!r}; {nearest(text, self.names)}")
        return name


def plain(text: str) -> str:
    """Return a text in lower case, without brackets and stops around it, with single spaces."""
    return " ".join(text.lower().replace("_", " ").split()).strip(" []<>(){}*#^@&\"'`.,:;")


SUPPORT = Labels(
    kind="support strategy",
    definitions={
        "Question": "ask about the problem, best with open questions, to help the seeker say "
        "more precisely what they face",
        "Restatement or Paraphrasing": "say what the seeker said again, shorter and in other "
        "words, so that they can see their situation more clearly",
        "Reflection of feelings": "put into words what the seeker seems to feel",
        "Self-disclosure": "tell of something similar that you have lived through or felt",
        "Affirmation and Reassurance": "point out the seeker's strengths and abilities, and "
        "encourage and reassure them",
        "Providing Suggestions": "offer ideas of what might change things, without telling the "
        "seeker what to do",
        "Information": "give facts, resources or answers that are of use to the seeker",
        "Others": "greet, thank, exchange courtesies, or anything that is none of the rest",
    },
    aliases={
        "questions": "Question",
        "questioning": "Question",
        "restatement": "Restatement or Paraphrasing",
        "paraphrasing": "Restatement or Paraphrasing",
        "reflection": "Reflection of feelings",
        "reflection of feeling": "Reflection of feelings",
        "self disclosure": "Self-disclosure",
        "affirmation": "Affirmation and Reassurance",
        "reassurance": "Affirmation and Reassurance",
        "approval and reassurance": "Affirmation and Reassurance",
        "direct guidance": "Providing Suggestions",
        "suggestion": "Providing Suggestions",
        "suggestions": "Providing Suggestions",
        "providing information": "Information",
        "other": "Others",
    },
    fallback="Others",
)
"""ESConv's eight strategies."""

ACTS = Labels(
    kind="dialogue act",
    definitions={
        "inform": "tell a fact that the listener may not know",
        "question": "ask for something that you want to know",
        "directive": "ask for an action, instruct, or suggest",
        "commissive": "accept or turn down a request, an offer or a suggestion",
    },
    aliases={
        "informing": "inform",
        "questions": "question",
        "directives": "directive",
        "commissives": "commissive",
    },
    fallback="inform",
)
"""DailyDialog's four acts, in the order of the numbers in its files.

An unreadable prediction counts as the most frequent one: chosen here.
"""

LABELS = {"support": SUPPORT, "acts": ACTS}
STRATEGIES = SUPPORT.names
EMOTIONS = (
    *("anxiety", "depression", "sadness", "anger", "fear", "shame"),
    *("disgust", "nervousness", "pain", "jealousy", "guilt"),
)
"""ESConv's emotions of the seeker."""


def _feelings(names: tuple[str, ...], aliases: dict[str, str], fallback: str) -> Labels:
    return Labels("emotion", dict.fromkeys(names, ""), aliases, fallback)


EMOTION_SETS = {
    "esconv": _feelings(
        EMOTIONS,
        {
            **{"anxious": "anxiety", "worried": "anxiety", "depressed": "depression"},
            **{"sad": "sadness", "angry": "anger", "afraid": "fear", "scared": "fear"},
            **{"ashamed": "shame", "disgusted": "disgust", "nervous": "nervousness"},
            **{"hurt": "pain", "jealous": "jealousy", "guilty": "guilt"},
        },
        fallback="anxiety",
    ),
    "daily_dialog": _feelings(
        ("no emotion", "anger", "disgust", "fear", "happiness", "sadness", "surprise"),
        {
            **{"neutral": "no emotion", "none": "no emotion", "angry": "anger", "sad": "sadness"},
            **{"happy": "happiness", "joy": "happiness", "surprised": "surprise"},
        },
        fallback="no emotion",
    ),
    "empathetic_dialogues": _feelings(
        (
            *("sad", "trusting", "terrified", "caring", "disappointed", "faithful", "joyful"),
            *("jealous", "disgusted", "surprised", "ashamed", "afraid", "impressed"),
            *("sentimental", "devastated", "excited", "anticipating", "annoyed", "anxious"),
            *("furious", "content", "lonely", "angry", "confident", "apprehensive", "guilty"),
            *("embarrassed", "grateful", "hopeful", "proud", "prepared", "nostalgic"),
        ),
        {"sadness": "sad", "anger": "angry", "fear": "afraid", "anxiety": "anxious"},
        fallback="surprised",
    ),
}
"""Data set -> its emotions. Aliases are ours; an unreadable prediction counts as the most frequent
emotion: chosen here."""

STAGES = {
    "Question": 1,
    "Restatement or Paraphrasing": 1,
    "Reflection of feelings": 2,
    "Self-disclosure": 2,
    "Affirmation and Reassurance": 2,
    "Providing Suggestions": 3,
    "Information": 3,
}
"""Strategy -> stage of support: 1 exploration, 2 comforting, 3 action; Others has none."""
