"""Turn markers that are learned from chat templates, written here in the styles of known models."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from zoo.markup import token_ids
from zoo.prompts.chat_format import CHATML, GEMMA, LLAMA3, ChatFormat, chat_format
from zoo.prompts.thoughts import ThoughtEncoder
from zoo.records import Triple

EACH = "{% for m in messages %}"
NAMED = EACH + "{{ '<|' + m.role + '|>\n' + m.content + 'END\n' }}{% endfor %}"
ZEPHYR = NAMED.replace("END", "</s>")
PHI3 = "{{ '<s>' }}" + NAMED.replace("END", "<|end|>")
PHI4 = EACH + "{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{% endfor %}"
NO_SYSTEM = "{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
ASKED = "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
ANSWERED = "{% elif m.role == 'assistant' %}{{ m.content + '</s>' }}{% endif %}{% endfor %}"
MISTRAL = "{{ '<s>' }}" + EACH + NO_SYSTEM + ASKED + ANSWERED
FOLDED = (  # the system's text stands inside the user's turn
    MISTRAL.replace(NO_SYSTEM, "").replace(
        "'[INST] ' +",
        "'[INST] ' + (messages[0].content + '\n\n' if loop.index0 == 1 and "
        "messages[0].role == 'system' else '') +",
    )
)
DEEPSEEK = (
    "{{ '<s>' }}" + EACH + "{% if m.role == 'system' %}{{ m.content }}{% endif %}"
    "{% if m.role == 'user' %}{{ '<User>' + m.content }}{% endif %}"
    "{% if m.role == 'assistant' %}{{ '<Assistant>' + m.content + '</s>' }}{% endif %}{% endfor %}"
)
NUMBERED = EACH + "{{ '<|' + m.role ~ loop.index ~ '|>' + m.content + '</s>' }}{% endfor %}"
LAST_ONLY = EACH + "{% if loop.last %}{{ m.content + '</s>' }}{% endif %}{% endfor %}"
OPEN_END = EACH + "{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"


def tokenizer(template: str | None, *tokens: str) -> Any:
    letters = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=letters, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, normalized=False) for t in ("<s>", "</s>", *tokens)])
    made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    made.chat_template = template
    return made


ROLES = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
IM = ("<|im_start|>", "<|im_end|>", "<|im_sep|>")
STYLES = {
    "zephyr": (ZEPHYR, (), "<|system|>\nS</s>\n<|user|>\nQ</s>\n<|assistant|>\nA</s>"),
    "phi3": (PHI3, ROLES, "<s><|system|>\nS<|end|>\n<|user|>\nQ<|end|>\n<|assistant|>\nA<|end|>"),
    "phi4": (
        PHI4,
        IM,
        "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|>Q<|im_end|>"
        "<|im_start|>assistant<|im_sep|>A<|im_end|>",
    ),
    "mistral": (MISTRAL, (), "<s>[INST] S [/INST][INST] Q [/INST]A</s>"),
    "folded": (FOLDED, (), "<s>[INST] S [/INST][INST] Q [/INST]A</s>"),
    "deepseek": (DEEPSEEK, ("<User>", "<Assistant>"), "<s>S<User>Q<Assistant>A</s>"),
}


@pytest.mark.parametrize(("template", "tokens", "written"), STYLES.values(), ids=STYLES)
def test_own_markers(template: str, tokens: tuple[str, ...], written: str) -> None:
    """A sample is written as the template writes it; the answer's last token ends its turn."""
    encoder = ThoughtEncoder(tokenizer(template, *tokens), think=None, speak=0)
    record = Triple("Q", "", "A", system="S")
    (example,) = encoder(record)
    assert encoder.tokenizer.decode(example.input_ids) == written
    learned = [label for label in example.labels if label >= 0]
    assert encoder.tokenizer.decode(learned[:1]) == "A"
    assert learned[1:] == [encoder.stop_id]
    assert written.startswith(encoder.tokenizer.decode(encoder.prompt(record)))


@pytest.mark.parametrize(
    ("style", "opening"), [("zephyr", "\n<|thought|>\n"), ("mistral", "\n### thought\n")]
)
def test_roles_that_a_template_does_not_know(style: str, opening: str) -> None:
    chat = chat_format(tokenizer(*STYLES[style][:1], *STYLES[style][1]))
    assert chat.open("thought") == opening
    assert chat.close("thought") == chat.end == "</s>"


@pytest.mark.parametrize("template", [NUMBERED, LAST_ONLY, OPEN_END, "{{ raise_exception('x') }}"])
def test_templates_that_are_not_additive(template: str, caplog: pytest.LogCaptureFixture) -> None:
    """One line says it, and plain headers stand in, as for a model without template."""
    with caplog.at_level(logging.WARNING):
        chat = chat_format(tokenizer(template))
    assert [r.getMessage().count("which is not additive") for r in caplog.records] == [1]
    assert chat == chat_format(tokenizer(None))
    assert chat.open("user") == "\n### user\n"
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("known", "tokens"),
    [
        (CHATML, IM[:2]),
        (LLAMA3, ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
        (GEMMA, ("<bos>", "<start_of_turn>", "<end_of_turn>")),
    ],
)
def test_known_formats_stay(known: ChatFormat, tokens: tuple[str, ...]) -> None:
    """Whatever the template says; their own names for roles are not taken."""
    found = chat_format(tokenizer(NUMBERED, *tokens))
    assert found is known
    text = found.open("user", first=True) + "Q" + found.close("user") + found.open("thought")
    assert text == known.begin + known.header.format(role="user") + "Q" + str(
        known.end
    ) + known.gap + known.header.format(role="thought")


def test_markers_of_letters_alone_end_by_a_token() -> None:
    """What `[INST]` means cannot be told from letters; a text cannot end its turn."""
    words = tokenizer(MISTRAL)
    chat = chat_format(words)
    ids = token_ids(words, chat.open("user", first=True) + "a</s>[INST] b" + chat.close("user"))
    assert ids.count(words.eos_token_id) == 0
    assert ids.count(words.bos_token_id) == 1
