"""The ten properties of HdLM's sheet (arXiv 2507.12930, section 9).

The reference is an independent transcription of the equations, `hdlm_reference.py`.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.hdlm.hdlm_reference import (
    END,
    TWO,
    Reference,
    contexts,
    deep_papers,
    gold,
    ids_of,
    opening,
    papers,
    render,
)
from torch.utils.flop_counter import FlopCounterMode
from training import assert_same_gradients, batch_of, learn, our_gradients, silence

from zoo.records import LabelPath, Taxonomy, Triple

LN_V = math.log(259)  # vocabulary of the byte tokenizer
CASES = [([3], papers()), ([1, 3], deep_papers())]


# -- helpers -----------------------------------------------------------------------------------


def plans_of(module: Any, records: Sequence[Any]) -> list[Any]:
    return [plan for record in records for plan in module.encoder().plans(record)]


class Recorder:
    """Records the tokens that each block is given, the logits of each level, the decoded ids."""

    def __init__(self, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from zoo.decoding.depth_decoder import DepthDecoder

        self.tokens: Counter[int] = Counter()
        self.after: list[Counter[int]] = []  # tokens of each block once a level is decoded
        self.logits: list[list[torch.Tensor]] = [[] for _ in range(module.depth)]
        self.decoded: list[list[list[int]]] = []
        self.hooks = [
            block.register_forward_hook(
                lambda _, inputs, __, j=j: self.tokens.update({j: inputs[0].shape[1]})
            )
            for j, block in enumerate(module.lm.model.layers)
        ]
        project, decode = module.logits, DepthDecoder.decode

        def logits(level: int, states: torch.Tensor) -> torch.Tensor:
            self.logits[level].append(project(level, states))
            return self.logits[level][-1]

        def recorded(decoder: Any, *args: Any, **kwargs: Any) -> list[list[int]]:
            self.decoded.append(decode(decoder, *args, **kwargs))
            self.after.append(self.tokens.copy())
            return self.decoded[-1]

        monkeypatch.setattr(module, "logits", logits)
        monkeypatch.setattr(DepthDecoder, "decode", recorded)

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()


# -- training on a small taxonomy --------------------------------------------------------------

STEPS = 600
AREAS = ("eye", "ear", "leg", "toe", "tax", "will", "oil", "ink", "clay")
MARKS = dict(zip(AREAS, "QWZXKJVBF", strict=True))


def abstracts() -> list[LabelPath]:
    """54 texts: the mark of their area among letters that say nothing."""
    rng = random.Random(0)
    found = []
    for domain in TWO.children[()]:
        for area in TWO.children[domain,]:
            for i in range(6):
                parts = [MARKS[area] * 16, *rng.sample("abcdefgh", 3)]
                rng.shuffle(parts)
                found.append(LabelPath("".join(parts), (domain, area), TWO, id=f"{area}:{i}"))
    return found


def shuffled(module: Any, records: Sequence[LabelPath], size: int) -> Iterator[Any]:
    rng = random.Random(0)
    while True:
        order = rng.sample(list(records), len(records))
        for start in range(0, len(order) - size + 1, size):
            yield batch_of(module, order[start : start + size])


def train(module: Any, batches: Iterator[Any], steps: int, lr: float) -> list[list[float]]:
    """Train with warm-up and linear decay; return the mean of each level at every step."""
    history = learn(
        *(module, batches, steps),
        lambda step: lr * min((step + 1) / 10, 1.0, 1.5 * (1 - step / steps)),
    )
    return [list(terms.values()) for terms in history]


@pytest.fixture(
    scope="session", params=["tiny-llama", pytest.param("tiny-qwen2", marks=pytest.mark.slow)]
)
def trained(make: Any, request: pytest.FixtureRequest) -> SimpleNamespace:
    """An HdLM that has overfitted the abstracts, and its loss curve."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make("HdLM", request.param, spread=3.0, layers=[3], max_new_tokens=4)
        curve = train(module, shuffled(module, abstracts(), 6), STEPS, 4e-3)
        return SimpleNamespace(module=module, curve=curve)


# -- 1: initialisation -------------------------------------------------------------------------


