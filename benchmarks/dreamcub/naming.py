"""A user who rewards the naming of a hidden feeling: learned in imagination, by PPO, or not at all.

    python -m benchmarks.dreamcub --json benchmarks/results/dreamcub_naming.json --seeds 0 1 2 3 4

The seeker of `ScriptedEnv` gives hints of one of four feelings; a reply that names it, no other, is
rewarded by 1 and ends the dialogue. The supporters of the training dialogues name the right feeling
in 40 percent of their replies, so that imitation is not enough. A tiny base is trained from scratch
on those dialogues first, the same for all rows; then every row has the same steps of supervised
policy, and joint learning with the same number of turns with the user, where it has any. Scores:
reward of fresh dialogues of two turns, replies sampled. Resumable: one JSON entry per row and seed.
A claim needs five seeds; `--quick` only shows that everything runs.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch

import zoo
from benchmarks import trials
from benchmarks.training import GivenRecords, quiet_trainer
from zoo.export import save
from zoo.methods.dreamcub.environment import ScriptedEnv
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn

KNOWN = 0.4  # share of replies in the training dialogues that name the right feeling
FRESH = 1_000_000  # number of the first dialogue of a test
TALKS, TESTS, TURNS = 256, 128, 2
LORA = {"rank": 16, "alpha": 32.0}
LENGTHS = {"base": 1500, "policy": 200, "world": 400, "reward": 100, "joint": 400}
QUICK = dict.fromkeys(LENGTHS, 2) | {"joint": 6}

# Cycles of half the length visit half as often: turns with the user are equal.
ROWS: dict[str, dict[str, Any]] = {
    "full": {},
    "SFT": {"joint": 0},
    "model-free PPO": {"rollouts": "environment", "belief_in": [], "schedule": {"world": 0}},
    "- belief in the world model": {"belief_in": ["reward", "policy"]},
    "- belief in the reward": {"belief_in": ["observation", "policy"]},
    "- KL": {"weights": {"kl": 0.0}},
    "frozen world model": {"schedule": {"world_per_cycle": 0, "interact_every": 4}},
    "H = 0": {"horizon": 0, "schedule": {"interact_every": 4}},
}


def dialogues(count: int, seed: int) -> list[Dialogue]:
    """Return dialogues of the script with supporters who are right in some replies."""
    env, draw = ScriptedEnv(), random.Random(seed)
    feelings, found = sorted(env.cues), []
    for number in range(count):
        start = env.open(FRESH * (seed + 2) + number)
        turns = list(start.turns)
        for turn in range(TURNS):
            right = env.feeling(start.dialogue)
            others = [feeling for feeling in feelings if feeling != right]
            named = right if draw.random() < KNOWN else draw.choice(others)
            turns.append(Turn(SUPPORTER, f"{named}?"))
            if named == right:
                break
            if turn + 1 < TURNS:
                turns.append(Turn(SEEKER, env.hint(start.dialogue, turn + 1)))
        found.append(Dialogue(tuple(turns), emotion=right, id=start.dialogue))
    return found


def trained_base(folder: Path, seed: int, lengths: Mapping[str, int]) -> str:
    """Return an exported folder with a tiny model that was trained on the dialogues."""
    torch.manual_seed(seed)
    optimizer = zoo.Optimizer(lr=3e-3)
    module = zoo.SFT(zoo.Backbone("tiny-llama"), optimizer, max_generated=0)
    trainer = quiet_trainer(max_steps=lengths["base"], gradient_clip_val=1.0)
    trainer.fit(module, GivenRecords(dialogues(TALKS, seed), batch_size=16))
    save(module, folder)
    return str(folder)


def method_of(row: str, base: str, lengths: Mapping[str, int]) -> zoo.DreamCUB:
    """Return the method of a row."""
    changes = dict(ROWS[row])
    changes.pop("joint", None)
    schedule = {
        **{"policy": lengths["policy"], "world": lengths["world"], "reward": lengths["reward"]},
        **{"world_per_cycle": 2, "minibatches": 2, "epochs": 1, "interact_every": 2},
        **changes.pop("schedule", {}),
    }
    if (
        row == "model-free PPO"
    ):  # cycles of two steps with 4 dialogues, not 8 in every other of four
        schedule |= {"reward": 0, "world_per_cycle": 0}
    settings: dict[str, Any] = {
        "factors": ["emotion"],
        "strategy_line": False,
        "user": {"kind": "scripted", "visits": 8 if row != "model-free PPO" else 4},
        "max_length": 1024,
        "reserve": 64,
        "max_new_tokens": 12,
        "max_generated": 0,
        "world_lr": 2e-3,
        "critic_lr": 2e-3,
        "kappa": 0.01,
    }
    optimizer = zoo.Optimizer(lr=1e-3, schedule="constant", warmup_ratio=0.0, beta2=0.95)
    backbone = zoo.Backbone(base, lora=zoo.LoRA(**LORA))
    return zoo.DreamCUB(backbone, optimizer, schedule=schedule, **{**settings, **changes})


@torch.no_grad()
def reward_of(module: Any, tests: int) -> float:
    """Return the mean reward of fresh dialogues."""
    env, won = ScriptedEnv(), 0.0
    module.temperature = module.temperature_of_policy
    states = [env.open(FRESH + i) for i in range(tests)]
    for _ in range(TURNS):
        if not states:
            break
        after = []
        for state, answer in zip(states, module.respond(states), strict=True):
            reply = Turn(SUPPORTER, answer.reply)
            said = env.answer(state, reply)
            won += said.reward or 0.0
            if said.utterance is not None:
                after.append(next_state(state, reply, said.utterance))
        states = after
    return won / tests


def next_state(state: Any, reply: Turn, utterance: str) -> Any:
    """Return the decision after a reply and an answer."""
    return replace(state, turns=(*state.turns, reply, Turn(SEEKER, utterance)))


def run(row: str, seed: int, *, quick: bool) -> trials.Entry:
    """Train and test one row."""
    lengths = QUICK if quick else LENGTHS
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        base = trained_base(Path(folder) / "base", seed, lengths)
        module = method_of(row, base, lengths)
        lightning.seed_everything(seed, verbose=False)
        early = sum(lengths[name] for name in ("policy", "world", "reward"))
        joint = ROWS[row].get("joint", lengths["joint"])
        if row == "model-free PPO":
            early, joint = lengths["policy"], joint // 2
        trainer = quiet_trainer(max_steps=early + joint, gradient_clip_val=1.0)
        trainer.fit(module, GivenRecords(dialogues(TALKS, seed), batch_size=8))
        module.eval()
        torch.manual_seed(seed)
        reward = reward_of(module, 8 if quick else TESTS)
    turns = len(module.learning.replay.kept)
    metrics = {"reward": reward, "user_turns": float(turns)}
    seconds = round(time.time() - start)
    return {"row": row, "seed": seed, "quick": quick, "metrics": metrics, "seconds": seconds}


def table(entries: Sequence[trials.Entry]) -> list[str]:
    """Return a row for each method: reward with its interval over seeds, turns with the user."""
    rows = []
    for row, mine in trials.by_row(entries, ROWS):
        values = [entry["metrics"]["reward"] for entry in mine]
        reward = f"{sum(values) / len(values):.3f} +- {trials.seed_margin(values):.3f}"
        rows.append([row, reward, f"{trials.mean_metric(mine, 'user_turns'):.0f}", f"{len(mine)}"])
    return trials.markdown(["method", "reward (95 % over seeds)", "user turns", "seeds"], rows)


def main() -> None:
    """Run the missing rows and print the table."""
    parser = trials.make_parser(__doc__, rows=ROWS)
    parser.add_argument("--quick", action="store_true", help="a few steps: does it run?")
    given = parser.parse_args()
    torch.set_num_threads(1)
    finished = trials.FinishedRows(given.json, "row", "seed", "quick")
    jobs = [(row, seed, given.quick) for seed in given.seeds for row in given.rows]
    if not given.table:
        finished.run(jobs, lambda row, seed, quick: run(row, seed, quick=quick))
    print("\n".join(table([e for e in finished.entries if e["quick"] is given.quick])))


if __name__ == "__main__":
    main()
