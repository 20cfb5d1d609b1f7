"""Whose a build is: several hubdocks may share a database, and each takes up its own after a restart."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("builds", sa.Column("home", sa.String(40), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("builds", "home")
