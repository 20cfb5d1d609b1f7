"""The first schema."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(name: str, length: int | None = None, key: bool = False) -> "sa.Column[Any]":
    return sa.Column(name, sa.String(length) if length else sa.Text(), primary_key=key, nullable=False)


def _number(name: str, nullable: bool = False) -> "sa.Column[Any]":
    return sa.Column(name, sa.Float(), nullable=nullable)


def upgrade() -> None:
    op.create_table("sources", _text("repo", 2100, True), _text("commit", 64, True), _text("version", 80, True), _text("text"))
    op.create_table("bases", _text("reference", 600, True), _text("prepared", 200), _text("text"), _number("checked"))
    op.create_table("epochs", _text("key", 64, True), sa.Column("epoch", sa.Integer(), nullable=False), _number("since"))
    op.create_table(
        "tasks", _text("id", 120, True), _text("kind", 20), _text("key", 64), _text("repo", 2100), _text("status", 20), _number("finished"),
        _number("seconds"), _text("steps"), _text("inputs"),
    )  # fmt: skip
    op.create_index("tasks_by_kind", "tasks", ["kind", "status", "finished"])
    op.create_table(
        "builds", _text("id", 40, True), _number("created"), _number("finished", True), _text("status", 20), _text("repo", 2100), _text("ref", 600),
        _text("commit", 64), _text("image", 64), _text("options"), _text("users"), _text("tasks"), _text("error"),
    )  # fmt: skip
    op.create_index("builds_by_time", "builds", ["created"])
    op.create_table(
        "workspaces", _text("volume", 200, True), _text("user", 300), _text("server", 300), _text("repo", 2100), _text("branch", 600), _text("data"),
        _number("created"), _number("used"), sa.Column("size", sa.BigInteger(), nullable=True),
    )  # fmt: skip


def downgrade() -> None:
    for table in ("workspaces", "builds", "tasks", "epochs", "bases", "sources"):
        op.drop_table(table)
