"""Evaluation of methods that align modalities in a latent space: losses, recall, retrieval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.distributed
from torch import Tensor

from zoo.errors import InputError
from zoo.losses.cross_entropy import Term
from zoo.methods.m3_jepa.encoder import Inputs, PairBatch, PairEncoder, PairExample
from zoo.methods.m3_jepa.metrics import Bank, recall, search
from zoo.methods.m3_jepa.plots import gate_usage, picture_grid
from zoo.methods.m3_jepa.predictor import Direction, Predictor, Tokens, join
from zoo.methods.m3_jepa.split_encoder import SplitEncoder
from zoo.module import ZooModule, evaluating
from zoo.records import Media, MediaText

NUM_SHOWN = 6  # queries in a picture grid
CHUNK = 64  # items encoded at a time


class Views(NamedTuple):
    """The two pairs of vectors that are compared, a row per pair.

    Attributes:
        predicted: Prediction of the target's state, `(B, D)`.
        wanted: The target's mean state, `(B, D)`.
        source: Contrastive vector of the source, `(B, H)`.
        target: Contrastive vector of the target, `(B, H)`.
    """

    predicted: Tensor
    wanted: Tensor
    source: Tensor
    target: Tensor

    def rows(self, keep: Sequence[int]) -> Views:
        """Return some of the rows."""
        return Views(*(part[list(keep)] for part in self))


class AligningModule(ZooModule):
    """A module with `directions`, `encode(batch, part)`, `forward` to `Views`, and `losses(views)`.

    Every item is encoded once. `VIEW_R@k` is the recall of a view: `contrastive` compares c_src
    with c_tgt, `regression` the prediction with the target's mean state.
    """

    directions: list[Direction]
    configs: Mapping[str, Any]
    predictor: Predictor

    def encode(self, batch: PairBatch, modality: str) -> Tokens:
        """Return the token states of one modality of a batch."""
        raise TypeError(f"{type(self).__name__} does not implement encode(batch, modality)")

    def losses(self, views: Views, normalizer: float | None = None) -> dict[str, Term]:
        """Return the loss terms of some pairs."""
        raise TypeError(f"{type(self).__name__} does not implement losses(views)")

    def on_validation_epoch_start(self) -> None:
        """Empty the banks."""
        self.queries: dict[tuple[str, str], Bank] = {}
        self.gallery: dict[tuple[str, str], Bank] = {}
        self.usage: dict[str, Tensor] = {}
        self.shown: dict[str, Media] = {}
        self.encoded: dict[str, dict[str, Tensor]] = {}

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Log the losses; keep the vectors of items that were not seen yet."""
        self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log recall in every direction."""
        self._log_recall("val")

    def on_test_epoch_start(self) -> None:
        """Empty the banks."""
        self.on_validation_epoch_start()

    def test_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Do what `validation_step` does, on the test split."""
        self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log recall in every direction."""
        self._log_recall("test")

    def predict_step(self, batch: PairBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Return the gallery vectors c_tgt of each pair, ready for an index."""
        vectors = {
            part: self.predictor.target(self.encode(batch, part), part)
            for part in batch.inputs
            if part in self.predictor.targets
        }
        normalize = torch.nn.functional.normalize
        unit = {part: normalize(v.float(), dim=1) for part, v in vectors.items()}
        return [
            {
                "id": example.record.id,
                "text": example.text,
                **{f"{part}_vector": rows[i].tolist() for part, rows in unit.items()},
            }
            for i, example in enumerate(batch.examples)
        ]

    def _evaluate(self, stage: str, batch: PairBatch) -> None:
        parts = sorted({part for direction in self.directions for part in reads(direction)})
        tokens = {part: self._encode_once(batch, part) for part in parts}
        first = list({group: i for i, group in reversed(list(enumerate(batch.groups)))}.values())
        keys = {part: item_keys(batch, part) for part in batch.keys}
        filler = math.inf in batch.normalizers.values()  # another process counts these pairs
        for modality in batch.keys:
            if modality == "image":
                media = [example.record.media for example in batch.examples]
                self.shown |= dict(zip(keys[modality], media, strict=True))
        for direction in self.directions:
            views = self(tokens, direction)
            self._count_usage(direction.name)
            terms = self.losses(views.rows(sorted(first)), math.inf if filler else None)
            self.log_terms(stage, {f"{direction.name}_{k}": t for k, t in terms.items()})
            parts_asked = (keys[part] for part in asks(direction))
            asked = ["\n".join(row) for row in zip(*parts_asked, strict=True)]
            found = {"contrastive": (views.source, views.target)}
            found["regression"] = (views.predicted, views.wanted)
            for view, (query, item) in found.items():
                queries = self.queries.setdefault((view, direction.name), Bank())
                keep(queries, asked, batch.groups, query)
                gallery = self.gallery.setdefault((view, direction.target), Bank())
                keep(gallery, keys[direction.target], batch.groups, item)

    def _encode_once(self, batch: PairBatch, part: str) -> Tokens:
        """Return what `encode` does, each item encoded once in this batch and the one before.

        The captions of one picture follow each other, so it is encoded once in all.
        """
        keys = batch.keys[part]
        towers = cast("Mapping[str, SplitEncoder]", self.towers)
        if towers["text" if part == "question" else part].sharded:
            return self.encode(batch, part)  # every process has to run the blocks
        kept = self.encoded.get(part, {})
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        new = sorted(i for key, i in first.items() if key not in kept)
        if new:
            inputs = {name: value[new] for name, value in batch.inputs[part].items()}
            fresh = self.encode(PairBatch({part: inputs}, {part: [keys[i] for i in new]}), part)
            kept = kept | {keys[i]: fresh.item(n) for n, i in enumerate(new)}
        states = [kept[key] for key in keys]
        self.encoded[part] = dict(zip(keys, states, strict=True))
        return join(states)

    def _count_usage(self, direction: str) -> None:
        for branch, routing in enumerate(self.predictor.routings):
            name = f"{direction}, branch {branch + 1}"
            counts = torch.bincount(
                routing.chosen_TK.flatten(), minlength=self.predictor.gate.out_features
            )
            self.usage[name] = self.usage.get(name, 0) + counts.cpu()

    def _log_recall(self, stage: str) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            everyone: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(everyone, (self.queries, self.gallery, self.shown))
            for *banks, shown in everyone:
                self.shown |= shown
                for mine, others in zip((self.queries, self.gallery), banks, strict=True):
                    for name, bank in others.items():
                        mine[name].merge(bank)
        first = []
        for (view, name), queries in self.queries.items():
            target = name.rpartition("2")[2]
            found = recall(queries, self.gallery[view, target])
            first += [found["R@1"]] if view == "contrastive" else []
            for metric, value in found.items():
                title = f"{metric}_{name}" if view == "contrastive" else f"{view}_{metric}_{name}"
                self.log(f"{stage}/{title}", value)
        self.log(f"{stage}/R@1", sum(first) / len(first), prog_bar=True)

    def figures(self) -> dict[str, Any]:
        """Return gate usage, a grid of retrieved pictures, and the vectors of both modalities."""
        drawn: dict[str, Any] = {}
        if self.usage:
            drawn["gate_usage"] = gate_usage(self.usage)
        name = "text2image"
        if ("contrastive", name) in self.queries:
            queries = self.queries["contrastive", name]
            gallery = self.gallery["contrastive", "image"]
            shown = range(0, len(queries), max(1, len(queries) // NUM_SHOWN))[:NUM_SHOWN]
            best = search(queries.matrix()[list(shown)], gallery.matrix(), 5)[1].tolist()
            items, asked = list(gallery.keys), list(queries.keys)
            rows = []
            for q, row in zip(shown, best, strict=True):
                right = [gallery.groups[g] == queries.groups[q] for g in row]
                found = [self.shown[items[g]] for g in row]
                text = asked[q].rpartition("\n")[2]
                rows.append((text, list(zip(found, right, strict=True))))
            drawn["retrieval"] = picture_grid(rows)
        for (view, modality), bank in self.gallery.items():
            if view == "contrastive":
                drawn[f"vectors/{modality}"] = (bank.matrix(), list(bank.keys))
        return drawn

    # -- retrieval -----------------------------------------------------------------------------

    @evaluating
    def embed(self, items: Sequence[Any], modality: str) -> Tensor:
        """Return gallery vectors c_tgt of length one, `(G, H)`: each item is encoded once.

        Args:
            items: Texts, or `Media`.
            modality: What they are.
        """
        chunks = []
        for batch in self._batches(items, modality):
            tokens = self.encode(batch, modality)
            chunks.append(self.predictor.target(tokens, modality))
        return torch.nn.functional.normalize(torch.cat(chunks).float(), dim=1)

    @evaluating
    def ask(self, items: Sequence[Any], direction: str) -> Tensor:
        """Return query vectors c_src of length one, `(Q, H)`.

        Args:
            items: Texts or `Media`; `MediaText` with a question for `image+text2text`.
            direction: Its name.
        """
        way = self.predictor.directions[direction]
        source = "both" if len(way.sources) > 1 else way.sources[0]
        chunks = []
        for batch in self._batches(items, source):
            tokens = {part: self.encode(batch, part) for part in asks(way)}
            chunks.append(self.predictor(sources(tokens, way), direction)[1])
        return torch.nn.functional.normalize(torch.cat(chunks).float(), dim=1)

    def classify(self, media: Sequence[Media], names: Sequence[str]) -> list[str]:
        """Return the class name nearest to each picture or sound."""
        modality = next(m for m in self.configs if m != "text")
        scores = self.ask(media, f"{modality}2text") @ self.embed(names, "text").t()
        return [names[i] for i in scores.argmax(1).tolist()]

    def answer(self, records: Sequence[MediaText], candidates: Sequence[str]) -> list[str]:
        """Return the candidate nearest to each record's media and question."""
        modality = records[0].modality
        scores = self.ask(records, f"{modality}+text2text") @ self.embed(candidates, "text").t()
        return [candidates[i] for i in scores.argmax(1).tolist()]

    def _batches(self, items: Sequence[Any], source: str) -> Any:
        encoder: PairEncoder = self.encoder()
        for start in range(0, len(items), CHUNK):
            part = items[start : start + CHUNK]
            inputs: dict[str, Inputs] = {}
            keys: dict[str, list[str]] = {}
            media = part
            if source == "text":
                inputs["text"], keys["text"] = encoder.text_inputs(part), list(part)
            else:
                modality = source
                if source == "both":
                    modality, media = part[0].modality, [record.media for record in part]
                    keys["question"] = [record.question for record in part]
                    inputs["question"] = encoder.text_inputs(keys["question"])
                inputs[modality] = encoder.media_inputs(modality, media)
                keys[modality] = [item.key for item in media]
            yield PairBatch(inputs, keys).to(self.device)

    def show(
        self, records: Sequence[Any], *, prompt: str | None = None, thought: str | None = None
    ) -> list[dict[str, str]]:
        """Return, for each record, the nearest texts and its text's nearest media.

        Args:
            records: What is searched, and asked if there is no prompt.
            prompt: A text to search the records' media with.
            thought: Nothing here takes one.

        Raises:
            InputError: A thought is given.
        """
        if thought is not None:
            raise InputError(f"thought: {type(self).__name__} has no thoughts")
        modality = records[0].modality
        texts = [record.texts[0] for record in records]
        media = [record.media for record in records]
        gallery = self.embed(media, modality)
        asked = [prompt] if prompt else texts
        best = search(self.ask(asked, f"text2{modality}"), gallery, 3)[1].tolist()
        rows = [
            {"text": text, f"nearest {modality}": ", ".join(media[i].name for i in row)}
            for text, row in zip(asked, best, strict=True)
        ]
        if not prompt:
            back = search(self.ask(media, f"{modality}2text"), self.embed(texts, "text"), 3)[1]
            for row, item, found in zip(rows, media, back.tolist(), strict=True):
                row |= {modality: item.name, "nearest texts": " | ".join(texts[i] for i in found)}
        return rows


def keep(bank: Bank, keys: Sequence[str], groups: Sequence[str], vectors: Tensor) -> None:
    """Add the items that a bank does not have yet."""
    new = bank.new(keys)
    if new:
        bank.add([keys[i] for i in new], [groups[i] for i in new], vectors[new])


def item_keys(batch: PairBatch, part: str) -> list[str]:
    """Return a name for each item of a batch; a text is an item of its group."""
    if part in ("text", "question"):
        return [f"{g}\n{text}" for g, text in zip(batch.groups, batch.keys[part], strict=True)]
    return batch.keys[part]


def reads(direction: Direction) -> set[str]:
    """Return the parts of a batch that a direction needs."""
    return {direction.target, *asks(direction)}


def asks(direction: Direction) -> list[str]:
    """Return the parts of a batch that a direction starts from; text to text is a question."""
    asked = "question" if direction.target == "text" else "text"
    return [asked if m == "text" else m for m in direction.sources]


def sources(tokens: Mapping[str, Tokens], direction: Direction) -> dict[str, Tokens]:
    """Return the source tokens by modality."""
    return {m: tokens[p] for m, p in zip(direction.sources, asks(direction), strict=True)}


__all__ = ["AligningModule", "PairExample", "Views", "asks", "reads", "sources"]
