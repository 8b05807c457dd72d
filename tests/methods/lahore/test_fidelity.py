"""The nine properties of LaHoRe's sheet (arXiv 2412.16615, section 7).

The reference is an independent transcription of the equations, `lahore_reference.py`.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from methods.lahore.lahore_reference import (
    END,
    MARKS,
    Data,
    answer_log_prob,
    ids_of,
    log_odds,
    next_logits,
    prompt,
    quality,
    task,
)
from training import quiet_trainer

from zoo.decoding.option_logits import literal_score, relevance_score
from zoo.losses.preference import dpo_loss
from zoo.methods.lahore.encoder import PAIR
from zoo.methods.lahore.prompts import TEMPLATES
from zoo.ranking.metrics import query_scores
from zoo.records import Corpus, Document, Ranking

POOL = Corpus(
    {
        "ask": Document("ask", "Question"),
        "say": Document("say", "Restatement or Paraphrasing of what was told"),
        "fact": Document("fact", "a source", title="Information"),
        "other": Document("other", "Others"),
    }
)
RECORDS = [
    Ranking("seeker: I lost my job.\nsupporter: When?", POOL, (("say", 1), ("ask", 0)), id="one"),
    Ranking("seeker: hi", POOL, (("other", 2), ("ask", 1)), id="two"),
]


def batch_of(module: Any, records: list[Ranking]) -> Any:
    """Return one batch of all pairs, normalised by their supervised weights."""
    pairs = [pair for record in records for pair in module.encoder()(record)]
    totals: dict[int, float] = {}
    for pair in pairs:
        for head, weight in pair.head_weights().items():
            totals[head] = totals.get(head, 0.0) + weight
    return module.encoder().collate(pairs, totals)


# -- 1: the prompt -----------------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 1)
@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_document_then_query_then_instruction_then_answer(
    make: Any, shape: str, template: str
) -> None:
    """The answer is read at the last prompt position; the head depends on no query."""
    module = make("LaHoRe", shape, template=template)
    encoder, words = module.encoder(), TEMPLATES[template]
    (record, other) = RECORDS
    for pair, name in zip(encoder(record), record.pool, strict=True):
        text = module.tokenizer.decode([*pair.head, *pair.tail])
        places = [
            text.index(part)
            for part in (
                POOL.documents[name].content,
                record.query,
                words.choice[:6],
                "\n<|im_start|>assistant",
            )
        ]
        assert places == sorted(places)
        assert text.endswith("<|im_start|>assistant\n")
        assert record.query not in module.tokenizer.decode(pair.head)
        assert pair.head == encoder.half("head", "document", POOL.documents[name].content)
        batch = encoder.collate([pair], {})
        first = int((batch.head_ids[0] != -1).nonzero()[0])
        assert first == len(pair.head) + len(pair.tail) - 1
        assert batch.labels[0, first] == encoder.option_ids[0 if pair.relevant else 1]
    heads = [[pair.head for pair in encoder(r)] for r in (record, other)]
    assert heads[0] == heads[1]


@pytest.mark.fidelity("lahore", 1)
def test_the_papers_wording_and_its_parts(make: Any) -> None:
    """The whole prompt is the printed one; I_r and I_bc go one by one; the order turns."""
    module = make("LaHoRe", "tiny-llama")
    pair = module.encoder()(RECORDS[0])[2]
    text = module.tokenizer.decode([*pair.head, *pair.tail])
    assert text == prompt(RECORDS[0].query, "Information\na source")

    def told(**options: Any) -> str:
        pair = make("LaHoRe", "tiny-llama", **options).encoder()(RECORDS[0])[2]
        return module.tokenizer.decode([*pair.head, *pair.tail])

    question = "Can Q be appropriately responded with D?"
    assert told(relevance=False) == text.replace(f"{question} ", "")
    choice = text[text.index(" If you think") : text.index(END, text.index(" If you think"))]
    assert told(choice=False) == text.replace(choice, "")
    turned = told(order="query_first")
    assert turned.index(RECORDS[0].query) < turned.index("Information")
    assert sorted(turned) == sorted(text)


# -- 2: cached scores --------------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 2)
@pytest.mark.parametrize("order", ["document_first", "query_first"])
def test_cached_scores_are_uncached_scores(make: Any, shape: str, order: str) -> None:
    """A padded batch of all pairs over kept prefixes scores as every pair run alone."""
    module = make("LaHoRe", shape, spread=12.0, order=order)
    expected = [
        [
            next_logits(module, module.tokenizer.decode([*head, *tail]))
            for name in record.pool
            for head, tail in [module.encoder().halves(record.query, POOL.documents[name])]
        ]
        for record in RECORDS
    ]
    true, false = module.encoder().option_ids
    for kept in (None, module.new_store()):
        module.store = kept
        for _ in range(2):  # the second time prefixes come from the store
            found = module.scores(RECORDS)
            for ours, row in zip(found, expected, strict=True):
                want = [(x[true] - x[false]).item() for x in row]
                assert ours == pytest.approx(want, abs=1e-4)
    assert max(map(max, found)) - min(map(min, found)) > 0.01, "equal scores would prove nothing"
    if order == "document_first":
        z = log_odds(module, RECORDS[0].query, "Question").detach()
        assert found[0][0] == pytest.approx(z.item(), abs=1e-4)


@pytest.mark.fidelity("lahore", 2)
def test_every_document_is_run_once(make: Any) -> None:
    """Tokens that the blocks see: each document once, then the queries' parts."""
    module = make("LaHoRe", "tiny-llama")
    seen: list[int] = []
    hook = module.lm.model.layers[0].register_forward_hook(
        lambda _, inputs, __: seen.append(inputs[0].shape[0] * inputs[0].shape[1])
    )
    module.store = module.new_store()
    records = [Ranking(f"query {i}", POOL, (("ask", 1),), id=str(i)) for i in range(6)]
    module.scores(records)
    hook.remove()
    encoder = module.encoder()
    heads = [len(encoder.half("head", "document", d.content)) for d in POOL.documents.values()]
    tails = 6 * 4 * len(encoder.half("tail", "query", "query 0"))
    assert sum(seen) == sum(heads) + tails


