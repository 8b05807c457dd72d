"""The verbs: help, printed settings, short overrides, check, generate."""

from __future__ import annotations

import contextlib
import io
import json
import re
import time
from pathlib import Path

import pytest
import yaml
from running import LORA, METHANOL, ROOT, main, overlays

from zoo.cli.lightning_cli import ZooCLI

CONFIG = METHANOL[1]
VERBS = sorted(ZooCLI.subcommands())
NEEDS = {
    "export": ("--ckpt_path", "x", "--output", "y"),
    "index": ("--output", "y"),
    "search": ("--index", "y"),
}


def printed(*args: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stopped:
        main(*args)
    assert stopped.value.code in (0, None)
    return out.getvalue()


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb: str) -> None:
    text = printed(verb, "--help")
    assert "--config" in text
    assert "--trainer.max_steps" in text


def test_help_lists_the_verbs() -> None:
    text = printed("--help")
    for verb in VERBS:
        assert re.search(rf"^\s+{verb}\s", text, re.MULTILINE), verb


@pytest.mark.parametrize("method", ["zoo.MeTHanol", "zoo.SFT"])
def test_help_of_a_method(method: str) -> None:
    text = " ".join(printed("fit", f"--model.help={method}").split())
    assert "Limit of a generated answer" in text
    assert "AdamW and its schedule" in text


@pytest.mark.parametrize("verb", VERBS)
def test_print_config(verb: str) -> None:
    content = yaml.safe_load(
        printed(verb, "--config", CONFIG, *NEEDS.get(verb, ()), "--print_config")
    )
    assert content["model"]["init_args"]["backbone"]["name"] == "smollm2-135m"
    assert content["model"]["init_args"]["optimizer"]["weight_decay"] == 0.01  # a default
    assert content["trainer"]["gradient_clip_val"] == 1.0


def test_short_overrides(tmp_path: Path) -> None:
    """No `init_args` on the command line; later arguments win; the rest of the file stays."""
    folder = str(tmp_path)
    text = printed(
        *("fit", "--config", str(ROOT / "configs" / "methanol_tomi.yaml")),
        *("--model.thinking_layer", "2", "--model.backbone.name", "tiny-llama"),
        *("--model.optimizer.lr=0.5", "--data.path", folder, "--print_config"),
    )
    content = yaml.safe_load(text)
    model, data = content["model"]["init_args"], content["data"]["init_args"]
    assert (model["thinking_layer"], model["backbone"]["name"]) == (2, "tiny-llama")
    assert (model["optimizer"]["lr"], data["path"]) == (0.5, folder)
    assert model["optimizer"]["schedule"] == "linear"
    assert model["think_weight"] == 1.0


def test_override_reaches_the_run(tmp_path: Path) -> None:
    """`--data.path` of a folder without the files is what the error names."""
    err = io.StringIO()
    args = ("--config", str(ROOT / "configs" / "methanol_tomi.yaml"), *overlays("methanol"))
    with contextlib.redirect_stderr(err), pytest.raises(SystemExit):
        main("fit", *args, "--data.path", str(tmp_path))
    assert err.getvalue().startswith(f"error: {tmp_path}: ")


# -- check -------------------------------------------------------------------------------------


