"""How the translator draws tokens and lines."""

import math
from typing import Any

import pytest
import torch

from zoo.decoding.constrained import keep_only, pick
from zoo.errors import InputError
from zoo.methods.alpo.prompts import read_lines
from zoo.methods.alpo.writing import OUT, Nucleus, begin, ends_after, first_lines, write_lines


def test_tokens_are_drawn_from_the_nucleus():
    """Of the best k, the fewest that hold the share p, at this temperature."""
    shares = torch.tensor([[0.4, 0.05, 0.3, 0.25]])
    logits = shares.log()

    def kept(**options):
        return Nucleus(**{"temperature": 1.0, "top_p": 1.0, "top_k": 0, **options}).keep(logits)

    def drawn(**options):
        return (kept(**options) > OUT).nonzero()[:, 1].tolist()

    assert drawn() == [0, 1, 2, 3]
    assert drawn(top_k=2) == [0, 2]
    assert drawn(top_p=0.6) == [0, 2]
    assert drawn(top_p=0.72) == [0, 2, 3]
    assert drawn(top_p=0.39) == [0]
    assert drawn(top_p=0.6, top_k=2) == [0, 2]
    assert drawn(top_p=0.55, top_k=2) == [0]  # 0.4 of 0.7
    assert drawn(top_p=0.6, temperature=0.25) == [0]
    assert drawn(temperature=0.0) == [0, 1, 2, 3]
    assert kept(top_k=2)[0, 0] == logits[0, 0]


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0}, {"top_p": 2}, {"top_k": -1}])
def test_values_that_mean_nothing_are_refused(wrong):
    with pytest.raises(InputError, match=f"x.{next(iter(wrong))}"):
        Nucleus(**wrong).check("x")


def test_a_row_ends_after_its_lines(make):
    tokenizer = make("SFT", "tiny-llama").tokenizer
    allowed = ends_after(tokenizer, 2, 258)
    ids = tokenizer.encode("1. a\n\n2. b\n")
    assert allowed(0, []) is None
    assert [allowed(0, ids[: n + 1]) for n in range(len(ids))] == [None] * (len(ids) - 1) + [[258]]
    assert first_lines("1. a\n\n2. b\n3. c", 2) == "1. a\n2. b"


def test_rows_of_one_prompt_are_run_once(make, monkeypatch):
    """With one seed they are those of a decoder that was fed the prompt in every row."""
    model = make("SFT", "tiny-llama").eval()
    prompt = model.encoder().ids("Translate these lines")
    (line_break,) = model.tokenizer.encode("\n")
    plain_logits = model.last_logits

    def with_breaks(states_BD):  # about one token in ten
        logits_BV = plain_logits(states_BD).clone()
        logits_BV[:, line_break] = logits_BV.logsumexp(-1) - math.log(9)
        return logits_BV

    monkeypatch.setattr(model, "last_logits", with_breaks)
    plain = model.new_decoder(8)
    with torch.no_grad():
        decoder = begin(model, prompt, 8)
        assert decoder.mask_BL.shape == (8, len(prompt))
        plain.feed([prompt] * 8, 0)
        texts = []
        for rows in (decoder, plain):
            torch.manual_seed(0)
            texts.append(write_lines(model, rows, 2, Nucleus(1.0, 1.0, 0), 24))
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 4


def test_a_row_may_end_though_the_end_is_not_drawn_from():
    """Rows that have ended are only allowed the end, which the nucleus may have left out."""
    logits = Nucleus(0.3, 0.5, 2).keep(torch.arange(9.0)[None])
    assert pick(keep_only(logits, [[0]]), 0.3).tolist() == [0]


def test_blank_lines_are_no_lines_of_a_row(make: Any) -> None:
    tokenizer = make("SFT", "tiny-llama").tokenizer
    allowed = ends_after(tokenizer, 2, 258)
    ids = tokenizer.encode("1. a\n \n2. b\n")
    assert [allowed(0, ids[: n + 1]) for n in range(len(ids))] == [None] * (len(ids) - 1) + [[258]]
    assert first_lines("1. a\n \n2. b\n3. c", 2) == "1. a\n2. b"


@pytest.mark.parametrize("limit", [64, 20])
def test_a_line_that_the_limit_cuts_off_is_no_line(
    make: Any, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """A whole line ends with its break or the end of the turn; of a row without one it is gone."""
    model = make("SFT", "tiny-llama").eval()
    stop_id, encode = model.encoder().stop_id, model.tokenizer.encode
    script = [
        encode("1. a\n2. " + "b" * (limit - 9) + "\n"),  # its break is the last token there is
        encode("1. a\n2. " + "b" * limit),
        encode("1. " + "b" * limit),
        [*encode("1. a\n2. b"), stop_id],
        [*encode("1. a\n2. " + "b" * (limit - 9)), stop_id],  # one token below the limit
    ]
    assert len(script[0]) == len(script[4]) == limit
    steps = iter(range(limit))

    def scripted(states_BD: torch.Tensor) -> torch.Tensor:
        step = next(steps)
        wanted = [row[step] if step < len(row) else stop_id for row in script]
        return torch.nn.functional.one_hot(torch.tensor(wanted), 400).float()

    monkeypatch.setattr(model, "last_logits", scripted)
    with torch.no_grad():
        decoder = begin(model, model.encoder().ids("Translate"), len(script))
        found = write_lines(model, decoder, 2, Nucleus(0.0), limit)
    whole = "1. a\n2. " + "b" * (limit - 9)
    assert found == [whole, "1. a", "", "1. a\n2. b", whole]
    valid = [read_lines(text, 1, 2) is not None for text in found]
    assert valid == [True, False, False, True, True]
