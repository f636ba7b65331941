"""Which clusters a look may have seen: looks are counted over all benchmarks that share one."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("benchmarks", sa.Column("judging", sa.JSON(), nullable=True))
