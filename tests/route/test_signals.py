"""The signal read along a finished text is the one that the loop itself had."""

from dataclasses import replace

import pytest
import torch

from route.calibrate import uncalibrated
from route.config import PromptFormat
from route.generate import generate
from route.prompts import aligned_ids, base_ids, pad_left
from route.rules import Router, Side
from route.sampling import Pair, Way, thinned, write
from route.signals import observe

PROMPTS = ["the fox", "a river and a barn", "hid"]


@pytest.fixture(params=[PromptFormat.SAME, PromptFormat.URIAL])
def pair(request, base, aligned, tokenizer):
    config = uncalibrated(base, aligned, tokenizer, Router.P)
    config = replace(config, prompt_format=request.param)
    return Pair(base, aligned, tokenizer, config, samples=2, max_new_tokens=10, seed=3)


@pytest.mark.parametrize("router", ["p", "h-punc", "p-fc", "punc", "rand-punc"])
@pytest.mark.parametrize("reads", list(Side))
def test_observed_equals_noted(pair, router, reads):
    router = Router(router)
    config = replace(pair.config, aligned_prefix=2, content_reads=reads)
    pair = replace(pair, config=config)
    written = write(pair, PROMPTS, Way(Router.RAND, "never"))
    found = observe(pair, router, PROMPTS, written)
    doubts, contents = [], []
    config = replace(config, router=router, threshold=None if router.doubt is None else "never")
    for prompt, texts in zip(PROMPTS, written.ids, strict=True):
        for text in texts:
            trace = forced(pair, config, prompt, text)
            free = trace.free[0, : len(text)]
            doubts.append(trace.doubt[0, : len(text)][free])
            contents.append(trace.content[0, : len(text)][free])
    assert torch.equal(found.content, torch.cat(contents))
    assert found.doubt == pytest.approx(torch.cat(doubts).double(), abs=1e-5)


def forced(pair, config, prompt, text):
    """The routed loop, made to write `text`: aligned tokens alone are let through."""
    ids, mask = pad_left([aligned_ids(pair.tokenizer, prompt)])
    start = ids.shape[1]

    def only(_, row):
        return [text[min(len(row) - start, len(text) - 1)]]

    own = pad_left([base_ids(pair.tokenizer, prompt, config.prompt_format)])
    return generate(
        pair.aligned,
        input_ids=ids,
        attention_mask=mask,
        base_model=pair.base,
        base_inputs={"input_ids": own[0], "attention_mask": own[1]},
        tokenizer=pair.tokenizer,
        config=config,
        prefix_allowed_tokens_fn=only,
        do_sample=False,
        max_new_tokens=len(text),
        return_dict_in_generate=True,
    )


def test_thinning_is_even():
    assert thinned(3, 5).tolist() == [0, 1, 2]
    assert thinned(10, 5).tolist() == [0, 2, 4, 6, 8]
