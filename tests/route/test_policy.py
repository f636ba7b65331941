"""The routing rules on distributions small enough to work by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from route.policy import History, decide, entropy, hand_on, largest_probability, plausible
from route.rules import Content, Doubt, Policy, Router, Side, check_threshold
from route.vocab import classify

TEXTS = ["<eos>", " the", " fox", "es", ".", "\n"]
EOS, THE, FOX, ES, STOP, NEWLINE = range(6)
VOCABULARY = classify(TEXTS, special={EOS})


def logits(*rows):
    """Each row: token to probability; the rest is shared evenly."""
    table = torch.zeros(len(rows), len(TEXTS))
    for row, given_probs in zip(table, rows, strict=True):
        row += (1 - sum(given_probs.values())) / (len(TEXTS) - len(given_probs))
        for token, probability in given_probs.items():
            row[token] = probability
    return table.log()


def routed(policy, base, aligned=None, last=STOP, by_base=False, step=1, coin=None):
    history = History(torch.tensor([step]), torch.tensor([last]), torch.tensor([by_base]))
    aligned = base if aligned is None else aligned
    return bool(decide(policy, base, aligned, history, VOCABULARY, coin).base)


def test_names_say_their_rules():
    assert (Router.P_PUNC.doubt, Router.P_PUNC.content) == (Doubt.P, Content.PUNC)
    assert (Router.PUNC.doubt, Router.PUNC.content) == (None, Content.PUNC)
    assert (Router.H.doubt, Router.H.content) == (Doubt.H, None)
    assert Router.P_FC.control is Router.RAND_FC
    assert Router.H.control is Router.RAND


def test_p_gives_the_unsure_to_the_base_and_h_runs_the_other_way():
    sure, unsure = logits({FOX: 0.9}), logits({FOX: 0.3})
    assert not routed(Policy(Router.P, 0.5), sure)
    assert routed(Policy(Router.P, 0.5), unsure)
    assert not routed(Policy(Router.H, 1.0), sure)
    assert routed(Policy(Router.H, 1.0), unsure)
    assert not routed(Policy(Router.H, 2.0), unsure)  # a larger threshold means more aligned


def test_signals_are_those_of_the_formulas():
    even = torch.zeros(1, 6)
    assert largest_probability(even).item() == pytest.approx(1 / 6)
    assert entropy(even).item() == pytest.approx(math.log(6))
    certain = torch.full((1, 6), -torch.inf)
    certain[0, 2] = 0.0
    assert entropy(certain).item() == 0.0
    half = logits({FOX: 0.5, THE: 0.5 - 1e-9})
    assert entropy(half).item() == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize(
    ("router", "top", "base_writes"),
    [
        (Router.PUNC, FOX, True),
        (Router.PUNC, THE, True),
        (Router.PUNC, STOP, False),
        (Router.PUNC, NEWLINE, False),
        (Router.PUNC, EOS, False),
        (Router.FC, FOX, True),
        (Router.FC, THE, False),
        (Router.FC, STOP, True),
        (Router.P_PUNC, FOX, True),
        (Router.P_PUNC, STOP, False),
        (Router.P_FC, STOP, True),
        (Router.P_FC, THE, False),
        (Router.H_PUNC, NEWLINE, False),
    ],
)
def test_content_rules_keep_the_predicted_class_for_aligned(router, top, base_writes):
    threshold = {Doubt.P: 0.9, Doubt.H: 0.1, None: None}[router.doubt]
    assert routed(Policy(router, threshold), logits({top: 0.4})) is base_writes


def test_content_rules_can_read_the_aligned_model():
    policy = Policy(Router.PUNC, content_reads=Side.ALIGNED)
    assert not routed(policy, logits({FOX: 0.9}), aligned=logits({STOP: 0.9}))
    assert routed(policy, logits({STOP: 0.9}), aligned=logits({FOX: 0.9}))


@pytest.mark.parametrize("writer", [True, False])
def test_who_opens_a_word_finishes_it(writer):
    goes_on = logits({ES: 0.9})
    for router in Router:
        threshold = None if router.doubt is None else "never" if writer else "always"
        held = routed(
            Policy(router, threshold), goes_on, last=FOX, by_base=writer, coin=torch.zeros(1)
        )
        assert held is writer
    # a new word, a stop, and "es" after a stop are free again
    assert routed(Policy(Router.P, "always"), logits({THE: 0.9}), last=FOX, by_base=False)
    assert not routed(Policy(Router.P, "never"), logits({STOP: 0.9}), last=FOX, by_base=True)
    assert not routed(Policy(Router.P, "never"), goes_on, last=STOP, by_base=True)


def test_the_first_token_and_the_aligned_prefix():
    goes_on = logits({ES: 0.9})
    assert routed(Policy(Router.P, "always"), goes_on, last=FOX, step=0)
    prefixed = Policy(Router.P, "always", aligned_prefix=2)
    assert [routed(prefixed, goes_on, step=step) for step in (0, 1, 2)] == [False, False, True]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=9), st.booleans())
def test_what_holds_is_handed_on_from_left_to_right(positions, before):
    wants, held = (torch.tensor([column]) for column in zip(*positions, strict=True))
    writers, writer = [], before
    for want, hold in positions:
        writer = writer if hold else want
        writers.append(writer)
    assert hand_on(wants, held, torch.tensor([before])).tolist() == [writers]


@pytest.mark.parametrize("router", [router for router in Router if router.doubt])
def test_a_missing_signal_means_aligned(router):
    coin = torch.tensor([torch.nan])
    nothing = torch.full((1, 6), torch.nan)
    middle = Policy(router, 0.5)
    assert not routed(middle, nothing, coin=coin)


def test_the_coin_decides_rand():
    policy = Policy(Router.RAND, 0.3)
    table = logits({FOX: 0.5})
    assert routed(policy, table, coin=torch.tensor([0.29]))
    assert not routed(policy, table, coin=torch.tensor([0.3]))
    assert [Policy(Router.RAND, t).tosses for t in ("never", 0.3, "always")] == [False, True, False]


@pytest.mark.parametrize(
    ("router", "threshold"),
    [
        (Router.P, 1.5),
        (Router.P, None),
        (Router.P, "sometimes"),
        (Router.P, True),
        (Router.P, math.nan),
        (Router.H, -0.1),
        (Router.RAND, 1.01),
        (Router.PUNC, 0.5),
        (Router.FC, "never"),
    ],
)
def test_thresholds_out_of_range_are_refused(router, threshold):
    with pytest.raises(ValueError, match="threshold"):
        check_threshold(router, threshold)


def test_the_veto_compares_with_the_largest_probability():
    table = logits({FOX: 0.5, THE: 0.3, STOP: 0.1})
    tokens = torch.tensor([FOX, THE, STOP])
    kept = plausible(tokens, table.expand(3, -1), 0.5)
    assert kept.tolist() == [True, True, False]


@given(st.lists(st.floats(-20, 20), min_size=6, max_size=6), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_threshold_never_takes_a_position_from_the_base(row, low, high):
    low, high = sorted((low, high))
    table = torch.tensor([row])
    for router in (Router.P, Router.P_PUNC, Router.P_FC):
        assert routed(Policy(router, low), table) <= routed(Policy(router, high), table)
    for router in (Router.H, Router.H_PUNC):
        assert routed(Policy(router, low), table) >= routed(Policy(router, high), table)
