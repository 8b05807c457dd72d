"""The ten properties of LaMsS's sheet (arXiv 2409.06601, section 9).

The references are plain Hugging Face forwards over whole sequences, without any cache.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from methods.lamss import lamss_world
from running import ROOT, main, tiny

import zoo
from zoo.encoding import IGNORE, NO_HEAD, sum_head_weights
from zoo.records import PlainText, Question, Triple

Make = Callable[..., Any]
START, STOP = 256, 258  # of the byte tokenizer: <|endoftext|>, which begins a text, and <|im_end|>
NORMAL, SIGMA, LEVEL = 0, 1, 2
FLAGS = [
    {},
    {"shared_positions": True},
    {"hide_sigma": True},
    {"hide_sigma": True, "shared_positions": True},
    {"interleave": False},
]
TEXTS = [
    PlainText("The cat sat on the mat, and it was there for the whole day.", id="t1"),
    PlainText("Colourless green ideas sleep furiously.", id="t2"),
    PlainText("In 1912 the ship sank. <|skeptic_1|> is no level here.", id="t3"),
]
OPEN = [
    Triple("Where is the ball?", "", "in the box", id="o1"),
    Triple("Who took it, and when?", "", "Bob", id="o2"),
    Triple("Why", "", "no", system="Be brief.", id="o3"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Label afresh in every test."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def separate(stream: list[int]) -> tuple[list[int], list[int]]:
    """Return the tokens and the levels of an interleaved stream."""
    return stream[0::2], stream[1::2]


def choices(module: Any) -> list[Question]:
    """Return eight questions of which the model answers three rightly before training."""
    found = []
    for i in range(8):
        letter = pick_letter(module, Question(f"Question {i}?", ("red", "blue", "green"), 0))
        gold = letter if i < 3 else (letter + 1) % 3
        found.append(Question(f"Question {i}?", ("red", "blue", "green"), gold, id=f"c{i}"))
    return found


def pick_letter(module: Any, record: Question) -> int:
    """Return the option whose letter the backbone as it was likes best, by a whole forward."""
    from zoo import backbone as backbones

    lm, _ = backbones.load(module.backbone)
    logits = lm.eval()(torch.tensor([asked_ids(module, record)])).logits[0, -1]
    return int(logits[[byte(module, name) for name in "ABC"]].argmax())


def asked_ids(module: Any, record: Any) -> list[int]:
    """Return what comes before an answer, written out."""
    system = "You answer a question with the letter of the right option."
    if isinstance(record, Triple):
        system, user = record.system or "You answer a question in a few words.", record.query
    else:
        options = "".join(f"\n{'ABC'[i]}: {text}" for i, text in enumerate(record.options))
        user = record.question + options
    text = (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n"
        f"<|im_start|>assistant\n"
    )
    return module.tokenizer(text)["input_ids"]


def judged_ids(module: Any) -> list[int]:
    """Return what comes between an answer and the level of it, written out."""
    text = (
        "\n<|im_start|>user\nHow skeptical are you of this answer?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    return module.tokenizer(text)["input_ids"]


def byte(module: Any, char: str) -> int:
    return module.tokenizer(char)["input_ids"][0]


def examples_of(module: Any, records: Sequence[Any], split: str = "train") -> list[Any]:
    encoder = module.encoder()
    encoder.study(records, split)
    return [example for record in records for example in encoder(record)]


def batch_of(module: Any, examples: Sequence[Any]) -> Any:
    return module.encoder().collate(examples, sum_head_weights(examples))


def learned(example: Any) -> list[tuple[int, int, int]]:
    """Return (position, token, head) of every token that is learned."""
    shifted = zip(example.labels, example.head_ids, example.weights, strict=True)
    assert all((label != IGNORE) == (head != NO_HEAD) == (w > 0) for label, head, w in shifted)
    return [
        (i + 1, label, head)
        for i, (label, head) in enumerate(zip(example.labels, example.head_ids, strict=True))
        if head != NO_HEAD
    ]


def whole_forward(module: Any, ids: Sequence[int]) -> torch.Tensor:
    """Return the logits of a sequence by Hugging Face alone, `(L, V)`, under the module's flags."""
    level = torch.tensor([token in module.level_ids for token in ids])
    length = len(ids)
    # A mask of ones: without one, Hugging Face takes a position that stays for a new sequence.
    where: dict[str, Any] = {"attention_mask": torch.ones(1, length, dtype=torch.long)}
    if module.shared_positions:
        where["position_ids"] = ((~level).long().cumsum(0) - 1)[None]
    if module.hide_sigma:
        causal = torch.ones(length, length).tril().bool()
        seen = causal & (~level[None] | torch.eye(length).bool())
        where["attention_mask"] = seen[None, None]
    with torch.no_grad():
        return module.lm(torch.tensor([list(ids)]), use_cache=False, **where).logits[0]


