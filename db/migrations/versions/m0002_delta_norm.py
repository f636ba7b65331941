"""How far a candidate lies from its base: with its direction, how far from other candidates."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("candidates", sa.Column("delta_norm", sa.Float(), nullable=True))
