"""Labels, the schedule, users, the replay, errors."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
import torch
from methods.dreamcub.dreamcub_reference import dialogue, module_of

import datamodules
import zoo
from zoo.errors import InputError, TooLongError
from zoo.methods.dreamcub.belief import SENTIMENT_OF, annotated, belief_line, factors_of, indices
from zoo.methods.dreamcub.encoder import State, heard
from zoo.methods.dreamcub.environment import LLMEnv, ReplayEnv, ScriptedEnv
from zoo.methods.dreamcub.replay import Experience, Replay
from zoo.methods.dreamcub.schedule import Schedule
from zoo.records import SUPPORTER, Dialogue, Turn
from zoo.support.decisions import decisions
from zoo.support.labels import ACTS, EMOTION_SETS, SUPPORT

FACTORS = ["emotion", "sentiment", "intention"]


@pytest.mark.parametrize("dataset", list(SENTIMENT_OF))
def test_every_emotion_has_a_sentiment(dataset: str) -> None:
    assert set(SENTIMENT_OF[dataset]) == set(EMOTION_SETS[dataset].names)
    assert set(SENTIMENT_OF[dataset].values()) <= {"negative", "neutral", "positive"}


def test_labels_of_daily_dialog() -> None:
    """Emotion and act are those of the seeker's last turn; the sentiment is derived."""
    factors = factors_of(FACTORS, "daily_dialog")
    first, second = decisions(dialogue(), ACTS)
    assert annotated(first, factors, "daily_dialog") == ("fear", "negative", "question")
    assert annotated(second, factors, "daily_dialog") == ("happiness", "positive", "inform")
    assert indices(factors, ("fear", "negative", "")) == [3, 0, -1]
    assert belief_line(factors, ("fear", "", "question")) == (
        "emotion=fear; sentiment=unknown; intention=question"
    )


def test_surprise_has_the_sentiment_that_is_set() -> None:
    factors = factors_of(["emotion", "sentiment"], "daily_dialog")
    decision = decisions(datamodules.DailyDialog().records("train")[0], ACTS)[0]
    turn = Turn("seeker", "Oh!", emotion="surprise")
    surprised = type(decision)((turn,), Turn(SUPPORTER, ""), 0, False)
    assert annotated(surprised, factors, "daily_dialog")[1] == "neutral"
    assert annotated(surprised, factors, "daily_dialog", "positive")[1] == "positive"


@pytest.mark.parametrize(
    ("name", "dataset", "labels", "missing"),
    [
        ("DailyDialog", "daily_dialog", ACTS, set()),
        ("ESConv", "esconv", SUPPORT, {"intention"}),
        ("EmpatheticDialogues", "empathetic_dialogues", SUPPORT, {"intention"}),
    ],
)
def test_samples_are_one_record_form(
    name: str, dataset: str, labels: Any, missing: set[str]
) -> None:
    factors = factors_of(FACTORS, dataset)
    records = getattr(datamodules, name)().records("train")
    found = [
        annotated(decision, factors, dataset)
        for record in records
        for decision in decisions(record, labels, need_strategies=False)
        if decision.query
    ]
    known = {f.name for i, f in enumerate(factors) if any(belief[i] for belief in found)}
    assert {factor.name for factor in factors} - known == missing


@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="ZOO_DATA names no folder of real data")
def test_real_esconv_has_an_emotion_at_every_utterance() -> None:
    folder = os.path.join(os.environ["ZOO_DATA"], "esconv")
    if not os.path.isdir(folder):
        pytest.skip(f"no {folder}")
    factors = factors_of(FACTORS, "esconv")
    for record in datamodules.ESConv(folder, max_test=50).records("test"):
        for decision in decisions(record, SUPPORT):
            belief = annotated(decision, factors, "esconv")
            assert bool(belief[0]) is bool(decision.query)
            assert belief[1] == ("negative" if belief[0] else "")


