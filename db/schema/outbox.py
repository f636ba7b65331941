"""Routers, and the outbox: every version that was drafted, and how far it came."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from db.schema.columns import Moment, key, metadata, one_of, reference

PUBLICATION_STATES = (
    "draft",  # rendered and stored; waits for `bot approve` where publish = ask
    "approved",  # may be sent
    "unknown",  # sent, no answer: look before sending again
    "committed",  # at the Hub, not yet checked
    "verified",  # every remote file has the digest that we wrote
    "blocked",  # a person has to act (the error says how)
    "dropped",  # overtaken by a newer draft, or declined
)

SENDING = ("approved", "unknown")
"""It may be sent, or was and nobody knows: whether it is what readers get is not settled."""

routers = Table(
    "routers",
    metadata,
    key(),
    reference("base_id", "bases"),
    Column("pair_digest", String, nullable=False),  # of pins, prompts and settings
    Column("base", String, nullable=False),  # repo@sha
    Column("aligned", String, nullable=False),  # repo@sha
    Column("config_digest", String, nullable=False),
    Column("config", Text, nullable=False),  # router.json
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("base_id", "pair_digest"),
)

publications = Table(
    "publications",
    metadata,
    key(),
    reference("base_id", "bases"),
    Column("kind", String, nullable=False),
    Column("target", String, nullable=False),
    Column("digest", String, nullable=False),  # recipe or router configuration
    Column("version", Integer, nullable=False),
    reference("soup_id", "soups", nullable=True),
    reference("router_id", "routers", nullable=True),
    Column("state", String, nullable=False, default="draft"),
    Column("folder", String, nullable=False),  # the draft as rendered, sent as stored
    Column("files", JSON, nullable=False),  # {path: {sha256, size}}
    Column("parent", String),
    Column("commit_sha", String),
    Column("tag", String),
    Column("error", Text),
    Column("created_at", Moment, nullable=False),
    Column("sent_at", Moment),
    Column("verified_at", Moment),
    Column("public", Boolean),  # its licences allow that; NULL: drafted before anybody noted it
    one_of("kind", ("soup", "router")),
    one_of("state", PUBLICATION_STATES),
    UniqueConstraint("kind", "target", "digest"),
    UniqueConstraint("target", "version"),
    CheckConstraint(
        "state NOT IN ('committed', 'verified') OR commit_sha IS NOT NULL",
        name="published_is_somewhere",
    ),
    CheckConstraint(
        "(kind = 'soup') = (soup_id IS NOT NULL) AND (kind = 'router') = (router_id IS NOT NULL)",
        name="one_subject",
    ),
)
