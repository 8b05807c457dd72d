"""The world of the naming trial: a user, dialogues with him, a vocabulary, a tiny base model.

A seeker feels one of four things and hints at it in every turn; he says first whether the reply
before named the feeling. Such a reply is worth 1. The supporters of the dialogues name the right
feeling in `RIGHT` of their replies and the opposite one in most others, so that neither imitation
nor its likeliest reply is enough.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import zoo
from benchmarks.dreamcub.small_base import learn_language
from zoo.methods.dreamcub.encoder import State
from zoo.methods.dreamcub.environment import Answer, opened
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import Decision, decisions
from zoo.support.labels import SUPPORT
from zoo.tiny_models import CHAT_TOKENS

FEELINGS = ("anger", "anxiety", "sadness", "shame")
VERB_OF = dict(zip(FEELINGS, ("fight", "shake", "cry", "blush"), strict=True))
THINGS = ("work", "home", "school", "money", "night", "family")
RIGHT, OPPOSITE = 0.3, 0.5  # shares of the supporters' replies
TURNS = 2  # of a dialogue of the data
WIDTH, BLOCKS, VOCABULARY = 64, 2, 600
LETTERS = "ABCDEFGHIJK"
WINDOW: dict[str, Any] = {
    **{"dataset": "esconv", "factors": ["emotion"], "strategy_line": False},
    **{"max_length": 1024, "reserve": 32, "max_new_tokens": 8, "max_generated": 0},
}


def opposite(feeling: str) -> str:
    """Return the feeling that it is mostly taken for."""
    return FEELINGS[(FEELINGS.index(feeling) + len(FEELINGS) // 2) % len(FEELINGS)]


def feeling_in(hint: str) -> str:
    """Return the feeling that a seeker's words are a hint of; empty if of none."""
    return next((name for name, verb in VERB_OF.items() if verb in hint), "")


def reward_of(feeling: str, reply: str) -> float:
    """Return 1 if a reply names this feeling and no other, else 0."""
    return float([name for name in FEELINGS if name in reply.lower()] == [feeling])


class NamingEnv:
    """The seeker; what he feels follows from his hints, and nothing else is kept."""

    def hint(self, feeling: str, name: str, turn: int) -> str:
        """Return what a seeker of this feeling says in a turn of a dialogue."""
        thing = THINGS[random.Random(f"{name}-{turn}").randrange(len(THINGS))]
        return f"I {VERB_OF[feeling]}, {thing}."

    def open(self, number: int) -> Decision:
        """Return a dialogue in which a first hint was given."""
        name = f"naming:{number}"
        feeling = random.Random(name).choice(FEELINGS)
        return opened([Turn(SEEKER, self.hint(feeling, name, 0))], name)

    def answer(self, decision: Decision, reply: Turn) -> Answer:
        """Return yes or no with the next hint, and the reward."""
        feeling = feeling_in(decision.turns[0].text)
        reward = reward_of(feeling, reply.text)
        hint = self.hint(feeling, decision.dialogue, len(decision.turns))
        return Answer(f"{'Yes' if reward else 'No'}. {hint}", reward)


def dialogues(count: int, seed: int) -> list[Dialogue]:
    """Return dialogues of the seeker with supporters who are sometimes right."""
    env, draw, found = NamingEnv(), random.Random(seed), []
    for number in range(count):
        name, feeling = f"data:{seed}:{number}", draw.choice(FEELINGS)
        decision, turns = None, list[Turn]()
        hint = env.hint(feeling, name, 0)
        for _ in range(TURNS):
            turns.append(Turn(SEEKER, hint, emotion=feeling))
            decision = opened(turns, name)
            turns.append(Turn(SUPPORTER, f"{supposed(feeling, draw)}?"))
            hint = env.answer(decision, turns[-1]).utterance or ""
        found.append(Dialogue(tuple(turns), id=name))
    return found


def supposed(feeling: str, draw: random.Random) -> str:
    """Return what a supporter of the data takes a feeling for."""
    chance = draw.random()
    if chance < RIGHT:
        return feeling
    return opposite(feeling) if chance < RIGHT + OPPOSITE else draw.choice(FEELINGS)


def untrained(folder: Path, seed: int) -> str:
    """Write a random model and a tokenizer of the words that are said here."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator(
        texts(seed),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, initial_alphabet=alphabet, min_frequency=1, show_progress=False
        ),
    )
    core.add_special_tokens([AddedToken(token, normalized=False) for token in CHAT_TOKENS])
    first, _, last = CHAT_TOKENS
    names = {"bos_token": first, "eos_token": last, "pad_token": first}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **names)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=BLOCKS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        **{f"{name}_id": getattr(tokenizer, f"{name}_id") for name in names},
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def texts(seed: int) -> list[str]:
    """Return what the components are asked and say, as text of the byte tokenizer."""
    encoder = zoo.DreamCUB(zoo.Backbone("tiny-llama"), **WINDOW).encoder()
    found = []
    for decision in states_of(dialogues(16, seed)):
        state = encoder.state(decision)
        for prompt in (encoder.posterior, encoder.prior, encoder.observation, encoder.reply):
            found.append(encoder.tokenizer.decode(prompt(state), skip_special_tokens=True))
    said = "".join(f" {word}" for word in (*FEELINGS, *THINGS, *VERB_OF.values(), *LETTERS))
    return [*found, *(f"emotion={name}" for name in FEELINGS), f"emotion: A{said} Yes. No."]


def states_of(talks: Sequence[Dialogue]) -> list[Decision]:
    """Return the decisions of dialogues."""
    return [d for talk in talks for d in decisions(talk, SUPPORT, need_strategies=False)]


def trained_base(folder: Path, seed: int, steps: int, batch_size: int = 16) -> str:
    """Write a model that knows how these people talk; no belief is ever told to it.

    It learns all tokens of replies and utterances in their prompts, and of lists of words that are
    said twice, from which it learns to look back, with all of its weights.
    """
    path = untrained(folder, seed)
    encoder = zoo.DreamCUB(zoo.Backbone(path), **WINDOW).encoder()
    rows = []
    for decision in states_of(dialogues(512, seed)):
        state = State(decision)
        rows.append(encoder.reply(state) + encoder.said(decision.target.text))
        rows.append(encoder.observation(state) + encoder.said(decision.query))
    draw = random.Random(seed)
    words = [f" {word}" for word in (*FEELINGS, *THINGS, *VERB_OF.values())]
    for _ in range(len(rows) // 2):
        said = "".join(draw.choices(words, k=draw.randint(4, 20)))
        rows.append(encoder.ids(said + said))
    learn_language(path, rows, steps, batch_size, draw)
    return path
