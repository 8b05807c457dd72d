"""straQ*'s planners compared: another responder, ablations, direct prompting."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.straq.straq_dialogue import DIALOGUE, TWO, batch_of, repeated
from methods.straq.straq_reference import NAMES, Reference, prompt
from support_judges import strategy
from training import quiet_trainer

import zoo
from datamodules import ESConv
from zoo.judges.judge import ScriptedJudge
from zoo.methods.straq.encoder import Transition
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import decisions
from zoo.support.judging import SupportJudge
from zoo.support.labels import ACTS
from zoo.support.strategy_metrics import count_pairs, strategy_scores

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
