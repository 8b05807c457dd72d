"""Banks and recall: several captions of a picture, large galleries, chunks."""

from __future__ import annotations

import pytest
import torch

import zoo.methods.m3_jepa.metrics as retrieval
from zoo.methods.m3_jepa.banks import Banks
from zoo.methods.m3_jepa.metrics import Bank, GroupRecall, recall, search
from zoo.methods.m3_jepa.predictor import Direction
from zoo.records import Media


def bank(groups: list[str], vectors: list[list[float]], prefix: str = "item") -> Bank:
    made = Bank()
    made.add([f"{prefix} {i}" for i in range(len(groups))], groups, torch.tensor(vectors))
    return made


def at(degrees: float) -> list[float]:
    angle = torch.deg2rad(torch.tensor(degrees))
    return [float(angle.cos()), float(angle.sin())]


def test_recall_with_several_captions_per_picture() -> None:
    """A picture is found with its nearest caption; a caption has one picture."""
    pictures = bank(["a", "b", "c"], [at(0), at(90), at(180)])
    captions = bank(["a", "a", "b", "b", "c"], [at(10), at(100), at(80), at(20), at(95)])
    # Pictures: a finds its 10; b finds c's 95, then a's 100 and its own 80; c finds 100, then 95.
    found = recall(pictures, captions, (1, 3, 5))
    assert found == pytest.approx({"R@1": 1 / 3, "R@3": 1.0, "R@5": 1.0})
    # Captions: 10 -> a right, 100 -> b wrong, 80 -> b right, 20 -> a wrong, 95 -> b wrong.
    assert recall(captions, pictures, (1,)) == pytest.approx({"R@1": 2 / 5})
    # Second: 100 -> c wrong, 20 -> b right, 95 -> c right.
    assert recall(captions, pictures, (1, 2))["R@2"] == pytest.approx(4 / 5)


def test_a_query_whose_group_is_not_there_is_not_found() -> None:
    assert recall(bank(["z"], [at(0)]), bank(["a", "b"], [at(0), at(1)])) == {
        "R@1": 0.0,
        "R@5": 0.0,
        "R@10": 0.0,
    }


def test_fewer_items_than_k() -> None:
    gallery = bank(["a", "b"], [at(0), at(90)])
    assert recall(gallery, gallery, (1, 10)) == {"R@1": 1.0, "R@10": 1.0}
    scores, found = search(gallery.matrix(), gallery.matrix(), 10)
    assert scores.shape == found.shape == (2, 2)


def test_a_large_gallery_equals_brute_force() -> None:
    gallery = torch.nn.functional.normalize(torch.randn(100_000, 64), dim=1)
    queries = gallery[:7] + 0.1 * torch.randn(7, 64)
    scores, found = search(queries, gallery, 10)
    everything = (queries.double() @ gallery.double().t()).sort(1, descending=True)
    assert torch.equal(found, everything.indices[:, :10])
    torch.testing.assert_close(scores.double(), everything.values[:, :10], atol=1e-5, rtol=1e-5)
    assert torch.equal(found[:, 0], torch.arange(7))


