"""Types of weights and of what is computed: masters in float32, float16 with a scaled loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import yaml
from lightning.pytorch.plugins import MixedPrecision
from running import CONFIGS, main, tiny
from training import Fixed, quiet_trainer

import zoo
from zoo import precision
from zoo.errors import InputError

STEPS = 6
PARTS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"lora": {"rank": 4}},
    "heads": {"freeze": True},
}


class Start(lightning.Callback):
    """Keep the weights that a run starts from, and each step's norm."""

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        self.weights = {name: p.detach().clone() for name, p in module.named_parameters()}
        self.norms: list[float] = []

    def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.norms.append(float(trainer.callback_metrics.get("train/grad_norm", -1)))


def train(module: Any, records: list[Any], steps: int = STEPS, **options: Any) -> Start:
    """Train for some steps on one batch."""
    start = Start()
    trainer = quiet_trainer(max_epochs=-1, max_steps=steps, callbacks=[start], **options)
    trainer.fit(module, datamodule=Fixed(records, steps))
    return start


def moved(method: str, part: str, dtype: str, records: list[Any]) -> float:
    """Return the share of trained entries that some steps at 1e-5 move."""
    optimizer = zoo.Optimizer(lr=1e-5, warmup_ratio=0, schedule="constant", weight_decay=0)
    backbone = zoo.Backbone("tiny-llama", dtype=dtype, **PARTS[part])  # type: ignore[arg-type]
    module = getattr(zoo, method)(backbone, optimizer)
    start = train(module, records, precision="bf16-mixed")
    changed = {name: p != start.weights[name] for name, p in module.named_parameters()}
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    for name, p in module.named_parameters():
        assert p.dtype == (torch.float32 if name in trained else getattr(torch, dtype)), name
        assert name in trained or not changed[name].any(), name
    return torch.cat([changed[name].flatten() for name in trained]).float().mean().item()


@pytest.mark.parametrize(
    ("method", "part"),
    [("SFT", "full"), ("MeTHanol", "heads"), ("MeTHanol", "lora")],
)
def test_small_steps_move_what_is_trained(method: str, part: str, triples: list[Any]) -> None:
    """As many entries as with float32 throughout; what is frozen keeps its type and its bits."""
    exact = moved(method, part, "float32", triples)
    assert moved(method, part, "bfloat16", triples) == pytest.approx(exact, abs=0.02)
    assert exact > 0.5


# -- float16: the loss is scaled ---------------------------------------------------------------


def half(scale: float) -> dict[str, Any]:
    """Return the options of a Trainer that computes in float16 on the CPU."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)], "gradient_clip_val": 0.5}


def test_float16_clips_what_the_scale_is_divided_out_of(triples: list[Any]) -> None:
    """The logged norm and the step are those of float32 whatever the scale."""
    wanted = train(module := zoo.SFT(zoo.Backbone("tiny-llama")), triples, 3, gradient_clip_val=0.5)
    for scale in (1.0, 256.0):
        found = train(other := zoo.SFT(zoo.Backbone("tiny-llama")), triples, 3, **half(scale))
        assert found.norms == pytest.approx(wanted.norms, rel=0.01)
        for p, q in zip(module.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(q, p, rtol=0, atol=1e-4)


def test_float16_leaves_out_steps_that_overflow(triples: list[Any]) -> None:
    """The scale is halved until gradients are finite; what never is ends the run."""
    module = zoo.SFT(zoo.Backbone("tiny-llama"), zoo.Optimizer(lr=1e-3, warmup_ratio=0))
    start = train(module, triples, 8, **half(2.0**20))
    skipped = sum(not torch.tensor(norm).isfinite() for norm in start.norms)
    assert 0 < skipped < 8
    assert all(p.isfinite().all() for p in module.parameters())
    assert not torch.equal(module.lm.lm_head.weight, start.weights["lm.lm_head.weight"])

    class Broken(zoo.SFT):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) * float("nan")

    with pytest.raises(RuntimeError, match="gradient norm is nan at step 3"):
        train(broken := Broken(zoo.Backbone("tiny-llama")), triples, 8, **half(8.0))
    assert all(p.isfinite().all() for p in broken.parameters())


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "asked", "line"),
    [
        ({}, "bf16-true", "bf16-true is not supported; use 32-true, bf16-mixed, 16-mixed"),
        ({}, "16-true", "16-true is not supported"),
        ({}, "64-true", "64-true is not supported"),
        ({"dtype": "bfloat16"}, "32-true", "32-true does not fit model.backbone.dtype: bfloat16"),
    ],
)
def test_precision_that_does_not_fit(
    backbone: dict[str, Any], asked: Any, line: str, triples: list[Any]
) -> None:
    with pytest.raises(InputError, match=f"trainer.precision: {line}"):
        train(zoo.SFT(zoo.Backbone("tiny-llama", **backbone)), triples, 1, precision=asked)


def test_generation_after_training_with_two_types(triples: list[Any]) -> None:
    """Frozen weights in bfloat16 and trained ones in float32 answer outside of a Trainer, too."""
    module = zoo.MeTHanol(zoo.Backbone("tiny-llama", dtype="bfloat16", freeze=True))
    train(module, triples, 1, precision="bf16-mixed")
    assert len(module.generate(triples)) == len(triples)


# -- what a processor is fast in ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("has", "chosen", "why"),
    [
        ({"avx2": True, "avx512_f": True}, "32-true", "no bfloat16 instructions"),
        ({"avx512_bf16": True}, "bf16-mixed", "(avx512_bf16)"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16-mixed", "(amx_bf16)"),
    ],
)
def test_precision_of_the_processor(
    has: dict[str, bool],
    chosen: str,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line says which and why; the run's config keeps it."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    main(
        *("fit", *tiny("methanol"), "--trainer.precision", "null", "--trainer.max_steps", "1"),
        *("--data.num_train", "8", "--data.max_val", "1", "--trainer.val_check_interval", "1"),
        *("--trainer.default_root_dir", str(tmp_path)),
    )
    (line,) = [s for s in capsys.readouterr().out.splitlines() if s.startswith("precision ")]
    assert chosen in line
    assert why in line
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["trainer"]["precision"] == chosen


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_default_configs_leave_the_precision_to_the_processor(path: Path) -> None:
    given = yaml.safe_load(path.read_text()).get("trainer", {}).get("precision")
    assert given in (None, "32-true")


def test_other_processors() -> None:
    assert precision.best("mps")[0] == "32-true"
