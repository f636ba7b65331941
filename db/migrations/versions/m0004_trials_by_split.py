"""Soups that are only tried are kept for report items too: what the gate compares with."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("trials") as table:
        table.add_column(sa.Column("split", sa.String(), nullable=False, server_default="tune"))
        table.drop_constraint(op.f("uq_trials_search_id_weights"), type_="unique")
        table.create_unique_constraint(
            op.f("uq_trials_search_id_split_weights"), ["search_id", "split", "weights"]
        )
        table.create_check_constraint(
            op.f("ck_trials_split"), "split IN ('select', 'tune', 'report')"
        )
