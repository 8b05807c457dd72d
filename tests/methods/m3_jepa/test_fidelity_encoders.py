"""M3-JEPA's encoders: what of them trains, where adapters are, how they start."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods.m3_jepa.m3_jepa_samples import batch_of, fit, learner, make, pairs
from transformers import AutoModel


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
