"""The ten properties of MeTHanol's sheet (arXiv 2409.12059, section 8).

The reference in this file is an independent transcription of the paper's equations: the template
written out as a string, plain Hugging Face forward passes one sequence at a time (eager attention,
`output_hidden_states=True`), torch's own cross-entropy on full logits, autograd. It uses nothing of
`zoo` but the weights.
"""

from __future__ import annotations

import copy
import math
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from training import assert_same_gradients, batch_of, learn, our_gradients

from zoo.records import Dialogue, Triple

END = "<|im_end|>"
THINK, SPEAK = 0, 1
LN_V = math.log(259)  # vocabulary of the byte tokenizer


# -- the transcription -------------------------------------------------------------------------


@dataclass
class Sequence1:
    """One rendered sample: ids, and for each of T and A the positions of its tokens."""

    ids: list[int]
    spans: dict[str, range]


def render(tokenizer: Any, record: Triple) -> Sequence1:
    """Write out system, user, thought and assistant turns in ChatML, each closed by end-of-turn."""
    system = record.system or "You are a helpful assistant."
    ids: list[int] = []
    spans = {}
    for name, text in (
        ("", f"<|im_start|>system\n{system}{END}\n<|im_start|>user\n{record.query}{END}"),
        ("", "\n<|im_start|>thought\n"),
        ("T", record.thought + END),
        ("", "\n<|im_start|>assistant\n"),
        ("A", record.answer + END),
    ):
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        if name:
            spans[name] = range(len(ids), len(ids) + len(piece))
        ids += piece
    return Sequence1(ids, spans)


