"""The agent with real retrieval, in a data module's run, and what it shows."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import pytest
from methods.sova.graph_parts import TEXTS
from running import tiny
from torch.distributed.fsdp import FSDPModule
from training import quiet_trainer

import datamodules
from datamodules import DailyDilemmas
from datamodules.daily_dilemmas_rows import read_values
from datamodules.files import SAMPLES
from zoo.decoding.depth_decoder import DepthDecoder
from zoo.errors import InputError
from zoo.methods.sova import replies
from zoo.methods.sova.expected import expected_action
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.instruction import Instruction
from zoo.methods.sova.principles import corpus, curated
from zoo.methods.sova.prompts import ORDERS, SYSTEM, read_choice
from zoo.methods.sova.sentence_encoder import SentenceEncoder
from zoo.records import SUPPORTER, Dilemma, opened_by_seeker

VALUES = SAMPLES / "daily_dilemmas_values.csv"


@pytest.fixture
def agent(make: Any) -> Any:
    """Return a function that makes a tiny agent, which keeps what any report says."""

    def build(kind: str = "sova", **options: Any) -> Any:
        options = {"threshold": 1.0, "max_length": 16384, "read_text": False, **options}
        return make("SoVA", "tiny-llama", kind=kind, **options)

    return build


@pytest.mark.parametrize("theory", ["maslow", "emotion"])
def test_instructions_of_the_curated_principles(agent, dilemmas, theory):
    module = agent(theory=theory)
    known = {principle.id for principle in corpus()}
    for answer in module.generate(dilemmas[:2]):
        assert answer.instructions
        assert {name for item in answer.instructions for name in item.principle_ids} <= known
        assert all("Action" not in item.text for item in answer.instructions)
        scores = [item.score for item in answer.instructions]
        assert scores == sorted(scores, reverse=True)
    (kept,) = module.kept_instructions(dilemmas[:1])
    text = module.tokenizer.decode(module.head(dilemmas[0].situation, kept))
    assert all(item.text in text for item in module.generate(dilemmas[:1])[0].instructions)


def test_plain_retrieval_pastes_whole_principles_that_fit(agent, dilemmas):
    module = agent("rag", chunk_tokens=600)
    (near,) = module.retrieval.principles_near([dilemmas[0].situation], 600)
    assert 1 <= len(near) < len(corpus())
    assert sum(len(module.encoder().ids(text)) for text in near) <= 600
    assert module.near_principles([dilemmas[0].situation]) == [near]
    head = module.head(dilemmas[0].situation, near)
    assert all(text in module.tokenizer.decode(head) for text in near)
    assert module.retrieval.principles_near([dilemmas[0].situation], 1) == [[]]


def test_pasted_principles_stand_beside_the_choice(agent, dilemmas):
    module = agent("rag", chunk_tokens=600)
    pasted = module.near_principles([d.situation for d in dilemmas[:2]])
    answers = module.generate(dilemmas[:2])
    assert [list(answer.principles) for answer in answers] == pasted
    assert all(text in answers[0].notes()["principles"] for text in pasted[0])
    assert answers[0].plain()["principles"] == tuple(pasted[0])
    assert "principles" not in agent("direct").generate(dilemmas[:1])[0].notes()


@pytest.mark.parametrize("kind", ["rag", "retriever"])
def test_what_pastes_principles_takes_no_instructions(agent, dilemmas, kind):
    options = {"backbone": {"lora": {"rank": 2}}} if kind == "retriever" else {}
    given = [Instruction("Rest.", 70.0, "r", ("p",))]
    with pytest.raises(InputError, match=f"model.kind: {kind} pastes principles"):
        agent(kind, **options).generate(dilemmas[:1], [given])
    with pytest.raises(InputError, match="instructions: 2 lists for 1 records"):
        agent(kind, **options).generate(dilemmas[:1], [given, given])


def test_dilemmas_get_findings_of_their_own_without_an_index(agent, dilemmas):
    """The agent's own states, or an encoder, choose among the findings of a report."""
    for encoder in (None, "tiny-bert"):
        module = agent(encoder=encoder, threshold=0.0)
        answers = module.generate(dilemmas)
        texts = {tuple(sorted(i.text for i in answer.instructions)) for answer in answers}
        assert len(texts) > 1
        rules = {p.id: p.rule for p in curated()}
        for dilemma, answer in zip(dilemmas[:2], answers, strict=False):
            item = answer.instructions[0]
            report = next(r for r in module.retrieval.reports if r.id == item.report_id)
            names = [name for f in report.findings for name in f.principle_ids]
            near_SP = (
                module.retrieval._embed([dilemma.situation])
                @ module.retrieval._embed([rules[name] for name in names]).T
            )
            assert item.principle_ids == (names[int(near_SP.argmax())],)


