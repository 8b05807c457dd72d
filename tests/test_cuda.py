"""What only a CUDA card can show; `benchmarks/gpu.sh` runs these tests, elsewhere they skip."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from running import CONFIGS, LORA, last, load, main, scalars, tiny
from runs import DATA, SCHEDULE, TRAINED
from torch import distributed
from training import batch_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card"),
]
CARD = ("--trainer.accelerator", "gpu", "--trainer.devices", "1")
ONE_CARD = (  # sharding over a single process: all of its code paths, no second card
    *("--trainer.strategy.data_parallel_size", "1"),
    *("--trainer.strategy.tensor_parallel_size", "1"),
)


def overlay(name: str) -> tuple[str, ...]:
    """Return the arguments of an overlay."""
    return ("--config", str(CONFIGS / "overlays" / f"{name}.yaml"))


def needs(package: str) -> pytest.MarkDecorator:
    """Skip where a package is missing."""
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"needs the package {package}")


def losses(folder: Path) -> list[float]:
    """Return the last logged losses of training and validation."""
    values = scalars(folder)
    return [values["train/loss"], values["val/loss"]]


@pytest.fixture(autouse=True)
def no_processes() -> Iterator[None]:
    """End the process group of a sharded run: the next test's processor is not part of it."""
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.mark.parametrize("case", TRAINED)
def test_a_card_trains_as_the_processor_does(case: str, tmp_path: Path) -> None:
    """Float32 on both: a card goes on from the processor's second step, to the same losses.

    From the start they differ: a card draws other numbers for new weights, and for dropout.
    """
    given = (*TRAINED[case], *(("--model.dropout", "0") if case == "m3_jepa" else ()))
    half = tmp_path / "cpu" / "checkpoints" / "step-2.ckpt"
    found = []
    for name, device in (("cpu", ()), ("card", (*CARD, "--ckpt_path", str(half)))):
        root = ("--trainer.default_root_dir", str(tmp_path / name))
        main("fit", *given, *DATA, *SCHEDULE, *device, *root)
        assert load(last(tmp_path / name))["global_step"] == 4
        found.append(losses(tmp_path / name))
    assert found[1] == pytest.approx(found[0], rel=0.02, abs=0.02)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(overlay("gpu"), id="compiled blocks"),
        pytest.param(("--config", LORA, *overlay("gpu")), id="adapters, compiled"),
        pytest.param(overlay("flash_attention"), id="FlashAttention", marks=needs("flash_attn")),
        pytest.param(overlay("qlora"), id="4 bits", marks=needs("bitsandbytes")),
        pytest.param((*overlay("fsdp2"), *ONE_CARD), id="FSDP2"),
        pytest.param(overlay("fsdp1"), id="FSDP1"),
    ],
)
@pytest.mark.parametrize("config", ["methanol", "hdlm", "straq"])
def test_overlays(config: str, given: tuple[str, ...], tmp_path: Path) -> None:
    """Training is stable in bfloat16, and stays near the float32 run on the processor."""
    args = (*tiny(config), *DATA, *SCHEDULE)
    main("fit", *args, "--trainer.default_root_dir", str(tmp_path / "cpu"))
    root = ("--trainer.default_root_dir", str(tmp_path / "card"))
    on_card = (*args, *given, *CARD, "--trainer.precision", "bf16-mixed", *root)
    if config == "straq" and given == overlay("fsdp1"):
        with pytest.raises(SystemExit):  # its target network is a copy of weights that FSDP1 holds
            main("fit", *on_card)
        return
    main("fit", *on_card)
    assert losses(tmp_path / "card") == pytest.approx(losses(tmp_path / "cpu"), rel=0.1, abs=0.1)


@needs("flash_attn")
@pytest.mark.parametrize("padding_free", [True, False])
def test_flash_attention_kernels(
    make: Callable[..., Any], triples: list[Any], padding_free: bool
) -> None:
    """States and gradients of a batch are those of sdpa, packed and padded."""
    found = []
    for attention in ("sdpa", "flash_attention_2"):
        backbone = {"attention": attention}
        options = {"spread": 3.0, "padding_free": padding_free, "backbone": backbone}
        module = make("MeTHanol", "tiny-llama", **options).cuda()
        batch = batch_of(module, triples).to(torch.device("cuda"))
        with torch.autocast("cuda", torch.bfloat16):
            states = [h.flatten(0, 1)[batch.labels.flatten() >= 0] for h in module(batch)]
        torch.stack([h.float().square().mean() for h in states]).sum().backward()
        found.append([*states, module.lm.model.layers[0].self_attn.v_proj.weight.grad])
    for ours, want in zip(found[1], found[0], strict=True):
        assert torch.nn.functional.cosine_similarity(ours, want).min() > 0.99


@pytest.mark.parametrize("case", ["alpo_preference", "mupas_silence"])
def test_flex_attention_reads_trees_as_sdpa_does(case: str, tmp_path: Path) -> None:
    """Float32: the losses of a few steps over trees, forward and backward, are those of sdpa."""
    found = []
    for attention in ("sdpa", "flex_attention"):
        root = ("--trainer.default_root_dir", str(tmp_path / attention))
        chosen = ("--model.backbone.attention", attention)
        main("fit", *TRAINED[case], *DATA, *SCHEDULE, *CARD, *chosen, *root)
        found.append(losses(tmp_path / attention))
    assert found[1] == pytest.approx(found[0], rel=1e-3)
