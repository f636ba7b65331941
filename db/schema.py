"""The tables. Rows are facts; what to do next is derived from them (`bot/plan.py`), never stored.

Everything is named by content: a candidate by repo and sha, a score by candidate, category and
benchmark digest, a soup by recipe digest, a publication by kind, target and digest. Doing a thing
twice therefore meets a unique constraint and finds it done.

Plain SQL is a supported way in: `category_table` has one row per candidate and category.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
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


REQUEST_VERBS = ("watch", "evaluate", "select", "soup", "route", "publish", "cycle")
CANDIDATE_STATES = ("sighted", "admitted", "rejected", "withdrawn")
SPLITS = ("select", "tune", "report")
PUBLICATION_STATES = (
    "draft",  # rendered and stored; waits for `bot approve` where publish = ask
    "approved",  # may be sent
    "unknown",  # sent, no answer: look before sending again
    "committed",  # at the Hub, not yet checked
    "verified",  # every remote file has the digest that we wrote
    "blocked",  # a person has to act (the error says how)
    "dropped",  # overtaken by a newer draft, or declined
)


NULLABLE_JSON = JSON(none_as_null=True)  # None is NULL, not the JSON text 'null'


def _key() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def _reference(name: str, target: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, ForeignKey(f"{target}.id"), nullable=nullable, index=True)


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(v) for v in values)})", name=column)


def _full_sha(column: str) -> CheckConstraint:
    return CheckConstraint(f"length({column}) = 40", name=f"{column}_full")


bases = Table(
    "bases",
    metadata,
    _key(),
    Column("repo", String, nullable=False),
    Column("sha", String, nullable=False),
    Column("head", String),  # of the Hub's main now; a moved base is reported, never followed
    Column("watched_at", Moment),
    Column("swept_at", Moment),
    Column("newest_created_at", Moment),  # watermark of the listing by creation
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("repo", "sha"),
    _full_sha("sha"),
)

benchmarks = Table(
    "benchmarks",
    metadata,
    _key(),
    Column("name", String, nullable=False),
    Column("digest", String, nullable=False),  # of the suite's contents
    Column("splits_digest", String, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("shares", JSON, nullable=False),
    Column("categories", JSON, nullable=False),  # in suite order
    Column("items", JSON, nullable=False),  # {category: {split: count}}
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("digest", "splits_digest"),
)

candidates = Table(
    "candidates",
    metadata,
    _key(),
    _reference("base_id", "bases"),
    Column("repo", String, nullable=False),
    Column("sha", String, nullable=False),
    Column("role", String, nullable=False, default="finetune"),
    Column("author", String, nullable=False, default=""),
    Column("licence", String),
    Column("state", String, nullable=False, default="sighted"),
    Column("reason", String),
    Column("detail", Text),
    Column("hub_created_at", Moment),
    Column("hub_modified_at", Moment),
    Column("likes", Integer, nullable=False, default=0),
    Column("downloads", Integer, nullable=False, default=0),
    Column("bytes", BigInteger),
    Column("files", NULLABLE_JSON),  # [[path, size, sha256, blob]] that evaluation will fetch
    Column("weights_digest", String),  # of the sorted LFS sha256s: known before any download
    Column("publishable", Boolean),  # whether a public soup may hold it
    Column("sketch", JSON),  # its direction from the base, to find near copies
    Column("delta_norm", Float),  # its distance from the base, as a share of the base's norm
    Column("fingerprint", String),  # of the tensors' contents: known after it
    Column("seen_at", Moment, nullable=False),
    Column("decided_at", Moment),
    UniqueConstraint("base_id", "repo", "sha"),
    _one_of("state", CANDIDATE_STATES),
    _one_of("role", ("base", "finetune")),
    CheckConstraint("(state = 'rejected') = (reason IS NOT NULL)", name="rejected_has_reason"),
    _full_sha("sha"),
    Index("ix_candidates_open", "base_id", "state"),
    Index(
        "uq_candidates_one_base",
        "base_id",
        unique=True,
        sqlite_where=text("role = 'base'"),
        postgresql_where=text("role = 'base'"),
    ),
)

selections = Table(
    "selections",
    metadata,
    _key(),
    _reference("base_id", "bases"),
    _reference("benchmark_id", "benchmarks"),
    Column("method", String, nullable=False),
    Column("inputs", JSON, nullable=False),  # ids of the candidates that it looked at
    Column("experts", JSON, nullable=False),  # {category: candidate id}
    Column("members", JSON, nullable=False),  # candidate ids
    Column("figures", JSON, nullable=False),  # correlations, weak pairs, notes
    Column("created_at", Moment, nullable=False),
)

searches = Table(
    "searches",
    metadata,
    _key(),
    _reference("base_id", "bases"),
    _reference("selection_id", "selections"),
    _reference("benchmark_id", "benchmarks"),
    Column("strategy", String, nullable=False),
    Column("members", JSON, nullable=False),
    Column("state", String, nullable=False, default="open"),
    Column("best", NULLABLE_JSON),  # {weights, value, best_member, ...}
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment),
    _one_of("state", ("open", "done")),
    CheckConstraint("(state = 'done') = (best IS NOT NULL)", name="done_has_best"),
    UniqueConstraint("selection_id"),
)

trials = Table(
    "trials",
    metadata,
    _key(),
    _reference("search_id", "searches"),
    Column("weights", String, nullable=False),  # "2/5 3/10 3/10", in the search's member order
    Column("outcomes", JSON, nullable=False),  # {category: "01-1..."}, tune items; - not asked yet
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("search_id", "weights"),
)

soups = Table(
    "soups",
    metadata,
    _key(),
    _reference("base_id", "bases"),
    _reference("search_id", "searches"),
    _reference("benchmark_id", "benchmarks"),
    Column("recipe_digest", String, nullable=False),
    Column("recipe", Text, nullable=False),  # canonical JSON
    Column("state", String, nullable=False, default="planned"),
    Column("files", NULLABLE_JSON),  # {name: {sha256, size}} of the written weights
    Column("verdict", NULLABLE_JSON),  # the gate's figures
    Column("created_at", Moment, nullable=False),
    Column("judged_at", Moment),
    _one_of("state", ("planned", "built", "passed", "failed")),
    UniqueConstraint("base_id", "recipe_digest", "benchmark_id"),
    CheckConstraint("(state = 'planned') = (files IS NULL)", name="built_has_files"),
    CheckConstraint(
        "(state IN ('passed', 'failed')) = (verdict IS NOT NULL)", name="judged_has_verdict"
    ),
)

soup_members = Table(
    "soup_members",
    metadata,
    Column("soup_id", ForeignKey("soups.id"), primary_key=True),
    Column("candidate_id", ForeignKey("candidates.id"), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("numerator", Integer, nullable=False),
    Column("denominator", Integer, nullable=False),
    CheckConstraint("numerator > 0 AND numerator <= denominator", name="weight_is_a_share"),
)

scores = Table(
    "scores",
    metadata,
    _key(),
    _reference("candidate_id", "candidates", nullable=True),
    _reference("soup_id", "soups", nullable=True),
    _reference("benchmark_id", "benchmarks"),
    Column("split", String, nullable=False),
    Column("category", String, nullable=False),
    Column("value", Float, nullable=False),  # share of items answered, 0 to 1
    Column("n", Integer, nullable=False),
    Column("stderr", Float, nullable=False),
    Column("outcomes", Text, nullable=False),  # one character an item, in item order
    Column("created_at", Moment, nullable=False),
    _one_of("split", SPLITS),
    CheckConstraint("(candidate_id IS NULL) <> (soup_id IS NULL)", name="one_subject"),
    CheckConstraint("n > 0 AND length(outcomes) = n", name="one_bit_an_item"),
    CheckConstraint("replace(replace(outcomes, '0', ''), '1', '') = ''", name="only_bits"),
    CheckConstraint(
        "abs(value * n - length(replace(outcomes, '0', ''))) < 0.001", name="value_is_what_bits_say"
    ),
    CheckConstraint("stderr >= 0", name="stderr_not_negative"),
    UniqueConstraint("candidate_id", "benchmark_id", "split", "category"),
    UniqueConstraint("soup_id", "benchmark_id", "split", "category"),
)

looks = Table(
    "looks",
    metadata,
    _key(),
    _reference("base_id", "bases"),
    _reference("soup_id", "soups"),
    Column("splits_digest", String, nullable=False),
    Column("k", Integer, nullable=False),  # the k-th decision of this base on this split
    Column("level", Float, nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("base_id", "splits_digest", "k"),
    UniqueConstraint("soup_id", "splits_digest"),
    CheckConstraint("k >= 1", name="k_counts_from_one"),
    CheckConstraint("level > 0 AND level < 1", name="level_is_a_chance"),
)

routers = Table(
    "routers",
    metadata,
    _key(),
    _reference("base_id", "bases"),
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
    _key(),
    _reference("base_id", "bases"),
    Column("kind", String, nullable=False),
    Column("target", String, nullable=False),
    Column("digest", String, nullable=False),  # recipe or router configuration
    Column("version", Integer, nullable=False),
    _reference("soup_id", "soups", nullable=True),
    _reference("router_id", "routers", nullable=True),
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
    _one_of("kind", ("soup", "router")),
    _one_of("state", PUBLICATION_STATES),
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

requests = Table(
    "requests",
    metadata,
    _key(),
    Column("verb", String, nullable=False),
    Column("base", String),
    Column("model", String),
    Column("force", Boolean, nullable=False, default=False),
    Column("state", String, nullable=False, default="open"),
    Column("answer", Text),
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment),
    _one_of("verb", REQUEST_VERBS),
    _one_of("state", ("open", "done", "refused")),
    Index("ix_requests_open", "state"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("step", String, primary_key=True),  # the step's key; one row however often it is tried
    _reference("base_id", "bases", nullable=True),
    Column("state", String, nullable=False),
    Column("failures", Integer, nullable=False, default=0),
    Column("interruptions", Integer, nullable=False, default=0),  # since it last got further
    Column("error", Text),
    Column("not_before", Moment),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
    _one_of("state", ("running", "waiting", "parked")),
)

spending = Table(
    "spending",
    metadata,
    _key(),
    _reference("base_id", "bases"),
    Column("at", Moment, nullable=False, index=True),
    Column("verb", String, nullable=False),  # of the step that spent it
    Column("seconds", Float, nullable=False, default=0.0),  # in a child process
    Column("bytes", BigInteger, nullable=False, default=0),  # downloaded
    CheckConstraint("seconds >= 0 AND bytes >= 0", name="only_forward"),
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
    _one_of("name", ("all", "publish")),
)

events = Table(
    "events",
    metadata,
    _key(),
    Column("at", Moment, nullable=False, index=True),
    _reference("base_id", "bases", nullable=True),
    Column("subject", String, nullable=False, index=True),  # the repo it is about
    Column("sha", String),
    Column("kind", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("data", NULLABLE_JSON),
)

CATEGORY_TABLE = """
CREATE VIEW category_table AS
SELECT b.repo AS base, c.repo AS model, c.sha AS sha, c.role AS role, c.state AS state,
       m.name AS benchmark, m.digest AS benchmark_digest, s.split AS split,
       s.category AS category, s.value AS value, s.n AS n, s.stderr AS stderr
FROM scores s
JOIN candidates c ON c.id = s.candidate_id
JOIN bases b ON b.id = c.base_id
JOIN benchmarks m ON m.id = s.benchmark_id
"""
