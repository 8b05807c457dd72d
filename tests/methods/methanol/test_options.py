"""What each option of MeTHanol changes, and that nothing else changes it."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from training import batch_of

from datamodules import ESConv
from zoo.errors import InputError
from zoo.losses.cross_entropy import total_loss
from zoo.methods.methanol.module import SAMPLE, MeTHanol
from zoo.prompts.thoughts import SUPPORT_SYSTEM, SYSTEM, ThoughtEncoder
from zoo.records import SEEKER, SUPPORTER, Dialogue, Triple, Turn
from zoo.tiny_models import byte_tokenizer

TALK = Dialogue(
    (
        Turn(SEEKER, "I lost my job."),
        Turn(SUPPORTER, "When was that?", "Question"),
        Turn(SEEKER, "In May."),
        Turn(SUPPORTER, "That is hard.", "Reflection of feelings"),
    ),
    emotion="sadness",
    problem="work",
    id="talk",
)


@pytest.mark.parametrize("layer", [None, 2])
def test_the_thinking_norm_is_a_copy_of_its_own(make: Any, layer: int | None) -> None:
    """It starts as the final norm, trains by itself, and leaves the default k at K/2."""
    module = make("MeTHanol", "tiny-llama", thinking_layer=layer, thinking_norm=True)
    ours, final = module.norm_before_thinking.weight, module.lm.model.norm.weight
    assert module.k == 2
    assert torch.equal(ours, final)
    with torch.no_grad():
        ours.add_(1)
    assert not torch.equal(ours, final)


@pytest.mark.parametrize("shape", ["tiny-llama", "tiny-qwen2"])
def test_a_head_that_matches_the_scale_of_the_stream(make: Any, shape: str) -> None:
    """W_T starts as W_A / rms(h_k): as high as with states of size one."""
    torch.manual_seed(0)
    module = make("MeTHanol", shape, match_scale=True)
    ids = module.encoder().ids(SAMPLE)
    with torch.no_grad():
        states = module.lm(torch.tensor([ids]), output_hidden_states=True).hidden_states[module.k]
    size = states[0].square().mean(-1).sqrt().median()
    torch.testing.assert_close(
        module.thinking_head.weight * size, module.lm.lm_head.weight, rtol=1e-4, atol=1e-9
    )
    assert not 0.9 < size < 1.1, "the test cannot tell"
    with pytest.raises(InputError, match="set one of both"):
        make("MeTHanol", shape, match_scale=True, thinking_norm=True)


def test_only_blocks_that_exist_can_think(make: Any) -> None:
    make("MeTHanol", "tiny-llama", thinking_layer=4)
    for layer in (0, 5, -1):
        with pytest.raises(InputError, match=rf"thinking_layer: {layer} is not in 1\.\.4"):
            make("MeTHanol", "tiny-llama", thinking_layer=layer)


@pytest.mark.parametrize(("think", "speak"), [(1.0, 0.5), (0.0, 0.5), (2.0, 1.0)])
def test_speaking_the_thought_adds_its_loss_at_the_last_block(
    make: Any, triples: list[Triple], think: float, speak: float
) -> None:
    """The thought's cross-entropy at W_A norm(h_K), from full logits, weighted by lambda_A."""
    options = {"think_weight": think, "speak_weight": speak}
    module = make("MeTHanol", "tiny-llama", speak_on_thought=True, spread=5.0, **options)
    batch = batch_of(module, triples)
    terms = module.losses(batch)
    logits = module.lm(batch.input_ids, position_ids=batch.position_ids).logits
    if batch.input_ids.shape[0] == 1:  # sequences end to end: one at a time
        alone = [batch_of(module, [record]) for record in triples]
        logits = torch.cat([module.lm(b.input_ids).logits for b in alone], dim=1)
    learned = batch.head_ids == 0
    wanted = torch.nn.functional.cross_entropy(
        logits[learned], batch.labels[learned], reduction="mean"
    )
    torch.testing.assert_close(terms["speak_thought"].loss, wanted, rtol=1e-4, atol=1e-5)
    plain = make("MeTHanol", "tiny-llama", spread=5.0, **options)
    plain.load_state_dict(module.state_dict())
    added = total_loss(module.losses(batch), module.loss_weights)
    added = added - total_loss(plain.losses(batch), plain.loss_weights)
    torch.testing.assert_close(added, speak * wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("keep", [True, False])
def test_past_thoughts_are_in_the_prompt_if_they_are_kept(make: Any, keep: bool) -> None:
    module = make("MeTHanol", "tiny-llama", keep_thoughts=keep)
    prompt = module.tokenizer.decode(module.encoder().prompt(TALK))
    assert ("<|im_start|>thought" in prompt) == keep
    assert "When was that?" in prompt
    assert "That is hard." not in prompt


def thoughts_of(dialogue: Dialogue, keep: bool, tokenizer: Any) -> list[str]:
    """Return the text that the thinking head learns, without end-of-turn."""
    encoder = ThoughtEncoder(tokenizer, think=0, speak=1, keep_thoughts=keep, max_length=99999)
    turns = [segment for segments in encoder.render(dialogue) for segment in segments]
    return [turn.text.removesuffix(encoder.chat.end) for turn in turns if turn.head == 0]


@pytest.mark.parametrize("keep", [True, False])
def test_a_kept_thought_has_said_feeling_and_topic(keep: bool) -> None:
    """A later thought is the plan alone where the first one stays in context, in gold as well."""
    ask = "I will ask about it so that I understand better (Question)."
    name = "I will name the feeling that I hear (Reflection of feelings)."
    start = "The seeker feels sadness about work. "
    wanted = [start + ask, name if keep else start + name]
    assert thoughts_of(TALK, keep, byte_tokenizer()) == wanted
    encoder = ThoughtEncoder(byte_tokenizer(), think=0, speak=1, keep_thoughts=keep)
    assert encoder.gold(TALK) == (wanted[1], "That is hard.")


@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="needs ESConv in $ZOO_DATA/esconv")
def test_thoughts_of_esconv_repeat_little_of_the_one_before() -> None:
    """28 % of the words repeat the start of the thought before, where full thoughts have 57 %.

    What is left is `I will`, and plans that are the same twice in a row.
    """
    words = repeated = 0
    for dialogue in ESConv(str(Path(os.environ["ZOO_DATA"]) / "esconv")).records("train"):
        found = [text.split() for text in thoughts_of(dialogue, True, byte_tokenizer())]
        words += sum(map(len, found))
        for before, after in pairwise(found):
            same = [a == b for a, b in zip(before, after, strict=False)]
            repeated += (same + [False]).index(False)
    assert (words, repeated) == (135565, 38447)


