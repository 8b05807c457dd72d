"""A split encoder gives Hugging Face's last two hidden states, their mean, in every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel

from zoo.methods.m3_jepa.split_encoder import FAMILIES, SplitEncoder
from zoo.methods.m3_jepa.towers import Tower, load

TEXT = ("llama", "mistral", "qwen2", "qwen3", "gemma", "bert", "roberta", "xlm-roberta")
SOUND = ("wav2vec2", "hubert")
LENGTHS = (9, 4, 6)
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
CONVOLUTIONS: dict[str, Any] = {
    "conv_dim": (16, 16),
    "conv_stride": (5, 8),
    "conv_kernel": (10, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def options(family: str) -> dict[str, Any]:
    """Return a tiny config's arguments."""
    if family in TEXT:
        more: dict[str, Any] = {"vocab_size": 64, "pad_token_id": 0}
        if family in ("llama", "mistral", "qwen2", "qwen3", "gemma"):
            more |= {"num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 1, "eos_token_id": 2}
        return SHAPE | more
    if family in SOUND:
        return SHAPE | CONVOLUTIONS
    return SHAPE | {"image_size": 28, "patch_size": 14}


def tiny(family: str, **more: Any) -> Any:
    """A random model whose blocks change their input clearly."""
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(family, **options(family), **more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model


def inputs_of(family: str) -> dict[str, Tensor]:
    """Return three items; texts of different lengths, padded on the right."""
    torch.manual_seed(1)
    if family in TEXT:
        mask = torch.tensor([[1] * n + [0] * (max(LENGTHS) - n) for n in LENGTHS])
        return {"input_ids": torch.randint(3, 60, mask.shape) * mask, "attention_mask": mask}
    if family in SOUND:
        return {"input_values": torch.randn(3, 1600)}
    return {"pixel_values": torch.randn(3, 3, 28, 28)}


def real(states_BLD: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """Return the states without those of padding."""
    mask = inputs.get("attention_mask")
    return states_BLD.flatten(0, 1) if mask is None else states_BLD[mask.bool()]


def entries(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Return what Hugging Face's list of hidden states gives: the mean of its last two."""
    model.eval()
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
    assert len(states) == SHAPE["num_hidden_layers"] + 1
    assert not torch.allclose(states[-1], states[-2], atol=1e-2)
    return (states[-1] + states[-2]) / 2


def test_every_family_is_here() -> None:
    images = ("vit", "deit", "dinov2", "clip_vision_model")
    assert set(FAMILIES) == {*TEXT, *SOUND, *images}


@pytest.mark.parametrize("adapted", [0, 1, 3, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_output_is_the_mean_of_the_last_two_entries(family: str, adapted: int) -> None:
    model, inputs = tiny(family), inputs_of(family)
    expected = entries(model, inputs)
    encoder = SplitEncoder(model, adapted)
    found = encoder(inputs)
    torch.testing.assert_close(real(found, inputs), real(expected, inputs), rtol=1e-4, atol=1e-5)
    assert encoder.width == found.shape[-1] == 32
    assert len(encoder.blocks) == 4
    assert not model._forward_hooks  # nothing is left behind
    assert not any(block._forward_pre_hooks for block in encoder.blocks)


@pytest.mark.parametrize("family", ["wav2vec2", "hubert"])
def test_sound_with_the_norm_after_the_blocks(family: str) -> None:
    """The stable layout has a final norm that the list of hidden states leaves out, or not."""
    model = tiny(family, do_stable_layer_norm=True, feat_extract_norm="layer")
    inputs = inputs_of(family)
    expected = entries(model, inputs)
    torch.testing.assert_close(SplitEncoder(model, 2)(inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f in TEXT])
def test_padding_changes_nothing(family: str) -> None:
    """A text alone has the states that it has in a padded batch."""
    encoder, inputs = SplitEncoder(tiny(family), 2), inputs_of(family)
    batch = encoder(inputs)
    for i, length in enumerate(LENGTHS):
        alone = encoder({name: value[i : i + 1, :length] for name, value in inputs.items()})
        torch.testing.assert_close(batch[i, :length], alone[0], rtol=1e-4, atol=1e-5)


def adapted_tower(name: str, **more: Any) -> SplitEncoder:
    return load(Tower(name, adapt_blocks=2, pissa=False, **more), "model.text")


TOWERS = {"tiny-llama": "llama", "tiny-bert": "bert", "tiny-vit": "vit", "tiny-dinov2": "dinov2"}
TOWERS |= {"tiny-wav2vec2": "wav2vec2"}


@pytest.mark.parametrize("name", TOWERS)
def test_no_gradient_and_no_saved_activation_below_the_cut(name: str) -> None:
    encoder, inputs = adapted_tower(name), inputs_of(TOWERS[name])
    encoder.train()
    below: list[Tensor] = []
    states: list[Tensor] = []
    for block in encoder.blocks[: encoder.cut]:
        block.register_forward_hook(lambda m, a, out: below.append(first(out)))
    encoder.blocks[encoder.cut].register_forward_pre_hook(lambda m, a: states.append(a[0]))
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = encoder(inputs)
    assert len(below) == 2
    assert not any(tensor.requires_grad for tensor in [*below, *states])
    early = {tensor.untyped_storage().data_ptr() for tensor in below[:-1]}
    lower = {
        parameter.untyped_storage().data_ptr()
        for block in encoder.blocks[: encoder.cut]
        for parameter in block.parameters()
    }
    assert not (early | lower) & set(saved)
    out.sum().backward()
    trained = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert trained == {name for name, p in encoder.named_parameters() if p.requires_grad}
    adapters = {name for name in trained if "lora_" in name}
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in adapters} <= {
        *("q_proj", "v_proj", "query", "value")
    }
    at = [
        i
        for i, block in enumerate(encoder.blocks)
        if any(p.requires_grad for p in block.parameters())
    ]
    assert at == [2, 3]


def first(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


def test_an_encoder_that_is_trained_has_gradients_everywhere() -> None:
    encoder = load(Tower("tiny-bert", freeze=False), "model.text")
    encoder(inputs_of("bert")).sum().backward()
    missing = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert missing == ["model.pooler.dense.weight", "model.pooler.dense.bias"]
    assert encoder.train().model.training


@pytest.mark.parametrize("adapted", [0, 1, 3])
@pytest.mark.parametrize("family", ["llama", "bert", "vit", "wav2vec2"])
def test_cached_is_uncached(family: str, adapted: int) -> None:
    """No item kept, some of them, all of them; texts with other padding than when kept."""
    model, inputs = tiny(family), inputs_of(family)
    plain = SplitEncoder(model, adapted)
    cached = SplitEncoder(model, adapted, cache_bytes=2**20)
    calls: list[int] = []
    cached.blocks[0].register_forward_hook(lambda m, args, out: calls.append(len(args[0])))
    for rows, fresh in (([1, 2], 2), ([0, 1, 2], 1), ([2, 0, 1], 0), ([1, 1], 0)):
        some = {name: value[rows] for name, value in inputs.items()}
        if family in TEXT:
            longest = int(some["attention_mask"].sum(1).max())
            some = {name: value[:, :longest] for name, value in some.items()}
        expected = real(plain(some), some)
        calls.clear()
        found = real(cached(some, [f"item {i}" for i in rows]), some)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert sum(calls) == fresh
    assert len(cached.cache) == 3
    if adapted == 3:  # the gradient is that of the uncached pass too
        upper = list(cached.blocks[-1].parameters())
        weights = torch.linspace(-1, 1, 32)
        found_grads = [
            torch.autograd.grad((real(run, some) * weights).sum(), upper, allow_unused=True)
            for run in (plain(some), cached(some, ["item 1", "item 1"]))
        ]
        for ours, theirs in zip(*found_grads, strict=True):
            if ours is not None:
                scale = ours.abs().max().item()
                torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-5 * scale + 1e-7)


def test_one_item_twice_in_a_batch_is_kept_once() -> None:
    model, inputs = tiny("vit"), inputs_of("vit")
    encoder = SplitEncoder(model, 2, cache_bytes=2**20)
    encoder(inputs, ["same", "same", "other"])
    assert encoder.cached_bytes == sum(state.nbytes for state in encoder.cache.values())
    assert set(encoder.cache) == {"same", "other"}


def test_other_weights_have_other_states() -> None:
    model, inputs = tiny("vit"), inputs_of("vit")
    encoder = SplitEncoder(model, 1, cache_bytes=2**20)
    names = ["a", "b", "c"]
    encoder(inputs, names)
    others = {n: t + torch.randn_like(t) / 10 for n, t in encoder.state_dict().items()}
    torch.nn.ModuleDict({"tower": encoder}).load_state_dict(
        {f"tower.{name}": value for name, value in others.items()}
    )
    assert torch.equal(encoder(inputs, names), SplitEncoder(model, 1)(inputs))


@pytest.mark.parametrize(("items", "spare"), [(0, 1), (1, 0), (2, 639)])
def test_the_limit_in_bytes(items: int, spare: int) -> None:
    """What fits to the last byte is kept; what does not is computed each time, and is the same."""
    model, inputs = tiny("vit"), inputs_of("vit")
    one = 5 * 32 * 4  # 4 patches and a class token, float32
    encoder = SplitEncoder(model, 2, cache_bytes=items * one + spare)
    for _ in range(2):
        found = encoder(inputs, ["a", "b", "c"])
        torch.testing.assert_close(found, SplitEncoder(model, 2)(inputs), rtol=1e-4, atol=1e-5)
    assert len(encoder.cache) == items
    assert encoder.cached_bytes == items * one


def test_a_convolutional_network_is_kept_too() -> None:
    from transformers import ResNetConfig

    torch.manual_seed(0)
    sizes = {"hidden_sizes": [8, 10, 12], "depths": [1, 1, 1]}
    config = ResNetConfig(embedding_size=8, layer_type="basic", **sizes)
    model = AutoModel.from_config(config).eval()
    inputs = {"pixel_values": torch.randn(3, 3, 32, 32)}
    encoder = SplitEncoder(model, 0, cache_bytes=2**20)
    expected = model(**inputs).last_hidden_state.flatten(2).transpose(1, 2)
    assert encoder.width == expected.shape[-1] == 12
    torch.testing.assert_close(encoder(inputs), expected)
    encoder({"pixel_values": inputs["pixel_values"][1:2]}, ["b"])
    found = encoder(inputs, ["a", "b", "c"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not found.requires_grad


def test_nothing_is_kept_of_an_encoder_that_is_trained() -> None:
    encoder = load(Tower("tiny-vit", freeze=False, cache_gib=0.5), "model.image")
    assert encoder.cache_bytes == 2**29
    encoder(inputs_of("vit"), ["a", "b", "c"])
    assert not encoder.cache


def test_training_mode() -> None:
    """The frozen model stays in evaluation mode; the dropout of its adapters follows."""
    encoder = adapted_tower("tiny-bert", dropout=0.5)
    for mode in (True, False):
        encoder.train(mode)
        on = {name for name, part in encoder.model.named_modules() if part.training}
        drops = {name for name, part in encoder.model.named_modules() if "lora_dropout" in name}
        assert drops
        assert on == (drops if mode else set())
    inputs = inputs_of("bert")
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    assert torch.equal(encoder(inputs), encoder(inputs))
    encoder.train()
    assert not torch.equal(encoder(inputs), encoder(inputs))