def test_check(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters, memory, masks in colour; nothing is written and no weights are made."""
    monkeypatch.chdir(tmp_path)
    main("check", *METHANOL)
    out = capsys.readouterr().out
    import zoo

    module = zoo.MeTHanol(backbone={"name": "tiny-llama"}, thinking_norm=True)
    module.configure_model()
    total = sum(p.numel() for p in module.parameters())
    assert f"parameters  {total:,}, trainable {total:,}, new {260 * 32:,}\n" in out
    assert "new         norm_before_thinking.weight, thinking_head.weight" in out
    assert re.search(r"memory +about [\d.]+ GiB in training: weights", out)
    sample = out[out.index("sample ") :]
    pieces = re.findall(r"\x1b\[(\d+)m(.*?)\x1b\[0m", sample[sample.index("\n") :], re.DOTALL)
    by_colour = {code: [t for c, t in pieces if c == code] for code in ("2", "32", "36")}
    assert len(by_colour["32"]) == len(by_colour["36"]) == 1
    assert by_colour["32"][0].endswith("<|im_end|>")
    assert by_colour["36"][0].endswith("<|im_end|>")
    assert any("thought" in context for context in by_colour["2"])
    assert not any("thought\n" in learned for learned in by_colour["32"] + by_colour["36"])
    assert not list(tmp_path.iterdir())


def test_check_shows_lengths(capsys: pytest.CaptureFixture[str]) -> None:
    """How many records and tokens, and a histogram whose counts are the examples."""
    main("check", *METHANOL, "--data.max_train", "40")
    out = capsys.readouterr().out
    line = re.search(
        r"examples +40 of 40 records, 0 of them left out, 0 prompts shortened; "
        r"([\d,]+) tokens, ([\d,]+) in the middle, ([\d,]+) at most of a window of ([\d,]+)\n",
        out,
    )
    assert line is not None
    tokens, middle, longest, window = (int(text.replace(",", "")) for text in line.groups())
    assert tokens / 40 <= longest <= window
    assert middle <= longest
    bars = re.findall(r"^ +([\d,]+) to +([\d,]+) +(\d+) +(#*)$", out, re.MULTILINE)
    assert sum(int(count) for _, _, count, _ in bars) == 40
    assert max(len(bar) for _, _, _, bar in bars) == 40
    assert all((int(count) > 0) == bool(bar) for _, _, count, bar in bars)


def test_check_reads_the_head_of_large_data(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr("zoo.cli.trainer.HEAD", 7)
    main("check", *METHANOL, "--data.keep_in_memory", "false")
    out = capsys.readouterr().out
    assert "examples    7 of 7 records" in out
    assert "the first 7 records alone" in out
    assert not (tmp_path / "examples").exists()


def test_check_counts_adapters(capsys: pytest.CaptureFixture[str]) -> None:
    main("check", *METHANOL, "--config", LORA)
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("parameters"))
    total, trained, new = (int(x.replace(",", "")) for x in re.findall(r"[\d,]+\d", line))
    assert new < trained < total


def test_check_ignores_the_cards_of_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    """A config for eight cards can be checked on a laptop."""
    cards = [f"--config={ROOT / 'configs' / 'overlays' / n}.yaml" for n in ("gpu", "fsdp2")]
    main("check", *METHANOL, *cards, "--trainer.accelerator", "gpu")
    assert "parameters" in capsys.readouterr().out


@pytest.mark.slow
def test_check_of_the_real_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    start = time.perf_counter()
    main("check", "--config", CONFIG)
    assert time.perf_counter() - start < 20
    new = 49152 * 576
    assert f"parameters  {134_515_008 + new:,}" in capsys.readouterr().out


# -- generate ----------------------------------------------------------------------------------


def test_generate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Thought and answer beside the gold ones; a prompt of one's own; a thought put in."""
    main("generate", *METHANOL, "--num_records", "2")
    out = capsys.readouterr().out
    assert len(re.findall(r"^query:", out, re.MULTILINE)) == 2
    assert len(re.findall(r"^thought:.*\[gold: ", out, re.MULTILINE | re.DOTALL)) >= 1
    main("generate", *METHANOL, "--prompt", "Hi", "--given", "Greet.")
    out = capsys.readouterr().out
    assert "query:   Hi\nthought: Greet.\nanswer:" in out


def test_generate_and_records_that_are_too_long(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """They are an error that names the option; left out, the next records take their places."""
    queries = ["one", "long " * 400, "two", "three"]
    rows = [json.dumps({"query": query, "answer": "a"}) for query in queries]
    (tmp_path / "test.jsonl").write_text("\n".join(rows))
    args = {"backbone": {"name": "tiny-llama"}, "max_length": 1024, "max_answer_tokens": 2}
    settings = {
        "model": {"class_path": "zoo.SFT", "init_args": {**args, "learn_thought": False}},
        "data": {"class_path": "datamodules.Triples"},
        "trainer": {"accelerator": "cpu", "logger": False},
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    given = ("--config", str(config), "--data.test", str(tmp_path / "test.jsonl"))
    with pytest.raises(SystemExit):
        main("generate", *given)
    error = capsys.readouterr().err
    assert re.search(
        r"error: test\.jsonl:2: [\d,]+ tokens.*data\.too_long: drop leaves such", error
    )
    main("generate", *given, "--data.too_long", "drop", "--num_records", "2")
    out = capsys.readouterr().out
    assert re.findall(r"^query: +(.*)$", out, re.MULTILINE) == ["one", "two"]
    assert "1 records of 'test' left out, the first is test.jsonl:2" in caplog.text
    with pytest.raises(SystemExit):
        main("generate", *given, "--data.too_long", "drop", "--prompt", "long " * 400)
    assert "leaves no room in the window" in capsys.readouterr().err
