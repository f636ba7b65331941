"""A coordinator that keeps outcomes until it is killed. Run as a program: database, token."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from itertools import count

from db import outcomes as o
from db.engine import open_engine
from db.store import Store

TTL = timedelta(days=1)


def main(url: str, start: int) -> None:
    store = Store(open_engine(url))
    now = datetime.now(UTC)
    lease = store.take_lease(f"keeper {start}", now, TTL, lambda holder: True)
    assert lease is not None
    store.settle_interrupted(lease, now, limit=99)
    print("ready", flush=True)
    for n in count(start):
        step = f"search:{n}"
        store.begin_attempt(lease, step, 1, now)
        members = ((2, 4, 10), (3, 6, 10))
        store.keep(lease, o.SoupPlanned(1, 1, 1, f"recipe-{n}", "{}", members), now, step)
        store.keep(lease, o.Tried(1, f"{n} 0", {"add": "0" * 200}), now, step)
        store.end_attempt(lease, step)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
