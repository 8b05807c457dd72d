"""The ten properties of straQ*'s sheet (arXiv 2505.06987, section 9).

The reference is an independent transcription of the equations, `straq_reference.py`.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from methods.straq.straq_reference import NAMES, Reference, prompt
from support_judges import ScriptedJudge, strategy
from torch.utils.data import DataLoader
from training import quiet_trainer, silence

import zoo
from datamodules import ESConv
from zoo.encoding import sum_head_weights
from zoo.errors import InputError
from zoo.methods.straq.encoder import Transition
from zoo.methods.straq.rewards import Judged
from zoo.methods.straq.temporal_difference import td_errors, td_targets
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import Decision, decisions
from zoo.support.judging import SupportJudge
from zoo.support.labels import ACTS
from zoo.support.strategy_metrics import count_pairs, strategy_scores

TWO = ("tiny-llama", "tiny-gemma")  # untied and tied
READOUTS = ("mean_logit", "mean_logprob", "token_prob")
LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": "all-linear"}


# -- helpers -----------------------------------------------------------------------------------


def talk(*turns: tuple[str, str], **known: str) -> Dialogue:
    """Return a dialogue of (strategy, text); an empty strategy is the seeker's turn."""
    made = (Turn(SUPPORTER if s else SEEKER, text, strategy=s) for s, text in turns)
    return Dialogue(tuple(made), id="talk:1", **known)


DIALOGUE = talk(
    ("", "I lost my job."),
    ("Question", "When?"),
    ("", "Last week. I told nobody."),
    ("Reflection of feelings", "That must be lonely."),
    ("Providing Suggestions", "Could you tell your sister?"),
    ("", "Perhaps."),
    ("Others", "Take care."),
    emotion="sadness",
    situation="They let me go.",
)


def batch_of(module: Any, examples: Sequence[Transition]) -> Any:
    return module.encoder().collate(examples, sum_head_weights(examples))


def bare(ids: list[int], following: list[int] | None, *judged: tuple[int, float]) -> Transition:
    """Return a transition between prompts."""
    record = Decision((), Turn(SUPPORTER, ""), 0, following is None)
    ends = (following is None,) * len(judged)
    pairs = tuple(Judged(action, reward, False) for action, reward in judged)
    return Transition(ids, following or ids[:1], pairs, ends, record)


LITTLE, MUCH, COST, OTHER = 1.0, 4.0, -0.2, -1.0  # rewards of a chain of four states


def chain(module: Any) -> Any:
    """Return all transitions of a chain as one batch.

    A leaves with a little; B moves on, with much after the last state; C moves back at a cost; the
    other actions leave with less than nothing.
    """
    ids = [module.encoder().ids(f"State {name}. Answer:") for name in ("one", "two", "three", "4")]
    examples = []
    for s, state in enumerate(ids):
        last = s == len(ids) - 1
        ends = ((0, LITTLE), *((action, OTHER) for action in range(3, 8)))
        examples.append(bare(state, None, *ends))
        examples.append(bare(state, None if last else ids[s + 1], (1, MUCH if last else 0.0)))
        examples.append(bare(state, ids[max(s - 1, 0)], (2, COST)))
    return batch_of(module, examples)


def value_iteration(gamma: float) -> torch.Tensor:
    """Return Q of the chain, `(4, 8)`."""
    q = torch.zeros(4, 8)
    for _ in range(300):
        values, q = q.max(1).values, torch.full((4, 8), OTHER)
        for s in range(4):
            q[s, 0], q[s, 2] = LITTLE, COST + gamma * values[max(s - 1, 0)]
            q[s, 1] = MUCH if s == 3 else gamma * values[s + 1]
    return q


def repeated(batch: Any, times: int) -> DataLoader[Any]:
    return DataLoader([batch] * times, batch_size=None, collate_fn=lambda one: one)


class Passes:
    """Counts the forward passes of the first block."""

    def __init__(self, module: Any) -> None:
        self.count = 0
        self.hook = module.lm.model.layers[0].register_forward_hook(self._add)

    def _add(self, *_: Any) -> None:
        self.count += 1


