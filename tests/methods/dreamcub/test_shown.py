"""What DreamCUB says, reads, shows and refuses: texts, users, schedules, scores, figures."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.dreamcub.dreamcub_reference import dialogue, module_of
from methods.dreamcub.test_parts import Player

import zoo
from zoo.errors import InputError, TooLongError
from zoo.judges.judge import JudgeError
from zoo.methods.dreamcub.behaviour import Buffer
from zoo.methods.dreamcub.belief import Factor, factors_of
from zoo.methods.dreamcub.encoder import State, heard
from zoo.methods.dreamcub.environment import CUES, LLMEnv, ReplayEnv, ScriptedEnv
from zoo.methods.dreamcub.imagination import MAX_REWARD, imagine, roll
from zoo.methods.dreamcub.learning import side_by_side
from zoo.methods.dreamcub.metrics import BeliefScores
from zoo.methods.dreamcub.replay import Experience, Replay
from zoo.methods.dreamcub.schedule import Schedule
from zoo.methods.dreamcub.world_losses import WorldWeights
from zoo.methods.dreamcub.world_model import first_line
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import decisions
from zoo.support.labels import ACTS
from zoo.support.reply import SupportReply

FACTORS = ["emotion", "sentiment", "intention"]


@pytest.fixture(scope="module")
def module(make: Any) -> Any:
    """One module for the tests that leave it as it is."""
    return module_of(make, strategy_line=True)


def states_of(*numbers: int) -> list[State]:
    """Return the second state of some dialogues."""
    return [State(decisions(dialogue(i), ACTS)[1]) for i in numbers]


# -- texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "strategy", "words"),
    [
        ("[Inform]  It is\n me. ", "inform", "It is me."),
        ("[shrug] It is me.", "", "[shrug] It is me."),
        ("[inform It is me.", "", "[inform It is me."),
        ("[inform]", "inform", "..."),
        (" \n", "", "..."),
        ("It is [inform] me.", "", "It is [inform] me."),
    ],
)
def test_a_reply_is_read_as_it_is_written(
    module: Any, text: str, strategy: str, words: str
) -> None:
    """Its strategy in brackets first, if it is a known one; without words it is three dots."""
    encoder = module.encoder()
    assert encoder.read_reply(text) == Turn(SUPPORTER, words, strategy=strategy)
    plain = replace(encoder, strategy_line=False)
    assert plain.read_reply(text) == Turn(SUPPORTER, " ".join(text.split()) or "...")
    turn = Turn(SUPPORTER, words, strategy=strategy)
    assert encoder.read_reply(encoder.reply_text(turn)) == turn
    assert plain.reply_text(turn) == words


def test_a_seeker_says_one_line() -> None:
    """What a model writes on with is not theirs."""
    assert first_line(" I am  lost.\nSupporter: Why?") == "I am lost."
    assert first_line(" \n ") == "..."


def test_what_is_heard_begins_the_next_state() -> None:
    """The belief becomes that of before; the reply is said, whatever comes back."""
    (state,) = states_of(0)
    state, reply = replace(state, belief=("fear",)), Turn(SUPPORTER, "Come in.")
    told = heard(state, reply, "Thanks.")
    assert told.decision.turns == (*state.decision.turns, reply, Turn(SEEKER, "Thanks."))
    assert heard(state, reply).decision.turns == told.decision.turns[:-1]
    assert (told.belief, told.previous) == (None, ("fear",))
    assert (told.decision.depth, told.decision.target.text) == (state.decision.depth + 1, "")


def test_prompts_tell_the_belief_before_and_what_is_known(module: Any) -> None:
    """Each component's task, its options in letters, and the facts of the dialogue once."""
    encoder = module.encoder()
    record = replace(dialogue(), situation="At the door.", problem="fear of guests")
    first, second = (encoder.state(d) for d in decisions(record, ACTS))
    assert first.previous is None
    assert second.previous == ("fear", "negative", "question")
    text = encoder.tokenizer.decode(encoder.prior(second))
    assert "state before: emotion=fear; sentiment=negative; intention=question" in text
    assert "Problem: fear of guests\nSituation: At the door.\nDialogue so far:\n" in text
    assert "Oh, how nice!" not in text
    assert "sentiment: A negative, B neutral, C positive" in text
    assert "state before" not in encoder.tokenizer.decode(encoder.prior(first))
    assert "Oh, how nice!" in encoder.tokenizer.decode(encoder.posterior(second))
    spoken = encoder.tokenizer.decode(encoder.reply(second))
    assert "The seeker's state: emotion=happiness" in spoken
    assert spoken.endswith("Supporter:")
    asked = encoder.tokenizer.decode(encoder.observation(second))
    assert asked.endswith("Seeker:")
    bare = encoder.tokenizer.decode(encoder.reply(State(second.decision)))
    assert "state" not in bare


