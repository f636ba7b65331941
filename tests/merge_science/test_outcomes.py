import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.outcomes import Outcomes, require_paired
from merge.splits import Leak, Split

bits = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.text("01-", min_size=1, max_size=9), min_size=1
)


@given(bits)
def test_bits_round_trip(raw) -> None:
    outcomes = Outcomes.from_bits(Split.TUNE, raw)
    assert outcomes.to_bits() == raw
    assert outcomes.complete == ("-" not in "".join(raw.values()))
    assert outcomes.n_evaluated == sum(b in "01" for b in "".join(raw.values()))


def test_scores_are_over_the_evaluated_items() -> None:
    outcomes = Outcomes.from_bits(Split.TUNE, {"a": "110-", "b": "1111"})
    score = outcomes.score("a")
    assert (score.value, score.n) == (2 / 3, 3)
    assert score.stderr == pytest.approx(math.sqrt(2 / 3 / 3 / 2))
    assert outcomes.macro() == pytest.approx((2 / 3 + 1) / 2)
    with pytest.raises(ValueError, match="'a' has no evaluated item"):
        Outcomes.from_bits(Split.TUNE, {"a": "--"}).score("a")


@given(st.text("01", min_size=1, max_size=9), st.data())
def test_parts_merge_into_the_whole(text, data) -> None:
    mask = data.draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
    parts = ["".join(b if m is side else "-" for b, m in zip(text, mask, strict=True))
             for side in (True, False)]  # fmt: skip
    first, second = (Outcomes.from_bits(Split.TUNE, {"a": p}) for p in parts)
    assert first.merged(second).to_bits() == {"a": text}
    assert first.merged(second) == second.merged(first)


def test_contradicting_parts_are_refused() -> None:
    first, second = (Outcomes.from_bits(Split.TUNE, {"a": b}) for b in ("01-", "-01"))
    with pytest.raises(ValueError, match="'a' item 1"):
        first.merged(second)


def test_splits_do_not_mix() -> None:
    tune, report = (Outcomes.from_bits(s, {"a": "01"}) for s in (Split.TUNE, Split.REPORT))
    with pytest.raises(ValueError, match="tune and report"):
        require_paired([tune, report])
    with pytest.raises(Leak):
        tune.require(Split.REPORT, "the gate")
    assert tune != report


@pytest.mark.parametrize("raw", [{"a": "012"}, {"a": ""}, {}, {"a": "0é"}])
def test_wrong_bits_are_refused(raw) -> None:
    with pytest.raises(ValueError, match=r"categor"):
        Outcomes.from_bits(Split.TUNE, raw)


def test_take_keeps_the_order_asked() -> None:
    outcomes = Outcomes.from_bits(Split.TUNE, {"a": "0011", "b": "1"})
    assert outcomes.take({"a": [3, 0]}).to_bits() == {"a": "10"}


def test_outcomes_cannot_be_changed() -> None:
    outcomes = Outcomes(Split.TUNE, {"a": np.array([0, 1])})
    with pytest.raises(ValueError, match="read-only"):
        outcomes.values["a"][0] = 1
