"""MeTHanol's thoughts: they cause answers, follow personas, and help with false beliefs."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.methanol.methanol_reference import Reference, render
from methods.methanol.methanol_tasks import choices, personas, train
from training import batch_of

from zoo.records import Triple

# -- 8: what the thought is for ----------------------------------------------------------------


@pytest.mark.fidelity("methanol", 8)
def test_another_thought_gives_another_answer(trained: SimpleNamespace) -> None:
    """Causal use: for the same Q, putting another sample's T in place changes A to match it."""
    module = trained.module
    red, sky = choices()
    swapped = module.generate([red, sky], thoughts=[sky.thought, red.thought])
    assert [reply.answer for reply in swapped] == [sky.answer, red.answer]
    own = module.generate([red, sky], thoughts=[red.thought, sky.thought])
    assert [reply.answer for reply in own] == [red.answer, sky.answer]
    # The same as probabilities: each thought makes its own answer's first token the likely one.
    reference = Reference(module)
    for thought, likely, unlikely in ((red, red, sky), (sky, sky, red)):
        sample = render(module.tokenizer, Triple("Pick.", thought.thought, "x", system="s"))
        with torch.no_grad():
            p = reference.logits(sample.ids)[1][sample.spans["A"].start - 1].softmax(-1)
        first, other = (module.tokenizer(r.answer).input_ids[0] for r in (likely, unlikely))
        assert p[first] > 10 * p[other]


@pytest.mark.fidelity("methanol", 8)
def test_a_persona_changes_the_thought(trained: SimpleNamespace) -> None:
    """The same Q under another persona prompt is thought about differently."""
    friend, boss = personas()
    replies = trained.module.generate([friend, boss])
    assert replies[0].thought != replies[1].thought
    assert [r.thought for r in replies] == [friend.thought, boss.thought]
    assert [r.answer for r in replies] == [friend.answer, boss.answer]


# -- 9: false belief ---------------------------------------------------------------------------


def accuracy(module: Any, records: Sequence[Triple]) -> dict[str, float]:
    from zoo.metrics.answers import AnswerAccuracy

    answers = [reply.answer for reply in module.generate(records)]
    kinds = [[record.kind] for record in records]
    return AnswerAccuracy()(answers, [record.answer for record in records], kinds)


def beliefs(places: Sequence[str]) -> list[Triple]:
    """Stories of three letters: first place, second place, and a dash where Ann leaves."""
    return [
        Triple(query, seen, seen, system="s", kind=kind)
        for first, second in places
        for kind, query, seen in (
            ("false_belief", f"{first}-{second}", first),
            ("true_belief", f"{first}{second}-", second),
        )
    ]


@pytest.mark.fidelity("methanol", 9)
def test_false_belief_is_answered_better_than_by_sft(make: Any) -> None:
    """On pairs of places never trained on: MeTHanol >= SFT(Q -> A) after equal training.

    The thought alone says which of the places the order of the events chooses, so that the answer
    is a copy of it; the control has to find both at once, which takes it longer than this.
    """
    places = [a + b for a in "abcdef" for b in "abcdef" if a != b]
    random.Random(0).shuffle(places)
    known, new = beliefs(places[8:]), beliefs(places[:8])
    scores = {}
    for method, options in (("MeTHanol", {}), ("SFT", {"learn_thought": False})):
        torch.manual_seed(0)
        rng = random.Random(0)
        module = make(method, "tiny-llama", max_thought_tokens=6, max_answer_tokens=3, **options)
        fresh = (batch_of(module, rng.choices(known, k=16)) for _ in range(200))
        train(module, fresh, 200, 6e-3)
        scores[method] = accuracy(module, new)
    ours, control = scores["MeTHanol"], scores["SFT"]["accuracy"]
    assert ours["accuracy"] > max(0.8, control + 0.2), scores
    # Always naming the first place is right in false belief and wrong in true belief.
    assert min(ours["accuracy_false_belief"], ours["accuracy_true_belief"]) > 0.7, scores


@pytest.mark.slow
@pytest.mark.fidelity("methanol", 9)
def test_false_belief_on_held_out_stories() -> None:
    """On held-out generated stories MeTHanol >= SFT(Q -> A); SFT(Q -> T, A) is run beside it.

    On a real backbone: SmolLM2-135M, or the one that ZOO_BACKBONE names.
    """
    import lightning

    import zoo
    from datamodules import FalseBelief
    from zoo import backbone as backbones
    from zoo.errors import InputError

    name = os.environ.get("ZOO_BACKBONE", "smollm2-135m")
    if name not in backbones.TINY:
        try:
            backbones.resolve(name)
        except InputError as error:
            pytest.skip(str(error))
    steps = int(os.environ.get("ZOO_STEPS", "200"))
    results = {}
    for label, method, options in (
        ("MeTHanol", zoo.MeTHanol, {}),
        ("SFT(Q->A)", zoo.SFT, {"learn_thought": False}),
        ("SFT(Q->T,A)", zoo.SFT, {"learn_thought": True}),
    ):
        lightning.seed_everything(0)
        module = method(
            zoo.Backbone(name),
            zoo.Optimizer(lr=5e-5),
            max_thought_tokens=48,
            max_answer_tokens=12,
            max_generated=None,
            **options,
        )
        trainer = lightning.Trainer(
            max_steps=steps,
            accelerator="auto",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            limit_val_batches=0,
            gradient_clip_val=1.0,
        )
        data = FalseBelief(num_train=8 * steps, num_val=4, num_test=100)
        trainer.fit(module, datamodule=data)
        (results[label],) = trainer.test(module, datamodule=data, verbose=False)
    for label, scores in results.items():
        print(label, {k: round(v, 3) for k, v in scores.items() if k.startswith("test/acc")})
    ours, answers = results["MeTHanol"], results["SFT(Q->A)"]
    assert ours["test/accuracy"] >= answers["test/accuracy"], results
    # Always naming the first place is right in false belief and wrong in true belief.
    assert min(ours["test/accuracy_false_belief"], ours["test/accuracy_true_belief"]) > 0.5, results