# -- 1: no parameter beyond the language model -------------------------------------------------


@pytest.mark.fidelity("straq", 1)
@pytest.mark.parametrize("readout", READOUTS)
def test_the_planner_is_the_language_model(make: Any, shape: str, readout: str) -> None:
    """Parameters, buffers and state are those of the bare backbone, a target copy included."""
    from zoo.backbone import Backbone, load

    module = make("StraQ", shape, readout=readout)
    module.target.sync(module)
    plain, _ = load(Backbone(shape))
    names = {f"lm.{name}" for name in plain.state_dict()}
    assert set(module.state_dict()) == names
    assert {n for n, _ in module.named_parameters()} == {
        f"lm.{n}" for n, _ in plain.named_parameters()
    }
    metrics = sum(1 for _ in module.metrics.modules())  # scores, without weights or state
    assert sum(1 for _ in module.modules()) == sum(1 for _ in plain.modules()) + 1 + metrics


@pytest.mark.fidelity("straq", 1)
def test_with_adapters_only_they_are_new(make: Any, shape: str) -> None:
    """New parameters are LoRA's; they alone are trained and copied."""
    module = make("StraQ", shape, backbone={"lora": LORA})
    module.target.sync(module)
    known = {n.replace(".base_layer", "") for n in module.state_dict() if "lora_" not in n}
    assert known == set(make("StraQ", shape).state_dict())
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    assert trained == {n for n in module.state_dict() if "lora_" in n}
    assert set(module.target.values) == trained


# -- 2: one pass, eight values, argmax ---------------------------------------------------------


@pytest.mark.fidelity("straq", 2)
@pytest.mark.parametrize("readout", READOUTS)
def test_one_pass_gives_the_eight_scores(make: Any, shape: str, readout: str) -> None:
    """The values are the reference's; the plan is the largest; nothing is drawn at random."""
    module = make("StraQ", shape, spread=6.0, readout=readout)
    passes, before = Passes(module), torch.get_rng_state()
    found = decisions(DIALOGUE)
    plans = module.plan(found)
    assert passes.count == 1
    assert torch.equal(torch.get_rng_state(), before)
    reference = Reference(module, readout)
    for stop, plan in zip((1, 3, 4, 6), plans, strict=True):
        with torch.no_grad():
            expected = reference.values(prompt(DIALOGUE, stop))
        torch.testing.assert_close(torch.tensor(plan.values), expected, rtol=1e-4, atol=1e-5)
        assert plan.strategy == NAMES[int(expected.argmax())]
    assert len({plan.values for plan in plans}) == 4
    assert module.plan(found) == plans


@pytest.mark.fidelity("straq", 2)
def test_the_first_of_equal_values_wins(make: Any, shape: str) -> None:
    module = make("StraQ", shape)
    rows = torch.tensor([[0.0, 2, 1, 2, 2, 0, 0, 0], [3.0] * 8])
    assert [plan.strategy for plan in module.plans(rows)] == [NAMES[1], NAMES[0]]


# -- 3: the target value and the loss ----------------------------------------------------------


@pytest.mark.fidelity("straq", 3)
def test_the_example_of_the_sheet() -> None:
    """r = 1, gamma = 0.85, max Q' = 0.4, Q = 0.3: y = 1.34, loss 1.0816; done: y = r."""
    following = torch.tensor([[0.1, 0.4, -2.0], [0.1, 0.4, -2.0]])
    done = torch.tensor([False, True])
    y = td_targets(torch.tensor([1.0, 1.0]), following, done, 0.85)
    torch.testing.assert_close(y, torch.tensor([1.34, 1.0]))
    errors = td_errors(torch.tensor([0.3, 0.3]), y)
    torch.testing.assert_close(errors, torch.tensor([1.0816, 0.49]))


LOSSES = [("mean_logit", True), ("mean_logit", False), ("token_prob", True)]


