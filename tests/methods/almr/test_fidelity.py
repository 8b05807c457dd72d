"""Properties of ALMR's sheet that its module has; those of the fits stand beside them.

1 (exact mixtures) and the tokens of 2 are tested with the data modules, 3 to 7 and 9 in
`test_optimal_line.py`, `test_mixture_laws.py` and `test_report.py`. What 3, 4, 6, 7 and the second
half of 8 say of real losses is measured by `benchmarks/almr` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from running import board, load, main, scalars, tiny
from torch.nn import functional as F

from zoo.cli.study import Study
from zoo.errors import InputError
from zoo.records import PlainText, Preference, Triple

Make = Callable[..., Any]
LORA = {"lora": {"rank": 2, "alpha": 4, "dropout": 0.5}}
TEXTS = [
    PlainText("The river is high after the rain.", kind="english", id="e1"),
    PlainText("Rain.", kind="english", id="e2"),
    PlainText("Der Fluss steht hoch nach dem Regen, und es regnet noch.", kind="german", id="d"),
]
PAIRS = [
    Preference("Is it wet?", "Yes, very.", "No.", id="a"),
    Preference("Why?", "It rained all night long.", "Who knows what it is or was.", id="b"),
]


def batch_of(module: Any, records: list[Any]) -> Any:
    encoder = module.encoder()
    return encoder.collate([e for record in records for e in encoder(record)], {})


def by_hand(module: Any, ids: list[int], start: int) -> float:
    """Sum of -log pi(x_t | x_<t) for t >= start, of one sequence alone, by transformers itself."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        log_pi = module.lm(tokens).logits.float().log_softmax(-1)
    return -sum(float(log_pi[0, t - 1, ids[t]]) for t in range(start, len(ids)))


# -- equation (1) ------------------------------------------------------------------------------


@pytest.mark.parametrize("padding_free", [True, False])
def test_every_token_of_a_text_is_learned(make: Make, padding_free: bool) -> None:
    """(1), and that each domain's held-out loss is its own mean."""
    domains = ["english", "german"]
    module = make("ALMR", "tiny-llama", domains=domains, padding_free=padding_free, spread=4.0)
    terms = module.losses(batch_of(module, TEXTS))
    tokenizer = module.tokenizer
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    rows = [[*start, *module.encoder().ids(t.text), tokenizer.eos_token_id] for t in TEXTS]
    sums = [by_hand(module, row, 1) for row in rows]
    counts = [len(row) - 1 for row in rows]
    assert float(terms["text"].mean) == pytest.approx(sum(sums) / sum(counts), rel=1e-4)
    english = (sums[0] + sums[1]) / (counts[0] + counts[1])
    assert float(terms["english"].mean) == pytest.approx(english, rel=1e-4)
    assert float(terms["german"].mean) == pytest.approx(sums[2] / counts[2], rel=1e-4)
    assert float(terms["english"].weight) == counts[0] + counts[1]


def test_a_long_text_is_cut_and_no_target_is_lost(make: Make) -> None:
    module = make("ALMR", "tiny-llama", max_length=8)
    windows = module.encoder()(TEXTS[2])
    whole = make("ALMR", "tiny-llama", max_length=4096).encoder()(TEXTS[2])[0]
    targets = [label for w in windows for label in w.labels if label >= 0]
    assert targets == [label for label in whole.labels if label >= 0]
    assert max(map(len, windows)) == 8
    for before, after in zip(windows, windows[1:], strict=False):
        assert after.input_ids[0] == before.labels[-1]


def test_a_text_is_continued_from_its_first_half(make: Make) -> None:
    module = make("ALMR", "tiny-llama", max_answer_tokens=3)
    encoder = module.encoder()
    prompt, (_, gold) = encoder.prompt(TEXTS[1]), encoder.gold(TEXTS[1])
    assert module.tokenizer.decode(prompt, skip_special_tokens=True) + gold == TEXTS[1].text
    replies = module.generate([*TEXTS, *PAIRS])
    assert len(replies) == 5
    rows = [module.sample(r, reply) for r, reply in zip([*TEXTS, *PAIRS], replies, strict=True)]
    assert rows[3]["gold answer"] == PAIRS[0].chosen


# -- property 2 --------------------------------------------------------------------------------

