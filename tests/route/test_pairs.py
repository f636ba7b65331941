"""Pairs that are not two equal Llamas: other architectures, other head widths, added tokens."""

import copy
import inspect

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from route.config import Pin
from route.generate import generate
from route.pins import complete
from route.rules import Router
from route.side import ModelSide, cache_name

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ENDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}


def other(kind, width):
    torch.manual_seed(6)
    wide = {"vocab_size": width, **SHAPE, **ENDS}
    match kind:
        case "gpt2":
            config = GPT2Config(vocab_size=width, n_embd=32, n_layer=2, n_head=4, **ENDS)
            return GPT2LMHeadModel(config).eval()
        case "bloom":  # takes no position ids
            return BloomForCausalLM(BloomConfig(**wide)).eval()
        case "mistral":  # forgets beyond its window
            config = MistralConfig(
                **wide, intermediate_size=64, num_key_value_heads=2, sliding_window=6
            )
            return MistralForCausalLM(config).eval()
        case "mamba":
            return MambaForCausalLM(MambaConfig(vocab_size=width, hidden_size=32, **ENDS)).eval()
        case _:
            config = T5Config(vocab_size=width, d_model=32, d_ff=32, num_layers=1, num_heads=2)
            return T5ForConditionalGeneration(config).eval()


def pinned(make_config, router, threshold, base, aligned):
    """A router for this pair: the pins name it."""
    pins = {"base": complete(Pin("b"), base), "aligned": complete(Pin("a"), aligned)}
    return make_config(router, threshold, **pins)


@pytest.mark.parametrize("kind", ["gpt2", "bloom", "mistral"])
def test_limits_hold_for_other_architectures(kind, aligned, tokenizer, make_config, batch):
    model = other(kind, len(tokenizer))
    options = {**batch, "max_new_tokens": 14, "do_sample": True, "top_k": 0}
    torch.manual_seed(1)
    plain = model.generate(**options, suppress_tokens=[0, 1, 2])
    torch.manual_seed(1)
    always = pinned(make_config, Router.P, "always", model, aligned)
    ours = generate(aligned, **options, base_model=model, tokenizer=tokenizer, config=always)
    assert torch.equal(ours, plain)

    torch.manual_seed(1)
    plain = model.generate(**options)
    torch.manual_seed(1)
    never = pinned(make_config, Router.P, "never", aligned, model)
    ours = generate(model, **options, base_model=aligned, tokenizer=tokenizer, config=never)
    assert torch.equal(ours, plain)


@pytest.mark.parametrize("kind", ["mamba", "t5"])
def test_models_without_a_key_value_cache_are_refused(kind, aligned, tokenizer, make_config, batch):
    model = other(kind, len(tokenizer))
    config = pinned(make_config, Router.P, 0.5, model, aligned)
    with pytest.raises(ValueError, match="no decoder-only model with a key-value cache"):
        generate(
            aligned,
            **batch,
            base_model=model,
            tokenizer=tokenizer,
            config=config,
            max_new_tokens=2,
        )


@pytest.mark.parametrize("extra", [-4, 7])
def test_padded_heads_differ_in_width(extra, base, aligned, tokenizer, make_config, batch):
    """A base whose head has more or fewer rows writes the same text as long as those are unused."""
    width = len(tokenizer) + extra
    resized = copy.deepcopy(base)
    resized.resize_token_embeddings(width, mean_resizing=False)
    with torch.no_grad():
        unused = resized.lm_head.weight[len(tokenizer) :]
        unused.zero_()
    options = {**batch, "max_new_tokens": 14, "do_sample": False}
    silent = [0, 1, 2, *range(len(tokenizer), width)]
    plain = resized.generate(**options, suppress_tokens=silent)
    config = pinned(make_config, Router.P, "always", resized, aligned)
    ours = generate(aligned, **options, base_model=resized, tokenizer=tokenizer, config=config)
    assert torch.equal(ours, plain)


def test_tokens_that_the_base_does_not_know_are_skipped_by_it(
    base, aligned, tokenizer, make_config
):
    """The base goes on as if the unknown token were not there."""
    small = copy.deepcopy(base)
    small.resize_token_embeddings(len(tokenizer) - 2, mean_resizing=False)
    strange = torch.tensor([len(tokenizer) - 1])
    ids = torch.tensor([[5, 9, 12], [7, 8, 9]])
    side = ModelSide(small, None, width=len(tokenizer))
    before = side.read_prompt(ids)
    after = side.read(torch.cat([strange, torch.tensor([11])])[:, None])[:, -1]
    assert torch.equal(after[0], before[0])
    last = side.read(torch.tensor([[10], [12]]))[:, -1]
    with torch.no_grad():
        skipped = small(torch.tensor([[5, 9, 12, 10]])).logits[0, -1]
        whole = small(torch.tensor([[7, 8, 9, 11, 12]])).logits[0, -1]
    known = len(tokenizer) - 2
    torch.testing.assert_close(last[:, :known], torch.stack([skipped, whole]), atol=1e-5, rtol=1e-5)
    assert (last[:, known:] == -torch.inf).all()
    with pytest.raises(ValueError, match=r"knows only .* prompts= or base_inputs="):
        ModelSide(small, None, width=len(tokenizer)).read_prompt(strange[None])


class NamedOtherwise(LlamaForCausalLM):
    """A model as transformers 5.24 has them: its cache is called `cache`."""

    def forward(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        cache=None,
        logits_to_keep=0,
        **more,
    ):
        name = cache_name(inspect.signature(LlamaForCausalLM.forward).parameters)
        more |= {"attention_mask": attention_mask, "position_ids": position_ids, name: cache}
        return super().forward(input_ids, logits_to_keep=logits_to_keep, **more)


@pytest.mark.parametrize("execution", ["eager", "block"])
def test_a_cache_may_be_called_otherwise(execution, base, aligned, tokenizer, make_config, batch):
    newer = NamedOtherwise(base.config).eval()
    newer.load_state_dict(base.state_dict())
    config = make_config(Router.P_PUNC, 0.5)
    options = {"tokenizer": tokenizer, "config": config, "execution": execution, "seed": 0}
    options |= {**batch, "do_sample": True, "top_k": 0, "max_new_tokens": 14}
    expected = generate(aligned, base_model=base, **options)
    assert torch.equal(generate(aligned, base_model=newer, **options), expected)


def test_a_pair_with_an_added_chat_token_runs(base, aligned, tokenizer, make_config, batch):
    """The aligned model may write ids beyond the base's; nothing breaks in any row."""
    small = copy.deepcopy(base)
    small.resize_token_embeddings(len(tokenizer) - 12, mean_resizing=False)
    ids = batch["input_ids"].clamp(max=len(tokenizer) - 13)
    config = pinned(make_config, Router.RAND, 0.5, small, aligned)
    out = generate(
        aligned,
        ids,
        attention_mask=batch["attention_mask"],
        base_model=small,
        tokenizer=tokenizer,
        config=config,
        do_sample=True,
        temperature=2.0,
        max_new_tokens=30,
        num_return_sequences=4,
        return_dict_in_generate=True,
        seed=0,
    )
    new = out.sequences[:, ids.shape[1] :]
    unknown = new >= len(tokenizer) - 12
    assert unknown.any()
    assert not (unknown & out.by_base).any()
    assert out.by_base.any()
