"""Scenes of several people: MELD, EmoryNLP, JSON scripts, repairs and bad files."""

import itertools
import json
import logging
import random

import pytest

from datamodules import MELD, EmoryNLP, Scenes
from datamodules.files import SAMPLES
from datamodules.scene_data import OTHERS, few_roles, merged, scene_of
from datamodules.scene_names import renamed
from zoo.methods.mupas.speaker_rules import RULES, accuracy
from zoo.records import Turn

HEAD = "Utterance,Speaker,Emotion,Scene_ID,Season,Episode"


@pytest.mark.parametrize("kind", [MELD, EmoryNLP, Scenes])
def test_samples(kind):
    """Each has scenes of at least two people in which neighbouring turns differ in speaker."""
    scenes = kind().records("test")
    assert scenes
    for scene in scenes:
        said = [turn.speaker for turn in scene.turns]
        assert all(a != b for a, b in zip(said, said[1:], strict=False))
        assert 2 <= len(set(said)) <= len(scene.roles)
        assert set(said) <= set(scene.names)


@pytest.mark.parametrize(
    ("kind", "folder", "everybody", "three"),
    [
        (MELD, "meld", (1765, 0.634, 0.556, 0.596, 0.700), (1083, 0.403, 0.394, 0.460, 0.511)),
        (
            EmoryNLP,
            "emorynlp",
            (825, 0.535, 0.575, 0.601, 0.656),
            (593, 0.353, 0.454, 0.491, 0.521),
        ),
    ],
)
def test_rules_on_real_data(kind, folder, everybody, three, zoo_data):
    """The trivial rules name as many next speakers as were counted elsewhere."""
    scenes = kind(str(zoo_data / folder), max_roles=26).records("test")
    for wanted, at_least in ((everybody, 2), (three, 3)):
        for share, rule in zip(wanted[1:], RULES.values(), strict=True):
            found, turns = accuracy(scenes, rule, at_least=at_least)
            assert turns == wanted[0]
            assert found == pytest.approx(share, abs=6e-4)


def test_people_are_joined_and_renamed():
    """Neighbouring turns become one; others are counted in; names change everywhere."""
    said = [
        ("Ann Lee", "Bob?"),
        ("Ann Lee", "Bob!"),
        ("Bob", "Ann."),
        ("Cy", "Hm."),
        ("Dee", "So."),
    ]
    scene = scene_of([Turn(*pair) for pair in said], "x", "Ann's house.")
    assert [turn.text for turn in merged(scene).turns][:2] == ["Bob? Bob!", "Ann."]
    few = merged(few_roles(scene, 3))
    assert few.names == ["Ann Lee", "Bob", OTHERS]
    assert few.turns[-1] == Turn(OTHERS, "Hm. So.")
    other = renamed(scene, random.Random(0))
    old, new = dict(zip(scene.names, other.names, strict=True)), other.names
    assert not set(new) & set(scene.names)
    assert other.turns[0].text == f"{old['Bob']}?"
    assert other.turns[2].text == f"{old['Ann Lee']}."
    assert other.setting == f"{old['Ann Lee']}'s house."


