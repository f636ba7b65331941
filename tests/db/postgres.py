"""A PostgreSQL server to test on, where there is one: STOCKPOT_TEST_POSTGRES names it.

    STOCKPOT_TEST_POSTGRES=postgresql+psycopg://me@127.0.0.1/test pytest tests/db tests/loop

Everything happens in a schema of our own, which is dropped in the end.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from db.engine import writing
from db.schema import metadata
from db.store import Store

VARIABLE = "STOCKPOT_TEST_POSTGRES"
URL = os.environ.get(VARIABLE, "")
ENGINES = ("sqlite", "postgresql") if URL else ("sqlite",)


@contextmanager
def schema() -> Iterator[str]:
    """The URL of an empty schema."""
    name = f"stockpot_{secrets.token_hex(4)}"
    server = create_engine(URL, isolation_level="AUTOCOMMIT")
    try:
        with server.connect() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        own = make_url(URL).update_query_dict({"options": f"-csearch_path={name}"})
        yield own.render_as_string(hide_password=False)
        with server.connect() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    finally:
        server.dispose()


def emptied(store: Store) -> Store:
    """All rows gone, and row ids from 1 again."""
    names = ", ".join(metadata.tables)
    with writing(store.engine) as connection:
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
    return store
