"""Evaluation of methods that align modalities in a latent space: losses, recall, retrieval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo import parallel
from zoo.errors import InputError
from zoo.evaluation import EvaluatedModule
from zoo.losses.cross_entropy import Term
from zoo.methods.m3_jepa.banks import Banks
from zoo.methods.m3_jepa.encoder import Inputs, PairBatch, PairEncoder
from zoo.methods.m3_jepa.metrics import search
from zoo.methods.m3_jepa.plots import gate_usage
from zoo.methods.m3_jepa.predictor import Direction, Predictor, Tokens, join
from zoo.methods.m3_jepa.split_encoder import SplitEncoder
from zoo.module import evaluating
from zoo.records import MediaText

CHUNK = 64  # items encoded at a time


class ComparedVectors(NamedTuple):
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

    def rows(self, keep: Sequence[int]) -> ComparedVectors:
        """Return some of the rows."""
        return ComparedVectors(*(part[list(keep)] for part in self))


class AligningModule(EvaluatedModule):
    """A module with `directions`, `encode(batch, part)`, `forward` and `losses(views)`.

    What is kept of an evaluation are not answers to records but vectors of queries and items, each
    encoded once. `VIEW_R@k` is the recall of a view: `contrastive` compares c_src with c_tgt,
    `regression` the prediction with the target's mean state.
    """

    headline: ClassVar[tuple[str, ...]] = ("R@1",)
    directions: list[Direction]
    configs: Mapping[str, Any]
    predictor: Predictor

    def encode(self, batch: PairBatch, modality: str) -> Tokens:
        """Return the token states of one modality of a batch."""
        raise TypeError(f"{type(self).__name__} does not implement encode(batch, modality)")

    def losses(
        self,
        views: ComparedVectors,
        normalizer: float | None = None,
        groups: Sequence[str] | None = None,
    ) -> dict[str, Term]:
        """Return the loss terms of some pairs."""
        raise TypeError(f"{type(self).__name__} does not implement losses(views)")

    # -- evaluation ----------------------------------------------------------------------------

    def start_evaluation(self) -> None:
        """Empty the banks."""
        super().start_evaluation()
        self.banks = Banks()
        self.usage: dict[str, Tensor] = {}
        self.encoded: dict[str, dict[str, Tensor]] = {}

    def evaluate(self, batch: PairBatch, stage: str) -> dict[str, Any]:
        """Log the losses; keep the vectors of items that were not met yet."""
        parts = sorted({part for direction in self.directions for part in reads(direction)})
        tokens = {part: self._encode_once(batch, part) for part in parts}
        first = {group: i for i, group in reversed(list(enumerate(batch.groups)))}
        kept = sorted(first.values())  # one pair of each group
        keys = {part: item_keys(batch, part) for part in batch.keys}
        filler = math.inf in batch.normalizers.values()  # another process counts these pairs
        if "image" in batch.keys:
            media = [example.record.media for example in batch.examples]
            self.banks.media |= dict(zip(keys["image"], media, strict=True))
        for direction in self.directions:
            views = self(tokens, direction)
            self._count_usage(direction.name)
            normalizer = math.inf if filler else None
            terms = self.losses(views.rows(kept), normalizer, [batch.groups[i] for i in kept])
            self.log_terms(stage, {f"{direction.name}_{k}": t for k, t in terms.items()})
            asked = zip(*(keys[part] for part in asks(direction)), strict=True)
            names = ["\n".join(parts) for parts in asked], keys[direction.target]
            for view, vectors in (
                ("contrastive", (views.source, views.target)),
                ("regression", (views.predicted, views.wanted)),
            ):
                self.banks.add(view, direction, names, batch.groups, vectors)
        return {"samples": []}

    def predict_step(self, batch: PairBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Return the gallery vectors c_tgt of each pair, ready for an index."""
        vectors = {
            part: self.predictor.target(self.encode(batch, part), part)
            for part in batch.inputs
            if part in self.predictor.targets
        }
        unit = {part: F.normalize(rows.float(), dim=1) for part, rows in vectors.items()}
        return [
            {
                "id": example.record.id,
                "text": example.text,
                **{f"{part}_vector": rows[i].tolist() for part, rows in unit.items()},
            }
            for i, example in enumerate(batch.examples)
        ]

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

    def log_scores(self, stage: str) -> None:
        """Gather the banks of all processes and log recall in every direction."""
        self.banks.merge(parallel.gathered(self.banks))
        for name, value in self.banks.recall().items():
            self.log(f"{stage}/{name}", value, prog_bar=name in self.headline)

    def figures(self) -> dict[str, Any]:
        """Return gate usage, a grid of retrieved pictures, and the vectors of all modalities."""
        drawn = {"gate_usage": gate_usage(self.usage)} if self.usage else {}
        return drawn | self.banks.figures()

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
        return F.normalize(torch.cat(chunks).float(), dim=1)

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
        return F.normalize(torch.cat(chunks).float(), dim=1)

    def answer(  # type: ignore[override]
        self, records: Sequence[MediaText], candidates: Sequence[str]
    ) -> list[str]:
        """Return the candidate nearest to each record's media and question."""
        modality = records[0].modality
        scores = self.ask(records, f"{modality}+text2text") @ self.embed(candidates, "text").t()
        return [candidates[i] for i in scores.argmax(1).tolist()]

    def _batches(self, items: Sequence[Any], source: str) -> Iterator[PairBatch]:
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
        self, records: Sequence[MediaText], *, prompt: str | None = None
    ) -> list[dict[str, str]]:
        """Return, for each record, what each direction finds: media, texts, and an answer.

        Args:
            records: What is searched, and asked if there is no prompt.
            prompt: A text to search the records' media with.

        Raises:
            InputError: A prompt, and no direction from text to these media; or no direction shows
                anything of these records.
        """
        modality, ways = records[0].modality, self.predictor.directions
        names = f"text2{modality}", f"{modality}2text", f"{modality}+text2text"
        if prompt and names[0] not in ways:
            raise InputError(
                f"--prompt: searching needs the direction {names[0]}; model.directions has "
                f"{', '.join(ways)}"
            )
        if not any(name in ways for name in names):
            raise InputError(
                f"model.directions: none of {', '.join(ways)} is shown; {', '.join(names)} are"
            )
        texts = [record.texts[0] for record in records]
        media = [record.media for record in records]
        rows = [{"text": text} for text in ([prompt] if prompt else texts)]
        if names[0] in ways:
            asked = self.ask([row["text"] for row in rows], names[0])
            best = search(asked, self.embed(media, modality), 3)[1].tolist()
            for row, nearest in zip(rows, best, strict=True):
                row[f"nearest {modality}"] = ", ".join(media[i].name for i in nearest)
        if prompt:
            return rows
        for row, item in zip(rows, media, strict=True):
            row[modality] = item.name
        if names[1] in ways:
            best = search(self.ask(media, names[1]), self.embed(texts, "text"), 3)[1].tolist()
            for row, nearest in zip(rows, best, strict=True):
                row["nearest texts"] = " | ".join(texts[i] for i in nearest)
        if names[2] in ways:
            candidates = list(dict.fromkeys(texts))
            answers = self.answer(records, candidates)
            for row, record, answer in zip(rows, records, answers, strict=True):
                row |= {"question": record.question, "answer": answer}
        return rows


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