def test_the_first_and_the_last_state_have_an_intensity(make: Any) -> None:
    """ESConv's seekers rate before and after; between, and in other data, the factor is masked."""
    turns = [Turn(("seeker", "supporter")[i % 2], f"{i}.") for i in range(6)]
    rated = Dialogue(tuple(turns), emotion="sadness", id="e:0", intensities=(5, 2))
    found = decisions(rated, SUPPORT, need_strategies=False)
    factors = factors_of(["emotion", "intensity"], "esconv")
    beliefs = [annotated(decision, factors, "esconv") for decision in found]
    assert beliefs == [("sadness", "5"), ("sadness", ""), ("sadness", "2")]
    assert indices(factors, beliefs[1]) == [2, -1]
    options = {"dataset": "esconv", "labels": "support", "factors": ["emotion", "intensity"]}
    state = module_of(make, **options).encoder().state(found[2])
    assert state.belief == beliefs[2]
    assert state.previous == ("sadness", ""), "what is rated after the talk tells nothing before"


def test_what_is_encoded_can_be_read_by_every_component(make: Any) -> None:
    """Whatever is believed, and after an imagined turn: nothing stops for length in training."""
    record = replace(dialogue(), situation="I hear somebody at the door. " * 4, problem="fear")
    encoder, kept = module_of(make).encoder(), []
    encoder.reserve = 60
    for encoder.max_length in range(500, 1100, 3):
        try:
            examples = encoder(record)
        except TooLongError:
            continue
        kept.append(encoder.max_length)
        for example in examples:
            state = encoder.state(example.record)
            for belief in (None, ("no emotion", "negative", "directive")):
                now = State(state.decision, belief, belief)
                after = heard(now, Turn(SUPPORTER, "x" * (60 - len("Supporter: "))))
                answered = heard(now, Turn(SUPPORTER, "y"), "x" * (60 - len("Seeker: ")))
                for each in (now, after, answered):
                    encoder.posterior(each), encoder.prior(each), encoder.reply(each)
                asked = len(encoder.observation(now)) + len(encoder.said(now.decision.query))
                assert asked <= encoder.max_length
    assert 500 < kept[0] < 1000
    assert kept == list(range(kept[0], 1100, 3))


def test_a_long_situation_is_named(make: Any) -> None:
    record = replace(dialogue(), situation="I hear somebody at the door. " * 50)
    with pytest.raises(TooLongError, match=r"d:0.*: problem, situation and options leave \d+ tok"):
        module_of(make, max_length=2400, reserve=400).encoder()(record)


