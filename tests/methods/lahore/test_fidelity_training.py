"""LaHoRe's training: the loss of SFT, DPO from ln 2 on, the pairs that are learned."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from methods.lahore.lahore_records import POOL, RECORDS
from methods.lahore.lahore_reference import Data, answer_log_prob, log_odds
from training import quiet_trainer

from zoo.losses.preference import dpo_loss
from zoo.methods.lahore.encoder import PAIR
from zoo.records import Corpus, Document, Ranking


def batch_of(module: Any, records: list[Ranking]) -> Any:
    """Return one batch of all pairs, normalised by their supervised weights."""
    pairs = [pair for record in records for pair in module.encoder()(record)]
    totals: dict[int, float] = {}
    for pair in pairs:
        for head, weight in pair.head_weights().items():
            totals[head] = totals.get(head, 0.0) + weight
    return module.encoder().collate(pairs, totals)


# -- 3: the loss -------------------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 3)
@pytest.mark.parametrize("padding_free", [True, False])
def test_the_loss_is_that_of_the_answer_alone(make: Any, shape: str, padding_free: bool) -> None:
    """L_SFT by the transcription; other labels on the prompt change nothing, on the answer do."""
    module = make("LaHoRe", shape, spread=5.0, padding_free=padding_free)
    batch = batch_of(module, RECORDS)
    expected = torch.stack(
        [
            -answer_log_prob(module, r.query, POOL.documents[n].content, "A" if g else "B")
            for r, relevant in zip(RECORDS, [{"say"}, {"other", "ask"}], strict=True)
            for n in r.pool
            for g in [n in relevant]
        ]
    ).sum() / (8 * 2)
    loss = module.losses(batch)["answer"].loss
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert batch.num_supervised == 8 * 2
    supervised = batch.head_ids != -1
    batch.labels[~supervised] = 7
    assert torch.equal(module.losses(batch)["answer"].loss, loss)
    batch.labels[supervised] = 7
    assert not torch.isclose(module.losses(batch)["answer"].loss, loss)


@pytest.mark.fidelity("lahore", 3)
def test_gradients_are_those_of_the_transcription(make: Any, shape: str) -> None:
    module = make("LaHoRe", shape, spread=5.0)
    module.losses(batch_of(module, RECORDS[:1]))["answer"].loss.backward()
    ours = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    total = sum(
        -answer_log_prob(module, RECORDS[0].query, d.content, "A" if d.id == "say" else "B")
        for d in POOL.documents.values()
    )
    (total / 8).backward()
    for name, parameter in module.named_parameters():
        want = parameter.grad
        torch.testing.assert_close(
            ours[name], want, rtol=1e-3, atol=1e-5 * want.abs().max().item() + 1e-9
        )


# -- 4: DPO ------------------------------------------------------------------------------------


@pytest.fixture
def dpo_run(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str) -> Any:
    """One pair of trainer and DPO module, after three steps on all pairs of two records."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    module = make("LaHoRe", shape, objective="dpo", optimizer={"lr": 1e-3, "warmup_ratio": 0.0})
    before = [log_odds(module, r.query, POOL.documents[n].content) for r in RECORDS for n in r.pool]
    expected = [
        [answer_log_prob(module, r.query, POOL.documents[n].content, label) for label in order]
        for r, right in zip(RECORDS, [{"say"}, {"other", "ask"}], strict=True)
        for n in r.pool
        for order in [("A", "B") if n in right else ("B", "A")]
    ]
    losses: list[float] = []

    class Losses(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            losses.append(outputs["loss"].item())

    options = {"default_root_dir": tmp_path, "limit_val_batches": 0, "callbacks": [Losses()]}
    data = Data(RECORDS, batch_size=8)
    quiet_trainer(max_steps=3, **options).fit(module, data)
    return SimpleNamespace(
        module=module.eval(),
        losses=losses,
        before=torch.stack(before).detach(),
        reference=torch.tensor([[x.item() for x in row] for row in expected]),
        keys=[f"{r.id}\n{n}" for r in RECORDS for n in r.pool],
        right=[
            n in right
            for r, right in zip(RECORDS, [{"say"}, {"other", "ask"}], strict=True)
            for n in r.pool
        ],
        data=data,
        folder=tmp_path,
    )


@pytest.mark.fidelity("lahore", 4)
def test_dpo_starts_at_ln_2_and_moves_the_odds(dpo_run: Any) -> None:
    """ln 2 where policy = reference; the loss falls, z of negatives falls; pi_0 stays."""
    run, module = dpo_run, dpo_run.module
    assert run.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert run.losses[-1] < run.losses[0]
    rows = torch.stack(module.reference.of(run.keys, torch.device("cpu")), 1)
    torch.testing.assert_close(rows, run.reference, rtol=1e-4, atol=1e-4)  # after three steps
    after = torch.stack(
        [log_odds(module, r.query, POOL.documents[n].content) for r in RECORDS for n in r.pool]
    )
    moved = (after - run.before).detach()
    assert (moved[~torch.tensor(run.right)] < 0).all()  # most pairs are negatives
    names = set(dict(module.named_parameters())) | set(module.state_dict())
    assert not [name for name in names if not name.startswith("lm.")]


@pytest.mark.fidelity("lahore", 4)
def test_a_step_on_one_pair_moves_its_odds(make: Any, shape: str) -> None:
    """One gradient step on a positive raises its z, on a negative lowers it."""
    for name, sign in (("say", 1), ("ask", -1)):
        module = make("LaHoRe", shape, objective="dpo")
        module.log = lambda *_, **__: None
        pair = next(p for p in module.encoder()(RECORDS[0]) if p.key.endswith(name))
        batch = module.encoder().collate([pair], pair.head_weights())
        with torch.no_grad():
            module.reference.places = {pair.key: 0}
            module.reference.values = torch.stack(module.log_probs(batch), 1)
        before = log_odds(module, RECORDS[0].query, POOL.documents[name].content)
        module.training_step(batch, 0).backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= 0.1 * parameter.grad
        after = log_odds(module, RECORDS[0].query, POOL.documents[name].content)
        assert (after - before) * sign > 0


@pytest.mark.fidelity("lahore", 4)
def test_dpo_is_the_logistic_loss_of_the_shift_of_the_odds(make: Any, shape: str) -> None:
    """Equation (4) by the transcription: -log s(y b (z - z0)) but for the end-of-turn terms."""
    module = make("LaHoRe", shape, spread=3.0, objective="dpo", beta=0.7)
    batch = batch_of(module, RECORDS[:1])
    start = torch.stack(module.log_probs(batch), 1).detach()
    z0 = [log_odds(module, RECORDS[0].query, d.content).item() for d in POOL.documents.values()]
    module.reference.places = {key: i for i, key in enumerate(batch.keys)}
    module.reference.values = start
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    loss = module.preference(batch)["preference"].loss
    total, logistic = 0.0, []
    for i, document in enumerate(POOL.documents.values()):
        y = 1 if document.id == "say" else -1
        chosen, rejected = [
            answer_log_prob(module, RECORDS[0].query, document.content, label).item()
            for label in (("A", "B") if y == 1 else ("B", "A"))
        ]
        shift = 0.7 * ((chosen - start[i, 0].item()) - (rejected - start[i, 1].item()))
        total += math.log1p(math.exp(-shift)) / 4
        z = log_odds(module, RECORDS[0].query, document.content).item()
        logistic.append(y * 0.7 * (z - z0[i]))
        ends = chosen - rejected - (start[i, 0] - start[i, 1]).item() - y * (z - z0[i])
        assert shift == pytest.approx(logistic[-1] + 0.7 * ends, abs=1e-5)
    assert loss.item() == pytest.approx(total, rel=1e-4)
    assert batch.normalizers[PAIR] == 4


def test_dpo_by_hand() -> None:
    """-log sigmoid(0.5 [(-1 + 2) - (-3 + 2.5)]) = ln(1 + e^-0.75)."""
    one = [torch.tensor([value]) for value in (-1.0, -3.0, -2.0, -2.5)]
    assert dpo_loss(*one, beta=0.5).item() == pytest.approx(math.log1p(math.exp(-0.75)))


# -- 5: pairs ----------------------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 5)
@pytest.mark.parametrize("size", [2, 8, 31])
def test_one_to_all(make: Any, size: int) -> None:
    """n documents give n records of a query, as many of them positive as are relevant."""
    encoder = make("LaHoRe", "tiny-llama").encoder()
    pool = Corpus({str(i): Document(str(i), f"strategy {i}") for i in range(size)})
    for right in ((1,), (0, 1)):
        grades = tuple((str(i), 1) for i in right)
        pairs = encoder(Ranking("hi", pool, grades, id="r"))
        assert [pair.key for pair in pairs] == [f"r\n{i}" for i in range(size)]
        assert [i for i, pair in enumerate(pairs) if pair.relevant] == list(right)
        assert [pair.record is not None for pair in pairs] == [True] + [False] * (size - 1)
    pairs = encoder(Ranking("hi", pool, (("0", 1), ("1", 0)), candidates=("1", "0"), id="r"))
    assert [(pair.key, pair.relevant) for pair in pairs] == [("r\n1", False), ("r\n0", True)]


@pytest.mark.fidelity("lahore", 5)
def test_sampled_negatives_keep_every_positive(make: Any) -> None:
    encoder = make("LaHoRe", "tiny-llama", negatives=3).encoder()
    pool = Corpus({str(i): Document(str(i), f"strategy {i}") for i in range(50)})
    first, second = (encoder(Ranking("q", pool, (("7", 1), ("40", 2)), id=i)) for i in "ab")
    for pairs in (first, second):
        assert len(pairs) == 5
        assert {p.key[2:] for p in pairs if p.relevant} == {"7", "40"}
    assert {p.key[2:] for p in first} != {p.key[2:] for p in second}
    again = encoder(Ranking("q", pool, (("7", 1), ("40", 2)), id="a"))
    assert [p.key for p in again] == [p.key for p in first]
