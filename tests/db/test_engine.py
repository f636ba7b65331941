"""Migrations, refusals, and what SQLite is told to promise."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from db.engine import Unavailable, Unusable, _alembic, migrate, open_engine, reading, writing
from db.schema import CATEGORY_TABLE, candidates, metadata

from .story import STORY, begin, dump, tell


def url(file: Path) -> str:
    return f"sqlite:///{file}"


def test_an_empty_file_ends_at_todays_schema(file_store):
    with reading(file_store.engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        query = text("SELECT sql FROM sqlite_master WHERE name = 'category_table'")
        assert connection.execute(query).scalar_one() == CATEGORY_TABLE.strip()


def test_the_check_constraints_of_the_migration_are_those_of_the_schema(file_store, tmp_path):
    """Alembic does not compare CHECK constraints, so the tables' own text is."""
    made = open_engine(url(tmp_path / "made.db"))
    metadata.create_all(made)
    query = text("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%'")
    with reading(file_store.engine) as migrated, made.connect() as created:
        expected = {row.name: sorted(row.sql.split(", ")) for row in created.execute(query)
                    if row.sql}  # fmt: skip
        found = {row.name: sorted(row.sql.split(", ")) for row in migrated.execute(query)
                 if row.sql and row.name != "category_table"}  # fmt: skip
    made.dispose()
    assert _words(found) == _words(expected)


def _words(tables: dict[str, list[str]]) -> dict[str, list[str]]:
    """A table that was made anew has its name in quotes."""
    return {
        name: sorted(" ".join(parts).replace('"', "").split()) for name, parts in tables.items()
    }


def test_migrating_an_existing_file_changes_nothing(store, lease):
    tell(store, lease, STORY)
    before = dump(store)
    migrate(store.engine)
    assert dump(store) == before


def test_a_file_that_is_up_to_date_is_opened_while_somebody_writes(file_store):
    other = open_engine(str(file_store.engine.url))
    with writing(file_store.engine) as connection:
        connection.execute(text("DELETE FROM events"))
        migrate(other)
    other.dispose()


def test_two_processes_may_create_the_file_at_once(tmp_path):
    code = (
        "import sys; from db.engine import *; e = open_engine(sys.argv[1]); migrate(e); e.dispose()"
    )
    target = url(tmp_path / "sub" / "new.db")
    started = [subprocess.Popen([sys.executable, "-c", code, target]) for _ in range(2)]
    assert [process.wait(timeout=30) for process in started] == [0, 0]


ROWS_OF_THE_FIRST_RELEASE = (
    "INSERT INTO benchmarks (name, digest, splits_digest, seed, shares, categories, items,"
    " created_at) VALUES ('toy', 'd', 's', 0, '[]', '[]', '{}', '2026-01-01')",
    "INSERT INTO selections (base_id, benchmark_id, method, inputs, experts, members, figures,"
    " created_at) VALUES (1, 1, 'soce', '[]', '{}', '[]', '{}', '2026-01-01')",
    "INSERT INTO searches (base_id, selection_id, benchmark_id, strategy, members, state,"
    " created_at) VALUES (1, 1, 1, 'grid', '[]', 'open', '2026-01-01')",
    "INSERT INTO trials (search_id, weights, outcomes, created_at)"
    " VALUES (1, '1/2 1/2', '{\"add\": \"01\"}', '2026-01-01')",
    "INSERT INTO candidates (base_id, repo, sha, role, author, state, likes, downloads, seen_at)"
    f" VALUES (1, 'org/base', '{'a' * 40}', 'base', 'org', 'admitted', 0, 0, '2026-01-01')",
    "INSERT INTO scores (candidate_id, benchmark_id, split, category, value, n, stderr, outcomes,"
    " created_at) VALUES (1, 1, 'select', 'add', 1, 1, 0, '1', '2026-01-01')",
)


