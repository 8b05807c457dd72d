"""MELD: dialogues of the TV series Friends, an emotion on every turn (Poria et al., ACL 2019).

`train_sent_emo.csv`, `dev_sent_emo.csv`, `test_sent_emo.csv`, each plain or gzipped, with the
columns `Utterance`, `Speaker`, `Emotion`, `Dialogue_ID`, `Season`, `Episode` and others. Rows of
one `Dialogue_ID` are a dialogue, in the order of the file.
"""

from __future__ import annotations

from datamodules.friends import Friends


class MELD(Friends):
    """MELD as `Scene` records, one per dialogue; those of one speaker are left out."""

    sample = "meld.csv"
    stems = {"train": "train_sent_emo", "val": "dev_sent_emo", "test": "test_sent_emo"}
    place = ("Dialogue_ID",)
