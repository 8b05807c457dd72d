"""Which model labels the training data, and how it is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from methods.lamss.lamss_world import LEVELS, with_levels

import zoo
from zoo import backbone as backbones
from zoo.errors import InputError
from zoo.methods.lamss.token_probabilities import probabilities

STOP = 258
PROMPTS = [[65, 66, 67], [70, 71, 72, 73, 74, 75, 76]]
ANSWERS = [[80, 81, STOP], [90, STOP]]


def saved(folder: Path, seed: int) -> str:
    """Save a tiny model of its own weights."""
    torch.manual_seed(seed)
    lm, tokenizer = backbones.load(zoo.Backbone(name="tiny-llama"))
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_labels_come_from_the_named_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    trained, labeling = saved(tmp_path / "trained", 0), saved(tmp_path / "labeling", 1)
    rows = [((1, 2, 3), (4, 5, 6))]
    doubts = {}
    for name in (trained, labeling):
        lm, _ = backbones.load(zoo.Backbone(name=name))
        doubts[name] = [1 - p for p in probabilities(lm.eval(), rows)[0]]
    assert doubts[trained] != pytest.approx(doubts[labeling], abs=1e-4)

    for label_from, source in ((labeling, labeling), (None, trained)):
        module = zoo.LaMsS(zoo.Backbone(name=trained), label_from=label_from)
        labels = module.encoder().labels
        assert labels.doubts(rows)[0] == pytest.approx(doubts[source], abs=1e-6)


def forget_form(folder: str) -> None:
    """Make an export one of before it said how its levels stand."""
    path = Path(folder) / "config.json"
    config = json.loads(path.read_text())
    config.pop("skepticism_form", None)
    path.write_text(json.dumps(config))


class Reader:
    """A whole forward for every token, under the flags of the method."""

    def __init__(self, folder: str, writes: bool, hide_sigma: bool, shared_positions: bool) -> None:
        self.lm = backbones.load(zoo.Backbone(name=folder))[0].eval()
        self.writes, self.hidden, self.shared = writes, hide_sigma, shared_positions

    def logits(self, ids: list[int]) -> torch.Tensor:
        """Return the logits after a stream."""
        level = torch.isin(torch.tensor(ids), torch.tensor(LEVELS))
        seen = torch.ones(len(ids), len(ids)).tril().bool()
        if self.hidden:
            seen &= ~level[None] | torch.eye(len(ids)).bool()
        places = (~level).long().cumsum(0) - 1 if self.shared else torch.arange(len(ids))
        where = {"attention_mask": seen[None, None], "position_ids": places[None]}
        return self.lm(torch.tensor([ids]), use_cache=False, **where).logits[0, -1]

    def chances(self, ids: list[int]) -> torch.Tensor:
        """Return p of the next token, the levels renormalised out, after ids as they are read."""
        stream: list[int] = []
        for token in ids:
            stream.append(token)
            if self.writes:
                stream.append(LEVELS[int(self.logits(stream)[LEVELS].argmax())])
        logits = self.logits(stream)
        logits[LEVELS] = -torch.inf
        return logits.softmax(-1)


@torch.no_grad()
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(
    ("writes", "hide_sigma", "shared_positions"),
    [(True, False, False), (False, False, False), (True, True, False), (True, False, True)],
)
def test_a_model_with_levels_labels_by_its_ordinary_tokens(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    writes: bool,
    hide_sigma: bool,
    shared_positions: bool,
    older: bool,
) -> None:
    """It reads as it has learned to: with its own levels if it writes them, else clean text.

    Where they stand is said by its config; an older export is read as the new model will be. p0 is
    a share of the ordinary tokens, and the answer has these alone.
    """
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    flags = {"hide_sigma": hide_sigma, "shared_positions": shared_positions}
    folder = with_levels(tmp_path / "model", interleave=writes, **flags)
    reader = Reader(folder, writes, hide_sigma, shared_positions)
    given = flags if older else {}
    if older:
        forget_form(folder)
    new = zoo.LaMsS(zoo.Backbone("tiny-llama"), label_from=folder, max_answer_tokens=3, **given)
    labels = new.encoder().labels
    rows = list(zip(PROMPTS, ANSWERS, strict=True))
    for (prompt, answer), doubts in zip(rows, labels.doubts(rows), strict=True):
        expected = [
            1 - reader.chances(prompt + answer[:t])[token].item() for t, token in enumerate(answer)
        ]
        assert doubts == pytest.approx(expected, abs=1e-5)
    free = labels.answers(PROMPTS, [None, [[65], [66]]])
    for prompt, allowed, found in zip(PROMPTS, [None, [65, 66]], free, strict=True):
        ids, limit = list(prompt), 3 if allowed is None else 1
        while len(ids) < len(prompt) + limit and STOP not in ids:
            chances = reader.chances(ids)
            ids.append(max(allowed or range(len(chances)), key=lambda i: float(chances[i])))
        assert found == [token for token in ids[len(prompt) :] if token != STOP]


def test_a_model_says_whether_it_writes_levels(tmp_path: Path) -> None:
    """A stage without levels after the tokens unlearns nothing; older exports wrote them."""
    for first, then, writes in ((True, False, True), (False, False, False), (False, True, True)):
        folder = with_levels(tmp_path / f"{first}{then}", interleave=first)
        module = zoo.LaMsS(zoo.Backbone(name=folder), interleave=then)
        assert module.encoder().labels.writes is first
        module.configure_model()
        assert module.lm.config.writes_skepticism is writes


@pytest.mark.parametrize("flag", ["hide_sigma", "shared_positions"])
def test_levels_stand_in_all_stages_as_in_the_first(tmp_path: Path, flag: str) -> None:
    """A stage with levels keeps the first one's form; one without, and an older export, may not."""
    backbone = zoo.Backbone(with_levels(tmp_path / "model", interleave=True, **{flag: True}))
    with pytest.raises(InputError, match=f"model.{flag}: false, but .* its levels with true"):
        zoo.LaMsS(backbone).configure_model()
    zoo.LaMsS(backbone, **{flag: True}).configure_model()
    without = zoo.LaMsS(backbone, interleave=False)
    without.configure_model()
    assert without.lm.config.skepticism_form[flag] is True
    forget_form(backbone.name)
    zoo.LaMsS(backbone).configure_model()


