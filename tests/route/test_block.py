"""Block execution beyond its law: one text whatever the block, rows by themselves, the cost."""

from functools import partial

import pytest
import torch
from transformers import GenerationMixin, MistralConfig, MistralForCausalLM, StaticCache
from transformers.generation.streamers import BaseStreamer

from route.block import best_block, block_sample, pick
from route.decode import BaseInput
from route.generate import generate
from route.rules import Policy, Router
from route.vocab import read_vocabulary

POLICIES = [
    Policy(Router.RAND, 0.5),
    Policy(Router.P_PUNC, 0.6),
    Policy(Router.H, 1.0, veto=0.2, aligned_prefix=2),
]


@pytest.fixture
def run(base, aligned, tokenizer, batch):
    def go(policy, block=None, seeds=(0, 1, 2), rows=slice(None), **options):
        loop = partial(
            block_sample,
            base=BaseInput(base),
            policy=policy,
            vocabulary=read_vocabulary(tokenizer),
            generators=[torch.Generator().manual_seed(seed) for seed in seeds],
            block=block,
            streamer=options.get("streamer"),
        )
        inputs = {key: value[rows] for key, value in batch.items()}
        given = {"do_sample": True, "top_k": 0, "max_new_tokens": 24, **options}
        return GenerationMixin.generate(
            aligned, **inputs, custom_generate=loop, return_dict_in_generate=True, **given
        )

    return go


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.router.value)
def test_the_text_does_not_depend_on_the_block_length(policy, run):
    one = run(policy, block=1)
    for block in (2, 5, 16, None):
        other = run(policy, block=block)
        assert torch.equal(one.sequences, other.sequences)
        assert torch.equal(one.by_base, other.by_base)
        assert torch.equal(one.emitted, other.emitted)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.router.value)
def test_a_row_of_a_batch_is_the_row_alone(policy, run, batch):
    together = run(policy)
    width = batch["input_ids"].shape[1]
    for row in range(3):
        alone = run(policy, seeds=(row,), rows=slice(row, row + 1))
        count = int(alone.emitted.sum())
        assert count == int(together.emitted[row].sum())
        assert torch.equal(
            together.sequences[row, width : width + count], alone.sequences[0, width:]
        )
        assert torch.equal(together.by_base[row, :count], alone.by_base[0])


def test_greedy_blocks_give_the_greedy_text(base, aligned, tokenizer, make_config, batch):
    ours = {"model": aligned, "base_model": base, "tokenizer": tokenizer, **batch}
    ours |= {"max_new_tokens": 24, "do_sample": False}
    for router, threshold in ((Router.P_PUNC, 0.6), (Router.FC, None), (Router.H, 1.0)):
        config = make_config(router, threshold)
        eager = generate(**ours, config=config)
        assert torch.equal(eager, generate(**ours, config=config, execution="block"))


class Collector(BaseStreamer):
    def __init__(self):
        self.columns = []
        self.ended = False

    def put(self, value):
        self.columns.append(value)

    def end(self):
        self.ended = True


def test_streaming_gives_each_column_once_and_in_order(run, batch):
    streamer = Collector()
    out = run(POLICIES[1], streamer=streamer)
    prompt, *columns = streamer.columns
    assert torch.equal(prompt, batch["input_ids"])
    new = out.sequences[:, batch["input_ids"].shape[1] :]
    assert torch.equal(torch.stack(columns, 1), new)
    assert streamer.ended


def test_only_the_aligned_model_ends_a_row_and_nothing_follows(run, batch):
    seeds = tuple(range(60))
    out = run(Policy(Router.RAND, 0.6), seeds=seeds, num_return_sequences=20, temperature=2.5)
    new = out.sequences[:, batch["input_ids"].shape[1] :]
    ends = new == 1
    assert ends.any()
    assert not (ends & out.by_base).any()
    for row, end in zip(new, ends, strict=True):
        if end.any():
            assert (row[int(end.int().argmax()) + 1 :] == 0).all()


def test_the_best_block_is_near_the_root_of_two_over_the_rate():
    assert [best_block(r) for r in (0.01, 0.02, 0.05, 0.1, 0.2)] == [14, 10, 6, 4, 3]
    assert best_block(0.0) == 16
    assert best_block(1.0) == 1


def test_an_aligned_model_like_the_base_costs_little(base, tokenizer, make_config, batch):
    """Nothing is ever rejected, so a token costs 1 + 1/m forwards."""
    loop = partial(
        block_sample,
        base=BaseInput(base),
        policy=Policy(Router.P, "never"),
        vocabulary=read_vocabulary(tokenizer),
        block=8,
    )
    out = GenerationMixin.generate(
        base,
        batch["input_ids"][1:2],
        custom_generate=loop,
        do_sample=True,
        top_k=0,
        suppress_tokens=[0, 1, 2],
        max_new_tokens=64,
        return_dict_in_generate=True,
    )
    assert out.emitted.sum() == 64
    assert out.forwards == {"base": 1 + 64, "aligned": 1 + 8}


def test_pick_follows_the_weights_and_never_takes_a_zero():
    weights = torch.tensor([[0.0, 1.0, 0.0, 3.0, 0.0]])
    heights = torch.linspace(0, 1, 401)[:-1]
    taken = torch.cat([pick(weights, u[None]) for u in heights])
    assert set(taken.tolist()) == {1, 3}
    assert (taken == 1).float().mean().item() == pytest.approx(0.25, abs=0.01)


def test_what_block_does_not_do_is_refused(base, aligned, tokenizer, make_config, batch):
    config = make_config(Router.P, 0.5)
    ours = {"model": aligned, "base_model": base, "tokenizer": tokenizer, "config": config, **batch}
    ours |= {"max_new_tokens": 4, "execution": "block"}
    for options, named in (
        ({"repetition_penalty": 1.2}, "RepetitionPenaltyLogitsProcessor"),
        ({"stop_strings": ["."]}, "StopStringCriteria"),
        ({"output_scores": True, "return_dict_in_generate": True}, "output_scores"),
        ({"past_key_values": StaticCache(aligned.config, max_cache_len=32)}, "StaticCache"),
        ({"execution": "blocks"}, "blocks"),
    ):
        with pytest.raises(ValueError, match=named):
            generate(**(ours | options))
    window = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=4,
    )  # fmt: skip
    loop = partial(
        block_sample,
        base=BaseInput(MistralForCausalLM(window)),
        policy=Policy(Router.P, 0.5),
        vocabulary=read_vocabulary(tokenizer),
    )
    with pytest.raises(ValueError, match="MistralForCausalLM"):
        GenerationMixin.generate(aligned, **batch, custom_generate=loop, max_new_tokens=4)