@pytest.mark.fidelity("hdlm", 1)
@pytest.mark.parametrize(("layers", "records"), CASES)
def test_heads_start_as_untied_copies(
    make: Any, shape: str, layers: list[int], records: list[Any]
) -> None:
    """W_i has the final head's values in storage of its own; the final logits are bit-identical."""
    from zoo.backbone import Backbone, load

    module = make("HdLM", shape, layers=layers, padding_free=False)
    final = module.lm.lm_head.weight
    storages = {final.untyped_storage().data_ptr()}
    for i in range(len(layers)):
        head = module.heads[str(i)]
        assert torch.equal(head.weight, final)
        assert head.weight.requires_grad
        assert head.bias is None
        storages.add(head.weight.untyped_storage().data_ptr())
    assert len(storages) == len(layers) + 1
    lm, _ = load(Backbone(shape))
    lm.eval()
    for record in records:
        batch = batch_of(module, [record])
        with torch.no_grad():
            ours = module.logits(len(layers), module(batch)[-1][0])
            backbone = lm(batch.input_ids, attention_mask=batch.attention_mask).logits[0]
        assert torch.equal(ours, backbone)


# -- 2: supervision ----------------------------------------------------------------------------


@pytest.mark.fidelity("hdlm", 2)
@pytest.mark.parametrize(("layers", "records"), CASES)
def test_a_level_learns_its_text_and_end_of_turn(
    make: Any, shape: str, layers: list[int], records: list[Any]
) -> None:
    """Head i learns exactly segment i + end-of-turn; headers, subtasks, system, user: no head."""
    module = make("HdLM", shape, layers=layers)
    for record in records:
        batch, expected = batch_of(module, [record]), render(module.tokenizer, record)
        assert batch.input_ids[0].tolist() == expected.ids
        owner = [-1] * len(expected.ids)
        for level, span in enumerate(expected.spans):
            decoded = module.tokenizer.decode([expected.ids[i] for i in span])
            assert decoded == gold(record)[level] + END
            for i in span:
                owner[i - 1] = level  # the state at i - 1 predicts token i
        assert batch.head_ids[0].tolist() == owner
        wanted = [expected.ids[i + 1] if h != -1 else -100 for i, h in enumerate(owner)]
        assert batch.labels[0].tolist() == wanted
        count = sum(len(ids_of(module.tokenizer, text)) + 1 for text in gold(record))
        assert batch.num_supervised == count


@pytest.mark.fidelity("hdlm", 2)
@pytest.mark.parametrize(("layers", "records"), CASES)
def test_a_loss_changes_with_the_targets_of_its_level_only(
    make: Any, shape: str, layers: list[int], records: list[Any]
) -> None:
    """Other targets in segment i change L_i alone; L_i equals the transcription's."""
    module = make("HdLM", shape, spread=5.0, layers=layers)
    batch = batch_of(module, records)
    before = [term.loss.item() for term in module.losses(batch).values()]
    reference = Reference(module, layers)
    expected = reference.losses([render(module.tokenizer, record) for record in records])
    assert before == pytest.approx([x.item() for x in expected], rel=1e-4)
    for level in range(len(layers) + 1):
        other = batch_of(module, records)
        other.labels[other.head_ids == level] = ord("z")
        after = [term.loss.item() for term in module.losses(other).values()]
        changed = [a != b for a, b in zip(after, before, strict=True)]
        assert changed == [i == level for i in range(len(layers) + 1)]


# -- 3: gradients ------------------------------------------------------------------------------

WEIGHTED = [
    ([3], papers(), [0.0, 1.0]),
    ([2], papers(), [1.0, 0.0]),
    ([3], papers(), [2.0, 1.0]),
    ([1, 3], deep_papers(), [0.0, 0.0, 1.0]),
    ([1, 3], deep_papers(), [1.0, 1.0, 0.0]),
    ([1, 3], deep_papers(), [1.0, 0.0, 0.0]),
    ([1, 3], deep_papers(), [1.0, 1.0, 4.0]),
]


