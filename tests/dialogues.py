"""A dialogue that tests of several support methods share."""

from __future__ import annotations

from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn

TALK = Dialogue(
    (
        Turn(SEEKER, "I lost my job."),
        Turn(SUPPORTER, "When?", strategy="Question"),
        Turn(SEEKER, "Last week."),
        Turn(SUPPORTER, "You will find one.", strategy="Affirmation and Reassurance"),
    ),
    emotion="sadness",
    id="talk:1",
)
