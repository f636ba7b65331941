"""Alembic's entry: migrations run on the connection (and in the transaction) that
`db.engine.migrate` hands over.
"""

from alembic import context

from db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
