"""The baselines of emotional support conversation as plain data: what is asked, in which order.

A recipe is a row of calls to one model. Every call sees the same conversation; its task may quote
the answers of calls before it as `{name}`. The wording is ours; the recipes follow one-line
descriptions of the papers that compare with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.support.encoder import SPEAKS
from zoo.support.labels import LABEL_TOKENS

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
        reads: What the answer is: `words`; `points`, a list, a line each; `vote`, the number of one
            of the points before it, whose text is the answer; `each`, asked for every point, the
            answers joined; a `draft` of a reply; a label (`emotion`, `strategy`); `found`, the text
            that a retriever gives, without a question to the model; or the `reply`.
        begins: What the answer is begun with: its first field, or the name of who speaks (small
            models otherwise go on as the seeker).
        before: What the same answer holds before the reply: `words` (a draft, feedback, turns
            imagined) or a `label`.
    """

    name: str
    task: str
    reads: Reads = "words"
    begins: str = ""
    before: tuple[Literal["words", "label"], ...] = ()

    def limit(self, max_new_tokens: int) -> int:
        """Return the limit of an answer: as many tokens for the reply in all recipes.

        Args:
            max_new_tokens: Limit of a reply, and of other words; a label has `LABEL_TOKENS`.
        """
        sizes = {"words": max_new_tokens, "label": LABEL_TOKENS}
        return max_new_tokens + sum(sizes[part] for part in self.before)


REPLY = Call("reply", WRITE, "reply", SPEAKS)
CHAIN = Call(
    "reply",
    "Think step by step, in three lines. `Emotion:` what the seeker feels, for example one of "
    "{emotions}. `Strategy:` the name of the strategy that fits, one of: {names}. `Response:` what "
    f"the supporter says next by it, {SHORT}.",
    "reply",
    "Emotion:",
    before=("label", "label"),
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
            before=("words",),
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
            before=("words",),
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
            before=("words",),
        ),
    ),
    "fsm": WALK,
    "sft": (REPLY,),
    "sft_cot": (CHAIN,),
    "sft_fsm": WALK,
}
"""Kind of baseline -> its calls. The kinds that begin with `sft` are fine-tuned on `[Strategy]
reply` after the task of `direct`; `ecot` is `cot`."""