@pytest.mark.parametrize(
    ("people", "said", "wanted"),
    [
        # titles, articles and joining words are no first names
        ("The Waiter, Joey", "The soup, Joey? The Waiter!", "The soup, {1}? {0}!"),
        ("Dr. Mitchell, Ann", "I'm Dr.Mitchell. Dr. Mitchell?", "I'm Dr.Mitchell. {0}?"),
        ("Best Man, Boy in the Cape", "Best of all. Boy!", "Best of all. Boy!"),
        ("Joey's Hand Twin, Ann", "Joey's hand, Ann.", "Joey's hand, {1}."),
        # a first name of two people is nobody's; a full one is always somebody's
        (
            "Joey Tribbiani, Joey Tribbiani Sr.",
            "Joey! Joey Tribbiani Sr., and Joey  Tribbiani.",
            "Joey! {1}, and {0}.",
        ),
        ("Rachel, Rachel and Phoebe", "Rachel, Phoebe? Rachel and Phoebe!", "{0}, Phoebe? {1}!"),
        ("Ross Geller, Ann Geller and Ross Geller", "Ross? Ann Geller!", "{0}? Ann Geller!"),
        # names that are words as well
        (
            "Will, Ann",
            "Will you? Oh, Will, I will. Ann Will?",
            "Will you? Oh, {0}, I will. {1} {0}?",
        ),
        ("Mark Robinson, Ann", "Mark my words, Mark Robinson.", "Mark my words, {0}."),
        ("All, Ann", "All right, all!", "All right, all!"),
        ("waiter, an", "The waiter had an idea.", "The waiter had an idea."),
        # letters around a name make it another word, where words have blanks between them
        ("Ann, Zoë", "Anna, Zoës, Ann, Zoë, Joann.", "Anna, Zoës, {0}, {1}, Joann."),
        ("Ann, José", "我是Ann。José？Joséphine!", "我是{0}。{1}？Joséphine!"),
        ("小明, 小红", "小明和小红是同学。", "{0}和{1}是同学。"),
        ("明, I", "明天 I sing, and I dance.", "明天 I sing, and I dance."),
        ("P1, P10", "P1, P10 and P100.", "{0}, {1} and P100."),
    ],
)
def test_new_names_stand_where_old_ones_stood(people, said, wanted):
    """And nowhere else: not for a word of a sentence, nor for somebody else's name."""
    names = people.split(", ")
    scene = scene_of([Turn(names[0], said), Turn(names[1], said)], "x", said)
    other = renamed(scene, random.Random(0))
    new = dict(zip(scene.names, other.names, strict=True))
    assert other.setting == other.turns[0].text == wanted.format(*(new[name] for name in names))
    assert not set(other.names) & set(names)


def test_no_word_of_a_name_is_somebody_elses_new_name():
    """`Zoe`, which stays in texts where two begin with it, is not given to a third."""
    scene = scene_of(
        [Turn(name, "Zoe?") for name in ("Zoe Lee", "Zoe Sr.", "Ada's Date", "Bob")], "x"
    )
    for seed in range(40):
        assert not {"Zoe", "Ada"} & set(renamed(scene, random.Random(seed)).names)


@pytest.mark.parametrize("kind", [MELD, EmoryNLP])
def test_the_order_of_people_does_not_tell_who_is_next(kind):
    """It is that of their names, in every split that is not shuffled."""
    for split in ("val", "test"):
        assert all(scene.names == sorted(scene.names) for scene in kind().records(split))
    turns = [Turn(name, "Hm.") for name in ("Zoe", "Ann", "Mia", "Ann")]
    orders = [scene_of(order, "x").names for order in itertools.permutations(turns)]
    assert orders == [["Ann", "Mia", "Zoe"]] * 24


def test_people_of_a_script_are_its_list_or_the_sorted_speakers(tmp_path):
    """A list of the file's own stays as it is written."""
    turns = turns_of("Zoe", "Ann", "Mia")
    given = [{"turns": turns}, {"turns": turns, "roles": ["Mia", "Zoe", "Ann"]}]
    found = [scene.names for scene in script(tmp_path, *given).records("test")]
    assert found == [["Ann", "Mia", "Zoe"], ["Mia", "Zoe", "Ann"]]


def test_only_training_changes_names():
    """With every scene renamed, those of the test split stay as they are."""
    data = Scenes(rename=1.0, shuffle_roles=False)
    before, after = data.records("test"), data.records("train")
    assert all(not set(a.names) & set(b.names) for a, b in zip(before, after, strict=True))
    assert Scenes(rename=1.0).records("train") == Scenes(rename=1.0).records("train")


@pytest.mark.parametrize(
    ("kept", "rest"), [("Bob", "others"), ("others", "others 2"), ("  others", "others 2")]
)
def test_the_rest_has_a_name_of_its_own(kept, rest):
    """Where somebody with many turns is called `others`, those with few are not."""
    names = ["Ann", kept, "Ann", kept, "Cy", "Dee"]
    few = few_roles(scene_of([Turn(name, "Hm.") for name in names], "x"), 3)
    assert few.names == [*sorted(["Ann", kept]), rest]
    assert [turn.speaker for turn in few.turns] == ["Ann", kept, "Ann", kept, rest, rest]


