"""The first schema."""

import sqlalchemy as sa
from alembic import op

from db.schema import Moment

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "bases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repo", sa.String(), nullable=False),
        sa.Column("sha", sa.String(), nullable=False),
        sa.Column("head", sa.String(), nullable=True),
        sa.Column("watched_at", Moment(), nullable=True),
        sa.Column("swept_at", Moment(), nullable=True),
        sa.Column("newest_created_at", Moment(), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.CheckConstraint("length(sha) = 40", name=op.f("ck_bases_sha_full")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bases")),
        sa.UniqueConstraint("repo", "sha", name=op.f("uq_bases_repo_sha")),
    )
    op.create_table(
        "benchmarks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("splits_digest", sa.String(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("shares", sa.JSON(), nullable=False),
        sa.Column("categories", sa.JSON(), nullable=False),
        sa.Column("items", sa.JSON(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_benchmarks")),
        sa.UniqueConstraint(
            "digest", "splits_digest", name=op.f("uq_benchmarks_digest_splits_digest")
        ),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("base", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("force", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("finished_at", Moment(), nullable=True),
        sa.CheckConstraint("state IN ('open', 'done', 'refused')", name=op.f("ck_requests_state")),
        sa.CheckConstraint(
            "verb IN ('watch', 'evaluate', 'select', 'soup', 'route', 'publish', 'cycle')",
            name=op.f("ck_requests_verb"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requests")),
    )
    op.create_index("ix_requests_open", "requests", ["state"], unique=False)
    op.create_table(
        "switches",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("since", Moment(), nullable=False),
        sa.CheckConstraint("name IN ('all', 'publish')", name=op.f("ck_switches_name")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_switches")),
    )
    op.create_table(
        "attempts",
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("interruptions", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("not_before", Moment(), nullable=True),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("finished_at", Moment(), nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'waiting', 'parked')", name=op.f("ck_attempts_state")
        ),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_attempts_base_id")),
        sa.PrimaryKeyConstraint("step", name=op.f("pk_attempts")),
    )
    op.create_index(op.f("ix_attempts_base_id"), "attempts", ["base_id"], unique=False)
    op.create_table(
        "candidates",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=False),
        sa.Column("repo", sa.String(), nullable=False),
        sa.Column("sha", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("licence", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("hub_created_at", Moment(), nullable=True),
        sa.Column("hub_modified_at", Moment(), nullable=True),
        sa.Column("likes", sa.Integer(), nullable=False),
        sa.Column("downloads", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("files", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("weights_digest", sa.String(), nullable=True),
        sa.Column("publishable", sa.Boolean(), nullable=True),
        sa.Column("sketch", sa.JSON(), nullable=True),
        sa.Column("fingerprint", sa.String(), nullable=True),
        sa.Column("seen_at", Moment(), nullable=False),
        sa.Column("decided_at", Moment(), nullable=True),
        sa.CheckConstraint(
            "(state = 'rejected') = (reason IS NOT NULL)",
            name=op.f("ck_candidates_rejected_has_reason"),
        ),
        sa.CheckConstraint("role IN ('base', 'finetune')", name=op.f("ck_candidates_role")),
        sa.CheckConstraint(
            "state IN ('sighted', 'admitted', 'rejected', 'withdrawn')",
            name=op.f("ck_candidates_state"),
        ),
        sa.CheckConstraint("length(sha) = 40", name=op.f("ck_candidates_sha_full")),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_candidates_base_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_candidates")),
        sa.UniqueConstraint("base_id", "repo", "sha", name=op.f("uq_candidates_base_id_repo_sha")),
    )
    op.create_index(op.f("ix_candidates_base_id"), "candidates", ["base_id"], unique=False)
    op.create_index("ix_candidates_open", "candidates", ["base_id", "state"], unique=False)
    op.create_index(
        "uq_candidates_one_base",
        "candidates",
        ["base_id"],
        unique=True,
        sqlite_where=sa.text("role = 'base'"),
        postgresql_where=sa.text("role = 'base'"),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=True),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("sha", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_events_base_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_at"), "events", ["at"], unique=False)
    op.create_index(op.f("ix_events_base_id"), "events", ["base_id"], unique=False)
    op.create_index(op.f("ix_events_subject"), "events", ["subject"], unique=False)
    op.create_table(
        "routers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=False),
        sa.Column("pair_digest", sa.String(), nullable=False),
        sa.Column("base", sa.String(), nullable=False),
        sa.Column("aligned", sa.String(), nullable=False),
        sa.Column("config_digest", sa.String(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_routers_base_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_routers")),
        sa.UniqueConstraint("base_id", "pair_digest", name=op.f("uq_routers_base_id_pair_digest")),
    )
    op.create_index(op.f("ix_routers_base_id"), "routers", ["base_id"], unique=False)
    op.create_table(
        "selections",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=False),
        sa.Column("benchmark_id", sa.Integer(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("experts", sa.JSON(), nullable=False),
        sa.Column("members", sa.JSON(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_selections_base_id")),
        sa.ForeignKeyConstraint(
            ["benchmark_id"], ["benchmarks.id"], name=op.f("fk_selections_benchmark_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_selections")),
    )
    op.create_index(op.f("ix_selections_base_id"), "selections", ["base_id"], unique=False)
    op.create_index(
        op.f("ix_selections_benchmark_id"), "selections", ["benchmark_id"], unique=False
    )
    op.create_table(
        "spending",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("seconds >= 0 AND bytes >= 0", name=op.f("ck_spending_only_forward")),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_spending_base_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spending")),
    )
    op.create_index(op.f("ix_spending_at"), "spending", ["at"], unique=False)
    op.create_index(op.f("ix_spending_base_id"), "spending", ["base_id"], unique=False)
    op.create_table(
        "searches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=False),
        sa.Column("selection_id", sa.Integer(), nullable=False),
        sa.Column("benchmark_id", sa.Integer(), nullable=False),
        sa.Column("strategy", sa.String(), nullable=False),
        sa.Column("members", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("best", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("finished_at", Moment(), nullable=True),
        sa.CheckConstraint(
            "(state = 'done') = (best IS NOT NULL)", name=op.f("ck_searches_done_has_best")
        ),
        sa.CheckConstraint("state IN ('open', 'done')", name=op.f("ck_searches_state")),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_searches_base_id")),
        sa.ForeignKeyConstraint(
            ["benchmark_id"], ["benchmarks.id"], name=op.f("fk_searches_benchmark_id")
        ),
        sa.ForeignKeyConstraint(
            ["selection_id"], ["selections.id"], name=op.f("fk_searches_selection_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_searches")),
        sa.UniqueConstraint("selection_id", name=op.f("uq_searches_selection_id")),
    )
    op.create_index(op.f("ix_searches_base_id"), "searches", ["base_id"], unique=False)
    op.create_index(op.f("ix_searches_benchmark_id"), "searches", ["benchmark_id"], unique=False)
    op.create_index(op.f("ix_searches_selection_id"), "searches", ["selection_id"], unique=False)
    op.create_table(
        "soups",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=False),
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("benchmark_id", sa.Integer(), nullable=False),
        sa.Column("recipe_digest", sa.String(), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("files", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("verdict", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("judged_at", Moment(), nullable=True),
        sa.CheckConstraint(
            "(state = 'planned') = (files IS NULL)", name=op.f("ck_soups_built_has_files")
        ),
        sa.CheckConstraint(
            "(state IN ('passed', 'failed')) = (verdict IS NOT NULL)",
            name=op.f("ck_soups_judged_has_verdict"),
        ),
        sa.CheckConstraint(
            "state IN ('planned', 'built', 'passed', 'failed')", name=op.f("ck_soups_state")
        ),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_soups_base_id")),
        sa.ForeignKeyConstraint(
            ["benchmark_id"], ["benchmarks.id"], name=op.f("fk_soups_benchmark_id")
        ),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_soups_search_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_soups")),
        sa.UniqueConstraint(
            "base_id",
            "recipe_digest",
            "benchmark_id",
            name=op.f("uq_soups_base_id_recipe_digest_benchmark_id"),
        ),
    )
    op.create_index(op.f("ix_soups_base_id"), "soups", ["base_id"], unique=False)
    op.create_index(op.f("ix_soups_benchmark_id"), "soups", ["benchmark_id"], unique=False)
    op.create_index(op.f("ix_soups_search_id"), "soups", ["search_id"], unique=False)
    op.create_table(
        "trials",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("weights", sa.String(), nullable=False),
        sa.Column("outcomes", sa.JSON(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_trials_search_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trials")),
        sa.UniqueConstraint("search_id", "weights", name=op.f("uq_trials_search_id_weights")),
    )
    op.create_index(op.f("ix_trials_search_id"), "trials", ["search_id"], unique=False)
    op.create_table(
        "looks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=False),
        sa.Column("soup_id", sa.Integer(), nullable=False),
        sa.Column("splits_digest", sa.String(), nullable=False),
        sa.Column("k", sa.Integer(), nullable=False),
        sa.Column("level", sa.Float(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.CheckConstraint("k >= 1", name=op.f("ck_looks_k_counts_from_one")),
        sa.CheckConstraint("level > 0 AND level < 1", name=op.f("ck_looks_level_is_a_chance")),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_looks_base_id")),
        sa.ForeignKeyConstraint(["soup_id"], ["soups.id"], name=op.f("fk_looks_soup_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_looks")),
        sa.UniqueConstraint(
            "base_id", "splits_digest", "k", name=op.f("uq_looks_base_id_splits_digest_k")
        ),
        sa.UniqueConstraint(
            "soup_id", "splits_digest", name=op.f("uq_looks_soup_id_splits_digest")
        ),
    )
    op.create_index(op.f("ix_looks_base_id"), "looks", ["base_id"], unique=False)
    op.create_index(op.f("ix_looks_soup_id"), "looks", ["soup_id"], unique=False)
    op.create_table(
        "publications",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("soup_id", sa.Integer(), nullable=True),
        sa.Column("router_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("folder", sa.String(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("parent", sa.String(), nullable=True),
        sa.Column("commit_sha", sa.String(), nullable=True),
        sa.Column("tag", sa.String(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("sent_at", Moment(), nullable=True),
        sa.Column("verified_at", Moment(), nullable=True),
        sa.CheckConstraint(
            "(kind = 'soup') = (soup_id IS NOT NULL) AND (kind = 'router') = (router_id IS NOT NULL)",
            name=op.f("ck_publications_one_subject"),
        ),
        sa.CheckConstraint("kind IN ('soup', 'router')", name=op.f("ck_publications_kind")),
        sa.CheckConstraint(
            "state IN ('draft', 'approved', 'unknown', 'committed', 'verified', 'blocked', 'dropped')",
            name=op.f("ck_publications_state"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('committed', 'verified') OR commit_sha IS NOT NULL",
            name=op.f("ck_publications_published_is_somewhere"),
        ),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_publications_base_id")),
        sa.ForeignKeyConstraint(
            ["router_id"], ["routers.id"], name=op.f("fk_publications_router_id")
        ),
        sa.ForeignKeyConstraint(["soup_id"], ["soups.id"], name=op.f("fk_publications_soup_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publications")),
        sa.UniqueConstraint(
            "kind", "target", "digest", name=op.f("uq_publications_kind_target_digest")
        ),
        sa.UniqueConstraint("target", "version", name=op.f("uq_publications_target_version")),
    )
    op.create_index(op.f("ix_publications_base_id"), "publications", ["base_id"], unique=False)
    op.create_index(op.f("ix_publications_router_id"), "publications", ["router_id"], unique=False)
    op.create_index(op.f("ix_publications_soup_id"), "publications", ["soup_id"], unique=False)
    op.create_table(
        "scores",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("candidate_id", sa.Integer(), nullable=True),
        sa.Column("soup_id", sa.Integer(), nullable=True),
        sa.Column("benchmark_id", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("stderr", sa.Float(), nullable=False),
        sa.Column("outcomes", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.CheckConstraint(
            "abs(value * n - length(replace(outcomes, '0', ''))) < 0.001",
            name=op.f("ck_scores_value_is_what_bits_say"),
        ),
        sa.CheckConstraint(
            "replace(replace(outcomes, '0', ''), '1', '') = ''", name=op.f("ck_scores_only_bits")
        ),
        sa.CheckConstraint("split IN ('select', 'tune', 'report')", name=op.f("ck_scores_split")),
        sa.CheckConstraint(
            "(candidate_id IS NULL) <> (soup_id IS NULL)", name=op.f("ck_scores_one_subject")
        ),
        sa.CheckConstraint(
            "n > 0 AND length(outcomes) = n", name=op.f("ck_scores_one_bit_an_item")
        ),
        sa.CheckConstraint("stderr >= 0", name=op.f("ck_scores_stderr_not_negative")),
        sa.ForeignKeyConstraint(
            ["benchmark_id"], ["benchmarks.id"], name=op.f("fk_scores_benchmark_id")
        ),
        sa.ForeignKeyConstraint(
            ["candidate_id"], ["candidates.id"], name=op.f("fk_scores_candidate_id")
        ),
        sa.ForeignKeyConstraint(["soup_id"], ["soups.id"], name=op.f("fk_scores_soup_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scores")),
        sa.UniqueConstraint(
            "candidate_id",
            "benchmark_id",
            "split",
            "category",
            name=op.f("uq_scores_candidate_id_benchmark_id_split_category"),
        ),
        sa.UniqueConstraint(
            "soup_id",
            "benchmark_id",
            "split",
            "category",
            name=op.f("uq_scores_soup_id_benchmark_id_split_category"),
        ),
    )
    op.create_index(op.f("ix_scores_benchmark_id"), "scores", ["benchmark_id"], unique=False)
    op.create_index(op.f("ix_scores_candidate_id"), "scores", ["candidate_id"], unique=False)
    op.create_index(op.f("ix_scores_soup_id"), "scores", ["soup_id"], unique=False)
    op.create_table(
        "soup_members",
        sa.Column("soup_id", sa.Integer(), nullable=False),
        sa.Column("candidate_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("numerator", sa.Integer(), nullable=False),
        sa.Column("denominator", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "numerator > 0 AND numerator <= denominator",
            name=op.f("ck_soup_members_weight_is_a_share"),
        ),
        sa.ForeignKeyConstraint(
            ["candidate_id"], ["candidates.id"], name=op.f("fk_soup_members_candidate_id")
        ),
        sa.ForeignKeyConstraint(["soup_id"], ["soups.id"], name=op.f("fk_soup_members_soup_id")),
        sa.PrimaryKeyConstraint("soup_id", "candidate_id", name=op.f("pk_soup_members")),
    )
    op.execute(CATEGORY_TABLE)


# As it was in this version; the schema may change, a migration does not.
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
