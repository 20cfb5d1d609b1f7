"""Alembic's entry: runs over the connection that `hubdock.engine.database` opened."""

from alembic import context

from hubdock.engine.database import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
