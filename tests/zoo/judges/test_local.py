"""A language model of this machine as judge: words, scores, what is read once."""

from __future__ import annotations

import pytest
import torch
from transformers.cache_utils import DynamicCache

from zoo.backbone import Backbone, load
from zoo.judges.local import LocalLLM


@pytest.fixture(scope="module")
def llm() -> LocalLLM:
    lm, tokenizer = load(Backbone("tiny-llama"))
    return LocalLLM(lm.eval(), tokenizer, max_new_tokens=12, name="tiny")


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2", "tiny-gemma"])
def test_generation_is_greedy_and_that_of_the_plain_loop(name: str) -> None:
    lm, tokenizer = load(Backbone(name))
    writer = LocalLLM(lm.eval(), tokenizer, max_new_tokens=8)
    chat = [("system", "Be kind."), ("user", "Hi.")]
    ids = writer.ids(chat)
    rendered = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n"
    assert tokenizer.decode(ids) == rendered + "<|im_start|>assistant\n"
    for _ in range(8):
        logits = lm(input_ids=torch.tensor([ids])).logits[0, -1]
        ids.append(int(logits.argmax()))
        if ids[-1] in writer.end_ids:
            break
    plain = tokenizer.decode(ids[len(writer.ids(chat)) :], skip_special_tokens=True).strip()
    assert writer.write(chat) == plain
    new = ids[len(writer.ids(chat)) :]
    lm.generation_config.eos_token_id = [writer.end_ids[0], new[2]]  # end-of-text ends it too
    short = tokenizer.decode(new[: new.index(new[2])], skip_special_tokens=True).strip()
    assert LocalLLM(lm, tokenizer, max_new_tokens=8).write(chat) == short


def test_sampling_has_a_seed_and_leaves_the_global_state_alone(llm: LocalLLM) -> None:
    chat = [("user", "Hi.")]
    state = torch.get_rng_state()
    one, same, other = (llm.write(chat, seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    assert llm.write(chat) == llm.write(chat)
    assert torch.equal(torch.get_rng_state(), state)


def test_candidates_are_scored_by_all_their_tokens(llm: LocalLLM) -> None:
    """Odds are those of reading every option behind the whole prompt, which is read once."""
    chat, options = [("user", "Hi.")], [" am", " was here", "!", " a"]
    llm = LocalLLM(llm.lm, llm.tokenizer)
    read: list[int] = []
    inputs = llm.lm.get_input_embeddings()
    handle = inputs.register_forward_hook(lambda module, args, out: read.append(args[0].numel()))
    shares = llm.score(chat, options, begun="I")
    handle.remove()
    prompt = len(llm.ids(chat)) + 1  # a byte is a token
    assert sum(read) == prompt + sum(len(option) - 1 for option in options)
    scores = []
    for option in options:
        ids = llm.ids(chat) + llm.tokenizer(f"I{option}")["input_ids"]
        logs = llm.lm(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        scores.append(sum(logs[i - 1, ids[i]] for i in range(prompt, len(ids))))
    assert shares == pytest.approx(torch.stack(scores).softmax(0).tolist(), abs=1e-5)


def test_what_prompts_share_is_read_once(llm: LocalLLM) -> None:
    """The answer is that of a model that never read a prompt before, also after other prompts."""
    llm, fresh = (LocalLLM(llm.lm, llm.tokenizer, max_new_tokens=12) for _ in range(2))
    read: list[int] = []
    inputs = llm.lm.get_input_embeddings()
    handle = inputs.register_forward_hook(lambda module, args, out: read.append(args[0].numel()))
    chats = [[("user", text)] for text in ("I lost my job.", "I lost my keys, again.", "No.")]
    chats += [chats[1], chats[1], chats[0]]
    for chat in chats:
        fresh.cache, fresh.read = DynamicCache(), []
        words, odds = fresh.write(chat), fresh.score(chat, "ABC", begun="\n[[")
        del read[:]
        assert llm.write(chat) == words
        common = read[0]
        assert llm.score(chat, "ABC", begun="\n[[") == pytest.approx(odds, abs=1e-5)
        assert read[-1] == len("\n[[")
    assert common < len(llm.ids(chats[0])) - len("I lost my ")
    llm.write(chats[0])
    before = len(read)
    llm.write(chats[0])
    assert read[before] == 1  # what it was asked last: the last token alone
    handle.remove()


def test_a_model_out_of_time_fails() -> None:
    lm, tokenizer = load(Backbone("tiny-llama"))
    writer = LocalLLM(lm.eval(), tokenizer, max_new_tokens=400, timeout=1e-9)
    writer.end_ids = [-1]  # a random model never stops
    with pytest.raises(TimeoutError, match="no answer within"):
        writer.write([("user", "Hi.")])