CELL = {
    "trainer.max_steps": 2,
    "trainer.val_check_interval": 2,
    "trainer.log_every_n_steps": 1,
    "data.max_val": 4,
    "checkpoint.every_n_train_steps": 1,
    "model.optimizer.schedule": "cosine",
}
STILL = 1e-30  # a learning rate at which no weight moves: the weights of the start are saved


@pytest.mark.slow
@pytest.mark.fidelity("almr", 2)
def test_cells_differ_in_ratio_and_rate_alone(tmp_path: Path) -> None:
    """Real cells: settings, steps, the course of the rate, the weights of the start.

    Tokens are counted with the data, in `test_mixture.py`.
    """
    vary = {"data.shares.german": [0.0, 0.5], "model.optimizer.lr": [STILL, 1e-3]}
    measure = {"added": "val/german_loss", "original": "val/english_loss"}
    study = Study(list(tiny("almr")[1::2]), vary, measure, str(tmp_path / "s"), fixed=CELL)
    study.run()
    folders = sorted(path for path in (tmp_path / "s" / "cells").iterdir() if path.is_dir())
    assert len(folders) == 4
    settings = [yaml.safe_load((f / "config.yaml").read_text()) for f in folders]
    rates = [setting["model"]["init_args"]["optimizer"].pop("lr") for setting in settings]
    for setting in settings:
        setting["trainer"].pop("default_root_dir")
        setting["data"]["init_args"].pop("shares")
        assert setting == settings[0]
    saved = [load(f / "checkpoints" / "last.ckpt") for f in folders]
    assert {checkpoint["global_step"] for checkpoint in saved} == {2}
    assert (
        len({scalar_values(f, "lr/pg1", rate) for f, rate in zip(folders, rates, strict=True)}) == 1
    )
    starts = [c["state_dict"] for c, rate in zip(saved, rates, strict=True) if rate == STILL]
    assert len(starts) == 2
    assert starts[0].keys() == starts[1].keys()
    for name, weight in starts[0].items():
        assert torch.equal(weight, starts[1][name]), name


def scalar_values(folder: Path, tag: str, unit: float) -> tuple[float, ...]:
    """Return the values of a scalar of TensorBoard in a unit, to four digits."""
    return tuple(round(event.value / unit, 4) for event in board(folder).Scalars(tag))


# -- property 8 --------------------------------------------------------------------------------


@pytest.mark.fidelity("almr", 8)
def test_prompts_are_masked_in_fine_tuning(make: Make, triples: list[Triple]) -> None:
    """(10): the supervised tokens are the answer and its end, nothing before them."""
    module = make("ALMR", "tiny-llama", max_length=4096)
    for record in triples:
        (example,) = module.encoder()(record)
        learned = [
            label for label, head in zip(example.labels, example.head_ids, strict=True) if head >= 0
        ]
        said = module.tokenizer.decode(learned)
        assert said.startswith(record.answer)
        assert record.query not in said
        context = module.tokenizer.decode(example.input_ids[: _first(example)])
        assert record.query in context
        assert said.count(record.answer) == 1 or len(record.answer) < 3
    terms = module.losses(batch_of(module, triples))
    assert float(terms["answer"].weight) > 0
    assert float(terms["text"].weight) == 0


@pytest.mark.fidelity("almr", 8)
@pytest.mark.parametrize("training", [True, False])
def test_the_preference_loss_begins_at_ln_2(make: Make, training: bool) -> None:
    """(11): policy = reference before the first step; with dropout in evaluation alone."""
    lora = {"lora": {"rank": 2, "alpha": 4, "dropout": 0.0 if training else 0.5}}
    module = make("ALMR", "tiny-llama", backbone=lora, max_length=4096, spread=4.0)
    module.train(training)
    term = module.losses(batch_of(module, PAIRS))["preference"]
    assert float(term.mean) == pytest.approx(math.log(2.0), abs=1e-6)
    assert float(term.weight) == 2


