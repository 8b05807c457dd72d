"""Dialogues as transitions: prompts, rewards, next states, windows, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support_judges import ScriptedJudge, strategy

import zoo
from datamodules import DailyDialog, ESConv
from zoo.errors import InputError
from zoo.judges.judge import JudgeError
from zoo.methods.straq.encoder import TransitionEncoder
from zoo.methods.straq.grading import Distilled, open_grader
from zoo.methods.straq.rewards import Imitated, Judged
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn, opened_by_seeker
from zoo.support.decisions import Decision, current_decision, decisions
from zoo.support.judging import SupportJudge
from zoo.support.labels import ACTS, STRATEGIES, SUPPORT, Labels
from zoo.tiny_models import byte_tokenizer


def talk() -> Dialogue:
    """Return an opening, four decisions of which two follow each other, and a rating."""
    return Dialogue(
        (
            Turn(SUPPORTER, "Hello.", strategy="Others"),
            Turn(SEEKER, "I lost my job."),
            Turn(SUPPORTER, "When?", strategy="questions"),
            Turn(SEEKER, "Last week."),
            Turn(SUPPORTER, "That must hurt.", strategy="Reflection of Feelings"),
            Turn(SUPPORTER, "I lost mine too.", strategy="Self-disclosure"),
            Turn(SEEKER, "Did you?", feedback=4),
            Turn(SUPPORTER, "Yes.", strategy="Information"),
        ),
        emotion="sadness",
        id="talk:1",
    )


def encoder(**options: Any) -> TransitionEncoder:
    return TransitionEncoder(byte_tokenizer(), SUPPORT, Imitated(SUPPORT), **options)


def text(ids: list[int]) -> str:
    return byte_tokenizer().decode(ids)


def test_each_state_follows_the_one_before() -> None:
    """The opening is history only, each of two supporter turns is a decision, the last one ends."""
    found = encoder()(talk())
    assert [len(one.record.turns) for one in found] == [2, 4, 5, 7]
    for one, after in zip(found, found[1:], strict=False):
        assert one.next_ids == after.ids
        assert one.ends == (False, False)
    assert found[-1].ends == (True, True)
    assert len(found[-1].next_ids) == 1
    first = text(found[0].ids)
    assert first.startswith("<|im_start|>system\nYou plan support strategies")
    assert "Seeker's emotion: sadness\n\nDialogue so far:\nSupporter (Others): Hello.\n" in first
    assert first.endswith("Answer with one letter.<|im_end|>\n<|im_start|>assistant\nAnswer:")
    assert "(Reflection of feelings): That must hurt.\nWhich support strategy" in text(found[2].ids)
    assert "(Question): When?" in text(found[1].ids)  # canonical names in the history
    golds = [STRATEGIES[one.judged[0].action] for one in found]
    assert golds == ["Question", "Reflection of feelings", "Self-disclosure", "Information"]


def test_one_road_to_a_state() -> None:
    """A decision alone and as part of its dialogue has the same prompt."""
    made = encoder()
    for one in made(talk()):
        assert made.state(one.record) == one.ids


def test_negatives_may_end() -> None:
    found = encoder(reuse_next=False)(talk())
    assert [one.ends for one in found] == [(False, True)] * 3 + [(True, True)]


def test_the_oldest_turns_are_left_out() -> None:
    whole = encoder()(talk())[-1].ids
    cut = encoder(max_length=len(whole) - 1)(talk())[-1].ids
    assert text(whole).replace("Supporter (Others): Hello.\n", "") == text(cut)
    with pytest.raises(InputError, match=r"talk:1, turn 2: does not fit .* max_length=300"):
        encoder(max_length=300)(talk())


def test_batch() -> None:
    """Judged strategies point at their state; packed and padded prompts end where they end."""
    made = encoder()
    found = made(talk())[:3]
    for packed in (True, False):
        made.packed = packed
        batch = made.collate(found, {0: 6.0})
        assert batch.state.tolist() == [0, 0, 1, 1, 2, 2]
        assert batch.reward.tolist() == [1, -1] * 3
        assert batch.done.tolist() == [False] * 6
        assert batch.action.tolist()[::2] == [0, 2, 3]
        for part, rows in ((batch.now, "ids"), (batch.after, "next_ids")):
            last = part.input_ids.flatten()[part.ends]
            assert last.tolist() == [getattr(one, rows)[-1] for one in found]
            assert part.lengths == [len(getattr(one, rows)) for one in found]
        moved = batch.to("cpu")
        assert moved.counts() == {"tokens": sum(map(len, found)), "transitions": 6}
        assert moved.records == batch.records


def test_preview_shows_the_letter_and_the_rewards() -> None:
    made = encoder()
    lines = made.preview(made(talk())[0])
    assert lines[1].endswith("Answer:\033[0m\033[32mA\033[0m")
    assert lines[2].startswith("rewards     Question +1 (logged), ")
    assert lines[2].endswith(" tokens")
    assert made.preview(made(talk())[-1])[2].endswith("then nothing")
    example = made(talk())[0]
    unnamed = replace(example.record, target=replace(example.record.target, strategy=""))
    lines = made.preview(replace(example, record=unnamed))  # the first letter stands in
    assert lines[1].endswith("Answer:\033[0m\033[32mA\033[0m")
    other = replace(example.record, target=replace(example.record.target, strategy="Others"))
    lines = made.preview(replace(example, record=other))
    assert lines[1].endswith("Answer:\033[0m\033[32mH\033[0m")


def test_current_decision() -> None:
    """Open dialogues are continued, closed ones asked once more; a bare text is a state too."""
    whole = talk()
    assert current_decision(whole).turns == decisions(whole)[-1].turns
    waiting = replace(whole, turns=whole.turns[:7])
    assert current_decision(waiting).turns[-1].text == "Did you?"
    assert current_decision(waiting).target.text == ""
    assert current_decision(opened_by_seeker("Hi")).query == "Hi"


# -- rewards -----------------------------------------------------------------------------------


class PlaceJudge(ScriptedJudge):
    """Fails on one strategy, grades the others by their place."""

    def __init__(self) -> None:
        super().__init__(self.grade_of)
        self.asked = 0

    def grade_of(self, asked: str) -> str:
        self.asked += 1
        assert "next reply" not in asked
        name = strategy(asked)
        if name == "Others":
            raise JudgeError("no words")
        return f"[[{STRATEGIES.index(name) / 2}]]"


def test_feedback_stands_in_where_it_is() -> None:
    """The next rating, for the logged strategy alone; nothing after the last rating."""
    reward = Distilled(lambda: open_grader("feedback"), SUPPORT, alternatives=7)
    found = [reward(decision) for decision in decisions(talk())]
    assert found == [[(0, 4.0, True)], [(2, 4.0, True)], [(3, 4.0, True)], []]


def test_who_has_no_ratings_is_told_where_they_are(caplog: pytest.LogCaptureFixture) -> None:
    """The hub's files have none; with ratings only what was used is learned, and a log says so."""
    module = zoo.StraQ(backbone={"name": "tiny-llama"}, reward="distill", max_length=4096)
    module.validate()
    assert "feedback: the value of an alternative is never learned" in caplog.text
    made = module.encoder()
    made.study([talk()], "train")
    assert {one.logged for judged in made.studied.values() for one in judged} == {True}
    unrated = replace(talk(), turns=tuple(replace(t, feedback=None) for t in talk().turns))
    with pytest.raises(InputError, match=r"4 of 4 .* ratings stand in the authors' ESConv\.json"):
        made.study([unrated], "train")