@pytest.mark.fidelity("straq", 3)
@pytest.mark.fidelity("straq", 4)
@pytest.mark.parametrize(("readout", "packed"), LOSSES)
@pytest.mark.parametrize("two", TWO)
def test_loss_and_gradient_of_a_dialogue(make: Any, two: str, readout: str, packed: bool) -> None:
    """All transitions of a dialogue, with a target that differs: the reference's L and gradient."""
    module = make("StraQ", two, spread=4.0, readout=readout, padding_free=packed)
    reference = Reference(module, readout)
    other = reference.perturbed()
    module.target.sync(module)
    for name, parameter in other.lm.named_parameters():
        module.target.values[f"lm.{name}"].copy_(parameter)

    examples = module.encoder()(DIALOGUE)
    judged = {len(e.record.turns): [(one.action, one.reward) for one in e.judged] for e in examples}
    assert list(judged) == [1, 3, 4, 6]
    batch = batch_of(module, examples)
    loss = silence(module).training_step(batch, 0)
    loss.backward()
    wanted, expected = reference.gradients(DIALOGUE, judged, other)
    torch.testing.assert_close(loss.detach(), wanted, rtol=1e-4, atol=1e-5)
    for name, parameter in module.named_parameters():
        want = expected[name]
        scale = want.abs().max().item()
        torch.testing.assert_close(parameter.grad, want, rtol=1e-3, atol=1e-4 * scale + 1e-8)

    theirs = module.next_values(batch)
    module.target.sync(module)
    own = module.next_values(batch)
    assert (own - theirs).abs().max() > 0.05 * own.abs().max(), "the target must matter"


# -- 4: the target ----------------------------------------------------------------------------


class Watch(Callback):
    """Keeps trained weights and target after every optimiser step."""

    def __init__(self) -> None:
        self.online: list[dict[str, torch.Tensor]] = []
        self.target: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step > len(self.online):
            named = module.named_parameters()
            self.online.append({n: p.detach().clone() for n, p in named if p.requires_grad})
            self.target.append({n: t.clone() for n, t in module.target.values.items()})


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())


