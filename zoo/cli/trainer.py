"""Lightning's Trainer with the zoo's own verbs (check, generate, ...), and fit from weights."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningDataModule, Trainer

from zoo import export as exporting
from zoo import precision
from zoo.cache import check_new_file
from zoo.cli import chat as chatting
from zoo.cli.argument_errors import check_trained
from zoo.cli.data_summary import HEAD, data_summary
from zoo.cli.listing import describe
from zoo.cli.rankings import ranked, write_rankings
from zoo.cli.replies import shown
from zoo.errors import InputError, check_counts
from zoo.module import ZooModule
from zoo.ranking import index as indexing
from zoo.ranking.faiss_search import check_vectors
from zoo.ranking.query_file import corpus_of, questions
from zoo.records import Dialogue


class ZooTrainer(Trainer):
    """Trainer whose `fit` may start from weights, and that can check, generate and export."""

    def fit(  # type: ignore[override]
        self,
        model: ZooModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        init_from: str | None = None,
    ) -> None:
        """Train.

        Args:
            model: The method.
            train_dataloaders: Loaders, if there is no data module.
            val_dataloaders: Loaders, if there is no data module.
            datamodule: The data.
            ckpt_path: Resume exactly: weights, optimiser, place in the data, random state.
            init_from: Start from the weights of a checkpoint or exported folder, nothing else.
        """
        if ckpt_path and init_from:
            raise InputError("ckpt_path resumes, init_from starts a new one: give one of them")
        check_trained("fit", model)
        model.init_from = init_from
        super().fit(
            model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only=True
        )

    def fit_interval(self, datamodule: Any) -> str:
        """Count `val_check_interval` over epochs where it is longer than one, as for small files.

        A run that ends before validates at its end.

        Returns:
            What was changed, in a line; empty if nothing was.
        """
        wanted = self.val_check_interval
        if self.check_val_every_n_epoch is None or not isinstance(wanted, int):
            return ""
        datamodule.trainer = self
        batches = len(datamodule.train_dataloader())
        if isinstance(self.limit_train_batches, int):
            batches = min(batches, self.limit_train_batches)
        if wanted <= batches:
            return ""
        ends = [batches * self.max_epochs] if (self.max_epochs or -1) > 0 else []  # type: ignore[operator]
        ends += [self.max_steps * self.accumulate_grad_batches] if self.max_steps > 0 else []
        self.check_val_every_n_epoch = None
        self.val_check_interval = min([wanted, *ends])
        return (
            f"validation  every {self.val_check_interval} micro-batches over epochs: an epoch has "
            f"{batches}, trainer.val_check_interval is {wanted}"
        )

    def check(self, model: ZooModule, datamodule: Any) -> None:
        """Build on the meta device; print parameters, memory estimate and a masked sample.

        Args:
            model: The method.
            datamodule: The data.
        """
        model.validate()
        model.check_data(datamodule)
        model.build(meta=True)  # first: an encoder may ask whether there are weights
        if not model.untrained():
            precision.hold_trained_in_float32(model)
        stage, split = ("test", "test") if model.untrained() else ("fit", "train")
        datamodule.trainer = None  # of an earlier run, with another module
        encoder = model.encoder()
        head = stage == "fit" and datamodule.keep_head(encoder, HEAD)
        datamodule.prepare(stage, encoder)
        loader = getattr(datamodule, f"{split}_dataloader")()
        steps = str(self.precision), self.accumulate_grad_batches
        lines = describe(model, loader, len(loader), *steps)
        lines += data_summary(datamodule, split, loader, getattr(encoder, "max_length", None))
        if head:
            lines.append(f"  the first {HEAD:,} records alone: the whole is encoded by `fit`")
        lines += encoder.preview(datamodule.examples(split, encoder)[0])
        print("\n".join(lines))  # noqa: T201

    def generate(
        self,
        model: ZooModule,
        datamodule: Any,
        ckpt_path: str | None = None,
        prompt: str | None = None,
        given: str | None = None,
        condition: str | None = None,
        input: str | None = None,
        output: str | None = None,
        temperature: float | None = None,
        num_records: int = 4,
    ) -> None:
        """Show what the method does: replies to test records, or to a prompt; or translate a file.

        Args:
            model: The method.
            datamodule: The data; its test split is answered if there is no prompt.
            ckpt_path: Checkpoint or exported folder to take the weights from.
            prompt: Answer this instead of the data.
            given: Use this instead of deciding it: a thought (MeTHanol; an empty one skips it), a
                strategy (straQ*, FiSMiness), the first level (HdLM).
            condition: Answer under this condition; an empty string for none.
            input: Subtitle file to translate (ALPO); languages, encoding and blocks are the data's.
            output: File to write; it must not exist.
            temperature: Of speakers and words of a scene (MuPaS); without it the most likely ones.
            num_records: How many test records to answer.
        """
        asked: dict[str, Any] = {"given": given, "condition": condition, "input": input}
        asked |= {"output": output, "temperature": temperature}
        options = {name: value for name, value in asked.items() if value is not None}
        check_counts("", {"num_records": num_records})
        for name in options.keys() - inspect.signature(model.show).parameters.keys():
            raise InputError(f"{name}: {type(model).__name__} takes none; leave it out")
        model.check_data(datamodule)
        self._load(model, ckpt_path)
        for row in shown(model, datamodule, num_records, prompt, options):
            for name, text in row.items():
                print(f"{name + ':':<8} {text}")  # noqa: T201
            print()  # noqa: T201

    def chat(
        self,
        model: ZooModule,
        datamodule: Any,
        ckpt_path: str | None = None,
        situation: str = "",
        problem: str = "",
        emotion: str = "",
        role: str | None = None,
        temperature: float | None = None,
        min_turns: int | None = None,
    ) -> None:
        """Talk to a method: in a terminal, or a line a turn over a pipe.

        Args:
            model: The method.
            datamodule: Some methods take their labels from it, MuPaS the people of a test scene.
            ckpt_path: Checkpoint or exported folder to take the weights from.
            situation: Your situation in a sentence or two, or the setting of a scene.
            problem: Type of your problem, for example `job crisis`.
            emotion: How you feel; methods that recognise emotions by themselves do not read it.
            role: Which of a scene's people you are (MuPaS); None to watch.
            temperature: Of speakers and words of a scene (MuPaS); without it the most likely ones.
            min_turns: A scene does not end before so many turns (MuPaS); without it before four.
        """
        model.check_data(datamodule)
        self._load(model, ckpt_path)
        opening = Dialogue((), emotion, problem, situation, "chat")
        chatting.run(model, opening, datamodule, role, temperature, min_turns)

    def index(
        self,
        model: ZooModule,
        datamodule: Any,
        output: str,
        ckpt_path: str | None = None,
        shard_size: int | None = None,
    ) -> None:
        """Encode a corpus into an index on disk; an unfinished index is finished.

        Args:
            model: The method; it needs `offline(documents)`.
            datamodule: The data; its corpus is indexed.
            output: Folder to write.
            ckpt_path: Checkpoint or exported folder to take the weights from.
            shard_size: Documents per file; None for the method's own number.
        """
        corpus = corpus_of(datamodule)
        self._ready(model, ckpt_path)
        new = indexing.build(model, list(corpus.documents.values()), output, shard_size=shard_size)  # type: ignore[arg-type]
        size = sum(path.stat().st_size for path in Path(output).iterdir()) / 2**20
        model.encoder().report_cut()
        print(f"index       {output}: {len(corpus)} documents, {new} new, {size:.1f} MiB")  # noqa: T201

    def search(
        self,
        model: ZooModule,
        datamodule: Any,
        index: str,
        ckpt_path: str | None = None,
        query: str | None = None,
        queries: str | None = None,
        k: int = 10,
        output: str | None = None,
        engine: Literal["torch", "faiss"] = "torch",
    ) -> None:
        """Print the best documents of an index, or write them as JSON, an object a query.

        Args:
            model: The method that built the index, with the same weights.
            datamodule: The data; its test queries are asked if no others are given.
            index: Folder of the index.
            ckpt_path: Checkpoint or exported folder to take the weights from.
            query: One query.
            queries: JSONL file with an object a line: `id` (or `_id`) and `text`; or a `.tsv` file
                with id and text between tabs.
            k: How many documents to print for each query, the best ones (top k).
            output: File to write; None prints.
            engine: `faiss` searches vectors, if the method has them.
        """
        check_counts("", {"k": k})
        if output is not None:
            check_new_file(Path(output))
        if engine == "faiss":
            check_vectors(model)
        asked, excluded = questions(datamodule, query, queries)
        self._ready(model, ckpt_path)
        opened = indexing.Index(model, index)  # type: ignore[arg-type]
        write_rankings(ranked(opened, asked, excluded, k, engine), output)

    def _ready(self, model: ZooModule, ckpt_path: str | None) -> None:
        """Build a method that encodes documents, with its weights.

        Raises:
            InputError: The method has no `offline`.
        """
        if not hasattr(model, "offline"):
            raise InputError(f"model: {type(model).__name__} encodes no documents, so no index")
        self._load(model, ckpt_path)

    def _load(self, model: ZooModule, ckpt_path: str | None) -> None:
        """Build a method with its weights, in evaluation mode on the trainer's device."""
        model.validate()
        model.init_from = ckpt_path
        model.configure_model()
        if not model.backbone.load_4bit:
            model.to(self.strategy.root_device)
        model.eval()

    def save_predictions(self) -> None:
        """Write what `predict` returned to the run folder, one JSON object a record."""
        rank = f".{self.global_rank}" if self.world_size > 1 else ""
        folder = self.strategy.broadcast(self.default_root_dir)  # each process chose its own
        path = Path(folder) / f"predictions{rank}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        batches = self.predict_loop.predictions
        lines = [json.dumps(item, ensure_ascii=False) for batch in batches for item in batch]
        path.write_text("\n".join(lines) + "\n", "utf-8")
        print(f"predictions {path}")  # noqa: T201

    def export(
        self, model: ZooModule, datamodule: Any, ckpt_path: str, output: str, merge: str = ""
    ) -> None:
        """Write a folder that transformers loads, with the method's own parameters beside it.

        Args:
            model: The method.
            datamodule: Not used; a config names one.
            ckpt_path: Checkpoint to export.
            output: Folder to write; must not exist.
            merge: Of a method with several adapters: the one to merge into a plain model.
        """
        self._load(model, ckpt_path)
        if merge:
            exporting.save_merged(model, output, merge)
            return
        exporting.save(model, output)
        print(exporting.how_to_load(model, output))  # noqa: T201