def test_all_alternatives_may_be_graded() -> None:
    judge = PlaceJudge()
    grader = SupportJudge(judge).grade
    found = Distilled(lambda: grader, SUPPORT, alternatives=7, scale=0.03)(decisions(talk())[0])
    assert sorted(one.action for one in found) == list(range(7))  # Others failed
    assert judge.asked == 7 + 3
    assert [one.reward for one in found] == pytest.approx([0.03 * o.action / 2 for o in found])
    assert [one.logged for one in found] == [True] + [False] * 6


def test_grades_are_kept_on_file(tmp_path: Path) -> None:
    path = tmp_path / "grades.jsonl"
    judge = PlaceJudge()
    points = decisions(talk())
    first = Distilled(lambda: open_grader(str(path), SupportJudge(judge)), SUPPORT)
    graded = [first(point) for point in points]
    asked = judge.asked
    assert len(path.read_text().splitlines()) == asked >= 8
    again = Distilled(lambda: open_grader(str(path)), SUPPORT)
    assert [again(point) for point in points] == graded
    assert judge.asked == asked
    with pytest.raises(InputError, match="no such file of recorded answers"):
        open_grader(str(tmp_path / "none.jsonl"))


def test_a_model_grades(tmp_path: Path) -> None:
    """A local model is asked for what the file lacks; a random one says no number: no grade."""
    path = tmp_path / "grades.jsonl"
    grader = open_grader(str(path), zoo.Backbone("tiny-llama"))
    model = grader.__self__.judge
    assert "llm" not in vars(model)  # not loaded before it is asked
    model.llm.max_length, model.llm.max_new_tokens = 4096, 2
    reward = Distilled(lambda: grader, SUPPORT)
    assert reward(decisions(talk())[0]) == []
    assert reward.report().startswith("2 of 2 have no grade (")
    assert reward.report() == ""
    lines = [json.loads(x) for x in path.read_text().splitlines()]
    assert {line["judge"] for line in lines} == {"tiny-llama"}
    assert len(lines) == 2 * 3