@pytest.mark.fidelity("hdlm", 3)
@pytest.mark.parametrize(("layers", "records", "weights"), WEIGHTED)
def test_gradients_are_those_of_the_weighted_sum(
    make: Any, shape: str, layers: list[int], records: list[Any], weights: list[float]
) -> None:
    """Zero coarse weights are answer-only SFT; w_D = 0 leaves what is above k_{D-1} alone.

    Where the final head is tied to the embedding, its gradient as an embedding is legitimate; the
    transcription has exactly that part.
    """
    module = make("HdLM", shape, spread=5.0, layers=layers, weights=weights)
    ours = our_gradients(module, batch_of(module, records))
    samples = [render(module.tokenizer, record) for record in records]
    expected = Reference(module, layers).gradients(samples, weights)
    assert_same_gradients(ours, expected)
    deepest = max(k for k, w in zip([*layers, 4], weights, strict=True) if w)
    alone = [f"heads.{i}." for i, w in enumerate(weights[:-1]) if not w]
    alone += [f"lm.model.layers.{j}." for j in range(deepest, 4)]
    alone += ["lm.model.norm.", "lm.lm_head."] if not weights[-1] else []
    for name, gradient in ours.items():
        silent = gradient is None or not gradient.any()
        if name.startswith(tuple(alone)):
            assert silent, name
        elif name.startswith("lm.model.layers.") and "weight" in name:
            assert not silent, name


@pytest.mark.fidelity("hdlm", 3)
def test_no_coarse_weight_equals_the_sft_module(make: Any, shape: str, triples: Any) -> None:
    """Coarse weights 0: the backbone's gradients are those of SFT on the answer, same sequence."""
    module = make("HdLM", shape, spread=5.0, weights=[0.0, 1.0])
    sft = make("SFT", shape, spread=5.0, learn_thought=True)
    batch = batch_of(module, triples)
    ours = our_gradients(module, batch)
    head = ours.pop("heads.0.weight")
    assert head is None or not head.any()
    answers = batch_of(module, triples)
    answers.head_ids = torch.where(batch.head_ids == 1, 0, -1)
    answers.normalizers = {0: batch.normalizers[1]}
    assert_same_gradients(ours, our_gradients(sft, answers))


# -- 4 and 5: decoding -------------------------------------------------------------------------


