"""The law far from the beginning, where blocks have been cut many times and rows are uneven.

Two ways. A pair whose attention says nothing writes a Markov chain over (token, writer), so the
distribution of any two neighbours deep in the text is known exactly. A pair with attention has no
such count; there, blocks and the eager loop are compared with each other.
"""

from functools import partial

import pytest
import torch
from scipy.stats import chi2_contingency, chisquare
from transformers import GenerationMixin, LlamaConfig, LlamaForCausalLM

from route.block import block_sample
from route.decode import BaseInput, routed_sample
from route.rules import Policy, Router
from route.vocab import classify

TEXTS = ["<eos>", " the", " fox", "es", ".", " ran"]
EOS, LENGTH, ROWS = 0, 48, 3_000
VOCABULARY = classify(TEXTS, special={EOS})
PROMPT = [2, 4, 1]
EXECUTIONS = {
    "eager": routed_sample,
    "lazy": partial(routed_sample, lazy=True),
    "block3": partial(block_sample, block=3),
    "block": block_sample,
}
POLICIES = [
    Policy(Router.RAND, 0.4),
    Policy(Router.P, 0.45),
    Policy(Router.P_PUNC, 0.6),
    Policy(Router.H_PUNC, 1.0),
    Policy(Router.FC),
    Policy(Router.RAND, 0.7, veto=0.4),
]


def model(seed, attention):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(TEXTS), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=128, initializer_range=0.35,
        pad_token_id=EOS, eos_token_id=EOS,
    )  # fmt: skip
    made = LlamaForCausalLM(config).eval()
    if not attention:
        made.model.layers[0].self_attn.o_proj.weight.data.zero_()
    return made


def texts(policy, base, aligned, execute):
    """New tokens and their writers. -> [R, T], [R, T] bool"""
    torch.manual_seed(5)
    out = GenerationMixin.generate(
        aligned,
        torch.tensor([PROMPT]),
        custom_generate=partial(
            execute, base=BaseInput(base), policy=policy, vocabulary=VOCABULARY
        ),
        do_sample=True,
        top_k=0,
        suppress_tokens=[EOS],  # texts of one length
        max_new_tokens=LENGTH,
        num_return_sequences=ROWS,
        return_dict_in_generate=True,
    )
    return out.sequences[:, len(PROMPT) :], out.by_base


@torch.no_grad()
def table(made):
    """P(next | last), raw. -> [V, V] double"""
    return made(torch.arange(len(TEXTS))[:, None]).logits[:, 0].double().softmax(-1)


def step(policy, p_base, p_aligned, last, writer, first):
    """The chance of every (token, writer) after `last` by `writer`. -> [V, 2]"""
    base, aligned = p_base[last], p_aligned[last]
    top = TEXTS[int(base.argmax())]
    kept = (policy.router.content == "punc" and top in (".", "<eos>")) or (
        policy.router.content == "fc" and top == " the"
    )
    entropy = float(-(base * base.log()).sum())
    wants = {
        "rand": policy.threshold,
        "p": float(base.max() < (policy.threshold or 0)),
        "h": float(entropy > (policy.threshold or 0)),
        None: 1.0,
    }[policy.router.doubt and policy.router.doubt.value]
    wants = 0.0 if kept else wants
    if not first and TEXTS[last][-1].isalnum() and top[0].isalnum():
        wants = float(writer)
    allowed = torch.ones(len(TEXTS), dtype=torch.double)
    allowed[EOS] = 0
    ours, theirs = ((p * allowed) / (p * allowed).sum() for p in (aligned, base))
    good = (aligned >= policy.veto * aligned.max()).double()
    by_aligned = (1 - wants) * ours + wants * (theirs * (1 - good)).sum() * ours
    return torch.stack([by_aligned, wants * theirs * good], 1)


def chain(policy, base, aligned):
    """The chance of the last two (token, writer) pairs of a text. -> [V, 2, V, 2]"""
    p_base, p_aligned = table(base), table(aligned)
    size = len(TEXTS)
    moves = torch.stack(
        [
            torch.stack([step(policy, p_base, p_aligned, y, w, False) for w in (False, True)])
            for y in range(size)
        ]
    )  # [V, 2, V, 2]
    state = step(policy, p_base, p_aligned, PROMPT[-1], False, True)
    for _ in range(LENGTH - 2):
        state = torch.einsum("yw,ywzv->zv", state, moves)
    return state[:, :, None, None] * moves


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: str(policy.router))
def test_the_end_of_a_long_text_has_the_law_of_the_chain(policy, execution):
    base, aligned = model(3, attention=False), model(4, attention=False)
    law = chain(policy, base, aligned)
    assert float(law.sum()) == pytest.approx(1)
    tokens, by_base = texts(policy, base, aligned, EXECUTIONS[execution])
    index = tuple(part[:, at].long() for at in (-2, -1) for part in (tokens, by_base))
    seen = torch.zeros_like(law).index_put(index, torch.tensor(1.0).double(), accumulate=True)
    assert not seen[law == 0].any()
    likely = law * ROWS >= 5
    observed = [*seen[likely].tolist(), float(seen[~likely].sum())]
    expected = [*(law * ROWS)[likely].tolist(), float((law * ROWS)[~likely].sum())]
    if expected[-1] < 1e-6:
        observed, expected = observed[:-1], expected[:-1]
    assert len(observed) > 6
    assert chisquare(observed, expected).pvalue > 1e-5


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: str(policy.router))
def test_blocks_and_the_eager_loop_agree_where_attention_matters(policy):
    """Pairs of tokens at the end, and how many tokens a row has from the base."""
    base, aligned = model(5, attention=True), model(6, attention=True)
    (tokens, by_base), (others, by_other) = (
        texts(policy, base, aligned, EXECUTIONS[name]) for name in ("eager", "block")
    )
    ends = [t[:, -2] * len(TEXTS) + t[:, -1] for t in (tokens, others)]
    shares = [flags.sum(1) for flags in (by_base, by_other)]
    for one, other in (ends, shares):
        both = torch.stack([torch.bincount(side, minlength=50) for side in (one, other)])
        both = both[:, both.sum(0) >= 10]
        assert both.shape[1] >= 2
        assert chi2_contingency(both.numpy()).pvalue > 1e-5


def test_this_would_notice_another_threshold():
    base, aligned = model(3, attention=False), model(4, attention=False)
    law = chain(Policy(Router.RAND, 0.4), base, aligned).sum((0, 1, 2))  # [2]: the last writer
    _, by_base = texts(Policy(Router.RAND, 0.5), base, aligned, block_sample)
    mine = torch.bincount(by_base[:, -1].long(), minlength=2).double()
    assert chisquare(mine, law * ROWS).pvalue < 1e-9
