"""Families of backbones on tiny random configs, against Hugging Face's own logits and loss."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from zoo.backbone import Backbone, load, prepare
from zoo.decoding.depth_decoder import DepthDecoder
from zoo.encoding import Example, collate
from zoo.errors import InputError
from zoo.losses.cross_entropy import head_loss
from zoo.nn.attention import NAME
from zoo.nn.blocks import Blocks, num_blocks, place
from zoo.nn.path_check import check_paths
from zoo.tiny_models import byte_tokenizer

README = Path(__file__).resolve().parents[2] / "README.md"
VOCABULARY = 64
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
SCALES = {"embedding_multiplier": 6.0, "residual_multiplier": 0.4, "attention_multiplier": 0.3}
FIT: dict[str, dict[str, Any]] = {  # model_type -> what its tiny config sets besides SHAPE
    "apertus": {},
    "arcee": {},
    "cohere": {"logit_scale": 0.0625},
    "cohere2": {"logit_scale": 0.3, "sliding_window": 4, "head_dim": 8},
    "cwm": {"head_dim": 8},
    "ernie4_5": {"head_dim": 8},
    "exaone4": {"head_dim": 8, "sliding_window": 4},
    "gemma": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 4},
    "glm": {"head_dim": 8},
    "glm4": {"head_dim": 8},
    "granite": {**SCALES, "logits_scaling": 3.0},
    "granitemoe": {**SCALES, **LOCAL, "logits_scaling": 8.0},
    "helium": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hyperclovax": {**SCALES, "logits_scaling": 0.7},
    "llama": {},
    "ministral": {"head_dim": 8, "sliding_window": 4},
    "mistral": {"sliding_window": 4},
    "mixtral": LOCAL,
    "olmo": {},
    "olmo2": {},
    "olmo3": {"sliding_window": 4},
    "olmoe": EXPERTS,
    "phi3": {"sliding_window": None},
    "phimoe": {**LOCAL, "lm_head_bias": False},
    "qwen2": {},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 16},
    "qwen3": {"head_dim": 8},
    "qwen3_moe": {**EXPERTS, "head_dim": 8},
    "seed_oss": {"head_dim": 8},
    "smollm3": {},
    "starcoder2": {},
}
REFUSED: dict[str, dict[str, Any]] = {
    "bloom": {},
    "falcon": {},
    "gemma2": {"head_dim": 8},
    "gpt2": {},
    "gpt_neox": {},
    "gpt_oss": {**LOCAL, "head_dim": 8},
    "mamba": {},
    "nemotron": {},
    "opt": {},
    "phi": {},
    "phimoe": {**LOCAL, "lm_head_bias": True},
    "stablelm": {},
    "vaultgemma": {"head_dim": 8},
}
LENGTHS = (9, 6)


def build(family: str, more: dict[str, Any]) -> Any:
    """Return a random model of a family, in evaluation mode, with its own attention."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(SHAPE | more))
    lm = AutoModelForCausalLM.from_config(config, trust_remote_code=False).eval()
    with torch.no_grad():
        for parameter in lm.parameters():  # norms and biases too; large enough to be peaked
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return lm


def ours(lm: Any) -> Any:
    """Return a copy of a model as the zoo holds it."""
    lm = copy.deepcopy(lm)
    lm.set_attn_implementation(NAME)
    prepare(lm)
    return lm


def rows() -> list[list[int]]:
    """Return random token ids of two sequences, without special tokens."""
    drawn = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCABULARY, (n,), generator=drawn).tolist() for n in LENGTHS]


@pytest.fixture(scope="module", params=FIT)
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    lm = build(request.param, FIT[request.param])
    return lm, ours(lm)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_loss_is_hugging_faces_own(pair: tuple[Any, Any], packed: bool) -> None:
    plain, lm = pair
    wanted = 0.0
    with torch.no_grad():
        for row in rows():
            ids = torch.tensor([row])
            wanted += float(plain(ids, labels=ids).loss) * (len(row) - 1)
    examples = [
        Example(r, [*r[1:], -100], [*[0] * (len(r) - 1), -1], [*[1.0] * (len(r) - 1), 0.0])
        for r in rows()
    ]
    batch = collate(examples, packed=packed)
    with torch.no_grad():
        states = Blocks(lm, 0, num_blocks(lm))(batch.input_ids, **place(batch))
        found = head_loss(states, batch, 0, lm.lm_head.weight, lm.model.norm).sum
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_tokens_after_catching_up_are_hugging_faces_own(pair: tuple[Any, Any]) -> None:
    plain, lm = pair
    wanted, prompts = [], rows()
    with torch.no_grad():
        for row in prompts:
            ids = list(row)
            for _ in range(4):
                ids.append(int(plain(torch.tensor([ids])).logits[0, -1].argmax()))
            wanted.append(ids[len(row) :])
        decoder = DepthDecoder(lm, [1, 2], batch_size=2, pad_id=0)
        decoder.end_ids = []  # of random weights, end-of-text is a token like any other
        decoder.feed([row[:3] for row in prompts], 0)
        decoder.feed([row[3:] for row in prompts], 1)
        found = decoder.decode(
            1,
            lambda states: lm.lm_head(lm.model.norm(states)),
            stop_id=VOCABULARY,
            max_new_tokens=4,
            close=False,
        )
    assert found == wanted


def test_logits_stay_hugging_faces_own(pair: tuple[Any, Any]) -> None:
    plain, lm = pair
    ids = torch.tensor([rows()[0]])
    torch.testing.assert_close(lm(ids).logits, plain(ids).logits, rtol=1e-4, atol=1e-4)
    check_paths(lm)


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_does_not_fit_is_refused_by_name(family: str, tmp_path: Path) -> None:
    lm = build(family, REFUSED[family])
    lm.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=type(lm).__name__):
        load(Backbone(str(tmp_path)))


def test_readme_lists_the_families() -> None:
    text = README.read_text("utf-8").split("## Backbones\n")[1].split("\n## ")[0]
    listed = [re.findall(r"`(\w+)`", row) for row in re.findall(r"\| (?:fit|refused) .*", text)]
    assert listed == [list(FIT), [name for name in REFUSED if name not in FIT]]
