"""Folders and checkpoints that older code wrote still load, resume and generate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from running import board, main

import zoo
from zoo.records import SEEKER, SUPPORTER, Corpus, Dialogue, Document, Ranking, Triple, Turn

STORED = Path(__file__).parent / "stored"
EXPECTED: dict[str, Any] = json.loads((STORED / "expected.json").read_text())
METHODS = sorted(EXPECTED)


def test_the_methanol_export_generates() -> None:
    module = zoo.load(STORED / "methanol/export")
    assert type(module) is zoo.MeTHanol
    questions = [
        Triple("Where is the ball?", "", "", id="a"),
        Triple("Who left the room?", "", "", id="b"),
    ]
    replies = [[reply.thought, reply.answer] for reply in module.generate(questions)]
    assert replies == EXPECTED["methanol"]["generated"]


def test_the_straq_export_plans() -> None:
    module = zoo.load(STORED / "straq/export")
    assert type(module) is zoo.StraQ
    lost = (Turn(SEEKER, "I lost my job."),)
    mourned = (
        Turn(SEEKER, "Hello."),
        Turn(SUPPORTER, "What happened?", strategy="Question"),
        Turn(SEEKER, "My dog died."),
    )
    plans = module.plan(
        [Dialogue(lost, emotion="sadness", problem="job crisis", id="d"), Dialogue(mourned, id="e")]
    )
    for plan, values in zip(plans, EXPECTED["straq"]["values"], strict=True):
        assert plan.values == pytest.approx(values, abs=1e-5)


def test_the_lahore_export_ranks() -> None:
    module = zoo.load(STORED / "lahore/export")
    assert type(module) is zoo.LaHoRe
    texts = {"x": "Cats sleep.", "y": "Dogs bark at night.", "z": "It rains."}
    corpus = Corpus({name: Document(name, text) for name, text in texts.items()})
    scores = module.scores([Ranking("What do dogs do?", corpus, (("y", 1),), id="r")])
    assert scores[0] == pytest.approx(EXPECTED["lahore"]["scores"][0], abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_stored_checkpoint_resumes(method: str, tmp_path: Path) -> None:
    """Steps 3 and 4 have the losses that the code of then had after the checkpoint."""
    main(
        *("fit", "--config", str(STORED / method / "config.yaml")),
        *("--ckpt_path", str(STORED / method / "last.ckpt"), "--trainer.max_steps", "4"),
        *("--trainer.default_root_dir", str(tmp_path)),
    )
    events = board(tmp_path)
    for tag, losses in EXPECTED[method]["losses"].items():
        assert [event.step for event in events.Scalars(tag)] == [3, 4]
        assert [event.value for event in events.Scalars(tag)] == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_an_export_written_today_names_the_public_class(method: str, tmp_path: Path) -> None:
    """Class paths on disk do not depend on which file a class lives in."""
    module = zoo.load(STORED / method / "export")
    folder = tmp_path / "again"
    zoo.save(module, folder)
    card = json.loads((folder / "zoo.json").read_text())
    assert card["class"] == f"zoo.{type(module).__name__}"
    assert type(zoo.load(folder)) is type(module)


def test_the_old_card_names_a_file_that_is_gone(tmp_path: Path) -> None:
    """The stored folder proves something only while it names the module of then."""
    card = json.loads((STORED / "straq/export/zoo.json").read_text())
    assert card["class"] == "zoo.methods.straq.StraQ"
    moved = tmp_path / "moved"
    shutil.copytree(STORED / "straq/export", moved)
    card["class"] = "zoo.methods.responder.StraQResponder"
    (moved / "zoo.json").write_text(json.dumps(card))
    with pytest.raises(TypeError):  # found; its arguments are others
        zoo.load(moved)
