"""When each key was used last, which image each hypothesis was started with, and the trash of workspaces."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "uses", sa.Column("kind", sa.String(20), primary_key=True, nullable=False), sa.Column("key", sa.String(200), primary_key=True, nullable=False),
        sa.Column("used", sa.Float(), nullable=False), sa.Column("needs", sa.Text(), nullable=False),
    )  # fmt: skip
    op.create_table(
        "heads", sa.Column("repo", sa.String(2100), primary_key=True, nullable=False), sa.Column("branch", sa.String(600), primary_key=True, nullable=False),
        sa.Column("image", sa.String(64), nullable=False), sa.Column("used", sa.Float(), nullable=False), sa.Column("missing", sa.Float(), nullable=True),
    )  # fmt: skip
    op.add_column("workspaces", sa.Column("trashed", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("workspaces", "trashed")
    op.drop_table("heads")
    op.drop_table("uses")