class Reference:
    """Equations (1) to (5) with nothing but Hugging Face and autograd; weights copied from ours."""

    def __init__(self, module: Any) -> None:
        config = copy.deepcopy(module.lm.config)
        config._attn_implementation = "eager"
        self.lm = type(module.lm)(config)
        self.lm.load_state_dict(module.lm.state_dict())
        self.lm.tie_weights()
        self.lm.to(next(module.lm.parameters()).dtype).eval()
        self.k = module.k
        # W_T is a clone of W_A and thus of module.lm.lm_head at step 0; later its own values.
        self.thinking = module.thinking_head.weight.detach().clone().requires_grad_()
        self.raw_top: torch.Tensor | None = None
        self.lm.model.layers[-1].register_forward_hook(self._keep)

    def _keep(self, _: Any, __: Any, output: Any) -> None:
        self.raw_top = output[0] if isinstance(output, tuple) else output

    def logits(self, ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return W_T h_k and W_A norm(h_K) of one sequence, `(L, V)` each."""
        out = self.lm(torch.tensor([list(ids)]), output_hidden_states=True, use_cache=False)
        middle = out.hidden_states[self.k] if self.k < len(self.lm.model.layers) else self.raw_top
        return (middle @ self.thinking.t())[0], out.logits[0]

    def losses(self, samples: Sequence[Sequence1]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return L_think and L_speak: means over all T and all A tokens of the samples."""
        parts: dict[str, list[torch.Tensor]] = {"T": [], "A": []}
        for sample in samples:
            for name, logits in zip("TA", self.logits(sample.ids), strict=True):
                span = sample.spans[name]
                target = torch.tensor([sample.ids[i] for i in span])
                rows = logits[span.start - 1 : span.stop - 1]
                parts[name].append(cross_entropy(rows, target, reduction="none"))
        return torch.cat(parts["T"]).mean(), torch.cat(parts["A"]).mean()

    def gradients(
        self, samples: Sequence[Sequence1], think: float, speak: float
    ) -> dict[str, torch.Tensor | None]:
        """Return the gradient of lambda_T L_think + lambda_A L_speak by parameter name.

        A term with weight zero is left out of the sum, not multiplied by zero.
        """
        self.lm.zero_grad(set_to_none=True)
        self.thinking.grad = None
        l_think, l_speak = self.losses(samples)
        terms = [w * term for w, term in ((think, l_think), (speak, l_speak)) if w]
        torch.stack(terms).sum().backward()
        found = {f"lm.{name}": p.grad for name, p in self.lm.named_parameters()}
        return {**found, "thinking_head.weight": self.thinking.grad}

    @torch.no_grad()
    def reply(self, tokenizer: Any, record: Triple, limit: int) -> tuple[list[int], list[int]]:
        """Greedy two-pass decoding, every token by a full forward pass over everything so far."""

        def ids_of(text: str) -> list[int]:
            return tokenizer(text, add_special_tokens=False)["input_ids"]

        def decode(ids: list[int], which: int) -> list[int]:
            new: list[int] = []
            while len(new) < limit:
                token = int(self.logits([*ids, *new])[which][-1].argmax())
                if token == stop:
                    break
                new.append(token)
            return new

        (stop,) = ids_of(END)
        prompt = render(tokenizer, record)
        first = prompt.ids[: prompt.spans["T"].start]
        thought = decode(first, 0)
        second = [*first, *thought, stop, *ids_of("\n<|im_start|>assistant\n")]
        return thought, decode(second, 1)


# -- helpers -----------------------------------------------------------------------------------


@pytest.fixture
def methanol(make: Any, shape: str) -> Any:
    """An untrained MeTHanol, weights spread enough that states and gradients are well apart."""
    return make("MeTHanol", shape, spread=5.0)


def train(
    module: Any, batches: Iterator[Any], steps: int, lr: float, *, decay_from: float = 0.6
) -> list[dict[str, float]]:
    """Train with warm-up and linear decay; return the mean of each term at every step."""

    def rate(step: int) -> float:
        late = max(0.0, step / steps - decay_from) / (1 - decay_from)
        return lr * min(1.0, (step + 1) / 5) * (1 - 0.9 * late)

    return learn(module, batches, steps, rate)


def repeat(batch: Any) -> Iterator[Any]:
    while True:
        yield batch


def stories() -> list[Triple]:
    """Sally-Anne in miniature: only the order of leaving and moving decides what Ann thinks."""
    found = []
    for first, second in (("box", "bag"), ("bag", "box")):
        moves = f"Bob: ball in {second}."
        for kind, middle, seen in (
            ("false_belief", f"Ann left. {moves}", first),
            ("true_belief", f"{moves} Ann left.", second),
        ):
            query = f"Ann: ball in {first}. {middle} Ann looks?"
            found.append(Triple(query, f"Ann saw {seen}.", seen, system="s", kind=kind))
    return found


def choices() -> list[Triple]:
    """One query, two thoughts: the answer can come from the thought alone."""
    return [Triple("Pick.", f"I want {x}.", x, system="s") for x in ("red", "sky")]


def personas() -> list[Triple]:
    """One query under two system prompts, which think and answer differently."""
    return [
        Triple("I am late.", "Be kind.", "Oh dear!", system="A friend."),
        Triple("I am late.", "Be strict.", "So what.", system="A boss."),
    ]


STEPS = 280


@pytest.fixture(scope="session")
def trained(make: Any, shape: str) -> SimpleNamespace:
    """A MeTHanol that has overfitted stories, choices and personas, and its loss curve."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make("MeTHanol", shape, max_thought_tokens=24, max_answer_tokens=16)
        batch = batch_of(module, [*stories(), *choices(), *personas()])
        return SimpleNamespace(module=module, curve=train(module, repeat(batch), STEPS, 1e-2))


# -- 1: initialisation -------------------------------------------------------------------------


@pytest.mark.fidelity("methanol", 1)
def test_thinking_head_starts_as_an_untied_clone(make: Any, shape: str, triples: Any) -> None:
    """At step 0, W_T has W_A's values in storage of its own and A's logits are the backbone's."""
    module = make("MeTHanol", shape)
    thinking, speaking = module.thinking_head.weight, module.lm.lm_head.weight
    assert torch.equal(thinking, speaking)
    assert thinking.untyped_storage().data_ptr() != speaking.untyped_storage().data_ptr()
    assert thinking.requires_grad
    assert module.thinking_head.bias is None
    reference = Reference(module)
    for record in triples:
        batch = batch_of(module, [record])
        with torch.no_grad():
            ours = module.last_logits(module(batch)[1][0])
            expected = reference.logits(batch.input_ids[0].tolist())[1]
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    with torch.no_grad():  # a step on one head must not move the other
        thinking += 1
    assert not torch.equal(thinking, speaking)


# -- 2: supervision ----------------------------------------------------------------------------


def supervised_text(module: Any, batch: Any, row: int, head: int) -> list[str]:
    """Return the decoded runs of neighbouring labels that a head learns in one row."""
    runs: list[list[int]] = [[]]
    for owner, label in zip(batch.head_ids[row].tolist(), batch.labels[row].tolist(), strict=True):
        if owner == head:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    return [module.tokenizer.decode(run) for run in runs if run]


@pytest.mark.fidelity("methanol", 2)
def test_labels_are_thought_and_answer_with_their_end_of_turn(
    make: Any, shape: str, triples: Any
) -> None:
    """W_T learns exactly T + end-of-turn, W_A exactly A + end-of-turn; Q and headers neither."""
    module = make("MeTHanol", shape)
    for record in triples:
        batch = batch_of(module, [record])
        expected = render(module.tokenizer, record)
        assert batch.input_ids[0].tolist() == expected.ids
        assert supervised_text(module, batch, 0, THINK) == [record.thought + END]
        assert supervised_text(module, batch, 0, SPEAK) == [record.answer + END]
        # Every position, by the transcription: the state at i - 1 predicts token i of its span.
        owner = [-1] * len(expected.ids)
        for head, name in ((THINK, "T"), (SPEAK, "A")):
            for i in expected.spans[name]:
                assert owner[i - 1] == -1, "thinking and speaking labels overlap"
                owner[i - 1] = head
        assert batch.head_ids[0].tolist() == owner
        wanted = [expected.ids[i + 1] if h != -1 else -100 for i, h in enumerate(owner)]
        assert batch.labels[0].tolist() == wanted


@pytest.mark.fidelity("methanol", 2)
@pytest.mark.parametrize("keep", [True, False])
def test_labels_of_a_dialogue(make: Any, shape: str, dialogue: Dialogue, keep: bool) -> None:
    """Multi-turn: one T, A pair per supporter turn that answers; nothing else is learned."""
    from zoo.prompts.thoughts import SUPPORT_SYSTEM, turn_thought

    module = make("MeTHanol", shape, keep_thoughts=keep)
    first, second = dialogue.turns[2], dialogue.turns[4]
    t1, t2 = turn_thought(dialogue, first), turn_thought(dialogue, second, plan_only=keep)
    assert len({t1, t2, first.text, second.text}) == 4
    start = (
        f"<|im_start|>system\n{SUPPORT_SYSTEM}{END}\n<|im_start|>assistant\nHello.{END}"
        f"\n<|im_start|>user\nI lost my job.{END}"
    )
    think1, say1 = (
        f"\n<|im_start|>thought\n{t1}{END}",
        f"\n<|im_start|>assistant\n{first.text}{END}",
    )
    user2 = f"\n<|im_start|>user\nLast week.{END}"
    end = f"\n<|im_start|>thought\n{t2}{END}\n<|im_start|>assistant\n{second.text}{END}"
    if keep:
        expected = [(start + think1 + say1 + user2 + end, [t1, t2], [first.text, second.text])]
    else:  # a history without thoughts: every supporter turn is an example of its own
        expected = [
            (start + think1 + say1, [t1], [first.text]),
            (start + say1 + user2 + end, [t2], [second.text]),
        ]
    encoder = module.encoder()
    examples = encoder(dialogue)
    assert len(examples) == len(expected)
    for example, (text, thoughts, answers) in zip(examples, expected, strict=True):
        batch = encoder.collate([example], {THINK: 1.0, SPEAK: 1.0})
        assert module.tokenizer.decode(batch.input_ids[0]) == text
        assert supervised_text(module, batch, 0, THINK) == [t + END for t in thoughts]
        assert supervised_text(module, batch, 0, SPEAK) == [a + END for a in answers]


# -- 3 and 4: gradients ------------------------------------------------------------------------


@pytest.mark.fidelity("methanol", 3)
@pytest.mark.parametrize(("think", "speak"), [(0.0, 1.0), (1.0, 0.0), (0.3, 0.7)])
def test_gradients_are_those_of_the_weighted_sum(
    methanol: Any, triples: Any, think: float, speak: float
) -> None:
    """lambda_T = 0 is answer-only SFT; lambda_A = 0 leaves blocks > k, final norm, W_A alone.

    Where W_A is tied to the embedding, its gradient as an embedding is legitimate; the
    transcription, whose speaking head is never called if lambda_A = 0, has exactly that part.
    """
    methanol.loss_weights = {"think": think, "speak": speak}
    ours = our_gradients(methanol, batch_of(methanol, triples))
    samples = [render(methanol.tokenizer, record) for record in triples]
    expected = Reference(methanol).gradients(samples, think, speak)
    assert_same_gradients(ours, expected)
    alone = ["thinking_head."] if think == 0 else []
    if speak == 0:
        above = range(methanol.k, len(methanol.lm.model.layers))
        alone = [f"lm.model.layers.{j}." for j in above] + ["lm.model.norm.", "lm.lm_head."]
    for name, gradient in ours.items():
        if name.startswith(tuple(alone)):
            assert gradient is None or not gradient.any(), name


@pytest.mark.fidelity("methanol", 3)
def test_no_thinking_weight_equals_the_sft_module(make: Any, shape: str, triples: Any) -> None:
    """lambda_T = 0: the backbone's gradients are those of SFT on A over the same sequence."""
    methanol = make("MeTHanol", shape, spread=5.0, think_weight=0.0)
    sft = make("SFT", shape, spread=5.0, learn_thought=True)
    batch = batch_of(methanol, triples)
    ours = our_gradients(methanol, batch)
    ours.pop("thinking_head.weight")
    answers = batch_of(methanol, triples)  # the same tokens; only A is learned, by head 0
    answers.head_ids[answers.head_ids == THINK] = -1
    answers.head_ids[answers.head_ids == SPEAK] = 0
    answers.normalizers = {0: batch.normalizers[SPEAK]}
    assert_same_gradients(ours, our_gradients(sft, answers))


@pytest.mark.fidelity("methanol", 4)
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_thinking_loss_reaches_blocks_up_to_k(
    make: Any, shape: str, triples: Any, k: int
) -> None:
    """dL_think/d(block j) = 0 for j > k and not 0 for j <= k, both lambdas being 1."""
    module = make("MeTHanol", shape, spread=5.0, thinking_layer=k)
    terms = module.losses(batch_of(module, triples))
    for name, reached in (("think", k), ("speak", 4)):
        for j, block in enumerate(module.lm.model.layers, start=1):
            gradients = torch.autograd.grad(
                terms[name].loss, list(block.parameters()), retain_graph=True, allow_unused=True
            )
            size = sum(g.abs().sum().item() for g in gradients if g is not None)
            assert (size > 0) == (j <= reached), f"{name}: block {j} of {k=}"


# -- 5 and 6: two-pass inference ---------------------------------------------------------------


class Recorder:
    """Records the tokens each block is given, the thinking logits and the decoded ids."""

    def __init__(self, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from zoo.decoding.depth_decoder import DepthDecoder

        self.calls: list[tuple[int, int]] = []  # (block, number of tokens)
        self.logits: list[torch.Tensor] = []
        self.decoded: list[list[list[int]]] = []
        self.marks: list[int] = []  # number of block calls when a phase has been decoded
        self.hooks = [
            block.register_forward_hook(
                lambda _, inputs, __, j=j: self.calls.append((j, inputs[0].shape[1]))
            )
            for j, block in enumerate(module.lm.model.layers)
        ]
        think, decode = module.think_logits, DepthDecoder.decode

        def think_logits(states: torch.Tensor) -> torch.Tensor:
            self.logits.append(think(states))
            return self.logits[-1]

        def recorded(decoder: Any, *args: Any, **kwargs: Any) -> list[list[int]]:
            self.decoded.append(decode(decoder, *args, **kwargs))
            self.marks.append(len(self.calls))
            return self.decoded[-1]

        monkeypatch.setattr(module, "think_logits", think_logits)
        monkeypatch.setattr(DepthDecoder, "decode", recorded)

    def tokens(self, block: int, start: int, stop: int | None = None) -> int:
        return sum(n for j, n in self.calls[start:stop] if j == block)

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()


@pytest.mark.fidelity("methanol", 5)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_first_pass_runs_k_blocks(
    make: Any, shape: str, triples: Any, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    """Pass 1 runs exactly k blocks, once per token; its logits are those of a full forward."""
    module = make(
        "MeTHanol", shape, spread=5.0, thinking_layer=k, max_thought_tokens=7, max_answer_tokens=3
    )
    reference = Reference(module)
    record = triples[0]
    recorder = Recorder(module, monkeypatch)
    module.generate([record])
    recorder.close()
    thought, answer = (rows[0] for rows in recorder.decoded)
    assert thought
    prompt = render(module.tokenizer, record)
    fed = [*prompt.ids[: prompt.spans["T"].start], *thought]
    between = len(recorder.calls[: recorder.marks[0]])
    for j in range(4):  # prompt, thought and its end-of-turn: each token once through k blocks
        assert recorder.tokens(j, 0, between) == (len(fed) + 1 if j < k else 0)
    header = len(module.tokenizer("\n<|im_start|>assistant\n", add_special_tokens=False).input_ids)
    later = header + min(len(answer), module.max_answer_tokens - 1)  # the last is not fed
    for j in range(4):  # pass 2: only blocks above k see Q and T, and each token only once
        caught_up = 0 if j < k else len(fed) + 1
        assert recorder.tokens(j, between) == caught_up + later
    with torch.no_grad():
        expected = reference.logits(fed)[0][prompt.spans["T"].start - 1 :]
    steps = min(len(thought) + 1, module.max_thought_tokens)  # after the last, the stop is forced
    got, expected = torch.cat(recorder.logits)[:steps], expected[:steps]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def assert_replies_equal_reprefill(
    module: Any, records: Sequence[Triple], limit: int, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[list[int], list[int]]]:
    module.max_thought_tokens = module.max_answer_tokens = limit
    reference = Reference(module)
    expected = [reference.reply(module.tokenizer, record, limit) for record in records]
    with monkeypatch.context() as patch:
        recorder = Recorder(module, patch)
        replies = module.generate(records)
        recorder.close()
    assert list(zip(*recorder.decoded, strict=True)) == expected
    decode = module.tokenizer.decode
    texts = [tuple(decode(i, skip_special_tokens=True).strip() for i in pair) for pair in expected]
    assert [(reply.thought, reply.answer) for reply in replies] == texts
    return expected


@pytest.mark.fidelity("methanol", 6)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_reuse_equals_reprefill(
    make: Any, shape: str, triples: Any, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    """Pass 2 on kept states gives the tokens of a second full prefill (random weights)."""
    module = make("MeTHanol", shape, spread=12.0, thinking_layer=k)
    with torch.no_grad():  # a random head of its own: T is no echo of the last token
        module.thinking_head.weight.normal_()
    expected = assert_replies_equal_reprefill(module, triples, 9, monkeypatch)
    assert len({tuple(t) for t, _ in expected}) > 1
    assert any(t for t, _ in expected)


@pytest.mark.fidelity("methanol", 6)
def test_reuse_equals_reprefill_for_unequal_thoughts(
    trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on a trained model: prompts and thoughts of one batch differ in length."""
    module = trained.module
    limits = module.max_thought_tokens, module.max_answer_tokens
    records = [stories()[1], choices()[0], *personas(), Triple("I am", "", "", system="A boss.")]
    expected = assert_replies_equal_reprefill(module, records, 20, monkeypatch)
    module.max_thought_tokens, module.max_answer_tokens = limits
    assert len({len(thought) for thought, _ in expected}) >= 3
    assert len({len(answer) for _, answer in expected}) >= 2


# -- 7: the course of training -----------------------------------------------------------------


@pytest.mark.fidelity("methanol", 7)
def test_the_thinking_loss_starts_at_ln_v_and_halves_early(trained: SimpleNamespace) -> None:
    """L_think starts at or above ln V and falls by half in a tenth; L_speak never diverges.

    A tiny random backbone's raw stream is near zero, hence L_think starts at ln V itself.
    """
    think = [point["think"] for point in trained.curve]
    speak = [point["speak"] for point in trained.curve]
    assert think[0] > LN_V - 0.05
    assert min(think[: STEPS // 10]) < 0.5 * think[0]
    assert think[-1] < 0.1
    assert all(math.isfinite(value) for value in think + speak)
    assert max(speak) < 1.1 * speak[0]
    assert speak[-1] < 0.1


@pytest.mark.fidelity("methanol", 7)
def test_a_large_raw_stream_starts_above_ln_v(make: Any, triples: Any) -> None:
    """Without a norm L_think starts above ln V on a stream of a trained model's size; with one not.

    The untied shape only: there W_A keeps its size while the stream grows.
    """
    start = {}
    for norm in (False, True):
        module = make("MeTHanol", "tiny-llama", thinking_norm=norm)
        with torch.no_grad():
            module.lm.model.embed_tokens.weight.mul_(2000)
        terms = module.losses(batch_of(module, triples))
        start[norm] = terms["think"].mean.item()
        assert abs(terms["speak"].mean.item() - LN_V) < 0.3
    assert start[False] > LN_V + 1
    assert abs(start[True] - LN_V) < 0.3


# -- 8: what the thought is for ----------------------------------------------------------------


@pytest.mark.fidelity("methanol", 8)
def test_another_thought_gives_another_answer(trained: SimpleNamespace) -> None:
    """Causal use: for the same Q, putting another sample's T in place changes A to match it."""
    module = trained.module
    red, sky = choices()
    swapped = module.generate([red, sky], thoughts=[sky.thought, red.thought])
    assert [reply.answer for reply in swapped] == [sky.answer, red.answer]
    own = module.generate([red, sky], thoughts=[red.thought, sky.thought])
    assert [reply.answer for reply in own] == [red.answer, sky.answer]
    # The same as probabilities: each thought makes its own answer's first token the likely one.
    reference = Reference(module)
    for thought, likely, unlikely in ((red, red, sky), (sky, sky, red)):
        sample = render(module.tokenizer, Triple("Pick.", thought.thought, "x", system="s"))
        with torch.no_grad():
            p = reference.logits(sample.ids)[1][sample.spans["A"].start - 1].softmax(-1)
        first, other = (module.tokenizer(r.answer).input_ids[0] for r in (likely, unlikely))
        assert p[first] > 10 * p[other]


@pytest.mark.fidelity("methanol", 8)
def test_a_persona_changes_the_thought(trained: SimpleNamespace) -> None:
    """The same Q under another persona prompt is thought about differently."""
    friend, boss = personas()
    replies = trained.module.generate([friend, boss])
    assert replies[0].thought != replies[1].thought
    assert [r.thought for r in replies] == [friend.thought, boss.thought]
    assert [r.answer for r in replies] == [friend.answer, boss.answer]


# -- 9: false belief ---------------------------------------------------------------------------


def accuracy(module: Any, records: Sequence[Triple]) -> dict[str, float]:
    from zoo.metrics.answers import AnswerAccuracy

    answers = [reply.answer for reply in module.generate(records)]
    kinds = [[record.kind] for record in records]
    return AnswerAccuracy()(answers, [record.answer for record in records], kinds)


def beliefs(places: Sequence[str]) -> list[Triple]:
    """Stories of three letters: first place, second place, and a dash where Ann leaves."""
    return [
        Triple(query, seen, seen, system="s", kind=kind)
        for first, second in places
        for kind, query, seen in (
            ("false_belief", f"{first}-{second}", first),
            ("true_belief", f"{first}{second}-", second),
        )
    ]


@pytest.mark.fidelity("methanol", 9)
def test_false_belief_is_answered_better_than_by_sft(make: Any) -> None:
    """On pairs of places never trained on: MeTHanol >= SFT(Q -> A) after equal training.

    The thought alone says which of the places the order of the events chooses, so that the answer
    is a copy of it; the control has to find both at once, which takes it longer than this.
    """
    places = [a + b for a in "abcdef" for b in "abcdef" if a != b]
    random.Random(0).shuffle(places)
    known, new = beliefs(places[8:]), beliefs(places[:8])
    scores = {}
    for method, options in (("MeTHanol", {}), ("SFT", {"learn_thought": False})):
        torch.manual_seed(0)
        rng = random.Random(0)
        module = make(method, "tiny-llama", max_thought_tokens=6, max_answer_tokens=3, **options)
        fresh = (batch_of(module, rng.choices(known, k=16)) for _ in range(200))
        train(module, fresh, 200, 6e-3)
        scores[method] = accuracy(module, new)
    ours, control = scores["MeTHanol"], scores["SFT"]["accuracy"]
    assert ours["accuracy"] > max(0.8, control + 0.2), scores
    # Always naming the first place is right in false belief and wrong in true belief.
    assert min(ours["accuracy_false_belief"], ours["accuracy_true_belief"]) > 0.7, scores


@pytest.mark.slow
@pytest.mark.fidelity("methanol", 9)
def test_false_belief_on_held_out_stories() -> None:
    """On held-out generated stories MeTHanol >= SFT(Q -> A); SFT(Q -> T, A) is run beside it.

    On a real backbone: SmolLM2-135M, or the one that ZOO_BACKBONE names.
    """
    import lightning

    import zoo
    from datamodules import FalseBelief
    from zoo import backbone as backbones
    from zoo.errors import InputError

    name = os.environ.get("ZOO_BACKBONE", "smollm2-135m")
    if name not in backbones.TINY:
        try:
            backbones.resolve(name)
        except InputError as error:
            pytest.skip(str(error))
    steps = int(os.environ.get("ZOO_STEPS", "200"))
    results = {}
    for label, method, options in (
        ("MeTHanol", zoo.MeTHanol, {}),
        ("SFT(Q->A)", zoo.SFT, {"learn_thought": False}),
        ("SFT(Q->T,A)", zoo.SFT, {"learn_thought": True}),
    ):
        lightning.seed_everything(0)
        module = method(
            zoo.Backbone(name),
            zoo.Optimizer(lr=5e-5),
            max_thought_tokens=48,
            max_answer_tokens=12,
            max_generated=None,
            **options,
        )
        trainer = lightning.Trainer(
            max_steps=steps,
            accelerator="auto",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            limit_val_batches=0,
            gradient_clip_val=1.0,
        )
        data = FalseBelief(num_train=8 * steps, num_val=4, num_test=100)
        trainer.fit(module, datamodule=data)
        (results[label],) = trainer.test(module, datamodule=data, verbose=False)
    for label, scores in results.items():
        print(label, {k: round(v, 3) for k, v in scores.items() if k.startswith("test/acc")})
    ours, answers = results["MeTHanol"], results["SFT(Q->A)"]
    assert ours["test/accuracy"] >= answers["test/accuracy"], results
    # Always naming the first place is right in false belief and wrong in true belief.
    assert min(ours["test/accuracy_false_belief"], ours["test/accuracy_true_belief"]) > 0.5, results


# -- 10: the choice of k -----------------------------------------------------------------------


def pointer(rng: random.Random) -> Triple:
    """Which digit follows the letter that is asked? Takes two attention steps, hence two blocks."""
    letters, digits = rng.sample("abcdef", 2), rng.sample("123456", 2)
    asked = rng.randrange(2)
    query = "".join(a + b for a, b in zip(letters, digits, strict=True)) + letters[asked]
    return Triple(query, digits[asked], ".", system="s")


@pytest.mark.fidelity("methanol", 10)
@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("tiny-llama", 240),
        pytest.param("tiny-qwen2", 900, marks=pytest.mark.slow),
        pytest.param("tiny-gemma", 900, marks=pytest.mark.slow),
    ],
)
def test_a_very_shallow_k_thinks_worse(make: Any, name: str, steps: int) -> None:
    """After equal training on thoughts that need two blocks, k = 1 has a worse L_think than k = 2.

    One block cannot look up what followed an earlier token; it can at best know which two digits
    there are, which leaves ln 2 for one of the thought's two tokens. Shapes with tied embeddings
    need more steps to learn it.
    """
    loss = {}
    for k in (1, 2):
        torch.manual_seed(0)
        rng = random.Random(0)
        module = make("MeTHanol", name, thinking_layer=k, speak_weight=0.0)
        fresh = (batch_of(module, [pointer(rng) for _ in range(24)]) for _ in range(steps))
        curve = train(module, fresh, steps, 6e-3)
        loss[k] = sum(point["think"] for point in curve[-30:]) / 30
    assert loss[1] > loss[2] + 0.1, loss


@pytest.mark.fidelity("methanol", 10)
def test_k_equal_to_the_depth_is_two_heads_on_one_layer(
    make: Any, shape: str, triples: Any
) -> None:
    """k = K: h_k is h_K; with a norm before W_T both heads give the same logits at step 0."""
    module = make("MeTHanol", shape, spread=5.0, thinking_layer=4, thinking_norm=True)
    middle, top = module(batch_of(module, triples))
    assert torch.equal(middle, top)
    assert torch.equal(module.think_logits(middle), module.last_logits(top))
    raw = make("MeTHanol", shape, spread=5.0, thinking_layer=4)
    assert not torch.allclose(raw.think_logits(middle), raw.last_logits(top))


@pytest.mark.fidelity("methanol", 10)
def test_k_is_the_number_of_blocks_below_the_thinking_head(
    make: Any, shape: str, triples: Any
) -> None:
    """h_k is entry k of the hidden-state list, entry 0 being the embeddings; the default is K/2."""
    assert make("MeTHanol", shape).k == 2
    for k, above in pairwise(range(1, 5)):
        module = make("MeTHanol", shape, spread=5.0, thinking_layer=k)
        batch = batch_of(module, triples[:1])
        states = module.lm(batch.input_ids, output_hidden_states=True).hidden_states
        torch.testing.assert_close(module(batch)[0], states[k], rtol=1e-4, atol=1e-5)
        if above < 4:
            assert not torch.allclose(module(batch)[0], states[above], atol=1e-3)