def by_whole_forwards(module: Any, examples: Sequence[Any]) -> dict[int, list[float]]:
    """Return the negative log-probability of every learned token, by head."""
    found: dict[int, list[float]] = {NORMAL: [], SIGMA: [], LEVEL: []}
    for example in examples:
        logp = whole_forward(module, example.input_ids).log_softmax(-1)
        for i, token, head in learned(example):
            found[head].append(-logp[i - 1, token].item())
    return found


# -- 1: the vocabulary -------------------------------------------------------------------------


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


# -- 2: interleaving ---------------------------------------------------------------------------


@pytest.mark.fidelity("lamss", 2)
@pytest.mark.parametrize("num_levels", [2, 5])
def test_texts_are_interleaved_with_balanced_levels(
    make: Make, shape: str, num_levels: int
) -> None:
    """x_1 s_1 ... x_n s_n of length 2n; levels are quantiles of 1 - p0 and equally many."""
    from zoo.methods.lamss.doubt_labels import interleave

    module = make("LaMsS", shape, num_levels=num_levels, max_length=40)
    module.encoder().study([PlainText("zzzzzzzzzz")], "val")  # of another split, own quantiles
    streams = [example.input_ids for example in examples_of(module, TEXTS)]
    pieces = [separate(stream) for stream in streams]
    assert [interleave(*pair) for pair in pieces] == streams
    tokens = [token for ids, _ in pieces for token in ids]
    text = "".join(record.text for record in TEXTS)
    assert module.tokenizer.decode(tokens) == text
    assert all(
        len(stream) == 2 * len(ids) <= 40 for stream, (ids, _) in zip(streams, pieces, strict=True)
    )
    levels = [module.level_ids.index(token) for _, found in pieces for token in found]
    doubts = [u for ids, _ in pieces for u in doubts_of(module, [START], ids)]
    tie = max(Counter(round(u, 9) for u in doubts).values())  # equal values have one level
    share = len(levels) / num_levels
    assert tie < share / 2
    assert all(abs(n - share) <= 1 + tie for n in Counter(levels).values())
    assert len(set(levels)) == num_levels
    for level in range(num_levels - 1):
        below = max(u for u, found in zip(doubts, levels, strict=True) if found <= level)
        above = min(u for u, found in zip(doubts, levels, strict=True) if found > level)
        assert below <= above + 1e-6


