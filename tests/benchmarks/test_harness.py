import dataclasses
import json
import mmap

import pytest
import torch

from benchmarks import __main__ as cli
from benchmarks import harness, workload
from benchmarks.harness import BenchmarkError, Sample
from benchmarks.meters import Clock, Meter
from benchmarks.result import Peer, Result, agree, compare, quantiles
from zoo.records import SEEKER, SUPPORTER


def make(seconds, *, peak=200, loaded=100, **checks):
    work = {"tokens": [10.0] * len(seconds)}
    return Sample(seconds, list(seconds), work, checks, loaded, peak, {"data": "x"})


def result(**more):
    samples = {"ours": [make([1.0, 2.0])] * 2, "theirs": [make([2.0, 6.0], peak=300)] * 2}
    samples["slower"] = [make([4.0, 8.0])] * 2
    peers = [Peer("p", "theirs", target=1.3, **more), Peer("the slower one", "slower", target=3.0)]
    return compare("n", "c", peers, samples, {})


def test_quantiles_interpolate():
    assert quantiles([3.0]) == (3.0, 3.0, 3.0)
    assert quantiles([5.0, 1.0, 3.0, 2.0, 4.0, 0.0]) == (1.0, 2.5, 4.0)


def test_ratio_is_paired_by_step_and_memory_is_ours_over_theirs():
    found = result()
    assert found.ratio == 2.5
    assert found.cpu_ratio == 2.5
    assert found.memory_ratio == pytest.approx(200 / 300)
    assert found.memory_ratio_above_model == pytest.approx(100 / 200)
    assert found.ours["tokens_per_second"] == pytest.approx(40 / 6)
    assert found.theirs["seconds"] == 4.0
    assert found.ours["data"] == "x"


@pytest.mark.parametrize(("bound", "flagged"), [(None, False), (2.4, False), (1.9, True)])
def test_ratio_above_its_bound_by_more_than_its_spread_is_flagged(bound, flagged):
    assert result(bound=bound).above_bound is flagged


def test_further_peers_are_shown_beside_the_first(capsys):
    cli.show(result())
    out = capsys.readouterr().out
    assert "against the slower one\n    time 4.00x" in out
    assert "target 3.00" in out


def test_result_is_json_with_the_promised_keys():
    keys = json.loads(json.dumps(dataclasses.asdict(result())))
    assert {
        "name",
        "peer",
        "ratio",
        "memory_ratio",
        "bound",
        "ours",
        "theirs",
        "environment",
    } <= set(keys)
    environment = {"cpu", "gpu", "threads", "torch", "transformers", "trl", "lightning", "commit"}
    assert environment | {"date"} <= set(keys["environment"])


def test_sides_that_disagree_stop_before_any_time_is_looked_at():
    ours, theirs = make([1.0], loss=1.0, data="a"), make([1.0], loss=1.02, data="a")
    assert agree(ours, theirs, {"loss": 0.03, "data": 0})["loss"]["difference"] < 0.03
    with pytest.raises(BenchmarkError, match="loss differs"):
        agree(ours, theirs, {"loss": 0.01})
    with pytest.raises(BenchmarkError, match="data differs"):
        agree(ours, make([1.0], loss=1.0, data="b"), {"data": 0})
    with pytest.raises(BenchmarkError, match="loss differs"):
        agree(make([1.0], loss=float("nan")), theirs, {"loss": 0.01})


def test_unknown_name_names_the_nearest(capsys):
    assert cli.main(["sft_vs_tlr"]) == 2
    assert "did you mean 'sft_vs_trl'?" in capsys.readouterr().err


def test_list_names_every_claim(capsys):
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in harness.CLAIMS)


def test_failed_check_exits_with_1_and_writes_nothing(tmp_path, monkeypatch, capsys):
    class Claim:
        @staticmethod
        def run(setting):
            raise BenchmarkError("loss differs")

    monkeypatch.setattr(cli, "load_claim", lambda name: Claim)
    out = tmp_path / "x.json"
    assert cli.main([next(iter(harness.CLAIMS)), "--json", str(out)]) == 1
    assert "loss differs" in capsys.readouterr().err
    assert not out.exists()


def test_json_file_holds_the_result(tmp_path, monkeypatch, capsys):
    class Claim:
        @staticmethod
        def run(setting):
            assert setting == harness.Setting("cpu", True)
            return result(bound=1.5)

    monkeypatch.setattr(cli, "load_claim", lambda name: Claim)
    out = tmp_path / "results" / "x.json"
    assert cli.main([next(iter(harness.CLAIMS)), "--quick", "--json", str(out)]) == 0
    assert Result(**json.loads(out.read_text())).ratio == 2.5
    assert "ABOVE ITS BOUND" in capsys.readouterr().out


def test_meter_sees_a_peak_that_is_gone():
    meter = Meter("cpu")
    meter.start(torch.nn.Linear(2, 2))
    with mmap.mmap(-1, 64 * 2**20) as block:  # new pages, whatever the allocator holds in reserve
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
    assert meter.peak() - meter.loaded >= 60 * 2**20


def test_clock_gives_the_time_between_marks():
    clock = Clock("cpu")
    for _ in range(3):
        clock.mark()
    steps = clock.steps()
    assert len(steps["seconds"]) == len(steps["cpu_seconds"]) == 2
    assert min(steps["seconds"]) >= 0


def test_synthetic_dialogues_have_esconv_like_lengths(monkeypatch):
    monkeypatch.delenv("ZOO_DATA", raising=False)
    records, source = workload.dialogues()
    assert "synthetic" in source
    words = [sum(len(turn.text.split()) for turn in record.turns) for record in records]
    assert 400 < quantiles(words)[1] < 650  # ESConv: 709 tokens with markup, about 500 words
    assert {turn.speaker for turn in records[0].turns} == {SEEKER, SUPPORTER}


def test_rendered_dialogue_ends_with_a_turn_that_fits():
    from zoo.backbone import byte_tokenizer

    record = workload.dialogues()[0][0]
    example = workload.render(byte_tokenizer(), record, window=600)
    assert len(example) <= 600
    assert example.input_ids[-1] == ord("\n") or len(example) > 0
    assert sum(example.weights) > 0


def test_finished_samples_are_not_measured_again(tmp_path, monkeypatch):
    """A run that is cut off goes on after its last finished process."""
    measured = []

    def measure(name, side, setting, **options):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append((side, options["n"]))
        return make([float(len(measured))])

    monkeypatch.setattr(harness, "measure", measure)
    setting = harness.Setting(samples=str(tmp_path / "samples.json"))
    sides = {"ours": {"n": 1}, "theirs": {"n": 2}}
    with pytest.raises(KeyboardInterrupt):
        harness.interleave("x", sides, setting, 2)
    measured.pop()  # room for the last one
    found = harness.interleave("x", sides, setting, 2)
    assert measured == [("ours", 1), ("theirs", 2), ("theirs", 2)]
    assert [[sample.seconds for sample in found[side]] for side in sides] == [
        [[1.0], [3.0]],
        [[2.0], [3.0]],
    ]
    more = harness.interleave("x", {"ours": {"n": 1}}, setting, 1)  # measures nothing
    assert more["ours"] == found["ours"][:1]
