"""M3-JEPA's retrieval: every item is encoded once, and scored as by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from methods.m3_jepa.m3_jepa_reference import Reference, smooth_l1, symmetric_info_nce
from methods.m3_jepa.m3_jepa_samples import PAIRS_OF_TOWERS, T2I, WAYS, batch_of, make, pairs
from training import quiet_trainer

from zoo.records import MediaText


class Count:
    """Counts the items that go through each encoder, by what they are."""

    def __init__(self, module: Any) -> None:
        self.seen: dict[str, Counter[bytes]] = {m: Counter() for m in module.towers}
        self.predicted = 0
        for modality, tower in module.towers.items():
            tower.register_forward_pre_hook(self.note(modality))
        module.predictor.register_forward_pre_hook(self.predict)

    def note(self, modality: str) -> Any:
        def hook(_: Any, args: tuple[Any, ...]) -> None:
            given = args[0]
            rows = given["pixel_values"] if "pixel_values" in given else given["input_ids"]
            masks = given.get("attention_mask", [None] * len(rows))
            for row, mask in zip(rows, masks, strict=True):
                item = row if mask is None else row[mask.bool()]
                self.seen[modality][item.numpy().tobytes()] += 1

        return hook

    def predict(self, _: Any, args: tuple[Any, ...]) -> None:
        self.predicted += next(iter(args[0].values())).num_items


@pytest.mark.fidelity("m3_jepa", 7)
def test_gallery_and_queries_are_encoded_once_each(towers: tuple[str, str]) -> None:
    """G + Q encoder items and Q predictor items for G x Q scores, which are cosines of c."""
    module = make(towers, spread=5.0)
    records = pairs(9)
    media, texts = [r.media for r in records], [r.texts[0] for r in records[:4]]
    count = Count(module)
    gallery = module.embed(media, "image")
    assert count.predicted == 0
    for number in (1, 2):  # a gallery serves many rounds of queries
        queries = module.ask(texts, T2I)
        scores = queries @ gallery.T
        assert sum(count.seen["image"].values()) == 9
        assert set(count.seen["image"].values()) == {1}
        assert set(count.seen["text"].values()) == {number}
        assert sum(count.seen["text"].values()) == count.predicted == 4 * number
    with torch.no_grad():
        expected = Reference(module).vectors(batch_of(module, records), T2I, 4, masked=True)
    c_src, c_tgt = (
        expected[n] / expected[n].norm(dim=1, keepdim=True) for n in ("source", "target")
    )
    torch.testing.assert_close(scores, (c_src @ c_tgt.T)[:4], rtol=1e-4, atol=1e-5)


def evaluated(captions: int) -> tuple[Any, list[Any], Count, Mapping[str, float]]:
    """Validate ten pictures in batches of three texts: module, examples, passes, what is logged."""
    module = make(PAIRS_OF_TOWERS[0], spread=5.0)
    records = [
        MediaText(r.media, tuple(f"{r.texts[0]} {i}" for i in range(captions)), id=r.id)
        for r in pairs(10)
    ]
    encoder = module.encoder()
    examples = [example for record in records for example in encoder(record)]
    batches = [encoder.collate(examples[i : i + 3], {0: 3.0}) for i in range(0, len(examples), 3)]
    count = Count(module)
    loader = torch.utils.data.DataLoader(batches, batch_size=None)
    (found,) = quiet_trainer().validate(module, loader, verbose=False)
    return module, examples, count, found


@pytest.mark.parametrize("captions", [1, 2])
def test_an_evaluations_losses_are_of_one_text_per_picture(captions: int) -> None:
    """A second text of a picture in its batch is no negative; a picture alone has none at all."""
    module, examples, _, found = evaluated(captions)
    for way in WAYS:
        regression, contrastive = [], []
        for start in range(0, len(examples), 3):
            part = examples[start : start + 3]
            rows = [i for i, e in enumerate(part) if not i or e.record.id != part[i - 1].record.id]
            batch = module.encoder().collate([part[i] for i in rows], {})
            with torch.no_grad():
                found_by_hand = Reference(module).vectors(batch, way, 4, masked=True)
            p, t, source, target = found_by_hand.values()
            regression += [smooth_l1(p, t).item()] * len(rows)
            cost = symmetric_info_nce(source, target, module.temperature).item()
            contrastive += [cost] * len(rows) if len(rows) > 1 else []
        assert len(regression) > len(contrastive), "no picture is alone in its batch"
        for term, costs in (("regression", regression), ("contrastive", contrastive)):
            expected = pytest.approx(sum(costs) / len(costs), rel=1e-4)
            assert found[f"val/{way}_{term}_loss"] == expected, (way, term)


@pytest.mark.fidelity("m3_jepa", 7)
@pytest.mark.parametrize("captions", [1, 2])
def test_an_evaluation_encodes_every_item_once(captions: int) -> None:
    """Validation over both directions: one pass per picture and per text, recall as by hand."""
    module, examples, count, found = evaluated(captions)
    # By hand, one batch of everything; a query is right if an item of its record is among the k.
    everything = module.encoder().collate(examples, {0: float(len(examples))})
    owner = torch.arange(10).repeat_interleave(captions)
    with torch.no_grad():
        for way in WAYS:
            vectors = Reference(module).vectors(everything, way, 4, masked=True)
            for view, (a, b) in {
                "": ("source", "target"),
                "regression_": ("predicted", "wanted"),
            }.items():
                rows = {"image": range(0, len(owner), captions), "text": range(len(owner))}
                source, target = (list(rows[m]) for m in way.split("2"))
                q, g = vectors[a][source], vectors[b][target]
                scores = torch.nn.functional.cosine_similarity(q[:, None], g[None], dim=2)
                for k in (1, 5):
                    best = owner[target][scores.topk(k).indices]
                    share = (best == owner[source][:, None]).any(1).float().mean().item()
                    assert found[f"val/{view}R@{k}_{way}"] == pytest.approx(share), (view, way, k)
    assert sum(count.seen["text"].values()) == len(examples)
    assert set(count.seen["image"].values()) == {1}, "a picture is encoded again for each caption"
    assert len(count.seen["image"]) == 10
