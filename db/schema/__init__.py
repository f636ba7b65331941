"""The tables. Rows are facts; what to do next is derived from them (`bot/plan.py`), never stored.

Everything is named by content: a candidate by repo and sha, a score by candidate, category and
benchmark digest, a soup by recipe digest, a publication by kind, target and digest. Doing a thing
twice therefore meets a unique constraint and finds it done.

Plain SQL is a supported way in: `category_table` has one row per candidate and category.
"""

from db.schema.columns import Moment, metadata
from db.schema.coordination import REQUEST_VERBS, attempts, events, leases, requests, switches
from db.schema.evaluation import CATEGORY_TABLE, bases, benchmarks, candidates, scores, spending
from db.schema.outbox import PUBLICATION_STATES, SENDING, publications, routers
from db.schema.souping import looks, searches, selections, soup_members, soups, trials

__all__ = [
    "CATEGORY_TABLE",
    "PUBLICATION_STATES",
    "REQUEST_VERBS",
    "SENDING",
    "Moment",
    "attempts",
    "bases",
    "benchmarks",
    "candidates",
    "events",
    "leases",
    "looks",
    "metadata",
    "publications",
    "requests",
    "routers",
    "scores",
    "searches",
    "selections",
    "soup_members",
    "soups",
    "spending",
    "switches",
    "trials",
]