@pytest.mark.fidelity("straq", 4)
@pytest.mark.parametrize(
    ("name", "lora"), [("tiny-llama", None), ("tiny-gemma", None), ("tiny-llama", LORA)]
)
def test_target_is_copied_every_tenth_step(name: str, lora: Any) -> None:
    """Equal to online right after steps 10 and 20, constant in between, never a gradient."""
    optimizer = {"lr": 1e-3, "schedule": "constant", "warmup_ratio": 0.0}
    module = zoo.StraQ(backbone={"name": name, "lora": lora}, optimizer=optimizer)
    assert module.sync_every == 10
    module.configure_model()
    start = {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}
    watch = Watch()
    run = quiet_trainer(max_steps=22, accumulate_grad_batches=2, callbacks=[watch])
    run.fit(module, repeated(chain(module), 44))
    assert len(watch.online) == 22
    for step, (online, target) in enumerate(zip(watch.online, watch.target, strict=True), 1):
        expected = start if step < 10 else watch.online[step // 10 * 10 - 1]
        assert same(target, expected), step
        assert same(target, online) == (step % 10 == 0), step
    assert not any(t.requires_grad or t.grad is not None for t in module.target.values.values())
    assert not same(start, watch.online[0])


@pytest.mark.fidelity("straq", 4)
def test_the_target_is_without_dropout(make: Any) -> None:
    """In a training step Q_theta drops out, Q_phi is what it is in evaluation, and no graph."""
    module = make("StraQ", "tiny-llama", backbone={"lora": LORA | {"alpha": 64.0, "dropout": 0.5}})
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.add_(0.1 * ("lora_" in name))
    module.target.sync(module)
    batch = batch_of(module, module.encoder()(DIALOGUE))
    wanted = module(batch.after).detach()
    module.train()
    values = module.next_values(batch)
    assert torch.equal(values, wanted)
    assert not values.requires_grad
    _, drawn = module.losses_and_values(batch)
    _, again = module.losses_and_values(batch)
    assert not torch.equal(drawn, again)
    assert module.training


# -- 5: rewards by imitation -------------------------------------------------------------------


def imitated(records: Sequence[Dialogue]) -> list[Transition]:
    encoder = zoo.StraQ(backbone={"name": "tiny-llama"}, max_length=10**6).encoder()
    return [example for record in records for example in encoder(record)]


def check_imitation(examples: Sequence[Transition]) -> Counter[str]:
    """Check every state; return how often each strategy is the wrong one."""
    drawn: Counter[str] = Counter()
    for example in examples:
        rewards = {one.logged: (NAMES[one.action], one.reward) for one in example.judged}
        assert len(example.judged) == len(rewards) == 2
        assert rewards[True] == (example.record.target.strategy, 1.0)
        name, reward = rewards[False]
        assert name != example.record.target.strategy
        assert reward == -1.0
        drawn[name] += 1
    return drawn


@pytest.mark.fidelity("straq", 5)
def test_as_many_negatives_as_positives() -> None:
    """Each state has its logged strategy with +1 and one other with -1; the same in every run."""
    records = ESConv().records("train")
    examples = imitated(records)
    check_imitation(examples)
    assert imitated(records) == examples
    many = [talk(("", f"{i}"), (NAMES[i % 8], "x")) for i in range(800)]
    named = [Dialogue(d.turns, id=f"talk:{i}") for i, d in enumerate(many)]
    drawn = check_imitation(imitated(named))
    assert set(drawn) == set(NAMES)
    assert max(drawn.values()) < 140  # 100 expected of each, spread 9.4


@pytest.mark.fidelity("straq", 5)
@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="needs ESConv in $ZOO_DATA/esconv")
def test_negatives_of_esconv() -> None:
    path = str(Path(os.environ["ZOO_DATA"]) / "esconv")
    examples = imitated(ESConv(path).records("test"))
    assert len(examples) > 2000
    assert set(check_imitation(examples)) == set(NAMES)


# -- 6: long-run and myopic choices ------------------------------------------------------------


@pytest.mark.fidelity("straq", 6)
@pytest.mark.parametrize(("gamma", "best"), [(0.85, "B"), (0.0, "A")])
@pytest.mark.parametrize("two", TWO)
def test_discount_decides(two: str, gamma: float, best: str) -> None:
    """The language model's Q is value iteration's; the discount decides between B and A."""
    torch.manual_seed(0)  # 500 steps settle it from this start
    module = zoo.StraQ(
        backbone={"name": two},
        optimizer={"lr": 3e-3, "schedule": "linear", "warmup_ratio": 0.0, "weight_decay": 0.0},
        gamma=gamma,
    )
    module.configure_model()
    batch = chain(module)
    quiet_trainer(max_steps=500).fit(module, repeated(batch, 500))
    with torch.no_grad():
        q = module.eval()(batch.now)[::3]
    torch.testing.assert_close(q, value_iteration(gamma), rtol=0, atol=1e-2)
    assert "AB"[int(q[0].argmax())] == best


# -- 7: padding --------------------------------------------------------------------------------


@pytest.mark.fidelity("straq", 7)
@pytest.mark.parametrize("readout", [*READOUTS, "value_head"])
def test_padding_changes_no_value(make: Any, shape: str, readout: str) -> None:
    """A prompt alone, right-padded among longer ones, and packed: the same values."""
    padded = make("StraQ", shape, spread=6.0, readout=readout, padding_free=False)
    packed = make("StraQ", shape, spread=6.0, readout=readout)
    packed.load_state_dict(padded.state_dict())
    rows = [padded.encoder().state(decision) for decision in decisions(DIALOGUE)]
    rows.append(rows[0][-40:])
    random.Random(0).shuffle(rows)
    with torch.no_grad():
        together = padded(padded.encoder().prompts(rows))
        laid = packed(packed.encoder().prompts(rows))
        alone = torch.cat([padded(padded.encoder().prompts([row])) for row in rows])
    assert padded.encoder().prompts(rows).attention_mask.sum(1).tolist() == [*map(len, rows)]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(laid, alone, rtol=1e-4, atol=1e-5)
    assert together.std(0).min() > 1e-4 * together.abs().max()


