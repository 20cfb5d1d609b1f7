"""What was added to a base, beside the base itself: one that was prepared by older settings, or by an older hubdock, is looked into again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("bases", sa.Column("key", sa.String(64), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("bases", "key")
