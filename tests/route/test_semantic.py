"""Semantic measures against cases worked by hand, and the encoder that is the model itself."""

import math

import numpy as np
import pytest
import torch

from route.semantic import (
    CLUSTERS,
    COSINE,
    VENDI,
    HiddenStates,
    clusters,
    mean_cosine,
    semantic,
    similarity,
    vendi,
)


def test_cosines_and_texts_without_a_vector():
    kernel = similarity(np.array([[2.0, 0], [0, 3], [1, 1], [0, 0], [0, 0]]))
    half = math.sqrt(0.5)
    assert kernel[:3, :3] == pytest.approx(np.array([[1, 0, half], [0, 1, half], [half, half, 1]]))
    assert kernel[3, 4] == 1.0
    assert kernel[0, 3] == 0.0
    assert mean_cosine(kernel[:3, :3]) == pytest.approx(2 * half / 3)
    with pytest.raises(ValueError, match="compare texts, got 1"):
        mean_cosine(np.ones((1, 1)))


def test_the_vendi_score_counts_different_texts():
    assert vendi(np.ones((4, 4))) == pytest.approx(1.0)
    assert vendi(np.eye(4)) == pytest.approx(4.0)
    # two texts of cosine s: eigenvalues (1 + s) / 2 and (1 - s) / 2
    for s in (0.1, 0.5, 0.9):
        high, low = (1 + s) / 2, (1 - s) / 2
        by_hand = math.exp(-high * math.log(high) - low * math.log(low))
        assert vendi(np.array([[1, s], [s, 1]])) == pytest.approx(by_hand)
    # two pairs of equal texts are two texts
    assert vendi(np.kron(np.eye(2), np.ones((2, 2)))) == pytest.approx(2.0)


def test_the_partition_is_greedy_and_looks_at_first_members():
    chain = np.array([[1, 0.9, 0.5], [0.9, 1, 0.9], [0.5, 0.9, 1]])
    assert clusters(chain) == 2  # the third is like the second, which is not first of its class
    assert clusters(chain[::-1, ::-1]) == 2
    assert clusters(chain[[1, 0, 2]][:, [1, 0, 2]]) == 1
    assert clusters(np.eye(3)) == 3


def test_all_three_by_name():
    found = semantic(np.array([[1.0, 0], [0, 1]]))
    assert found == {COSINE: 1.0, VENDI: pytest.approx(2.0), CLUSTERS: 2.0}


def test_hidden_states_are_those_of_the_text_alone(aligned, tokenizer):
    texts = ["a fox ran", "the river", "", "a fox ran and hid in the barn"]
    reference = ["the barn", "a river ran", ""]
    encoder = HiddenStates(aligned, tokenizer, reference, rows=2)

    def alone(text):
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            out = aligned(ids, output_hidden_states=True)
        return out.hidden_states[-1][0].mean(0).numpy()

    origin = (alone("the barn") + alone("a river ran")) / 2
    vectors = encoder(texts)
    for text, vector in zip(texts, vectors, strict=True):
        expected = alone(text) - origin if text else np.zeros(len(origin))
        assert vector == pytest.approx(expected, abs=1e-5)


def test_empty_references_leave_the_origin_where_it_is(aligned, tokenizer):
    assert HiddenStates(aligned, tokenizer, [""])(["", ""]).any() is np.False_
    assert HiddenStates(aligned, tokenizer, [""])(["a fox"]).any()
