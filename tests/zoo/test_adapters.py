"""Several adapters over one base: who computes, who learns, how they are saved and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from training import Data, quiet_trainer
from transformers import AutoModelForCausalLM

import zoo
from zoo import export
from zoo.adapters import adapter_names, adapter_of, using
from zoo.copies import add_copies
from zoo.errors import InputError

LORA = {"rank": 4, "alpha": 8.0}
IDS = torch.arange(3, 43)[None]


class Roles(zoo.SFT):
    """Learns with the policy in even steps and with the critic in odd ones, at two rates."""

    adapters: ClassVar[tuple[str, ...]] = ("policy", "critic")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        with using(self.lm, self.adapters[self.global_step % 2]):
            return super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        return zoo.optimizer.adamw(
            self.optimizer, trained, 4, lambda name: 1e-2 if adapter_of(name) == "policy" else 1e-3
        )


class CopiedRoles(Roles):
    """The same with a full copy of the model for each role."""

    def install(self) -> None:
        super().install()
        add_copies(self.lm, self.adapters)


KINDS = ("adapters", "copies", "copies of a tied model")


def roles(kind: str, seed: int = 0) -> Roles:
    torch.manual_seed(seed)
    optimizer, lora = {"lr": 1e-2, "schedule": "constant"}, LORA if kind == "adapters" else None
    backbone = {"name": "tiny-qwen2" if "tied" in kind else "tiny-llama", "lora": lora}
    return (Roles if lora else CopiedRoles)(backbone, optimizer, max_generated=0)


@pytest.fixture(params=KINDS)
def moved(request: pytest.FixtureRequest) -> Roles:
    """Both adapters or copies away from their start, which changes nothing."""
    module = roles(request.param)
    module.configure_model()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if adapter_of(name):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


def logits(module: Roles, name: str | None) -> torch.Tensor:
    with using(module.lm, name):
        return module.lm(IDS).logits


def test_each_adapter_is_another_model_over_one_base(moved: Roles) -> None:
    policy, critic, base = (logits(moved, name) for name in ("policy", "critic", None))
    assert not torch.allclose(policy, critic, atol=1e-3)
    assert not torch.allclose(policy, base, atol=1e-3)
    plain = zoo.backbone.load(zoo.Backbone(moved.backbone.name))[0]
    torch.testing.assert_close(base, plain(IDS).logits)
    own = sum(p.numel() for n, p in moved.lm.named_parameters() if adapter_of(n) is None)
    assert own == sum(p.numel() for p in plain.parameters()), "a second copy of the base"
    assert adapter_names(moved.lm) == ("policy", "critic")


@pytest.mark.parametrize(("model", "tied"), [("tiny-llama", False), ("tiny-qwen2", True)])
def test_copies_share_what_the_model_shares(model: str, tied: bool) -> None:
    lm = zoo.backbone.load(zoo.Backbone(model))[0]
    add_copies(lm, ("policy", "critic"))
    for name in (None, "policy", "critic"):
        with using(lm, name):
            assert (lm.lm_head.weight is lm.model.embed_tokens.weight) == tied
    copies = lm.lm_head.copies
    assert copies["policy"].weight is not copies["critic"].weight


@pytest.mark.parametrize("name", ["policy", "critic"])
def test_a_pass_has_a_gradient_of_its_own_adapter_alone(moved: Roles, name: str) -> None:
    trained = {n: p for n, p in moved.named_parameters() if p.requires_grad}
    assert {adapter_of(n) for n in trained} == {"policy", "critic"}
    logits(moved, name).logsumexp(-1).sum().backward()
    assert {adapter_of(n) for n, p in trained.items() if p.grad is not None} == {name}
    assert all(p.requires_grad for p in trained.values())


def test_contexts_nest_and_end_as_they_began(moved: Roles) -> None:
    policy = logits(moved, "policy")
    with using(moved.lm, "critic"):
        with pytest.raises(RuntimeError), using(moved.lm, None):
            raise RuntimeError
        torch.testing.assert_close(moved.lm(IDS).logits, logits(moved, "critic"))
    torch.testing.assert_close(moved.lm(IDS).logits, policy)
    with (
        pytest.raises(InputError, match=r"no 'polcy'; did you mean 'policy'"),
        using(moved.lm, "polcy"),
    ):
        pass


def states(module: Roles) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", KINDS)
def test_steps_move_their_own_adapter_at_its_own_rate(kind: str) -> None:
    module = roles(kind)
    module.configure_model()
    before = states(module)
    quiet_trainer(max_steps=1, limit_val_batches=0).fit(module, Data(batch_size=2))
    changes = {n: (p - before[n]).abs().max() for n, p in states(module).items()}
    assert max(v for n, v in changes.items() if adapter_of(n) == "critic") == 0
    first = max(v for n, v in changes.items() if adapter_of(n) == "policy")
    assert first == pytest.approx(1e-2, rel=0.2)  # Adam's first step is the rate


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_resumes(kind: str, tmp_path: Path) -> None:
    whole = roles(kind)
    quiet_trainer(max_steps=4, limit_val_batches=0).fit(whole, Data(batch_size=2))
    half = quiet_trainer(max_steps=2, limit_val_batches=0)
    half.fit(roles(kind), Data(batch_size=2))
    half.save_checkpoint(tmp_path / "half.ckpt")
    rest = roles(kind, seed=1)
    quiet_trainer(max_steps=4, limit_val_batches=0).fit(
        rest, Data(batch_size=2), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    for name, value in states(whole).items():
        assert torch.equal(value, states(rest)[name]), name


def test_export_one_by_one_and_merged(moved: Roles, tmp_path: Path) -> None:
    """peft reads adapters; plain transformers reads a merged one; `zoo.load` restores all."""
    from peft import PeftModel

    wanted = {name: logits(moved, name) for name in ("policy", "critic", None)}
    export.save(moved, tmp_path / "all")
    restored = export.load(tmp_path / "all", type(moved))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "all", local_files_only=True)
    torch.testing.assert_close(base(IDS).logits, wanted[None], atol=1e-5, rtol=1e-5)
    for name in ("policy", "critic"):
        torch.testing.assert_close(logits(restored, name), wanted[name], atol=1e-5, rtol=1e-5)
        if moved.backbone.lora is not None:
            fresh = AutoModelForCausalLM.from_pretrained(tmp_path / "all", local_files_only=True)
            peft = PeftModel.from_pretrained(fresh, tmp_path / "all" / "adapters" / name)
            torch.testing.assert_close(peft(IDS).logits, wanted[name], atol=1e-4, rtol=1e-4)
        export.save_merged(moved, tmp_path / name, name)
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / name, local_files_only=True)
        torch.testing.assert_close(plain(IDS).logits, wanted[name], atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="exists"):
        export.save_merged(moved, tmp_path / "all", "policy")
