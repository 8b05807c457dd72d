"""FiSMiness' loss: what is learned, as the weighted sum of means over examples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods.fisminess.fisminess_reference import ONE, OTHER, TWO, WIDE, Reference, learned

from zoo.encoding import sum_head_weights
from zoo.records import SUPPORTER


@pytest.mark.fidelity("fisminess", 6)
@pytest.mark.parametrize("two", TWO)
def test_labels_and_loss(make: Any, two: str) -> None:
    """Only targets are learned; L is the weighted sum of the means over examples of token means."""
    module = make("FiSMiness", two, spread=3.0, weights=[1.0, 0.5, 2.0], **WIDE)
    encoder, reference = module.encoder(), Reference(module)
    examples = encoder(ONE)
    assert len(examples) == 3 * 4
    end = encoder.chat.end
    labels: dict[int, tuple[str, str]] = {
        i: ("sadness", t.strategy) for i, t in enumerate(ONE.turns)
    }
    means: dict[str, list[float]] = {"emotion": [], "strategy": [], "reply": []}
    places = [i for i, t in enumerate(ONE.turns) if t.speaker == SUPPORTER]
    for n, example in enumerate(examples):
        i, task = places[n // 3], tuple(means)[n % 3]
        turn = ONE.turns[i]
        targets = {"emotion": "sadness", "strategy": turn.strategy, "reply": f" {turn.text}"}
        assert learned(example, module.tokenizer) == targets[task] + end
        state = reference.lines(ONE, i, labels)
        state += "Emotion: sadness\n" if n % 3 > 0 else ""
        state += f"Strategy: {turn.strategy}\n" if n % 3 > 1 else ""
        prompt = reference.prompt(ONE, state, task)
        assert prompt.endswith("Supporter:") == (task == "reply")  # the reply goes on from there
        ids = module.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        target = module.tokenizer(targets[task] + end, add_special_tokens=False)["input_ids"]
        assert example.input_ids == ids + target
        with torch.no_grad():
            logits = module.lm(torch.tensor([ids + target])).logits[0, len(ids) - 1 : -1]
        nll = torch.nn.functional.cross_entropy(logits.float(), torch.tensor(target))
        means[task].append(float(nll))
    batch = encoder.collate(examples, sum_head_weights(examples))
    terms = module.losses(batch)
    expected = {task: sum(values) / 4 for task, values in means.items()}
    for task, value in expected.items():
        assert float(terms[task].loss) == pytest.approx(value, rel=1e-4)
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})
    module.trainer = None
    module.log_terms = lambda stage, t: logged.update(
        {f"{stage}/{n}": float(x.mean) for n, x in t.items()}
    )
    total = float(module.training_step(batch, 0))
    assert logged == {f"train/{t}": pytest.approx(v, rel=1e-4) for t, v in expected.items()}
    sums = expected["emotion"] + 0.5 * expected["strategy"] + 2 * expected["reply"]
    assert total == pytest.approx(sums, rel=1e-4)


@pytest.mark.fidelity("fisminess", 6)
def test_single_pass_learns_one_string(make: Any) -> None:
    module = make("FiSMiness", "tiny-llama", mode="single_pass", **WIDE)
    first = module.encoder()(OTHER)[0]
    told = "Emotion: pain\nStrategy: Self-disclosure\nResponse: Mine too."
    assert learned(first, module.tokenizer) == told + module.encoder().chat.end
    assert first.head_weights() == {i: pytest.approx(1.0) for i in range(3)}
