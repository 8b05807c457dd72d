"""Candidates of segments: who writes them after what, which are kept, and the file of them."""

import json
from collections import Counter
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from datamodules.scored_blocks import read_scored
from zoo.errors import InputError
from zoo.methods.alpo import candidates
from zoo.methods.alpo.candidates import Sampling, scored
from zoo.methods.alpo.growing_file import GrowingFile
from zoo.records import SubtitleBlock

BLOCK = SubtitleBlock(
    source=("甲", "乙", "丙"),
    target=("one", "two", "three"),
    before=("前",),
    after=("后",),
    target_before=("before",),
    target_after=("after",),
    starts=(0, 2),
    id="e:2",
    index=7,
)


class Translator:
    """What `scored` asks of a translator; notes what its rows are fed."""

    lm = SimpleNamespace(device=torch.device("cpu"))

    def __init__(self):
        self.fed = []

    def encoder(self):
        return self

    def prompt(self, block):
        return ["<prompt>"]

    def response(self, lines, first, total):
        return [f"{first + i}. {line}" for i, line in enumerate(lines)]

    def place(self):
        return len(self.fed)

    def rewind(self, place):
        assert place == len(self.fed)

    def feed(self, rows, level):
        assert rows == [rows[0]] * len(rows)
        self.fed += rows[0]


def by_length(block, start, stop, listed):
    """The longest candidate is the best one."""
    return tuple(float(len("".join(lines))) for lines in listed)


@pytest.fixture
def script(monkeypatch):
    """Let a translator write given texts, a list of rows after another."""

    def start(*turns):
        model, left = Translator(), iter(turns)
        seen = []

        def begin(_, prompt, count):
            model.fed = list(prompt)
            return model

        def write(_, decoder, count, nucleus, limit):
            seen.append((list(decoder.fed), count, limit))
            return next(left)

        monkeypatch.setattr(candidates, "begin", begin)
        monkeypatch.setattr(candidates, "write_lines", write)
        return model, seen

    return start


def test_segments_follow_what_was_chosen(script):
    """Sequential: the prompt, the reference before the core, then one of the three best."""
    firsts = ["2. uno\n3. dos", "2. uno\n3. dos", "2. x\n3. y", "2. eins\n3. zwei", "3. a\n4. b"]
    thirds = ["4. tres", "4. drei!", "4. c\n5. d", "", "4. three"]
    model, seen = script(firsts, thirds)
    counts = Counter()
    record = scored(model, BLOCK, by_length, Sampling(k=5, max_line_tokens=10), counts)
    first, second = record.segments
    assert first.candidates == (("one", "two"), ("uno", "dos"), ("x", "y"), ("eins", "zwei"))
    assert first.scores == (6, 6, 2, 8)
    assert second.candidates == (("three",), ("tres",), ("drei!",))  # the reference once
    assert [(count, limit) for _, count, limit in seen] == [(2, 20), (1, 10)]
    assert seen[0][0] == ["<prompt>", "1. before"]
    best = [[f"2. {a}", f"3. {b}"] for a, b in (("one", "two"), ("uno", "dos"), ("eins", "zwei"))]
    assert seen[1][0][:2] == seen[0][0]
    assert seen[1][0][2:] in best
    assert counts == {
        "samples": 10,
        "samples with other lines": 3,
        "segments": 2,
        "candidates": 7,
    }


def test_the_prefix_is_what_training_chooses(script):
    """The same seed chooses the same candidates in training: t^c is drawn once per block."""
    from zoo.methods.alpo.choose import choose

    for seed in range(6):
        firsts = [f"2. {'a' * n}\n3. {'b' * n}" for n in range(1, 9)]
        model, seen = script(firsts, [f"4. {'c' * n}" for n in range(1, 9)])
        record = scored(model, BLOCK, by_length, Sampling(k=8, seed=seed), Counter())
        chosen = record.segments[0].candidates[choose(record, seed)[0].chosen]
        assert seen[1][0][2:] == [f"2. {chosen[0]}", f"3. {chosen[1]}"]


def test_a_failed_judge_lets_the_reference_go_on(script):
    model, seen = script(["2. a\n3. b"], ["4. c"])
    record = scored(model, BLOCK, lambda *_: None, Sampling(k=1), Counter())
    assert [segment.scores for segment in record.segments] == [None, None]
    assert seen[1][0][2:] == ["2. one", "3. two"]


