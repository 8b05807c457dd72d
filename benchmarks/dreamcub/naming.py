"""A user who rewards the naming of a hidden feeling: learned in imagination, by PPO, or not at all.

    python -m benchmarks.dreamcub --json FILE --folder FOLDER --seeds 0 1 2 3 4
    python -m benchmarks.dreamcub --json FILE --folder FOLDER --seeds 0 1 2 3 4 --every 9

The world is that of `tiny_world.py`: supporters of the data are right in 30 percent of their
replies, and wrong in one certain way in half of them. All rows and seeds begin with one tiny base,
trained from scratch on such dialogues without labels; every row has the same steps of supervised
policy, and the same number of turns with the user, where it has any: in S3 and S4, for PPO in S4.
These are about 300, or 100 with `--every 9`.
Rewards are the user's (`rewards: user`); the emotions of the dialogues are labels for the beliefs.
Scores: mean reward of a turn in fresh dialogues of two turns, replies sampled, and likeliest ones;
how often the posterior names the feeling; how well the reward head tells right from wrong replies
(area under the curve). Resumable: one JSON entry per row and seed. A claim needs five seeds;
`--quick` only shows that everything runs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from torchmetrics.functional.classification import binary_auroc

import zoo
from benchmarks import trials
from benchmarks.dreamcub.tiny_world import (
    WINDOW,
    NamingEnv,
    dialogues,
    feeling_in,
    opposite,
    reward_of,
    trained_base,
)
from benchmarks.training import GivenRecords, quiet_trainer
from zoo.methods.dreamcub.encoder import State
from zoo.records import SEEKER, SUPPORTER, Turn

FRESH = 1_000_000  # number of the first dialogue of a test
TALKS, TESTS, TURNS = 256, 64, 2
LORA = {"rank": 16, "alpha": 32.0}
LENGTHS = {"base": 1500, "policy": 40, "world": 30, "reward": 160, "joint": 400}
QUICK = dict.fromkeys(LENGTHS, 10)
CYCLE = 5  # steps
PER_CYCLE = {"world_per_cycle": 1, "minibatches": 2, "epochs": 2}
BATCH = 16  # dialogues that are imagined from
VISITS = 4  # dialogues of a visit
PPO_EPOCHS = 4
PPO_CYCLE = 4  # times as many dialogues for PPO in every fourth visit, each of them learned from

PPO = {"rollouts": "environment", "schedule": {"world": 0, "reward": 0, "world_per_cycle": 0}}
ROWS: dict[str, dict[str, Any]] = {
    "full": {},
    "SFT": {"joint": 0, "schedule": {"reward": 0}},  # S2 teaches the belief that it is told
    "model-free PPO": {**PPO, "belief_in": []},
    "- belief in the world model": {"belief_in": ["reward", "policy"]},
    "- belief in the reward": {"belief_in": ["observation", "policy"]},
    "- KL": {"weights": {"kl": 0.0}},
    "frozen world model": {"schedule": {"world_per_cycle": 0}},
    "H = 0": {"horizon": 0},
}


def base_in(folder: Path, steps: int) -> str:
    """Return the base, which is trained once and is the same for all rows and seeds."""
    path = folder / f"base-{steps}"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            trained_base(Path(scratch) / "base", 99, steps)
            (Path(scratch) / "base").rename(path)
    return str(path)


def method_of(row: str, base: str, lengths: Mapping[str, int], every: int) -> zoo.DreamCUB:
    """Return the method of a row, which visits the user once in so many cycles.

    A cycle without imagination is one step and one without the world model is four, of five, so
    more of them lie between two visits.
    """
    changes = {name: value for name, value in ROWS[row].items() if name != "joint"}
    stages = {name: lengths[name] for name in ("policy", "world", "reward")}
    schedule = {**stages, **PER_CYCLE, "interact_every": every, **changes.pop("schedule", {})}
    if changes.get("horizon") == 0:
        schedule["interact_every"] = every * CYCLE
    elif row == "frozen world model":
        schedule["interact_every"] = round(every * CYCLE / (CYCLE - 1))
    visits = VISITS
    if changes.get("rollouts") == "environment":
        schedule["epochs"], visits = PPO_EPOCHS, PPO_CYCLE * VISITS
    settings: dict[str, Any] = {
        **WINDOW,
        "user": {"kind": "scripted", "visits": visits, "turns": TURNS, "replayed": 16},
        "rewards": "user",
        "gamma": 0.5,  # dialogues end after two turns
        "world_lr": 3e-3,
        "critic_lr": 3e-3,
        "kappa": 0.01,
    }
    optimizer = zoo.Optimizer(
        lr=1e-3, schedule="constant", warmup_ratio=0.0, weight_decay=0.0, beta2=0.95
    )
    backbone = zoo.Backbone(base, lora=zoo.LoRA(**LORA))
    module = zoo.DreamCUB(backbone, optimizer, schedule=schedule, **{**settings, **changes})
    module.learning.env = NamingEnv()
    return module


@torch.no_grad()
def mean_reward(module: Any, tests: int, temperature: float) -> float:
    """Return the mean reward of a turn of fresh dialogues."""
    env, won = NamingEnv(), 0.0
    module.temperature = temperature
    decisions = [env.open(FRESH + i) for i in range(tests)]
    for _ in range(TURNS):
        replies = [Turn(SUPPORTER, answer.reply) for answer in module.respond(decisions)]
        answers = [env.answer(*pair) for pair in zip(decisions, replies, strict=True)]
        won += sum(answer.reward or 0.0 for answer in answers)
        decisions = [
            replace(d, turns=(*d.turns, reply, Turn(SEEKER, answer.utterance or "")))
            for d, reply, answer in zip(decisions, replies, answers, strict=True)
        ]
    return won / (tests * TURNS)


def world_scores(module: Any, tests: int) -> dict[str, float]:
    """Return how often the posterior is right, and the area under the curve of the reward head."""
    env = NamingEnv()
    states = [State(env.open(FRESH + i)) for i in range(tests)]
    states = module.quietly(lambda: module.world.infer(states))
    felt = [feeling_in(state.decision.query) for state in states]
    named = [opposite(f) if i % 2 else f for i, f in enumerate(felt)]
    replies = [Turn(SUPPORTER, f"{name}?") for name in named]
    scores = module.quietly(lambda: module.world.rewards(states, replies))
    right = torch.tensor([reward_of(f, r.text) for f, r in zip(felt, replies, strict=True)])
    hits = [(s.belief or ("",))[0] == f for s, f in zip(states, felt, strict=True)]
    area = binary_auroc(scores, right.long())
    return {"posterior": sum(hits) / tests, "reward_area": float(area)}


def run(row: str, seed: int, every: int, quick: bool, folder: Path) -> trials.Entry:
    """Train and test one row."""
    lengths, tests = (QUICK, 8) if quick else (LENGTHS, TESTS)
    module, start = method_of(row, base_in(folder, lengths["base"]), lengths, every), time.time()
    lightning.seed_everything(seed, verbose=False)
    trainer = quiet_trainer(max_steps=steps_of(row, module, lengths, every), gradient_clip_val=1.0)
    trainer.fit(module, GivenRecords(dialogues(TALKS, seed), batch_size=BATCH))
    module.eval()
    torch.manual_seed(seed)
    metrics = {
        "reward": mean_reward(module, tests, module.temperature_of_policy),
        "likeliest": mean_reward(module, tests, 0.0),
        **world_scores(module, tests),
        "user_turns": float(len(module.learning.replay.kept)),
    }
    seconds = round(time.time() - start)
    names = {"row": row, "seed": seed, "every": every, "quick": quick}
    return {**names, "metrics": metrics, "seconds": seconds}


def steps_of(row: str, module: zoo.DreamCUB, lengths: Mapping[str, int], every: int) -> int:
    """Return the optimiser steps of a row: as many turns with the user for all that meet him."""
    schedule = module.schedule
    early = sum(part or 0 for part in (schedule.policy, schedule.world, schedule.reward))
    visits = lengths["joint"] // CYCLE
    if module.rollouts == "environment":  # what the others do in S3 too
        visits = (visits + lengths["reward"] // CYCLE) // every
        return early + visits // PPO_CYCLE * schedule.updates
    return early + int(ROWS[row].get("joint", lengths["joint"]))


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
    parser.add_argument("--folder", type=Path, required=True, help="keeps the base")
    parser.add_argument("--every", type=int, default=3, help="cycles between visits to the user")
    parser.add_argument("--quick", action="store_true", help="a few steps: does it run?")
    given = parser.parse_args()
    torch.set_num_threads(1)
    finished = trials.FinishedRows(given.json, "row", "seed", "every", "quick")
    jobs = [(row, seed, given.every, given.quick) for seed in given.seeds for row in given.rows]
    if not given.table:
        given.folder.mkdir(parents=True, exist_ok=True)
        finished.run(jobs, partial(run, folder=given.folder))
    shown = trials.of_row(finished.entries, every=given.every, quick=given.quick)
    print("\n".join(table(shown)))


if __name__ == "__main__":
    main()
