"""Data modules inside a Trainer: the current module's encoder, new epochs, limits, counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from dialogues import TALK
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader
from training import Data, quiet_trainer, watched

import datamodules
import zoo
from datamodules.base import ZooDataModule
from datamodules.loader import StepLoader
from zoo.encoding import collate
from zoo.records import SEEKER, Conditioned, Dialogue, Triple, Turn

SILENT = {"limit_val_batches": 0, "num_sanity_val_steps": 0}


class Watching:
    """Remembers the tokens that each head learns."""

    learned: list[dict[int, list[int]]]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        labels = {head: batch.labels[batch.head_ids == head].tolist() for head in batch.normalizers}
        self.__dict__.setdefault("learned", []).append(labels)
        return super().training_step(batch, batch_idx)  # type: ignore[misc]


class Seen(Watching, zoo.SFT):
    """Answers with its only head."""


class SeenMeTHanol(Watching, zoo.MeTHanol):
    """Thinks with a second head."""


def learned(module: Any, data: Any) -> list[dict[int, list[int]]]:
    quiet_trainer(max_steps=1, **SILENT).fit(module, datamodule=data)
    return module.learned


def test_a_second_module_gets_its_own_examples(refused: Callable[..., str]) -> None:
    """One data module after another module: what is learned is what a new one would give."""
    data, backbone = Data(batch_size=2), zoo.Backbone("tiny-llama")
    learned(Seen(backbone, max_generated=0), data)
    second = learned(SeenMeTHanol(backbone, max_generated=0), data)
    assert set(second[0]) == {0, 1}
    assert second == learned(SeenMeTHanol(backbone, max_generated=0), Data(batch_size=2))
    narrow = Seen(backbone, max_length=64, max_generated=0)
    refused(lambda: learned(narrow, data), "longer than the window max_length=64")


def ids_predicted(data: ZooDataModule, module: Any) -> list[str]:
    """Return the ids that prediction answers, in order."""
    found: Any = quiet_trainer().predict(module, datamodule=data)
    return [row["id"] for batch in found for row in batch]


def test_the_split_that_is_predicted(refused: Callable[..., str]) -> None:
    """Its records, in their order; the training split is not shuffled for it."""
    for split in ("train", "val", "test"):
        data = Data(predict_split=split, eval_batch_size=2)
        expected = [record.id for record in data.records(split)]
        module = zoo.SFT(zoo.Backbone("tiny-llama"), max_answer_tokens=1)
        assert ids_predicted(data, module) == expected
    refused(lambda: Data(predict_split="tset"), "data.predict_split: 'tset'", "'test'")
    stored = {"predict_split": "train", "keep_in_memory": False}
    refused(lambda: Data(**stored), "data.keep_in_memory: false stores training examples")
    assert Data(predict_split="train").keep_in_memory is True


def test_reloaded_loaders_go_on_with_the_epochs() -> None:
    """Every epoch has the order it has without reloading."""
    found = {}
    for often in (0, 1):
        module = watched()
        quiet_trainer(max_epochs=3, reload_dataloaders_every_n_epochs=often, **SILENT).fit(
            module, datamodule=Data(batch_size=2)
        )
        found[often] = module.trained
    assert found[1] == found[0]
    assert found[0][:4] != found[0][4:8]


@pytest.mark.parametrize("limit", [3, 0.75])
def test_a_step_that_a_limit_cuts_is_a_mean_too(limit: float) -> None:
    """3 of 4 micro-batches, 2 to a step: the third one's loss is the mean over its own tokens."""
    shares: list[float] = []

    class Shared(zoo.SFT):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            (term,) = self.losses(batch).values()
            shares.append(term.normalizer / float(term.weight))
            return super().training_step(batch, batch_idx)

    module = Shared(zoo.Backbone("tiny-llama"), max_generated=0)
    options = {"limit_train_batches": limit, "accumulate_grad_batches": 2, "max_epochs": 2}
    quiet_trainer(**options, **SILENT).fit(module, datamodule=Data(batch_size=2))
    assert len(shares) == 6
    # Lightning divides a loss by 2 whether 2 come or 1.
    assert shares[2] == shares[5] == pytest.approx(0.5)


def test_a_limited_epoch_ends_for_a_resumed_loader_too() -> None:
    """Where the limit was reached the next epoch starts, also after an older, longer one."""

    def loader() -> StepLoader:
        made = StepLoader(examples, collate, batch_size=2, shuffle=True)
        made.limit_epochs(3)
        return made

    examples = [e for r in Data().records("train") for e in watched().encoder()(r)]
    whole = loader()
    assert len(whole) == 4
    first, second = list(whole), list(whole)
    assert len(first) == len(second) == 3
    assert whole.state_dict() == {"epoch": 2, "position": 0}
    for state in ({"epoch": 1, "position": 0}, {"epoch": 0, "position": 3}):
        resumed = loader()
        resumed.load_state_dict(state)
        assert [b.records for b in resumed] == [b.records for b in second]


