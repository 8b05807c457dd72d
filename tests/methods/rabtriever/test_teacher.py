"""The teacher of Rabtriever: an exported folder or a sharded checkpoint, with the same prompt."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from running import CONFIGS, ROOT, main

import zoo
from zoo import export
from zoo.errors import InputError
from zoo.weights import STEP

Make = Callable[..., Any]


def test_the_teachers_prompt_has_to_be_the_students(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As backbone and as start; the document's slot may differ."""
    monkeypatch.setenv("HOME", str(tmp_path))
    teacher = make("LaHoRe", "tiny-llama", labels=["B", "A"])  # its template is `paper`
    export.save(teacher, tmp_path / "e")
    source = str(tmp_path / "e")
    for options, said in (
        ({}, r"model\.template: 'followup', but the teacher .*e was trained with 'paper'"),
        ({"template": "paper"}, r"model\.labels: \['A', 'B'\].* trained with \['B', 'A'\]"),
    ):
        for name in (source, "~/e"):
            with pytest.raises(InputError, match=said):
                zoo.Rabtriever({"name": name}, **options).validate()
        started = zoo.Rabtriever({"name": "tiny-llama"}, **options)
        started.init_from = source
        with pytest.raises(InputError, match=said):
            started.validate()
    zoo.Rabtriever({"name": source}, template="paper", labels=["B", "A"]).validate()
    (tmp_path / "e" / "zoo.json").write_text("{")
    with pytest.raises(InputError, match=r"zoo\.json: damaged"):
        zoo.Rabtriever({"name": source}).validate()


def test_the_papers_teacher_fits_the_papers_student(make: Make, tmp_path: Path) -> None:
    """The two commands in the overlay, up to the size of the model: one prompt, one slot."""
    text = (CONFIGS / "paper" / "rabtriever.yaml").read_text()
    commands = [line.split()[5:] for line in text.splitlines() if line.startswith("#   python")]
    found = []
    for arguments in commands:  # what stands behind `# python -m zoo fit`
        out = io.StringIO()
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
            main("fit", *(str(ROOT / a) if "/" in a else a for a in arguments), "--print_config")
        settings = yaml.safe_load(out.getvalue())["model"]
        del settings["init_args"]["backbone"], settings["init_args"]["optimizer"]
        found.append((settings["class_path"].split(".")[-1], settings["init_args"]))
    (name, options), (student, others) = found
    assert (name, student) == ("LaHoRe", "Rabtriever")
    assert options["document_tokens"] == others["document_tokens"]
    export.save(make(name, "tiny-llama", **options), tmp_path / "e")
    made = zoo.Rabtriever({"name": "tiny-llama"}, **others)
    made.init_from = str(tmp_path / "e")
    made.validate()


def sharded(teacher: Any, folder: Path) -> str:
    """Write a module as a run with a sharding strategy does; return the checkpoint's path."""
    from torch.distributed.checkpoint import FileSystemWriter, save

    state = {**teacher.state_dict(), f"{STEP}0": torch.tensor(5)}
    save({"state_dict": state}, storage_writer=FileSystemWriter(folder), no_dist=True)
    torch.save({"global_step": 5, "hyper_parameters": dict(teacher.hparams)}, folder / "meta.pt")
    return str(folder)


def test_a_sharded_checkpoint_is_a_teacher(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its weights are the student's, its predictor starts new, and its prompt is compared."""
    teacher = make("LaHoRe", "tiny-llama", spread=4.0)
    source = sharded(teacher, tmp_path / "last.ckpt")
    made = zoo.Rabtriever({"name": "tiny-llama"})
    made.init_from = source
    with pytest.raises(InputError, match=r"model\.template: 'followup'.* trained with 'paper'"):
        made.validate()
    made = zoo.Rabtriever({"name": "tiny-llama"}, template="paper")
    made.init_from = source
    made.validate()
    made.configure_model()
    for name, value in teacher.state_dict().items():
        assert torch.equal(made.state_dict()[name], value)
    assert "last.ckpt has no predictor.layers.0.bias" in caplog.text
    other = zoo.LaHoRe({"name": "tiny-qwen2"})
    other.init_from = source
    with pytest.raises(InputError, match="parameters differ|other shapes"):
        other.configure_model()
    (tmp_path / "last.ckpt" / "meta.pt").write_bytes(b"?")
    with pytest.raises(InputError, match=r"last\.ckpt: a damaged checkpoint"):
        made.validate()


def test_a_teacher_that_read_the_query_first_is_refused(make: Make, tmp_path: Path) -> None:
    """Its states of a document depend on the query, so there is nothing to encode offline."""
    teacher = make("LaHoRe", "tiny-llama", template="followup", order="query_first")
    export.save(teacher, tmp_path / "e")
    for source in (str(tmp_path / "e"), sharded(teacher, tmp_path / "s")):
        started = zoo.Rabtriever({"name": "tiny-llama"})
        started.init_from = source
        with pytest.raises(InputError, match=r"trained with model\.order: query_first"):
            started.validate()