def test_training_dialogues_are_kept_for_a_user_that_replays_them(module: Any) -> None:
    encoder = replace(module.encoder(), dialogues={})
    encoder.study([dialogue(1)], "val")
    assert encoder.dialogues == {}
    encoder.study([dialogue(2)], "train")
    assert encoder.dialogues == {"d:2": dialogue(2)}


def test_the_oldest_turns_of_a_full_window_are_left_out(module: Any) -> None:
    """Counted once a state; a reply or an utterance that cannot fit is named."""
    encoder, turns = replace(module.encoder(), reserve=60), dialogue().turns
    long = Dialogue((turns[0], *[replace(turns[1], text="Well.")] * 50, *turns[2:]), id="d:1")
    last = decisions(long, ACTS)[-1]
    encoder.max_length = len(encoder.reply(encoder.state(last))) + encoder.reserve - 1
    examples = encoder(long)
    assert encoder.shortened == 1
    assert "Who is there" not in encoder.tokenizer.decode(examples[-1].input_ids)
    assert "Who is there" in encoder.tokenizer.decode(examples[0].input_ids)
    words = "x" * encoder.max_length
    with pytest.raises(TooLongError, match=r"d:2, turn 1: a reply of \d+ tokens does not fit"):
        encoder(Dialogue((turns[0], Turn(SUPPORTER, words)), id="d:2"))
    with pytest.raises(TooLongError, match=r"d:3, turn 1: "):
        encoder(Dialogue((Turn(SEEKER, words), turns[1]), id="d:3"))
    said = replace(turns[2], text="x" * 200)  # fits where it is read, not where it is written
    with pytest.raises(TooLongError, match=r"d:4, turn 52: an utterance of 2\d\d tokens does not"):
        encoder(Dialogue((*long.turns[:-2], said, turns[3]), id="d:4"))


def test_an_example_weighs_its_tokens_its_labels_and_one_state(module: Any) -> None:
    """A state without a label counts none; one whose reply is not written has nothing to say."""
    encoder = module.encoder()
    first, second = encoder(replace(dialogue(), id="d:9"))
    words = len(encoder.said(encoder.reply_text(dialogue().turns[1])))
    assert first.head_weights() == {0: words, 1: 3.0, 2: 1.0}
    turns = (Turn(SEEKER, "Hm."), Turn(SUPPORTER, ""))
    (bare,) = encoder(Dialogue(turns, id="d:8"))
    assert bare.head_weights() == {2: 1.0}
    assert second.record.depth == 1


# -- users -----------------------------------------------------------------------------------------


