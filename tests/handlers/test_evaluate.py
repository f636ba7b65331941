"""Evaluation, and who pays when it is base or donor that cannot be read."""

from __future__ import annotations

import pytest

from bot.admit import admit
from bot.errors import Misconfigured, Transient
from bot.evaluate import evaluate
from bot.localhub import Fault
from db import outcomes as o

CONFIG = r"(GET|HEAD) /tiny/base/resolve/\w+/config.json"
BASE_WEIGHTS = r"(GET|HEAD) /tiny/base/resolve/\w+/model.safetensors"
ALWAYS = 99


@pytest.fixture
def pair(street):
    """The base and a fine-tune, both admitted."""
    candidate = street.push("arith")
    for row in (street.base, candidate):
        street.run(admit, row)
    return street.base, street.candidate("arith")


def examined(street, *rows):
    """What a child would have found: the tensors are not opened again."""
    for row in rows:
        street.keep(o.Examined(row.id, f"{row.id:064x}", (1.0,) * 128, {"delta_norm": 0.1}))
    return [street.candidate(row.repo.partition("/")[2]) for row in rows]


@pytest.mark.parametrize("refused", [403, 404])
@pytest.mark.parametrize("what", [CONFIG, BASE_WEIGHTS])
def test_a_candidate_waits_for_a_base_that_is_refused(street, pair, what, refused):
    _, candidate = pair
    if what is CONFIG:
        (candidate,) = examined(street, candidate)
    street.hub.inject(Fault(what, "status", ALWAYS, status=refused))
    with pytest.raises(Transient, match="has to wait for its base"):
        street.run(evaluate, candidate)


@pytest.mark.parametrize("what", [CONFIG, BASE_WEIGHTS])
def test_a_base_that_is_refused_is_for_a_person_to_see(street, pair, what):
    (base, _) = pair
    if what is CONFIG:
        (base,) = examined(street, base)
    street.hub.inject(Fault(what, "status", ALWAYS, status=403))
    with pytest.raises(Misconfigured, match="the base tiny/base@"):
        street.run(evaluate, base)


def test_what_a_child_refuses_before_the_base_has_scores_is_no_verdict(street, pair):
    """The base's folder is damaged: the child says so, and does not know whose folder it is."""
    base, candidate = pair
    folder, _ = street.loop.world.shelf.weights(base)
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(Transient, match="before its base has scores"):
        street.run(evaluate, candidate)
    with pytest.raises(Misconfigured, match="the base tiny/base@"):
        street.run(evaluate, base)
