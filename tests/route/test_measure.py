"""Measures against cases worked by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from route.bootstrap import Resampler
from route.measure import (
    compressed,
    cut,
    distinct,
    expectation_adjusted_distinct,
    lexical,
    mean_log_probability,
    rouge_l,
    self_bleu,
)
from route.prompts import pad_left

SCORER = RougeScorer(["rougeL"])


def test_distinct_counts_n_grams_over_all_texts():
    texts = cut(["a b a", "a b"], 10)
    assert distinct(texts, 1) == pytest.approx(2 / 5)
    assert distinct(texts, 2) == pytest.approx(2 / 3)  # ab, ba, ab
    assert distinct(texts, 3) == 1.0
    assert distinct(texts, 4) == 0.0
    assert cut(["a b c"], 2) == [["a", "b"]]


def test_expectation_adjusted_distinct():
    # two draws from two words show 2 (1 - 1/4) = 1.5 of them on average
    assert expectation_adjusted_distinct([["a", "b"]], 2) == pytest.approx(2 / 1.5)
    assert expectation_adjusted_distinct([["a"], ["a"]], 2) == pytest.approx(1 / 1.5)
    assert expectation_adjusted_distinct([[], []], 2) == 0.0


def test_self_bleu_by_hand():
    same = [["the", "fox", "ran", "far", "away"]] * 2
    assert self_bleu(same) == 1.0
    assert self_bleu([["a", "b"], ["c", "d"]]) < 0.5
    # against "a b c d e": precisions 4/5, 3/4, 2/3, 1/2, no brevity penalty
    one, other = ["a", "b", "c", "d", "x"], ["a", "b", "c", "d", "e"]
    assert self_bleu([one, other]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert self_bleu([[], []]) == 1.0
    assert self_bleu([[], ["a"]]) == 0.0
    with pytest.raises(ValueError, match="compares texts, got 1"):
        self_bleu([["a"]])


def test_rouge_l_by_hand():
    # "a c d" is common to both: 2 * 3 / (4 + 5)
    assert rouge_l([list("abcd"), list("xacyd")]) == pytest.approx(6 / 9)
    assert rouge_l([["a"], ["b"]]) == 0.0
    assert rouge_l([["a", "b"], ["b", "a"]]) == 0.5
    assert rouge_l([[], []]) == 1.0
    assert rouge_l([[], ["a"]]) == 0.0
    assert rouge_l([["a"], ["a"], ["b"]]) == pytest.approx(1 / 3)  # of three pairs one is equal
    with pytest.raises(ValueError, match="compares texts, got 1"):
        rouge_l([["a"]])


words = st.lists(st.sampled_from("abcde"), min_size=1, max_size=12)


@given(words, words)
def test_rouge_l_is_that_of_the_reference_implementation(a, b):
    # rouge_score comes with lm-eval; it drops nothing from texts of single letters
    reference = SCORER.score(" ".join(a), " ".join(b))["rougeL"].fmeasure
    assert rouge_l([a, b]) == pytest.approx(reference)


def test_compression_sees_repetition():
    once, twice = [["the", "fox", "ran", "far"]], [["the", "fox", "ran", "far"]] * 2
    assert compressed(twice) < compressed(once)
    assert compressed([[], []]) < 4
    assert compressed([[]]) == 0.0
    # DEFLATE of 400 equal letters: a literal and one long match, a few bytes in all
    assert compressed([["a" * 400]]) < 0.05


def test_every_lexical_measure_has_a_name_and_grows_with_difference():
    same = cut(["the fox ran far away"] * 2, 10)
    other = cut(["the fox ran far away", "a barn hid in some river"], 10)
    for name, measure in lexical(vocabulary=100).items():
        assert measure(other) > measure(same), name


def test_mean_log_probability_is_that_of_each_row_alone(aligned):
    rows = [([5, 6], [7, 8, 9]), ([7], [4, 1])]
    ids, mask = pad_left([prompt for prompt, _ in rows])
    new, emitted = torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.bool)
    for row, (_, text) in enumerate(rows):
        new[row, : len(text)], emitted[row, : len(text)] = torch.tensor(text), True
    seen = torch.cat([mask, emitted.long()], 1)
    means = mean_log_probability(aligned, torch.cat([ids, new], 1), seen, emitted, rows=1)
    for mean, (prompt, text) in zip(means, rows, strict=True):
        with torch.no_grad():
            log_p = aligned(torch.tensor([prompt + text])).logits[0].log_softmax(-1)
        alone = [log_p[len(prompt) + i - 1, y].item() for i, y in enumerate(text)]
        assert mean.item() == pytest.approx(sum(alone) / len(alone), abs=1e-5)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.integers(0, 9))
def test_intervals_hold_the_mean_of_constant_and_of_any_values(values, seed):
    array = np.array(values)
    estimate = Resampler(len(array), seed).mean(array)
    assert array.min() - 1e-6 <= estimate.low <= estimate.high <= array.max() + 1e-6
    assert estimate.value == pytest.approx(array.mean(), abs=1e-6)


def test_the_interval_has_the_width_of_the_standard_error():
    array = np.random.default_rng(0).normal(size=400)
    estimate = Resampler(400, 1).mean(array)
    expected = 2 * 1.96 * array.std() / math.sqrt(400)
    assert estimate.high - estimate.low == pytest.approx(expected, rel=0.15)


def test_ratios_are_of_sums():
    estimate = Resampler(2, 0).ratio(np.array([1.0, 3.0]), np.array([10.0, 10.0]))
    assert (estimate.value, estimate.low, estimate.high) == (0.2, 0.1, 0.3)
    assert Resampler(2, 0).ratio(np.zeros(2), np.zeros(2)).value == 0.0
