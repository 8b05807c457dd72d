"""LaMsS' vocabulary: N tokens of levels more, and nothing else that changes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from methods.lamss.lamss_sequences import TEXTS, Make, batch_of, examples_of

import zoo

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.fidelity("lamss", 1)
@pytest.mark.parametrize("num_levels", [2, 5, 10])
def test_vocabulary_grows_by_n(make: Make, shape: str, num_levels: int) -> None:
    """N tokens more; old rows keep their bits, old logits their values; new rows differ."""
    from zoo import backbone as backbones

    old, old_tokenizer = backbones.load(zoo.Backbone(shape))
    module = make("LaMsS", shape, num_levels=num_levels)
    lm, tokenizer = module.lm, module.tokenizer
    size = len(old_tokenizer)
    assert len(tokenizer) == size + num_levels
    assert module.level_ids == list(range(size, size + num_levels))
    for name in ("get_input_embeddings", "get_output_embeddings"):
        before, after = getattr(old, name)().weight, getattr(lm, name)().weight
        assert after.shape == (size + num_levels, before.shape[1])
        assert torch.equal(after[:size], before)
        assert len(torch.unique(after[size:], dim=0)) == num_levels
        assert after.requires_grad
    assert (lm.lm_head.weight is lm.model.embed_tokens.weight) == (shape != "tiny-llama")
    ids = torch.tensor([old_tokenizer("Some old text.")["input_ids"]])
    with torch.no_grad():
        expected, got = old.eval()(ids).logits, lm(ids).logits
    torch.testing.assert_close(got[..., :size], expected, rtol=0, atol=1e-6)
    assert lm.config.vocab_size == size + num_levels


@pytest.mark.fidelity("lamss", 1)
def test_rows_beyond_the_tokenizer_are_used_first(tmp_path: Path) -> None:
    """A backbone with free rows (as Qwen has) keeps its size and the rows of its tokens."""
    from transformers import AutoModelForCausalLM

    from zoo.tiny_models import byte_tokenizer, tiny_config

    config = tiny_config("tiny-qwen2")
    config.vocab_size = 272
    lm = AutoModelForCausalLM.from_config(config)
    lm.save_pretrained(tmp_path / "padded")
    byte_tokenizer().save_pretrained(tmp_path / "padded")
    module = zoo.LaMsS(backbone=zoo.Backbone(str(tmp_path / "padded")))
    module.configure_model()
    grown = module.lm.get_input_embeddings().weight
    assert module.level_ids == [259, 260, 261, 262, 263]
    assert grown.shape[0] == 272
    free = [i for i in range(272) if i not in module.level_ids]
    assert torch.equal(grown[free], lm.get_input_embeddings().weight[free])


@pytest.mark.fidelity("lamss", 1)
def test_rows_of_levels_learn_beside_adapters(make: Make, shape: str) -> None:
    """With LoRA the embedding and the head train too, and get a gradient; the blocks do not."""
    module = make("LaMsS", shape, backbone={"lora": {"rank": 2}}, padding_free=False)
    module.log = lambda *args, **kwargs: None
    module.training_step(batch_of(module, examples_of(module, TEXTS)), 0).backward()
    for rows in (module.lm.get_input_embeddings().weight, module.lm.lm_head.weight):
        assert rows.grad[module.level_ids].abs().sum(1).min() > 0
    frozen = [p for n, p in module.lm.model.layers.named_parameters() if "lora" not in n]
    assert not any(p.requires_grad for p in frozen)


@pytest.mark.fidelity("lamss", 1)
def test_normal_text_holds_no_level(make: Make, shape: str) -> None:
    """No text becomes a level token, not even the name of one; the text stays what it was."""
    module = make("LaMsS", shape)
    encoder, rng = module.encoder(), random.Random(0)
    names = [f"<|skeptic_{j}|>" for j in range(5)]
    for _ in range(50):
        parts = rng.choices([*names, "a", " ", "<|", "skeptic_1|>", "|>", "\n"], k=8)
        text = "".join(parts)
        ids = encoder.ids(text)
        assert not set(ids) & set(module.level_ids)
        assert module.tokenizer.decode(ids) == text
    assert module.tokenizer(names[3])["input_ids"] == [module.level_ids[3]]  # it is one token
