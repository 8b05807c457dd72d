"""LaMsS' ablations differ by their configs alone, and run from the first stage on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from running import ROOT, main, tiny

pytestmark = pytest.mark.usefixtures("own_cache")
MAIN = ROOT / "configs" / "lamss_facts.yaml"
ABLATIONS = {
    "lamss_no_interleave": {"interleave": False},
    "lamss_two_levels": {"num_levels": 2},
    "lamss_graded_query": {"interleave_query": True},
}


@pytest.mark.fidelity("lamss", 10)
def test_ablations_differ_by_config_alone() -> None:
    """No interleaving, two levels: one key beside the main config. No pre-training: no stage 1."""
    main_args = yaml.safe_load(MAIN.read_text())
    for name, change in ABLATIONS.items():
        other = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
        init = dict(main_args["model"]["init_args"])
        if not change.get("interleave", True):
            del init["sigma_weight"]  # has no part in it
        assert other["model"]["init_args"] == {**init, **change}
        assert {k: v for k, v in other.items() if k != "model"} == {
            k: v for k, v in main_args.items() if k != "model"
        }
    stage = yaml.safe_load((ROOT / "configs" / "lamss_no_cpt.yaml").read_text())
    assert stage["model"]["init_args"]["interleave"] is False


@pytest.mark.fidelity("lamss", 10)
@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_run_from_stage_one(name: str, tmp_path: Path, read: Path) -> None:
    """Stage 1 (with and without levels), its export, and stage 2 from that folder.

    The main config goes the same way in test_verbs.py.
    """
    small = ("--model.max_answer_tokens", "3")
    short = ("--data.max_train", "8", "--data.max_val", "2", "--data.batch_size", "4")
    steps = ("--trainer.max_steps", "1", "--trainer.logger", "false")
    out = read
    if name != "lamss_graded_query":
        first = "lamss_no_cpt" if name == "lamss_no_interleave" else "lamss_cpt"
        levels = ("--model.num_levels", "2") if name == "lamss_two_levels" else ()
        ckpt, out = tmp_path / "one" / "checkpoints" / "last.ckpt", tmp_path / "export"
        run = (*tiny(first), *small, *levels, *short, *steps)
        main("fit", *run, "--trainer.default_root_dir", str(tmp_path / "one"))
        main("export", *run, "--ckpt_path", str(ckpt), "--output", str(out))
    main(
        *("fit", *tiny(name), *small, *short, *steps),
        *("--model.backbone.name", str(out), "--trainer.val_check_interval", "1"),
        *("--trainer.default_root_dir", str(tmp_path / "two")),
    )
    state = torch.load(tmp_path / "two" / "checkpoints" / "last.ckpt", weights_only=True)
    rows = state["state_dict"]["lm.model.embed_tokens.weight"].shape[0]
    assert rows == 259 + (2 if name == "lamss_two_levels" else 5)
