"""Rows that cannot be true are refused by the database itself, whoever writes them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError, StatementError

from db import outcomes as o
from db.engine import writing
from db.schema import candidates

from .story import LEASE, NOW, drafted, dump, planned, scored, sighted, tell

GOOD = scored("add", "01", split="tune", candidate_id=2)

IMPOSSIBLE = {
    "a sha that is not full": sighted("x", "abc"),
    "an unknown base": replace(sighted("x"), base_id=9),
    "a score of nobody": replace(GOOD, candidate_id=None),
    "a score of two": replace(GOOD, soup_id=1),
    "an unknown candidate": replace(GOOD, candidate_id=99),
    "an unknown split": replace(GOOD, split="train"),
    "fewer bits than items": replace(GOOD, n=3),
    "no items": replace(GOOD, n=0, outcomes="", value=0.0),
    "an answer that is neither right nor wrong": replace(GOOD, outcomes="0x"),
    "a value that the bits do not say": replace(GOOD, value=1.0),
    "a negative error": replace(GOOD, stderr=-0.1),
    "money back": o.Spent(1, "evaluate", seconds=-1.0),
    "a weight of nothing": replace(planned("r"), members=((2, 0, 10),)),
    "more than all of one": replace(planned("r"), members=((2, 11, 10),)),
    "a member twice": replace(planned("r"), members=((2, 1, 2), (2, 1, 2))),
    "a look that is not the next": o.LookTaken(1, 2, "splits", 1, 0.01),
    "a look at no level": o.LookTaken(1, 2, "splits", 2, 0.0),
    "an unknown state": o.Moved(1, "lost"),
    "published nowhere": o.Moved(2, "verified"),
    "two versions with one number": drafted("recipe-3", 1),
    "a soup without a soup": replace(drafted("recipe-3", 3), soup_id=None),
    "a soup that is a router": replace(drafted("recipe-3", 3), router_id=1),
    "a third kind": replace(drafted("recipe-3", 3), kind="adapter"),
    "a switch for nothing": o.Paused("coffee", "why not"),
}


@pytest.mark.parametrize("outcome", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_rows_are_refused_and_leave_nothing(told, outcome):
    before = dump(told)
    with pytest.raises(IntegrityError):
        tell(told, LEASE, [outcome])
    assert dump(told) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE candidates SET reason = 'gated' WHERE id = 2",
        "UPDATE candidates SET state = 'rejected' WHERE id = 2",
        "UPDATE searches SET state = 'open'",
        "UPDATE soups SET verdict = NULL WHERE id = 1",
        "UPDATE soups SET state = 'built' WHERE id = 2",
        "UPDATE requests SET verb = 'dance'",
        "DELETE FROM soups",
        "UPDATE candidates SET role = 'base' WHERE id = 2",
    ],
)  # fmt: skip
def test_impossible_changes_are_refused(told, statement):
    told.ask("watch", None, None, False, NOW)
    with pytest.raises(IntegrityError), writing(told.engine) as connection:
        connection.execute(text(statement))


def test_a_moment_without_a_zone_is_refused(store, lease):
    values = {"base_id": 1, "repo": "x/y", "sha": "a" * 40, "seen_at": datetime(2026, 1, 1)}
    with pytest.raises(StatementError, match="no time zone"), writing(store.engine) as connection:
        connection.execute(insert(candidates).values(**values))
