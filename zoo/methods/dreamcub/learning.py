"""One run of all stages: which loss a step has, imagination, visits, and what resuming needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger

from zoo import parallel
from zoo.adapters import using
from zoo.backbone import Backbone, as_config
from zoo.encoding import Batch
from zoo.judges.local import LocalLLM
from zoo.losses.cross_entropy import Term
from zoo.methods.dreamcub.behaviour import Buffer
from zoo.methods.dreamcub.encoder import State, heard
from zoo.methods.dreamcub.environment import LLMEnv, ReplayEnv, ScriptedEnv, UserEnv
from zoo.methods.dreamcub.imagination import Rollout, imagine, roll
from zoo.methods.dreamcub.replay import Experience, Replay
from zoo.methods.dreamcub.roles import POLICY
from zoo.methods.dreamcub.schedule import StepPlan
from zoo.methods.dreamcub.world_model import Graded
from zoo.records import SUPPORTER, Turn
from zoo.support.decisions import Decision, transcript

if TYPE_CHECKING:
    from zoo.methods.dreamcub.module import DreamCUB

SHOWN = 3  # imagined dialogues in TensorBoard


class Learning:
    """The phases of a run; everything that it remembers is in `state`.

    Args:
        module: What learns.
    """

    def __init__(self, module: DreamCUB) -> None:
        self.module = module
        self.replay = Replay()
        self.buffer: Buffer | None = None
        self.env: UserEnv | None = None  # one given in Python wins over `module.user`

    def phase(self, step: int) -> StepPlan:
        """Return what a step does."""
        module = self.module
        acts = module.horizon > 0 or module.rollouts == "environment" or module.behaviour == "dpo"
        return module.schedule.phase(step, imagines=acts)

    def losses(self, batch: Batch, batch_idx: int) -> dict[str, Term]:
        """Return the terms of a training step."""
        module = self.module
        phase = self.phase(module.global_step)
        micro = batch_idx % module.trainer.accumulate_grad_batches
        graded = phase.stage == "reward" and module.rewards == "user"
        if phase.begins and micro == 0 and (graded or phase.stage == "joint"):
            self.visit(phase)
        stages = ("policy", "world", "reward", "joint")
        module.log("train/stage", stages.index(phase.stage) + 1, prog_bar=True)
        if phase.loss == "policy":
            return module.speak_loss(batch)
        if phase.loss != "behaviour":
            return self.world_losses(batch)
        if module.behaviour == "dpo":
            states = self.told(batch)
            worse = self.sampled(states, module.temperature_of_policy)
            better = [state.decision.target for state in states]
            return module.actor.preference_losses(states, better, worse)
        if self.buffer is None or (phase.index == 0 and micro == 0):
            self.dream(batch)
        return module.actor.behaviour_losses(self.part(phase, micro))

    @property
    def pairs(self) -> bool:
        """Whether the run comes to rewards of pairs."""
        return self.module.rewards == "pairs" and self.module.schedule.learns_pairs

    # -- the world model on real data ----------------------------------------------------------

    def world_losses(self, batch: Batch, *, validating: bool = False) -> dict[str, Term]:
        """Return L_world of a batch: of what the phase learns, or of what the run comes to."""
        module, schedule = self.module, self.module.schedule
        states = [module.encoder().state(record) for record in batch.records]
        if validating:
            if not schedule.learns_world:
                return {}
            names = [state.decision.id for state in states]
            worse = self.replies(self.sampled(states, 0.0)) if self.pairs else None
            return module.world.losses(states, batch.normalizers, names=names, worse=worse)
        phase, step = self.phase(module.global_step), module.global_step
        names = [f"{state.decision.id}-{step}" for state in states]
        worse = None
        if phase.loss == "reward" and module.rewards == "pairs":
            worse = self.replies(self.sampled(states, module.temperature_of_policy))
        lived = self.replay.sample(module.user.replayed, f"{step}")
        terms = module.world.losses(
            states, batch.normalizers, names=names, worse=worse, graded=self.graded(lived)
        )
        after = [each.following or each.decision for each in lived]
        # As many in every process: sharded weights are gathered by all of them.
        if after and module.weights.observation:
            terms["met"] = module.world.utterances(self.believed(after), float(len(after)))
        return terms

    def graded(self, lived: Sequence[Experience]) -> list[Graded]:
        """Return turns with the user's grades, None where he gave none.

        Those without one are among them: sharded weights are gathered by all processes, and a
        judge may fail in one of them.
        """
        if self.module.user.kind == "replay" and self.env is None or not lived:
            return []
        states = self.believed([each.decision for each in lived])
        pairs = zip(states, lived, strict=True)
        return [(state, each.decision.target, each.reward) for state, each in pairs]

    def believed(self, decisions: Sequence[Decision]) -> list[State]:
        """Return states with a belief that is sampled now: no data label them."""
        states, step = [State(decision) for decision in decisions], self.module.global_step
        if not states:
            return []
        names = [f"{state.decision.id}-{step}" for state in states]
        return self.module.quietly(lambda: self.module.world.infer(states, names))

    def told(self, batch: Batch) -> list[State]:
        """Return the states of a batch with the belief of the data."""
        return [self.module.encoder().state(record) for record in batch.records]

    def sampled(self, states: Sequence[State], temperature: float) -> list[list[int]]:
        """Return a reply of the policy in each state as token ids."""
        module = self.module
        with using(module.lm, POLICY):
            return module.write([module.actor.prompt(state) for state in states], temperature)

    def replies(self, rows: Sequence[list[int]]) -> list[Turn]:
        """Return token ids as replies."""
        texts = [self.module.tokenizer.decode(row, skip_special_tokens=True) for row in rows]
        return [self.module.encoder().read_reply(text) for text in texts]

    # -- imagination ---------------------------------------------------------------------------

    def dream(self, batch: Batch) -> None:
        """Fill the buffer: imagine from the states of a batch, or ask a user."""
        module, real = self.module, list[str]()
        if module.rollouts == "environment":
            rollout = module.quietly(lambda: self.live(module.user.visits, module.user.turns))
        else:
            states = [State(record) for record in batch.records]
            real = [transcript((*d.turns, d.target)) for d in batch.records]
            lived = self.replay.sample(len(states), f"dream-{module.global_step}")
            states += [State(replace(each.decision, target=Turn(SUPPORTER, ""))) for each in lived]
            names = [
                f"{state.decision.id}-{module.global_step}-{i}" for i, state in enumerate(states)
            ]
            rollout = module.quietly(lambda: imagine(module, states, names))
        self.buffer = rollout.buffer
        self.report(rollout, module.rollouts, real)

    def part(self, phase: StepPlan, micro: int) -> Buffer:
        """Return the turns that a micro-batch learns from."""
        assert self.buffer is not None
        epoch, place = divmod(phase.index, self.module.schedule.minibatches)
        seed = torch.Generator().manual_seed(1000 * phase.cycle + epoch)
        order = torch.randperm(len(self.buffer), generator=seed).tolist()
        mine = order[place :: self.module.schedule.minibatches]
        rows = mine[micro :: self.module.trainer.accumulate_grad_batches]
        return self.buffer.part(rows or mine or order[:1])

    # -- the user ------------------------------------------------------------------------------

    def visit(self, phase: StepPlan) -> None:
        """Every M cycles: talk to the user, and remember it."""
        module = self.module
        due = phase.cycle % module.schedule.interact_every == 0
        if module.rollouts == "environment" or module.user.kind == "none" and self.env is None:
            return
        if due:
            rollout = module.quietly(lambda: self.live(module.user.visits, module.user.turns))
            self.report(rollout, "visit")

    def live(self, count: int, turns: int) -> Rollout:
        """Lead dialogues with the user; what happens is remembered once the step is finished."""
        module, env, replay = self.module, self.user(), self.replay
        first = (replay.opened + replay.fresh_opened) * module.trainer.world_size
        first += count * module.trainer.global_rank
        begun = [State(env.open(first + i)) for i in range(count)]
        replay.fresh_opened += count

        def respond(now: Sequence[State], given: Sequence[Turn], k: int) -> Any:
            answers = [env.answer(s.decision, a) for s, a in zip(now, given, strict=True)]
            after: list[State | None] = []
            for n, (state, reply, answer) in enumerate(zip(now, given, answers, strict=True)):
                said = answer.utterance
                after.append(None if said is None else heard(state, reply, said))
                if alive[n]:
                    following = after[-1].decision if after[-1] is not None else None
                    lived = replace(state.decision, target=reply)
                    replay.fresh.append(Experience(lived, answer.reward, following))
                    alive[n] = following is not None
            rewards = [answer.reward or 0.0 for answer in answers]
            rated = [answer.reward is not None for answer in answers]
            known = self.inferred([s or old for s, old in zip(after, now, strict=True)], f"{k}")
            after = [s and b for s, b in zip(after, known, strict=True)]
            return torch.tensor(rewards, device=module.device), rated, after

        alive = [True] * count
        return roll(module, self.inferred(begun, "open"), turns, respond)

    def inferred(self, states: Sequence[State], name: str) -> list[State]:
        """Return states with a sampled belief, if the policy is told one."""
        if not self.module.believes("policy"):
            return list(states)
        step = self.module.global_step
        return self.module.world.infer(states, [f"{s.decision.id}-{step}-{name}" for s in states])

    def user(self) -> UserEnv:
        """Return the environment, made when it is first asked for."""
        module = self.module
        if self.env is None and module.user.kind == "scripted":
            self.env = ScriptedEnv(seed=module.user.seed)
        elif self.env is None and module.user.kind == "replay":
            self.env = ReplayEnv(module.encoder().dialogues, module.labels, module.user.seed)
        elif self.env is None:
            simulator = as_config(Backbone, module.user.simulator)
            judge = LocalLLM.load(simulator, device=str(module.device))
            talks = [d.situation for d in module.encoder().dialogues.values() if d.situation]
            self.env = LLMEnv(judge, talks, module.user.seed)
        return self.env

    # -- logs, checkpoints ---------------------------------------------------------------------

    def report(self, rollout: Rollout, kind: str, real: Sequence[str] = ()) -> None:
        """Log the scores of a rollout; show some dialogues, real ones beside imagined ones."""
        module = self.module
        for name, value in rollout.scores.items():
            shown = kind != "visit" and name in ("return", "kl", "entropy")
            module.log(f"{kind}/{name}", value, prog_bar=shown)
        turns = len(self.replay.kept) + len(self.replay.fresh)
        module.log("train/user_turns", turns)
        board = module.logger
        if isinstance(board, TensorBoardLogger):
            texts = [transcript(state.decision.turns) for state in rollout.states[:SHOWN]]
            pairs = zip_longest(texts, real[: len(texts)], fillvalue="")
            rows = [f"| {kind} | real |", "|---|---|", *(side_by_side(*pair) for pair in pairs)]
            board.experiment.add_text(f"{kind}/dialogues", "\n".join(rows), module.global_step)

    def state(self) -> list[dict[str, Any]]:
        """Return what each process remembers, for a checkpoint; called in all of them."""
        buffer = None if self.buffer is None else self.buffer.state()
        return parallel.gathered({"replay": self.replay.state(), "buffer": buffer})

    def load(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take what `state` returned, this process its own part."""
        trainer = self.module._trainer
        own = states[(trainer.global_rank if trainer else 0) % len(states)]
        self.replay.load(own["replay"])
        device = self.module.device
        self.buffer = None if own["buffer"] is None else Buffer.of(own["buffer"], device)


def side_by_side(*texts: str) -> str:
    """Return texts as a row of a Markdown table."""
    cells = (text.replace("|", "\\|").replace("\n", "<br>") for text in texts)
    return f"| {' | '.join(cells)} |"
