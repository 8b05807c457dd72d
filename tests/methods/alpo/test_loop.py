"""From subtitles to preferences, by a translator that really writes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training import quiet_trainer

import zoo
from datamodules import ScoredBlocks, Subtitles
from zoo.methods.alpo.__main__ import main

WORDINGS = [("Hi.", "Go!"), ("Hey.", "Out!"), ("Yo.", "Run!")]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Return a folder with two episodes of two lines."""
    folder = tmp_path_factory.mktemp("subtitles")
    for name in ("train/a", "train/b", "val/v", "test/t"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.zh").write_text("甲\n乙\n", "utf-8")
        (folder / f"{name}.en").write_text("Hi.\nGo!\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def translator(tmp_path_factory, data) -> Path:
    """Return an exported tiny translator that has learned three wordings of these lines."""
    torch.manual_seed(0)
    model = zoo.ALPO(backbone={"name": "tiny-llama"}, objective="sft", max_length=4096)
    model.configure_model()
    encoder = model.encoder()
    block = Subtitles(str(data)).records("train")[0]
    examples = [e for words in WORDINGS for e in encoder(replace(block, target=words))]
    batch = encoder.collate(examples, {})
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        model.losses(batch)["translation"].loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("translator") / "export"
    zoo.save(model, folder)
    return folder


def given(data: Path, translator: Path, output: Path) -> list[str]:
    return [
        "sample",
        *("--translator", str(translator)),
        *("--data", "datamodules.Subtitles", "--data.path", str(data)),
        *("--output", str(output)),
        *("--sampling.k", "24", "--sampling.nucleus.temperature", "1.0"),
        *("--sampling.max_line_tokens", "20"),
    ]


@pytest.mark.parametrize("mode", ["sequential", "block"])
def test_sampled_scored_and_learned_from(data, translator, tmp_path, capsys, mode):
    output = tmp_path / "scored.jsonl"
    arguments = [*given(data, translator, output), "--sampling.mode", mode]
    main(arguments)
    out = capsys.readouterr().out
    assert f"scored      {output}: 2 blocks" in out
    for done, samples, block in ((1, 48, "train/a:1"), (2, 96, "train/b:1")):
        assert f"{done}/2 {block}: {samples} samples, " in out
    blocks = ScoredBlocks(str(output), val=str(output)).records("train")
    assert [block.id for block in blocks] == ["train/a:1", "train/b:1"]
    learned, _ = blocks
    sampled = {lines[0] for segment in learned.segments for lines in segment.candidates[1:]}
    assert sampled & {line for words in WORDINGS[1:] for line in words}
    assert {segment.scores[0] for segment in learned.segments if segment.scores} == {100}
    # a run that was cut off in the second block ends as one that was not
    whole = output.read_bytes()
    output.write_bytes(whole[: whole.index(b"\n") + 30])
    main(arguments)
    assert output.read_bytes() == whole
    if mode == "sequential":
        _learn(output, translator)


def _learn(output: Path, translator: Path) -> None:
    """A step of ALPO on the candidates moves the weights."""
    model = zoo.load(translator)
    model.objective, model._encoder = "alpo", None
    before = model.lm.lm_head.weight.clone()
    trainer = quiet_trainer(max_steps=1, limit_val_batches=0)
    trainer.fit(model, ScoredBlocks(str(output), val=str(output), batch_size=2))
    assert not torch.equal(model.lm.lm_head.weight, before)


def test_bad_input_is_one_line(data, translator, tmp_path, capsys):
    output = tmp_path / "scored.jsonl"
    arguments = given(data, translator, output)

    def refusal(*more: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *more])
        assert ended.value.code == 2
        assert not output.exists()
        return capsys.readouterr().err

    assert refusal("--sampling.k", "0") == "error: sampling.num_samples (k): 0 is not above 0\n"
    assert "scoring.choice: needs a judge" in refusal("--scoring.kind", "choice")
    assert "no zoo.json there" in refusal("--translator", str(tmp_path)).replace(
        "no zoo_method.json", "no zoo.json"
    )
    arguments = [a.replace("datamodules.Subtitles", "datamodules.Triples") for a in arguments]
    arguments = [a for a in arguments if a not in ("--data.path", str(data))]
    assert "Triples has no blocks; use datamodules.Subtitles" in refusal()


def test_a_file_holds_blocks_of_one_split_part_and_folder(data, translator, tmp_path, capsys):
    """Other data are refused by name before anything is written, the same are gone on with."""
    output, card = tmp_path / "scored.jsonl", tmp_path / "scored.jsonl.settings.json"
    folders = [shutil.copytree(data, tmp_path / name) for name in ("mine", "other")]
    for folder in folders:
        for code in ("zh", "en"):
            (folder / f"train/c.{code}").write_text("x\ny\nz\n", "utf-8")
    arguments = [*given(folders[0], translator, output), "--sampling.k", "2", "--data.core", "1"]
    arguments += ["--data.part", "preference"]  # one of seven blocks
    main(arguments)
    assert "1 blocks" in capsys.readouterr().out
    whole = output.read_bytes(), card.read_bytes()
    for name, *more in (
        ("split", "--split", "val"),
        ("data.part", "--data.part", "sft"),
        ("data.path", "--data.path", str(folders[1])),
        ("data.encoding", "--data.encoding", "utf-8-sig"),
    ):
        with pytest.raises(SystemExit):
            main([*arguments, *more])
        assert f"begun with other settings: {name} (see" in capsys.readouterr().err
        assert (output.read_bytes(), card.read_bytes()) == whole
    # a card of before these were kept
    old = json.loads(whole[1])
    del old["split"], old["data"]["part"], old["data"]["path"], old["data"]["encoding"]
    card.write_text(json.dumps(old), "utf-8")
    for more in (["--split", "val"], ["--data.part", "sft"]):
        with pytest.raises(SystemExit):
            main([*arguments, *more])
        assert "is of other data, by data.encoding, data.part" in capsys.readouterr().err
    main(arguments)
    assert (output.read_bytes(), card.read_bytes()) == whole


def test_a_translator_or_a_reference_that_changed_is_refused(data, translator, tmp_path, capsys):
    """Both lie where they lay; what was sampled before does not fit to them."""
    mine, output = shutil.copytree(data, tmp_path / "mine"), tmp_path / "scored.jsonl"
    own = shutil.copytree(translator, tmp_path / "translator")
    arguments = [*given(mine, own, output), "--sampling.k", "1"]
    main(arguments)
    whole = output.read_bytes()
    (mine / "train/a.en").write_text("Hi!\nGo!\n", "utf-8")
    with pytest.raises(SystemExit):
        main(arguments)
    said = f"{output}:1: train/a:1 was made of other data than there is now, by block; name a new"
    assert said in capsys.readouterr().err
    (mine / "train/a.en").write_text("Hi.\nGo!\n", "utf-8")
    shutil.rmtree(own)
    other = zoo.load(translator)
    other.lm.lm_head.weight.data[0, 0] += 1
    zoo.save(other, own)
    with pytest.raises(SystemExit):
        main(arguments)
    assert "begun with other settings: weights (see" in capsys.readouterr().err
    assert output.read_bytes() == whole


def test_a_block_beyond_the_window_may_be_left_out(data, translator, tmp_path, capsys):
    """Else it would stop the run for good; the others are sampled, and its number is told."""
    mine, output = shutil.copytree(data, tmp_path / "mine"), tmp_path / "scored.jsonl"
    (mine / "train/a.zh").write_text(f"{'甲' * 2000}\n乙\n", "utf-8")
    arguments = [*given(mine, translator, output), "--sampling.k", "1"]
    with pytest.raises(SystemExit):
        main(arguments)
    said = capsys.readouterr().err
    assert "error: train/a:1: " in said
    assert said.endswith("data.too_long: drop leaves such blocks out\n")
    main([*arguments, "--data.too_long", "drop"])
    out = capsys.readouterr().out
    assert "1/2 train/a:1: left out: train/a:1: " in out
    assert out.endswith(f"{output}: 1 blocks, 1 longer than the window left out\n")
    (mine / "train/b.zh").write_text(f"{'甲' * 2000}\n乙\n", "utf-8")
    with pytest.raises(SystemExit):
        main([*arguments, "--data.too_long", "drop", "--output", str(tmp_path / "new.jsonl")])
    assert "data.too_long: no block of 'train' fits" in capsys.readouterr().err


def test_a_judge_scores_by_likelihood(data, translator, tmp_path):
    """A language model of random weights as judge: scores are there and in range."""
    output = tmp_path / "scored.jsonl"
    main(
        [
            *given(data, translator, output),
            *("--sampling.k", "3", "--scoring.kind", "choice"),
            *("--scoring.judge.name", "tiny-qwen2", "--scoring.max_length", "8192"),
        ]
    )
    (block, _) = ScoredBlocks(str(output), val=str(output)).records("train")
    scores = [score for segment in block.segments for score in segment.scores or ()]
    assert all(0 <= score <= 100 for score in scores)


def test_segments_are_written_and_read(data, tmp_path, capsys):
    output = tmp_path / "segments.jsonl"
    source = ["--data", "datamodules.Subtitles", "--data.path", str(data)]
    judge = ["--judge.name", "tiny-llama", "--max_length", "8192"]
    main(["segment", *source, *judge, "--output", str(output)])
    rows = [json.loads(line) for line in output.read_text().split("\n") if line]
    assert [row["id"] for row in rows] == ["train/a", "train/b", "val/v", "test/t"]
    with pytest.raises(SystemExit):
        main(["segment", *source, "--data.encoding", "utf-8-sig", *judge, "--output", str(output)])
    assert "other settings: data.encoding (see" in capsys.readouterr().err
    blocks = Subtitles(str(data), segments=str(output)).records("train")
    assert [block.starts for block in blocks] == [tuple(row["starts"]) for row in rows[:2]]
