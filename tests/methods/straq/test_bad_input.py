"""Dialogues, letters and settings that do not fit straQ*."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from methods.straq.straq_rated_talk import encoder, talk

import zoo
from zoo.errors import InputError
from zoo.methods.straq.encoder import TransitionEncoder
from zoo.methods.straq.rewards import Imitated
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.labels import SUPPORT
from zoo.tiny_models import byte_tokenizer


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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gamma": -0.1}, r"model.gamma: -0.1 is not in 0\.\.1"),
        ({"alternatives": -1}, r"model.alternatives: -1 is not in 0\.\.7"),
        ({"labels": "acts", "alternatives": 4}, r"model.alternatives: 4 is not in 0\.\.3"),
        ({"objective": "cross_entropy", "reward": "distill"}, "model.reward: distill needs"),
    ],
)
def test_settings_that_do_not_fit(make: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make("StraQ", "tiny-llama", **options)


def test_settings_at_their_ends_fit(make: Any) -> None:
    make("StraQ", "tiny-llama", gamma=0.0, alternatives=7)
    graded = {"reward": "distill", "grades": "grades.jsonl"}
    make("StraQ", "tiny-llama", labels="acts", alternatives=3, **graded)
