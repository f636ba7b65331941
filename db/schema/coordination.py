"""Who is at work, what people ask for, what failed and waits, and what happened."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, String, Table, Text

from db.schema.columns import NULLABLE_JSON, Moment, key, metadata, one_of, reference

REQUEST_VERBS = ("watch", "evaluate", "select", "soup", "route", "publish", "cycle")

requests = Table(
    "requests",
    metadata,
    key(),
    Column("verb", String, nullable=False),
    Column("base", String),
    Column("model", String),
    Column("force", Boolean, nullable=False, default=False),
    Column("state", String, nullable=False, default="open"),
    Column("answer", Text),
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment),
    one_of("verb", REQUEST_VERBS),
    one_of("state", ("open", "done", "refused")),
    Index("ix_requests_open", "state"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("step", String, primary_key=True),  # the step's key; one row however often it is tried
    reference("base_id", "bases", nullable=True),
    Column("state", String, nullable=False),
    Column("failures", Integer, nullable=False, default=0),
    Column("interruptions", Integer, nullable=False, default=0),  # since it last got further
    Column("error", Text),
    Column("not_before", Moment),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
    one_of("state", ("running", "waiting", "parked")),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("token", Integer, nullable=False),  # grows with every change of hands
    Column("expires_at", Moment, nullable=False),
)

switches = Table(
    "switches",
    metadata,
    Column("name", String, primary_key=True),  # what is paused: "all" or "publish"
    Column("why", Text, nullable=False),
    Column("since", Moment, nullable=False),
    one_of("name", ("all", "publish")),
)

events = Table(
    "events",
    metadata,
    key(),
    Column("at", Moment, nullable=False, index=True),
    reference("base_id", "bases", nullable=True),
    Column("subject", String, nullable=False, index=True),  # the repo it is about
    Column("sha", String),
    Column("kind", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("data", NULLABLE_JSON),
)
