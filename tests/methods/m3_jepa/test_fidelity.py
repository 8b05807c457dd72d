"""The nine properties of M3-JEPA's sheet (arXiv 2409.05929, section 7) and its section 6.

The reference in this file is an independent transcription of the sheet: Hugging Face's own list of
hidden states, all N experts on every token and then a gather of the best K, every mean over the
sequence taken last, both losses written out, autograd. It uses nothing of `zoo` but the weights.
"""

from __future__ import annotations

import functools
import io
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from running import CONFIGS
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear
from training import quiet_trainer
from transformers import AutoModel

import zoo
from datamodules import DigitsText
from zoo.methods.m3_jepa.predictor import Direction, Predictor
from zoo.records import Media, MediaText

I2T, T2I = "image2text", "text2image"
WAYS = (I2T, T2I)
PAIRS_OF_TOWERS = (
    ("tiny-bert", "tiny-vit"),
    ("tiny-llama", "tiny-dinov2"),
    ("tiny-qwen2", "tiny-vit"),
)
SMALL = {"hidden": 24, "num_experts": 12, "top_k": 4}


# -- the transcription -------------------------------------------------------------------------


class Reference:
    """The sheet's section 2 and 3 on the module's own parameters, `(B, L, D)` all along."""

    def __init__(self, module: Any) -> None:
        self.weights = dict(module.named_parameters())
        self.towers = {name: tower.model for name, tower in module.towers.items()}

    def layer(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def states(self, batch: Any, modality: str) -> Tensor:
        """Return the mean of the last two entries of the list of hidden states."""
        out = self.towers[modality](**batch.inputs[modality], output_hidden_states=True)
        return (out.hidden_states[-1] + out.hidden_states[-2]) / 2

    def gate(self, x: Tensor, branch: int, *, concat: bool = False) -> Tensor:
        """Return the softmax over all N experts."""
        e = self.weights[f"predictor.branch_vectors.{branch}"]
        read = torch.cat([x, e.expand_as(x)], -1) if concat else x + e
        return self.layer("predictor.gate", read).softmax(-1)

    def enter(self, states: Tensor, way: str) -> Tensor:
        """Return X: direction vector, projection of the source, GELU."""
        source = way.split("2")[0]
        moved = states + self.weights[f"predictor.direction_vectors.{way}:{source}"]
        return gelu(self.layer(f"predictor.inputs.{source}", moved))

    def experts(self, x: Tensor) -> Tensor:
        """Return every expert of every token, `(B, L, N, H)`."""
        w = {n: self.weights[f"predictor.experts.{n}"] for n in ("up_NHH", "down_NHH")}
        b = {n: self.weights[f"predictor.experts.{n}"] for n in ("up_bias", "down_bias")}
        made = [
            linear(
                gelu(linear(x, w["up_NHH"][n], b["up_bias"][n])),
                w["down_NHH"][n],
                b["down_bias"][n],
            )
            for n in range(len(w["up_NHH"]))
        ]
        return torch.stack(made, -2)

    def branch(self, x: Tensor, branch: int, top_k: int, *, concat: bool = False) -> Tensor:
        """Return Z_b = X_b + GELU(LayerNorm_b(M_b))."""
        x_b = x + self.weights[f"predictor.branch_vectors.{branch}"]
        best = self.gate(x, branch, concat=concat).sort(-1, descending=True)
        weight, chosen = best.values[..., :top_k], best.indices[..., :top_k]
        made = self.experts(x if concat else x_b)
        picked = made.gather(-2, chosen[..., None].expand(*chosen.shape, made.shape[-1]))
        mixed = (weight[..., None] * picked).sum(-2)
        scale, shift = (self.weights[f"predictor.norms.{branch}.{n}"] for n in ("weight", "bias"))
        return x_b + gelu(layer_norm(mixed, mixed.shape[-1:], scale, shift))

    def vectors(
        self, batch: Any, way: str, top_k: int, *, concat: bool = False, masked: bool = False
    ) -> dict[str, Tensor]:
        """Return p, the target's mean state, c_src and c_tgt."""
        source, target = way.split("2")
        masks = {
            m: batch.inputs[m].get("attention_mask") if masked else None for m in (source, target)
        }

        def mean(x: Tensor, modality: str) -> Tensor:
            if masks[modality] is None:
                return x.mean(1)
            rows = zip(x, masks[modality].sum(1).tolist(), strict=True)
            return torch.stack([row[:length].mean(0) for row, length in rows])

        x = self.enter(self.states(batch, source), way)
        reg, cl = (self.branch(x, b, top_k, concat=concat) for b in (0, 1))
        wanted = self.states(batch, target)
        return {
            "predicted": mean(self.layer(f"predictor.regression.{way}", reg), source),
            "wanted": mean(wanted, target),
            "source": mean(self.layer(f"predictor.contrastive.{way}", cl), source),
            "target": mean(self.layer(f"predictor.targets.{target}", wanted), target),
        }


def smooth_l1(p: Tensor, t: Tensor) -> Tensor:
    """Return the mean over all numbers of d^2 / 2 where |d| < 1, |d| - 1/2 elsewhere."""
    d = (p - t).abs()
    return torch.where(d < 1, d * d / 2, d - 0.5).mean()


def symmetric_info_nce(source: Tensor, target: Tensor, tau: float) -> Tensor:
    """Return 1/2 [CE(c_src c_tgt^T / tau, I) + CE(c_tgt c_src^T / tau, I)], lengths one."""
    s, t = (x / x.pow(2).sum(1, keepdim=True).sqrt() for x in (source, target))
    logits = s @ t.T / tau
    rows = [logits[i].logsumexp(0) - logits[i, i] for i in range(len(s))]
    columns = [logits[:, i].logsumexp(0) - logits[i, i] for i in range(len(s))]
    return (torch.stack(rows).mean() + torch.stack(columns).mean()) / 2


# -- helpers -----------------------------------------------------------------------------------


def make(towers: Sequence[str], *, spread: float = 1.0, **options: Any) -> Any:
    """Build a module on tiny towers; `spread` scales the weight matrices of their blocks."""
    given = {"text": towers[0], "image": towers[1]}
    tower = options.pop("tower", {})
    configs = {name: {"name": found, **tower} for name, found in given.items()}
    module = zoo.M3JEPA(**configs, **{**SMALL, **options})
    module.configure_model()
    with torch.no_grad():
        for encoder in module.towers.values():
            for block in encoder.blocks:
                for parameter in block.parameters():
                    if parameter.ndim > 1:
                        parameter.mul_(spread)
    return module.eval()


def png(seed: int) -> bytes:
    """Return a random picture of 28 x 28."""
    import numpy as np
    from PIL import Image

    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def pairs(count: int, seed: int = 0) -> list[MediaText]:
    """Return pictures with texts of clearly different lengths."""
    rng = random.Random(seed)
    found = []
    for i in range(count):
        text = f"{i} " + "".join(rng.choices("abcdefgh ", k=rng.randrange(2, 16)))
        found.append(MediaText(Media(f"{seed}-{i}", data=png(100 * seed + i)), (text,), id=str(i)))
    return found


def batch_of(module: Any, records: Sequence[MediaText]) -> Any:
    """Return one batch with the number of its pairs as the normaliser."""
    encoder = module.encoder()
    examples = [example for record in records for example in encoder(record)]
    return encoder.collate(examples, {0: float(len(examples))})


def at_step(module: Any, step: int) -> Any:
    """Let `training_step` run without a Trainer, as at a number of past optimiser steps."""
    module.log = lambda *args, **kwargs: None
    module._trainer = SimpleNamespace(global_step=step, world_size=1)
    return module


def our_step(module: Any, batch: Any, step: int) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Return the module's own training loss at a step, and its gradients by parameter name."""
    module.zero_grad(set_to_none=True)
    loss = at_step(module, step).training_step(batch, 0)
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in module.named_parameters() if p.requires_grad}


