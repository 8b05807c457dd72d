"""Bad data: one line naming file, line or field and what would fit; status 2; nothing written."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from running import METHANOL, command, main, tiny

from datamodules.base import ZooDataModule
from zoo.encoding import NO_HEAD
from zoo.methods.sft.module import SFT
from zoo.prompts.thoughts import ThoughtEncoder
from zoo.records import Record, Triple

Refused = Callable[..., str]
JEPA = tiny("m3_jepa")


@dataclass(frozen=True)
class Picture:
    """A record type that no method takes."""

    id: str = ""


class Pictures(ZooDataModule):
    """A data module that fits no method."""

    record_types = (Picture,)

    def load(self, split: str) -> list[Record]:
        return [Picture()]  # type: ignore[list-item]


class Mute(SFT):
    """A method whose encoder supervises nothing."""

    def build_encoder(self, tokenizer: object) -> ThoughtEncoder:
        return ThoughtEncoder(tokenizer, think=None, speak=NO_HEAD)


# -- data --------------------------------------------------------------------------------------

GOOD = {"query": "q", "thought": "t", "answer": "a"}


def triples(tmp_path: Path, *lines: bytes, name: str = "data.jsonl") -> tuple[str, list[str]]:
    path = tmp_path / name
    path.write_bytes(b"\n".join(lines))
    args = ["--data", "datamodules.Triples", "--data.train", str(path), "--data.val", str(path)]
    return str(path), args


def test_missing_field(tmp_path: Path, refused: Refused) -> None:
    bad = {"query": "q", "thought": "t", "answr": "a"}
    path, args = triples(tmp_path, json.dumps(GOOD).encode(), json.dumps(bad).encode())
    assert refused(*args) == (
        f"{path}:2: unknown field 'answr'; did you mean 'answer'? "
        "(one of: answer, id, kind, query, system, thought); "
        "data.on_bad: skip leaves such rows out"
    )
    path, args = triples(tmp_path, b'{"query": "q"}')
    assert refused(*args).startswith(f"{path}:1: field 'answer' is missing")


def test_invalid_utf8(tmp_path: Path, refused: Refused) -> None:
    path, args = triples(tmp_path, json.dumps(GOOD).encode(), b'{"query": "\xff"}')
    assert refused(*args) == f"{path}:2: not UTF-8: byte 0xff at byte 12"


def test_truncated_gzip(tmp_path: Path, refused: Refused) -> None:
    path, args = triples(tmp_path, name="data.jsonl.gz")
    whole = gzip.compress(json.dumps(GOOD).encode() * 100)
    Path(path).write_bytes(whole[: len(whole) // 2])
    assert refused(*args).startswith(f"{path}: truncated")


def test_empty_file(tmp_path: Path, refused: Refused) -> None:
    path, args = triples(tmp_path)
    assert refused(*args) == f"{path}: the file is empty"


def test_missing_split(tmp_path: Path, refused: Refused) -> None:
    _, args = triples(tmp_path, json.dumps(GOOD).encode())
    said = refused(*args, verb="test")
    assert said == "Triples: no file for 'test'; set test to one"


def test_dialogue_without_supporter(tmp_path: Path, refused: Refused) -> None:
    turns = [{"speaker": "usr", "text": "I lost my job.", "strategy": ""}]
    dialogue = {"emotion_type": "sadness", "problem_type": "job crisis", "situation": "x"}
    path = tmp_path / "train.txt"
    path.write_text(json.dumps({**dialogue, "dialog": turns, "survey_score": {}}) + "\n")
    said = refused("--data", "datamodules.ESConv", "--data.path", str(tmp_path))
    assert re.search(r"train\.txt:1: .*supporter", said)


def test_record_type_that_the_method_does_not_take(refused: Refused) -> None:
    said = refused("--data", "test_bad_input.Pictures")
    assert "Pictures yields Picture, but the method takes Triple, Dialogue" in said
    fitting = said.rpartition("modules that fit: ")[2].split(", ")
    assert {"BigToM", "ESConv", "FalseBelief", "ToMi", "Triples"} <= set(fitting)
    assert "DigitsText" not in fitting


def test_all_masked_example(refused: Refused) -> None:
    said = refused("--model", "test_bad_input.Mute", "--model.backbone.name", "tiny-llama")
    assert "no token is supervised" in said


def test_sample_longer_than_the_window(refused: Refused) -> None:
    assert "longer than the window max_length=50" in refused("--model.max_length", "50")


def test_prompt_longer_than_the_window(refused: Refused) -> None:
    said = refused("--prompt", "x" * 80, "--model.max_length", "60", verb="generate")
    assert "leaves no room in the window max_length=60" in said


def test_thought_that_is_missing(tmp_path: Path, refused: Refused) -> None:
    """MeTHanol cannot learn from a triple without thought; answers-only SFT can."""
    path, args = triples(tmp_path, b'{"query": "q", "answer": "a"}')
    assert refused(*args) == f"{Path(path).name}:1: the field 'thought' is empty"


@pytest.mark.parametrize("verb", ["check", "fit", "generate"])
def test_counts_that_are_not_above_zero(verb: str, refused: Refused) -> None:
    for key, count in (("data.batch_size", "0"), ("data.max_val", "-1"), ("model.max_length", "0")):
        assert refused(f"--{key}", count, verb=verb) == f"{key}: {count} is not above 0"
    if verb == "generate":
        said = refused("--num_records", "-1", verb=verb)
        assert said == "num_records: -1 is not above 0"


def test_record_type_names_are_ours() -> None:
    """The test's own record type is unknown to every method."""
    assert Picture not in (*SFT.takes, Triple)


