"""Processes with different work take the same steps, as collectives of sharded blocks need them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Queue
from typing import Any

import pytest
from dialogues import TALK

from zoo.decoding import prefix_cache
from zoo.methods.fisminess import encoder, walk
from zoo.methods.rabtriever import frozen_states
from zoo.module import ZooModule
from zoo.ranking import pair_scoring
from zoo.records import Corpus, Document, Ranking, Triple
from zoo.support.decisions import decisions

FIRST, SECOND = decisions(TALK)
POOL = Corpus({name: Document(name, f"skill {name}") for name in "abc"})


class Together:
    """Runs one call in each of two threads, which agree as processes do.

    Attributes:
        steps: For each, its passes through the first block and what it agreed on, in order.
    """

    def __init__(self, modules: list[Any]) -> None:
        self.modules, self.steps = modules, [list[str]() for _ in modules]
        self.heard = [Queue[bool | None]() for _ in modules]  # None: the other one has ended
        for rank, module in enumerate(modules):
            module.__dict__["agree"] = self.agree(rank)
            module.lm.model.layers[0].register_forward_hook(
                lambda *_, rank=rank: self.steps[rank].append("pass")
            )

    def agree(self, rank: int) -> Callable[[bool], bool]:
        """Return what says whether all are done."""

        def everyone_done(mine: bool) -> bool:
            self.heard[1 - rank].put(bool(mine))
            theirs = self.heard[rank].get(timeout=20)
            assert theirs is not None, "the other process has ended"
            self.steps[rank].append(f"done: {bool(mine) and theirs}")
            return bool(mine) and theirs

        return everyone_done

    def run(self, call: Callable[[Any, Any], Any], work: list[Any]) -> list[Any]:
        """Return what each call gives; fail if one has another number of steps."""
        found: list[Any] = [None] * len(work)

        def one(rank: int) -> None:
            try:
                found[rank] = call(self.modules[rank], work[rank])
            except BaseException as error:
                found[rank] = error
            finally:
                self.heard[1 - rank].put(None)

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(len(work))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


def ranking(count: int, query: str) -> Ranking:
    return Ranking(query, POOL, (("a", 1),), tuple("abc")[:count], id=query)


RESPOND = ([FIRST], [SECOND])
RANK = ([ranking(1, "one")], [ranking(3, "two"), ranking(2, "three words here"), ranking(1, "x")])
ANSWER = ([Triple("a", "b", "c")], [Triple("a long question", "b", "c"), Triple("d", "e", "f")])
WALK = {"max_length": 8192, "max_new_tokens": 2}
TALKING = {"max_length": 8192, "reserve": 3000, "max_new_tokens": 2}
THINK = {"learn_thought": True, "max_thought_tokens": 2, "max_answer_tokens": 2}


@pytest.mark.parametrize(
    ("method", "options", "verb", "work"),
    [
        ("FiSMiness", {"closed": "likelihood", **WALK}, "respond", RESPOND),
        ("FiSMiness", {"closed": "free", "oracle_history": True, **WALK}, "respond", RESPOND),
        ("FiSMiness", {"mode": "single_pass", **WALK}, "respond", RESPOND),
        ("ESCBaseline", {"kind": "sot", **TALKING}, "respond", RESPOND),
        ("LaHoRe", {}, "scores", RANK),
        ("Rabtriever", {}, "scores", RANK),
        ("SFT", THINK, "generate", ANSWER),
    ],
)
def test_two_processes_take_the_same_steps(
    make: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    options: dict[str, Any],
    verb: str,
    work: tuple[list[Any], list[Any]],
) -> None:
    """And each gives what it gives alone."""
    for room in (encoder, walk):
        monkeypatch.setattr(room, "LABEL_TOKENS", 2)
    modules = [make(method, "tiny-llama", spread=8.0, **options) for _ in work]
    modules[1].load_state_dict(modules[0].state_dict())
    wanted = [getattr(modules[0], verb)(one) for one in work]
    if method == "FiSMiness":
        modules[0].known = {}
    if method == "Rabtriever":
        modules[0].forget()
    for room in (prefix_cache, frozen_states, pair_scoring):  # so that some have more pieces
        monkeypatch.setattr(room, "BUDGET", 32, raising=False)
    monkeypatch.setattr(ZooModule, "everyone_done", property(lambda self: self.__dict__["agree"]))
    together = Together(modules)
    found = together.run(lambda module, records: getattr(module, verb)(records), list(work))
    errors = [one for one in found if isinstance(one, BaseException)]
    assert not errors, errors
    assert together.steps[0] == together.steps[1]
    assert "pass" in together.steps[0]
    if verb == "scores":
        for rows, others in zip(found, wanted, strict=True):
            for row, other in zip(rows, others, strict=True):
                assert row == pytest.approx(other, abs=1e-4)
    elif verb == "generate":
        assert found == wanted
    else:
        for rows, others in zip(found, wanted, strict=True):
            assert [(r.emotion, r.strategy, r.reply) for r in rows] == [
                (r.emotion, r.strategy, r.reply) for r in others
            ]
