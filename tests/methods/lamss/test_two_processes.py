"""Questions whose words are graded one by one, read in two processes (gloo) that share blocks."""

from __future__ import annotations

from pathlib import Path

from process_pair import SHARDED, ProcessPair, recorded
from running import scalars, tiny

GIVEN = (
    *("--data.max_train", "4", "--data.max_val", "2", "--data.batch_size", "1"),
    *("--data.eval_batch_size", "2", "--model.max_answer_tokens", "2"),
    *("--trainer.max_steps", "1", "--trainer.check_val_every_n_epoch", "null"),
    *("--trainer.val_check_interval", "1"),
)


def test_questions_of_unequal_length_end_together(tmp_path: Path, pair: ProcessPair) -> None:
    """With two examples at once the processes hold different questions; none waits for ever."""
    graded = (*tiny("lamss_graded_query"), "--model.interleave_query", "true")
    pair.run(*recorded(tmp_path / "two", *graded, *GIVEN, *SHARDED))
    assert "val/accuracy" in scalars(tmp_path / "two")