def test_a_sample_is_not_labelled_by_a_model_larger_than_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 a file of 16-bit weights takes twice its size."""
    folder = with_levels(tmp_path / "model", interleave=True)
    labels = zoo.LaMsS(zoo.Backbone(name=folder)).encoder().labels
    size = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    for memory, fits in ((2 * size, True), (2 * size - 1, False)):
        pages = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": memory}
        monkeypatch.setattr("os.sysconf", pages.__getitem__)
        if fits:
            labels.check_size()
        else:
            with pytest.raises(InputError, match="may need .* GiB, this machine has"):
                labels.check_size()


@pytest.mark.parametrize(
    ("cuda", "load_4bit", "device"),
    [(False, False, "cpu"), (True, False, "cuda:1"), (True, True, None)],
)
def test_the_labelling_model_is_frozen_on_its_processs_device(
    cuda: bool, load_4bit: bool, device: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in 4 bits is there already; it is loaded once and until it is dropped."""
    labels = zoo.LaMsS(zoo.Backbone(name="tiny-llama")).encoder().labels
    lm, tokenizer = backbones.load(zoo.Backbone(name="tiny-llama"))
    moved: list[str] = []
    monkeypatch.setattr(lm.train(), "to", lambda place: moved.append(place) or lm)
    loaded: list[zoo.Backbone] = []
    monkeypatch.setattr(backbones, "load", lambda b: loaded.append(b) or (lm, tokenizer))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setenv("LOCAL_RANK", "1")
    labels.backbone = replace(labels.backbone, load_4bit=load_4bit)
    assert labels.lm() is labels.lm() is lm
    assert moved == ([device] if device else [])
    assert loaded == [labels.backbone]
    assert not lm.training
    assert not any(parameter.requires_grad for parameter in lm.parameters())
    labels.drop()
    labels.lm()
    assert len(loaded) == 2
