"""What each option of HdLM changes, and that nothing else changes it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from methods.hdlm.hdlm_reference import papers
from training import batch_of

from zoo.records import LabelPath, Taxonomy, Triple
from zoo.tiny_models import byte_tokenizer


def test_each_level_has_a_norm_of_its_own(make: Any) -> None:
    """They start as the final norm; moving one leaves the others as they are."""
    module = make("HdLM", "tiny-llama", layers=[1, 3], head_norm=True)
    norms = [module.head(level)[1].weight for level in range(3)]
    assert len({norm.data_ptr() for norm in norms}) == 3
    assert all(torch.equal(norm, norms[2]) for norm in norms)


@pytest.mark.parametrize(
    ("depth", "blocks", "wanted"),
    [(2, 32, [25, 32]), (3, 32, [20, 30, 32]), (2, 4, [3, 4]), (2, 2, [1, 2]), (1, 32, [32])],
)
def test_default_depths(
    make: Any, monkeypatch: pytest.MonkeyPatch, depth: int, blocks: int, wanted: list[int]
) -> None:
    """0.78 K with two levels, 0.62 K and 0.94 K with three, below K in any case."""
    module = make("HdLM", "tiny-llama", depth=depth)
    for part in ("heads", "norms"):
        delattr(module, part)
    block = module.lm.model.layers[0]
    module.lm.model.layers = torch.nn.ModuleList(copy.deepcopy(block) for _ in range(blocks))
    module.install()
    assert module.ks == wanted


@pytest.mark.parametrize("last", [1, 11])
def test_a_constrained_model_can_name_the_last_class(make: Any, last: int) -> None:
    """A head that wants the last number of the list gets it, also with two digits."""
    names = tuple(f"c{i}" for i in range(last + 1))
    record = LabelPath("x", ("c0",), Taxonomy({(): names}), id="x")
    module = make("HdLM", "tiny-llama", depth=1, constrain=True, max_new_tokens=4)
    wanted = iter([*byte_tokenizer()(str(last)).input_ids, module.encoder().stop_id])
    module.logits = lambda level, states: torch.nn.functional.one_hot(
        torch.tensor([next(wanted)]), 259
    ).float()
    assert module.generate(module.encoder().plans(record)) == [[names[-1]]]


@pytest.mark.parametrize("separate", [False, True])
def test_only_the_last_level_is_sampled_at_the_temperature(make: Any, separate: bool) -> None:
    """Hot samples have one coarse text and differ in the fine one; greedy ones do not differ."""
    options = {"layers": [2], "max_new_tokens": 12, "separate": separate}
    module = make("HdLM", "tiny-llama", spread=5.0, **options)
    plans = module.encoder().plans(Triple("Who?", "Bob.", "Bob.", id="t"))

    def drawn(seed: int, heat: float) -> list[str]:
        torch.manual_seed(seed)
        (path,) = module.generate(plans, temperature=heat)
        return list(path)

    (greedy, *again), hot = ([drawn(seed, heat) for seed in range(4)] for heat in (0.0, 50.0))
    assert again == [greedy] * 3
    assert {path[0] for path in hot} == {greedy[0]}
    assert len({path[1] for path in hot}) == 4


@pytest.mark.parametrize("weights", [[1.0, 0.0], [0.0, 1.0]])
def test_a_level_of_weight_zero_is_not_run_to(make: Any, weights: list[float]) -> None:
    module = make("HdLM", "tiny-llama", layers=[2], weights=weights)
    run: list[int] = []
    for i, block in enumerate(module.lm.model.layers):
        block.register_forward_hook(lambda *_, i=i: run.append(i))
    module.losses(batch_of(module, papers()))
    assert run == list(range(2 if weights[1] == 0 else 4))