def test_later_epochs_are_cut_where_lightning_cuts_them() -> None:
    """With a limit in tokens epochs differ in length; Lightning takes that of the first of all."""
    lengths: list[list[float]] = []

    class Counted(zoo.SFT):
        def on_train_epoch_start(self) -> None:
            lengths.append([])

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            (term,) = self.losses(batch).values()
            lengths[-1].append(float(term.weight) / term.normalizer / 2)
            return super().training_step(batch, batch_idx)

    data = Data(train=40, batch_size=8, max_tokens=260)
    module = Counted(zoo.Backbone("tiny-llama"), max_generated=0)
    quiet_trainer(max_epochs=3, accumulate_grad_batches=2, **SILENT).fit(module, datamodule=data)
    whole = data.train_dataloader()
    whole.epoch = 2
    assert len(whole) == 12
    assert [len(epoch) for epoch in lengths] == [11, 11, 11]
    for epoch in lengths:
        for start in range(0, 11, 2):  # the shares of a step's micro-batches make up one mean
            assert sum(epoch[start : start + 2]) == pytest.approx(1.0)


# -- loaders of the user's own -----------------------------------------------------------------


class Plain(LightningDataModule):
    """Lightning's own kind, with a loader that joins records in a list."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Data().records("train"), batch_size=2, collate_fn=list)


def test_loaders_of_records(refused: Callable[..., str]) -> None:
    """One line that says what to give instead."""
    module = zoo.SFT(zoo.Backbone("tiny-llama"), max_generated=0)
    records = DataLoader(Data().records("train"), batch_size=2)
    remedy = "a subclass of datamodules.ZooDataModule"
    run = quiet_trainer(max_steps=1, **SILENT)
    refused(lambda: run.fit(module, records), "a DataLoader of Triple records", remedy)
    refused(lambda: run.validate(module, records, verbose=False), "DataLoader of Triple", remedy)
    refused(lambda: run.fit(module, Plain()), "a DataLoader of Triple records", remedy)


def test_loaders_of_batches_train() -> None:
    module = Seen(zoo.Backbone("tiny-llama"), max_generated=0)
    encoder = module.encoder()
    examples = [e for record in Data().records("train") for e in encoder(record)]
    for loader in (
        StepLoader(examples, encoder.collate, batch_size=2),
        DataLoader(examples, batch_size=2, collate_fn=collate),  # type: ignore[arg-type]
    ):
        quiet_trainer(max_steps=1, **SILENT).fit(module, loader)
    assert module.learned[0] == module.learned[1]


# -- counts ------------------------------------------------------------------------------------

COUNTS = {
    "ESConv": "batch_size eval_batch_size max_tokens max_train max_val max_test",
    "FalseBelief": "num_train num_val num_test",
    "Cranfield": "num_candidates",
    "BEIR": "num_candidates",
    "MSMARCOTriples": "max_lines",
    "ESConvStrategies": "max_turns",
    "TaskViews": "intents max_texts",
}
METHODS = {
    "SFT": "max_length max_thought_tokens max_answer_tokens",
    "MeTHanol": "max_length max_thought_tokens max_answer_tokens",
    "HdLM": "max_length max_new_tokens",
    "MeGan": "max_length max_condition max_answer_tokens",
    "LaHoRe": "document_tokens max_length",
    "StraQ": "max_length max_new_tokens sync_every",
    "CoCT": "max_concepts max_length max_new_tokens",
}


@pytest.mark.parametrize("count", [0, -1])
def test_counts_are_above_zero(count: int, refused: Callable[..., str]) -> None:
    """One line that names the key, when the data module or the method is made."""
    for section, room, names in (("data", datamodules, COUNTS), ("model", zoo, METHODS)):
        for owner, keys in names.items():
            for key in keys.split():
                said = refused(lambda: getattr(room, owner)(**{key: count}))  # noqa: B023
                assert said == f"{section}.{key}: {count} is not above 0"


def test_counts_that_may_be_zero(refused: Callable[..., str]) -> None:
    assert datamodules.ESConv(num_workers=0).num_workers == 0
    refused(lambda: datamodules.ESConv(num_workers=-1), "data.num_workers: -1 is below 0")
    assert zoo.SFT(max_generated=0).max_generated == 0
    refused(lambda: zoo.SFT(max_generated=-1), "model.max_generated: -1 is below 0")
    refused(lambda: zoo.LaHoRe(negatives=-1), "model.negatives: -1 is below 0")
    refused(lambda: StepLoader([], collate, batch_size=0), "batch_size: 0 is not above 0")


LONG = "word " * 3000
TRIPLE = Triple("Where is it?", "Here.", "It is here.", id="short")
TALKED = replace(TALK, turns=(Turn(SEEKER, LONG), *TALK.turns[1:]))
SAID = replace(TALK.turns[3], text=LONG)
TOLD = Conditioned("Be brief.", "Where?", "Here.", id="short")


class Given(ZooDataModule):
    """Two short records with a long one between them, from every split."""

    record_types = (Triple, Dialogue, Conditioned)

    def __init__(self, short: Any, long: Any, **loader: Any) -> None:
        super().__init__(**loader)
        self.given = [short, replace(long, id="the long one"), replace(short, id="short too")]

    def load(self, split: str) -> list[Any]:
        return self.given


@pytest.mark.parametrize(
    ("method", "short", "long", "options"),
    [
        ("MeTHanol", TRIPLE, replace(TRIPLE, thought=LONG), {}),
        ("SFT", TALK, TALKED, {}),
        ("HdLM", TRIPLE, replace(TRIPLE, answer=LONG), {"layers": [2]}),
        ("LaMsS", TRIPLE, replace(TRIPLE, query=LONG), {}),
        ("ConfidentSFT", TRIPLE, replace(TRIPLE, query=LONG), {}),
        ("MeGan", TOLD, replace(TOLD, response=LONG), {}),
        ("MeGan", TOLD, replace(TOLD, condition=LONG), {}),
        ("StraQ", TALK, TALKED, {}),
        ("StraQResponder", TALK, replace(TALK, turns=(*TALK.turns[:3], SAID)), {}),
        ("FiSMiness", TALK, TALKED, {}),
        ("CoCT", TALK, TALKED, {"reserve": 512}),
        ("ESCBaseline", TALK, TALKED, {"reserve": 512}),
    ],
)
def test_too_long_records(
    method: str, short: Any, long: Any, options: Any, make: Any, refused: Any, caplog: Any
) -> None:
    """One is an error that names the option; dropped, it leaves the others as they are."""
    encoder = make(method, "tiny-llama", max_length=2048, **options).encoder()
    given = Given(short, long)
    refused(lambda: given.examples("train", encoder), "max_", "data.too_long: drop leaves such")
    found = Given(short, long, too_long="drop").examples("train", encoder)
    assert "1 of 3 records of 'train' left out: the long one" in caplog.text
    fitting = Given(short, short)
    fitting.given = [given.given[0], given.given[2]]
    assert found == fitting.examples("train", encoder)


def test_too_long_records_are_counted_and_three_named(make: Any, refused: Any, caplog: Any) -> None:
    encoder = make("SFT", "tiny-llama", max_length=2048).encoder()
    data = Given(TRIPLE, TRIPLE, too_long="drop")
    data.given = [TRIPLE, *[replace(TRIPLE, answer=LONG, id=f"long {i}") for i in range(5)]]
    assert len(data.examples("val", encoder)) == 1
    assert "5 of 6 records of 'val' left out: long 0, long 1, long 2 and 2 more" in caplog.text
    data.given = data.given[1:]
    data._records.clear()
    refused(lambda: data.examples("test", encoder), "no record of 'test' fits into the window")
    refused(lambda: Given(TRIPLE, TRIPLE, too_long="cut"), "data.too_long: 'cut'", "drop")


def test_answers_are_kept_by_id_so_two_records_may_not_share_one(
    refused: Callable[..., str], make: Callable[..., Any]
) -> None:
    """One that comes twice is the same one; no id at all is no name to share."""
    encoder = make("SFT", "tiny-llama").encoder()
    other = Dialogue((Turn(SEEKER, "Not this."), *TALK.turns[1:]), id=TALK.id)

    class Given(Data):
        def load(self, split: str) -> list[Any]:
            return {"train": [TALK, other], "val": [TALK, TALK], "test": [TALK, other]}[split]

    data = Given(batch_size=2)
    assert TALK.id
    assert len(data.examples("train", encoder)) > 0
    assert len(data.examples("val", encoder)) > 0
    refused(
        lambda: data.examples("test", encoder),
        f"Given: two records of the split 'test' that differ have the id {TALK.id!r}",
    )

    class Nameless(Data):
        def load(self, split: str) -> list[Any]:
            return [replace(TALK, id=""), replace(other, id="")]

    assert len(Nameless(batch_size=2).examples("test", encoder)) > 0
