"""What the base reads."""

import pytest
import torch

from route.config import PromptFormat
from route.generate import generate
from route.prompts import PromptFormatError, aligned_ids, base_ids, pad_left
from route.rules import Router


@pytest.fixture
def ours(base, aligned, tokenizer):
    return {"model": aligned, "base_model": base, "tokenizer": tokenizer, "max_new_tokens": 8}


def test_formats(tokenizer):
    def text(form):
        return tokenizer.decode(base_ids(tokenizer, "a fox", form))

    assert text(PromptFormat.SAME) == "a fox"
    assert text(PromptFormat.PLAIN) == "a fox\n\n"
    assert "uestion<unk> a fox\n" in text(PromptFormat.QA)
    assert text(PromptFormat.URIAL).endswith("uery<unk>\na fox\n\n<unk> <unk>nswer<unk>\n")


def test_chat_uses_the_template_where_there_is_one(tokenizer):
    assert aligned_ids(tokenizer, "hid") == tokenizer("hid")["input_ids"]
    tokenizer.chat_template = "{% for m in messages %}a{{ m['content'] }}{% endfor %}!"
    try:
        chat = tokenizer.decode(base_ids(tokenizer, "hid", PromptFormat.CHAT))
    finally:
        tokenizer.chat_template = None
    assert chat == "ahid!"


def test_left_padding():
    ids, mask = pad_left([[5], [6, 7, 8]], pad_id=9)
    assert ids.tolist() == [[9, 9, 5], [6, 7, 8]]
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    with pytest.raises(PromptFormatError, match="at least one token"):
        pad_left([[1], []])


def test_another_format_needs_the_prompts_and_the_error_says_so(ours, make_config, batch):
    config = make_config(Router.P, "always", prompt_format=PromptFormat.PLAIN)
    with pytest.raises(PromptFormatError, match=r'"plain".*Add prompts=\[.*base_inputs='):
        generate(**ours, **batch, config=config)
    with pytest.raises(PromptFormatError, match="2 prompts for 3 rows"):
        generate(**ours, **batch, config=config, prompts=["a", "b"])
    with pytest.raises(PromptFormatError, match="not both"):
        generate(**ours, **batch, config=config, prompts=["a"], base_inputs=[[1]])


def test_the_base_reads_its_own_prompt(ours, base, make_config, batch, tokenizer):
    """With "always" the new tokens are the base's continuation of *its* prompt."""
    config = make_config(Router.P, "always", prompt_format=PromptFormat.PLAIN)
    prompts = ["the", " a river and a", "fox"]
    out = generate(**ours, **batch, config=config, prompts=prompts)[
        :, batch["input_ids"].shape[1] :
    ]
    tokenizer.padding_side = "left"
    own = tokenizer([f"{p}\n\n" for p in prompts], return_tensors="pt", padding=True)
    alone = base.generate(**own, max_new_tokens=8, suppress_tokens=[0, 1, 2])
    assert torch.equal(out, alone[:, own["input_ids"].shape[1] :])
    for given in (own, own["input_ids"], [tokenizer(f"{p}\n\n")["input_ids"] for p in prompts]):
        again = generate(**ours, **batch, config=config, base_inputs=given)
        assert torch.equal(again[:, batch["input_ids"].shape[1] :], out)


def test_prompts_are_harmless_where_the_base_reads_the_same_ids(ours, make_config, batch):
    config = make_config(Router.P, 0.5)
    plain = generate(**ours, **batch, config=config)
    assert torch.equal(plain, generate(**ours, **batch, config=config, prompts=["a", "b", "c"]))
