"""EmoryNLP: scenes of the TV series Friends, an emotion on every turn (Zahiri and Choi, 2018).

`emorynlp_train_final.csv`, `emorynlp_dev_final.csv`, `emorynlp_test_final.csv`, each plain or
gzipped, with the columns `Utterance`, `Speaker` (a list of names, as Python writes it), `Emotion`,
`Scene_ID`, `Season`, `Episode` and others. Rows of one season, episode and scene are a scene. Those
who speak at once are one more speaker, `Monica Geller and Phoebe Buffay`.
"""

from __future__ import annotations

import ast

from datamodules.friends import Friends
from datamodules.tables import cell
from zoo.errors import InputError


class EmoryNLP(Friends):
    """EmoryNLP as `Scene` records; scenes of one speaker are left out."""

    sample = "emorynlp.csv"
    stems = {
        "train": "emorynlp_train_final",
        "val": "emorynlp_dev_final",
        "test": "emorynlp_test_final",
    }
    place = ("Season", "Episode", "Scene_ID")

    def speaker(self, row: dict[str, str], where: str) -> str:
        """Return the names of a cell such as `['Monica Geller', 'Phoebe Buffay']` as one.

        Raises:
            InputError: It is something else; nothing in it is ever run.
        """
        written = cell(row, "Speaker", where)
        try:
            names = ast.literal_eval(written)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            names = None
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise InputError(
                f"{where}: column 'Speaker' is {written[:60]!r}; a list such as ['Ross']"
            )
        if not all(name.strip() for name in names):
            raise InputError(f"{where}: column 'Speaker' has an empty name")
        return " and ".join(name.strip() for name in names)
