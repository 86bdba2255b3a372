"""Alembic's entry: runs the migrations on the connection that `tunesmith_shared.migrate` opened."""

from alembic import context

from tunesmith_shared.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