def test_scale_of_probabilities() -> None:
    """Grades of 5 have the value 1 at most: r = 5 (1 - gamma) / 5."""
    kinds = {
        readout: zoo.StraQ(backbone={"name": "tiny-llama"}, reward="distill", readout=readout)
        for readout in ("mean_logit", "token_prob")
    }
    rewards = []
    for module in kinds.values():
        module.judge = SupportJudge(ScriptedJudge(lambda asked: "[[5]]"))
        rewards.append({one.reward for one in module.encoder()(talk())[0].judged})
    assert rewards[0] == {5.0}
    (scaled,) = rewards[1]
    assert scaled / (1 - 0.85) == pytest.approx(1.0)


@dataclass(frozen=True)
class First(Imitated):
    """Rewards of first decisions alone, or of none."""

    labels: Labels = SUPPORT
    none: bool = False

    def __call__(self, decision: Decision) -> list[Judged]:
        return [] if decision.depth or self.none else super().__call__(decision)


def test_what_has_no_grade_is_not_trained_on() -> None:
    """Ungraded decisions are planned in evaluation and left out of training."""
    module = zoo.StraQ(backbone={"name": "tiny-llama"}, reward="distill")
    module.judge = SupportJudge(PlaceJudge())
    data = ESConv(batch_size=1)
    made = module.encoder()
    made.reward = First()
    everything = data.examples("train", made)
    assert {bool(one.judged) for one in everything} == {True, False}
    assert len(data.train_dataloader()) == 5
    assert sum(len(batch.records) for batch in data.val_dataloader()) == len(everything)
    made.reward = First(labels=SUPPORT, none=True)
    with pytest.raises(InputError, match="model.reward: nothing to learn; no decision is graded"):
        ESConv().examples("train", made)


# -- acts --------------------------------------------------------------------------------------


