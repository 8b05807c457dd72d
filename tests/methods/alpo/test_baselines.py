"""ALPO's baselines: SFT, outcome DPO by both of its rules, segment DPO; each from its config."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from methods.alpo.alpo_blocks import NARROW, OPEN, scored
from running import board, last, load, main, scalars, tiny
from runs import DATA, SCHEDULE
from torch.nn.functional import logsigmoid

from zoo.methods.alpo.choose import whole_outcomes

EIGHT = [80.0, 90.0, 70.0, 30.0, 50.0, 30.0, 20.0, 95.0]  # three best: 7, 1, 0; third-worst: 30
RULES = {"extremes": OPEN, "eight": EIGHT}


def fit(folder: Path, config: str, *more: str) -> dict[str, float]:
    """Train four steps by the command line; return what is logged last."""
    main(
        "fit",
        *tiny(config),
        *DATA,
        *SCHEDULE,
        *("--model.optimizer.lr", "0.01", "--model.optimizer.warmup_ratio", "0"),
        *("--model.optimizer.schedule", "constant"),
        *("--trainer.default_root_dir", str(folder)),
        *more,
    )
    return scalars(folder)


def written(folder: Path, *scores: list[float] | None) -> str:
    """Return a file with two blocks of segments with these scores."""
    path = folder / "scored.jsonl"
    rows = [json.dumps(asdict(scored(list(scores), index=i))) for i in range(2)]
    path.write_text("".join(f"{row}\n" for row in rows), "utf-8")
    return str(path)


@pytest.mark.parametrize("config", ["alpo_outcome_dpo", "alpo_segment_dpo", "alpo_preference"])
@pytest.mark.parametrize("rule", RULES)
def test_a_config_learns_preferences(tmp_path: Path, config: str, rule: str) -> None:
    """The first loss is that of a policy which is its reference; a step later it is below.

    ln 2 for the baselines; for ALPO times the weights, here of two open segments of three.
    """
    path = written(tmp_path, RULES[rule], RULES[rule], None)
    data = ("--data.train", path, "--data.val", path)
    logged = fit(tmp_path / "run", config, *data)
    first, *_, end = board(tmp_path / "run").Scalars("train/preference_loss")
    count = len(RULES[rule])
    share = 2 * count / (2 * count + 3) if config == "alpo_preference" else 1.0
    assert first.value == pytest.approx(math.log(2) * share, rel=1e-5)
    assert end.value < first.value
    assert 0 <= logged["val/score"] <= 100
    kept = load(last(tmp_path / "run"))["reference"]
    state = load(last(tmp_path / "run"))["state_dict"]
    assert any(not torch.equal(kept[name], state[name]) for name in kept)


def test_the_sft_config_learns_lines(tmp_path: Path) -> None:
    logged = fit(tmp_path / "run", "alpo")
    assert logged["train/translation_loss"] > 0
    assert 0 <= logged["val/score"] <= 100
    assert "reference" not in load(last(tmp_path / "run"))


@pytest.mark.parametrize(
    ("scores", "chosen", "rejected"),
    [
        (OPEN, 0, 5),  # fewer than eight: the best and the worst
        (EIGHT[:7], 1, 6),
        (EIGHT, None, 3),  # the shortest of the three best; the first that scores as third-worst
    ],
)
def test_outcomes_are_whole_blocks(make, scores, chosen, rejected) -> None:
    """Chosen and rejected are joined over all segments; without a verdict both sides are alike."""
    record = scored([scores, None, scores], seed=4, after=False)
    if chosen is None:
        texts = [segment.candidates for segment in record.segments]
        shortest = [min((7, 1, 0), key=lambda i: len(t[i][0])) for t in (texts[0], texts[2])]
    else:
        shortest = [chosen, chosen]
    first, other, last_one = whole_outcomes(record, 0)
    assert (first, last_one) == ((shortest[0], rejected), (shortest[1], rejected))
    assert other[0] == other[1]
    module = make("ALPO", "tiny-llama", objective="outcome_dpo", max_length=8192)
    (plan,) = module.encoder()(record)
    ((good, bad),) = plan.candidates
    for ids, side in ((good, 0), (bad, 1)):
        lines = [
            segment.candidates[pair[side]][0]
            for segment, pair in zip(record.segments, (first, other, last_one), strict=True)
        ]
        expected = "\n".join(f"{i}. {line}" for i, line in enumerate(lines, start=2))
        assert module.tokenizer.decode(ids) == expected + "<|im_end|>"


def test_losses_are_textbook_dpo(make) -> None:
    """Outcome DPO: one pair of a block; segment DPO: the mean over all pairs, gates or not."""
    record = scored([OPEN, NARROW, None])
    for objective, pairs in (("outcome_dpo", 1), ("segment_dpo", 2)):
        module = make("ALPO", "tiny-llama", objective=objective, dpo_beta=0.3, spread=4.0)
        module.double().reference.sync(module)
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in module.lm.model.layers.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        encoder = module.encoder()
        (plan,) = encoder(record)
        ours = module.losses(encoder.collate([plan], {}))["preference"].loss
        theirs = torch.stack(list(separate(module, plan)))
        assert len(theirs) == pairs
        assert abs(float(ours - theirs.mean())) < 1e-6
        assert abs(float(ours) - math.log(2)) > 1e-4


def separate(module, plan):
    """Return -log sigmoid(0.3 h) of each pair, by a sequence for each side and full logits."""

    def log_prob(prefix, leaf):
        logits = module.lm(torch.tensor([prefix + leaf]), use_cache=False).logits[0]
        rows = logits[len(prefix) - 1 : -1].log_softmax(-1)
        return rows[torch.arange(len(leaf)), list(leaf)].sum()

    prefix = plan.prompt
    for candidates, choice in zip(plan.candidates, plan.choices, strict=True):
        sides = candidates[choice.chosen], candidates[choice.rejected]
        if choice.is_open:
            policy = [log_prob(prefix, side) for side in sides]
            with torch.no_grad(), module.reference.used(module):
                before = [log_prob(prefix, side) for side in sides]
            shift = (policy[0] - before[0]) - (policy[1] - before[1])
            yield -logsigmoid(0.3 * shift)
        prefix = prefix + sides[0]