def test_a_file_of_the_first_release_is_brought_up_and_keeps_its_rows(tmp_path):
    engine = open_engine(url(tmp_path / "old.db"))
    config = _alembic()
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    kept = "INSERT INTO bases (repo, sha, created_at) VALUES ('org/base', :sha, '2026-01-01')"
    with writing(engine) as connection:
        connection.execute(text(kept), {"sha": "a" * 40})
        for row in ROWS_OF_THE_FIRST_RELEASE:
            connection.execute(text(row))
    migrate(engine)
    with reading(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        judged = connection.execute(text("SELECT repo, benchmark_id FROM bases"))
        assert judged.all() == [("org/base", 1)], "by what it was last scored on"
        seen = connection.execute(text("SELECT judging FROM benchmarks"))
        assert seen.scalars().all() == [None], "what its looks saw is not known"
        (candidate,) = connection.execute(candidates.select()).all()
        assert (candidate.languages, candidate.not_for_all_audiences) == (None, None)
        tried = connection.execute(text("SELECT search_id, split, weights, outcomes FROM trials"))
        assert tried.all() == [(1, "tune", "1/2 1/2", '{"add": "01"}')]
    engine.dispose()


def test_a_newer_schema_is_refused_and_left_alone(file_store):
    with writing(file_store.engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Unusable, match=r"schema 9999.*newer release.*upgrade"):
        migrate(file_store.engine)


@pytest.mark.parametrize(
    "content", [b"this is no database at all" * 400, b"SQLite format 3\0" + b"\xff" * 8000]
)
def test_another_file_is_refused(tmp_path, content):
    file = tmp_path / "x.db"
    file.write_bytes(content)
    engine = open_engine(url(file))
    with pytest.raises(Unusable, match=r"cannot be used.*restore"):
        migrate(engine)
    engine.dispose()
    assert file.read_bytes() == content


def test_damaged_pages_are_refused(file_store, file_lease):
    tell(file_store, file_lease, STORY)
    file_store.engine.dispose()
    file = Path(file_store.engine.url.database)
    raw = bytearray(file.read_bytes())
    raw[8192:40960] = b"\x5a" * (40960 - 8192)
    file.write_bytes(raw)
    with pytest.raises(Unusable, match="restore the last backup"):
        migrate(file_store.engine)


def test_somebody_elses_database_is_refused(tmp_path):
    file = tmp_path / "x.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE candidates (name TEXT)")
    connection.close()
    engine = open_engine(url(file))
    with pytest.raises(Unusable, match="already exists"):
        migrate(engine)
    engine.dispose()


def test_a_path_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    engine = open_engine(url(tmp_path / "file" / "x.db"))
    with pytest.raises(Unusable, match=r"unable to open.*look at the path"):
        migrate(engine)


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)]
)
def test_every_connection_is_configured(file_store, pragma, value):
    with reading(file_store.engine) as one, reading(file_store.engine) as two:
        for connection in (one, two):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


def test_a_write_that_fails_in_the_middle_leaves_nothing(store):
    begin(store)
    before = dump(store)
    both = [text("UPDATE bases SET head = 'x'"), text("UPDATE bases SET sha = 'x'")]
    with pytest.raises(IntegrityError), writing(store.engine) as connection:
        [connection.execute(statement) for statement in both]
    assert dump(store) == before


def test_a_reader_sees_one_moment_and_blocks_nobody(store, lease):
    count = text("SELECT count(*) FROM events")
    with reading(store.engine) as connection:
        before = connection.execute(count).scalar()
        tell(store, lease, STORY[:4])
        assert connection.execute(count).scalar() == before
    with reading(store.engine) as connection:
        assert connection.execute(count).scalar() == before + 4


def test_a_lock_that_is_not_given_back_is_unavailable(file_store, file_lease, monkeypatch):
    monkeypatch.setattr("db.engine.BUSY_MS", 50)
    hasty = open_engine(str(file_store.engine.url))
    with (
        writing(file_store.engine),
        pytest.raises(Unavailable, match="locked"),
        writing(hasty),
    ):
        pass
    hasty.dispose()


def test_a_full_disk_is_unavailable_and_passes(file_store, file_lease):
    with file_store.engine.connect() as connection:  # the pool hands this connection out again
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(Unavailable, match="full"):
        tell(file_store, file_lease, STORY * 40)
    file_store.engine.dispose()
    tell(file_store, file_lease, STORY)


COUNT_UP = """
import sys
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from db.engine import open_engine, writing
engine = open_engine(sys.argv[1])
for _ in range(50):
    with writing(engine) as connection:
        n = connection.execute(text("SELECT token FROM leases")).scalar()
        connection.execute(text("UPDATE leases SET token = :n"), {"n": n + 1})
"""


def test_two_processes_that_read_and_write_lose_nothing(store, lease):
    target = store.engine.url.render_as_string(hide_password=False)
    started = [subprocess.Popen([sys.executable, "-c", COUNT_UP, target]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in started] == [0, 0]
    with reading(store.engine) as connection:
        assert connection.execute(text("SELECT token FROM leases")).scalar() == lease.token + 100