def test_dialogue_acts() -> None:
    """DailyDialog's four acts are letters A to D."""
    module = zoo.StraQ(backbone={"name": "tiny-llama"}, labels="acts", max_length=10**5)
    found = [e for record in DailyDialog().records("train") for e in module.encoder()(record)]
    assert len(module.encoder().letter_ids) == 4
    assert "A. inform\nB. question\nC. directive\nD. commissive\n" in text(found[0].ids)
    assert {one.action for e in found for one in e.judged} <= set(range(len(ACTS.names)))


# -- bad input ---------------------------------------------------------------------------------


def with_strategy(name: str) -> Dialogue:
    whole = talk()
    turns = list(whole.turns)
    turns[4] = replace(turns[4], strategy=name)
    return replace(whole, turns=tuple(turns))


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        (
            with_strategy("Self-disclosur"),
            "talk:1, turn 4: no support strategy 'Self-disclosur'; did you mean 'Self-disclosure'?",
        ),
        (with_strategy(""), "talk:1, turn 4: no support strategy is annotated"),
        (
            Dialogue((Turn(SUPPORTER, "Hi.", strategy="Others"), Turn(SEEKER, "Hi."))),
            "no supporter turn answers",
        ),
    ],
)
def test_bad_dialogues(record: Dialogue, wanted: str) -> None:
    with pytest.raises(InputError) as caught:
        encoder()(record)
    assert wanted in str(caught.value)


def merging(*pairs: tuple[str, str]) -> Any:
    """Return a byte tokenizer that also merges some pairs of characters."""
    from tokenizers import models, pre_tokenizers

    tokenizer = byte_tokenizer()
    core = tokenizer.backend_tokenizer
    vocabulary = {**core.get_vocab(with_added_tokens=False)}
    for left, right in pairs:
        vocabulary[left + right] = 300 + len(vocabulary)
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.model = models.BPE(vocab=vocabulary, merges=list(pairs))
    return tokenizer


def test_letters_with_a_blank_are_read_so() -> None:
    pairs = [("\u0120", chr(65 + i)) for i in range(8)]
    made = TransitionEncoder(merging(*pairs), SUPPORT, Imitated(SUPPORT))
    assert made.tokenizer.convert_ids_to_tokens(made.letter_ids) == [a + b for a, b in pairs]


def test_letters_that_are_not_one_token_where_they_are_read() -> None:
    with pytest.raises(InputError) as caught:
        TransitionEncoder(merging((":", "C")), SUPPORT, Imitated(SUPPORT))
    assert "'C' is another token after" in str(caught.value)
    assert str(caught.value).startswith("model.backbone.name: ")


Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"gamma": 1.0}, "model.gamma: 1.0 is not in 0..1"),
        ({"sync_every": 0}, "model.sync_every: 0 is not above 0"),
        ({"alternatives": 8}, "model.alternatives: 8 is not in 0..7"),
        (
            {"reward": "distill", "alternatives": 1},
            "model.alternatives: seekers rate the strategy that was used alone; take 0, or name",
        ),
        ({"judge": {"name": "tiny-llama"}}, "model.judge: its grades are kept in a file; name one"),
        (
            {"objective": "cross_entropy", "readout": "value_head"},
            "model.objective: cross_entropy learns a letter, value_head has none",
        ),
    ],
)
def test_bad_settings(options: dict[str, Any], wanted: str) -> None:
    with pytest.raises(InputError) as caught:
        zoo.StraQ(backbone={"name": "tiny-llama"}, **options).validate()
    assert wanted in str(caught.value)


def test_log_probabilities_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    zoo.StraQ(backbone={"name": "tiny-llama"}, readout="mean_logprob").validate()
    assert "a log-probability cannot reach a positive target" in caplog.text


def test_reply_without_responder(make: Any) -> None:
    with pytest.raises(InputError, match=r"model\.responder: name a model"):
        make("StraQ", "tiny-llama").reply([talk()])


def test_torch_is_seeded_by_nobody_here() -> None:
    """Drawing strategies leaves torch's random state alone."""
    before = torch.get_rng_state()
    encoder()(talk())
    assert torch.equal(torch.get_rng_state(), before)
