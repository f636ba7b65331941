"""What every table is made of: naming, times, and the columns and checks that recur."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Moment(TypeDecorator[datetime]):
    """UTC in, aware UTC out, on every engine (SQLite has no zones of its own)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        assert isinstance(value, datetime)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


NULLABLE_JSON = JSON(none_as_null=True)  # None is NULL, not the JSON text 'null'


def key() -> Column[int]:
    """The number that other tables refer to."""
    return Column("id", Integer, primary_key=True)


def reference(name: str, target: str, *, nullable: bool = False) -> Column[int]:
    """The number of a row of table `target`; indexed, because facts are looked up by it."""
    return Column(name, ForeignKey(f"{target}.id"), nullable=nullable, index=True)


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """A word of a closed list."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(v) for v in values)})", name=column)


def full_sha(column: str) -> CheckConstraint:
    """A whole commit sha: an abbreviated one pins nothing."""
    return CheckConstraint(f"length({column}) = 40", name=f"{column}_full")
