"""MuPaS's properties, written from its equations."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from methods.mupas.mupas_scenes import SAID, STRATEGIES, Made, batch_of, role_tokens, scene_of
from torch.nn import functional as F

from datamodules import Scenes
from zoo.encoding import NO_HEAD, Batch
from zoo.losses.cross_entropy import total_loss
from zoo.methods.mupas.encoder import SPEAKER, UTTERANCE
from zoo.records import Role, Scene


def loss_of(module: Any, *scenes: Scene, term: str = "utterance") -> torch.Tensor:
    """Return a loss term of scenes."""
    return module.losses(batch_of(module, *scenes))[term].loss


def role_losses(module: Any, scene: Scene, *, headers: bool = False) -> dict[str, torch.Tensor]:
    """Return l_i of equation (1), a pass with the labels of all others masked for each role."""
    ids, places = role_tokens(module, scene, headers=headers)
    found = {}
    for name, mine in places.items():
        labels = torch.full_like(ids, -100)
        labels[0, mine] = ids[0, mine]
        logits = module.lm(input_ids=ids).logits
        found[name] = F.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100)
    return found


@pytest.mark.fidelity("mupas", 1)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_pass_is_a_masked_pass_for_each_role(mupas: Made, strategy: str) -> None:
    """L_utt and its gradient, also over two scenes of unlike length."""
    module = mupas(strategy=strategy)
    scenes = [scene_of(), scene_of(SAID[:2])]
    losses = [torch.stack(list(role_losses(module, scene).values())).mean() for scene in scenes]
    theirs = torch.stack(losses).mean()
    ours = loss_of(module, *scenes)
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)
    weight = module.lm.model.layers[1].mlp.up_proj.weight
    gradients = [torch.autograd.grad(loss, weight)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


@pytest.mark.fidelity("mupas", 1)
def test_headers_that_are_words_count_in_the_mean_of_their_role(mupas: Made) -> None:
    """Without L_spk M_i has the headers too, and a window still weighs 1."""
    module = mupas(speaker_weight=0.0)
    scenes = [scene_of(), scene_of(SAID[:2], ended=False)]
    means = [
        torch.stack(list(role_losses(module, scene, headers=True).values())).mean()
        for scene in scenes
    ]
    assert float(loss_of(module, *scenes)) == pytest.approx(float(sum(means) / 2), abs=1e-6)
    for scene in scenes:
        (example,) = module.encoder()(scene)
        assert example.head_weights() == pytest.approx({UTTERANCE: 1.0})


@pytest.mark.fidelity("mupas", 2)
@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_every_token_is_learned_at_most_once(mupas: Made, weight: float) -> None:
    """Words and ends of turns in L_utt; headers in L_spk, or there without it; the rest nowhere."""
    module = mupas(speaker_weight=weight)
    scene = scene_of()
    batch = batch_of(module, scene)
    ids, places = role_tokens(module, scene)
    assert batch.input_ids[0, : ids.shape[1]].tolist() == ids[0].tolist()
    words = {place - 1 for mine in places.values() for place in mine}  # slots that predict them
    heads = batch.head_ids[0].tolist()
    first = len(module.encoder().prefix(scene)) - 1
    headers = set(range(first, ids.shape[1] - 1)) - words | {ids.shape[1] - 1}  # the scene's end
    assert {i for i, head in enumerate(heads) if head == SPEAKER} == (headers if weight else set())
    assert {i for i, head in enumerate(heads) if head == UTTERANCE} == (
        words if weight else words | headers
    )
    assert sum(map(len, places.values())) == len(words)  # roles are disjoint
    assert all(heads[i] == NO_HEAD for i in range(first))
    assert batch.weights[0, heads.index(NO_HEAD)] == 0


@pytest.mark.fidelity("mupas", 3)
def test_a_role_that_talks_more_weighs_no_more(mupas: Made) -> None:
    """Bob's share stays 1/L as his text doubles; that of a mean over tokens grows."""
    longer = [(n, f"{t} {t}" if n == "Bob" else t) for n, t in SAID]
    shares: dict[str, list[float]] = {}
    for objective, said in itertools.product(("role_mean", "token_mean"), (SAID, longer)):
        module = mupas(objective=objective)
        scene = scene_of(said)
        batch = batch_of(module, scene)
        _, places = role_tokens(module, scene)
        bob = sum(float(batch.weights[0, place - 1]) for place in places["Bob"])
        shares.setdefault(objective, []).append(bob / batch.normalizers[UTTERANCE])
    assert shares["role_mean"] == pytest.approx([1 / 3, 1 / 3])
    assert shares["token_mean"][1] > shares["token_mean"][0] + 0.1


@pytest.mark.fidelity("mupas", 3)
def test_weights_count_in_micro_batches_of_one_scene(mupas: Made) -> None:
    """The gradients of a step's scenes, one at a time, add up to those of its mean over scenes."""
    scenes, found = [scene_of(), scene_of(SAID[:2])], {}
    for objective in ("role_mean", "token_mean"):
        module = mupas(objective=objective)
        encoder = module.encoder()
        weight = module.lm.model.layers[1].mlp.up_proj.weight
        examples = [example for scene in scenes for example in encoder(scene)]
        step = {UTTERANCE: sum(example.head_weights()[UTTERANCE] for example in examples)}
        parts = [module.losses(encoder.collate([one], step))["utterance"].loss for one in examples]
        found[objective] = torch.autograd.grad(sum(parts), weight)[0]
    module = mupas()
    means = [torch.stack(list(role_losses(module, scene).values())).mean() for scene in scenes]
    weight = module.lm.model.layers[1].mlp.up_proj.weight
    (wanted,) = torch.autograd.grad(torch.stack(means).mean(), weight)
    torch.testing.assert_close(found["role_mean"], wanted, rtol=1e-5, atol=1e-7)
    apart = (found["token_mean"] - wanted).norm() / wanted.norm()
    assert apart > 0.05