def test_a_script_has_one_feeling_for_a_dialogue_and_goes_through_its_hints() -> None:
    """Hints take turns; another seed lets other seekers come; what is named counts in any case."""
    env = ScriptedEnv()
    for number in range(4):
        decision = env.open(number)
        hints = env.cues[env.feeling(decision.dialogue)]
        said = [decision.query]
        for _ in range(3):
            utterance, reward = env.answer(decision, Turn(SUPPORTER, "I see."))
            assert reward == 0
            said.append(utterance)
            turns = (*decision.turns, Turn(SUPPORTER, "I see."), Turn(SEEKER, utterance))
            decision = replace(decision, turns=turns)
        assert said == [hints[(hints.index(said[0]) + i) % len(hints)] for i in range(4)]
    found = {ScriptedEnv(seed=seed).feeling("scripted:0") for seed in range(9)}
    assert len(found) > 1
    assert {ScriptedEnv().feeling(f"scripted:{i}") for i in range(40)} == set(CUES)
    right = env.feeling("scripted:0").upper()
    assert env.answer(env.open(0), Turn(SUPPORTER, f"{right}!")) == (None, 1.0)


class Noted(Player):
    """Plays the seeker, keeps what it was asked, and fails as often as it is told to."""

    def __init__(self, failures: int = 0, grades: int = 0) -> None:
        self.left, self.unrated = failures, grades
        self.seeds: list[int | None] = []
        self.asked: list[str] = []

    def write(self, messages: Any, seed: int | None = None) -> str:
        self.seeds.append(seed)
        if self.left:
            self.left -= 1
            raise JudgeError("tired")
        return "I am lost."

    def score(self, messages: Any, candidates: Any, begun: str = "") -> list[float]:
        self.asked.append(messages[-1][1])
        if self.unrated:
            self.unrated -= 1
            raise JudgeError("tired")
        return [float(name == "2") for name in candidates]


def test_a_judge_that_fails_is_asked_twice_more() -> None:
    """Then the situation is what a seeker says first, and a reply has neither answer nor grade."""
    for failures, said in ((2, "I am lost."), (3, "my exam")):
        env = LLMEnv(Noted(failures), ["my exam", "my cat"])
        assert env.open(2).query == said
    env = LLMEnv(judge := Noted(0), ["my exam", "my cat"], seed=7)
    decision = env.open(3)
    assert (decision.situation, decision.dialogue, decision.query) == (
        "my cat",
        "llm:3",
        "I am lost.",
    )
    reply = Turn(SUPPORTER, "Tell me.")
    assert env.answer(decision, reply) == ("I am lost.", 2.0)
    assert [seed // 1000 for seed in judge.seeds] == [10, 10]  # of this dialogue, at every turn
    assert "Seeker: I am lost.\nSupporter: Tell me.\n" in judge.asked[0]
    tired = LLMEnv(Noted(9, 9), ["my exam"])
    assert tired.answer(tired.open(0), reply) == (None, None)
    assert LLMEnv(Noted(0, 2), ["my exam"]).answer(decision, reply).reward == 2.0
    with pytest.raises(InputError, match="llm needs dialogues with a situation"):
        LLMEnv(Noted(), [])


def test_replayed_states_are_those_in_which_somebody_was_heard() -> None:
    """They come round again; a dialogue that a supporter opens is no state to begin with."""
    turns = (Turn(SUPPORTER, "Hi."), Turn(SUPPORTER, "So?"), *dialogue().turns)
    env = ReplayEnv({"d:0": Dialogue(turns, id="d:0")}, ACTS)
    assert [env.open(i).query for i in range(3)] == ["Who is there 0?", "Oh, how nice!"] * 1 + [
        "Who is there 0?"
    ]
    with pytest.raises(InputError, match="replay needs training dialogues"):
        ReplayEnv({}, ACTS)


def test_a_replay_is_sampled_by_its_seed() -> None:
    replay = Replay(
        [Experience(state.decision, float(i), None) for i, state in enumerate(states_of(*range(9)))]
    )
    rewards = [[each.reward for each in replay.sample(4, seed)] for seed in "aab"]
    assert rewards[0] == rewards[1] != rewards[2]
    assert len(set(rewards[0])) == 4
    assert len(replay.sample(20, "a")) == 9
    replay.fresh, replay.fresh_opened = replay.kept[:1], 3
    replay.commit()
    assert (len(replay.kept), replay.opened, replay.fresh, replay.fresh_opened) == (10, 3, [], 0)


# -- the schedule ----------------------------------------------------------------------------------


def test_cycles_of_the_early_stages_are_as_long_as_those_of_joint_learning() -> None:
    schedule = Schedule(4, 3, None, world_per_cycle=1, minibatches=2, epochs=1)
    found = [schedule.phase(step) for step in range(11)]
    assert [f.begins for f in found[:4]] == [True, False, False, True]
    assert [f.cycle for f in found[:4]] == [0, 0, 0, 1]
    assert [f.begins for f in found[4:7]] == [True, False, False]
    assert [f.stage for f in found[7:]] == ["reward"] * 4
    joint = Schedule(0, 0, 0, world_per_cycle=1, minibatches=2, epochs=2)
    assert joint.updates == 4
    assert [joint.phase(step).index for step in range(6)] == [0, 0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("lengths", "world", "pairs"),
    [
        ((None, 1, 1, 1), False, False),
        ((1, None, 0, 0), True, False),
        ((1, 0, 0, 0), False, False),
        ((1, 0, 0, 1), True, False),
        ((0, 0, 1, 0), True, True),
        ((1, 1, None, 0), True, True),
    ],
)
def test_what_a_run_comes_to(lengths: tuple[Any, ...], world: bool, pairs: bool) -> None:
    """A stage without end is the last one; what is never learned is not evaluated either."""
    schedule = Schedule(*lengths)
    assert (schedule.learns_world, schedule.learns_pairs) == (world, pairs)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        *((name, 0) for name in ("policy", "world", "reward", "world_per_cycle")),
        *((name, 1) for name in ("minibatches", "epochs", "interact_every")),
    ],
)
def test_lengths_below_the_least_are_refused(name: str, least: int) -> None:
    Schedule(**{name: least})
    with pytest.raises(InputError, match=f"model.schedule.{name}: {least - 1} is not {least} or"):
        Schedule(**{name: least - 1})