def our_vectors(module: Any, batch: Any, way: str) -> Any:
    direction = module.directions[WAYS.index(way)]
    tokens = {m: module.encode(batch, m) for m in ("text", "image")}
    return module(tokens, direction)


def gradients(loss: Tensor, module: Any) -> dict[str, Tensor | None]:
    """Return the gradient of a transcribed loss by parameter name."""
    named = {n: p for n, p in module.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return dict(zip(named, found, strict=True))


def assert_same_gradients(
    ours: Mapping[str, Tensor | None], expected: Mapping[str, Tensor | None]
) -> None:
    assert ours.keys() == expected.keys()
    for name, want in expected.items():
        got = ours[name]
        if want is None:
            assert got is None, f"{name} should get no gradient"
        else:
            assert got is not None, f"{name} gets no gradient"
            scale = want.abs().max().item()
            torch.testing.assert_close(
                got, want, rtol=1e-4, atol=1e-5 * scale + 1e-9, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.fixture(params=PAIRS_OF_TOWERS, ids="+".join)
def towers(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Names of a text and a picture encoder."""
    return request.param


# -- 1: size -----------------------------------------------------------------------------------


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


# -- the equations: values and gradients -------------------------------------------------------


@pytest.mark.fidelity("m3_jepa", 3)
@pytest.mark.fidelity("m3_jepa", 6)
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("step", [0, 1])
def test_values_and_gradients_are_the_transcriptions(
    towers: tuple[str, str], step: int, masked: bool
) -> None:
    """p, both means, c_src, c_tgt, L_reg, L_cl, L and all its gradients, in each direction."""
    module, way = make(towers, spread=5.0, mask_padding=masked), WAYS[step]
    batch = batch_of(module, pairs(5))
    expected = Reference(module).vectors(batch, way, 4, masked=masked)
    found = our_vectors(module, batch, way)
    for name, want in expected.items():
        torch.testing.assert_close(getattr(found, name), want, rtol=1e-5, atol=1e-5)
    l_reg = smooth_l1(expected["predicted"], expected["wanted"])
    l_cl = symmetric_info_nce(expected["source"], expected["target"], 0.03)
    terms = module.losses(found)
    torch.testing.assert_close(terms["regression"].mean, l_reg.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(terms["contrastive"].mean, l_cl.detach(), rtol=1e-5, atol=1e-5)
    loss, ours = our_step(module, batch, step)
    torch.testing.assert_close(loss, (l_reg / 2 + l_cl / 2).detach(), rtol=1e-5, atol=1e-5)
    assert_same_gradients(ours, gradients(l_reg / 2 + l_cl / 2, module))
    moved = {n for n, g in ours.items() if n.startswith("towers.") and g is not None and g.any()}
    assert {n.split(".")[1] for n in moved} == {"text", "image"}  # no detach: both sides learn


@pytest.mark.parametrize("masked", [True, False])
def test_padding_counts_only_if_it_is_not_masked(towers: tuple[str, str], masked: bool) -> None:
    """Masked: a short text has the vectors that it has alone. Unmasked, as released: it has not."""
    module = make(towers, spread=5.0, mask_padding=masked)
    records = sorted(pairs(6), key=lambda record: len(record.texts[0]))
    together, alone = (batch_of(module, some) for some in (records, records[:1]))
    with torch.no_grad():
        for way in WAYS:
            batched = our_vectors(module, together, way).rows([0])
            single = our_vectors(module, alone, way)
            names = ("predicted", "source") if way == T2I else ("wanted", "target")
            for name in names:
                same = torch.allclose(
                    getattr(batched, name), getattr(single, name), rtol=1e-4, atol=1e-5
                )
                assert same == masked, name


# -- 2: the encoders ---------------------------------------------------------------------------


class Watch(Callback):
    """Notes, for every optimiser step, the directions run, the missing gradients, what moved."""

    def __init__(self) -> None:
        self.ways: list[list[str]] = []
        self.missing: list[set[str]] = []
        self.moved: list[set[str]] = []
        self.now: list[str] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        def note(_: Any, args: tuple[Any, ...]) -> None:
            if pl_module.training:
                self.now.append(args[1].name)

        self.before = self.values(pl_module)
        self.hook = pl_module.register_forward_pre_hook(note)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.missing.append(
            {n for n, p in pl_module.named_parameters() if p.requires_grad and p.grad is None}
        )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if len(self.missing) > len(self.moved):  # an optimiser step was taken
            after = self.values(pl_module)
            self.moved.append({n for n in after if not torch.equal(after[n], self.before[n])})
            self.before = after
            self.ways.append(self.now)
            self.now = []

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self.hook.remove()

    @staticmethod
    def values(module: Any) -> dict[str, Tensor]:
        return {n: p.detach().clone() for n, p in module.named_parameters()}


def fit(module: Any, steps: int, *, ckpt_path: str | None = None, **options: Any) -> Any:
    """Train on digits with Lightning's own Trainer; return the trainer and what was watched."""
    watch = Watch()
    once = {"max_steps": steps, "limit_val_batches": 0, "gradient_clip_val": 1.0}
    trainer = quiet_trainer(**once, callbacks=[watch], **options)
    data = DigitsText(batch_size=4, max_train=40, max_val=8)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return trainer, watch


def constant(lr: float = 1e-2, **options: Any) -> Any:
    return zoo.Optimizer(lr=lr, schedule="constant", warmup_ratio=0.0, **options)


def learner(towers: Sequence[str], **options: Any) -> Any:
    """Return a module that is ready to train."""
    torch.manual_seed(0)
    return make(towers, optimizer=options.pop("optimizer", constant()), **options).train()


def adapted_parts(tower: Any) -> list[tuple[int, str]]:
    """Return the block and the name of every part that has an adapter."""
    return [
        (i, name)
        for i, block in enumerate(tower.blocks)
        for name, part in block.named_modules()
        if hasattr(part, "lora_A")
    ]


@pytest.mark.fidelity("m3_jepa", 2)
@pytest.mark.parametrize("biases", [True, None])
def test_base_weights_stay_bit_identical(towers: tuple[str, str], biases: bool | None) -> None:
    """Real steps change adapters alone, as released: no parameter without "lora" in its name.

    With `adapter_bias` the biases of the adapted query and value change too.
    """
    module = learner(towers, tower={} if biases is None else {"adapter_bias": biases})
    before = {n: t.clone() for n, t in module.towers.state_dict().items()}
    fit(module, 6)
    moved = {n for n, t in module.towers.state_dict().items() if not torch.equal(t, before[n])}
    allowed, adapters = set(), set()
    for modality, tower in module.towers.items():
        prefixes = [n for n, part in tower.named_modules() if hasattr(part, "lora_A")]
        for prefix in prefixes:
            where = f"{modality}.{prefix}"
            adapters |= {f"{where}.lora_{side}.default.weight" for side in "AB"}
            bias = f"{where}.base_layer.bias"
            allowed |= {bias} & set(before)
    assert allowed, "no shape here has biases"
    assert moved == adapters | (allowed if biases else set())
    trained = {n for n, p in module.towers.named_parameters() if p.requires_grad}
    assert trained == moved
    assert biases or all("lora" in name for name in trained)


@pytest.mark.fidelity("m3_jepa", 2)
def test_adapters_are_on_query_and_value_of_the_last_three_blocks(towers: tuple[str, str]) -> None:
    """And nowhere else; rank 4, scale 16 / 4, dropout 0.1 in training only."""
    module = make(towers)
    for modality, tower in module.towers.items():
        assert len(tower.blocks) == 4
        found = adapted_parts(tower)
        assert [i for i, _ in found] == [1, 1, 2, 2, 3, 3]
        kinds = {name.rpartition(".")[2] for _, name in found}
        assert kinds in ({"q_proj", "v_proj"}, {"query", "value"}), (modality, kinds)
        every = [name for name, part in tower.named_modules() if hasattr(part, "lora_A")]
        assert len(every) == 6, "an adapter outside the blocks"
        for i, name in found:
            part = tower.blocks[i].get_submodule(name)
            assert part.lora_A["default"].weight.shape == (4, 32)
            assert part.scaling["default"] == 16 / 4
            dropout = part.lora_dropout["default"]
            assert (dropout.p, dropout.training) == (0.1, False)
            module.train()
            assert dropout.training
            assert not tower.model.training
            module.eval()


@pytest.mark.fidelity("m3_jepa", 2)
@pytest.mark.parametrize("pissa", [True, False])
def test_the_encoder_starts_as_the_pretrained_one(towers: tuple[str, str], pissa: bool) -> None:
    """Frozen base plus fresh adapters compute what Hugging Face's model does, entries -1 and -2.

    PiSSA moves the leading four singular directions of q and v into the adapters, so the frozen
    rest differs from the pretrained weight by exactly those; all other weights are the same.
    """
    module = make(towers, tower={"pissa": pissa})
    batch = batch_of(module, pairs(4))
    for modality, tower in module.towers.items():
        torch.manual_seed(0)
        plain = AutoModel.from_config(tower.model.config).eval()  # tiny encoders: seed 0
        inputs = batch.inputs[modality]
        with torch.no_grad():
            entries = plain(**inputs, output_hidden_states=True).hidden_states
            found = tower(inputs)
        mask = inputs.get("attention_mask", torch.ones(found.shape[:2])).bool()
        expected = (entries[-1] + entries[-2]) / 2
        torch.testing.assert_close(found[mask], expected[mask], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(expected, entries[-1], atol=1e-3)
        original = dict(plain.named_parameters())
        for name, part in tower.model.named_modules():
            if not hasattr(part, "lora_A"):
                continue
            weight = original.pop(f"{name}.weight")
            base = part.base_layer.weight
            added = 4 * part.lora_B["default"].weight @ part.lora_A["default"].weight
            torch.testing.assert_close(base + added, weight, rtol=1e-5, atol=1e-6)
            assert torch.equal(base, weight) != pissa
            if pissa:
                values = torch.linalg.svdvals(weight)
                torch.testing.assert_close(torch.linalg.svdvals(added)[:4], values[:4])
        ours = dict(tower.model.named_parameters())
        for name, weight in original.items():
            found_name = name.replace(".bias", ".base_layer.bias") if name not in ours else name
            assert torch.equal(ours[found_name], weight), name


# -- 3 and 4: the gate -------------------------------------------------------------------------


def routed(module: Any, batch: Any, way: str) -> tuple[Tensor, list[Tensor]]:
    """Run a direction; return the transcription's X, `(T, H)`, and each branch's weights, dense."""
    with torch.no_grad():
        our_vectors(module, batch, way)
        x = Reference(module).enter(Reference(module).states(batch, way.split("2")[0]), way)
    mask = batch.inputs[way.split("2")[0]].get("attention_mask")
    x = x.flatten(0, 1) if mask is None else x[mask.bool()]
    dense = []
    for routing in module.predictor.routings:
        weights = torch.zeros(len(x), module.predictor.gate.out_features)
        dense.append(weights.scatter(1, routing.chosen_TK, routing.weights_TK.detach()))
    return x, dense


@pytest.mark.fidelity("m3_jepa", 3)
@pytest.mark.parametrize("way", WAYS)
def test_four_of_twelve_weights_as_the_softmax_gives_them(
    towers: tuple[str, str], way: str
) -> None:
    """Four non-zero weights per token, summing to less than one, each its share among twelve."""
    module = make(towers, spread=5.0)
    x, dense = routed(module, batch_of(module, pairs(5)), way)
    assert len(dense) == 2
    for branch, weights in enumerate(dense):
        assert ((weights > 0).sum(1) == 4).all()
        assert (weights.sum(1) < 1).all()
        full = Reference(module).gate(x, branch)
        assert full.shape == (len(x), 12)
        threshold = full.sort(1).values[:, -4:-3]
        expected = torch.where(full >= threshold, full, torch.zeros(()))
        torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.fidelity("m3_jepa", 3)
def test_experts_that_are_not_chosen_have_no_say(towers: tuple[str, str]) -> None:
    """What an expert would make of tokens of others neither changes the output nor is learned."""
    module = make(towers, spread=5.0, num_experts=40)
    batch = batch_of(module, pairs(2))
    _, dense = routed(module, batch, I2T)
    used = (torch.cat(dense) > 0).any(0)
    assert not used.all()
    with torch.no_grad():
        before = our_vectors(module, batch, I2T)
        module.predictor.experts.up_NHH[~used] = 1e3
        after = our_vectors(module, batch, I2T)
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    _, found = our_step(module, batch, 0)
    gradient = found["predictor.experts.down_NHH"]
    assert gradient is not None
    assert not gradient[~used].any()
    assert gradient[used].any()


@pytest.mark.fidelity("m3_jepa", 4)
@pytest.mark.parametrize("gate_input", ["add", "concat"])
def test_branches_route_apart_unless_their_vectors_are_equal(
    towers: tuple[str, str], gate_input: str
) -> None:
    """The gate is one; e_reg and e_cl alone make the difference on the same token."""
    module = make(towers, spread=5.0, gate_input=gate_input)
    batch = batch_of(module, pairs(5))
    for way in WAYS:
        _, (reg, cl) = routed(module, batch, way)
        assert (reg != cl).any(1).all(), "a token has the same weights in both"
        assert ((reg > 0) != (cl > 0)).any(1).float().mean() > 0.2, "other experts too, often"
    with torch.no_grad():
        module.predictor.branch_vectors[1].copy_(module.predictor.branch_vectors[0])
    for way in WAYS:
        _, (reg, cl) = routed(module, batch, way)
        assert torch.equal(reg, cl)


# -- 5: one direction per step -----------------------------------------------------------------


def untouched(way: str) -> tuple[str, ...]:
    """Return the beginnings of the names of what a step of the direction leaves alone."""
    source, target = way.split("2")
    other = f"{target}2{source}"
    return (
        f"predictor.regression.{other}.",
        f"predictor.contrastive.{other}.",
        f"predictor.inputs.{target}.",
        f"predictor.direction_vectors.{other}:",
        f"predictor.targets.{source}.",
    )


@pytest.mark.fidelity("m3_jepa", 5)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_alternate_and_leave_the_other_direction_alone(
    towers: tuple[str, str], accumulate: int
) -> None:
    """i2t, t2i, i2t, ...: fixed over the window of an optimiser step, also over an epoch's end.

    In a step the other direction's heads, input projection, direction vector and contrastive
    projection have no gradient and do not change, weight decay and Adam's memory included; all
    else has one and changes.
    """
    module = learner(towers, optimizer=constant(weight_decay=0.2))
    _, watch = fit(module, 7, accumulate_grad_batches=accumulate)
    assert [set(ways) for ways in watch.ways] == [{WAYS[i % 2]} for i in range(7)]
    assert max(len(ways) for ways in watch.ways) == accumulate
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    for (way, *_), missing, moved in zip(watch.ways, watch.missing, watch.moved, strict=True):
        alone = {n for n in trained if n.startswith(untouched(way))}
        assert len(alone) == 9  # four linears with their biases and a vector
        assert missing == alone
        assert not moved & alone
        shared = {n for n in trained - alone if n.startswith("predictor.")}
        assert shared <= moved


@pytest.mark.fidelity("m3_jepa", 5)
def test_a_short_window_at_the_end_of_an_epoch_is_one_turn() -> None:
    """Three batches of an epoch in windows of two: the lone third is a turn of its own."""
    module = learner(PAIRS_OF_TOWERS[0])
    watch = Watch()
    few = {"limit_val_batches": 0, "limit_train_batches": 3, "accumulate_grad_batches": 2}
    trainer = quiet_trainer(max_epochs=2, **few, callbacks=[watch])
    trainer.fit(module, datamodule=DigitsText(batch_size=4, max_train=40, max_val=8))
    assert watch.ways == [[I2T, I2T], [T2I], [I2T, I2T], [T2I]]


@pytest.mark.fidelity("m3_jepa", 5)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resuming_goes_on_with_the_direction_whose_turn_it_is(
    tmp_path: Path, accumulate: int
) -> None:
    """Three steps, a checkpoint, three more: the directions and weights of six unbroken ones."""
    options = {"accumulate_grad_batches": accumulate}
    whole = learner(PAIRS_OF_TOWERS[0])
    _, unbroken = fit(whole, 6, **options)
    trainer, first = fit(learner(PAIRS_OF_TOWERS[0]), 3, **options)
    trainer.save_checkpoint(tmp_path / "three.ckpt")
    torch.manual_seed(7)
    rest = make(PAIRS_OF_TOWERS[0], optimizer=constant()).train()
    _, second = fit(rest, 6, ckpt_path=str(tmp_path / "three.ckpt"), **options)
    assert second.ways[0][0] == T2I
    assert first.ways + second.ways == unbroken.ways
    for name, value in rest.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


def test_joint_training_sums_both_directions(towers: tuple[str, str]) -> None:
    """The ablation: every step has the sum of both directions' losses, and all gradients."""
    module = make(towers, spread=5.0, alternate=False)
    batch = batch_of(module, pairs(5))
    loss, ours = our_step(module, batch, 0)
    single = make(towers, spread=5.0)
    single.load_state_dict(module.state_dict())
    parts = [our_step(single, batch, step) for step in (0, 1)]
    torch.testing.assert_close(loss, parts[0][0] + parts[1][0])
    expected = {
        n: sum((found[n] for _, found in parts if found[n] is not None), torch.zeros(()))
        for n in ours
    }
    assert_same_gradients(ours, expected)


# -- 6: the loss -------------------------------------------------------------------------------


@pytest.mark.fidelity("m3_jepa", 6)
@pytest.mark.parametrize("count", [8, 64, 128])
def test_unrelated_vectors_cost_ln_b(count: int) -> None:
    """L_cl of unrelated random vectors is ln B, and half the variance of the scores above it.

    Cosines of width 2048 have a deviation of 1 / sqrt(2048), which tau = 0.03 makes 0.74.
    """
    from zoo.methods.m3_jepa.contrastive import info_nce

    source, target = torch.randn(2, count, 2048)
    found = info_nce(source, target, 0.03)
    expected = symmetric_info_nce(source, target, 0.03)
    torch.testing.assert_close(found.mean(), expected, rtol=1e-5, atol=1e-5)
    assert abs(found.mean().item() - math.log(count) - 0.74**2 / 2) < 0.3
    assert info_nce(source, source, 0.03).mean() < 1e-3
    torch.testing.assert_close(info_nce(5 * source, target / 3, 0.03), found)


@pytest.mark.fidelity("m3_jepa", 6)
def test_an_untrained_module_costs_about_ln_b(towers: tuple[str, str]) -> None:
    """At random initialisation the partner costs what any other item does, in either direction.

    Where scores are small against tau that is ln B; tau = 0.03 adds what their spread does.
    """
    module = make(towers, hidden=64)
    batch = batch_of(module, pairs(32))
    with torch.no_grad():
        for way in WAYS:
            views = our_vectors(module, batch, way)
            others = [views._replace(target=views.target.roll(i, 0)) for i in range(1, 32)]
            module.temperature = 0.03
            loss = module.losses(views)["contrastive"].mean.item()
            wrong = [module.losses(other)["contrastive"].mean.item() for other in others]
            assert min(wrong) - 0.5 < loss < max(wrong) + 0.5, (way, loss)
            assert math.log(32) - 0.3 < loss < 3 * math.log(32), (way, loss)
            module.temperature = 1.0
            loss = module.losses(views)["contrastive"].mean.item()
            assert abs(loss - math.log(32)) < 0.1, (way, loss)


@pytest.mark.fidelity("m3_jepa", 6)
@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_the_loss_is_the_weighted_sum(alpha: float) -> None:
    """L = alpha L_reg + (1 - alpha) L_cl; with 0.5 exactly half and half."""
    module = make(PAIRS_OF_TOWERS[0], spread=5.0, alpha=alpha)
    batch = batch_of(module, pairs(5))
    for step, way in enumerate(WAYS):
        terms = module.losses(our_vectors(module, batch, way))
        l_reg, l_cl = terms["regression"].mean, terms["contrastive"].mean
        loss, _ = our_step(module, batch, step)
        assert loss.item() == pytest.approx((alpha * l_reg + (1 - alpha) * l_cl).item(), rel=1e-6)


@pytest.mark.fidelity("m3_jepa", 6)
def test_accumulated_batches_are_one_mean() -> None:
    """Two equal micro-batches of a step weigh as much as their mean; negatives stay their own."""
    module = make(PAIRS_OF_TOWERS[0], spread=5.0)
    records = pairs(8)
    both = [our_step(module, batch_of(module, records[i : i + 4]), 0)[1] for i in (0, 4)]
    halves = [batch_of(module, records[i : i + 4]) for i in (0, 4)]
    module.zero_grad(set_to_none=True)
    for half in halves:
        half.normalizers = {0: 8 / 2}  # pairs of the step by Lightning's own division
        (at_step(module, 0).training_step(half, 0) / 2).backward()
    found = {n: p.grad for n, p in module.named_parameters() if p.requires_grad}
    expected = {n: None if a is None else (a + both[1][n]) / 2 for n, a in both[0].items()}
    assert_same_gradients(found, expected)


# -- 7: retrieval ------------------------------------------------------------------------------


class Count:
    """Counts the items that go through each encoder, by what they are."""

    def __init__(self, module: Any) -> None:
        self.seen: dict[str, Counter[bytes]] = {m: Counter() for m in module.towers}
        self.predicted = 0
        for modality, tower in module.towers.items():
            tower.register_forward_pre_hook(self.note(modality))
        module.predictor.register_forward_pre_hook(self.predict)

    def note(self, modality: str) -> Any:
        def hook(_: Any, args: tuple[Any, ...]) -> None:
            given = args[0]
            rows = given["pixel_values"] if "pixel_values" in given else given["input_ids"]
            masks = given.get("attention_mask", [None] * len(rows))
            for row, mask in zip(rows, masks, strict=True):
                item = row if mask is None else row[mask.bool()]
                self.seen[modality][item.numpy().tobytes()] += 1

        return hook

    def predict(self, _: Any, args: tuple[Any, ...]) -> None:
        self.predicted += next(iter(args[0].values())).num_items


@pytest.mark.fidelity("m3_jepa", 7)
def test_gallery_and_queries_are_encoded_once_each(towers: tuple[str, str]) -> None:
    """G + Q encoder items and Q predictor items for G x Q scores, which are cosines of c."""
    module = make(towers, spread=5.0)
    records = pairs(9)
    media, texts = [r.media for r in records], [r.texts[0] for r in records[:4]]
    count = Count(module)
    gallery = module.embed(media, "image")
    assert count.predicted == 0
    for number in (1, 2):  # a gallery serves many rounds of queries
        queries = module.ask(texts, T2I)
        scores = queries @ gallery.T
        assert sum(count.seen["image"].values()) == 9
        assert set(count.seen["image"].values()) == {1}
        assert set(count.seen["text"].values()) == {number}
        assert sum(count.seen["text"].values()) == count.predicted == 4 * number
    with torch.no_grad():
        expected = Reference(module).vectors(batch_of(module, records), T2I, 4, masked=True)
    c_src, c_tgt = (
        expected[n] / expected[n].norm(dim=1, keepdim=True) for n in ("source", "target")
    )
    torch.testing.assert_close(scores, (c_src @ c_tgt.T)[:4], rtol=1e-4, atol=1e-5)


def evaluated(captions: int) -> tuple[Any, list[Any], Count, Mapping[str, float]]:
    """Validate ten pictures in batches of three texts: module, examples, passes, what is logged."""
    module = make(PAIRS_OF_TOWERS[0], spread=5.0)
    records = [
        MediaText(r.media, tuple(f"{r.texts[0]} {i}" for i in range(captions)), id=r.id)
        for r in pairs(10)
    ]
    encoder = module.encoder()
    examples = [example for record in records for example in encoder(record)]
    batches = [encoder.collate(examples[i : i + 3], {0: 3.0}) for i in range(0, len(examples), 3)]
    count = Count(module)
    loader = torch.utils.data.DataLoader(batches, batch_size=None)
    (found,) = quiet_trainer().validate(module, loader, verbose=False)
    return module, examples, count, found


@pytest.mark.parametrize("captions", [1, 2])
def test_an_evaluations_losses_are_of_one_text_per_picture(captions: int) -> None:
    """A second text of a picture in its batch is no negative; a picture alone has none at all."""
    module, examples, _, found = evaluated(captions)
    for way in WAYS:
        regression, contrastive = [], []
        for start in range(0, len(examples), 3):
            part = examples[start : start + 3]
            rows = [i for i, e in enumerate(part) if not i or e.record.id != part[i - 1].record.id]
            batch = module.encoder().collate([part[i] for i in rows], {})
            with torch.no_grad():
                found_by_hand = Reference(module).vectors(batch, way, 4, masked=True)
            p, t, source, target = found_by_hand.values()
            regression += [smooth_l1(p, t).item()] * len(rows)
            cost = symmetric_info_nce(source, target, module.temperature).item()
            contrastive += [cost] * len(rows) if len(rows) > 1 else []
        assert len(regression) > len(contrastive), "no picture is alone in its batch"
        for term, costs in (("regression", regression), ("contrastive", contrastive)):
            expected = pytest.approx(sum(costs) / len(costs), rel=1e-4)
            assert found[f"val/{way}_{term}_loss"] == expected, (way, term)


@pytest.mark.fidelity("m3_jepa", 7)
@pytest.mark.parametrize("captions", [1, 2])
def test_an_evaluation_encodes_every_item_once(captions: int) -> None:
    """Validation over both directions: one pass per picture and per text, recall as by hand."""
    module, examples, count, found = evaluated(captions)
    # By hand, one batch of everything; a query is right if an item of its record is among the k.
    everything = module.encoder().collate(examples, {0: float(len(examples))})
    owner = torch.arange(10).repeat_interleave(captions)
    with torch.no_grad():
        for way in WAYS:
            vectors = Reference(module).vectors(everything, way, 4, masked=True)
            for view, (a, b) in {
                "": ("source", "target"),
                "regression_": ("predicted", "wanted"),
            }.items():
                rows = {"image": range(0, len(owner), captions), "text": range(len(owner))}
                source, target = (list(rows[m]) for m in way.split("2"))
                q, g = vectors[a][source], vectors[b][target]
                scores = torch.nn.functional.cosine_similarity(q[:, None], g[None], dim=2)
                for k in (1, 5):
                    best = owner[target][scores.topk(k).indices]
                    share = (best == owner[source][:, None]).any(1).float().mean().item()
                    assert found[f"val/{view}R@{k}_{way}"] == pytest.approx(share), (view, way, k)
    assert sum(count.seen["text"].values()) == len(examples)
    assert set(count.seen["image"].values()) == {1}, "a picture is encoded again for each caption"
    assert len(count.seen["image"]) == 10


# -- the options of section 6 ------------------------------------------------------------------


def test_concat_and_add_agree_at_the_gate(towers: tuple[str, str]) -> None:
    """g [X ; e] with both halves of g alike is g (X + e): the same softmax, the same choice.

    The experts' input is what differs: X + e_b as released, X as the paper writes it.
    """
    add = make(towers, spread=5.0)
    concat = make(towers, spread=5.0, gate_input="concat")
    state = add.state_dict()
    weight = state["predictor.gate.weight"]
    concat.load_state_dict({**state, "predictor.gate.weight": torch.cat([weight, weight], 1)})
    batch = batch_of(add, pairs(5))
    for way in WAYS:
        (x, ours), (_, theirs) = routed(add, batch, way), routed(concat, batch, way)
        for branch in (0, 1):
            torch.testing.assert_close(ours[branch], theirs[branch], rtol=1e-5, atol=1e-6)
            full = Reference(concat).gate(x, branch, concat=True)
            chosen = full.where(theirs[branch] > 0, torch.zeros(()))
            torch.testing.assert_close(theirs[branch], chosen, rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            found = our_vectors(concat, batch, way)
            expected = Reference(concat).vectors(batch, way, 4, concat=True, masked=True)
            for name, want in expected.items():
                torch.testing.assert_close(getattr(found, name), want, rtol=1e-5, atol=1e-5)
            assert not torch.allclose(found.source, our_vectors(add, batch, way).source, atol=1e-3)


def test_squared_distance(towers: tuple[str, str]) -> None:
    """The option is ||p - t||^2 / D: the mean over the D numbers, as SmoothL1's.

    The summary of the paper writes no 1 / D; with D = 4096 that would drown the other loss.
    """
    module = make(towers, spread=5.0, regression_loss="mse", alpha=1.0)
    batch = batch_of(module, pairs(5))
    for step, way in enumerate(WAYS):
        vectors = Reference(module).vectors(batch, way, 4, masked=True)
        p, t = vectors["predicted"], vectors["wanted"]
        expected = (p - t).pow(2).sum(1).mean() / p.shape[1]
        loss, ours = our_step(module, batch, step)
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-6)
        for name, want in gradients(expected, module).items():
            if want is not None:
                torch.testing.assert_close(ours[name], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("detach", [True, False])
def test_detaching_stops_the_regression_at_the_target(
    towers: tuple[str, str], detach: bool
) -> None:
    """Alone, L_reg reaches the target's adapters only as released; L_cl reaches them always."""
    for alpha, reached in ((1.0, not detach), (0.0, True)):
        module = make(towers, spread=5.0, detach_target=detach, alpha=alpha)
        batch = batch_of(module, pairs(5))
        for step, way in enumerate(WAYS):
            _, found = our_step(module, batch, step)
            source, target = way.split("2")
            size = {
                m: sum(
                    g.abs().sum().item()
                    for n, g in found.items()
                    if n.startswith(f"towers.{m}.") and g is not None
                )
                for m in (source, target)
            }
            assert size[source] > 0
            assert (size[target] > 0) == reached, (alpha, way)


# -- 8 and 9: the ablations --------------------------------------------------------------------

TOY = {"hidden": 16, "num_experts": 12, "top_k": 2, "dropout": 0.0}
CHANCE = 1 / 128


class Lookup(zoo.M3JEPA):
    """M3-JEPA whose encoders are tables: items are rows of random token states."""

    def encode(self, batch: Any, modality: str) -> Any:
        from zoo.methods.m3_jepa.predictor import lay_out

        return lay_out(batch.states[modality])


@functools.cache
def toy_run(seed: int, steps: int = 300, **options: Any) -> SimpleNamespace:
    """Train on 128 unrelated pairs, 32 per step; return the recall and loss of these pairs.

    A picture and a text of two tokens each, all numbers random: what belongs together can only be
    learned by heart, so capacity and the number of steps are what counts. Nothing is held out.
    """
    torch.manual_seed(seed)
    module = Lookup(
        text={"name": "tiny-bert", "adapt_blocks": 0},
        image={"name": "tiny-vit", "adapt_blocks": 0},
        **{**TOY, **options},
    )
    module.configure_model()
    chance = torch.Generator().manual_seed(seed)
    data = {m: torch.randn(128, 2, 32, generator=chance) for m in ("image", "text")}
    everything = SimpleNamespace(states=data)
    start = {n: p.detach().clone() for n, p in module.predictor.named_parameters()}
    with torch.no_grad():
        first = sum(
            float(module.losses(our_vectors(module, everything, way))["regression"].mean)
            for way in WAYS
        )
    adam = torch.optim.AdamW(module.predictor.parameters(), lr=5e-3, weight_decay=0.0)
    module.train()
    for step in range(steps):
        warm, late = min(1.0, (step + 1) / (0.1 * steps)), math.cos(math.pi * step / steps)
        adam.param_groups[0]["lr"] = 5e-3 * warm * (0.5 + 0.5 * late)
        rows = torch.randperm(128, generator=chance)[:32]
        states = {m: x[rows] for m, x in data.items()}
        batch = SimpleNamespace(states=states, normalizers={0: 32.0})
        loss = at_step(module, step).training_step(batch, 0)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.predictor.parameters(), 1.0)
        adam.step()
    module.eval()
    found: dict[str, list[float]] = {"contrastive": [], "regression": [], "loss": []}
    with torch.no_grad():
        for way in WAYS:
            views = our_vectors(module, everything, way)
            found["loss"].append(float(module.losses(views)["regression"].mean))
            for name, (a, b) in {
                "contrastive": (views.source, views.target),
                "regression": (views.predicted, views.wanted),
            }.items():
                scores = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2)
                hits = scores.argmax(1) == torch.arange(128)
                found[name].append(hits.float().mean().item())
    moved = {
        n for n, p in module.predictor.named_parameters() if not torch.equal(p.detach(), start[n])
    }
    return SimpleNamespace(
        contrastive=sum(found["contrastive"]) / 2,
        regression=sum(found["regression"]) / 2,
        loss=sum(found["loss"]) / first,
        moved=moved,
        names=set(start),
    )


def mean_of(what: str, seeds: Sequence[int], *args: Any, **options: Any) -> float:
    return sum(getattr(toy_run(seed, *args, **options), what) for seed in seeds) / len(seeds)


SEEDS = [(0, 1), pytest.param((2, 3, 4, 5, 6), marks=pytest.mark.slow)]


@pytest.mark.fidelity("m3_jepa", 8)
@pytest.mark.parametrize("seeds", SEEDS, ids=["two", "five"])
def test_the_mixture_learns_more_than_an_mlp_of_its_cost(seeds: Sequence[int]) -> None:
    """MoE >= MLP in R@1 of the pairs learned, at the same cost of a token.

    The set asks for capacity, which is what experts add at that cost. On pairs that a rule of few
    parameters relates, an MLP does as well or better.
    """
    ours, mlp = mean_of("contrastive", seeds), mean_of("contrastive", seeds, mixture="mlp")
    assert mlp > 10 * CHANCE, "a control that did not learn is unfair"
    assert ours > mlp + 0.03, (ours, mlp)


@pytest.mark.fidelity("m3_jepa", 8)
@pytest.mark.parametrize("seeds", SEEDS, ids=["two", "five"])
def test_alternating_learns_more_than_the_joint_sum_at_equal_cost(seeds: Sequence[int]) -> None:
    """AGD >= joint sum in R@1, both with 300 forward and backward passes of a direction.

    A joint step costs two of them, so the joint run has half the steps.
    """
    ours = mean_of("contrastive", seeds)
    joint = mean_of("contrastive", seeds, 150, alternate=False)
    assert joint > 10 * CHANCE, "a control that did not learn is unfair"
    assert ours > joint + 0.02, (ours, joint)


@pytest.mark.slow
@pytest.mark.xfail(reason="at equal steps joint training sees every direction twice as often")
@pytest.mark.fidelity("m3_jepa", 8)
def test_alternating_against_the_joint_sum_at_equal_steps() -> None:
    """The paper's direction AGD >= joint does not hold here if steps are what is held equal."""
    seeds = (0, 1, 2)
    ours = mean_of("contrastive", seeds)
    assert ours >= mean_of("contrastive", seeds, alternate=False)


@pytest.mark.fidelity("m3_jepa", 8)
@pytest.mark.fidelity("m3_jepa", 9)
@pytest.mark.parametrize("seeds", SEEDS, ids=["two", "five"])
def test_half_and_half_is_the_only_weight_that_serves_both_views(seeds: Sequence[int]) -> None:
    """alpha = 0.5 discriminates as alpha = 0 does and predicts; alpha = 1 and 0 each lose one.

    Contrastive R@1: alpha = 1 stays at chance, alpha = 0 is no better than 0.5 by more than seeds
    differ. L_reg, relative to its start: falls with 0.5, stays up with 0.
    """
    half, none, full = (
        SimpleNamespace(
            **{w: mean_of(w, seeds, alpha=a) for w in ("contrastive", "regression", "loss")}
        )
        for a in (0.5, 0.0, 1.0)
    )
    assert full.contrastive < 4 * CHANCE < 0.3 < half.contrastive
    assert half.contrastive > none.contrastive - 0.1
    assert none.regression < 3 * CHANCE
    assert half.loss < 0.5 * none.loss
    assert full.loss < 0.5 * none.loss


@pytest.mark.fidelity("m3_jepa", 9)
def test_a_loss_without_weight_trains_nothing_of_its_own() -> None:
    """alpha = 0: regression heads and branch stay as they were; alpha = 1: the contrastive ones."""
    for alpha, branch, kinds in ((0.0, 0, ("regression",)), (1.0, 1, ("contrastive", "targets"))):
        alone = tuple(f"{kind}." for kind in kinds) + (
            f"norms.{branch}.",
            f"branch_vectors.{branch}",
        )
        run = toy_run(0, alpha=alpha)
        stayed = {n for n in run.names if n.startswith(alone)}
        assert len(stayed) == (4 + 3 if alpha == 0 else 4 + 4 + 3)
        assert run.moved == run.names - stayed


@pytest.mark.fidelity("m3_jepa", 9)
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_loss_without_weight_has_no_gradient(towers: tuple[str, str], alpha: float) -> None:
    """On real encoders: all gradients are those of the other loss alone, by the transcription."""
    module = make(towers, spread=5.0, alpha=alpha)
    batch = batch_of(module, pairs(5))
    for step, way in enumerate(WAYS):
        vectors = Reference(module).vectors(batch, way, 4, masked=True)
        if alpha:
            alone = smooth_l1(vectors["predicted"], vectors["wanted"])
        else:
            alone = symmetric_info_nce(vectors["source"], vectors["target"], 0.03)
        _, ours = our_step(module, batch, step)
        for name, want in gradients(alone, module).items():
            if want is None:
                assert ours[name] is None or not ours[name].any(), name
            else:
                scale = want.abs().max().item()
                torch.testing.assert_close(ours[name], want, rtol=1e-4, atol=1e-5 * scale + 1e-9)
