"""How choices in dilemmas are evaluated: answers, their scores, samples and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, cast

import torch

from zoo.evaluation import EvaluatedModule, Pair
from zoo.methods.sova.expected import RULES, expected_action
from zoo.methods.sova.instruct import Instruction
from zoo.methods.sova.metrics import Choice, ExpectedRatio, ValuePreference
from zoo.methods.sova.prompts import ORDERS, read_choice
from zoo.metrics.records import RecordMean
from zoo.plots import heat_map
from zoo.records import NOT_TO_DO, TO_DO, Dilemma, unlabelled

READINGS = ("", "swapped_", "text_", "text_swapped_")
"""How a choice is read: log-odds in the dataset's order of actions, in the other one; text."""

SHOWN = 3  # instructions in a sample


@dataclass(frozen=True, slots=True)
class DilemmaChoice:
    """What an agent does in a dilemma.

    Attributes:
        odds: Log-odds of `to do`, in nats, for both orders of the actions.
        texts: What was written as an answer, for both orders; empty if text was not read.
        instructions: Those in the prompt, best first.
        reasoning: What was thought before the answer; may be empty.
    """

    odds: tuple[float, float]
    texts: tuple[str, str]
    instructions: tuple[Instruction, ...] = ()
    reasoning: str = ""

    def choice(self, reading: str = "") -> Choice:
        """Return the choice by one of `READINGS`; None for text that is no answer."""
        which = int("swapped" in reading)
        if reading.startswith("text"):
            return read_choice(self.texts[which], ORDERS[which])
        return TO_DO if self.odds[which] > 0 else NOT_TO_DO


class ChoosingModule(EvaluatedModule):
    """A module that decides dilemmas: `generate` returns `DilemmaChoice`s.

    For every rule of expected actions and every reading of a choice an `ExpectedRatio` is kept,
    and the preferences for the dataset's labels by log-odds. `mean_instructions` and
    `without_instructions` say how many a prompt held, and the share that held none.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_generated: Dilemmas to decide in each validation or test; None for all.
    """

    headline: ClassVar[tuple[str, ...]] = tuple(f"expected_{rule}" for rule in RULES)

    def __init__(self, backbone: Any, optimizer: Any, *, max_generated: int | None) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        for rule in RULES:
            for reading in READINGS:
                self.metrics[f"{reading}{rule}"] = ExpectedRatio(rule, reading)
        for theory in ("virtue", "maslow", "emotion"):
            self.metrics[f"preference_{theory}"] = ValuePreference(theory)
        self.metrics["mean_instructions"] = RecordMean()
        self.metrics["without_instructions"] = RecordMean()

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Add choices to every score; text that was not read counts nowhere."""
        dilemmas = [record for record, _ in pairs]
        for name, metric in self.each_metric().items():
            if isinstance(metric, ExpectedRatio):
                # Text that was not read is no invalid answer.
                text = metric.reading.startswith("text")
                read = [i for i, (_, answer) in enumerate(pairs) if any(answer.texts) or not text]
                choices = [pairs[i][1].choice(metric.reading) for i in read]
                metric.update([dilemmas[i] for i in read], choices, [ids[i] for i in read])
            elif isinstance(metric, ValuePreference):
                metric.update(dilemmas, [answer.choice() for _, answer in pairs], ids)
            else:
                counts = [len(answer.instructions) for _, answer in pairs]
                none = name == "without_instructions"
                values = [float(n == 0) if none else float(n) for n in counts]
                cast(RecordMean, metric).update(values, ids)

    def sample(self, record: Dilemma, answer: DilemmaChoice) -> dict[str, str]:
        """Return the row that shows a dilemma, its instructions and what was chosen."""
        return {"dilemma": record.situation, **self.notes(answer)} | {
            f"expected by {rule}": expected_action(record, rule) or "-" for rule in RULES
        }

    def notes(self, answer: DilemmaChoice) -> dict[str, str]:
        """Return the parts of an answer by name."""
        lines = [f"({item.score:.0f}) {item.text}" for item in answer.instructions[:SHOWN]]
        more = len(answer.instructions) - SHOWN
        shown = {"instructions": "\n".join(lines) + (f"\n... and {more} more" if more > 0 else "")}
        if answer.reasoning:
            shown["reasoning"] = answer.reasoning
        shown["choice"] = f"{answer.choice()} (log-odds of to_do {answer.odds[0]:+.2f})"
        shown["swapped"] = f"{answer.choice('swapped_')} ({answer.odds[1]:+.2f})"
        if any(answer.texts):
            shown["text"] = " | ".join(text.strip() for text in answer.texts)
        return shown

    def prediction(self, record: Dilemma, answer: DilemmaChoice) -> dict[str, Any]:
        """Return the choices by every reading, the log-odds, the texts and the instructions."""
        read = [name for name in READINGS if any(answer.texts) or not name.startswith("text")]
        return {
            "id": record.id,
            **{f"{name}choice": answer.choice(name) for name in read},
            "odds": list(answer.odds),
            "texts": list(answer.texts),
            "reasoning": answer.reasoning,
            "instructions": [asdict(item) for item in answer.instructions],
        }

    def figures(self) -> dict[str, Any]:
        """Return the ratio of expected actions by rule and label."""
        found = {}
        for rule in RULES:
            scores = ExpectedRatio(rule)(
                [record for record, _ in self.answers.values()],
                [answer.choice() for _, answer in self.answers.values()],
            )
            start = f"expected_{rule}/"
            labels = {n.removeprefix(start): v for n, v in scores.items() if n.startswith(start)}
            if labels:
                found[f"expected_{rule}_by_label"] = heat_map(
                    torch.tensor([[value] for value in labels.values()]),
                    list(labels),
                    ["ratio"],
                    f"Expected actions by {rule}, by label of the expected action",
                    "ratio",
                )
        return found

    def show(
        self, records: Sequence[Dilemma], *, prompt: str | None = None
    ) -> list[dict[str, str]]:
        """Return each dilemma with its instructions and what was chosen.

        Args:
            records: Dilemmas.
            prompt: Decide this one instead.
        """
        if prompt is None:
            answers = self.generate(records)
            return [self.sample(*pair) for pair in zip(records, answers, strict=True)]
        asked = unlabelled(prompt)
        (answer,) = self.generate([asked])
        return [{"dilemma": prompt, **self.notes(answer)}]