# -- 8: the responder does not count -----------------------------------------------------------


@pytest.mark.fidelity("straq", 8)
@pytest.mark.parametrize("two", TWO)
def test_scores_do_not_depend_on_the_responder(make: Any, two: str) -> None:
    """None, a tiny model and a function: equal Acc, Q, B and plans; the replies differ."""
    scores, replies = [], []
    for responder in (None, {"name": "tiny-qwen2"}, lambda states, *_: ["So?"] * len(states)):
        given = None if callable(responder) else responder
        module = make("StraQ", two, spread=6.0, responder=given, max_new_tokens=3)
        if callable(responder):
            module.responder = responder
        data = ESConv(eval_batch_size=4, max_test=2)
        scores.append(quiet_trainer().test(module, data, verbose=False)[0])
        if module.responder is not None:
            replies.append(module.reply(data.records("test")))
    assert {"test/accuracy", "test/proficiency", "test/bias"} <= set(scores[0])
    for found in scores[1:]:
        assert {name: found[name] for name in scores[0]} == scores[0]
        assert {"test/bleu_2", "test/rouge_l", "test/early/cider"} <= set(found) - set(scores[0])
    assert scores[1]["test/length"] != scores[2]["test/length"]
    assert replies[0] != replies[1] == ["So?"] * 2


# -- 9: the ablations --------------------------------------------------------------------------


@pytest.mark.fidelity("straq", 9)
@pytest.mark.parametrize("two", TWO)
def test_ablations_run_from_the_same_data_module(two: str) -> None:
    """One data module object trains all three on the same states; each moves what it should."""
    data = ESConv(batch_size=1, max_train=1, max_val=1)
    kinds = {
        "planner": {},
        "value_head": {"readout": "value_head"},
        "autoregressive": {"objective": "cross_entropy"},
    }
    states, moved = {}, {}
    for kind, options in kinds.items():
        module = zoo.StraQ(backbone={"name": two}, **options)
        module.configure_model()
        before = {n: t.clone() for n, t in module.state_dict().items()}
        run = quiet_trainer(
            max_steps=1, val_check_interval=1, limit_val_batches=1, num_sanity_val_steps=0
        )
        run.fit(module, data)
        assert "val/accuracy" in run.callback_metrics
        states[kind] = [(e.ids, e.next_ids) for e in data.examples("train", module.encoder())]
        moved[kind] = {n for n, t in module.state_dict().items() if not torch.equal(t, before[n])}
    assert states["planner"] == states["value_head"] == states["autoregressive"]
    head = {"value_head.weight", "value_head.bias"}
    assert head <= moved["value_head"]
    assert ("lm.lm_head.weight" in moved["value_head"]) == (two == "tiny-gemma")  # tied
    for kind in ("planner", "autoregressive"):
        assert "lm.lm_head.weight" in moved[kind]
        assert not head & moved[kind]