# -- pictures ----------------------------------------------------------------------------------


@pytest.fixture
def refused_pairs(refused: Refused) -> Refused:
    """The same for M3-JEPA on tiny encoders; without data of one's own it reads the digits."""
    return partial(refused, given=JEPA)


def gallery(tmp_path: Path, count: int = 4) -> tuple[Path, list[str]]:
    """A folder of grey pictures with JSONL captions, and the arguments that read it."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = [f"{i}.png" for i in range(count)]
    for i, name in enumerate(names):
        Image.new("L", (9, 7), 20 * i).save(folder / name)
    rows = [{"image": n, "text": f"picture {n}", "split": "train"} for n in names]
    rows += [{**rows[0], "split": "val", "image": names[-1]}]
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[: count - 1] + rows[-1:]))
    args = ("--data", "datamodules.ImageText", "--data.path", str(folder))
    return folder, [*args, "--data.annotations", str(path)]


def test_picture_without_caption(tmp_path: Path, refused_pairs: Refused) -> None:
    folder, args = gallery(tmp_path)
    tokens = tmp_path / "results.token"
    tokens.write_text("".join(f"{i}.png#0\tpicture {i}\n" for i in range(3)))
    said = refused_pairs(*args[:-1], str(tokens))
    assert said == f"{tokens}: no caption for 1 of 4 pictures in {folder}, the first is 3.png"


def test_zero_byte_picture(tmp_path: Path, refused_pairs: Refused) -> None:
    folder, args = gallery(tmp_path)
    (folder / "1.png").write_bytes(b"")
    said = refused_pairs(*args)
    assert said == f"{args[-1]}:2: {folder / '1.png'} is a picture of zero bytes"


@pytest.mark.parametrize("workers", ["0", "1"])
def test_corrupt_picture_is_named(
    workers: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It shows when its batch is made: one line, with its name."""
    folder, args = gallery(tmp_path)
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(whole[: len(whole) // 2])
    root = ("--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.max_steps", "3")
    more = ("--data.num_workers", workers, "--data.batch_size", "3")
    check = ("--trainer.val_check_interval", "1")
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main("fit", *JEPA, *args, *more, *root, *check)
    assert stopped.value.code == 2
    said = [x for x in capfd.readouterr().err.splitlines() if x.startswith("error: ")]
    assert len(said) == 1
    assert said[0].startswith("error: 2.png: not a readable picture (")


def test_batches_of_one_pair(refused_pairs: Refused) -> None:
    said = refused_pairs("--data.batch_size", "1")
    assert said.startswith("data.batch_size: 1 leaves a pair without negatives")
    assert said.endswith("use at least 2, or model.alpha: 1")


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (
            ("--model.directions", "[image2txt]"),
            "model.directions: 'image2txt' names 'txt', which has no encoder; "
            "did you mean 'text'? (one of: image, text)",
        ),
        (("--model.directions", "[image]"), "names '', which has no encoder; one of: image, text"),
        (("--model.directions", "[audio2text]"), "names 'audio', which has no encoder; one of"),
        (("--model.directions", "[]"), "model.directions: name at least one"),
        (("--model.top_k", "5"), "model.top_k: 5 is not in 1..4, the number of experts"),
        (("--model.top_k", "0"), "model.top_k: 0 is not in 1..4, the number of experts"),
        (("--model.alpha", "1.5"), "model.alpha: 1.5 is not between 0 and 1"),
        (
            ("--model.text.adapt_blocks", "5"),
            "model.text.adapt_blocks: 5 is too many; tiny-bert has 4 blocks",
        ),
        (("--model.image.adapt_blocks", "-1"), "model.image.adapt_blocks: -1 is less than 0"),
        (("--model.text.name", "tiny-brt"), "model.text.name: no preset or folder 'tiny-brt'"),
        (("--model.image.picture_size", "64"), "model.image.picture_size: tiny-vit takes"),
    ],
)
def test_settings_of_m3_jepa(args: tuple[str, ...], wanted: str, refused_pairs: Refused) -> None:
    assert wanted in refused_pairs(*args)