def test_a_prompt_longer_than_the_window_is_refused(make: Any) -> None:
    module = make("MeTHanol", "tiny-llama", max_length=40)
    with pytest.raises(InputError, match="max_length"):
        module.generate([Triple("long " * 20, "", "")])


def test_thoughts_and_answers_are_sampled_at_the_temperature(make: Any) -> None:
    """Two hot samples differ in thought and, given one thought, in answer; greedy ones do not."""
    limits = {"max_thought_tokens": 12, "max_answer_tokens": 12}
    module = make("MeTHanol", "tiny-llama", spread=5.0, **limits)
    ask = [Triple("Who?", "", "")]

    def drawn(part: str, seed: int, temperature: float, **options: Any) -> str:
        torch.manual_seed(seed)
        (reply,) = module.generate(ask, temperature=temperature, **options)
        return str(getattr(reply, part))

    for part, options in (("thought", {}), ("answer", {"thoughts": ["Bob."]})):
        texts = {t: {drawn(part, seed, t, **options) for seed in range(4)} for t in (0.0, 50.0)}
        assert (len(texts[0.0]), len(texts[50.0])) == (1, 4), part


def test_a_given_thought_is_shown_and_used(make: Any, triples: list[Triple]) -> None:
    module = make("MeTHanol", "tiny-llama", max_thought_tokens=4, max_answer_tokens=4)
    rows = module.show(triples[:2], given="Look under the bed.")
    assert [row["thought"].split("   [")[0] for row in rows] == ["Look under the bed."] * 2
    (row,) = module.show(triples, prompt="Where?", given="Here.")
    assert (row["query"], row["thought"]) == ("Where?", "Here.")
    (row,) = module.show(triples[:1], prompt="Where?")
    assert row["thought"] != "Here."


