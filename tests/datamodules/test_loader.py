"""The step loader: order, resuming, and normalisers that make accumulation and ranks exact."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from training import Data, Watched, quiet_trainer, watched

import zoo
from datamodules.loader import StepLoader
from zoo.encoding import NO_HEAD, Example, collate
from zoo.errors import InputError


def example(index: int, length: int) -> Example:
    """One sequence whose tokens are its index; half of it learned by head 0, half by head 1."""
    heads = [i % 2 for i in range(length - 1)] + [NO_HEAD]
    weights = [1.0 + index % 3] * (length - 1) + [0.0]
    return Example([index] * length, [index] * (length - 1) + [-100], heads, weights)


EXAMPLES = [example(i, 3 + (7 * i) % 11) for i in range(23)]


def loader(**options: Any) -> StepLoader:
    return StepLoader(EXAMPLES, collate, **{"batch_size": 2, "shuffle": True, **options})


def contents(batches: Any) -> list[list[int]]:
    """Return the indices of the examples in each batch."""
    return [batch.input_ids[0, batch.offsets[:-1].long()].tolist() for batch in batches]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first, again = loader(seed=1), loader(seed=1)
    torch.manual_seed(5)
    epochs = [contents(first), contents(first)]
    torch.manual_seed(6)
    assert [contents(again), contents(again)] == epochs
    assert epochs[0] != epochs[1]
    assert contents(loader(seed=2)) != epochs[0]
    for epoch in epochs:
        assert sorted(sum(epoch, [])) == list(range(23))
    assert contents(loader(shuffle=False)) == [[*range(i, min(i + 2, 23))] for i in range(0, 23, 2)]


def test_length_and_token_limit() -> None:
    assert len(loader()) == 12
    limited = loader(batch_size=8, max_tokens=20)
    batches = list(limited)
    assert all(batch.num_tokens <= 20 or len(batch.lengths) == 1 for batch in batches)
    assert max(len(batch.lengths) for batch in batches) > 1
    assert sorted(sum(contents(batches), [])) == list(range(23))
    # Closed no earlier than needed: the next example would not have fitted.
    for batch, following in zip(batches, batches[1:], strict=False):
        assert batch.num_tokens + following.lengths[0] > 20


@pytest.mark.parametrize("stop", [1, 5, 11, 12, 17])
@pytest.mark.parametrize("max_tokens", [None, 40])
@pytest.mark.parametrize("group_by_length", [False, True])
def test_resuming_continues_the_uninterrupted_order(
    stop: int, max_tokens: int | None, group_by_length: bool
) -> None:
    given: Any = {"seed": 3, "max_tokens": max_tokens, "group_by_length": group_by_length}
    whole, seen = loader(**given), []
    for _ in range(3):
        seen += contents(whole)
    before = loader(**given)
    taken: list[Any] = []
    while len(taken) < stop:
        for batch in before:
            taken.append(batch)
            if len(taken) == stop:
                break
    state = before.state_dict()
    after = loader(**given)
    after.load_state_dict(state)
    rest: list[Any] = []
    while len(rest) < len(seen) - stop:
        rest += list(after)
    assert contents(taken) + contents(rest) == seen


def test_the_state_is_plain_and_after_an_epoch_points_to_the_next() -> None:
    one = loader()
    list(one)
    assert one.state_dict() == {"epoch": 1, "position": 0}


@pytest.mark.parametrize(("accumulate", "world"), [(1, 1), (4, 1), (1, 2), (3, 2), (5, 3)])
def test_normalizers_give_the_mean_over_the_step(accumulate: int, world: int) -> None:
    """Lightning averages over accumulation and ranks; times the normaliser that is the step's mean.

    For every optimiser step and head: sum over micro-batches and ranks of sum/normaliser, divided
    by accumulation x ranks, has to be (sum over the step) / (weight over the step).
    """
    ranks = [list(loader(accumulate=accumulate, rank=r, world_size=world)) for r in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    seen: Counter[int] = Counter()
    for start in range(0, len(ranks[0]), accumulate):
        window = [b for batches in ranks for b in batches[start : start + accumulate]]
        for head in (0, 1):
            mean = total = weight = 0.0
            for batch in window:
                own = (batch.head_ids == head).float() * batch.weights
                value = (own * (1 + batch.input_ids)).sum().item()  # a made-up loss per token
                mean += value / batch.normalizers[head] / (accumulate * world)
                if batch.normalizers[head] != float("inf"):
                    total += value
                    weight += own.sum().item()
            # Lightning divides a last, shorter step by `accumulate` all the same; so do we here.
            assert mean == pytest.approx(total / weight)
        for batch in window:
            if batch.normalizers[0] != float("inf"):
                seen.update(contents([batch])[0])
    assert seen == Counter(range(23))  # every example counts once on exactly one rank


def test_the_filler_of_a_smaller_rank_counts_nothing() -> None:
    ranks = [list(loader(batch_size=5, rank=r, world_size=2, shuffle=False)) for r in (0, 1)]
    assert [len(batches) for batches in ranks] == [3, 3]  # 5 micro-batches
    filler = ranks[1][-1]
    assert set(filler.normalizers.values()) == {float("inf")}
    assert filler.num_tokens > 0  # something to run, so that collectives match
    assert not any(float("inf") in b.normalizers.values() for b in [*ranks[0], *ranks[1][:-1]])


def test_workers_yield_the_same_batches() -> None:
    assert contents(loader(num_workers=1)) == contents(loader())


# -- groups ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grouped:
    """An example that must not meet another of its group."""

    index: int
    group: str | None
    length: int = 1

    def __len__(self) -> int:
        return self.length

    def head_weights(self) -> dict[int, float]:
        return {0: 1.0}


def grouped(groups: list[str | None], **options: Any) -> StepLoader:
    examples = [Grouped(i, group, 1 + i % 5) for i, group in enumerate(groups)]
    given = {"batch_size": 4, "shuffle": True, **options}
    return StepLoader(examples, lambda some, normalizers: (list(some), normalizers), **given)


def batches_of(loader: StepLoader) -> list[list[Grouped]]:
    return [examples for examples, _ in loader]


UNEVEN = ["a"] * 9 + ["b"] * 3 + ["c", "d", "e"]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 15])
@pytest.mark.parametrize("max_tokens", [None, 7])
def test_examples_of_a_group_never_share_a_batch(batch_size: int, max_tokens: int | None) -> None:
    """And every example is there once, also those of a group that is most of the data."""
    some = grouped(UNEVEN, batch_size=batch_size, max_tokens=max_tokens)
    for _ in range(3):
        found = batches_of(some)
        for batch in found:
            groups = [example.group for example in batch]
            assert len(set(groups)) == len(groups) <= batch_size
            assert max_tokens is None or sum(map(len, batch)) <= max_tokens
        assert sorted(e.index for batch in found for e in batch) == list(range(len(UNEVEN)))


def test_full_batches_where_the_groups_allow_them() -> None:
    """Ten of each of ten groups, batches of ten: few batches are cut short."""
    sizes = [len(batch) for batch in batches_of(grouped(list("abcdefghij") * 10, batch_size=10))]
    assert sum(sizes) == 100
    assert len(sizes) <= 16


def test_examples_without_a_group_share_batches() -> None:
    found = batches_of(grouped([None] * 8))
    assert [len(batch) for batch in found] == [4, 4]


def test_groups_do_not_matter_where_nothing_is_shuffled() -> None:
    """Evaluation goes through the data in order."""
    found = batches_of(grouped(UNEVEN, shuffle=False))
    assert [e.index for batch in found for e in batch] == list(range(len(UNEVEN)))
    assert [len(batch) for batch in found] == [4, 4, 4, 3]


@pytest.mark.parametrize("stop", [1, 5, 12])
def test_resuming_with_groups(stop: int) -> None:
    whole = grouped(UNEVEN, seed=3)
    expected = batches_of(whole) + batches_of(whole)
    before = grouped(UNEVEN, seed=3)
    taken: list[Any] = []
    while len(taken) < stop:
        for batch, _ in before:
            taken.append(batch)
            if len(taken) == stop:
                break
    after = grouped(UNEVEN, seed=3)
    after.load_state_dict(before.state_dict())
    assert taken + batches_of(after) == expected[: stop + len(batches_of_rest(expected, stop))]


def test_groups_are_not_joined_by_length(refused: Callable[..., str]) -> None:
    refused(lambda: grouped(["a", "a"], group_by_length=True), "data.group_by_length")


def batches_of_rest(expected: list[Any], stop: int) -> list[Any]:
    """Return the batches from `stop` to the end of its epoch."""
    epoch = len(expected) // 2
    end = epoch if stop < epoch else 2 * epoch
    return expected[stop:end]


@pytest.mark.parametrize(("accumulate", "world"), [(1, 1), (3, 1), (1, 2), (2, 2)])
def test_normalizers_with_groups(accumulate: int, world: int) -> None:
    """Batches of unequal sizes still give the mean over the step."""
    ranks = [
        list(grouped(UNEVEN, accumulate=accumulate, rank=r, world_size=world)) for r in range(world)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    for start in range(0, len(ranks[0]), accumulate):
        window = [b for batches in ranks for b in batches[start : start + accumulate]]
        share = sum(len(examples) / n[0] for examples, n in window) / (accumulate * world)
        assert share == pytest.approx(1.0)


# -- through the real Trainer ------------------------------------------------------------------


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Any]:
    """Build a quiet CPU trainer."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    def build(**options: Any) -> Any:
        quiet = {"num_sanity_val_steps": 0, "limit_val_batches": 0, "default_root_dir": tmp_path}
        return quiet_trainer(**{**quiet, **options})

    return build