@pytest.mark.parametrize("limit", [1, 30, 100, 10_000])
def test_chunks_change_nothing_and_bound_the_scores(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, gallery = torch.randn(13, 5), torch.randn(30, 5)
    expected = search(queries, gallery, 4)
    monkeypatch.setattr(retrieval, "CHUNK", limit)
    sizes = []
    topk = torch.Tensor.topk
    monkeypatch.setattr(
        torch.Tensor, "topk", lambda self, k: sizes.append(self.numel()) or topk(self, k)
    )
    found = search(queries, gallery, 4)
    assert max(sizes) <= max(limit, 30)  # at least one query at a time
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_usual_evaluation_is_one_matrix_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are for what does not fit: 5,000 queries of 1,000 items take 20 MB of scores."""
    calls = []
    topk = torch.Tensor.topk
    monkeypatch.setattr(torch.Tensor, "topk", lambda self, k: calls.append(k) or topk(self, k))
    search(torch.ones(5000, 1), torch.ones(1000, 1), 10)
    assert calls == [10]


def test_a_bank_takes_each_item_once() -> None:
    some = Bank()
    new = some.new(["a", "b", "a"])
    assert new == [0, 1]
    some.add(["a", "b"], ["1", "2"], torch.tensor([[3.0, 0.0], [0.0, 2.0]]))
    assert some.new(["b", "c", "c"]) == [1]
    assert len(some) == 2
    torch.testing.assert_close(some.matrix(), torch.eye(2))  # lengths are one


def test_merging_the_banks_of_two_processes() -> None:
    """Items that both have stay once; groups follow their items."""
    one = bank(["1", "2"], [[1, 0], [0, 1]])
    other = bank(["1", "2", "3"], [[1, 0], [0, 1], [1, 1]])
    one.merge(other)
    assert list(one.keys) == ["item 0", "item 1", "item 2"]
    assert one.groups == ["1", "2", "3"]
    torch.testing.assert_close(one.matrix()[2], torch.tensor([0.5, 0.5]).sqrt())
    one.merge(other)
    assert len(one.matrix()) == len(one) == 3


def test_the_mean_recall_is_that_of_the_contrastive_view() -> None:
    banks, rows = Banks(), torch.eye(2)
    for view, direction, items in (
        ("contrastive", Direction(("image",), "text"), rows),  # both found
        ("contrastive", Direction(("text",), "image"), rows[:1].expand(2, 2)),  # the first one
        ("regression", Direction(("image",), "text"), rows.flip(0)),  # none
        ("regression", Direction(("text",), "image"), rows.flip(0)),
    ):
        banks.add(view, direction, (["q", "r"], ["i", "j"]), ["a", "b"], (rows, items))
    found = banks.recall()
    assert (found["R@1_image2text"], found["R@1_text2image"]) == (1.0, 0.5)
    assert found["regression_R@1_image2text"] == found["regression_R@1_text2image"] == 0
    assert found["R@1"] == 0.75


def drawn_banks(*, media: bool) -> Banks:
    """Two pictures and four texts, two of each picture; the third text is nearer to the wrong."""
    banks = Banks()
    pictures, texts = torch.eye(2), torch.tensor([[1.0, 0.1], [1.0, 0.2], [0.9, 0.5], [0.0, 1.0]])
    to_image, keys = Direction(("text",), "image"), [f"g\ntext {i}" for i in range(4)]
    for view in ("contrastive", "regression"):
        for i in range(4):
            names, rows = ([keys[i]], [f"p{i // 2}"]), (texts[i : i + 1], pictures[[i // 2]])
            banks.add(view, to_image, names, [f"g{i // 2}"], rows)
    if media:
        banks.media = {name: Media(name) for name in ("p0", "p1")}
    return banks


def test_the_grid_shows_the_nearest_pictures_and_which_are_right() -> None:
    rows = drawn_banks(media=True)._retrieved()
    assert [text for text, _ in rows] == [f"text {i}" for i in range(4)]
    found = [[(media.name, right) for media, right in pictures] for _, pictures in rows]
    assert found[0] == found[1] == [("p0", True), ("p1", False)]
    assert found[2] == [("p0", False), ("p1", True)]
    assert found[3] == [("p1", True), ("p0", False)]


def test_a_grid_shows_a_few_of_all_queries() -> None:
    """At most six, from the first to near the last one; five pictures of each."""
    banks, vectors = Banks(), torch.randn(40, 8)
    keys = [str(i) for i in range(40)]
    banks.add("contrastive", Direction(("text",), "image"), (keys, keys), keys, (vectors, vectors))
    banks.media = {key: Media(key) for key in keys}
    rows = banks._retrieved()
    assert [int(text) for text, _ in rows] == [0, 6, 12, 18, 24, 30]
    for text, pictures in rows:
        assert [right for _, right in pictures] == [True, False, False, False, False]
        assert pictures[0][0].name == text


def test_vectors_are_those_of_the_contrastive_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those are compared with a query; pictures are drawn where a text asks for them."""
    import zoo.methods.m3_jepa.banks as module

    monkeypatch.setattr(module, "picture_grid", lambda rows: len(rows))
    drawn = drawn_banks(media=True).figures()
    assert list(drawn) == ["retrieval", "vectors/image"]
    assert drawn["retrieval"] == 4
    rows, names = drawn["vectors/image"]
    torch.testing.assert_close(rows, torch.eye(2))
    assert names == ["p0", "p1"]
    sounds = Banks()
    sounds.add("regression", Direction(("text",), "audio"), (["q"], ["i"]), ["g"], (rows, rows))
    assert sounds.figures() == {}


def test_the_metric_is_recall_of_the_banks() -> None:
    """Queries and items in any order, some of them twice, and of any length."""
    torch.manual_seed(0)
    vectors, groups = torch.randn(40, 8), [str(i % 7) for i in range(40)]
    asked = [i % 3 == 0 for i in range(40)]
    queries, items = [i for i in range(40) if asked[i]], [i for i in range(40) if not asked[i]]
    expected = recall(
        bank([groups[i] for i in queries], vectors[queries].tolist()),
        bank([groups[i] for i in items], vectors[items].tolist()),
    )
    score = GroupRecall()
    for part in (range(25), range(20, 40)):
        score.update(
            3 * vectors[list(part)],
            [groups[i] for i in part],
            [asked[i] for i in part],
            ids=[str(i) for i in part],
        )
    assert score.compute() == pytest.approx(expected)
    assert 0 < expected["R@1"] < expected["R@10"]
    score.reset()
    assert score(vectors[:0], [], []) == {}
