"""A scene as windows and trees: what is learned and scored of it, and its preview."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from methods.mupas.mupas_scenes import SAID, STRATEGIES, Made, batch_of, scene_of

from zoo.errors import InputError
from zoo.methods.mupas.encoder import SPEAKER, UTTERANCE
from zoo.records import Role, Scene, Turn


def test_a_tree_is_previewed_as_its_trunk(mupas: Made) -> None:
    """What was said stands there once; who was silent, asked beside it, does not."""
    encoder = mupas(strategy="speak_or_silence").encoder()
    (tree,) = encoder(scene_of(ended=False))
    shown = "".join(encoder.preview(tree))
    assert shown.count("Not me, I was asleep all night.") == 1
    assert shown.count("Bob") == 1 + 2, "the card and two turns"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_window_weighs_one(mupas: Made, strategy: str) -> None:
    """In the words' loss and in the speaker's, however long: the mean is over windows.

    With S2 too, where the silences that are summed do not weigh 1, but a word each boundary.
    """
    module = mupas(strategy=strategy)
    terms = module.losses(batch_of(module, scene_of(), scene_of(SAID[:2], ended=False)))
    assert {name: term.weight.item() for name, term in terms.items()} == {
        "utterance": pytest.approx(2),
        "speaker": pytest.approx(2),
    }
    assert [term.normalizer for term in terms.values()] == pytest.approx([2, 2])


def played(people: int, turns: int = 400) -> Scene:
    """Return a scene in which everybody but the last speaker is as likely to speak next."""
    draw, names = random.Random(0), [f"P{i}" for i in range(people)]
    said = [Turn("P0", "one two three four")]
    for _ in range(turns - 1):
        others = [name for name in names if name != said[-1].speaker]
        said.append(Turn(draw.choice(others), "one two three four"))
    return Scene(tuple(map(Role, names)), tuple(said), ended=False)


@pytest.mark.parametrize("objective", ["role_mean", "token_mean"])
def test_the_silences_of_a_boundary_weigh_a_first_word(mupas: Made, objective: str) -> None:
    """As the loss weighs them: their sum over boundaries is that of first words, shared alike."""
    module = mupas(strategy="speak_or_silence", objective=objective, max_length=10**6)
    (tree,) = module.encoder()(played(3))
    scale = tree.head_weights()
    silent = [node.weight / scale[SPEAKER] for node in tree.nodes if node.head == SPEAKER]
    first = [node.weight / scale[UTTERANCE] for node in tree.nodes if node.head == UTTERANCE]
    assert len(silent) == 2 * len(first) == 800
    assert sum(silent) == pytest.approx(sum(first), rel=0.01)
    assert silent == pytest.approx([silent[0]] * len(silent))


@pytest.mark.parametrize("people", [3, 5, 8])
def test_nobody_prefers_silence_where_anybody_may_be_next(mupas: Made, people: int) -> None:
    """What minimises the loss behind a turn of another one, where all others are as likely.

    A person speaks in 1 of L - 1 cases and is silent in L - 2, each of which weighs 1 / (L - 1):
    P(SILENCE) is (L - 2) / (2 L - 3), below a half.
    """
    module = mupas(strategy="speak_or_silence", max_length=10**6)
    scene = played(people)
    (tree,) = module.encoder()(scene)
    scale, after = tree.head_weights(), [None, *(turn.speaker for turn in scene.turns)]
    silent, first, boundary = dict.fromkeys(scene.names, 0.0), dict.fromkeys(scene.names, 0.0), 0
    names = {tuple(ids): name for name, ids in module.encoder().headers(scene).items()}
    for node in tree.nodes:
        if node.head not in (SPEAKER, UTTERANCE):
            continue
        name = names[tuple(tree.nodes[node.parent].ids)]
        found = silent if node.head == SPEAKER else first
        if name != after[boundary]:  # who spoke last is silent for certain
            found[name] += node.weight / scale[node.head]
        boundary += node.head == UTTERANCE
    for name in scene.names:
        share = silent[name] / (silent[name] + first[name])
        assert share == pytest.approx((people - 2) / (2 * people - 3), abs=0.06)
        assert share < 0.5


def test_the_protagonist_alone_is_learned(mupas: Made) -> None:
    """Of several with most turns the first; windows in which they are silent teach nothing."""
    size = len(mupas().encoder().prefix(scene_of())) + 110
    encoder = mupas(objective="single_role", max_length=size).encoder()
    said = (*SAID[:2], ("Ann", "Bob, tell me."), ("Cleo de Witt", "The wind did. " * 5))
    cut = encoder.windows(scene_of(said))
    spoken = [{turn.name for turn in window.turns} for window in cut]
    assert not all("Ann" in names for names in spoken)
    assert len(encoder(scene_of(said))) == sum("Ann" in names for names in spoken)
    for window in cut:
        assert encoder.word_weights(window).keys() <= {"Ann"}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("ended", [True, False])
def test_only_the_last_window_of_a_scene_ends_it(mupas: Made, strategy: str, ended: bool) -> None:
    """A cut is no end: nobody learns one there, nor is anybody asked for silence there."""
    size = len(mupas().encoder().prefix(scene_of())) + 60
    encoder = mupas(max_length=size, strategy=strategy).encoder()
    scene, stop = scene_of(ended=ended), encoder.stop_id
    windows, examples = encoder.windows(scene), encoder(scene)
    assert len(windows) > 2
    for window, example in zip(windows, examples, strict=True):
        turns, ends = len(window.turns), ended and window is windows[-1]
        if (
            strategy == "speak_or_silence"
        ):  # two of three are silent beside a turn, three at the end
            silences = [node for node in example.nodes if list(node.ids) == [stop]]
            assert len(silences) == 2 * turns + 3 * ends
            continue
        learned = zip(example.labels, example.weights, strict=True)
        assert sum(weight > 0 and label == stop for label, weight in learned) == turns + ends


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_people_whose_headers_are_the_same_are_refused(mupas: Made, strategy: str) -> None:
    """Nobody could tell who is next among them, in an example or in a scene that goes on."""
    module = mupas(strategy=strategy)
    scene = replace(scene_of(), roles=(*scene_of().roles, Role("Cleo  de\nWitt")))
    for use in (module.encoder(), module.simulate):
        with pytest.raises(InputError, match=r"'Cleo de Witt' and 'Cleo  de\\nWitt'"):
            use(scene)


def test_heads_and_keys_of_a_scored_tree(mupas: Made) -> None:
    """Each boundary asks everybody; S1 asks whether the scene ends there, S2 needs not."""
    for strategy, ends in zip(STRATEGIES, (3, 0), strict=True):
        encoder = mupas(strategy=strategy).encoder()
        (window,) = encoder.windows(scene_of(SAID[:2], ended=False))
        tree, keys = encoder.tree(window, scoring=True)
        kinds = [kind for kind, _, _ in keys]
        assert (kinds.count("speaker"), kinds.count("words"), kinds.count("end")) == (9, 2, ends)
        heads = [node.head for node in tree.nodes if node.head in (UTTERANCE, SPEAKER)]
        assert heads == [UTTERANCE if kind == "words" else SPEAKER for kind in kinds]