@pytest.mark.fidelity("almr", 8)
def test_the_preference_loss_is_equation_11(make: Make) -> None:
    """With moved adapters; the reference is the backbone without them, and it does not learn."""
    module = make("ALMR", "tiny-llama", backbone=LORA, max_length=4096, beta=0.7, spread=4.0)
    adapters = {n: p for n, p in module.named_parameters() if "lora_" in n}
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in adapters.values():
            parameter.normal_(std=0.3)
    encoder = module.encoder()
    margins = {}
    for name in ("policy", "reference"):
        rows = [encoder.pair(record) for record in PAIRS]
        sides = [[(x.input_ids, _first(x)) for x in (p.chosen, p.rejected)] for p in rows]
        margins[name] = [by_hand(module, *bad) - by_hand(module, *good) for good, bad in sides]
        with torch.no_grad():
            for parameter in adapters.values():  # then the reference: no adapters
                parameter.zero_()
    gap = torch.tensor(margins["policy"]) - torch.tensor(margins["reference"])
    expected = -F.logsigmoid(0.7 * gap).mean()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in adapters.values():
            parameter.normal_(std=0.3)
    term = module.losses(batch_of(module, PAIRS))["preference"]
    assert float(term.mean) == pytest.approx(float(expected), rel=1e-4)
    assert float(term.mean) != pytest.approx(math.log(2.0), abs=1e-2)
    term.loss.backward()
    moved = {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == set(adapters)


@pytest.mark.fidelity("almr", 8)
def test_the_reference_has_no_dropout(make: Make) -> None:
    """(11): pi_ref is one model; dropout inside the backbone is off in it, and only in it."""
    module = make("ALMR", "tiny-llama", backbone=LORA, max_length=4096, spread=4.0).train()
    for block in module.lm.model.layers:
        block.self_attn.attention_dropout = 0.5
    batch = batch_of(module, PAIRS)
    with torch.no_grad(), module.adapters_off():
        first, again = (torch.cat(module.log_probs(batch)) for _ in range(2))
    assert torch.equal(first, again)
    with torch.no_grad():
        first, again = (torch.cat(module.log_probs(batch)) for _ in range(2))
    assert not torch.equal(first, again)


def _first(example: Any) -> int:
    """Place of the first supervised token among the ids."""
    return next(i for i, head in enumerate(example.head_ids) if head >= 0) + 1


# -- what is refused ---------------------------------------------------------------------------


def test_bad_input_is_named(make: Make) -> None:
    module = make("ALMR", "tiny-llama", domains=["english", "german"])
    french = PlainText("La pluie.", kind="german2", id="f")
    with pytest.raises(InputError, match="model.domains: no 'german2'; did you mean 'german'"):
        module.losses(batch_of(module, [french]))
    with pytest.raises(InputError, match="mixed with other records"):
        batch_of(module, [*TEXTS, *PAIRS])
    with pytest.raises(InputError, match="x: the field 'text' is empty"):
        module.encoder()(PlainText(" ", id="x"))
    with pytest.raises(InputError, match="y: the field 'rejected' is empty"):
        module.encoder()(Preference("a", "b", " ", id="y"))
    for domains in (["text"], ["a", "a"]):
        with pytest.raises(InputError, match="model.domains"):
            make("ALMR", "tiny-llama", domains=domains)


# -- the stages, one after the other -----------------------------------------------------------


@pytest.mark.slow
def test_three_stages_follow_each_other(tmp_path: Path) -> None:
    """Texts, then questions from those weights, then preferences from the exported model."""
    short = ("--trainer.max_steps", "2", "--trainer.val_check_interval", "1", "--data.max_val", "4")
    short += ("--trainer.log_every_n_steps", "1", "--checkpoint.every_n_train_steps", "1")
    folders = {name: tmp_path / name for name in ("almr", "almr_sft", "almr_dpo", "export")}

    def fit(name: str, *more: str) -> None:
        root = ("--trainer.default_root_dir", str(folders[name]))
        main("fit", *tiny(name), *short, *root, *more)

    fit("almr")
    checkpoint = str(folders["almr"] / "checkpoints" / "last.ckpt")
    fit("almr_sft", "--init_from", checkpoint)
    run, out = folders["almr_sft"], str(folders["export"])
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    given = ("--config", str(run / "config.yaml"), "--ckpt_path", checkpoint)
    main("export", *given, "--output", out)
    fit("almr_dpo", "--model.backbone.name", out)
    logged = scalars(folders["almr_dpo"])
    assert logged["train/preference_loss"] == pytest.approx(math.log(2.0), abs=0.02)
    cpt = scalars(folders["almr"])
    assert {"val/english_loss", "val/german_loss"} <= cpt.keys()
    assert cpt["val/loss"] == cpt["val/text_loss"]  # domains are parts of it, not added to it
    with pytest.raises(SystemExit):
        main("fit", *tiny("almr_dpo"), "--model.backbone.lora", "null")