def test_accumulating_8_of_1_equals_1_of_8(trainer: Callable[..., Any], shape: str) -> None:
    found = {}
    for batch_size, accumulate in ((8, 1), (1, 8), (2, 4)):
        module = watched(shape)
        trainer(max_steps=1, accumulate_grad_batches=accumulate).fit(
            module, datamodule=Data(batch_size=batch_size)
        )
        assert len(module.trained) == accumulate
        found[batch_size] = module.first
    for size in (1, 2):
        for name, want in found[8].items():
            scale = want.abs().max().item()
            torch.testing.assert_close(
                found[size][name], want, rtol=1e-3, atol=1e-5 * scale, msg=lambda m, n=name: n + m
            )


def test_a_short_last_step_is_a_mean_too(trainer: Callable[..., Any]) -> None:
    """5 micro-batches, 4 to a step: the last step's gradient is the mean over its own one."""
    losses: list[float] = []

    class Summed(Watched):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            terms = self.losses(batch)
            means = sum(term.mean.item() for term in terms.values())
            losses.append(loss.item() / means)
            return loss

    module = Summed(zoo.Backbone("tiny-llama"), max_generated=0)
    trainer(max_epochs=1, accumulate_grad_batches=4).fit(
        module, datamodule=Data(train=5, batch_size=1)
    )
    # Lightning divides each loss by 4 whether 4 come or 1, so the share of the one has to be 4.
    assert len(losses) == 5
    assert losses[-1] == pytest.approx(4.0, rel=1e-4)


