"""Admission, and who pays when it is the base that cannot be read."""

from __future__ import annotations

import pytest

from bot.admit import _reference, admit
from bot.errors import Misconfigured, Transient
from bot.localhub import Fault
from db import outcomes as o
from db.report import events_of

OF_BASE = r"GET /api/models/tiny/base/"
OF_MEMBER = r"GET /api/models/tiny/arith/"
REFUSALS = pytest.mark.parametrize("status", [400, 403, 404])


@pytest.fixture(autouse=True)
def forgetful():
    """A base is read once a process; each of these processes is new."""
    _reference.cache_clear()


def test_a_fine_tune_is_admitted_with_its_files(street):
    candidate = street.push("arith")
    (admitted,) = street.run(admit, candidate)
    assert isinstance(admitted, o.Admitted)
    assert [path for path, *_ in admitted.files] == ["model.safetensors"]
    assert street.candidate("arith").files


def test_the_base_is_its_own_first_candidate(street):
    (admitted,) = street.run(admit, street.base)
    assert admitted.publishable
    assert street.base.files


@REFUSALS
def test_a_candidate_waits_for_a_base_that_is_refused(street, status):
    candidate = street.push("arith")
    street.hub.inject(Fault(OF_BASE, "status", status=status))
    with pytest.raises(Transient, match="has to wait for its base"):
        street.run(admit, candidate)
    (admitted,) = street.run(admit, candidate)
    assert isinstance(admitted, o.Admitted)


@REFUSALS
def test_a_base_that_is_refused_is_for_a_person_to_see(street, status):
    street.hub.inject(Fault(OF_BASE, "status", status=status))
    with pytest.raises(Misconfigured, match="the base tiny/base@"):
        street.run(admit, street.base)
    street.run(admit, street.base)
    assert street.base.files


def test_a_refused_candidate_is_refused(street):
    candidate = street.push("arith")
    street.hub.inject(Fault(OF_MEMBER, "status", status=403))
    (refused,) = street.run(admit, candidate)
    assert isinstance(refused, o.Rejected)
    assert refused.code == "gated"


PIRATE = """\
---
base_model: tiny/base
tags: ["license:mit\\e]0;all yours\\a\\e[2J"]
---
"""  # in YAML, \\e is the escape character; what licences the Hub lets in, a tag goes round


@pytest.mark.parametrize("allowed", [False, True])
def test_a_licence_that_drives_a_terminal_is_kept_as_it_looks(street, allowed):
    street.allow_private(allowed)
    street.push("arith")
    candidate = street.edit("arith", {"README.md": PIRATE})
    (verdict,) = street.run(admit, candidate)
    assert isinstance(verdict, o.Admitted if allowed else o.Rejected)
    assert verdict.licence if allowed else verdict.detail
    events = events_of(street.loop.store.engine, "tiny/arith")
    assert any("all yours" in event.text for event in events)
    assert all(event.text.isprintable() for event in events)
    assert (street.candidate("arith").licence or "").isprintable()


def test_a_candidate_that_is_gone_is_withdrawn(street):
    candidate = street.push("arith")
    street.strangers.api.delete_repo("tiny/arith")
    (withdrawn,) = street.run(admit, candidate)
    assert isinstance(withdrawn, o.Withdrawn)
