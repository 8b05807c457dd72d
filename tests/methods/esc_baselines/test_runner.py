"""What a recipe's run keeps: calls, steps, scores of the annotated reply, what is retrieved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from dialogues import TALK

from zoo.decoding.shared_context import SharedContext
from zoo.errors import InputError
from zoo.methods.esc_baselines.recipes import RECIPES, SYSTEM
from zoo.methods.esc_baselines.runner import RecipeState, as_reply
from zoo.records import SEEKER, SUPPORTER, Turn
from zoo.support.decisions import decisions
from zoo.support.labels import SUPPORT

WIDE = {"max_length": 8192, "reserve": 3000, "max_new_tokens": 4}


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the model say these words, one for each call; every row hears the same."""

    def words(*said: str) -> None:
        left = list(said)
        monkeypatch.setattr(
            SharedContext, "ask", lambda context, questions, **_: [left.pop(0)] * len(questions)
        )

    return words


def test_a_reply_that_was_not_scored_adds_nothing_to_the_perplexity() -> None:
    one = as_reply(RecipeState({}), 2)
    assert (one.nll, one.tokens, one.calls, one.reply) == (0.0, 0, 2, "")


def test_places_are_filled_by_the_latest_answer() -> None:
    state = RecipeState({"names": "a, b", "plan": "old"})
    state.answers["plan"] = "new {names}"
    assert state.fill("{plan}: {names} {point}", point="p") == "new {names}: a, b p"


def test_steps_are_what_has_no_place_of_its_own(make: Any, say: Any) -> None:
    module = make("ESCBaseline", "tiny-llama", kind="fsm", **WIDE)
    say("sadness", "Question", "When?")
    (one,) = module.respond(decisions(TALK)[:1])
    assert (one.emotion, one.strategy, one.reply, one.steps) == ("sadness", "Question", "When?", ())
    module = make("ESCBaseline", "tiny-llama", kind="plan_and_solve", **WIDE)
    say("Hear.", "[Others] Oh.")
    (one,) = module.respond(decisions(TALK)[:1])
    assert one.steps == (("plan", "Hear."),)
    assert (one.words, one.calls, one.emotion) == ("[Others] Oh.", 2, "")


def test_a_vote_for_what_is_not_there_is_for_the_last(make: Any, say: Any) -> None:
    module = make("ESCBaseline", "tiny-llama", kind="tot", **WIDE)
    say("1. Ask\n2. Wait", "3", "By words", "2", "[Others] There.")
    (one,) = module.respond(decisions(TALK)[:1])
    steps = dict(one.steps)
    assert (steps["thought"], steps["intent"]) == ("Wait", "By words")
    assert steps["thoughts"] == "1. Ask\n2. Wait"


@pytest.mark.parametrize(
    ("kind", "said", "strategy", "failed"),
    [
        ("self_refine", ("[Question] When?", "x", "When was it?"), "Question", ()),
        ("self_refine", ("[Question] When?", "x", "[Others] Hm."), "Others", ()),
        ("self_refine", ("When?", "x", "Hm."), SUPPORT.fallback, ("strategy",)),
        ("sot", ("1. Ask", "Question", "[Others] Hm."), "Question", ()),  # of a call of its own
        ("direct", ("",), SUPPORT.fallback, ("reply", "strategy")),
    ],
)
def test_whose_strategy_a_reply_has(
    make: Any, say: Any, kind: str, said: tuple[str, ...], strategy: str, failed: tuple[str, ...]
) -> None:
    """Its own, else that of its draft, else the one to fall back on, which is counted."""
    module = make("ESCBaseline", "tiny-llama", kind=kind, **WIDE)
    say(*said, "", "")
    (one,) = module.respond(decisions(TALK)[:1])
    assert (one.strategy, one.failed) == (strategy, failed)


