"""MeTHanol's labels: thought and answer with their ends of turn, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from methods.methanol.methanol_reference import END, SPEAK, THINK, render
from training import batch_of

from zoo.records import Dialogue


def supervised_text(module: Any, batch: Any, row: int, head: int) -> list[str]:
    """Return the decoded runs of neighbouring labels that a head learns in one row."""
    runs: list[list[int]] = [[]]
    for owner, label in zip(batch.head_ids[row].tolist(), batch.labels[row].tolist(), strict=True):
        if owner == head:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    return [module.tokenizer.decode(run) for run in runs if run]


@pytest.mark.fidelity("methanol", 2)
def test_labels_are_thought_and_answer_with_their_end_of_turn(
    make: Any, shape: str, triples: Any
) -> None:
    """W_T learns exactly T + end-of-turn, W_A exactly A + end-of-turn; Q and headers neither."""
    module = make("MeTHanol", shape)
    for record in triples:
        batch = batch_of(module, [record])
        expected = render(module.tokenizer, record)
        assert batch.input_ids[0].tolist() == expected.ids
        assert supervised_text(module, batch, 0, THINK) == [record.thought + END]
        assert supervised_text(module, batch, 0, SPEAK) == [record.answer + END]
        # Every position, by the transcription: the state at i - 1 predicts token i of its span.
        owner = [-1] * len(expected.ids)
        for head, name in ((THINK, "T"), (SPEAK, "A")):
            for i in expected.spans[name]:
                assert owner[i - 1] == -1, "thinking and speaking labels overlap"
                owner[i - 1] = head
        assert batch.head_ids[0].tolist() == owner
        wanted = [expected.ids[i + 1] if h != -1 else -100 for i, h in enumerate(owner)]
        assert batch.labels[0].tolist() == wanted


@pytest.mark.fidelity("methanol", 2)
@pytest.mark.parametrize("keep", [True, False])
def test_labels_of_a_dialogue(make: Any, shape: str, dialogue: Dialogue, keep: bool) -> None:
    """Multi-turn: one T, A pair per supporter turn that answers; nothing else is learned."""
    from zoo.prompts.thoughts import SUPPORT_SYSTEM, turn_thought

    module = make("MeTHanol", shape, keep_thoughts=keep)
    first, second = dialogue.turns[2], dialogue.turns[4]
    t1, t2 = turn_thought(dialogue, first), turn_thought(dialogue, second, plan_only=keep)
    assert len({t1, t2, first.text, second.text}) == 4
    start = (
        f"<|im_start|>system\n{SUPPORT_SYSTEM}{END}\n<|im_start|>assistant\nHello.{END}"
        f"\n<|im_start|>user\nI lost my job.{END}"
    )
    think1, say1 = (
        f"\n<|im_start|>thought\n{t1}{END}",
        f"\n<|im_start|>assistant\n{first.text}{END}",
    )
    user2 = f"\n<|im_start|>user\nLast week.{END}"
    end = f"\n<|im_start|>thought\n{t2}{END}\n<|im_start|>assistant\n{second.text}{END}"
    if keep:
        expected = [(start + think1 + say1 + user2 + end, [t1, t2], [first.text, second.text])]
    else:  # a history without thoughts: every supporter turn is an example of its own
        expected = [
            (start + think1 + say1, [t1], [first.text]),
            (start + say1 + user2 + end, [t2], [second.text]),
        ]
    encoder = module.encoder()
    examples = encoder(dialogue)
    assert len(examples) == len(expected)
    for example, (text, thoughts, answers) in zip(examples, expected, strict=True):
        batch = encoder.collate([example], {THINK: 1.0, SPEAK: 1.0})
        assert module.tokenizer.decode(batch.input_ids[0]) == text
        assert supervised_text(module, batch, 0, THINK) == [t + END for t in thoughts]
        assert supervised_text(module, batch, 0, SPEAK) == [a + END for a in answers]