def test_a_prompt_is_asked_as_the_records_are(make: Any, triples: list[Triple]) -> None:
    """With dialogues at hand under the system line of a supporter, else as a query."""
    module = make("MeTHanol", "tiny-llama", max_thought_tokens=4, max_answer_tokens=4)
    asked, encoder = [], module.encoder()
    module.encoder = lambda: encoder
    encoder.prompt, prompt = lambda r: asked.append(prompt(r)) or prompt(r), encoder.prompt
    triple = replace(triples[0], system="")
    for records in ([TALK], [replace(TALK, system="Be brief.")], [triple]):
        (row,) = module.show(records, prompt="I lost my job.")
        assert row["query"] == "I lost my job."
    texts = [module.tokenizer.decode(ids) for ids in asked]
    for text, line in zip(texts, (SUPPORT_SYSTEM, "Be brief.", SYSTEM), strict=True):
        assert line in text
        assert "I lost my job." in text
        assert "When was that?" not in text


class OtherHead(MeTHanol):
    """W_T is W_A with another sign."""

    @property
    def thinking_output(self) -> tuple[torch.Tensor, torch.nn.Module]:
        return -self.lm.lm_head.weight, torch.nn.Identity()


def test_another_thinking_head_is_learned_and_decoded(make: Any, triples: list[Triple]) -> None:
    """A subclass says it in one place: the loss of (2) and the thoughts of (5) both read it."""
    module = make("MeTHanol", "tiny-llama", spread=5.0, max_thought_tokens=4)
    batch = batch_of(module, triples)
    plain = module.losses(batch)["think"].loss
    states = torch.randn(3, module.lm.config.hidden_size)
    logits = module.think_logits(states)
    module.__class__ = OtherHead
    other, _ = module(batch)
    learned = batch.head_ids == 0
    wanted = torch.nn.functional.cross_entropy(
        -(other @ module.lm.lm_head.weight.t())[learned], batch.labels[learned]
    )
    torch.testing.assert_close(module.losses(batch)["think"].loss, wanted, rtol=1e-4, atol=1e-5)
    assert abs(wanted - plain) > 1e-2
    torch.testing.assert_close(module.think_logits(states), -states @ module.lm.lm_head.weight.t())
    assert not torch.allclose(module.think_logits(states), logits)


@pytest.mark.parametrize("speak", [0.0, 1.0])
def test_without_a_weight_of_speaking_the_upper_blocks_do_not_run(
    make: Any, triples: list[Triple], speak: float
) -> None:
    module = make("MeTHanol", "tiny-llama", thinking_layer=2, speak_weight=speak)
    run: list[int] = []
    for i, block in enumerate(module.lm.model.layers):
        block.register_forward_hook(lambda *_, i=i: run.append(i))
    module.losses(batch_of(module, triples))
    assert run == list(range(2 if speak == 0 else 4))


def test_a_batch_that_fills_up_counts_no_records(make: Any, triples: list[Triple]) -> None:
    """A batch that another process has too (normalisers of infinity) is answered by that one."""
    module = make("MeTHanol", "tiny-llama")
    batch = batch_of(module, triples)
    assert len(module.new_records(batch)) == len(triples)
    filler = replace(batch, normalizers=dict.fromkeys(batch.normalizers, math.inf))
    assert module.new_records(filler) == {}
