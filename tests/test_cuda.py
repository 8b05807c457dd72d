"""What only a CUDA card can show; `benchmarks/gpu.sh` runs these tests, elsewhere they skip."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from running import CONFIGS, LORA, last, load, main, scalars, tiny
from runs import DATA, SCHEDULE, TRAINED
from torch import distributed

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
    main("fit", *args, *given, *CARD, "--trainer.precision", "bf16-mixed", *root)
    assert losses(tmp_path / "card") == pytest.approx(losses(tmp_path / "cpu"), rel=0.1, abs=0.1)