@pytest.mark.fidelity("straq", 9)
@pytest.mark.parametrize("two", TWO)
def test_losses_of_the_ablations(make: Any, two: str) -> None:
    """The value head's TD loss by hand; the letter's cross-entropy as torch computes it."""
    module = make("StraQ", two, spread=4.0, readout="value_head")
    examples = module.encoder()(DIALOGUE)
    batch = batch_of(module, examples)
    terms, values = module.losses_and_values(batch)
    reference = Reference(module)
    hidden, letters, texts = [], [], [prompt(DIALOGUE, stop) for stop in (1, 3, 4, 6)]
    for text in texts:
        ids = torch.tensor([module.tokenizer(text, add_special_tokens=False)["input_ids"]])
        hidden.append(reference.lm.model(ids).last_hidden_state[0, -1])
        letters.append(reference.lm(ids).logits[0, -1])
    q = torch.stack(hidden) @ module.value_head.weight.T + module.value_head.bias
    torch.testing.assert_close(values, q, rtol=1e-4, atol=1e-5)
    errors = []
    for i, example in enumerate(examples):
        for one in example.judged:
            y = one.reward + (0.85 * q[i + 1].max() if i < 3 else 0.0)
            errors.append((q[i, one.action] - y) ** 2)
    torch.testing.assert_close(terms["td"].loss, torch.stack(errors).mean(), rtol=1e-4, atol=1e-5)

    plain = make("StraQ", two, spread=4.0, objective="cross_entropy")
    terms = plain.losses(batch_of(plain, plain.encoder()(DIALOGUE)))
    gold = [NAMES.index(DIALOGUE.turns[stop].strategy) for stop in (1, 3, 4, 6)]
    wanted = torch.tensor([plain.tokenizer.convert_tokens_to_ids(chr(65 + i)) for i in gold])
    expected = torch.nn.functional.cross_entropy(torch.stack(letters), wanted)
    torch.testing.assert_close(terms["cross_entropy"].loss, expected, rtol=1e-4, atol=1e-5)


# -- beside the properties ---------------------------------------------------------------------


@pytest.mark.parametrize("reward", ["imit", "distill"])
def test_dialogues_without_strategies_are_planned(make: Any, reward: str) -> None:
    """Nothing is learned of them, `test` and `predict` plan them, and training refuses them."""
    module = make("StraQ", "tiny-llama", reward=reward)
    silent = Dialogue((Turn(SEEKER, "I lost my job."), Turn(SUPPORTER, "When?")), id="talk:2")
    encoder = module.encoder()
    encoder.study([silent], "test")
    examples = encoder(silent)
    assert [example.judged for example in examples] == [()]
    assert len(encoder.preview(examples[0])) > 1
    logged: dict[str, Any] = {}
    module.log = lambda name, value, **_: logged.update({name: value})
    module.log_terms = lambda *_: None
    module.test_step(batch_of(module, examples), 0)
    module.log_scores("test")
    assert list(logged) == ["test/planned_value"]
    module.start_evaluation()
    (row,) = module.predict_step(batch_of(module, examples), 0)
    assert (row["id"], row["gold"]) == ("talk:2, turn 1", "")
    with pytest.raises(InputError, match="talk:2: no supporter turn has a support strategy"):
        encoder.study([silent], "train")


def test_grades_are_opened_for_training_alone(make: Any, tmp_path: Path, caplog: Any) -> None:
    """A planner needs no file of grades to plan; held-out decisions are not graded."""
    module = make("StraQ", "tiny-llama", reward="distill", grades=str(tmp_path / "gone.jsonl"))
    assert module.plan([DIALOGUE])[0].strategy in NAMES
    encoder = module.encoder()
    encoder.study([DIALOGUE], "test")
    assert [example.judged for example in encoder(DIALOGUE)] == [()] * 4
    with pytest.raises(InputError, match=r"gone.jsonl: no such file of recorded answers"):
        encoder.study([DIALOGUE], "train")
    with pytest.raises(InputError, match="model.reward: distill needs model.objective: td"):
        make("StraQ", "tiny-llama", reward="distill", objective="cross_entropy")


def test_missing_grades_are_counted(make: Any, caplog: Any) -> None:
    """Some: a warning with their number and why; all: nothing can be learned."""
    unrated = make("StraQ", "tiny-llama", reward="distill").encoder()
    with pytest.raises(InputError, match=r"nothing to learn; 4 of 4 have no grade \(.*not rated"):
        unrated.study([DIALOGUE], "train")

    def slow(asked: str) -> str:
        if "\nSupporter" in asked:  # not the first decision
            raise TimeoutError("30 seconds")
        return "[[3]]"

    module = make("StraQ", "tiny-llama", reward="distill")
    module.judge = SupportJudge(ScriptedJudge(slow))
    encoder = module.encoder()
    with caplog.at_level("WARNING"):
        encoder.study([DIALOGUE], "train")
    assert "rewards of train: 6 of 8 have no grade (TimeoutError: 30 seconds)" in caplog.text