@pytest.mark.fidelity("hdlm", 4)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_coarse_pass_runs_k_blocks(
    make: Any, shape: str, triples: Any, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    """Decoding level 1 runs k blocks, once per token; its logits are those of a full forward."""
    module = make("HdLM", shape, spread=5.0, layers=[k], max_new_tokens=7)
    reference = Reference(module, [k])
    recorder = Recorder(module, monkeypatch)
    module.generate(plans_of(module, triples[:1]))
    recorder.close()
    (coarse,), (fine,) = recorder.decoded
    assert coarse
    sample = render(module.tokenizer, triples[0])
    fed = [*sample.ids[: sample.spans[0].start], *coarse]
    assert recorder.after[0] == Counter({j: len(fed) + 1 for j in range(k)})  # 1: end-of-turn
    header = len(ids_of(module.tokenizer, contexts(triples[0], 2)([""])))
    later = header + min(len(fine), module.max_new_tokens - 1)  # the last is not fed
    assert recorder.after[1] == Counter({j: len(fed) + 1 + later for j in range(4)})
    with torch.no_grad():
        expected = reference.logits(fed)[0][sample.spans[0].start - 1 :]
    steps = min(len(coarse) + 1, module.max_new_tokens)
    got = torch.cat(recorder.logits[0])[:steps]
    torch.testing.assert_close(got, expected[:steps], rtol=1e-4, atol=1e-4)


@pytest.mark.fidelity("hdlm", 4)
def test_every_coarse_pass_of_three_levels_runs_its_blocks(
    make: Any, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Depth 3: level i is decoded with k_i blocks per token and no more."""
    module = make("HdLM", shape, spread=5.0, layers=[1, 3], max_new_tokens=3)
    recorder = Recorder(module, monkeypatch)
    module.generate(plans_of(module, deep_papers()[:1]))
    recorder.close()
    for after, k in zip(recorder.after, (1, 3, 4), strict=True):
        assert set(after) == set(range(k))
        assert len(set(after.values())) == 1  # each token once through each block


def assert_tokens_equal_reprefill(
    module: Any, layers: list[int], records: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> list[list[list[int]]]:
    reference = Reference(module, layers)
    limit = module.max_new_tokens
    expected = [reference.reply(module.tokenizer, record, limit) for record in records]
    with monkeypatch.context() as patch:
        recorder = Recorder(module, patch)
        module.generate(plans_of(module, records))
        recorder.close()
    assert [list(levels) for levels in zip(*recorder.decoded, strict=True)] == expected
    return expected


@pytest.mark.fidelity("hdlm", 5)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_reuse_equals_reprefill(
    make: Any, shape: str, triples: Any, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    """Levels on kept states have the tokens of a full prefill per token (random weights)."""
    module = make("HdLM", shape, spread=12.0, layers=[k], max_new_tokens=9)
    with torch.no_grad():
        module.heads["0"].weight.normal_()  # no echo of the last token
    expected = assert_tokens_equal_reprefill(module, [k], triples, monkeypatch)
    assert len({tuple(levels[0]) for levels in expected}) > 1


@pytest.mark.fidelity("hdlm", 5)
def test_reuse_equals_reprefill_with_three_levels(
    make: Any, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same through two subtasks, after a coarse text that means no class."""
    module = make("HdLM", shape, spread=12.0, layers=[1, 3], max_new_tokens=5)
    with torch.no_grad():
        module.heads["0"].weight.normal_()
    assert_tokens_equal_reprefill(module, [1, 3], deep_papers(), monkeypatch)


@pytest.mark.fidelity("hdlm", 5)
def test_reuse_equals_reprefill_on_a_trained_model(
    trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with real numbers and subtasks of unequal length in one batch."""
    records = [*abstracts()[::13], LabelPath("F" * 9, ("art", "clay"), TWO, id="new")]
    expected = assert_tokens_equal_reprefill(trained.module, [3], records, monkeypatch)
    assert len({str(levels[0]) for levels in expected}) == 3


# -- 6: cost -----------------------------------------------------------------------------------


def block_tokens(module: Any, run: Any) -> float:
    """Return the measured FLOPs of matrix products in `run`, in forward passes of block x token.

    Attention's quadratic part is no matrix product of the counted kinds; heads are taken off by
    the caller.
    """
    with FlopCounterMode(display=False) as counter:
        run()
    counts = counter.get_flop_counts()["Global"]
    mm, addmm = torch.ops.aten.mm, torch.ops.aten.addmm
    return (counts.get(mm, 0) + counts.get(addmm, 0)) / unit(module)


def unit(module: Any) -> int:
    block = module.lm.model.layers[0]
    return 2 * sum(p.numel() for p in block.parameters() if p.ndim == 2)


def head_cost(module: Any, rows: int) -> float:
    return rows * 2 * module.lm.lm_head.weight.numel() / unit(module)


def script(module: Any, monkeypatch: pytest.MonkeyPatch, texts: Sequence[list[int]]) -> None:
    """Let each level decode the given tokens; the head is still run and paid for."""
    project, steps = module.logits, [iter(ids) for ids in texts]

    def logits(level: int, states: torch.Tensor) -> torch.Tensor:
        found = torch.zeros_like(project(level, states))
        found[:, next(steps[level])] = 1
        return found

    monkeypatch.setattr(module, "logits", logits)


def plain(module: Any, length: int, layers: int = 4) -> float:
    """Return the measured cost of a plain forward pass over some tokens through some blocks."""
    lm = Reference(module, [1]).lm.model
    lm.layers = lm.layers[:layers]
    with torch.no_grad():
        return block_tokens(module, lambda: lm(torch.zeros(1, length, dtype=torch.long)))


def long_record() -> LabelPath:
    children = {(): ("x", "y")} | {(name,): tuple("abcdefgh") for name in "xy"}
    return LabelPath("word " * 60, ("x", "h"), Taxonomy(children), id="long")


@pytest.mark.fidelity("hdlm", 6)
@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2"])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("kind", ["classes", "rationale"])
def test_flops_of_decoding(
    make: Any, name: str, monkeypatch: pytest.MonkeyPatch, k: int, kind: str
) -> None:
    """Measured FLOPs of a coarse answer, of both levels, and the saving are the formulas' (3 %)."""
    module = make("HdLM", name, layers=[k])
    if kind == "classes":
        record: Any = long_record()
    else:
        record = Triple("What? " * 12, "Since " * 25, "x" * 10)
    sample = render(module.tokenizer, record)
    coarse, fine = ([sample.ids[i] for i in span] for span in sample.spans)
    n_q, n_t, n_a = sample.spans[0].start, len(coarse), len(fine)
    n_s = sample.spans[1].start - n_q - n_t
    recorder = Recorder(module, monkeypatch)
    script(module, monkeypatch, [coarse, fine])
    measured = block_tokens(module, lambda: module.generate(plans_of(module, [record])))
    recorder.close()
    assert recorder.decoded == [[coarse[:-1]], [fine[:-1]]]
    both = measured - head_cost(module, n_t + n_a)
    # Coarse answer only: k / L of the plain cost. Both levels: that of one plain generation.
    only = sum(recorder.after[0].values())
    assert only == pytest.approx(k / 4 * plain(module, n_q + n_t), rel=0.03)
    formula = k * (n_q + n_t) + (4 - k) * (n_q + n_t) + 4 * (n_s + n_a)
    assert both == pytest.approx(formula, rel=0.03)
    one = plain(module, n_q + n_t + n_s + n_a)
    assert both == pytest.approx(one, rel=0.03)
    # Two plain calls; early exit without reuse; the sheet's savings against two calls.
    two = plain(module, n_q + n_t) + one
    no_reuse = plain(module, n_q + n_t, layers=k) + one
    base = 2 * 4 * (n_q + n_t) + 4 * (n_s + n_a)
    assert 1 - no_reuse / two == pytest.approx((4 - k) * (n_q + n_t) / base, rel=0.03)
    assert 1 - both / two == pytest.approx(4 * (n_q + n_t) / base, rel=0.03)


@pytest.mark.fidelity("hdlm", 6)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_sequential_work_of_decoding(make: Any, monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    """One-token block calls, against a plain model's: (k n_t + L n_a) / L (n_t + n_a)."""
    module = make("HdLM", "tiny-llama", layers=[k])
    record = Triple("What?", "Since " * 25, "x" * 40)
    sample = render(module.tokenizer, record)
    coarse, fine = ([sample.ids[i] for i in span] for span in sample.spans)
    script(module, monkeypatch, [coarse, fine])
    steps: Counter[int] = Counter()
    for block in module.lm.model.layers:
        block.register_forward_hook(lambda _, inputs, __: steps.update([inputs[0].shape[1]]))
    module.generate(plans_of(module, [record]))
    n_t, n_a = len(coarse), len(fine)
    ratio = (k * n_t + 4 * n_a) / (4 * (n_t + n_a))
    assert steps[1] / (4 * (n_t + n_a)) == pytest.approx(ratio, rel=0.03)


@pytest.mark.fidelity("hdlm", 6)
@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_flops_of_training(make: Any, name: str, k: int) -> None:
    """A coarse-only batch costs k / L; D levels in one sequence cost that part of D samples."""
    record = long_record()
    joint, apart = (make("HdLM", name, layers=[k], separate=s) for s in (False, True))

    def cost(module: Any, examples: Sequence[Any]) -> float:
        from zoo.encoding import sum_head_weights

        totals = sum_head_weights(examples)
        batch = module.encoder().collate(examples, totals)
        silence(module).train()
        measured = block_tokens(module, lambda: module.training_step(batch, 0).backward())
        return measured - 3 * head_cost(module, round(sum(totals.values())))

    coarse, fine = apart.encoder()(record)
    (whole,) = joint.encoder()(record)
    # Forward, and gradients of inputs and weights: three times the forward FLOPs.
    assert cost(apart, [coarse]) == pytest.approx(3 * k * len(coarse), rel=0.03)
    assert cost(apart, [fine]) == pytest.approx(3 * 4 * len(fine), rel=0.03)
    spans = render(joint.tokenizer, record).spans
    ratio = spans[1].stop / (spans[0].stop + spans[1].stop)
    two = 3 * 4 * len(coarse) + cost(apart, [fine])  # per-level samples of a plain model
    assert cost(joint, [whole]) / two == pytest.approx(ratio, rel=0.03)


# -- 7: overfitting and intervention -----------------------------------------------------------


@pytest.mark.fidelity("hdlm", 7)
def test_small_taxonomy_is_overfitted(trained: SimpleNamespace) -> None:
    """All paths of the training texts are decoded."""
    from zoo.methods.hdlm.metrics import path_scores

    records = abstracts()
    found = trained.module.generate(plans_of(trained.module, records))
    scores = path_scores(found, [record.labels for record in records])
    assert scores["joint_accuracy"] == 1, scores
    assert scores["joint_macro_f1"] == pytest.approx(1)
    assert scores["failed"] == 0


@pytest.mark.fidelity("hdlm", 7)
def test_a_wrong_coarse_label_changes_the_fine_answer(
    trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subtask lists the classes under the forced label, and the fine answer is one of them."""
    from zoo.decoding.depth_decoder import DepthDecoder

    module, records = trained.module, abstracts()
    domains = TWO.children[()]
    wrong = [domains[(domains.index(r.labels[0]) + 1) % 3] for r in records]
    fed: list[list[list[int]]] = []
    feed = DepthDecoder.feed

    def recorded(decoder: Any, ids: Any, level: int) -> None:
        fed.append(ids)
        feed(decoder, ids, level)

    monkeypatch.setattr(DepthDecoder, "feed", recorded)
    plans = plans_of(module, records)
    right = module.generate(plans, forced=[[r.labels[0]] for r in records])
    other = module.generate(plans, forced=[[name] for name in wrong])
    assert right == [list(r.labels) for r in records]
    assert [path[0] for path in other] == wrong
    for record, name, path, row in zip(records, wrong, other, fed[1], strict=True):
        number = str(domains.index(name))
        prompt = opening(record) + contexts(record, 2)([]) + number + END
        assert module.tokenizer.decode(row) == prompt + contexts(record, 2)([number])
        assert path[1] not in TWO.children[record.labels[0],]
    inside = [path[1] in TWO.children[path[0],] for path in other]
    assert sum(inside) > len(inside) / 2  # a number that the other list has


# -- 8: scores ---------------------------------------------------------------------------------


def brute_force(predicted: Sequence[Any], gold_paths: Sequence[Any]) -> dict[str, float]:
    """Count true and false positives and misses of every joint path, one record at a time."""
    f1 = []
    both = [(tuple(p), tuple(g)) for p, g in zip(predicted, gold_paths, strict=True)]
    for label in {g for _, g in both}:
        pairs = [(p == label, g == label) for p, g in both]
        hit = sum(p and g for p, g in pairs)
        f1.append(2 * hit / (sum(p for p, _ in pairs) + sum(g for _, g in pairs)))
    right = sum(p == g for p, g in both)
    wrong = len(gold_paths) - right  # each is one false positive and one miss
    return {
        "joint_accuracy": right / len(gold_paths),
        "joint_micro_f1": 2 * right / (2 * right + wrong + wrong),
        "joint_macro_f1": sum(f1) / len(f1),
    }


@pytest.mark.fidelity("hdlm", 8)
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_joint_f1_is_that_of_counting(seed: int, depth: int) -> None:
    """Random paths, wrong ones and failed ones; the same name under two parents."""
    from zoo.methods.hdlm.metrics import FAILED, path_scores

    rng = random.Random(seed)

    def path(*more: str) -> list[str]:
        return [rng.choice(["a", "b", "c", *more]) for _ in range(depth)]

    wanted = [path() for _ in range(40)]
    found = [g if rng.random() < 0.5 else path(FAILED, "new") for g in wanted]
    scores = path_scores(found, wanted)
    for name, value in brute_force(found, wanted).items():
        assert scores[name] == pytest.approx(value), name
    assert scores["joint_micro_f1"] == pytest.approx(scores["joint_accuracy"])
    for i in range(depth):
        level = sum(p[i] == g[i] for p, g in zip(found, wanted, strict=True)) / 40
        assert scores[f"level_{i + 1}_accuracy"] == pytest.approx(level)


# -- 9: other depths ---------------------------------------------------------------------------


@pytest.mark.fidelity("hdlm", 9)
def test_depth_one_is_ordinary_fine_tuning(make: Any, shape: str) -> None:
    """D = 1: no heads; batch, loss, gradients and reply are those of SFT on the same sequence."""
    from zoo.methods.sft.module import SFT

    taxonomy = Taxonomy({(): ("left", "right", "up")})
    records = [LabelPath(t, (c,), taxonomy, id=t) for t, c in (("go on", "up"), ("no", "left"))]
    module = make("HdLM", shape, spread=5.0, depth=1, max_new_tokens=6)
    sft: SFT = make("SFT", shape, spread=5.0, max_answer_tokens=6)
    assert not module.heads
    triples = [
        Triple(
            f"{r.text}\n\nClasses:\n0: left\n1: right\n2: up",
            "",
            gold(r)[0],
            system="You sort texts into classes, from coarse to fine. Answer with a class number.",
        )
        for r in records
    ]
    ours, theirs = batch_of(module, records), batch_of(sft, triples)
    for name in ("input_ids", "labels", "head_ids", "weights"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert ours.normalizers == theirs.normalizers
    assert module.losses(ours)["level_1"].loss == sft.losses(theirs)["speak"].loss
    assert_same_gradients(our_gradients(module, ours), our_gradients(sft, theirs))
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(module, patch)
        module.generate(plans_of(module, records))
        recorder.close()
    replies = [module.tokenizer.decode(ids).strip() for ids in recorder.decoded[0]]
    assert replies == [reply.answer for reply in sft.generate(triples)]


@pytest.mark.fidelity("hdlm", 9)
def test_depth_three_trains_and_decodes(make: Any, shape: str) -> None:
    """D = 3: every L_i falls on a few records, and all paths are decoded afterwards."""
    torch.manual_seed(0)
    module = make("HdLM", shape, depth=3, max_new_tokens=3)
    assert module.ks == [2, 3, 4]
    records = deep_papers()
    batch = batch_of(module, records)

    def repeat() -> Iterator[Any]:
        while True:
            yield batch

    curve = train(module, repeat(), 200, 1e-2)
    assert all(late < early / 10 for late, early in zip(curve[-1], curve[0], strict=True))
    found = module.generate(plans_of(module, records))
    assert found == [list(record.labels) for record in records]


# -- 10: the course of training ----------------------------------------------------------------


@pytest.mark.fidelity("hdlm", 10)
def test_the_coarse_loss_starts_at_ln_v_and_falls_fast(trained: SimpleNamespace) -> None:
    """L_1 starts at ln V (a tiny random stream is near zero) and halves in a tenth of training."""
    coarse = [point[0] for point in trained.curve]
    shown = [round(coarse[i], 2) for i in range(0, STEPS, STEPS // 12)]
    print(f"coarse loss: {shown}, last {coarse[-1]:.4f}")
    assert coarse[0] > LN_V - 0.05
    assert min(coarse[: STEPS // 10]) < coarse[0] / 2
    assert coarse[-1] < 0.1
    assert all(math.isfinite(x) for point in trained.curve for x in point)


@pytest.mark.fidelity("hdlm", 10)
@pytest.mark.parametrize("name", ["tiny-llama", "tiny-gemma"])
def test_a_large_raw_stream_starts_above_ln_v(make: Any, name: str) -> None:
    """Without a norm L_1 starts above ln V on a stream of a trained model's size; with one not."""
    start = {}
    for norm in (False, True):
        module = make("HdLM", name, head_norm=norm)
        with torch.no_grad():
            heads = module.lm.lm_head.weight.detach().clone()
            module.lm.model.embed_tokens.weight.mul_(2000)
            for head in (module.lm.lm_head, module.heads["0"]):  # the heads keep their size
                head.weight = torch.nn.Parameter(heads.clone())
        terms = module.losses(batch_of(module, papers()))
        start[norm] = terms["level_1"].mean.item()
    assert start[False] > LN_V + 1
    assert abs(start[True] - LN_V) < 0.3


@pytest.mark.fidelity("hdlm", 10)
@pytest.mark.parametrize(("layers", "records"), CASES)
def test_small_steps_lower_every_level(
    make: Any, shape: str, layers: list[int], records: list[Any]
) -> None:
    """Full-batch gradient descent with a small rate: every L_i and L fall at every step."""
    module = silence(make("HdLM", shape, layers=layers))
    batch = batch_of(module, records)
    curve = []
    for _ in range(6):
        module.zero_grad()
        terms = module.losses(batch)
        module.training_step(batch, 0).backward()
        curve.append([term.loss.item() for term in terms.values()])
        with torch.no_grad():
            for p in module.parameters():
                if p.grad is not None:
                    p -= 0.02 * p.grad
    for before, after in zip(curve, curve[1:], strict=False):
        assert all(b < a for a, b in zip(before, after, strict=True)), curve