def test_equal_paths_of_a_prompt_are_read_once(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are those of rows that are read alone, in the order in which they were asked."""
    module = module_of(make, factors=FACTORS)
    world, states = module.world, [State(d) for d in decisions(dialogue(), ACTS)]
    prompts = [module.encoder().posterior(states[i]) for i in (0, 1, 0, 1)]
    paths = [[0, 0, 0], [1, 2, 0], [0, 0, 3], [1, 0, 0]]  # the last letter is not read
    alone = [world.factor_logps([p], [path]) for p, path in zip(prompts, paths, strict=True)]
    read, states_of = [], world._states
    monkeypatch.setattr(world, "_states", lambda rows: read.extend(rows) or states_of(rows))
    together = world.factor_logps(prompts, paths)
    assert len(read) == 3
    for i, factor in enumerate(together):
        torch.testing.assert_close(factor, torch.cat([row[i] for row in alone]))


def test_the_schedule_goes_through_its_stages() -> None:
    schedule = Schedule(2, 1, 1, world_per_cycle=2, minibatches=2, epochs=1)
    found = [schedule.phase(step) for step in range(12)]
    assert [f.stage for f in found] == ["policy"] * 2 + ["world", "reward"] + ["joint"] * 8
    assert [f.loss for f in found[4:]] == (["reward"] * 2 + ["behaviour"] * 2) * 2
    assert [f.begins for f in found[4:]] == [True, False, False, False] * 2
    assert [f.cycle for f in found[4:]] == [0] * 4 + [1] * 4
    alone = Schedule(policy=None)
    assert alone.phase(10**6).stage == "policy"
    assert not alone.learns_world
    frozen = Schedule(0, 0, 0, world_per_cycle=0)
    assert {frozen.phase(i).loss for i in range(5)} == {"behaviour"}
    assert {frozen.phase(i, imagines=False).loss for i in range(5)} == {"reward"}


def test_the_script_rewards_the_hidden_feeling_alone() -> None:
    env = ScriptedEnv()
    decision = env.open(7)
    right = env.feeling(decision.dialogue)
    assert env.open(7) == decision
    assert decision.emotion == ""
    assert env.answer(decision, Turn(SUPPORTER, f"Is it {right}?")) == (None, 1.0)
    every = " ".join(env.cues)
    for text in ("I see.", every):
        utterance, reward = env.answer(decision, Turn(SUPPORTER, text))
        assert reward == 0.0
        assert utterance in env.cues[right]
        assert utterance != decision.query


def test_logged_dialogues_go_on_whatever_is_replied() -> None:
    env = ReplayEnv({"d:0": dialogue()}, ACTS)
    first, second = sorted(env.states, key=lambda state: state.depth)
    assert env.answer(first, Turn(SUPPORTER, "anything")) == ("Oh, how nice!", None)
    assert env.answer(second, Turn(SUPPORTER, "anything")) == (None, None)


class Player:
    """A judge that plays a seeker: one message, then the end; grade 4 three times in four."""

    name = "player"

    def fits(self, messages: Any) -> bool:
        return True

    def write(self, messages: Any, seed: int | None = None) -> str:
        return "[[END]]" if len(messages) > 3 else "I am lost."

    def score(self, messages: Any, candidates: Any, begun: str = "") -> list[float]:
        return [0.0, 0.0, 0.25, 0.75, 0.0]


def test_a_language_model_talks_and_grades() -> None:
    env = LLMEnv(Player(), ["my exam"])
    decision = env.open(0)
    assert decision.query == "I am lost."
    answer = env.answer(decision, Turn(SUPPORTER, "Tell me."))
    assert answer.utterance is None
    assert answer.reward == pytest.approx(3.75)


def test_the_replay_keeps_finished_steps_alone() -> None:
    replay = Replay()
    decision = decisions(dialogue(), ACTS)[0]
    replay.fresh.append(Experience(decision, 1.0, None))
    replay.fresh_opened = 1
    assert replay.state() == {"kept": [], "opened": 0}
    replay.commit()
    other = Replay()
    other.load(replay.state())
    assert (other.kept, other.opened) == (replay.kept, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "model.backbone.lora: world model, policy and critic are either adapters"),
        ({"full_copies": True}, "full_copies; give one of both"),
        ({"gamma": 1.5}, r"model.gamma: 1.5 is not in 0..1"),
        ({"rollouts": "environment"}, "model.rollouts: environment needs a user that rewards"),
        ({"user": {"kind": "llm"}}, "model.user.simulator: kind llm needs a language model"),
        ({"rewards": "user"}, "model.rewards: user needs a user that rewards"),
        ({"candidates": 2, "horizon": 0}, "model.candidates: replies are compared by imagining"),
        ({"temperature": 0.0}, "model.temperature: 0.0 is not above 0"),
    ],
)
def test_settings_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    lora = {"rank": 2} if options else None
    module = zoo.DreamCUB({"name": "tiny-llama", "lora": lora}, **options)
    with pytest.raises(InputError, match=said):
        module.validate()


@pytest.mark.parametrize(
    ("factors", "said"),
    [(["emotion", "emotion"], "at most once"), (["mood"], "'mood'; each of emotion")],
)
def test_factors_that_do_not_exist(factors: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        zoo.DreamCUB(factors=factors)
