"""In whose name a build reads its repository: when it is taken up again, it may read that and no more."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("builds", sa.Column("asker", sa.Text(), nullable=False, server_default='{"name": "", "groups": [], "trusted": false}'))


def downgrade() -> None:
    op.drop_column("builds", "asker")