def test_adapters_on_a_convolutional_network(tmp_path: Path, refused_pairs: Refused) -> None:
    from transformers import ResNetConfig

    ResNetConfig(hidden_sizes=[8, 8, 8, 8]).save_pretrained(tmp_path / "resnet")
    said = refused_pairs("--model.image.name", str(tmp_path / "resnet"))
    assert said.startswith("model.image.adapt_blocks: 2 is too many; ")
    assert said.endswith("is convolutional and has no blocks to adapt")


def test_family_that_is_not_supported(tmp_path: Path, refused_pairs: Refused) -> None:
    from transformers import T5Config

    T5Config(num_layers=2, d_model=32, d_ff=32, num_heads=4).save_pretrained(tmp_path / "t5")
    said = refused_pairs("--model.text.name", str(tmp_path / "t5"))
    assert said.startswith("model.text.name: encoders of type 't5' are not supported")


def test_an_encoder_of_spectrograms(tmp_path: Path, refused_pairs: Refused) -> None:
    """Sounds are read as waves: it is refused before a pass fails."""
    from transformers import ASTConfig

    ASTConfig(num_hidden_layers=2, hidden_size=16, intermediate_size=16).save_pretrained(tmp_path)
    said = refused_pairs("--model.audio", f"{{name: {tmp_path}, adapt_blocks: 1}}")
    named = "'audio-spectrogram-transformer' are not supported; those that are: "
    assert said.startswith(f"model.audio.name: encoders of type {named}")
    assert "wav2vec2, hubert" in said


def test_data_of_another_record_type(refused_pairs: Refused) -> None:
    said = refused_pairs("--data", "datamodules.FalseBelief")
    assert said.startswith("data: FalseBelief yields Triple, but the method takes MediaText; ")
    assert "DigitsText" in said
    assert "ImageText" in said


def test_questions_that_the_data_do_not_have(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    root = ("--trainer.default_root_dir", str(tmp_path), "--trainer.max_steps", "1")
    with pytest.raises(SystemExit) as stopped:
        main("fit", *JEPA, *root, "--model.directions", "[image+text2text]")
    assert stopped.value.code == 2
    err = capfd.readouterr().err
    assert "error: data: a direction needs the question of a record that has none" in err


def test_a_thought_for_a_method_without(refused_pairs: Refused) -> None:
    assert (
        refused_pairs("--given", "x", verb="generate") == "given: M3JEPA takes none; leave it out"
    )


# -- a process of its own ----------------------------------------------------------------------


def test_process(tmp_path: Path) -> None:
    """No traceback, no usage, no log line, status 2; the run folder does not appear."""
    path, args = triples(tmp_path, b'{"query": "q"}')
    run = tmp_path / "run"
    root = ("--trainer.default_root_dir", str(run))
    done = command("fit", *METHANOL, *root, *args, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [Path(path).name]
