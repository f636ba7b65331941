"""Which benchmark a base is judged by now; what cards say of languages and audience."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("bases", sa.Column("benchmark_id", sa.Integer(), nullable=True))
    op.execute(
        "UPDATE bases SET benchmark_id = (SELECT s.benchmark_id FROM scores s"
        " JOIN candidates c ON c.id = s.candidate_id"
        " WHERE c.base_id = bases.id ORDER BY s.id DESC LIMIT 1)"
    )
    op.add_column("candidates", sa.Column("languages", sa.JSON(), nullable=True))
    op.add_column("candidates", sa.Column("not_for_all_audiences", sa.Boolean(), nullable=True))
