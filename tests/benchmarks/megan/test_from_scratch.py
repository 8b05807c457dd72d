import json
import re
from collections import defaultdict
from dataclasses import replace
from functools import partial

import pytest
import torch

import datamodules
import zoo
from benchmarks.megan import from_scratch, neutral
from benchmarks.megan.composed import FORMS, FRAMES, WHATS, Query, Tasks, all_tasks, hold_out
from benchmarks.megan.question_betas import QuestionBetas, UnboundedBetas, by_question
from benchmarks.megan.settings import SAME_WORDS, UNTOLD, placed, told_apart
from benchmarks.reproduce.verdict import item_scores
from datamodules.task_views import WORDINGS
from zoo.encoding import IGNORE
from zoo.records import Conditioned

QUERIES = [Query(f"query {i}", f"domain {i}", f"intent {i}") for i in range(10)]
DOMAINS = tuple(query.domain for query in QUERIES)


@pytest.mark.parametrize("seed", range(4))
def test_every_part_of_a_held_out_task_is_trained(seed):
    held_out = hold_out(2, seed)
    assert len(held_out) == 2 * len(WHATS)
    seen = [task for task in all_tasks() if task not in held_out]
    assert [sum(what == one for what, _ in seen) for one in WHATS] == [2] * len(WHATS)
    assert [sum(form == one for _, form in seen) for one in FORMS] == [2] * len(FORMS)
    assert held_out != hold_out(2, seed + 4)


def test_training_has_neither_held_out_tasks_nor_unseen_frames():
    tasks = Tasks(DOMAINS, hold_out(2, 0))
    trained = tasks.training(QUERIES, 500, 0)
    assert len(trained) == 500
    asked = tasks.testing(QUERIES, 0)
    by_group = {
        group: [record for record in asked if record.group == group]
        for group in ("seen", "unseen", "unseen_task")
    }
    assert {len(records) for records in by_group.values()} == {len(QUERIES)}
    names = {record.task for record in trained}
    assert {record.task for record in by_group["seen"] + by_group["unseen"]} <= names
    assert not {record.task for record in by_group["unseen_task"]} & names
    conditions = {record.condition for record in trained}
    assert not {record.condition for record in by_group["unseen"]} & conditions


def test_answers_put_a_name_in_a_form():
    tasks = Tasks(DOMAINS, frozenset())
    answers = {task: tasks.answer(QUERIES[3], task) for task in all_tasks()}
    assert answers["intent", "twice"] == "intent 3 and intent 3"
    assert answers["colour", "perhaps"] == "perhaps yellow"
    assert len(set(answers.values())) == 16
    record = tasks.record(QUERIES[3], ("city", "politely"), FRAMES[0])
    assert record.condition == "Name the city politely."
    assert record.response == "cairo please"


def test_a_condition_stands_where_a_row_has_it():
    (record,) = Tasks(DOMAINS, frozenset()).training(QUERIES, 1, 0)
    places = {
        place: (one.system == record.condition, one.condition == record.condition)
        for place in ("none", "gates", "prompt", "both")
        for one in placed([record], place)
    }
    assert places == {
        "none": (False, False),
        "gates": (False, True),
        "prompt": (True, False),
        "both": (True, True),
    }


def test_conditions_left_out_are_those_with_equal_words():
    bags = defaultdict(list)
    for view in ("clinc150 domain", "clinc150 intent"):
        for text in WORDINGS[view]:
            bags[tuple(sorted(re.findall(r"\w+", text)))].append(text)
    assert {*SAME_WORDS} == {text for texts in bags.values() if len(texts) > 1 for text in texts}
    (record,) = Tasks(DOMAINS, frozenset()).training(QUERIES, 1, 0)
    same = [replace(record, condition=text) for text in SAME_WORDS]
    assert told_apart([*same, record]) == [record]


def asked_for_two_things():
    """Return a query with each question."""
    return [
        Conditioned(f"name the {word}", "ab", answer, task=f"clinc150 {word}")
        for word, answer in (("domain", "a"), ("intent", "b"))
    ]


