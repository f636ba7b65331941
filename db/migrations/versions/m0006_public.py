"""Whether a publication may be public, whatever the settings say by the time it is sent."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("publications", sa.Column("public", sa.Boolean(), nullable=True))