def test_the_annotated_reply_is_scored_where_the_model_replied(make: Any, say: Any) -> None:
    """Behind the model's own strategy, as every method does it; empty ones count nothing."""
    module = make("ESCBaseline", "tiny-llama", spread=4.0, **WIDE)
    say("[Others] Oh.")
    state = decisions(TALK)[0]
    (one,) = module.respond([state])
    encoder = module.encoder()
    told = encoder.head(state) + "".join(encoder.lines(state))
    told += encoder.question(RECIPES["direct"][0].task.format(**module.filled), "Supporter:")
    ids, reply = encoder.ids(told + " [Others]"), encoder.ids(f" {state.target.text}")
    with torch.no_grad():
        logits = module.lm(torch.tensor([[*ids, *reply]])).logits[0, len(ids) - 1 : -1]
    nll = torch.nn.functional.cross_entropy(logits, torch.tensor(reply), reduction="sum")
    assert (one.nll, one.tokens) == (pytest.approx(nll.item(), rel=1e-3), len(reply))
    say("[Others] Oh.")
    (open_,) = module.respond([replace(state, target=Turn(SUPPORTER, ""))])
    assert (open_.nll, open_.tokens) == (0.0, 0)


def test_what_is_retrieved_is_nearest_by_the_mean_of_its_states(make: Any) -> None:
    """The nearest first; every text is read alone, from its first position."""
    module = make("ESCBaseline", "tiny-qwen2", kind="rag", spread=3.0, **WIDE)
    described = [f"{name}: {told}" for name, told in SUPPORT.definitions.items()]
    asked = "I lost my job."

    def mean(text: str) -> torch.Tensor:
        ids = torch.tensor([module.encoder().ids(text)])
        states = module.lm.model(ids).last_hidden_state[0]
        return torch.nn.functional.normalize(states.mean(0), dim=0)

    with torch.no_grad():
        likeness = torch.stack([mean(text) for text in described]) @ mean(asked)
        wanted = [f"- {described[i]}" for i in likeness.argsort(descending=True).tolist()]
        state = decisions(TALK)[0]
        assert state.query == asked
        found = module.retrieve([state, replace(state, turns=(Turn(SEEKER, "x" * 99),))])
        assert found[0].split("\n") == wanted[:3]
        module.top_k = 8
        for text in described:  # where the supporter spoke last, by what it said
            goes_on = replace(state, turns=(Turn(SEEKER, "Hm."), Turn(SUPPORTER, text)))
            found = module.retrieve([state, goes_on])
            assert found[0].split("\n") == wanted
            assert found[1].startswith(f"- {text}\n")


def test_what_is_retrieved_stands_in_the_task(make: Any, monkeypatch: Any) -> None:
    module = make("ESCBaseline", "tiny-llama", kind="rag", **WIDE)
    monkeypatch.setattr(type(module), "retrieve", lambda self, states: ["- red", "- blue"])
    asked: list[str] = []

    def ask(context: SharedContext, questions: Any, **_: Any) -> list[str]:
        asked.extend(questions)
        return ["[Others] Oh."] * len(questions)

    monkeypatch.setattr(SharedContext, "ask", ask)
    found = module.respond(decisions(TALK))
    for text, colour, one in zip(asked, ("red", "blue"), found, strict=True):
        assert f"Strategies that may fit:\n- {colour}\n" in text
        assert (one.calls, dict(one.steps)) == (1, {"found": f"- {colour}"})


def test_the_prompt_opens_with_the_common_role_and_lists(make: Any) -> None:
    module = make("ESCBaseline", "tiny-llama", kind="fsm", emotions="daily_dialog", **WIDE)
    assert module.encoder().head(decisions(TALK)[0]).startswith(f"<|im_start|>system\n{SYSTEM}<")
    assert module.filled["emotions"] == ", ".join(module.emotions.names)
    assert "happiness" in module.filled["emotions"]
    assert module.filled["defined"].split("\n") == [
        f"- {name}: {told}" for name, told in SUPPORT.definitions.items()
    ]


def test_settings_that_do_not_fit(make: Any) -> None:
    for options, said in (
        ({"top_k": 0}, r"model.top_k: 0 is not in 1\.\.8"),
        ({"reserve": 64, "max_length": 64}, "model.reserve: 64 leaves nothing of the window"),
        (
            {"reserve": 96, "kind": "cot", "max_new_tokens": 64},
            "model.reserve: 96 has no room for a task and an answer of 96",
        ),
    ):
        with pytest.raises(InputError, match=said):
            make("ESCBaseline", "tiny-llama", **options)
    make("ESCBaseline", "tiny-llama", top_k=8, reserve=64, max_length=65, max_new_tokens=63)
    make("ESCBaseline", "tiny-llama", top_k=1)