def test_a_trainer_resumes_in_the_middle_of_an_epoch(
    trainer: Callable[..., Any], tmp_path: Path
) -> None:
    """Stopped after 5 of 12 steps and resumed: the same batches and weights as the unbroken run."""
    options = {"max_epochs": 3, "gradient_clip_val": 1.0}
    whole = watched()
    trainer(**options).fit(whole, datamodule=Data(batch_size=2))

    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 5:
                trainer.save_checkpoint(tmp_path / "five.ckpt")
                trainer.should_stop = True

    first = watched()
    trainer(**options, callbacks=[Stop()]).fit(first, datamodule=Data(batch_size=2))
    assert len(first.trained) == 5
    second = watched()
    trainer(**options).fit(second, datamodule=Data(batch_size=2), ckpt_path=tmp_path / "five.ckpt")
    assert first.trained + second.trained == whole.trained
    for (name, a), b in zip(whole.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("batch", [1, 3, 5, 9])
def test_a_checkpoint_inside_a_step_resumes_exactly(
    batch: int, trainer: Callable[..., Any], tmp_path: Path
) -> None:
    """4 micro-batches an epoch, 2 to a step, saved after an odd one: the whole step is done again.

    Dropout makes random numbers count, and validation after every third batch goes on as well.
    """
    saved = tmp_path / "inside.ckpt"
    options = {"max_epochs": 3, "accumulate_grad_batches": 2, "val_check_interval": 3}
    options |= {"limit_val_batches": 1}

    class Save(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.fit_loop.total_batch_idx == batch - 1:
                trainer.save_checkpoint(saved)

    def fit(callbacks: list[Any], **more: Any) -> Watched:
        torch.manual_seed(1)
        lora = {"rank": 2, "dropout": 0.5}
        module = Watched(
            zoo.Backbone("tiny-llama", lora=lora), zoo.Optimizer(lr=1e-2), max_generated=0
        )
        run = trainer(**options, callbacks=callbacks)
        run.fit(module, datamodule=Data(batch_size=2), weights_only=True, **more)
        assert run.global_step == 6
        return module

    whole = fit([Save()])
    content = torch.load(saved, weights_only=True)
    steps = content["global_step"]
    again = fit([], ckpt_path=saved)
    assert again.trained == whole.trained[2 * steps :]
    assert len(again.trained) == 12 - 2 * steps
    for (name, a), b in zip(whole.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_place_inside_a_step_is_refused(trainer: Callable[..., Any], tmp_path: Path) -> None:
    """Of an older version, or with another accumulation: it cannot be the unbroken run."""
    run = trainer(max_steps=3, accumulate_grad_batches=1)
    run.fit(watched(), datamodule=Data(batch_size=2))
    run.save_checkpoint(tmp_path / "three.ckpt")
    with pytest.raises(InputError, match="taken inside an optimiser step of 2 micro-batches"):
        trainer(max_steps=9, accumulate_grad_batches=2).fit(
            watched(), datamodule=Data(batch_size=2), ckpt_path=tmp_path / "three.ckpt"
        )


def test_every_validation_sees_the_same_records(trainer: Callable[..., Any]) -> None:
    """Neither the sanity check nor a limit moves the place of later validations."""
    module = watched()
    trainer(max_epochs=2, num_sanity_val_steps=1, limit_val_batches=None).fit(
        module, datamodule=Data(batch_size=4, eval_batch_size=2)
    )
    ids = [f"val:{i}" for i in range(5)]
    assert module.validated == ids[:2] + ids + ids
    module = watched()
    trainer(max_epochs=2, limit_val_batches=1).fit(
        module, datamodule=Data(batch_size=4, eval_batch_size=2)
    )
    assert module.validated == ids[:2] * 2


def test_limited_epochs_have_equal_length(trainer: Callable[..., Any]) -> None:
    """limit_train_batches = 3 of 4: every epoch has 3 batches."""
    module = watched()
    trainer(max_epochs=3, limit_train_batches=3).fit(module, datamodule=Data(batch_size=2))
    assert len(module.trained) == 9
