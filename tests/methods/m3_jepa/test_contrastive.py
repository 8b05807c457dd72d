"""The symmetric contrastive loss: by hand, and over two processes as over one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from methods.m3_jepa.m3_jepa_reference import smooth_l1
from methods.m3_jepa.m3_jepa_samples import WAYS, batch_of, make, our_step, our_vectors, pairs

from zoo.methods.m3_jepa.contrastive import info_nce, numbers

TAU = 0.2


def test_two_pairs_by_hand() -> None:
    """Sources (1, 0), (0, 1); targets (1, 0), (1, 0): cosines [[1, 1], [0, 0]]."""
    source = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    target = torch.tensor([[2.0, 0.0], [7.0, 0.0]])
    forward = [math.log(2), math.log(2)]  # each source finds both targets equal
    first = math.log(math.exp(1 / TAU) + 1) - 1 / TAU  # target 1 prefers its source
    second = math.log(math.exp(1 / TAU) + 1)  # target 2 prefers the other's
    expected = torch.tensor([(forward[0] + first) / 2, (forward[1] + second) / 2])
    torch.testing.assert_close(info_nce(source, target, TAU), expected)


def test_three_pairs_by_hand() -> None:
    angles = torch.tensor([0.0, 0.5, 2.0]), torch.tensor([0.3, 1.1, 1.5])
    source, target = (torch.stack([a.cos(), a.sin()], 1) for a in angles)
    expected = []
    for i in range(3):
        row = [math.cos(float(angles[0][i] - angles[1][j])) / TAU for j in range(3)]
        column = [math.cos(float(angles[0][j] - angles[1][i])) / TAU for j in range(3)]
        logs = [math.log(sum(map(math.exp, scores))) - scores[i] for scores in (row, column)]
        expected.append(sum(logs) / 2)
    torch.testing.assert_close(info_nce(source, target, TAU), torch.tensor(expected))


def test_one_pair_has_nothing_to_tell_apart() -> None:
    assert info_nce(torch.randn(1, 4), torch.randn(1, 4), TAU).item() == pytest.approx(0, abs=1e-6)


def test_lengths_do_not_matter_and_half_precision_is_raised() -> None:
    source, target = torch.randn(5, 8), torch.randn(5, 8)
    expected = info_nce(source, target, TAU)
    torch.testing.assert_close(info_nce(source * 7, target * 0.1, TAU), expected)
    assert info_nce(source.bfloat16(), target.bfloat16(), TAU).dtype == torch.float32


def test_across_ranks_without_processes_is_the_plain_loss() -> None:
    source, target = torch.randn(5, 8), torch.randn(5, 8)
    ours = info_nce(source, target, TAU, across_ranks=True)
    assert torch.equal(ours, info_nce(source, target, TAU))


def test_pairs_of_one_group_are_no_negatives() -> None:
    """Of three pairs the first two match: each has the third alone as its negative."""
    source, target = torch.randn(3, 4), torch.randn(3, 4)
    found = info_nce(source, target, TAU, ["x", "x", "y"])
    for i in (0, 1):
        two = info_nce(source[[i, 2]], target[[i, 2]], TAU)
        torch.testing.assert_close(found[i], two[0])
    torch.testing.assert_close(found[2], info_nce(source, target, TAU)[2])


def test_a_group_has_the_same_number_in_every_process() -> None:
    """Python's own hash of a text is another one in each process."""
    cat, empty, dog = 7491139519574695330, -1970711489451281740, -143298910849180985
    assert numbers(["a cat", "", "a dog", "a cat"]).tolist() == [cat, empty, dog, cat]


@pytest.mark.parametrize("step", [0, 1])
def test_training_knows_the_groups(step: int) -> None:
    """Two pairs of one group: no negative is left, and the loss is L_reg / 2 alone."""
    module = make(("tiny-bert", "tiny-vit"), across_ranks=True)
    records = [replace(record, group="threes") for record in pairs(2)]
    batch = batch_of(module, records)
    loss, _ = our_step(module, batch, step)
    views = our_vectors(module, batch, WAYS[step])
    expected = smooth_l1(views.predicted, views.wanted) / 2
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-6)


# -- two processes -----------------------------------------------------------------------------

SIZES = (3, 2)  # the last batches of two processes may differ


def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    source, target = (torch.randn(sum(SIZES), 6, generator=generator) for _ in range(2))
    return source, target


def part(rank: int, folder: str) -> None:
    """Save loss and gradient of one process's pairs."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=len(SIZES)
    )
    own = slice(sum(SIZES[:rank]), sum(SIZES[: rank + 1]))
    source, target = (x[own].requires_grad_() for x in vectors())
    loss = info_nce(source, target, TAU, across_ranks=True)
    loss.sum().backward()
    found = {"loss": loss.detach(), "source": source.grad, "target": target.grad}
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.barrier()  # neither leaves while the other still talks
    torch.distributed.destroy_process_group()


def test_two_processes_are_one(tmp_path: Path) -> None:
    """The sum over both processes has the one-process loss and gradient, negatives and all."""
    spawn: Any = torch.multiprocessing.spawn
    spawn(part, args=(str(tmp_path),), nprocs=len(SIZES))
    halves = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    found = {name: torch.cat([half[name] for half in halves]) for name in halves[0]}
    source, target = (x.requires_grad_() for x in vectors())
    loss = info_nce(source, target, TAU)
    loss.sum().backward()
    torch.testing.assert_close(found["loss"], loss.detach())
    torch.testing.assert_close(found["source"], source.grad)
    torch.testing.assert_close(found["target"], target.grad)


def matching(rank: int, folder: str) -> None:
    """Save the loss of ten perfect pairs, whose groups the other process has too."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    groups = [f"digit {number}" for number in range(10)]
    loss = info_nce(torch.eye(10), torch.eye(10), 0.03, groups, across_ranks=True)
    torch.save(loss, Path(folder) / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_matching_pairs_of_two_processes_are_no_negatives(tmp_path: Path) -> None:
    """Each pair's twin in the other process is left out: nothing is left to learn, not ln 2."""
    spawn: Any = torch.multiprocessing.spawn
    spawn(matching, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        loss = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(loss, torch.zeros(10))
