"""A small world for LaMsS: facts told 0, 1, 4 or 16 times, a model that has read them, questions.

A fact is one word (`e17`) with one of eight values. The model is pre-trained on facts as often as
they are told, in the form in which they are asked, so that what it knows is known to the test.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import zoo
from zoo.encoding import NO_HEAD, collate, join, sum_head_weights
from zoo.records import Triple

TIMES = (0, 1, 4, 16)
VALUES = "bcdfghkm"
UNREAL = 80
LEVELS = [259, 260, 261, 262, 263]  # of a byte tokenizer
BATCH = 64
GRADED = ("certain", "sure", "likely", "possible", "uncertain", "doubtful")
WORDS = ("?", "user", "system", "assistant", *GRADED)


@dataclass
class World:
    """What there is to know, and a folder with a model that knows some of it."""

    folder: Path
    facts: list[Triple]
    train: list[Triple] = field(default_factory=list)
    test: list[Triple] = field(default_factory=list)


def word_tokenizer(names: Sequence[str]) -> Any:
    """Return a tokenizer of whole words."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from zoo.methods.lamss.encoder import INSTRUCTION
    from zoo.tiny_models import CHAT_TOKENS

    words = ["[unk]", *WORDS, *INSTRUCTION.removesuffix("?").split(), *VALUES, *names]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[unk]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens([AddedToken(token, normalized=False) for token in CHAT_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )


def make(folder: Path, shape: str, num_facts: int, steps: int) -> World:
    """Pre-train a model on the world's facts and save it."""
    from transformers import AutoModelForCausalLM

    from zoo.tiny_models import tiny_config

    rng = random.Random(0)
    names = [f"e{i}" for i in range(num_facts + UNREAL)]
    facts = [
        Triple(
            name,
            "",
            rng.choice(VALUES),
            system="?",
            kind=f"seen_{TIMES[i % 4]}" if i < num_facts else "unreal",
            id=name,
        )
        for i, name in enumerate(names)
    ]
    tokenizer = word_tokenizer(names)
    config = tiny_config(shape)
    config.update({"vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128})
    config.head_dim = 16
    lm = AutoModelForCausalLM.from_config(config)
    read(lm, tokenizer, facts[:num_facts], steps)
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    told = list(enumerate(facts[:num_facts]))
    return World(
        folder,
        facts,
        train=[fact for i, fact in told if i // 4 % 3],
        test=[fact for i, fact in told if i // 4 % 3 == 0] + facts[num_facts:],
    )


def read(lm: Any, tokenizer: Any, facts: Sequence[Triple], steps: int) -> None:
    """Learn facts by heart, each as often as its kind says."""
    from zoo.methods.lamss.questions import opening
    from zoo.prompts.chat_format import CHATML

    rng = random.Random(0)
    header = tokenizer(CHATML.open("assistant"))["input_ids"]
    rows = []
    for fact in facts:
        prompt = [i for s in opening(CHATML, fact) for i in tokenizer(s.text)["input_ids"]] + header
        answer = tokenizer(fact.answer + CHATML.end)["input_ids"]
        rows.append(join([(prompt, NO_HEAD, 0.0), (answer, 0, 1.0)]))
    times = [int(fact.kind.removeprefix("seen_")) for fact in facts]
    optimizer = torch.optim.AdamW(lm.parameters(), lr=4e-3, weight_decay=0.0, betas=(0.9, 0.98))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 4e-3 * min(1, (step + 1) / 20, 2 * (1 - step / steps))
        batch = collate(rng.choices(rows, times, k=BATCH), packed=False)
        logits = lm(batch.input_ids, attention_mask=batch.attention_mask).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten())
        descend(lm, optimizer, loss)


def fine_tune(module: Any, records: Sequence[Triple], steps: int) -> Any:
    """Train a method on questions with its own training step; return it in evaluation mode."""
    rng = random.Random(0)
    encoder = module.encoder()
    if hasattr(encoder, "study"):
        encoder.study(records, "train")
    module.configure_model()
    module.log = lambda *args, **kwargs: None
    examples = [example for record in records for example in encoder(record)]
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, betas=(0.9, 0.98))
    module.train()
    order: list[Any] = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 10, 2 * (1 - step / steps))
        if len(order) < BATCH:
            order += rng.sample(examples, len(examples))
        part, order = order[:BATCH], order[BATCH:]
        batch = encoder.collate(part, sum_head_weights(part))
        descend(module, optimizer, module.training_step(batch, 0))
    return module.eval()


def descend(model: Any, optimizer: Any, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def mean_by_kind(records: Sequence[Triple], values: Sequence[float]) -> dict[str, float]:
    """Return the mean value of each kind of question."""
    kinds: dict[str, list[float]] = {}
    for record, value in zip(records, values, strict=True):
        kinds.setdefault(record.kind, []).append(float(value))
    return {kind: sum(found) / len(found) for kind, found in kinds.items()}


def with_levels(folder: Path, interleave: bool, **form: bool) -> str:
    """Save a tiny model whose vocabulary has levels, as a stage of LaMsS exports it."""
    module = zoo.LaMsS(zoo.Backbone(name="tiny-llama"), interleave=interleave, **form)
    module.configure_model()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.lm.model.layers.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
        module.lm.lm_head.weight[LEVELS] *= 20  # levels get much of the probability
    module.lm.save_pretrained(folder)
    module.tokenizer.save_pretrained(folder)
    return str(folder)