# -- 10: direction -----------------------------------------------------------------------------

SAID = ("my dog ran off", "what now", "is it 5 or 6", "ok")  # the best act is the one at its place


def logs() -> list[Dialogue]:
    """Return 20 dialogues for each utterance, by supporters who have habits.

    After two of them 7 in 20 do what is best elsewhere; after the others 13 in 20 do what is best
    after the first two. To imitate them is to leave two acts out; to do what is best is balanced.
    """
    made = []
    for i in range(80):
        best, turn = i % 4, i // 4
        habit = turn < (7 if best < 2 else 13)
        act = (best + 2) % 4 if habit else best
        turns = (Turn(SEEKER, SAID[best]), Turn(SUPPORTER, "Hm.", strategy=ACTS.names[act]))
        made.append(Dialogue(turns, id=f"log:{i}"))
    return made


def suitable(asked: str) -> str:
    """Return a judge's grade: 5 for the best act, 1 for any other."""
    (best,) = (i for i, text in enumerate(SAID) if f"Seeker: {text}\n" in asked)
    return "[[5]]" if best == ACTS.names.index(strategy(asked)) else "[[1]]"


def states(module: Any) -> list[Transition]:
    """Return the four states, each with what all its logs say of it; short prompts learn fast."""
    encoder = module.encoder()
    merged = []
    for text in SAID:
        points = [decisions(log, ACTS)[0] for log in logs() if log.turns[0].text == text]
        judged = [one for point in points for one in encoder.reward(point)]
        ids = encoder.ids(f"{text} Answer:")
        merged.append(Transition(ids, ids[:1], tuple(judged), (True,) * len(judged), points[0]))
    return merged


def scores_of(module: Any) -> SimpleNamespace:
    """Return Acc, Q and B of the plans against the logs."""
    with torch.no_grad():
        values = module.eval()(batch_of(module, states(module)).now)
    plans = dict(zip(SAID, module.plans(values), strict=True))
    gold = [log.turns[1].strategy for log in logs()]
    counts = count_pairs(gold, [plans[log.turns[0].text].strategy for log in logs()], ACTS.names)
    found = {name: float(value) for name, value in strategy_scores(counts).items()}
    return SimpleNamespace(acc=found["accuracy"], q=found["proficiency"], b=found["bias"])


@pytest.fixture(scope="module", params=TWO)
def policies(request: pytest.FixtureRequest) -> SimpleNamespace:
    """Scores of the untrained model and of both rewards on the same logs."""
    found = {}
    for kind in ("imit", "distill"):
        module = zoo.StraQ(
            backbone={"name": request.param},
            optimizer={"lr": 5e-3, "schedule": "linear", "weight_decay": 0.0},
            labels="acts",
            reward=kind,
            alternatives=3,
        )
        module.judge = SupportJudge(ScriptedJudge(suitable), ACTS)
        module.configure_model()
        found.setdefault("direct", scores_of(module))
        quiet_trainer(max_steps=80).fit(module, repeated(batch_of(module, states(module)), 80))
        found[kind] = scores_of(module)
    return SimpleNamespace(**found)


@pytest.mark.fidelity("straq", 10)
def test_directions_of_the_paper(policies: SimpleNamespace) -> None:
    """Imit and distill far above Direct in Acc and Q and below in B; distill has the lowest B.

    On four invented states: it shows that the rewards, as optimised here, have these directions
    where supporters have habits and a judge has none. What real dialogues and models give is in
    `benchmarks/results`.
    """
    direct, imit, distill = policies.direct, policies.imit, policies.distill
    for trained in (imit, distill):
        assert trained.acc > 1.5 * direct.acc
        assert trained.q > 1.5 * direct.q
        assert trained.b < direct.b
    assert imit.acc > distill.acc
    assert distill.b < imit.b
