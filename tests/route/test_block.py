"""Block execution beyond its law: one text whatever the block, rows by themselves, the cost."""

import copy
import inspect
import random
from functools import partial
from itertools import pairwise

import pytest
import torch
from scipy.stats import chi2
from transformers import (
    GenerationMixin,
    GPT2LMHeadModel,
    LogitsProcessor,
    LogitsProcessorList,
    MistralConfig,
    MistralForCausalLM,
    MptForCausalLM,
    StaticCache,
    StoppingCriteriaList,
    StopStringCriteria,
)
from transformers.generation.streamers import BaseStreamer

from route.block import block_sample
from route.decode import BaseInput
from route.generate import generate
from route.lengths import best_block, cost
from route.noise import pick
from route.rules import Policy, Router
from route.side import cache_name, given_cache
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


def simulated_cost(rejection, right, block, blocks=40_000):
    """Forwards per token, block by block as the loop does it."""
    generator, guessed = random.Random(block), False
    tokens = 0
    for _ in range(blocks):
        drafts = block
        if guessed:
            tokens += 1
            drafts -= generator.random() >= right
        kept = next((i for i in range(drafts) if generator.random() < rejection), drafts)
        tokens += min(kept + 1, drafts)
        guessed = kept == drafts
    return (block + 1) * blocks / tokens


@pytest.mark.parametrize("block", [1, 2, 3, 6])
@pytest.mark.parametrize(
    ("rejection", "right"), [(0.05, 0.85), (0.3, 0.5), (0.01, 1.0), (0.9, 0.0)]
)
def test_the_cost_model_is_what_blocks_cost(rejection, right, block):
    simulated = simulated_cost(rejection, right, block)
    assert cost(rejection, block, right) == pytest.approx(simulated, rel=0.01)


def test_guesses_make_blocks_shorter_and_cheaper():
    for rate in (0.01, 0.05, 0.1, 0.3):
        without, with_guesses = best_block(rate), best_block(rate, 0.85)
        assert with_guesses < without
        assert cost(rate, with_guesses, 0.85) < cost(rate, without)
        assert cost(rate, 1, 0.0) <= cost(rate, 1) + 1e-12


def test_the_best_block_is_near_the_root_of_two_over_the_rate():
    assert [best_block(r) for r in (0.01, 0.02, 0.05, 0.1, 0.2)] == [14, 10, 6, 4, 3]
    assert best_block(0.0) == 16
    assert best_block(1.0) == 1


def test_an_aligned_model_like_the_base_costs_little(base, tokenizer, make_config, batch):
    """Nothing is ever rejected and every guess is right: m + 1 forwards give m + 1 tokens, but for
    the first block, behind which nothing is guessed yet; the prompt's forwards give one."""
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
    assert out.forwards == {"base": 1 + 7 * 8 + 1, "aligned": 1 + 7}  # 1 + 8 + 6 * 9 + 1 tokens


def numbers(count, seed=0):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("width", [5, 256, 700])
def test_pick_follows_the_weights(width):
    """Within one chunk of the vocabulary, at its edge, and over several; zeros are never taken."""
    weights = torch.zeros(width)
    weights[torch.tensor([0, 2, 4])] = torch.tensor([1.0, 4.0, 2.0])
    weights[-1] += 1
    taken = pick(weights.expand(40_000, -1), numbers(40_000))
    found = torch.bincount(taken, minlength=width).double()
    some = weights > 0
    assert found[~some].sum() == 0
    wanted = (weights / weights.sum() * 40_000)[some]
    statistic = float(((found[some] - wanted) ** 2 / wanted).sum())
    assert chi2.sf(statistic, int(some.sum()) - 1) > 1e-4


