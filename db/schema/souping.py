"""From experts to a soup with a verdict: selections, searches, trials, soups, looks."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from db.schema.columns import NULLABLE_JSON, Moment, key, metadata, one_of, reference
from db.schema.evaluation import SPLITS

selections = Table(
    "selections",
    metadata,
    key(),
    reference("base_id", "bases"),
    reference("benchmark_id", "benchmarks"),
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
    key(),
    reference("base_id", "bases"),
    reference("selection_id", "selections"),
    reference("benchmark_id", "benchmarks"),
    Column("strategy", String, nullable=False),
    Column("members", JSON, nullable=False),
    Column("state", String, nullable=False, default="open"),
    Column("best", NULLABLE_JSON),  # {weights, value, best_member, ...}
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment),
    one_of("state", ("open", "done")),
    CheckConstraint("(state = 'done') = (best IS NOT NULL)", name="done_has_best"),
    UniqueConstraint("selection_id"),
)

trials = Table(
    "trials",
    metadata,
    key(),
    reference("search_id", "searches"),
    Column("weights", String, nullable=False),  # "2/5 3/10 3/10", in the search's member order
    Column("split", String, nullable=False, server_default="tune"),
    Column("outcomes", JSON, nullable=False),  # {category: "01-1..."}; - not asked yet
    Column("created_at", Moment, nullable=False),
    one_of("split", SPLITS),
    UniqueConstraint("search_id", "split", "weights"),
)

soups = Table(
    "soups",
    metadata,
    key(),
    reference("base_id", "bases"),
    reference("search_id", "searches"),
    reference("benchmark_id", "benchmarks"),
    Column("recipe_digest", String, nullable=False),
    Column("recipe", Text, nullable=False),  # canonical JSON
    Column("state", String, nullable=False, default="planned"),
    Column("files", NULLABLE_JSON),  # {name: {sha256, size}} of the written weights
    Column("verdict", NULLABLE_JSON),  # the gate's figures
    Column("created_at", Moment, nullable=False),
    Column("judged_at", Moment),
    one_of("state", ("planned", "built", "passed", "failed")),
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

looks = Table(
    "looks",
    metadata,
    key(),
    reference("base_id", "bases"),
    reference("soup_id", "soups"),
    Column("splits_digest", String, nullable=False),
    Column("k", Integer, nullable=False),  # the k-th decision of this base on one of these items
    Column("level", Float, nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("base_id", "splits_digest", "k"),
    UniqueConstraint("soup_id", "splits_digest"),
    CheckConstraint("k >= 1", name="k_counts_from_one"),
    CheckConstraint("level > 0 AND level < 1", name="level_is_a_chance"),
)
