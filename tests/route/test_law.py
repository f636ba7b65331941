"""The law of the text: the loops against an independent count of every short sequence.

The reference knows strings and probabilities, not masks and tensors: it walks every sequence of the
horizon, applies the written rule to the texts of the tokens, and multiplies probabilities. A
chi-square test compares it with many rows of one batch. A pair of wrong rules must fail it. Long
runs are in `test_long_runs`. By default every policy meets every warping and every execution, and
every warping every execution; the rest of the product is slow.
"""

import itertools
import math
from functools import partial

import pytest
import torch
from scipy.stats import chisquare
from transformers import GenerationMixin, LlamaConfig, LlamaForCausalLM

from route.block import block_sample
from route.decode import BaseInput, routed_sample
from route.rules import Policy, Router, Side
from route.vocab import classify

TEXTS = ["<eos>", " the", " fox", "es", "."]
EOS, HORIZON, ROWS = 0, 3, 10_000
VOCABULARY = classify(TEXTS, special={EOS})
PROMPT, BASE_PROMPT = [2, 3, 1], [4, 2]


def toy(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(TEXTS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        initializer_range=0.3,
        pad_token_id=EOS,
        eos_token_id=EOS,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def pair():
    """Chosen so that every policy has at least 2 nats of texts and the base four top tokens."""
    return toy(10), toy(11)


@pytest.fixture(scope="module")
def readers(pair):
    base, aligned = pair
    return reader(base, BASE_PROMPT), reader(aligned, PROMPT)


def warp(probs, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """In transformers' order: temperature; the k largest; the fewest that reach top_p; those of at
    least min_p of the largest."""
    weights = [p ** (1 / temperature) for p in probs]
    kept = {y for y in range(len(probs)) if probs[y] > 0}
    if top_k:
        kept &= set(sorted(kept, key=lambda y: -weights[y])[:top_k])
    total, mass, reached = sum(weights[y] for y in kept), 0.0, set()
    for y in sorted(kept, key=lambda y: -weights[y]):
        if mass < top_p * total:
            reached.add(y)
            mass += weights[y]
    kept &= reached
    largest = max(weights[y] for y in kept)
    kept = {y for y in kept if weights[y] >= min_p * largest}
    total = sum(weights[y] for y in kept)
    return [weights[y] / total if y in kept else 0.0 for y in range(len(probs))]


def masked(probs):
    rest = sum(p for y, p in enumerate(probs) if y != EOS)
    return [0.0 if y == EOS else p / rest for y, p in enumerate(probs)]


def base_share(policy, probs, aligned):
    """The probability that the doubt rule and the content rule want the base here."""
    router, gamma = policy.router.value, policy.threshold
    read = probs if policy.content_reads == "base" else aligned
    top = TEXTS[max(range(len(read)), key=lambda y: read[y])]
    if "punc" in router and top in ("<eos>", "."):
        return 0.0
    if "fc" in router and top == " the":
        return 0.0
    match router.split("-")[0]:
        case "rand":
            return gamma
        case "p":
            return float(max(probs) < gamma)
        case "h":
            return float(-sum(p * math.log(p) for p in probs) > gamma)
        case _:
            return 1.0


def exact(policy, next_base, next_aligned, warping):
    """Sequence to probability, rows ended by <eos> padded with it."""
    law = {}

    def walk(text, writers, probability):
        if probability == 0:
            return
        if len(text) == HORIZON or EOS in text:
            padded = text + (EOS,) * (HORIZON - len(text))
            law[padded] = law.get(padded, 0.0) + probability
            return
        base, aligned = next_base(text), next_aligned(text)
        wants = base_share(policy, base, aligned)
        top = TEXTS[max(range(len(base)), key=lambda y: base[y])]
        if text and TEXTS[text[-1]][-1].isalnum() and top[0].isalnum():
            wants = float(writers[-1])
        if len(text) < policy.aligned_prefix:
            wants = 0.0
        ours, theirs = warp(aligned, **warping), warp(masked(base), **warping)
        for y in range(len(TEXTS)):
            walk((*text, y), (*writers, False), probability * (1 - wants) * ours[y])
            keep = aligned[y] >= policy.veto * max(aligned)
            walk((*text, y), (*writers, True), probability * wants * theirs[y] * keep)
        vetoed = sum(
            theirs[y] for y in range(len(TEXTS)) if aligned[y] < policy.veto * max(aligned)
        )
        for y in range(len(TEXTS)):
            walk((*text, y), (*writers, False), probability * wants * vetoed * ours[y])

    walk((), (), 1.0)
    return law


@torch.no_grad()
def reader(model, prompt):
    """Text to next-token probabilities, by full recomputation, remembered."""
    known = {}

    def read(text):
        if text not in known:
            logits = model(torch.tensor([[*prompt, *text]])).logits[0, -1]
            known[text] = logits.double().softmax(-1).tolist()
        return known[text]

    return read


def counts(policy, base, aligned, warping, execute=routed_sample):
    torch.manual_seed(11)
    loop = partial(
        execute,
        base=BaseInput(base, torch.tensor([BASE_PROMPT])),
        policy=policy,
        vocabulary=VOCABULARY,
    )
    out = GenerationMixin.generate(
        aligned,
        torch.tensor([PROMPT]),
        custom_generate=loop,
        do_sample=True,
        **{"top_k": 0, **warping},
        max_new_tokens=HORIZON,
        num_return_sequences=ROWS,
    )
    seen = {}
    for row in out[:, len(PROMPT) :].tolist():
        row = (*row, *[EOS] * (HORIZON - len(row)))
        seen[row] = seen.get(row, 0) + 1
    return seen


def p_value(law, seen):
    """Chi-square over sequences, those expected fewer than five times taken together."""
    if not set(seen) <= set(law):
        return 0.0  # a sequence that cannot happen
    common = [text for text in law if law[text] * ROWS >= 5]
    observed = [seen.get(text, 0) for text in common]
    expected = [law[text] * ROWS for text in common]
    rest = ROWS - sum(expected)
    if rest > 1e-6 * ROWS:
        observed.append(ROWS - sum(observed))
        expected.append(rest)
    expected = [e * sum(observed) / sum(expected) for e in expected]
    return chisquare(observed, expected).pvalue


POLICIES = [
    Policy(Router.RAND, 0.4),
    Policy(Router.P, 0.5),
    Policy(Router.H, 1.2),
    Policy(Router.PUNC),
    Policy(Router.FC),
    Policy(Router.P_PUNC, 0.7),
    Policy(Router.P_FC, 0.7),
    Policy(Router.H_PUNC, 0.8),
    Policy(Router.RAND_PUNC, 0.6),
    Policy(Router.P_PUNC, 0.7, content_reads=Side.ALIGNED),
    Policy(Router.P, 0.6, aligned_prefix=1),
    Policy(Router.RAND, 0.7, veto=0.5),
    Policy(Router.P_PUNC, 0.7, veto=0.3, aligned_prefix=1),
]


def label(policy):
    extras = (f"prefix{policy.aligned_prefix}" * bool(policy.aligned_prefix)) + (
        f"veto{policy.veto}" * bool(policy.veto)
    )
    return f"{policy.router}-{policy.content_reads}{extras}"


EXECUTIONS = {
    "eager": routed_sample,
    "lazy": partial(routed_sample, lazy=True),
    "block1": partial(block_sample, block=1),
    "block2": partial(block_sample, block=2),
    "block": block_sample,
}
WARPINGS = {
    "plain": {},
    "warm": {"temperature": 1.6},
    "top-k": {"top_k": 3},
    "top-p": {"temperature": 0.7, "top_p": 0.8},
    "min-p": {"min_p": 0.3},
    "all": {"temperature": 1.2, "top_k": 4, "top_p": 0.9, "min_p": 0.1},
}


def cases():
    axes = [list(enumerate(axis)) for axis in (POLICIES, WARPINGS, EXECUTIONS)]
    for (i, policy), (j, warping), (k, execution) in itertools.product(*axes):
        covers = (i + j) % len(EXECUTIONS) == k  # a square in which every pair occurs
        marks = () if covers else pytest.mark.slow
        name = f"{label(policy)}-{warping}-{execution}"
        yield pytest.param(policy, warping, execution, marks=marks, id=name)


@pytest.mark.parametrize(("policy", "warping", "execution"), list(cases()))
def test_every_sequence_has_its_probability(policy, warping, execution, pair, readers):
    law = exact(policy, *readers, WARPINGS[warping])
    assert sum(law.values()) == pytest.approx(1)
    seen = counts(policy, *pair, WARPINGS[warping], EXECUTIONS[execution])
    assert p_value(law, seen) > 1e-5


def test_the_default_cases_hold_every_pair():
    chosen = [case.values for case in cases() if not case.marks]
    for one, other in itertools.combinations(range(3), 2):
        axes = POLICIES, WARPINGS, EXECUTIONS
        pairs = {(case[one], case[other]) for case in chosen}
        assert pairs == set(itertools.product(axes[one], axes[other]))


def test_the_test_can_tell_the_policies_apart(pair, readers):
    """Otherwise it proves nothing: each text is far from the law of every other policy."""
    policies = [Policy(Router.RAND, 0.4), Policy(Router.P, 0.5), Policy(Router.PUNC)]
    laws = [exact(policy, *readers, {}) for policy in policies]
    for law, other in itertools.permutations(range(len(laws)), 2):
        seen = counts(policies[other], *pair, {})
        assert p_value(laws[law], seen) < 1e-9


@pytest.mark.parametrize("warping", ["plain", "top-p", "min-p"])
def test_the_test_can_tell_the_warpings_apart(warping, pair, readers):
    """A draft that is not warped as the aligned model's choice is would be noticed."""
    policy = Policy(Router.RAND, 0.4)
    law = exact(policy, *readers, WARPINGS["warm"])
    assert p_value(law, counts(policy, *pair, WARPINGS[warping], block_sample)) < 1e-9