@pytest.mark.parametrize(("kind", "reach"), [(QuestionBetas, 0.5), (UnboundedBetas, 3.0)])
def test_each_question_has_its_own_betas(kind, reach):
    module = kind(backbone={"name": "tiny-llama"}, gate="static", padding_free=False)
    module.configure_model()
    encoder, records = module.encoder(), by_question(asked_for_two_things())
    assert [record.condition for record in records] == ["domain", "intent"]
    told = encoder.conditions(records)
    plain = module.gating(told)
    assert torch.equal(plain.beta_LF, torch.ones_like(plain.beta_LF))
    module.beta.data[0] = 3.0
    module.beta.data[1] = -3.0
    blocks, sequences, _, inner = plain.beta_LF.shape
    assert (blocks, sequences, inner) == (module.beta.shape[1], 2, module.beta.shape[2])
    betas = module.gating(told).mean_betas(torch.ones(2, 3))
    assert betas.shape == (2, blocks)
    assert torch.allclose(betas[0], torch.tensor(1 + reach), atol=0.01)
    assert torch.allclose(betas[1], torch.tensor(1 - reach), atol=0.01)
    assert len({tuple(reply.betas) for reply in module.generate(records)}) == 2


def test_the_neutral_prompt_is_the_one_that_leans_least(monkeypatch):
    prompts = neutral.candidates()
    assert len(prompts) == len({*prompts}) == 1 + 2 * 7
    leanings = {prompt: float(number) for number, prompt in enumerate(prompts, start=1)}
    leanings[prompts[5]] = -0.5
    monkeypatch.setattr(
        neutral,
        "log_probability",
        lambda _, record, prompt: leanings[prompt] * ("domain" in record.task),
    )
    assert neutral.neutral_prompt(None, asked_for_two_things()) == prompts[5]


def test_log_probability_is_that_of_the_whole_answer():
    module = zoo.MeGan(backbone={"name": "tiny-llama"}, gate="none", train="full")
    module.configure_model()
    module.eval()
    record = asked_for_two_things()[0]
    (example,) = module.encoder()(replace(record, system="Answer.", condition=""))
    logits = module.lm(torch.tensor([example.input_ids])).logits.log_softmax(-1)[0]
    expected = sum(
        float(row[label].detach())
        for row, label in zip(logits, example.labels, strict=True)
        if label != IGNORE
    )
    found = neutral.log_probability(module, record, "Answer.")
    assert found == pytest.approx(expected, rel=1e-4)


def test_rows_over_a_told_model_have_its_neutral_prompt(tmp_path, monkeypatch):
    (tmp_path / "told").mkdir()
    (tmp_path / "told" / "untold.txt").write_text("Which?")
    assert from_scratch.untold_of(tmp_path / "told") == "Which?"
    assert from_scratch.untold_of(tmp_path / "random") == UNTOLD
    (record,) = placed(asked_for_two_things()[:1], "gates", "Which?")
    assert (record.system, record.condition) == ("Which?", "name the domain")


def test_rows_are_run_once_and_keep_their_hits(tmp_path, monkeypatch, capsys):
    sample = partial(datamodules.TaskViews, None)
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(datamodules, "TaskViews", lambda path, **options: sample(**options))
    monkeypatch.setattr(from_scratch, "SMALL", (16, 32))
    monkeypatch.setattr(from_scratch, "STEPS", {"steered": 2, "composed": 1})
    monkeypatch.setattr(from_scratch, "MORE", 1)
    path = tmp_path / "rows.json"
    rows = [
        "MeGan, R = 32, on told",
        "a beta for each question, on untold",
        "MeGan, all weights, condition in both",
    ]
    asked = ["--json", str(path), "--seeds", "0", "--folder", str(tmp_path / "weights")]
    from_scratch.main([*asked, "--texts", "2", "--rows", *rows])
    entries = json.loads(path.read_text())
    assert [(entry["setting"], entry["row"]) for entry in entries] == [
        ("steered", rows[0]),
        ("steered", rows[1]),
        ("composed", rows[2]),
    ]
    hyper, betas, everything = (entry["trainable"] for entry in entries[:3])
    assert max(hyper, betas) < everything
    assert [len(item_scores(entry, "items.unseen")) for entry in entries] == [2] * 3
    assert [len(entry["items"].get("unseen_task", [])) for entry in entries] == [0, 0, 2]
    assert entries[0]["untold"] in neutral.candidates()
    assert entries[1]["untold"] == UNTOLD
    told = [name.endswith("other gates") for entry in entries for name in entry["metrics"]]
    assert told == [False] * 10 + [True] * 4
    assert "| MeGan, all weights, condition in both |" in capsys.readouterr().out
    monkeypatch.setattr(from_scratch, "run_row", lambda *_, **__: pytest.fail("it was there"))
    from_scratch.main([*asked, "--rows", *rows])
