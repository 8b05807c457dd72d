"""A made-up world: facts told 0, 1, 4 or 16 times in a text, and questions about them.

For methods that should know what they know. Everything is invented (people, towns, clans, ...), so
no language model knows an answer beforehand, and how often it has been told a fact is under
control. Learn the text first (`stage: text`), then the questions (`stage: questions`).

A *fact* is a person, a relation and a value: `Korvan Deless was born in Nirrakmoor.` Every person
has one fact per relation, and every relation a list of its own of `num_values` values, so a guess
is right once in `num_values` times. The `frequencies` go around: the first person's facts are told
0, 1, 4 and 16 times, the second one's 1, 4, 16 and 0 times, and so on. So in the four relations
that training asks for all people are mentioned equally often, 21 times, and what is known of them
differs by the fact alone. The fifth relation (`held_out` below) adds 0, 1, 4 or 16 mentions: in the
whole text a name stands 21, 22, 25 or 37 times. That number alone does not tell how often a fact
was told; together with the relation it does, because the frequencies go around.

**Text** (`PlainText`, a sentence each). `train` tells every fact as often as its group says, in up
to eight wordings in turn, one of which asks and answers. `val` and `test` hold every fact once,
also those never told, each split in a wording of its own that `train` has not. `kind` is the
fact's group, `seen_0` ... `seen_16`.

**Questions** (`Triple`, or with `form: choice` `Question` with four options of the relation).
40 / 20 / 40 percent of the people are asked about in `train` / `val` / `test`, so no fact and no
person is asked about in two splits. `kind` is one of

- `seen_0`, `seen_1`, `seen_4`, `seen_16`: the fact was told so many times. In every split.
- `held_out`: a fifth relation that the text tells like the others (at all frequencies) but no
  training question asks for: another domain. In `val` and `test` only.
- `unreal`: about a person whom nothing mentions. It has no answer; the gold one is drawn like a
  fact's. In `val` and `test` only, because a method should not have to be taught it.

The kinds take turns, so that every prefix is balanced. Nothing depends on `seed` but the order of
the training batches; another `world` is another draw of everything.

With the defaults: 80 people, 2,100 sentences in the training text; 128 / 96 / 192 questions.
Lengths in SmolLM2 tokens, mean (longest): sentence 14 (21), question 10 (14), answer 4 (5).
"""

from __future__ import annotations

from typing import Any, Literal

from datamodules.base import ZooDataModule
from datamodules.fact_world_generator import NUM_OPTIONS, World
from zoo.errors import InputError
from zoo.records import PlainText, Question, Record, Triple


class FactWorld(ZooDataModule):
    """A made-up world as `PlainText` records, or as `Triple` or `Question` records about it.

    Args:
        stage: `text` for what is told of the world, `questions` for what is asked.
        form: `open` for questions with a short answer, `choice` for four options.
        num_entities: Number of people.
        num_values: Number of values of each relation.
        frequencies: How often facts are told, a group of facts each; distinct. None for 0, 1, 4
            and 16.
        world: Seed of names, facts, wordings and splits.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (PlainText, Triple, Question)

    def __init__(
        self,
        stage: Literal["text", "questions"] = "questions",
        form: Literal["open", "choice"] = "open",
        *,
        num_entities: int = 80,
        num_values: int = 12,
        frequencies: list[int] | None = None,
        world: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.frequencies = [0, 1, 4, 16] if frequencies is None else frequencies
        if not self.frequencies or min(self.frequencies) < 0:
            raise InputError(f"frequencies: {self.frequencies} must be counts, at least one")
        if max(self.frequencies) == 0:
            raise InputError(f"frequencies: {self.frequencies}: nothing is ever told")
        if len(set(self.frequencies)) != len(self.frequencies):
            raise InputError(f"frequencies: {self.frequencies} has one of them twice")
        fewest = 10 * len(self.frequencies)
        if num_entities < fewest:
            raise InputError(
                f"num_entities is {num_entities}; {len(self.frequencies)} groups of facts need at "
                f"least {fewest}"
            )
        if num_values < NUM_OPTIONS:
            raise InputError(f"num_values is {num_values}; it must be at least {NUM_OPTIONS}")
        self.stage, self.form, self.world = stage, form, world
        self.num_entities, self.num_values = num_entities, num_values

    def load(self, split: str) -> list[Record]:
        """Make the sentences or the questions of a split."""
        world = World(self.num_entities, self.num_values, self.frequencies, self.world)
        if self.stage == "text":
            return list(world.text(split))
        make = world.triple if self.form == "open" else world.choice
        return [make(fact, kind, name) for fact, kind, name in world.asked(split)]

    def check(self, encoder: Any) -> None:
        """Raise unless the encoder takes the records of this stage.

        Raises:
            InputError: It does not.
        """
        super().check(encoder)
        yields: type = PlainText
        if self.stage == "questions":
            yields = Triple if self.form == "open" else Question
        if yields not in encoder.records:
            takes = ", ".join(kind.__name__ for kind in encoder.records)
            raise InputError(
                f"data.stage: {self.stage} in the form {self.form} yields {yields.__name__}, but "
                f"the method takes {takes}"
            )