def test_reasoning_that_would_not_fit_is_refused(agent, dilemmas):
    """With what it may write and the question after it, to the token."""
    (dilemma,) = dilemmas[:1]
    module = agent("ecot", max_reasoning_tokens=30)
    encoder = module.encoder()
    needed = len(module.head(dilemma.situation, [])) + len(encoder.reasoning_start()) + 30
    needed += 1 + len(encoder.reasoning_end())
    needed += max(len(encoder.tail(order, reasoned=True)) for order in ORDERS)
    agent("ecot", max_reasoning_tokens=30, max_length=needed + 1).generate([dilemma])
    with pytest.raises(InputError, match=f"{needed} tokens, which leaves no room"):
        agent("ecot", max_reasoning_tokens=30, max_length=needed).generate([dilemma])
    direct = len(module.head(dilemma.situation, [])) + max(len(encoder.tail(o)) for o in ORDERS)
    assert encoder.room(None) == direct - len(module.head(dilemma.situation, []))


def test_told_names_the_expected_action(agent, dilemmas):
    lines = agent("told", rule="maslow_growth").kept_instructions(dilemmas)
    assert [bool(line) for line in lines].count(True) >= 3
    assert {item.text for line in lines for item in line} <= {
        "You do what the question asks about.",
        "You do not do it.",
    }


@pytest.mark.parametrize("kind", ["ecot", "plan_and_solve", "metacognitive"])
def test_reasoning_comes_before_the_question_for_an_action(agent, dilemmas, kind):
    (answer,) = agent(kind, max_reasoning_tokens=5, read_text=True).generate(dilemmas[:1])
    assert answer.reasoning
    assert answer.cut
    assert all(len(text) <= 20 for text in answer.texts)


def test_reasoning_that_ends_by_itself_is_not_cut(agent, dilemmas, monkeypatch):
    """Exactly at the limit it is: its end was not seen."""
    module = agent("ecot", max_reasoning_tokens=5, read_text=False)
    monkeypatch.setattr(DepthDecoder, "decode", lambda *_, **__: [[9] * 5, [9] * 4])
    assert [answer.cut for answer in module.generate(dilemmas[:2])] == [True, False]


def test_text_that_is_no_answer_is_invalid():
    order = ("to_do", "not_to_do")
    assert read_choice(" Action 2: no", order) == "not_to_do"
    assert read_choice("action 2", order) is None


@pytest.mark.parametrize("kind", ["sft", "steerlm"])
def test_what_is_learned(make, dilemmas, kind):
    """SFT learns the expected action; SteerLM both, each under its grade; labels choose alone."""
    module = make("SoVA", "tiny-llama", kind=kind, max_length=8192)
    encoder = module.encoder()
    shown = [
        (
            encoder.tokenizer.decode(example.input_ids),
            encoder.tokenizer.decode([i for i in example.labels if i >= 0]),
        )
        for example in encoder(dilemmas[0])
    ]
    assert [answer.startswith("Action ") for _, answer in shown] == [True] * len(shown)
    if kind == "sft":
        assert len(shown) == 1
    else:
        (high, chosen), (low, other) = shown
        assert "human values 4 of 4" in high
        assert "human values 0 of 4" in low
        assert chosen != other
    assert all(SYSTEM in text for text, _ in shown)