@pytest.mark.fidelity("mupas", 4)
def test_others_are_seen_before_and_not_after(mupas: Made) -> None:
    """Ann's last line depends on Bob's earlier one, not on his later one."""
    module = mupas()

    def ann(said: Any) -> float:
        batch = batch_of(module, scene_of(said))
        mask = torch.zeros_like(batch.weights)
        _, places = role_tokens(module, scene_of(said))
        mask[0, [place - 1 for place in places["Ann"]]] = 1
        batch.weights = batch.weights * mask
        return float(module.losses(batch)["utterance"].sum)

    earlier = [
        (n, "Yes, it was me who rowed alone" if i == 1 else t) for i, (n, t) in enumerate(SAID)
    ]
    later = [(n, "Go." if i == 4 else t) for i, (n, t) in enumerate(SAID)]
    assert abs(ann(earlier) - ann(SAID)) > 1e-4
    assert ann(later) == pytest.approx(ann(SAID), abs=1e-9)


@pytest.mark.fidelity("mupas", 5)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_order_of_people_is_only_prompt(mupas: Made, strategy: str) -> None:
    """With one prompt, L does not depend on the order in which roles are listed."""
    module = mupas(strategy=strategy)
    encoder = module.encoder()
    given = encoder.prefix(scene_of())
    encoder.prefix = lambda scene: given
    losses = []
    for roles in itertools.permutations(scene_of().roles):
        terms = module.losses(batch_of(module, replace(scene_of(), roles=roles)))
        losses.append(float(total_loss(terms)))
    assert losses == pytest.approx([losses[0]] * 6, abs=1e-9)


@pytest.mark.fidelity("mupas", 6)
def test_one_trained_role_of_two_is_assistant_only_sft(mupas: Made) -> None:
    """One scene: the mean over the role's tokens; two: the mean of those means, not of tokens.

    That is all that is trained: no header is learned, nor the end of the scene.
    """
    module = mupas(objective="single_role")

    def trained(*scenes: Scene) -> float:
        return float(total_loss(module.losses(batch_of(module, *scenes)), module.loss_weights))

    short = scene_of((*SAID[:2], ("Bob", "Or was it?")))
    scenes = [scene_of([pair for pair in SAID if pair[0] != "Cleo de Witt"]), short]
    losses, counts = [], []
    for scene, name in zip(scenes, ("Ann", "Bob"), strict=True):
        plain = float(role_losses(module, scene)[name])
        assert trained(scene) == pytest.approx(plain, abs=1e-6)
        (example,) = module.encoder()(scene)
        learned = sum(head != NO_HEAD for head in example.head_ids)
        assert learned == len(role_tokens(module, scene)[1][name])
        losses.append(plain)
        counts.append(len(role_tokens(module, scene)[1][name]))
    of_tokens = sum(n * loss for n, loss in zip(counts, losses, strict=True)) / sum(counts)
    assert abs(of_tokens - sum(losses) / 2) > 1e-4, "the two means differ here"
    assert trained(*scenes) == pytest.approx(sum(losses) / 2, abs=1e-6)


def test_one_trained_role_whose_headers_are_words(mupas: Made) -> None:
    """Without L_spk its headers count among its tokens."""
    module = mupas(objective="single_role", speaker_weight=0.0)
    scenes = [scene_of(), scene_of(SAID[:2], ended=False)]
    means = [role_losses(module, scene, headers=True)["Ann"] for scene in scenes]
    assert float(loss_of(module, *scenes)) == pytest.approx(float(sum(means) / 2), abs=1e-6)


@pytest.mark.fidelity("mupas", 7)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_speakers_are_a_distribution_over_the_scene(mupas: Made, strategy: str) -> None:
    """Names of several tokens and new ones; each score is that of a sequence of its own."""
    module = mupas(strategy=strategy)
    scene = replace(scene_of(), roles=(*scene_of().roles, Role("Zaphod Beeblebrox the 2nd")))
    chances = module.next_speaker(scene)
    assert list(chances) == scene.names
    assert sum(chances.values()) == pytest.approx(1)
    encoder = module.encoder()
    said, scores = role_tokens(module, scene)[0][0].tolist(), []
    for name in scene.names:
        header = encoder.header(name)
        tail = [*header, *([encoder.stop_id] if strategy == "speak_or_silence" else [])]
        ids = torch.tensor([[*said, *tail]])
        logp = module.lm(input_ids=ids).logits[0, :-1].log_softmax(-1)
        each = logp.gather(1, ids[0, 1:, None])[:, 0]
        count = len(header) if strategy == "speaker_as_token" else 1
        scores.append(each[-count:].sum())
    values = torch.stack(scores)
    wanted = values.softmax(0) if strategy == "speaker_as_token" else 1 - values.exp()
    assert list(chances.values()) == pytest.approx((wanted / wanted.sum()).tolist(), abs=1e-8)


def test_the_sample_fits_every_strategy(mupas: Made) -> None:
    """The embedded scenes become finite losses in packed batches and in trees."""
    scenes = Scenes().records("train")[:2]
    for strategy in STRATEGIES:
        module = mupas(strategy=strategy)
        batch = batch_of(module, *scenes)
        assert isinstance(batch, Batch)
        assert all(torch.isfinite(term.loss) for term in module.losses(batch).values())
