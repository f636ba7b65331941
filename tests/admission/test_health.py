"""What the values of tensors say, from the child's answer alone."""

import pytest

from bot.admission import judge_health, nearest
from bot.errors import Broken
from bot.reasons import Reason

GOOD = {
    "fingerprint": "f" * 64,
    "unequal": [],
    "non_finite": [],
    "norm_ratio_min": ["a", 0.97],
    "norm_ratio_max": ["b", 1.1],
    "delta_norm": 0.2,
    "sketch": [0.6, 0.8],
}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"unequal": ["x"], "non_finite": ["y"]}, Reason.WRONG_BUFFERS),
        ({"non_finite": ["x", "y"]}, Reason.NON_FINITE),
        ({"norm_ratio_min": ["a", 0.0]}, Reason.ABNORMAL_NORM),
        ({"norm_ratio_max": ["a", 1e30]}, Reason.ABNORMAL_NORM),
        ({"norm_ratio_max": ["a", float("nan")]}, Reason.ABNORMAL_NORM),
        ({"delta_norm": 0.87}, Reason.NOT_A_FINETUNE),
        ({"delta_norm": float("nan")}, Reason.NOT_A_FINETUNE),
        ({"non_finite": ["x"], "delta_norm": 9.0}, Reason.NON_FINITE),
    ],
)
def test_verdicts(change, code):
    found = judge_health(GOOD | change)
    assert (found.code if found else None) is code


def test_names_of_strangers_stay_on_one_line():
    found = judge_health(GOOD | {"non_finite": ["a\nb" * 200]})
    assert found.subject.isprintable()
    assert len(found.subject) < 300


def test_a_near_copy_names_its_original():
    found = judge_health(GOOD, {"tiny/far@1": [0.8, -0.6], "tiny/near@2": [0.61, 0.79]})
    assert (found.code, found.subject) == (Reason.NEAR_DUPLICATE, "tiny/near@2")
    assert judge_health(GOOD, {"tiny/far@1": [0.8, 0.3]}) is None
    assert nearest([1.0], {}) is None


@pytest.mark.parametrize("bad", [{}, {"non_finite": "x"}, GOOD | {"norm_ratio_min": ["a"]}])
def test_an_answer_of_another_form_is_broken(bad):
    with pytest.raises(Broken):
        judge_health(bad)