def test_pick_of_a_flat_vocabulary_is_even_within_and_among_chunks():
    taken = pick(torch.ones(1).expand(60_000, 1024), numbers(60_000, 1))
    for part in (taken // 256, taken % 256, taken % 32 + 32 * (taken // 256)):
        found = torch.bincount(part).double()
        wanted = 60_000 / len(found)
        assert chi2.sf(float(((found - wanted) ** 2 / wanted).sum()), len(found) - 1) > 1e-4


def test_picks_with_other_numbers_are_independent():
    """Neighbouring numbers too: what the first of two took says nothing of the next."""
    weights, u = torch.ones(20_000, 4), numbers(20_000, 2)
    after = u + 2**-53
    table = torch.bincount(4 * pick(weights, u) + pick(weights, after), minlength=16).double()
    assert chi2.sf(float(((table - 1250) ** 2 / 1250).sum()), 15) > 1e-4


def test_near_distributions_mostly_give_the_same_token():
    """At least (1 - d) / (1 + d) for a race among all; two rounds of it lose a little."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4000, 2000, generator=generator) * 3
    other = logits + torch.randn(4000, 2000, generator=generator) * 0.25
    p, q = logits.softmax(-1), other.softmax(-1)
    apart = float((p - q).abs().sum(-1).mean() / 2)
    same = float((pick(p, u := numbers(4000)) == pick(q, u)).float().mean())
    assert 0.05 < apart < 0.15
    assert same > ((1 - apart) / (1 + apart)) ** 2


def test_pick_of_rows_is_pick_of_each():
    weights, u = torch.rand(9, 777).pow(8), numbers(9)
    alone = [pick(row[None], height[None]) for row, height in zip(weights, u, strict=True)]
    assert torch.equal(pick(weights, u), torch.cat(alone))
    assert torch.equal(pick(weights * 3, u), pick(weights, u))  # no sum of 1 is needed


READING = [
    {"repetition_penalty": 1.5},
    {"no_repeat_ngram_size": 2},
    {"min_new_tokens": 9, "temperature": 2.5},
    {"bad_words_ids": [[7, 8], [12]]},
    {"sequence_bias": [[[9], 2.0], [[5, 6], -3.0]]},
    {"forced_eos_token_id": 1, "max_new_tokens": 9},
    {"exponential_decay_length_penalty": (3, 1.3)},
    {"begin_suppress_tokens": list(range(3, 40))},
]


@pytest.mark.parametrize("options", READING, ids=lambda options: next(iter(options)))
def test_processors_that_read_the_text_see_each_row_alone(options, run, batch):
    """The block length would show in the text if they were shown anything but the text so far."""
    policy = POLICIES[1]
    together, width = run(policy, **options), batch["input_ids"].shape[1]
    plain = run(policy)
    assert not torch.equal(together.sequences, plain.sequences)
    one = run(policy, block=1, **options)
    assert torch.equal(together.sequences, one.sequences)
    for row in range(3):
        alone = run(policy, seeds=(row,), rows=slice(row, row + 1), **options)
        new = alone.sequences[0, width:]
        assert torch.equal(together.sequences[row, width : width + len(new)], new)


def test_greedy_text_with_a_processor_that_reads_it_is_the_eager_one(
    base, aligned, tokenizer, make_config, batch
):
    ours = {"model": aligned, "base_model": base, "tokenizer": tokenizer, **batch}
    ours |= {"max_new_tokens": 24, "do_sample": False, "config": make_config(Router.P_PUNC, 0.6)}
    ours |= {"repetition_penalty": 1.4, "no_repeat_ngram_size": 3}
    assert torch.equal(generate(**ours), generate(**ours, execution="block"))


@pytest.mark.parametrize("block", [1, 3, 8])
def test_stop_strings_end_each_row_where_they_should(block, tokenizer, run, batch):
    width = batch["input_ids"].shape[1]
    free = run(POLICIES[0], num_return_sequences=3, seeds=range(9))
    stops = StoppingCriteriaList([StopStringCriteria(tokenizer, ["a", "he", "."])])
    cut = run(POLICIES[0], block, range(9), num_return_sequences=3, stopping_criteria=stops)
    stopped = 0
    for row in range(9):
        text = ""
        for n in range(int(free.emitted[row].sum())):
            text += tokenizer.decode(free.sequences[row, width + n])
            if any(stop in text for stop in ("a", "he", ".")):
                break
        stopped += n + 1 < int(free.emitted[row].sum())
        assert int(cut.emitted[row].sum()) == n + 1
        assert torch.equal(
            cut.sequences[row, width : width + n + 1], free.sequences[row, width : width + n + 1]
        )
    assert stopped > 3


def called(model, cache):
    """The cache under the name that the model has for it."""
    return {cache_name(inspect.signature(model.forward).parameters): cache}


def test_static_caches_give_the_same_text(run, aligned, batch):
    """Exactly as long as needed: rows that are ahead of others must not cost slots."""
    for policy in POLICIES:
        room = batch["input_ids"].shape[1] + 60
        static = StaticCache(config=aligned.config, max_cache_len=room)
        options = {"max_new_tokens": 60, "num_return_sequences": 4, "seeds": range(12)}
        dynamic = run(policy, **options)
        other = run(policy, **called(aligned, static), **options)
        assert torch.equal(dynamic.sequences, other.sequences)
        assert torch.equal(dynamic.by_base, other.by_base)
        stock = run(policy, cache_implementation="static", **options)  # one slot shorter
        assert torch.equal(dynamic.sequences, stock.sequences)
    short = StaticCache(config=aligned.config, max_cache_len=batch["input_ids"].shape[1] + 4)
    with pytest.raises(ValueError, match="static cache is shorter"):
        run(POLICIES[0], **called(aligned, short))


@pytest.mark.parametrize("kind", [GPT2LMHeadModel, MptForCausalLM])
def test_rows_ahead_of_others_stay_within_the_model_s_positions(kind, tokenizer):
    """A text may be as long as the table of positions, whatever rows that are over do meanwhile;
    and a model that takes slots for positions sees no holes."""
    torch.manual_seed(0)
    tiny = kind.config_class(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=None, eos_token_id=1, pad_token_id=0, initializer_range=0.5, use_cache=True,
        **({"n_positions": 44} if kind is GPT2LMHeadModel else {"max_seq_len": 44}),
    )  # fmt: skip
    base, aligned = kind(tiny).eval(), kind(tiny).eval()
    ids = torch.tensor([[5, 9, 12, 8]])

    def run(rows):
        loop = partial(
            block_sample,
            base=BaseInput(base),
            policy=Policy(Router.RAND, 0.5),
            vocabulary=read_vocabulary(tokenizer),
            generators=[torch.Generator().manual_seed(row) for row in rows],
        )
        return GenerationMixin.generate(
            aligned, ids, custom_generate=loop, do_sample=True, top_k=0, max_new_tokens=40,
            num_return_sequences=len(rows),
        )  # fmt: skip

    together = run(range(8))
    for row in range(8):
        alone = run([row])[0]
        assert torch.equal(together[row, : len(alone)], alone)
    assert together.shape[1] == 44


def test_holes_are_closed_before_they_are_many(base, aligned, tokenizer):
    """Sixteen uneven rows: as many slots as the longest text and a part more, and no other text."""
    ids = torch.tensor([[5, 9, 12, 8]] * 16)
    slots = []

    def note(_model, _positional, named):
        slots.append(given_cache(named).get_seq_length())

    def run(rows):
        loop = partial(
            block_sample,
            base=BaseInput(base),
            policy=Policy(Router.RAND, 0.5),
            vocabulary=read_vocabulary(tokenizer),
            generators=[torch.Generator().manual_seed(row) for row in rows],
            block=6,
        )
        hook = base.register_forward_pre_hook(note, with_kwargs=True)
        out = GenerationMixin.generate(
            aligned, ids[rows], custom_generate=loop, do_sample=True, top_k=0, max_new_tokens=100,
            suppress_tokens=[1], return_dict_in_generate=True,
        )  # fmt: skip
        hook.remove()
        return out

    together = run(range(16))
    assert any(after < before - 6 for before, after in pairwise(slots))
    assert max(slots) < 1.25 * (4 + 100) + 2 * 16
    for row in (0, 7, 15):
        assert torch.equal(together.sequences[row], run(range(row, row + 1)).sequences[0])


def test_forwards_are_counted_for_every_row(run):
    """A row took part in every forward up to its last token, and no other."""
    together = run(POLICIES[1], seeds=range(12), num_return_sequences=4)
    total = dict.fromkeys(together.forwards, 0)
    for side, counts in together.row_forwards.items():
        assert int(counts.max()) == together.forwards[side]
        assert bool((counts >= 2).all())
        total[side] = int(counts.sum())
    assert total["base"] > total["aligned"]


def test_a_base_with_fewer_ids_skips_what_it_does_not_know(base, aligned, tokenizer):
    """Alone or in a batch, whatever the block: the skipped token leaves no trace in its side."""
    small = copy.deepcopy(base)
    small.resize_token_embeddings(len(tokenizer) - 12, mean_resizing=False)
    ids = torch.tensor([[5, 9, 12, 8]])

    def run(seeds, block):
        loop = partial(
            block_sample,
            base=BaseInput(small),
            policy=Policy(Router.RAND, 0.5),
            vocabulary=read_vocabulary(tokenizer),
            generators=[torch.Generator().manual_seed(seed) for seed in seeds],
            block=block,
        )
        return GenerationMixin.generate(
            aligned, ids, custom_generate=loop, do_sample=True, top_k=0, temperature=2.0,
            max_new_tokens=30, num_return_sequences=len(seeds), return_dict_in_generate=True,
        )  # fmt: skip

    whole = run(range(6), None)
    assert (whole.sequences >= len(tokenizer) - 12).any()
    for block in (1, 4):
        assert torch.equal(whole.sequences, run(range(6), block).sequences)
    for seed in range(6):
        alone = run([seed], None).sequences[0]
        assert torch.equal(whole.sequences[seed, : len(alone)], alone)


def test_what_block_does_not_do_is_refused(base, aligned, tokenizer, make_config, batch):
    config = make_config(Router.P, 0.5)
    ours = {"model": aligned, "base_model": base, "tokenizer": tokenizer, "config": config, **batch}
    ours |= {"max_new_tokens": 4, "execution": "block", "do_sample": True}

    class Mine(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores

    for options, named in (
        ({"logits_processor": LogitsProcessorList([Mine()])}, "Mine"),
        ({"stopping_criteria": StoppingCriteriaList([lambda ids, scores: False])}, "function"),
        ({"prefix_allowed_tokens_fn": lambda row, ids: [5]}, "PrefixConstrained"),
        ({"output_scores": True, "return_dict_in_generate": True}, "output_scores"),
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
    with pytest.raises(ValueError, match=r"the base MistralFor.*cannot take tokens back.*eager"):
        GenerationMixin.generate(aligned, **batch, custom_generate=loop, max_new_tokens=4)