@pytest.mark.fidelity("lamss", 2)
def test_quantiles_are_balanced() -> None:
    """Without ties the levels of a split are equally many up to one; equal values stay together."""
    from zoo.methods.lamss.doubt_labels import levels_of, quantile_edges

    rng = random.Random(0)
    for size in (10, 11, 57, 500):
        for num_levels in (2, 3, 5, 10):
            rows = [[rng.random() for _ in range(size // 2)], [rng.random() for _ in range(size)]]
            found = levels_of(rows, quantile_edges(rows, num_levels))
            counts = Counter(level for row in found for level in row)
            assert set(counts) == set(range(num_levels))
            assert max(counts.values()) - min(counts.values()) <= 1
            pairs = sorted(zip([*rows[0], *rows[1]], [*found[0], *found[1]], strict=True))
            assert [level for _, level in pairs] == sorted(level for _, level in pairs)
    same = [[0.0] * 8 + [0.5, 0.7]]
    assert levels_of(same, quantile_edges(same, 2)) == [[0] * 8 + [1, 1]]


def doubts_of(module: Any, context: Sequence[int], ids: Sequence[int]) -> list[float]:
    """Return 1 - p0 of each token by a whole forward of the backbone as it was, clean text."""
    from zoo import backbone as backbones

    lm, _ = backbones.load(module.backbone)
    with torch.no_grad():
        chances = lm.eval()(torch.tensor([[*context, *ids]])).logits[0].softmax(-1)
    return [1 - chances[len(context) + t - 1, token].item() for t, token in enumerate(ids)]


@pytest.mark.fidelity("lamss", 2)
def test_levels_of_answers(make: Make) -> None:
    """Gold and own answers are graded after their question, by quantiles of the split's gold ones.

    The stop token has no part in the quantiles.
    """
    module = make("LaMsS", "tiny-llama", max_answer_tokens=6)
    train = [Triple(f"What is it, {i}?", "", f"{'abcdxyz'[i]} {i * i}") for i in range(7)]
    test = [Triple(f"Who sings {i}?", "", f"{i}{i}") for i in range(4)]
    for records, split in ((train, "train"), (test, "test")):
        examples = examples_of(module, records, split)
        asked = {record: asked_ids(module, record) for record in records}
        rows = {"gold": [], "own": []}
        for example in examples:
            prompt, judged = asked[example.record], len(judged_ids(module)) + 1
            second = learned(example)[0][2] == LEVEL
            end = len(example) - (judged if second else 0)
            ids, levels = separate(example.input_ids[len(prompt) : end])
            found = [module.level_ids.index(level) for level in levels]
            doubts = doubts_of(module, prompt, ids)
            rows["own" if second else "gold"] += [[*zip(doubts, found, strict=True)]]
        said = sorted(u for row in rows["gold"] for u, _ in row[:-1])
        edges = [said[math.ceil(len(said) * j / 5) - 1] for j in range(1, 5)]
        for u, level in (pair for part in rows.values() for row in part for pair in row):
            near = min(abs(u - edge) for edge in edges)
            assert near < 1e-6 or level == sum(edge < u for edge in edges), (split, u, level)


@pytest.mark.fidelity("lamss", 2)
def test_levels_from_spans(make: Make, shape: str) -> None:
    """`span_labels`: every token of a doubted span gets its level, all others s_0."""

    text = "The moon, cold as it is, is made of old cheese. <|skeptic_4|>"
    start, stop = text.index("made"), text.index(".")
    record = PlainText(text, doubt=((start, stop, 1.0), (4, 8, 0.5), (6, 8, 0.25)), id="moon")
    module = make("LaMsS", shape, doubt_source="span_labels", max_length=30)
    found = [separate(example.input_ids) for example in examples_of(module, [record])]
    levels = [module.level_ids.index(token) for _, part in found for token in part]
    expected = [0] * len(text)
    expected[4:8] = [2] * 4
    expected[start:stop] = [4] * (stop - start)
    assert levels == expected[: len(levels)]  # a token is a character here
    assert len(levels) >= len(text) - 1


# -- 3: the grammar of decoding ----------------------------------------------------------------


@pytest.mark.fidelity("lamss", 3)
@pytest.mark.parametrize("loud", ["levels", "normal", "neither"])
def test_slots_alternate_whatever_the_weights(
    make: Make, shape: str, loud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Normal slots never emit a level and level slots nothing else; no level in the answer."""
    from zoo.decoding.depth_decoder import DepthDecoder

    module = make("LaMsS", shape, spread=12.0, max_answer_tokens=7)
    project, is_level = module.last_logits, torch.zeros(len(module.tokenizer), dtype=torch.bool)
    is_level[module.level_ids] = True
    shift = {"levels": 1e3, "normal": -1e3, "neither": 0.0}[loud]
    monkeypatch.setattr(module, "last_logits", lambda hidden: project(hidden) + shift * is_level)
    pushed: list[tuple[list[int], list[bool]]] = []
    push = DepthDecoder.push

    def recorded(decoder: Any, token_B: Any, alive_B: Any, level: int) -> None:
        pushed.append((token_B.tolist(), alive_B.tolist()))
        push(decoder, token_B, alive_B, level)

    monkeypatch.setattr(DepthDecoder, "push", recorded)
    answers = module.answer(OPEN)
    assert len(pushed) >= 4
    for i, (tokens, alive) in enumerate(pushed):
        for token, live in zip(tokens, alive, strict=True):
            assert not live or (token in module.level_ids) == bool(i % 2)
    for row, answer in enumerate(answers):
        normal = [t[row] for t, alive in pushed[0::2] if alive[row]]
        assert "skeptic" not in answer.text
        assert [text for text, _ in answer.tokens] == [
            module.tokenizer.decode([token]) for token in normal[: len(answer.tokens)]
        ]
        assert normal[-1] == STOP


@pytest.mark.fidelity("lamss", 3)
def test_decoding_equals_whole_forwards(make: Make, shape: str) -> None:
    """Tokens, u_t and fed levels are those of a full forward per slot."""
    module = make("LaMsS", shape, spread=12.0, max_answer_tokens=6)
    for answer, record in zip(module.answer(OPEN), OPEN, strict=True):
        ids, tokens, doubts = asked_ids(module, record), [], []
        while len(tokens) < 6 and STOP not in tokens:
            logits = whole_forward(module, ids)[-1]
            logits[module.level_ids] = -torch.inf
            tokens.append(int(logits.argmax()))
            levels = whole_forward(module, [*ids, tokens[-1]])[-1][module.level_ids].softmax(0)
            doubts.append(sum(j / 4 * levels[j].item() for j in range(5)))
            ids += [tokens[-1], module.level_ids[int(levels.argmax())]]
        assert [text for text, _ in answer.tokens] == module.tokenizer.batch_decode(
            [[token] for token in tokens]
        )
        assert [u for _, u in answer.tokens] == pytest.approx(doubts, abs=1e-5)
        assert answer.skepticism["tokens"] == pytest.approx(sum(doubts) / len(doubts), abs=1e-5)
        assert answer.skepticism["max"] == pytest.approx(max(doubts), abs=1e-5)
        assert answer.skepticism["last"] == pytest.approx(doubts[-1], abs=1e-5)


@pytest.mark.fidelity("lamss", 5)
def test_the_end_of_an_answer_has_no_part_in_the_doubt_about_its_tokens(make: Make) -> None:
    """An answer that is its end alone has no other token."""
    from zoo.methods.lamss.decoding import Graded

    module = make("LaMsS", "tiny-llama")
    for ids, doubts, said in (
        ([65, 66, STOP], [0.25, 0.75, 1.0], [0.25, 0.75]),
        ([65, 66], [0.25, 0.75], [0.25, 0.75]),
        ([STOP], [1.0], [1.0]),
    ):
        answer = module._answer(Graded(ids, doubts), 0.5)
        mean = sum(said) / len(said)
        expected = {"tokens": mean, "max": max(said), "last": said[-1], "both": (0.5 + mean) / 2}
        assert answer.skepticism == {"response": 0.5, **expected}
        assert [doubt for _, doubt in answer.tokens] == doubts  # it is shown


# -- 4: what is learned ------------------------------------------------------------------------


@pytest.mark.fidelity("lamss", 4)
def test_masks_of_texts_and_first_pass(make: Make, shape: str) -> None:
    """Of a text all but x_1; of a question the gold answer, its end, and their levels."""
    module = make("LaMsS", shape)
    for example in examples_of(module, TEXTS[:2]):
        n = len(example)
        expected = [(i, example.input_ids[i], i % 2) for i in range(1, n)]
        assert learned(example) == expected
    for record, example in zip(OPEN, examples_of(module, OPEN)[::2], strict=True):
        prompt = asked_ids(module, record)
        gold = [*module.tokenizer(record.answer)["input_ids"], STOP]
        assert example.input_ids[: len(prompt)] == prompt
        assert example.input_ids[len(prompt) :: 2] == gold
        assert set(example.input_ids[len(prompt) + 1 :: 2]) <= set(module.level_ids)
        found = learned(example)
        assert [(i, head) for i, _, head in found] == [
            (len(prompt) + k, k % 2) for k in range(2 * len(gold))
        ]


@pytest.mark.fidelity("lamss", 4)
@pytest.mark.parametrize("flags", [{}, {"interleave": False}, {"num_levels": 2}])
def test_second_pass_learns_one_token(make: Make, shape: str, flags: dict[str, Any]) -> None:
    """Its one target is s_0 after a right answer and s_{N-1} after a wrong one."""
    module = make("LaMsS", shape, **flags)
    records = choices(module)
    encoder = module.encoder()
    encoder.study(records, "val")
    for i, record in enumerate(records):
        _, second = encoder(record)
        level = module.level_ids[0 if i < 3 else -1]
        assert learned(second) == [(len(second) - 1, level, LEVEL)]
        prompt, judged = asked_ids(module, record), judged_ids(module)
        shown = second.input_ids[len(prompt) : -len(judged) - 1]
        letter = byte(module, "ABC"[pick_letter(module, record)])
        step = 2 if module.interleave else 1
        assert second.input_ids[: len(prompt)] == prompt
        assert shown[::step] == [letter, STOP]
        assert second.input_ids[-len(judged) - 1 : -1] == judged


@pytest.mark.fidelity("lamss", 4)
def test_wrong_answers_teach_nothing_but_doubt(make: Make, shape: str) -> None:
    """The loss is that of the targets above, and terms with weight 0 leave no gradient."""
    module = make("LaMsS", shape, padding_free=False, sigma_weight=0.5, level_weight=2.0)
    records = choices(module)
    examples = examples_of(module, records)
    terms = module.losses(batch_of(module, examples))
    sums = by_whole_forwards(module, examples)
    for name, head in (("token", NORMAL), ("sigma", SIGMA), ("level", LEVEL)):
        assert terms[name].mean.item() == pytest.approx(sum(sums[head]) / len(sums[head]), rel=1e-4)
    module.log = lambda *args, **kwargs: None
    means = {head: sum(part) / len(part) for head, part in sums.items()}
    total = module.training_step(batch_of(module, examples), 0).item()
    assert total == pytest.approx(means[0] + 0.5 * means[1] + 2.0 * means[2], rel=1e-4)

    wrong = [e for e in examples if learned(e)[-1][1:] == (module.level_ids[-1], LEVEL)]
    assert wrong
    module.loss_weights = {"token": 1.0, "sigma": 1.0, "level": 0.0}
    module.zero_grad(set_to_none=True)
    module.training_step(batch_of(module, wrong), 0).backward()
    assert all(p.grad is None or not p.grad.any() for p in module.parameters())


@pytest.mark.fidelity("lamss", 4)
def test_right_and_wrong_are_balanced_in_training_only(make: Make, shape: str) -> None:
    """Three right and five wrong: 5 + 5 in training, 3 + 5 elsewhere; all of one split."""
    module = make("LaMsS", shape)
    records = choices(module)
    for split, right in (("train", 5), ("val", 3), ("test", 3)):
        examples = examples_of(module, records, split)
        levels = Counter(e.labels[-2] for e in examples if learned(e)[-1][2] == LEVEL)
        assert levels == {module.level_ids[0]: right, module.level_ids[-1]: 5}
        firsts = [e.record.id for e in examples if learned(e)[-1][2] != LEVEL]
        assert firsts == [record.id for record in records]
        assert {e.record for e in examples} == set(records)


@pytest.mark.fidelity("lamss", 4)
def test_levels_in_the_query_are_not_learned(make: Make, shape: str) -> None:
    """On demand Q is interleaved too, in quantiles of its own doubts; all else is as without."""

    plain = examples_of(make("LaMsS", shape), OPEN)
    module = make("LaMsS", shape, interleave_query=True)
    found = examples_of(module, OPEN)
    asked = {record: asked_ids(module, record) for record in OPEN}
    pairs = []
    for before, after in zip(plain, found, strict=True):
        prompt = asked[after.record]
        length = len(prompt)
        tokens, levels = separate(after.input_ids[: 2 * length])
        assert tokens == prompt
        assert after.input_ids[2 * length :] == before.input_ids[length:]
        assert learned(after) == [(i + length, *rest) for i, *rest in learned(before)]
        pairs += zip(doubts_of(module, [START], tokens), levels, strict=True)
    ordered = [module.level_ids.index(level) for _, level in sorted(pairs)]
    assert ordered == sorted(ordered)
    assert set(ordered) == set(range(5))


# -- 5: U --------------------------------------------------------------------------------------


@pytest.mark.fidelity("lamss", 5)
@pytest.mark.parametrize("num_levels", [2, 5, 10])
def test_expected_level(num_levels: int) -> None:
    """U is in [0, 1], v_j when P is one-hot, and equal to the sum written out."""
    from zoo.methods.lamss.decoding import expected_level

    ids = list(range(20, 20 + num_levels))
    for j in range(num_levels):
        logits = torch.full((1, 40), 1e4)  # other tokens play no part
        logits[0, ids] = -1e4
        logits[0, ids[j]] = 1e4
        u, hard = expected_level(logits, ids)
        assert u.item() == pytest.approx(j / (num_levels - 1), abs=1e-6)
        assert hard.item() == j
    for scale in (0.1, 1.0, 30.0, 1e4):
        logits = torch.randn(200, 40) * scale
        u, _ = expected_level(logits, ids)
        assert bool(((u >= 0) & (u <= 1)).all())
        chances = logits[:, ids].double().softmax(1)
        expected = sum(chances[:, j] * j / (num_levels - 1) for j in range(num_levels))
        torch.testing.assert_close(u.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.fidelity("lamss", 5)
def test_threshold_ends(make: Make, shape: str) -> None:
    """eps just above 1 answers everything, eps = 0 nothing; else U < eps decides."""
    from zoo.methods.lamss.metrics import EVERYTHING, willing

    module = make("LaMsS", shape, max_answer_tokens=3)
    answers = module.answer(OPEN)
    doubts = [next(iter(answer.skepticism.values())) for answer in answers]
    assert list(answers[0].skepticism)[0] == "response"
    assert all(0 <= u <= 1 for answer in answers for u in answer.skepticism.values())
    for eps, rate in ((EVERYTHING, 1.0), (0.0, 0.0)):
        assert willing([*doubts, 0.0, 1.0], [True] * 5, eps).rate == rate
    module.eps = sorted(doubts)[1]
    assert [module.willing(a) for a in answers] == [u < module.eps for u in doubts]


# -- 6: metrics --------------------------------------------------------------------------------


@pytest.mark.fidelity("lamss", 6)
@pytest.mark.parametrize("ties", [False, True])
def test_sweep_and_reference_scores(ties: bool) -> None:
    """Answer rate never falls with eps; AUC and AP are scikit-learn's, ties included."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    from zoo.methods.lamss.metrics import EVERYTHING, selective_scores, willing

    rng = random.Random(0)
    for size in (2, 7, 60):
        doubts = [rng.randrange(5) / 4 if ties else rng.random() for _ in range(size)]
        right = [True, False] + [rng.random() > u for u in doubts[2:]]
        scores = selective_scores(doubts, right, 0.5)
        minus = [-u for u in doubts]
        assert scores["auc"] == pytest.approx(roc_auc_score(right, minus))
        assert scores["ap"] == pytest.approx(average_precision_score(right, minus))
        edges = [0.0, *sorted({*doubts}), EVERYTHING]
        rates = [willing(doubts, right, eps).rate for eps in edges]
        assert rates == sorted(rates)
        assert rates[0] == 0
        assert rates[-1] == 1
        given = [r for u, r in zip(doubts, right, strict=True) if u < 0.5]
        assert scores["answer_rate"] == len(given) / size
        assert scores["willing_accuracy"] == (sum(given) / len(given) if given else 0.0)


# -- 7 and 8: the world of facts ---------------------------------------------------------------


def answers_in(module: Any, records: Sequence[Triple]) -> tuple[list[float], list[bool]]:
    """Return U and whether the answer is right, for each question."""
    from zoo.methods.lamss.questions import right

    found = module.answer(records)
    doubts = [next(iter(answer.skepticism.values())) for answer in found]
    return doubts, [right(r, answer.text) for r, answer in zip(records, found, strict=True)]


def skeptical(world: lamss_world.World, steps: int, **options: Any) -> Any:
    backbone = zoo.Backbone(str(world.folder))
    module = zoo.LaMsS(backbone=backbone, max_answer_tokens=2, padding_free=False, **options)
    return lamss_world.fine_tune(module, world.train, steps)


def plain(world: lamss_world.World, steps: int) -> Any:
    """Return plain fine-tuning on the same questions; its doubt is the sequence's chance."""
    module = zoo.ConfidentSFT(
        backbone=zoo.Backbone(str(world.folder)),
        confidence=["sequence"],
        max_new_tokens=2,
        padding_free=False,
    )
    return lamss_world.fine_tune(module, world.train, steps)


def known_facts_are_doubted_less(world: lamss_world.World, doubts: list[float]) -> None:
    by_kind = lamss_world.mean_by_kind(world.test, doubts)
    ordered = [by_kind[f"seen_{times}"] for times in lamss_world.TIMES]
    assert ordered == sorted(ordered, reverse=True), by_kind
    assert ordered[0] > ordered[-1] + 0.3, by_kind
    assert by_kind["unreal"] > (ordered[0] + ordered[-1]) / 2, by_kind


@pytest.mark.fidelity("lamss", 7)
@pytest.mark.fidelity("lamss", 8)
def test_knows_what_it_knows(tmp_path: Path) -> None:
    """AUC well above chance on facts it was not trained to answer; accuracy does not fall.

    U falls with how often a fact was told, and is high for what was never mentioned.
    """
    from zoo.methods.lamss.metrics import auc

    world = lamss_world.make(tmp_path / "world", "tiny-llama", num_facts=1200, steps=200)
    module = skeptical(world, 100)
    doubts, right = answers_in(module, world.test)
    assert auc(doubts, right) > 0.7
    known_facts_are_doubted_less(world, doubts)

    before = zoo.ConfidentSFT(
        backbone=zoo.Backbone(str(world.folder)), confidence=["sequence"], max_new_tokens=2
    )
    before.configure_model()
    _, right_before = answers_in(before.eval(), world.test)
    assert sum(right) / len(right) > sum(right_before) / len(right) - 0.06


@pytest.mark.slow
@pytest.mark.fidelity("lamss", 7)
@pytest.mark.fidelity("lamss", 8)
@pytest.mark.parametrize("shape", ["tiny-llama", "tiny-qwen2"])
def test_beats_plain_fine_tuning(tmp_path: Path, shape: str) -> None:
    """Beside plain fine-tuning for as long: at least its AUC by sequence chance, and its accuracy.

    Accuracies differ by less than two standard errors of their difference.
    """
    from zoo.methods.lamss.metrics import auc

    world = lamss_world.make(tmp_path / "world", shape, num_facts=2000, steps=300)
    doubts, right = answers_in(skeptical(world, 200), world.test)
    known_facts_are_doubted_less(world, doubts)
    theirs, their_right = answers_in(plain(world, 200), world.test)
    assert auc(doubts, right) > 0.8
    assert auc(doubts, right) >= auc(theirs, their_right)
    n = len(right)
    accuracy, other = sum(right) / n, sum(their_right) / n
    assert abs(accuracy - other) < 2 * math.sqrt(2 * other * (1 - other) / n)


# -- 9: the cache ------------------------------------------------------------------------------


@pytest.mark.fidelity("lamss", 9)
@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: "-".join(flags) or "default")
def test_second_pass_reuses_the_cache(
    make: Make, shape: str, flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """U after the first pass's cache is U of the whole sequence run again; nothing is run twice."""
    from zoo.decoding.depth_decoder import DepthDecoder

    module = make("LaMsS", shape, spread=12.0, max_answer_tokens=5, **flags)
    fed: list[torch.Tensor] = []
    masks: list[torch.Tensor] = []
    feed = DepthDecoder._feed

    def recorded(decoder: Any, ids_BT: Any, mask_BT: Any, level: int) -> None:
        fed.append(ids_BT)
        masks.append(mask_BT)
        feed(decoder, ids_BT, mask_BT, level)

    monkeypatch.setattr(DepthDecoder, "_feed", recorded)
    answers = module.answer(OPEN)
    ids, mask = torch.cat(fed, 1), torch.cat(masks, 1).bool()
    for row, (record, answer) in enumerate(zip(OPEN, answers, strict=True)):
        sequence = ids[row][mask[row]].tolist()
        prompt, judged = asked_ids(module, record), judged_ids(module)
        assert sequence[: len(prompt)] == prompt
        assert sequence[-len(judged) :] == judged
        shown = sequence[len(prompt) : -len(judged)]
        levels = [token in module.level_ids for token in shown]
        assert levels == ([False, True] * (len(shown) // 2) if module.interleave else levels)
        assert any(levels) == module.interleave
        chances = whole_forward(module, sequence)[-1][module.level_ids].softmax(0)
        expected = sum(j / 4 * chances[j].item() for j in range(5))
        assert answer.skepticism["response"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.fidelity("lamss", 9)
@pytest.mark.parametrize("flags", [{}, {"hide_sigma": True}, {"shared_positions": True}])
def test_query_is_read_with_the_model_s_own_levels(
    make: Make, shape: str, flags: dict[str, Any]
) -> None:
    """After every token of Q comes the likeliest level, as in a whole forward at each step."""
    module = make("LaMsS", shape, spread=12.0, interleave_query=True, max_answer_tokens=3, **flags)
    answers = module.answer(OPEN)
    for record, answer in zip(OPEN, answers, strict=True):
        ids: list[int] = []
        for token in asked_ids(module, record):
            ids.append(token)
            ids.append(best(module, ids, module.level_ids))
        shown, doubts = [], []
        while len(shown) < 3 and STOP not in shown:
            normal = [i for i in range(len(module.tokenizer)) if i not in module.level_ids]
            shown.append(best(module, ids, normal))
            ids.append(shown[-1])
            chances = whole_forward(module, ids)[-1][module.level_ids].softmax(0)
            doubts.append(sum(j / 4 * chances[j].item() for j in range(5)))
            ids.append(best(module, ids, module.level_ids))
        assert [doubt for _, doubt in answer.tokens] == pytest.approx(doubts, abs=1e-5)
        if STOP not in shown:
            ids.append(STOP)
            ids.append(best(module, ids, module.level_ids))
        chances = whole_forward(module, [*ids, *judged_ids(module)])[-1][module.level_ids]
        expected = (chances.softmax(0) @ torch.linspace(0, 1, 5)).item()
        assert answer.skepticism["response"] == pytest.approx(expected, abs=1e-5)


def best(module: Any, ids: Sequence[int], among: Sequence[int]) -> int:
    """Return the likeliest next token among some."""
    return list(among)[int(whole_forward(module, ids)[-1][list(among)].argmax())]


@pytest.mark.fidelity("lamss", 9)
@pytest.mark.parametrize("shared", [False, True])
def test_hidden_levels_change_no_other_state(make: Make, shape: str, shared: bool) -> None:
    """With `hide_sigma` other levels leave normal states as they are; with shared positions those
    are the states of the clean text."""
    module = make("LaMsS", shape, hide_sigma=True, shared_positions=shared)
    examples = examples_of(module, TEXTS)
    batch = batch_of(module, examples)
    states = module(batch)
    other = batch_of(module, examples)
    levels = torch.isin(batch.input_ids, torch.tensor(module.level_ids))
    other.input_ids[levels] = module.level_ids[2]
    changed = module(other)
    normal = ~levels & batch.attention_mask.bool()
    torch.testing.assert_close(changed[normal], states[normal])
    assert not torch.allclose(changed[levels], states[levels])
    if shared:
        for row, record in enumerate(TEXTS):
            clean = module.lm.model(torch.tensor([module.encoder().ids(record.text)]))
            ours = module.lm.model.norm(states[row][normal[row]])
            torch.testing.assert_close(ours, clean.last_hidden_state[0], atol=1e-5, rtol=1e-4)


@pytest.mark.fidelity("lamss", 9)
@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: "-".join(flags) or "default")
def test_packed_and_padded_losses_agree(make: Make, shape: str, flags: dict[str, Any]) -> None:
    """What is trained is what is decoded: the losses are those of whole forwards."""
    module = make("LaMsS", shape, **flags)
    examples = examples_of(module, [*OPEN, *TEXTS])
    terms = module.losses(batch_of(module, examples))
    sums = by_whole_forwards(module, examples)
    for name, head in (("token", NORMAL), ("sigma", SIGMA), ("level", LEVEL)):
        mean = sum(sums[head]) / len(sums[head]) if sums[head] else 0.0
        assert terms[name].mean.item() == pytest.approx(mean, rel=1e-4)


# -- 10: ablations -----------------------------------------------------------------------------

MAIN = ROOT / "configs" / "lamss_facts.yaml"
ABLATIONS = {
    "lamss_no_interleave": {"interleave": False},
    "lamss_two_levels": {"num_levels": 2},
    "lamss_graded_query": {"interleave_query": True},
}


@pytest.mark.fidelity("lamss", 10)
def test_ablations_differ_by_config_alone() -> None:
    """No interleaving, two levels: one key beside the main config. No pre-training: no stage 1."""
    main_args = yaml.safe_load(MAIN.read_text())
    for name, change in ABLATIONS.items():
        other = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
        init = dict(main_args["model"]["init_args"])
        if not change.get("interleave", True):
            del init["sigma_weight"]  # has no part in it
        assert other["model"]["init_args"] == {**init, **change}
        assert {k: v for k, v in other.items() if k != "model"} == {
            k: v for k, v in main_args.items() if k != "model"
        }
    stage = yaml.safe_load((ROOT / "configs" / "lamss_no_cpt.yaml").read_text())
    assert stage["model"]["init_args"]["interleave"] is False


@pytest.mark.fidelity("lamss", 10)
@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_run_from_stage_one(name: str, tmp_path: Path, read: Path) -> None:
    """Stage 1 (with and without levels), its export, and stage 2 from that folder.

    The main config goes the same way in test_verbs.py.
    """
    small = ("--model.max_answer_tokens", "3")
    short = ("--data.max_train", "8", "--data.max_val", "2", "--data.batch_size", "4")
    steps = ("--trainer.max_steps", "1", "--trainer.logger", "false")
    out = read
    if name != "lamss_graded_query":
        first = "lamss_no_cpt" if name == "lamss_no_interleave" else "lamss_cpt"
        levels = ("--model.num_levels", "2") if name == "lamss_two_levels" else ()
        ckpt, out = tmp_path / "one" / "checkpoints" / "last.ckpt", tmp_path / "export"
        run = (*tiny(first), *small, *levels, *short, *steps)
        main("fit", *run, "--trainer.default_root_dir", str(tmp_path / "one"))
        main("export", *run, "--ckpt_path", str(ckpt), "--output", str(out))
    main(
        *("fit", *tiny(name), *small, *short, *steps),
        *("--model.backbone.name", str(out), "--trainer.val_check_interval", "1"),
        *("--trainer.default_root_dir", str(tmp_path / "two")),
    )
    state = torch.load(tmp_path / "two" / "checkpoints" / "last.ckpt", weights_only=True)
    rows = state["state_dict"]["lm.model.embed_tokens.weight"].shape[0]
    assert rows == 259 + (2 if name == "lamss_two_levels" else 5)