def script(tmp_path, *scenes):
    """Write scenes to a file; return a data module over it."""
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(scene) + "\n" for scene in scenes))
    return Scenes(str(path), rename=0.0)


def turns_of(*names):
    """Return a turn of each name."""
    return [{"speaker": name, "text": "Hm."} for name in names]


def test_repairs_are_counted(tmp_path, caplog, refused):
    """One speaker: left out; 40 people: the least talkative are others; nobody left: an error."""
    crowd = {"turns": turns_of(*(f"P{i}" for i in range(40)), "P0", "P1")}
    with caplog.at_level(logging.WARNING):
        (scene,) = script(tmp_path, {"turns": turns_of("Ann")}, crowd).records("test")
    assert len(scene.roles) == 8
    assert "1 scenes of one speaker are left out: mine.jsonl:1" in caplog.text
    assert "more than 8 people in 1 scenes" in caplog.text
    alone = script(tmp_path, {"turns": turns_of("Ann", "Ann")})
    refused(lambda: alone.records("test"), "no records")


def test_a_scene_without_an_id_has_its_place_for_a_name(tmp_path):
    """Also where the id is null or empty, so that no two scenes share one; a number is one."""
    turns = turns_of("Ann", "Bob")
    given = [{}, {"id": None}, {"id": None}, {"id": ""}, {"id": 0}, {"id": "pier"}]
    scenes = script(tmp_path, *({"turns": turns, **one} for one in given)).records("test")
    places = [f"mine.jsonl:{line}" for line in range(1, 5)]
    assert [scene.id for scene in scenes] == [*places, "0", "pier"]


@pytest.mark.parametrize(
    ("scene", "parts"),
    [
        ({"turns": [{"text": "Hm."}]}, ["mine.jsonl:1: turn 1", "speaker"]),
        ({"turns": [{"speaker": " ", "text": "Hm."}]}, ["turn 1", "speaker"]),
        ({"turns": [{"speaker": "Ann", "text": ""}]}, ["turn 1", "text"]),
        ({"roles": ["Ann", "Bob"], "turns": turns_of("Ann", "Bop")}, ["turn 2", "'Bop'", "'Bob'?"]),
        ({"roles": ["Ann", "Ann"], "turns": turns_of("Ann")}, ["'Ann' is there twice"]),
        ({"roles": ["Ann B", "Ann  B"], "turns": []}, ["jsonl:1:", "'Ann B'", "'Ann  B'"]),
        ({"turns": turns_of("Ann\nB", "Ann B")}, ["jsonl:1:", r"'Ann\nB'", "'Ann B'"]),
        ({"turn": []}, ["'turns'?"]),
        ({"turns": turns_of("Ann", "Bob"), "ended": 1}, ["ended", "true or false"]),
    ],
)
def test_bad_scripts(tmp_path, scene, parts, refused):
    refused(lambda: script(tmp_path, scene).records("test"), *parts)


@pytest.mark.parametrize(
    ("speaker", "part"),
    [("Ann", "a list such as"), ("[]", "a list such as"), ("['']", "empty name")],
)
def test_bad_speakers(tmp_path, speaker, part, refused):
    (tmp_path / "emorynlp_test_final.csv").write_text(f"{HEAD}\nHm.,{speaker},Joyful,1,1,1\n")
    refused(lambda: EmoryNLP(str(tmp_path)).records("test"), "final.csv:2", part)


def test_speakers_of_one_name(tmp_path, refused):
    """Two that are the same before turns are refused, as in a script."""
    rows = "".join(f"Hm.,{name},Joyful,1,1,1\n" for name in ("['Ann B']", "['Ann  B']"))
    (tmp_path / "emorynlp_test_final.csv").write_text(f"{HEAD}\n{rows}")
    parts = ("final.csv:3", "'Ann B'", "'Ann  B'")
    refused(lambda: EmoryNLP(str(tmp_path)).records("test"), *parts)


def test_bad_arguments(refused):
    refused(lambda: Scenes(max_roles=1), "data.max_roles: 1")
    refused(lambda: Scenes(rename=2.0), "data.rename: 2.0")
    assert (SAMPLES / "scenes.jsonl").is_file()
