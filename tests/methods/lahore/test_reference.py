"""LaHoRe's reference: its name on file, its pairs, the pieces in which it is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from zoo.errors import InputError
from zoo.methods.lahore import reference_logprobs
from zoo.methods.lahore.reference_logprobs import ReferenceLogProbs
from zoo.records import Corpus, Document, Ranking

POOL = Corpus({name: Document(name, f"skill {name}") for name in "abc"})
RECORDS = [Ranking(query, POOL, (("b", 1),), id=query) for query in ("one", "two words")]


def a_trainer(**options: Any) -> Any:
    """A trainer of one process that has the pairs of `RECORDS`."""

    def examples(split: str, encoder: Any) -> list[Any]:
        return [pair for record in RECORDS for pair in encoder(record)]

    known = {
        "datamodule": SimpleNamespace(examples=examples),
        "is_global_zero": True,
        "global_rank": 0,
        "world_size": 1,
        "precision": "32-true",
        "strategy": SimpleNamespace(broadcast=lambda values: values),
        "precision_plugin": SimpleNamespace(forward_context=lambda: torch.no_grad()),
    }
    return SimpleNamespace(**(known | options))


@pytest.fixture
def module(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    made = make("LaHoRe", "tiny-llama", objective="dpo", spread=4.0)
    monkeypatch.setattr(type(made), "trainer", a_trainer())
    return made


def test_the_name_holds_all_that_the_values_depend_on(module: Any, monkeypatch: Any) -> None:
    """Pairs, labels, cut, tokens, options, weights and precision; nothing else."""
    name = reference_logprobs._path
    pair, *rest = module.trainer.datamodule.examples("train", module.encoder())
    known = name(module, [pair, *rest])
    assert name(module, [replace(pair, record=None), *rest]) == known
    head, tail = pair.head, pair.tail
    others = [
        [*rest, pair],
        rest,
        [replace(pair, key="other"), *rest],
        [replace(pair, relevant=not pair.relevant), *rest],
        [replace(pair, head=(*head, tail[0]), tail=tail[1:]), *rest],  # the same tokens, cut later
        [replace(pair, head=(head[0] + 1, *head[1:])), *rest],
        [replace(pair, tail=(*tail[:-1], tail[-1] + 1)), *rest],
    ]
    names = [name(module, pairs) for pairs in others]
    monkeypatch.setattr(type(module), "trainer", a_trainer(precision="bf16-mixed"))
    names.append(name(module, [pair, *rest]))
    monkeypatch.setattr(type(module), "trainer", a_trainer())
    module.encoder().option_ids.reverse()
    names.append(name(module, [pair, *rest]))
    module.encoder().option_ids.reverse()
    with torch.no_grad():
        module.lm.lm_head.weight[0, 0] += 1
    names.append(name(module, [pair, *rest]))
    assert len({known, *names}) == 1 + len(others) + 3


@pytest.mark.parametrize("budget", [1, 10**6])
def test_values_are_those_of_the_pairs_in_any_pieces(
    module: Any, monkeypatch: Any, budget: int
) -> None:
    """Computed once, with as many passes as the budget asks for, and read from the file then."""
    monkeypatch.setattr(reference_logprobs, "BUDGET", budget)
    pairs = module.trainer.datamodule.examples("train", module.encoder())
    batch = module.encoder().collate(pairs, {})
    with torch.no_grad():
        wanted = torch.stack(module.log_probs(batch), 1)
    passes: list[int] = []
    run = module.log_probs
    module.log_probs = lambda part: passes.append(len(part.keys)) or run(part)
    for again in (False, True):
        found = ReferenceLogProbs()
        found.prepare(module)
        for i, column in enumerate(found.of([pair.key for pair in pairs], module.device)):
            torch.testing.assert_close(column, wanted[:, i], rtol=1e-4, atol=1e-4)
        assert passes == ([1] * 6 if budget == 1 else [6]), again


def test_a_bar_shows_how_far_it_is(
    module: Any, monkeypatch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """On one process: its own pairs."""
    ReferenceLogProbs().prepare(module)
    shown = capfd.readouterr().err
    assert "reference: 100%" in shown
    assert "6/6" in shown
    pairs = module.trainer.datamodule.examples("train", module.encoder())
    monkeypatch.setattr(type(module), "trainer", a_trainer(is_global_zero=False))
    reference_logprobs._compute(module, pairs)
    assert "reference" not in capfd.readouterr().err


def test_values_of_other_processes_are_gathered(module: Any, monkeypatch: Any) -> None:
    """Each runs its own pieces; while others have more, its last one along, which counts once."""
    monkeypatch.setattr(reference_logprobs, "BUDGET", 1)
    pairs = module.trainer.datamodule.examples("train", module.encoder())
    whole = reference_logprobs._compute(module, pairs)
    parts: list[Any] = []
    monkeypatch.setattr(
        reference_logprobs.parallel, "gathered", lambda part: parts.append(part) or parts
    )
    run, passes = module.log_probs, list[str]()
    module.log_probs = lambda part: passes.append(part.keys[0]) or run(part)
    for rank in range(8):  # two of eight have none of the six pieces: they run the first one
        monkeypatch.setattr(type(module), "trainer", a_trainer(global_rank=rank, world_size=8))
        turns = iter([False, True])  # another process has two pieces
        monkeypatch.setattr(
            type(module), "everyone_done", lambda _, done, turns=turns: done and next(turns)
        )
        table = reference_logprobs._compute(module, pairs)
    keys = [pair.key for pair in pairs]
    assert passes == [key for key in [*keys, keys[0], keys[0]] for _ in range(2)]
    assert [len(part) for part in parts] == [1] * 8
    torch.testing.assert_close(table, whole, rtol=1e-4, atol=1e-4)


def test_what_has_no_reference_is_refused(module: Any, monkeypatch: Any) -> None:
    reference = ReferenceLogProbs()
    monkeypatch.setattr(type(module), "trainer", a_trainer(datamodule=None))
    with pytest.raises(InputError, match=r"model\.objective: dpo needs a data module"):
        reference.prepare(module)
    twice = SimpleNamespace(examples=lambda split, encoder: encoder(RECORDS[0]) * 2)
    monkeypatch.setattr(type(module), "trainer", a_trainer(datamodule=twice))
    with pytest.raises(InputError, match="two training records have the same id"):
        reference.prepare(module)
    monkeypatch.setattr(type(module), "trainer", a_trainer())
    reference.prepare(module)
    kept = reference.state()
    resumed = ReferenceLogProbs()
    resumed.restored = kept
    module.log_probs = None  # nothing is computed
    resumed.prepare(module)
    assert torch.equal(resumed.values, reference.values)
    resumed.restored = kept | {"names": "of other pairs"}
    with pytest.raises(InputError, match="made with other training pairs"):
        resumed.prepare(module)