def test_an_undecided_dilemma_teaches_nothing(make, dilemmas):
    encoder = make("SoVA", "tiny-llama", kind="sft", max_length=8192).encoder()
    undecided = replace(dilemmas[0], not_to_do=dilemmas[0].to_do)
    for dilemma, learned in ((undecided, False), (dilemmas[0], True)):
        assert [bool(example.head_weights()) for example in encoder(dilemma)] == [learned]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 101.0}, "model.threshold: 101.0 is not in 0..100"),
        ({"threshold": float("nan")}, "model.threshold: nan is not in 0..100"),
        ({"top_n": -1}, "model.top_n: -1 is not above 0"),
        ({"top_n": 0}, "model.top_n: 0 is not above 0"),
        ({"prefilter": 0}, "model.prefilter: 0 is not above 0"),
        ({"prefilter": 3}, "model.prefilter: needs model.index"),
    ],
)
def test_settings_that_do_not_fit(make, options, message):
    with pytest.raises(InputError, match=message):
        make("SoVA", "tiny-llama", **options)


def test_fit_names_the_kinds_that_learn(refused):
    """With the config of those that do, which validates at steps that have to be counted."""
    said = refused("--model.kind", "sova", given=tiny("sova_sft"))
    assert said.startswith("model.kind: sova is not trained, sft, steerlm, retriever are; use")


def test_an_index_without_a_theory_is_refused(agent, dilemmas, tmp_path, monkeypatch):
    """Without an index the curated principles give reports of every theory."""
    (choice,) = agent(theory="virtue", threshold=0.0).generate(dilemmas[:1])
    assert choice.instructions
    others = [principle for principle in curated() if principle.theory != "virtue"]
    monkeypatch.setattr("zoo.methods.sova.index.corpus", lambda texts: others)
    ValueIndex.build(tmp_path / "i", {"honesty": {"maslow": "self-esteem"}})
    with pytest.raises(InputError, match="no report of 'virtue'; set model.index"):
        agent(theory="virtue", index=str(tmp_path / "i")).generate(dilemmas[:1])


def test_shuffled_needs_other_dilemmas(agent, dilemmas):
    with pytest.raises(InputError, match="shuffled takes the instructions of other dilemmas"):
        agent("shuffled").generate(dilemmas[:1])


def test_an_index_and_its_encoder_decide_in_a_test_run(agent, tmp_path):
    """From disk to scores: of the two reports that the encoder finds closest, what is kept."""
    folder, name = tmp_path / "index", os.environ.get("ZOO_SENTENCE_ENCODER", "tiny-bert")
    built = ValueIndex.build(
        folder, read_values(VALUES), TEXTS, encoder=SentenceEncoder.load(name), max_size=4
    )
    assert len(built.reports_of("maslow")) > 2
    module = agent(index=str(folder), encoder=name, prefilter=2)
    data = DailyDilemmas(eval_batch_size=4)
    (scores,) = quiet_trainer(default_root_dir=tmp_path).test(module, data, verbose=False)
    assert scores["test/mean_instructions"] == 2
    assert scores["test/without_instructions"] == 0
    every = 2 * len(data.records("test"))
    told = {n: v for n, v in scores.items() if n.startswith("test/instructions/")}
    assert told["test/instructions/kept"] == every
    assert sum(told.values()) == every
    assert not module.retrieval.counts
    decisive = [d for d in data.records("test") if expected_action(d, "maslow_growth")]
    assert scores["test/expected_maslow_growth_decisive"] == len(decisive)
    by_id = {report.id: report for report in built.reports}
    figure = module.figures()["communities"]
    assert figure.axes[0].get_title().startswith(f"{len(built.graph)} nodes in ")
    assert len(figure.axes[0].collections[0].get_offsets()) == len(built.graph)
    for _, answer in module.answers.values():
        for item in answer.instructions:
            rules = {f.rule for f in by_id[item.report_id].findings if f.advises}
            assert item.text in rules


