"""SIGKILL at random points: what is in the database is whole."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import text

from db.engine import migrate, open_engine, reading
from db.store import Store

from .story import NOW, STORY, TTL, begin, planned, tell

KILLS = 6
KEEPER = Path(__file__).with_name("keeper.py")
HALF = """
SELECT
  (SELECT count(*) FROM soups s
   WHERE (SELECT count(*) FROM soup_members m WHERE m.soup_id = s.id) <> 2) AS without_members,
  (SELECT count(*) FROM soups) - (SELECT count(*) FROM events WHERE kind = 'soup-planned')
    AS without_event,
  (SELECT count(*) FROM attempts WHERE state = 'running') AS running
"""


def test_killed_at_any_point_the_rows_are_whole(store):
    lease = begin(store)
    before = next(i for i, outcome in enumerate(STORY) if outcome == planned())
    tell(store, lease, STORY[:before])
    rng = random.Random(7)
    soups = []
    for turn in range(KILLS):
        run_and_kill(store, turn, rng.uniform(0.0, 0.2))
        with reading(store.engine) as connection:
            if connection.dialect.name == "sqlite":
                assert connection.exec_driver_sql("PRAGMA quick_check").scalar() == "ok"
            found = connection.execute(text(HALF)).one()
            soups.append(connection.execute(text("SELECT count(*) FROM soups")).scalar())
        assert (found.without_members, found.without_event) == (0, 0)
        assert found.running <= 1
    assert soups == sorted(soups)
    assert soups[-1] > 0, "the kills came too early to show anything"
    store.engine.dispose()
    again = Store(open_engine(whole_url(store)))
    migrate(again.engine)
    taken = again.take_lease("after", NOW, TTL, lambda holder: True)
    assert taken is not None
    assert taken.token == lease.token + KILLS + 1
    again.engine.dispose()


def run_and_kill(store: Store, turn: int, seconds: float) -> None:
    command = [sys.executable, str(KEEPER), whole_url(store), str(turn * 100_000)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "ready\n"
        time.sleep(seconds)  # how far it gets is the experiment
        keeper.kill()


def whole_url(store: Store) -> str:
    return store.engine.url.render_as_string(hide_password=False)
