"""FiSMiness once more, for its fidelity tests (its sheet of arXiv 2504.11837).

The reference writes prompts and walks turns plainly: one dialogue, one call at a time, the whole
prompt run again for every token. Two dialogues and a recorder of questions stand beside it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from zoo.decoding.shared_context import SharedContext
from zoo.encoding import IGNORE
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.labels import EMOTIONS, STRATEGIES, SUPPORT
from zoo.support.reply import SupportReply

TWO = ("tiny-llama", "tiny-gemma")  # untied and tied
WIDE = {"max_length": 8192, "max_new_tokens": 4}


def talk(*turns: tuple[str, str], **known: str) -> Dialogue:
    """Return a dialogue of (strategy, text); an empty strategy is the seeker's turn."""
    made = (Turn(SUPPORTER if s else SEEKER, text, strategy=s) for s, text in turns)
    return Dialogue(tuple(made), **{"id": "talk:1", "emotion": "sadness", **known})


ONE = talk(
    ("", "I lost my job."),
    ("Question", "When?"),
    ("", "Last week."),
    ("", "I told nobody."),
    ("Reflection of feelings", "Lonely."),
    ("Others", "I hear you."),
    ("", "Thanks."),
    ("Providing Suggestions", "Tell her?"),
    situation="They let me go.",
)
OTHER = talk(
    ("Others", "Hello."),
    ("", "She left."),
    ("Self-disclosure", "Mine too."),
    ("", "Hm."),
    ("Information", "It passes."),
    emotion="pain",
    id="talk:2",
)


class Reference:
    """FiSMiness' prompts and walk, written out for one dialogue."""

    def __init__(self, module: Any) -> None:
        self.lm, self.tokenizer, self.encoder = module.lm, module.tokenizer, module.encoder()
        self.end = self.encoder.chat.end

    def lines(self, dialogue: Dialogue, stop: int, labels: dict[int, tuple[str, str]]) -> str:
        """Return s0 before turn `stop`: `labels` gives e and g of earlier supporter turns."""
        text = ""
        for i, turn in enumerate(dialogue.turns[:stop]):
            if turn.speaker == SEEKER:
                text += f"Seeker: {turn.text}\n"
            elif i == 0:
                text += f"Supporter: {turn.text}\n"
            else:
                e, g = labels[i]
                text += f"Emotion: {e}\nStrategy: {g}\nSupporter: {turn.text}\n"
        return text

    def prompt(self, dialogue: Dialogue, state: str, task: str) -> str:
        known = f"Situation: {dialogue.situation}\n\n" if dialogue.situation else ""
        chat = self.encoder.chat
        lists = f"{SYSTEM_TEXT}\nEmotions: {', '.join(EMOTIONS)}.\nStrategies:"
        lists += "".join(f"\n- {name}: {text}" for name, text in SUPPORT.definitions.items())
        opening = "".join(p.text for p in chat.turn("system", lists, first=True))
        asked = f"{known}Dialogue so far:\n{state}" + self.encoder.questions[task]
        return opening + chat.open("user") + asked

    def next_logits(self, text: str, ids: list[int]) -> torch.Tensor:
        row = [*self.tokenizer(text, add_special_tokens=False)["input_ids"], *ids]
        with torch.no_grad():
            return self.lm(torch.tensor([row])).logits[0, -1].float()

    def choose(self, text: str, names: tuple[str, ...]) -> str:
        """Return the greedy path among the names' tokens."""
        stop = self.encoder.stop_id
        paths = {
            n: [*self.tokenizer(n, add_special_tokens=False)["input_ids"], stop] for n in names
        }
        done: list[int] = []
        while True:
            open_ = {n: p for n, p in paths.items() if p[: len(done)] == done}
            if len(open_) == 1:
                return next(iter(open_))
            following = {p[len(done)] for p in open_.values()}
            logits = self.next_logits(text, done) if len(following) > 1 else torch.zeros(99999)
            done.append(max(sorted(following), key=lambda t: float(logits[t])))

    def write(self, text: str, limit: int) -> str:
        ids: list[int] = []
        while len(ids) < limit:
            token = int(self.next_logits(text, ids).argmax())
            if token == self.encoder.stop_id:
                break
            ids.append(token)
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def walk(self, dialogue: Dialogue, limit: int, *, gold: bool) -> list[tuple[str, str, str]]:
        """Return (e, g, u) at every decision of a dialogue."""
        labels: dict[int, tuple[str, str]] = {}
        found = []
        for i, turn in enumerate(dialogue.turns):
            if i == 0 or turn.speaker != SUPPORTER:
                continue
            state = self.lines(dialogue, i, labels)
            e = self.choose(self.prompt(dialogue, state, "emotion"), EMOTIONS)
            state += f"Emotion: {e}\n"
            g = self.choose(self.prompt(dialogue, state, "strategy"), STRATEGIES)
            state += f"Strategy: {g}\n"
            u = self.write(self.prompt(dialogue, state, "reply"), limit)
            labels[i] = (dialogue.emotion, turn.strategy) if gold else (e, g)
            found.append((e, g, u))
        return found


SYSTEM_TEXT = (
    "You support a person in distress. In every turn you first recognise the seeker's emotion, "
    "then choose a support strategy, then reply."
)


def triples(found: list[SupportReply]) -> list[tuple[str, str, str]]:
    return [(one.emotion, one.strategy, one.reply) for one in found]


def learned(example: Any, tokenizer: Any) -> str:
    """Return the text of the supervised tokens."""
    return tokenizer.decode([label for label in example.labels if label != IGNORE])


class Asked:
    """Records every question that a model is asked, with the text before it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.prompts: list[list[str]] = []
        original = SharedContext.ask

        def ask(context: SharedContext, questions: Any, **options: Any) -> list[str]:
            told = [
                context.tokenizer.decode([*prefix, *(t for piece in pieces for t in piece)])
                for prefix, pieces in zip(context.prefixes, context.pieces, strict=True)
            ]
            rows = zip(told, questions, strict=True)
            self.prompts.append([text + question for text, question in rows if question])
            return original(context, questions, **options)

        monkeypatch.setattr(SharedContext, "ask", ask)