@pytest.mark.parametrize("kind", ["sova", "shuffled", "wrong_theory"])
def test_sharded_weights_score_no_reports(agent, dilemmas, kind):
    """FSDP2 makes a module of the class FSDPModule too; processes would wait for each other."""
    module, direct = agent(kind), agent("direct")
    module.encoder().study(dilemmas, "test")
    for sharded in (module, direct):
        sharded.__class__ = type("Sharded", (FSDPModule, type(sharded)), {})
    with pytest.raises(InputError, match=f"trainer.strategy: model.kind {kind} scores reports"):
        module.generate(dilemmas)
    assert direct.kept_instructions(dilemmas) == [[]] * len(dilemmas)


def test_show_answers_a_prompt(agent):
    (row,) = agent(read_text=True).show([], prompt="A bird is in your kitchen. Do you open it?")
    assert row["dilemma"].startswith("A bird")
    assert {"instructions", "choice", "swapped", "text"} <= row.keys()


@pytest.mark.parametrize("threshold", [0.0, 100.0])
def test_thresholds_at_the_end_of_their_range_fit(make: Any, threshold: float) -> None:
    make("SoVA", "tiny-llama", kind="direct", threshold=threshold).validate()


def test_donors_are_others_of_the_split(make: Any, dilemmas: list[Dilemma]) -> None:
    """One to one, whatever order they come in; nobody is their own."""
    encoder = make("SoVA", "tiny-llama", kind="shuffled").encoder()
    encoder.study(dilemmas, "test")
    first = dict(encoder.donors)
    texts = {d.situation for d in dilemmas}
    assert set(first) == set(first.values()) == texts
    assert all(text != other for text, other in first.items())
    encoder.donors.clear()
    encoder.study(dilemmas[::-1], "test")
    assert encoder.donors == first


# -- conversations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["ESConv", "DailyDialog"])
def test_replies_in_conversations(agent, data):
    records = getattr(datamodules, data)().records("test")[:2]
    module = agent(max_reply_tokens=4)
    answers = module.generate(records)
    assert all(answer.instructions for answer in answers)
    pairs = list(zip(records, answers, strict=True))
    scores = module.score_answers(pairs, "test")
    assert {"rouge_l", "bleu_2", "mean_instructions"} == scores.keys() - {"without_instructions"}
    assert module.sample(*pairs[0]).keys() == {"conversation", "instructions", "reply", "gold"}
    json.dumps(module.prediction(*pairs[0]))


def test_a_conversation_without_instructions_has_the_plain_prompt(agent, dialogue):
    """And neither the reply that is to be written nor an annotation stands in the prompt."""
    sova, direct = agent(threshold=100.0), agent("direct")
    heads = [
        replies.prompt(m.encoder(), dialogue, *m.steer(m.kept_instructions([dialogue])[0]), 8)
        for m in (sova, direct)
    ]
    assert heads[0] == heads[1]
    text = sova.encoder().tokenizer.decode(heads[0])
    assert "Seeker: Last week." in text
    assert "You will find one." not in text
    assert not any(word in text for word in ("sadness", "job crisis", "Affirmation"))


def test_the_oldest_turns_are_left_out_of_a_full_window(agent, dialogue):
    module = agent(max_length=960)
    given = [Instruction("You care. " * 20, 90.0, "r", ())]
    head = replies.prompt(module.encoder(), dialogue, *module.steer(given), 8)
    text = module.tokenizer.decode(head)
    assert "Seeker: Last week." in text
    assert "I lost my job." not in text
    assert given[0].text in text


def test_chat_shows_instructions_beside_the_reply(agent):
    module = agent(max_reply_tokens=4)
    notes, dialogue = module.converse(opened_by_seeker("I lost my job last week."))
    assert notes["instructions"]
    assert dialogue.turns[-1].speaker == SUPPORTER
    notes, _ = agent("direct", max_reply_tokens=4).converse(opened_by_seeker("I lost my job."))
    assert notes == {}


def test_a_policy_does_not_talk(agent, dialogue):
    with pytest.raises(InputError, match=r"model.kind: oracle decides dilemmas; .* sova"):
        agent("oracle").generate([dialogue])
