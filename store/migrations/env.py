"""What Alembic runs: migrations on the connection, and in the transaction, that `store.migrate` gives."""

from alembic import context

from store.migrate import VERSION_TABLE
from store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    on_version_apply=context.config.attributes["applied"],
)
context.run_migrations()
