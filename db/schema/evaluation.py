"""Bases, their fine-tunes, the benchmarks, and what each scored and cost."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from db.schema.columns import NULLABLE_JSON, Moment, full_sha, key, metadata, one_of, reference

CANDIDATE_STATES = ("sighted", "admitted", "rejected", "withdrawn")
SPLITS = ("select", "tune", "report")

bases = Table(
    "bases",
    metadata,
    key(),
    Column("repo", String, nullable=False),
    Column("sha", String, nullable=False),
    Column("benchmark_id", Integer),  # what judges it now; SQLite cannot add a named foreign key
    Column("head", String),  # of the Hub's main now; a moved base is reported, never followed
    Column("watched_at", Moment),
    Column("swept_at", Moment),
    Column("newest_created_at", Moment),  # watermark of the listing by creation
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("repo", "sha"),
    full_sha("sha"),
)

benchmarks = Table(
    "benchmarks",
    metadata,
    key(),
    Column("name", String, nullable=False),
    Column("digest", String, nullable=False),  # of the suite's contents
    Column("splits_digest", String, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("shares", JSON, nullable=False),
    Column("categories", JSON, nullable=False),  # in suite order
    Column("items", JSON, nullable=False),  # {category: {split: count}}
    Column("judging", NULLABLE_JSON),  # marks of the clusters that a look may see; None: not known
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("digest", "splits_digest"),
)

candidates = Table(
    "candidates",
    metadata,
    key(),
    reference("base_id", "bases"),
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
    Column("languages", NULLABLE_JSON),  # that its card states
    Column("not_for_all_audiences", Boolean),  # its card says so
    Column("sketch", JSON),  # its direction from the base, to find near copies
    Column("delta_norm", Float),  # its distance from the base, as a share of the base's norm
    Column("fingerprint", String),  # of the tensors' contents: known after it
    Column("seen_at", Moment, nullable=False),
    Column("decided_at", Moment),
    UniqueConstraint("base_id", "repo", "sha"),
    one_of("state", CANDIDATE_STATES),
    one_of("role", ("base", "finetune")),
    CheckConstraint("(state = 'rejected') = (reason IS NOT NULL)", name="rejected_has_reason"),
    full_sha("sha"),
    Index("ix_candidates_open", "base_id", "state"),
    Index(
        "uq_candidates_one_base",
        "base_id",
        unique=True,
        sqlite_where=text("role = 'base'"),
        postgresql_where=text("role = 'base'"),
    ),
)

scores = Table(
    "scores",
    metadata,
    key(),
    reference("candidate_id", "candidates", nullable=True),
    reference("soup_id", "soups", nullable=True),
    reference("benchmark_id", "benchmarks"),
    Column("split", String, nullable=False),
    Column("category", String, nullable=False),
    Column("value", Float, nullable=False),  # share of items answered, 0 to 1
    Column("n", Integer, nullable=False),
    Column("stderr", Float, nullable=False),
    Column("outcomes", Text, nullable=False),  # one character an item, in item order
    Column("created_at", Moment, nullable=False),
    one_of("split", SPLITS),
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

spending = Table(
    "spending",
    metadata,
    key(),
    reference("base_id", "bases"),
    Column("at", Moment, nullable=False, index=True),
    Column("verb", String, nullable=False),  # of the step that spent it; "failed VERB" for nothing
    Column("seconds", Float, nullable=False, default=0.0),  # of the slot `compute`
    Column("bytes", BigInteger, nullable=False, default=0),  # downloaded
    CheckConstraint("seconds >= 0 AND bytes >= 0", name="only_forward"),
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