@pytest.mark.parametrize("forget", ["start_evaluation", "log_scores", "on_predict_epoch_end"])
def test_documents_are_kept_during_one_evaluation_only(make: Any, forget: str) -> None:
    """Once it ends, or where the next one starts after one that was broken off, none is left."""
    module, fresh = make("LaHoRe", "tiny-llama"), make("LaHoRe", "tiny-llama")
    module.start_evaluation()
    module.scores(RECORDS)
    assert len(module.store) == len(POOL.documents)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn_like(parameter) / 10
    fresh.load_state_dict(module.state_dict())
    assert module.scores(RECORDS) != fresh.scores(RECORDS), "nothing was kept"
    getattr(module, forget)(*["val"] * (forget == "log_scores"))
    assert module.scores(RECORDS) == fresh.scores(RECORDS)


@pytest.mark.fidelity("lahore", 2)
def test_an_index_scores_the_same(make: Any, shape: str) -> None:
    module = make("LaHoRe", shape, spread=8.0)
    states = module.offline(list(POOL.documents.values()))
    found = module.online([record.query for record in RECORDS], states)
    for ours, row in zip(found.tolist(), module.scores(RECORDS), strict=True):
        assert ours == pytest.approx(row, abs=1e-4)


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


# -- 6: the score ------------------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 6)
def test_the_score_rises_with_the_odds_and_the_printed_formula_falls() -> None:
    z = torch.arange(-300, 301).float()  # beyond 36 a sigmoid would be 1, all ties
    found = relevance_score(torch.stack([z, torch.zeros_like(z)], 1))
    assert (found.diff() > 0).all()
    assert found[300] == 0
    p = torch.tensor([0.1, 0.5, 0.9])
    printed = p.log() / (p.log() + (1 - p).log())
    assert printed.tolist() == pytest.approx([0.956, 0.5, 0.044], abs=1e-3)
    ours = literal_score(torch.stack([p.log(), (1 - p).log()], 1))
    assert ours.tolist() == pytest.approx((-printed).tolist())
    assert (ours.diff() > 0).all()


@pytest.mark.fidelity("lahore", 6)
def test_the_modules_literal_score_reads_the_whole_vocabulary(make: Any, shape: str) -> None:
    module = make("LaHoRe", shape, spread=8.0, score="literal")
    found = module.scores(RECORDS[:1])[0]
    for ours, document in zip(found, POOL.documents.values(), strict=True):
        text = prompt(RECORDS[0].query, document.content)
        log_probs = next_logits(module, text).log_softmax(0)
        true, false = (log_probs[ids_of(module, label)[0]].item() for label in "AB")
        assert ours == pytest.approx(-true / (true + false), abs=1e-4)