def test_one_candidate_is_not_judged(script):
    model, _ = script(["2. one\n3. two"], ["nothing"])

    def judge(*_):
        raise AssertionError("asked about one candidate")

    record = scored(model, BLOCK, judge, Sampling(k=1), Counter())
    assert [len(segment.candidates) for segment in record.segments] == [1, 1]


def test_whole_blocks_are_cut(script):
    """Block mode: as the release does it; another number of lines is left out."""
    good = "1. vor\n2. eins\n3. zwei\n4. drei\n5. nach"
    texts = [good, good.replace("eins", "uno"), good + "\n6. more", "1. vor", good]
    model, seen = script(texts)
    counts = Counter()
    sampling = Sampling(k=5, mode="block", max_new_tokens=99)
    record = scored(model, BLOCK, by_length, sampling, counts)
    first, second = record.segments
    assert first.candidates == (("one", "two"), ("eins", "zwei"), ("uno", "zwei"))
    assert second.candidates == (("three",), ("drei",))
    assert seen == [(["<prompt>"], 6, 99)]
    assert counts["samples with other lines"] == 4  # two samples, in two segments


def test_a_block_needs_a_translation(script):
    model, _ = script()
    with pytest.raises(InputError, match="b: has no translation"):
        scored(model, SubtitleBlock(("x",), id="b"), by_length, Sampling(), Counter())


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"k": 0}, "sampling.num_samples"),
        ({"mode": "blocks"}, "'blocks'"),
        ({"max_line_tokens": 0}, "max_line_tokens"),
        ({"nucleus": candidates.Nucleus(top_p=0)}, "sampling.nucleus.top_p"),
    ],
)
def test_bad_settings(wrong, part):
    with pytest.raises(InputError, match=part):
        Sampling(**wrong).check()


def test_the_file_grows_by_whole_lines(tmp_path, script):
    """A line that was cut off is made again; another run with other settings is refused."""
    path, settings = tmp_path / "scored.jsonl", {"k": 1, "nucleus": {"top_p": 0.9}}
    model, _ = script(["2. a\n3. b"], ["4. c"])
    record = scored(model, BLOCK, by_length, Sampling(k=1), Counter())
    file = GrowingFile(path, settings)
    file.append(record.id, asdict(record))
    whole = path.read_bytes()
    assert read_scored(path) == [record]
    with path.open("ab") as stream:
        stream.write(whole[:40])
    again = GrowingFile(path, settings)
    assert again.done == {"e:2"}
    assert path.read_bytes() == whole
    with pytest.raises(InputError, match="other settings: k"):
        GrowingFile(path, {**settings, "k": 2})
    (tmp_path / "scored.jsonl.settings.json").unlink()
    with pytest.raises(InputError, match="name a new file"):
        GrowingFile(path, settings)
    path.write_text(json.dumps({"a": 1}) + "\n")
    (tmp_path / "scored.jsonl.settings.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"scored.jsonl:1: no line of this file"):
        GrowingFile(path, settings)


def test_settings_that_a_file_lacks_are_added_to_its_own_objects(tmp_path):
    """A file that is older than a setting holds what this run would make, or is refused."""
    path = tmp_path / "x.jsonl"
    old, new = {"data": {"core": 4}}, {"data": {"core": 4, "part": "sft"}}
    mine = {"a": {"block": {"id": "a", "lines": ("x",)}}}
    GrowingFile(path, old).append("a", {"block": {"id": "a", "lines": ["x"]}, "scores": [1]})
    for known in (None, {"b": mine["a"]}, {"a": {"block": {"id": "a", "lines": ("y",)}}}):
        said = r"x.jsonl:1: a is of other data, by data.part, which .* lacks; name a new file"
        with pytest.raises(InputError, match=said):
            GrowingFile(path, new, known)
    assert GrowingFile(path, new, mine).done == {"a"}
    with pytest.raises(InputError, match=r"other settings: data.part \(see"):
        GrowingFile(path, {"data": {"core": 4, "part": "all"}}, mine)
    with pytest.raises(InputError, match=r"other settings: data.part \(see"):
        GrowingFile(path, old, mine)
