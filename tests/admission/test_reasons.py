"""The closed list of reason codes: complete, explained, ordered."""

import pytest

from bot.errors import Rejected
from bot.reasons import Reason, explain, rank
from merge.errors import Code


def test_every_code_of_the_engine_is_a_reason():
    assert {code.value for code in Code} <= {reason.value for reason in Reason}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_explained_in_words(reason):
    words = explain(reason)
    assert len(words.meaning) > 10
    assert len(words.remedy) > 3
    assert words.meaning in str(Rejected(reason, "weights", "why"))


def test_the_documented_order_of_report():
    stages = [
        Reason.BAD_LISTING,
        Reason.GATED,
        Reason.NO_LICENCE,
        Reason.TOO_LARGE,
        Reason.NO_SAFETENSORS,
        Reason.BAD_INDEX,
        Reason.BAD_SAFETENSORS,
        Reason.WRONG_TENSORS,
        Reason.WRONG_SHAPES,
        Reason.CONFIG_MISMATCH,
        Reason.VOCAB_MISMATCH,
        Reason.DUPLICATE,
        Reason.NON_FINITE,
        Reason.ABNORMAL_NORM,
    ]
    assert [rank(stage) for stage in stages] == sorted(rank(stage) for stage in stages)
