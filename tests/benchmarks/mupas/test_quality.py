import json
import statistics
from dataclasses import replace

import pytest

import datamodules
import zoo
from benchmarks.mupas import quality, scores
from zoo.methods.mupas.metrics import SpeakerScores
from zoo.methods.mupas.speaker_rules import RULES, accuracy

SCENES = datamodules.Scenes().records("test")


def sample(path, **options):
    """Return the sample of MELD, whatever the path."""
    return datamodules.MELD(**options)


def test_scores_by_scene_are_those_of_the_metric():
    chances = [[dict(zip(s.names, (0.5, 0.3, 0.2), strict=False))] * 99 for s in SCENES]
    chances = [each[: len(s.turns) - 1] for each, s in zip(chances, SCENES, strict=True)]
    metric = SpeakerScores()
    metric.update(SCENES, chances)
    wanted = metric.compute()
    found = scores.of_chances(SCENES, chances)["metrics"]
    assert all(value == pytest.approx(float(wanted[name])) for name, value in found.items())
    for rule in RULES.values():
        of_rule = scores.of_rule(SCENES, rule)["metrics"]["speaker_accuracy"]
        assert of_rule == pytest.approx(accuracy(SCENES, rule)[0])


@pytest.mark.parametrize("data", [datamodules.MELD, datamodules.EmoryNLP])
def test_every_scene_is_an_item(data):
    """The same scene number stands in many episodes."""
    scenes = data().records("test") + data().records("train")
    more = [replace(scene, id=scene.id.replace(":1:", ":2:", 1)) for scene in scenes]
    scenes = list({scene.id: scene for scene in [*scenes, *more]}.values())
    found = scores.of_rule(scenes, RULES["alternation"])
    assert len(found["items"]["speaker_accuracy"]) == len({s.id.partition(":")[2] for s in scenes})
    names = [scores.name_of(replace(scenes[0], id=f"test.csv:{n}")) for n in ("1:1:4", "3:8:4")]
    assert names == ["1:1:4", "3:8:4"]


def test_differences_are_paired_by_scene():
    values, sizes = {"a": 1.0, "b": 0.0, "c": 0.5}, {"a": 1, "b": 3, "c": 4}
    assert scores.mean(values, sizes) == 3 / 8
    assert scores.difference([(values, values)], sizes) == (0, 0, 0)
    lower = {name: value - 0.25 for name, value in values.items()}
    assert scores.difference([(values, lower)], sizes) == (0.25, 0.25, 0.25)
    middle, low, high = scores.difference([(values, dict.fromkeys("abc", 0.0))], sizes)
    assert low < middle == 3 / 8 < high


@pytest.mark.parametrize("objective", ["role_mean", "pairwise"])
def test_every_row_passes_the_scenes_as_often(objective):
    """Examples that are read, over those that the encoder makes of all scenes."""
    settings = {"objective": objective}
    encoder = zoo.MuPaS(backbone={"name": "tiny-llama"}, max_length=4096, **settings).encoder()
    examples = sum(len(encoder(scene)) for scene in SCENES)
    passes = 8 * quality.steps_of(settings, 1000, SCENES) / examples
    assert passes == pytest.approx(8 * 1000 / len(SCENES), rel=1e-3)


def test_rows_are_run_once_and_compared(tmp_path, monkeypatch, capsys):
    """A model from scratch, the prompted one and a rule; a second call runs nothing."""
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(quality, "DATASETS", {"meld": sample})
    monkeypatch.setattr(quality, "SMALL", (16, 32))
    rows = ("MuPaS", "pairwise SFT", "prompted", "rule: alternation")
    path = tmp_path / "rows.json"
    asked = ["--json", str(path), "--steps", "2", "--seeds", "0", "--backbone", "small"]
    quality.main([*asked, "--replies", "1", "--rows", *rows])
    entries = {entry["row"]: entry for entry in json.loads(path.read_text())}
    assert set(entries) == set(rows)
    views = statistics.mean(len(scene.speakers) for scene in sample("").records("train"))
    assert views > 2
    wanted = {"MuPaS": 2, "pairwise SFT": round(2 * views), "prompted": 0, "rule: alternation": 0}
    assert {row: entry["steps"] for row, entry in entries.items()} == wanted
    assert "speaker_accuracy" not in entries["pairwise SFT"]["metrics"]
    words = [set(entry["items"].get("words", {})) for entry in entries.values()]
    assert words == [words[0], words[0], words[0], set()]
    printed = capsys.readouterr().out
    assert "| pairwise SFT | 1 | - | - | - | - |" in printed
    assert "bleu_2" in printed
    monkeypatch.setattr(quality, "run_row", lambda *_, **__: pytest.fail("it was there"))
    quality.main([*asked, "--rows", *rows])
