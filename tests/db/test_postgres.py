"""What PostgreSQL alone can do to us. With a server at hand, the other tests of this folder and of
`tests/loop` run on it too.
"""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from db.engine import Unavailable, Unusable, migrate, open_engine, reading, writing
from db.reader import Reader
from db.schema import CATEGORY_TABLE, metadata
from db.store import Store

from . import postgres
from .story import NOW, SECOND, STORY, begin, rows, tell

pytestmark = pytest.mark.skipif(not postgres.URL, reason=f"{postgres.VARIABLE} names no server")


@pytest.fixture
def store(server: Store) -> Store:
    return postgres.emptied(server)


def test_an_empty_schema_ends_at_todays_tables(store):
    with reading(store.engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        columns = connection.execute(text("SELECT * FROM category_table")).keys()
    assert all(f"AS {column}" in CATEGORY_TABLE for column in columns)


def test_a_migration_is_looked_at_only_once(store):
    migrate(store.engine)


def test_numbers_and_moments_come_back_as_they_went_in(store):
    tell(store, begin(store), [*STORY, *SECOND])
    assert Reader(store.engine).look_of(1, "splits").level == 0.03
    assert {row.at for row in rows(store, "events")} == {NOW}


def test_a_writer_waits_for_another_and_gives_up_in_time(store, monkeypatch):
    monkeypatch.setattr("db.engine.BUSY_MS", 50)
    with writing(store.engine), pytest.raises(Unavailable, match="lock"), writing(store.engine):
        pass
    with writing(store.engine) as connection:
        connection.execute(text("DELETE FROM events"))


def test_a_reader_waits_for_no_writer(store):
    with writing(store.engine) as connection:
        connection.execute(text("DELETE FROM events"))
        assert Reader(store.engine).last_event() == 0


def cut_while_writing(store: Store) -> None:
    with writing(store.engine) as connection:
        mine = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        with reading(store.engine) as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": mine})
        connection.execute(text("SELECT 1"))


def test_a_connection_that_is_cut_is_unavailable_and_the_next_one_works(store):
    with pytest.raises(Unavailable):
        cut_while_writing(store)
    assert store.ask("watch", None, None, False, NOW) == 1


def test_a_server_that_is_not_there_says_so():
    engine = open_engine("postgresql+psycopg://nobody@127.0.0.1:9/nothing")
    with pytest.raises(Unusable, match="does not answer"):
        migrate(engine)