# -- 7: labels ---------------------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 7)
def test_swapped_labels_swap_prompt_target_and_reading(make: Any, shape: str) -> None:
    plain, swapped = (make("LaHoRe", shape, spread=8.0, labels=list(x)) for x in ("AB", "BA"))
    assert swapped.encoder().option_ids == plain.encoder().option_ids[::-1]
    for ours, theirs in zip(
        plain.encoder()(RECORDS[0]), swapped.encoder()(RECORDS[0]), strict=True
    ):
        said = swapped.tokenizer.decode([*theirs.head, *theirs.tail])
        assert said == prompt(RECORDS[0].query, POOL.documents[ours.key[4:]].content, "BA")
        ends = [m.encoder().example(p).input_ids for m, p in ((plain, ours), (swapped, theirs))]
        assert {ids[-2] for ids in ends} == set(plain.encoder().option_ids)
        assert theirs.relevant == ours.relevant
    for row, record in zip(swapped.scores(RECORDS), RECORDS, strict=True):
        want = [
            log_odds(swapped, record.query, POOL.documents[n].content, "BA") for n in record.pool
        ]
        assert row == pytest.approx(torch.stack(want).tolist(), abs=1e-4)


@pytest.mark.fidelity("lahore", 7)
def test_both_orders_of_the_labels_learn_the_task(learned: dict[str, Any]) -> None:
    for name in ("sft", "dpo"):
        assert quality(learned[name].module, task()) == 1.0


# -- 8: directions -----------------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 8)
def test_untrained_is_random_and_bi_encoder_below_sft_up_to_dpo(learned: dict[str, Any]) -> None:
    """Three documents: random MRR is (1 + 1/2 + 1/3) / 3 = 0.611."""
    chance = (1 + 1 / 2 + 1 / 3) / 3
    sft, dpo = (quality(learned[name].module, task()) for name in ("sft", "dpo"))
    assert learned["sft"].untrained == pytest.approx(chance, abs=0.25)
    module = learned["sft"].module  # its own states, pooled and compared by cosine
    bi_encoder = []
    for record in task():
        texts = [record.query, *(mark * 4 for mark in MARKS)]
        with torch.no_grad():
            vectors = [
                module.lm.model(torch.tensor([ids_of(module, t)])).last_hidden_state[0].mean(0)
                for t in texts
            ]
        cosines = [torch.cosine_similarity(vectors[0], v, dim=0).item() for v in vectors[1:]]
        scores = dict(zip(MARKS, cosines, strict=True))
        bi_encoder.append(query_scores(scores, dict(record.relevant))["MRR@10"])
    assert sum(bi_encoder) / len(bi_encoder) < sft <= dpo
    assert sft > chance + 0.3
    for name in ("sft", "dpo"):
        assert learned[name].losses[-1] < 0.5 * learned[name].losses[0]


# -- 9: no new parameters ----------------------------------------------------------------------


@pytest.mark.fidelity("lahore", 9)
def test_no_parameter_is_added(make: Any, shape: str) -> None:
    """Zero-shot scores come from the backbone's own parameters, bit for bit."""
    from zoo.backbone import Backbone, load

    plain, _ = load(Backbone(shape))
    module = make("LaHoRe", shape)
    ours, theirs = module.state_dict(), plain.state_dict()
    assert set(ours) == {f"lm.{name}" for name in theirs}
    assert all(torch.equal(ours[f"lm.{name}"], value) for name, value in theirs.items())
    assert sum(p.numel() for p in module.parameters()) == sum(p.numel() for p in plain.parameters())
    assert len(module.scores(RECORDS)[0]) == len(POOL)


def test_dpo_by_hand() -> None:
    """-log sigmoid(0.5 [(-1 + 2) - (-3 + 2.5)]) = ln(1 + e^-0.75)."""
    one = [torch.tensor([value]) for value in (-1.0, -3.0, -2.0, -2.5)]
    assert dpo_loss(*one, beta=0.5).item() == pytest.approx(math.log1p(math.exp(-0.75)))