def test_pairs_are_learned_from_the_third_stage_on(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S2 has no reward; S3 and joint learning have; a held-out state has what the run comes to."""
    worse: list[Any] = []
    monkeypatch.setattr(
        module.world, "losses", lambda *a, **told: worse.append(told["worse"]) or {}
    )
    monkeypatch.setattr(module.learning, "sampled", lambda states, heat: [[1]] * len(states))
    batch = SimpleNamespace(records=[states_of(0)[0].decision], normalizers={})

    def learned(schedule: Schedule, rewards: str = "pairs") -> list[bool]:
        """Return whether there are pairs: of three steps, and of a held-out batch."""
        monkeypatch.setattr(module, "schedule", schedule)
        monkeypatch.setattr(module, "rewards", rewards)
        worse.clear()
        for step in range(3):
            monkeypatch.setattr(module, "_trainer", SimpleNamespace(global_step=step))
            module.learning.world_losses(batch)
        module.learning.world_losses(batch, validating=True)
        return [turns is not None for turns in worse]

    assert learned(Schedule(0, 1, 1, world_per_cycle=1)) == [False, True, True, True]
    assert learned(Schedule(0, 1, 1, world_per_cycle=1), "user") == [False] * 4
    assert learned(Schedule(0, None)) == [False] * 4
    monkeypatch.setattr(module, "schedule", Schedule(None))
    assert module.learning.world_losses(batch, validating=True) == {}


# -- numbers ---------------------------------------------------------------------------------------


def test_each_term_has_the_weight_that_is_set() -> None:
    """By name of the term, as the equation of L has them; those of the policy count one."""
    assert WorldWeights(2.0, 3.0, 4.0, 5.0, 6.0).of_terms() == {
        **dict.fromkeys(("speak", "policy", "value", "dpo"), 1.0),
        **{"belief": 2.0, "observation": 3.0, "met": 3.0, "reward": 4.0, "graded": 4.0},
        **{"kl": 5.0, "prior": 6.0},
    }


def test_scores_of_beliefs_by_hand() -> None:
    """What is not annotated counts nowhere; the balanced accuracy is a mean over labels."""
    scores = BeliefScores(factors_of(["sentiment", "intention"], "daily_dialog"))
    gold = ["negative"] * 3 + ["positive", ""]
    found = ["negative"] * 4 + ["positive"]
    scores.update([(label, "") for label in gold], [(label, "inform") for label in found])
    f1 = 3 / 4 * (2 * 3 / (2 * 3 + 1)) + 1 / 4 * 0  # of `negative` and of `positive`, by support
    assert scores.compute() == {
        "sentiment_belief_accuracy": pytest.approx(3 / 4),
        "sentiment_belief_balanced": pytest.approx(1 / 2),
        "sentiment_belief_f1": pytest.approx(f1),
    }


def test_a_factor_has_a_letter_for_each_label() -> None:
    for count in (1, 53):
        with pytest.raises(InputError, match=f"mood has {count} labels, expected 2 to 52"):
            Factor("mood", tuple(map(str, range(count))))
    assert Factor("mood", tuple(map(str, range(52)))).options().endswith("z 51")


def test_parts_of_a_buffer_keep_their_own_tokens() -> None:
    """Any rows in any order; a checkpoint gives the same buffer back."""
    buffer = Buffer(
        [[1], [2, 2], [3]],
        [[7], [8, 8], [9, 9, 9]],
        torch.arange(6.0),
        torch.tensor([0.1, 0.2, 0.3]),
        torch.tensor([1.0, 2.0, 3.0]),
        torch.tensor([4.0, 5.0, 6.0]),
    )
    part = buffer.part([2, 0])
    assert (len(part), part.prompts, part.replies) == (2, [[3], [1]], [[9, 9, 9], [7]])
    assert part.old_logp.tolist() == [3.0, 4.0, 5.0, 0.0]
    assert part.returns.tolist() == [3.0, 1.0]
    assert part.advantages.tolist() == [6.0, 4.0]
    again = Buffer.of(buffer.state(), torch.device("cpu"))
    assert again.state().keys() == buffer.state().keys()
    assert torch.equal(again.old_values, buffer.old_values)


def test_the_reward_of_a_turn(make: Any) -> None:
    """(7): clamped, then minus kappa times the divergence and plus the bonus of surprise."""
    module = module_of(make, gamma=0.0, kappa=0.5, entropy_bonus=2.0)
    raw = torch.tensor([MAX_REWARD + 5, -MAX_REWARD - 5, 1.0])
    goes_on = iter([[True, False, True], [True, True, True]])

    def respond(now: Any, replies: Any, k: int) -> Any:
        alive = next(goes_on)
        return raw, [s if a else None for s, a in zip(now, alive, strict=True)]

    rollout = module.quietly(lambda: roll(module, states_of(0, 1, 2), 2, respond))
    assert len(rollout.buffer) == 5, "a dialogue that has ended has no more turns"
    assert rollout.buffer.prompts[3:] == [rollout.buffer.prompts[i] for i in (0, 2)]
    lengths = [len(reply) for reply in rollout.buffer.replies]
    with torch.no_grad(), zoo.adapters.using(module.lm, None):
        base = module.actor.reply_logps(rollout.buffer.prompts, rollout.buffer.replies)
    pairs = zip(rollout.buffer.old_logp.split(lengths), base.split(lengths), strict=True)
    changes = [float(0.5 * (a - b).sum() + 2.0 * a.mean()) for a, b in pairs]
    clamped = [MAX_REWARD, -MAX_REWARD, 1.0, MAX_REWARD, 1.0]
    wanted = [r - change for r, change in zip(clamped, changes, strict=True)]
    assert rollout.buffer.returns.tolist() == pytest.approx(wanted, abs=1e-4)
    scores = rollout.scores
    assert scores["reward"] == pytest.approx(float(raw[[0, 1, 2, 0, 2]].mean()))
    assert scores["return"] == pytest.approx(sum(wanted[:3]) / 3, abs=1e-4)
    assert scores["entropy"] == pytest.approx(
        -sum(float(p.mean()) for p in rollout.buffer.old_logp.split(lengths)) / 5, abs=1e-5
    )
    assert scores["value"] == pytest.approx(float(rollout.buffer.old_values.mean()), abs=1e-5)


def test_prior_and_posterior_disagree_in_a_share_of_the_turns(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all imagined turns: what was foreseen before the words, beside what they tell."""
    felt, other = ("fear", "negative", "question"), ("anger", "negative", "inform")
    told = iter([[felt, other], [other, other]])
    monkeypatch.setattr(module.world, "foresee", lambda *a: (next(told), ["Yes.", "No."]))
    monkeypatch.setattr(
        module.world, "infer", lambda states, names: [replace(s, belief=felt) for s in states]
    )
    rollout = module.quietly(lambda: imagine(module, states_of(0, 1), ["a", "b"]))
    assert module.horizon == 2
    assert rollout.scores["disagreement"] == 3 / 4
    assert [state.decision.turns[-1].text for state in rollout.states] == ["Yes.", "No."]


def test_utterances_are_a_mean_over_their_tokens(module: Any) -> None:
    """L_obs of each state; one that ends with a reply has none and counts none."""
    world, (first, second) = module.world, states_of(0, 1)
    silent = replace(second, decision=replace(second.decision, turns=second.decision.turns[:2]))
    alone = [world.utterances([state], 1.0).sum.detach() for state in (first, second)]
    both = world.utterances([first, silent, second], 3.0)
    assert both.sum.item() == pytest.approx(float(sum(alone)), rel=1e-5)
    assert (float(both.weight), both.normalizer) == (2, 3)
    encoder = module.encoder()
    ids = [*encoder.observation(first), *(said := encoder.said(first.decision.query))]
    with torch.no_grad(), zoo.adapters.using(module.lm, "world_model"):
        logp = module.lm(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    nll = -logp.gather(1, torch.tensor(ids[1:])[:, None])[-len(said) :, 0].mean()
    assert float(alone[0]) == pytest.approx(float(nll), rel=1e-4)


def test_grades_of_a_user_are_learned_by_squares(module: Any) -> None:
    """Half the squared error; who gave none adds nothing and counts none."""
    states, reply = states_of(0, 1), Turn(SUPPORTER, "So.")
    with torch.no_grad():
        rewards = module.world.rewards(states, [reply] * 2).tolist()
    term = module.world._grades([(states[0], reply, 0.5), (states[1], reply, None)])
    assert float(term.sum) == pytest.approx(0.5 * (rewards[0] - 0.5) ** 2, rel=1e-5)
    assert (float(term.weight), term.normalizer) == (1, 1)
    none = module.world._grades([(states[0], reply, None)])
    assert (float(none.sum), float(none.weight), none.normalizer) == (0, 0, 1)


def test_preferences_are_those_of_bradley_and_terry(module: Any) -> None:
    """-log sigmoid of what the data's reply has more than the other one, for each state."""
    states, worse = states_of(0, 1), [Turn(SUPPORTER, "No."), Turn(SUPPORTER, "Go away.")]
    with torch.no_grad():
        good = module.world.rewards(states, [s.decision.target for s in states])
        bad = module.world.rewards(states, worse)
    term = module.world._preference(states, worse, 2.0)
    assert float(term.sum) == pytest.approx(float((1 + (bad - good).exp()).log().sum()), rel=1e-5)
    assert (float(term.weight), term.normalizer) == (2, 2)


# -- what is shown and refused ---------------------------------------------------------------------


def test_a_belief_stands_beside_a_reply(make: Any) -> None:
    """And in the figures, for each factor that is annotated: gold by row."""
    module = module_of(make, factors=["sentiment", "intention"])
    states = states_of(0, 1)
    answers = module.respond([state.decision for state in states])
    for answer in answers:
        (line,) = [text for name, text in answer.steps if name == "belief"]
        assert line.startswith("sentiment=")
        assert answer.emotion == ""
        assert answer.calls == 2
    line = "sentiment=negative; intention=inform"
    known = SupportReply("So.", steps=(("belief", line),))
    blank = replace(states[1].decision, turns=(Turn(SEEKER, "Hm.", emotion="fear"),))
    pairs = [(states[0].decision, known), (blank, known)]
    scores = module.score_answers(pairs, "val")
    assert scores["sentiment_belief_accuracy"] == 1 / 2  # happiness is positive, fear negative
    assert scores["intention_belief_accuracy"] == 1
    shown = module.figures()
    assert {"belief_sentiment", "belief_intention"} <= shown.keys()
    counts = shown["belief_sentiment"].axes[0].images[0].get_array()
    assert counts.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]
    module.answers = {"d": (replace(blank, turns=(Turn(SEEKER, "Hm."),)), known)}
    assert not [name for name in module.figures() if name.startswith("belief")]


def test_an_emotion_that_is_believed_is_recognised(module: Any) -> None:
    (answer,) = module.respond([states_of(0)[0].decision])
    line = dict(answer.steps)["belief"]
    assert f"emotion={answer.emotion};" in line


def test_dialogues_stand_side_by_side_in_a_table() -> None:
    assert side_by_side("a|b\nc", "") == "| a\\|b<br>c |  |"


def test_each_adapter_learns_at_its_own_rate(make: Any) -> None:
    """With its head; the policy's is that of the optimiser."""
    module = module_of(make, optimizer=zoo.Optimizer(lr=1e-3), world_lr=2e-3, critic_lr=3e-3)
    module._trainer = SimpleNamespace(estimated_stepping_batches=10, max_steps=10, max_epochs=None)
    found = module.configure_optimizers()
    optimizer = found["optimizer"] if isinstance(found, dict) else found[0][0]
    rates = {
        id(p): group.get("initial_lr", group["lr"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        world = "world_model" in name or name == "reward_head.weight"
        critic = "critic" in name or name == "value_head.weight"
        assert rates[id(parameter)] == (2e-3 if world else 3e-3 if critic else 1e-3), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"factors": []}, "model.factors: a belief needs one factor or more"),
        ({"lam": -0.1}, r"model.lam: -0.1 is not in 0..1"),
        ({"gamma": 1.1}, r"model.gamma: 1.1 is not in 0..1"),
        ({"rewards": "user", "user": {"kind": "replay"}}, "model.rewards: user needs a user that"),
    ],
)
def test_more_settings_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        zoo.DreamCUB({"name": "tiny-llama", "lora": {"rank": 2}}, **options).validate()


def test_copies_are_not_quantised() -> None:
    module = zoo.DreamCUB({"name": "tiny-llama"}, full_copies=True)
    module.validate()
    module.backbone = replace(module.backbone, load_4bit=True)
    with pytest.raises(InputError, match="model.full_copies: 4-bit weights are not trained"):
        module.validate()


@pytest.mark.parametrize(
    "options",
    [
        *({name: value} for name in ("gamma", "lam") for value in (0.0, 1.0)),
        {"rewards": "user", "user": {"kind": "scripted"}},
        {"horizon": 0},
        {"candidates": 2, "horizon": 1},
        {"user": {"kind": "llm", "simulator": {"name": "tiny-llama"}}},
    ],
)
def test_settings_at_the_end_of_their_range_fit(options: dict[str, Any]) -> None:
    zoo.DreamCUB({"name": "tiny-llama", "lora": {"rank": 2}}, **options).validate()
