"""What the numbered properties leave out: the speaker's loss, long scenes, sampling, figures."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from methods.mupas.mupas_scenes import SAID, STRATEGIES, Made, batch_of, role_tokens, scene_of

from zoo.errors import InputError
from zoo.methods.mupas.chances import log_speaking
from zoo.methods.mupas.encoder import UTTERANCE
from zoo.methods.mupas.figures import REST, speaker_figures
from zoo.methods.mupas.metrics import evenness, macro_f1
from zoo.methods.mupas.reading import SceneReading, expected
from zoo.methods.mupas.simulate import simulate


def log_prob(module: Any, before: list[int], after: list[int]) -> torch.Tensor:
    """Return log P(after | before) of a plain pass."""
    ids = torch.tensor([[*before, *after]])
    logp = module.lm(input_ids=ids).logits[0, len(before) - 1 : -1].log_softmax(-1)
    return logp.gather(1, torch.tensor(after)[:, None]).sum()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_loss_of_speakers(mupas: Made, strategy: str) -> None:
    """Equation (3): S1 the headers said and the end, S2 the silences; (4): its weight, windows.

    S1 is a mean over boundaries; in S2 those of a window sum up, each like one of its N words.
    """
    module = mupas(strategy=strategy, speaker_weight=0.5)
    encoder, losses = module.encoder(), []
    scenes = [scene_of(), scene_of(SAID[:2], ended=False)]
    for scene in scenes:
        per_turn = []
        ids, before = role_tokens(module, scene)[0][0].tolist(), list(encoder.prefix(scene))
        for turn in [*scene.turns, *([None] * scene.ended)]:
            silent = [n for n in scene.names if turn is None or n != turn.speaker]
            if strategy == "speak_or_silence":
                asked = [[*before, *encoder.header(name)] for name in silent]
                each = [-log_prob(module, one, [encoder.stop_id]) for one in asked]
                per_turn.append(torch.stack(each).mean())
            else:
                said = [encoder.stop_id] if turn is None else encoder.header(turn.speaker)
                per_turn.append(-log_prob(module, before, said))
            if turn is not None:
                spoken = encoder.spoken(turn)
                before += [*spoken.header, *spoken.words]
        assert before == ids
        words = sum(len(encoder.spoken(turn).words) for turn in scene.turns)
        count = words if strategy == "speak_or_silence" else len(per_turn)
        losses.append(torch.stack(per_turn).sum() / count)
    terms = module.losses(batch_of(module, *scenes))
    assert float(terms["speaker"].loss) == pytest.approx(float(sum(losses) / 2), rel=1e-6)
    assert module.loss_weights == {"utterance": 1.0, "speaker": 0.5}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_long_scene_is_read_in_windows(mupas: Made, strategy: str) -> None:
    """A distribution for every turn and one behind the last; all words of everybody counted."""
    module = mupas(strategy=strategy)
    whole = module.read(scene_of())
    size = len(module.encoder().prefix(scene_of())) + 110
    short = mupas(strategy=strategy, max_length=size)
    assert len(short.encoder().windows(scene_of())) > 1
    cut = short.read(scene_of())
    assert len(cut.chances) == len(whole.chances) == len(SAID) + 1
    assert cut.tokens == whole.tokens
    assert cut.chances[0] == pytest.approx(whole.chances[0], abs=1e-9)
    assert all(math.fsum(chances.values()) == pytest.approx(1) for chances in cut.chances)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_begins_a_window_is_asked_behind_the_one_before(mupas: Made, strategy: str) -> None:
    """And not behind the bare system turn; who speaks inside one, behind what is before there."""
    said = (*SAID, *SAID[2:], *SAID[2:])
    whole = mupas(strategy=strategy)
    size = len(whole.encoder().prefix(scene_of())) + 100
    short = mupas(strategy=strategy, max_length=size)
    starts = [window.first for window in short.encoder().windows(scene_of(said))]
    assert len(starts) == 3
    chances = short.read(scene_of(said)).chances
    assert len(chances) == len(said) + 1
    for t in range(1, len(said) + 1):
        first = max(start for start in starts if start < t)
        wanted = whole.next_speaker(scene_of(said[first:t], ended=False))
        assert chances[t] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("ended", [True, False])
def test_a_scene_that_has_not_begun_is_read(mupas: Made, strategy: str, ended: bool) -> None:
    """Who speaks first is asked behind the system turn, as before the first turn of a scene."""
    module = mupas(strategy=strategy)
    first = module.read(scene_of()).chances[0]
    begun = scene_of((), ended=ended)
    assert module.next_speaker(begun) == pytest.approx(first, abs=1e-9)
    reading = module.read(begun)
    assert (len(reading.chances), reading.nats, reading.tokens) == (1, {}, {})


def test_what_cannot_be_asked_of_a_scene_is_said(mupas: Made) -> None:
    """The words of no turn, and who is next without names."""
    with pytest.raises(InputError, match="scene:1: nobody says anything"):
        mupas().generate([scene_of(())])
    with pytest.raises(InputError, match="pairwise does not know who speaks next"):
        mupas(objective="pairwise").next_speaker(scene_of())


@pytest.mark.parametrize("objective", ["role_mean", "single_role", "pairwise"])
def test_a_reply_does_not_depend_on_the_words_it_is_compared_with(
    mupas: Made, objective: str
) -> None:
    """A long last turn that begins a window of its own; the oldest turns alone are left out."""
    whole, room = mupas(objective=objective).encoder().prompt(scene_of(), 5), 5
    for spare in (0, 1):
        size = len(whole) + room - spare
        encoder = mupas(objective=objective, max_length=size).encoder()
        short, long = (scene_of((*SAID[:-1], ("Bob", words))) for words in ("No.", "No, " * 18))
        assert len(encoder.windows(long)[-1].turns) == 1
        prompt = encoder.prompt(long, room)
        assert prompt == encoder.prompt(short, room)
        assert len(prompt) + room <= size
        said = encoder.tokenizer.decode(prompt)
        kept = [text for _, text in SAID[:-1] if text in said]
        assert kept == [text for _, text in SAID[-1 - len(kept) : -1]]
        assert len(kept) == 4 - spare or (objective, len(kept)) == ("pairwise", 3)


@pytest.mark.parametrize("objective", ["role_mean", "single_role", "pairwise"])
def test_words_of_each_person(mupas: Made, objective: str) -> None:
    """Nats by person are those of the words of a plain pass over what that view shows before.

    Of everybody, whoever's words are learned.
    """
    module = mupas(objective=objective)
    reading, encoder = module.read(scene_of()), module.encoder()
    (window,) = encoder.windows(scene_of())
    nats = dict.fromkeys(scene_of().names, 0.0)
    for t, turn in enumerate(window.turns):
        begun = replace(scene_of(), turns=scene_of().turns[: t + 1], ended=False)
        nats[turn.name] -= float(log_prob(module, encoder.prompt(begun, 1), turn.words))
    assert reading.nats == pytest.approx(nats, abs=1e-6)
    assert sum(reading.tokens.values()) == sum(len(turn.words) for turn in window.turns)


def test_expected_speakers_are_not_the_last_one() -> None:
    """Not even where the model would like it; macro-F1 counts names that are only expected."""
    likes = {"Ann": 0.6, "Bob": 0.3, "Cleo de Witt": 0.1}
    reading = SceneReading((likes,) * 6, {}, {})
    assert expected(scene_of(), reading) == ["Ann", "Bob", "Ann", "Ann", "Bob"]
    assert expected(scene_of(), SceneReading((), {}, {})) == []
    assert macro_f1(["Ann", "Ann"], ["Ann", "Bob"]) == pytest.approx((2 / 3 + 0) / 2)
    assert math.isnan(macro_f1([], []))


def test_figures_of_speakers() -> None:
    """Rows are who spoke; the eleventh person and those behind are one row; shares sum up to 1."""
    said = ["Ann"] * 6 + ["Bob"] * 3 + [f"P{i}" for i in range(12)]
    figures = speaker_figures(said, ["Ann"] * len(said))
    labels = [text.get_text() for text in figures["speaker_confusion"].axes[0].get_yticklabels()]
    assert labels[:2] == ["Ann", "Bob"]
    assert (len(labels), labels[-1]) == (11, REST)
    bars = [bar.get_height() for bar in figures["turn_share"].axes[0].patches]
    assert bars[0] == pytest.approx(6 / 21)
    assert sum(bars[:11]) == pytest.approx(1)
    assert (bars[11], bars[12]) == (1, 0)
    assert speaker_figures([], []) == {}


def test_a_sample_names_who_was_expected(mupas: Made) -> None:
    """A dash where the objective asks nobody."""
    scene, module = scene_of(), mupas()
    likes = {"Ann": 0.6, "Bob": 0.3, "Cleo de Witt": 0.1}
    row = module.sample(scene, SceneReading((likes,) * 6, {}, {}, "So."))
    assert (row["speaker"], row["expected"], row["reply"]) == ("Bob", "Bob", "So.")
    assert module.sample(scene, SceneReading((), {}, {}))["expected"] == "-"


def test_evenness_is_the_entropy_of_turns_over_its_largest_value() -> None:
    """Three quarters and one quarter have 0.811 bits, of 1 among two and log2(3) among three."""
    said = ["Ann", "Ann", "Bob", "Ann"]
    bits = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert evenness(said, ["Ann", "Bob"]) == pytest.approx(bits)
    assert evenness(said, ["Ann", "Bob", "Cleo"]) == pytest.approx(bits / math.log2(3))
    assert evenness(said, ["Ann"]) == evenness([], ["Ann", "Bob"]) == 0


def test_one_of_a_pair_is_the_assistant_and_all_others_are_the_user(mupas: Made) -> None:
    """Turn by turn: what is opened as the assistant is learned, and nothing else."""
    encoder = mupas(objective="pairwise").encoder()
    (window,) = encoder.windows(scene_of())
    _, *turns = encoder.pair_pieces(window, "Bob")
    openings = [encoder.tokenizer.decode(ids) for ids, _, _ in turns[::2]]
    roles = [encoder.chat.open(role) for role in ("user", "assistant", "user", "assistant")]
    assert openings == roles
    assert [head == UTTERANCE for _, head, _ in turns[1::2]] == [False, True, False, True]
    said = [encoder.tokenizer.decode(ids) for ids, _, _ in turns[1::2]]
    assert said[2] == "The wind did.\nThen we walk." + encoder.chat.end, "a line a turn"


def test_a_user_is_one_of_the_people(mupas: Made) -> None:
    asked: dict[str, Any] = {"listen": None, "told": print, "max_turns": 1, "min_turns": 0}
    with pytest.raises(InputError, match="role: nobody here is called 'Dora'"):
        simulate(mupas(), scene_of(), user="Dora", temperature=0.0, top_p=1.0, **asked)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_speaks_is_not_silent(mupas: Made, strategy: str) -> None:
    """The last turn has words, although its end is the likeliest first token, as S2 teaches."""
    module = mupas(strategy=strategy)
    scenes = [scene_of(), scene_of(SAID[:2])]
    project, stop_id = module.last_logits, module.encoder().stop_id

    def silenced(states: torch.Tensor) -> torch.Tensor:
        logits = project(states).clone()
        logits[..., stop_id] = 1e3
        return logits

    module.last_logits = silenced
    assert all(len(reply) > 0 for reply in module.generate(scenes))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_words_of_a_known_speaker(mupas: Made, strategy: str) -> None:
    """-log P(words | header), with S2 divided by 1 - P(SILENCE | header): the speaker is given."""
    module = mupas(strategy=strategy)
    scene, encoder = scene_of(), module.encoder()
    before, wanted = list(encoder.prefix(scene)), dict.fromkeys(scene.names, 0.0)
    for turn in scene.turns:
        spoken = encoder.spoken(turn)
        before = [*before, *spoken.header]
        lost = -log_prob(module, before, spoken.words)
        if strategy == "speak_or_silence":
            lost = lost + (1 - log_prob(module, before, [encoder.stop_id]).exp()).log()
        wanted[turn.speaker] += lost.item()
        before = [*before, *spoken.words]
    assert module.read(scene).nats == pytest.approx(wanted, abs=1e-6)


def test_silence_that_is_certain_leaves_a_finite_score() -> None:
    assert log_speaking(math.log(0.25)) == pytest.approx(math.log(0.75))
    assert log_speaking(-math.inf) == 0.0
    assert math.isfinite(log_speaking(0.0))
