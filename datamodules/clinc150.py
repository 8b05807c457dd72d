"""CLINC150: what a user of an assistant wants, in two levels (Larson et al., EMNLP 2019).

Files of the authors' repository: `data_full.json` (or `data_small.json`, `data_imbalanced.json`,
`data_oos_plus.json`; also gzipped), an object from split to `[text, intent]` pairs, and
`domains.json`, an object from domain to its intents: 10 domains with 15 intents each.

Or `hf://clinc/clinc_oos` (see `hub.py`), `text, intent`, with the subsets `small`, `imbalanced` and
`plus` (`oos_plus` here). It has no domains: the authors' `domains.json` is named in `domains`.

The splits are the authors': 15,000 / 3,000 / 4,500 queries, 100 / 20 / 30 for every intent;
`data_small.json` has 7,500 to train. Names are shown with blanks for underscores
(`pay_bill` -> `pay bill`). The order of the classes is that of `domains.json`.

The files hold the queries intent by intent. They are shuffled once for all, so that `max_train`,
`max_val`, `max_test` and a limit on decoded records keep queries of many intents.

The out-of-scope queries (100 / 100 / 1,000) are left out unless `out_of_scope` is set; then they
are an 11th domain `out of scope` with one intent of that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from datamodules import hub
from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, find, shuffled, text_field
from datamodules.json_files import read_json_object
from datamodules.tables import hint
from datamodules.taxonomy import Row, label_paths
from zoo.errors import InputError, nearest
from zoo.records import LabelPath, Record, Taxonomy

OUT_OF_SCOPE = "out of scope"


class CLINC150(ZooDataModule):
    """CLINC150 as `LabelPath` records with a domain and an intent.

    Args:
        path: Folder with `data_full.json` and `domains.json` (each may be gzipped), or
            `hf://clinc/clinc_oos`. None reads a small sample that comes with the package.
        variant: Which of the authors' files: `full`, `small`, `imbalanced` or `oos_plus`.
        domains: The authors' `domains.json`; None looks for it in the folder.
        out_of_scope: Keep the out-of-scope queries as a class of their own.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (LabelPath,)

    def __init__(
        self,
        path: str | None = None,
        *,
        variant: Literal["full", "small", "imbalanced", "oos_plus"] = "full",
        domains: str | None = None,
        out_of_scope: bool = False,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.path, self.variant, self.out_of_scope = path, variant, out_of_scope
        self.domains = domains
        self._taxonomy: Taxonomy | None = None

    def load(self, split: str) -> list[Record]:
        """Read the queries of a split, shuffled over intents."""
        parents = read_domains(self._domains())
        if self.path is not None and hub.is_hub(self.path):
            rows = self._from_hub(self.path, split, parents)
        else:
            path = SAMPLES / "clinc150.json"
            if self.path is not None:
                name = f"data_{self.variant}.json"
                path = find(data_path(self.path), name, f"{name}.gz")
            data = read_json_object(path)
            rows = _rows(data, split, parents, path)
            if self.out_of_scope:
                rows += _rows(data, f"oos_{split}", {"oos": OUT_OF_SCOPE}, path)
        if self._taxonomy is None:
            self._taxonomy = _taxonomy(parents, self.out_of_scope)
        return shuffled([*label_paths(rows, self._taxonomy)], 0)

    def _domains(self) -> Path:
        if self.domains is not None:
            return data_path(self.domains)
        if self.path is None:
            return SAMPLES / "clinc150_domains.json"
        if self.path.startswith(hub.SCHEME):
            raise InputError(
                f"{self.path}: the hub's form has no domains; set data.domains to domains.json of "
                "https://github.com/clinc/oos-eval"
            )
        return find(data_path(self.path), "domains.json", "domains.json.gz")

    def _from_hub(self, path: str, split: str, parents: dict[str, str]) -> list[Row]:
        """Read a split from the hub's form, the out-of-scope queries last."""
        if self.variant == "full":
            raise InputError(
                f"{path}: the hub has no variant 'full'; set data.variant to oos_plus, which has "
                "the same intents' queries, small or imbalanced"
            )
        subset, inside, outside = self.variant.removeprefix("oos_"), [], []
        for where, name, item in hub.rows(path, hub.SPLIT_NAMES[split], ("text", "intent"), subset):
            text, intent = (text_field(item, column, where) for column in ("text", "intent"))
            if intent != "oos":
                inside.append(_row(text, intent, parents, where, name))
            elif self.out_of_scope:
                outside.append(_row(text, intent, {"oos": OUT_OF_SCOPE}, where, name))
        return inside + outside


def in_file_order(queries: Iterable[LabelPath]) -> list[LabelPath]:
    """Return queries of one of the file's lists, without others, as the list has them."""
    return sorted(queries, key=lambda query: int(re.findall(r"\d+", query.id)[-1]))


def read_domains(path: Path) -> dict[str, str]:
    """Return the domain of every intent, in the order of the file.

    Raises:
        InputError: A domain is not a list of names, or an intent is in two domains.
    """
    parents: dict[str, str] = {}
    for domain, intents in read_json_object(path).items():
        if not isinstance(intents, list) or not all(isinstance(name, str) for name in intents):
            raise InputError(f"{path}: {domain!r} must be a list of strings")
        for name in intents:
            if name in parents:
                raise InputError(f"{path}: intent {name!r} is in {parents[name]} and in {domain}")
            parents[name] = domain
    return parents


def readable(name: str) -> str:
    """Return a name with blanks for underscores."""
    return name.replace("_", " ").strip()


def _rows(data: dict[str, Any], split: str, parents: dict[str, str], path: Path) -> list[Row]:
    """Return the queries of one of the file's lists."""
    if split not in data:
        raise InputError(f"{path}: field {split!r} is missing; {nearest(split, data)}")
    if not isinstance(data[split], list):
        raise InputError(f"{path}: field {split!r} must be a list")
    rows = []
    for i, pair in enumerate(data[split]):
        where = f"{path}: {split}[{i}]"
        if not isinstance(pair, list) or [type(part) for part in pair] != [str, str]:
            raise InputError(f"{where}: expected a pair of strings, text and intent")
        text, intent = pair
        if not text.strip():
            raise InputError(f"{where}: the text is empty")
        rows.append(_row(text.strip(), intent, parents, where, f"{path.name}:{split}[{i}]"))
    return rows


def _row(text: str, intent: str, parents: dict[str, str], where: str, name: str) -> Row:
    if intent not in parents:
        raise InputError(f"{where}: unknown intent {intent!r}; {hint(intent, parents)}")
    shown = OUT_OF_SCOPE if intent == "oos" else readable(intent)
    return Row(text, (readable(parents[intent]), shown), where, name)


def _taxonomy(parents: dict[str, str], out_of_scope: bool) -> Taxonomy:
    children: dict[tuple[str, ...], tuple[str, ...]] = {(): ()}
    for intent, domain in parents.items():
        name = readable(domain)
        if (name,) not in children:
            children[()] += (name,)
        children[(name,)] = (*children.get((name,), ()), readable(intent))
    if out_of_scope:
        children[()] += (OUT_OF_SCOPE,)
        children[(OUT_OF_SCOPE,)] = (OUT_OF_SCOPE,)
    return Taxonomy(children)
