"""M3-JEPA's size with the paper's settings, its defaults, schedule and initialisation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from methods.m3_jepa.m3_jepa_samples import I2T, PAIRS_OF_TOWERS, T2I, make
from running import CONFIGS

import zoo
from zoo.methods.m3_jepa.predictor import Direction, Predictor


def paper_sized(**options: Any) -> Any:
    """Return the paper's module, Llama-3-8B and DINOv2-Large, without memory for its weights."""
    from transformers import Dinov2Config, LlamaConfig

    from zoo.methods.m3_jepa import towers as loading

    llama = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
    )
    dino = Dinov2Config(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, image_size=518
    )
    configs = {"model.text": llama, "model.image": dino}
    tower = options.pop("tower", {})
    module = zoo.M3JEPA(
        text={"name": "tiny-llama", **tower}, image={"name": "tiny-dinov2", **tower}, **options
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "read_config", lambda tower, key: configs[key])
        module.build(meta=True)
    return module


def trained_count(part: Any) -> int:
    return sum(p.numel() for p in part.parameters() if p.requires_grad)


@pytest.mark.fidelity("m3_jepa", 1)
@pytest.mark.parametrize(("rank", "millions"), [(4, 140.83), (64, 143.96)])
@pytest.mark.parametrize("biases", [False, True])
def test_size_with_the_papers_settings(rank: int, millions: float, biases: bool) -> None:
    """140.8 M trainable at rank 4, 143.96 M at rank 64; one pool of 12 experts has 100.71 M.

    The adapted biases of DINOv2 (Llama has none) are 6,144 more, which the sheet rounds away.
    """
    module = paper_sized(tower={"rank": rank, "adapter_bias": biases})
    assert trained_count(module.predictor.experts) == 12 * 2 * (2048 * 2048 + 2048) == 100_712_448
    assert round(trained_count(module.predictor) / 1e6, 2) == 140.62
    q_and_v = 3 * (rank * (4096 + 4096) + rank * (4096 + 1024)) + 3 * 2 * rank * (1024 + 1024)
    assert trained_count(module.towers) == q_and_v + biases * 3 * 2 * 1024
    assert round((trained_count(module) - biases * 6144) / 1e6, 2) == millions
    assert abs(trained_count(module) / 1e6 - millions) < 0.01
    assert all(p.is_meta for p in module.parameters())


def test_the_defaults_are_the_sheets() -> None:
    """H 2048, N 12, K 4, dropout 0.1, tau 0.03, alpha 0.5, rank 4, scale 16, three blocks."""
    from zoo.methods.m3_jepa.towers import Tower

    module = zoo.M3JEPA(text=Tower("tiny-bert"), image=Tower("tiny-vit"))
    assert module.sizes == {
        **{"hidden": 2048, "num_experts": 12, "top_k": 4, "dropout": 0.1},
        **{"mixture": "moe", "gate_input": "add", "branches": 2},
    }
    assert (module.alpha, module.temperature, module.alternate) == (0.5, 0.03, True)
    assert (module.regression_loss, module.detach_target) == ("smooth_l1", False)
    assert (module.mask_padding, module.across_ranks) == (True, False)
    tower = Tower("x")
    assert (tower.rank, tower.alpha, tower.dropout, tower.adapt_blocks) == (4, 16, 0.1, 3)
    assert tower.pissa
    assert [d.name for d in module.directions] == [I2T, T2I]


def test_the_papers_schedule() -> None:
    """Cosine from 1.5e-3 down to 5.5e-6; 500 epochs, fewer if none of 10 is better."""
    settings = yaml.safe_load((CONFIGS / "paper" / "m3_jepa.yaml").read_text())
    optimizer = zoo.Optimizer(**settings["model"]["init_args"]["optimizer"])
    rates = [optimizer.lr * optimizer.factor(step, 1000) for step in range(1001)]
    assert max(rates) == rates[99] == rates[100] == 1.5e-3
    assert rates[-1] == pytest.approx(5.5e-6, rel=1e-3)
    trainer = settings["trainer"]
    assert (trainer["max_epochs"], trainer["max_steps"]) == (500, -1)
    assert trainer["callbacks"][0]["init_args"]["patience"] == 10


def test_initialisation() -> None:
    """Kaiming-uniform of every linear and vector, within sqrt(6 / fan-in) of zero; biases zero."""
    module = make(PAIRS_OF_TOWERS[0], hidden=64)
    for name, parameter in module.predictor.named_parameters():
        if name.startswith("norms"):
            assert bool((parameter == float(name.endswith("weight"))).all())
        elif name.endswith(("bias", "up_bias", "down_bias")):
            assert not parameter.any(), name
        else:
            bound = math.sqrt(6 / parameter.shape[-1])
            assert 0.85 * bound < parameter.abs().max() <= bound, name
            if parameter.numel() > 500:
                assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1), name


def test_parameters_are_made_in_one_order_in_every_process() -> None:
    """Else one seed would start them differently: sets of names have no order of their own."""
    widths = {f"m{i}": 4 for i in range(8)}
    others = [name for name in widths if name != "m0"]
    directions = [Direction(("m0",), name) for name in others]
    directions += [Direction((name,), "m0") for name in reversed(others)]
    predictor = Predictor(widths, directions, hidden=4, num_experts=2, top_k=1)
    for parts in (predictor.inputs, predictor.targets):
        assert list(parts) == sorted(parts)
