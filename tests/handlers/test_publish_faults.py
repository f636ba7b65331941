"""Cut off, refused or killed at any request, the publisher makes one version and no second."""

from __future__ import annotations

from contextlib import suppress

import pytest

from bot.errors import LeaseLost
from bot.localhub import Fault

from .press import PASSING, Press

FAULTS = {
    "cut before": Fault("", "cut"),
    "cut after": Fault("", "lose"),
    "error": Fault("", "status", status=503),
    "busy": Fault("", "status", status=409),
}


def disturb(press: Press, publication: int, number: int, name: str) -> None:
    """The request after `number` others meets the fault; then the way is free."""
    press.server.forget_requests()
    if number:
        press.server.inject(Fault("", "slow", number, seconds=0))
    press.server.inject(FAULTS[name])
    with suppress(*PASSING):
        press.run(publication)
    assert len(press.server.requests) >= number, "it did not come so far"
    press.server.clear_faults()
    press.settle(publication)
    if name == "cut after":
        assert sent_after_the_commit(press) == []


def sent_after_the_commit(press: Press) -> list[str]:
    """What was sent again although its commit stands. Client and Hub make no second commit of equal
    content, so that we looked shows in the requests alone."""
    paths = [request.path for request in press.server.requests]
    at = next(n for n, path in enumerate(paths) if path.endswith("/commit/main"))
    return [path for path in paths[at + 1 :] if "/preupload/" in path or "/commit/" in path]


def numbers(press: Press, publication: int, name: str) -> list[int]:
    """Which requests to disturb: those of this publication, which is sent in peace."""
    press.server.forget_requests()
    press.run(publication)
    methods = [request.method for request in press.server.requests]
    assert len(methods) > 10
    # a lock is held against those who write
    return [n for n, m in enumerate(methods) if name != "busy" or m not in ("GET", "HEAD")]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_any_request_makes_one_first_version(presses, name):
    calm = presses("us/calm")
    for number in numbers(calm, calm.draft(), name):
        press = presses(f"us/soup-{number}")
        publication = press.draft()
        disturb(press, publication, number, name)
        press.assert_published_once(publication)
        assert not press.private


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_any_request_makes_one_next_version(press, name):
    versions = [press.published(), press.draft(2)]
    for number in numbers(press, versions[-1], name):
        versions.append(press.draft(len(versions) + 1))
        disturb(press, versions[-1], number, name)
        assert press.row(versions[-1]).state == "verified"
    press.assert_published_once(*versions)


def test_a_lost_lease_before_any_write_leaves_the_rest_to_the_next_coordinator(presses):
    for number in range(20):
        press = presses(f"us/lease-{number}")
        left = [None] * number

        def before_write(left: list[None] = left) -> None:
            if not left:
                raise LeaseLost(1, 2)
            left.pop()

        publication = press.draft()
        press.before_write = before_write
        try:
            press.run(publication)
        except LeaseLost:
            press.before_write = lambda: None
            press.settle(publication)
            press.assert_published_once(publication)
        else:
            assert number > 5, "creating, upload, commit, tag and showing ask before they write"
            return
    raise AssertionError("it asks for ever")


@pytest.mark.parametrize("stop", [1, 2])
def test_a_kill_between_any_two_outcomes_makes_no_second_version(press, stop):
    publication = press.draft()
    press.run(publication, stop_after=stop)
    press.settle(publication)
    press.assert_published_once(publication)
