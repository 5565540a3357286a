"""What alembic runs: the steps of `versions/` on the connection that it is given."""

from alembic import context

from prompt2lora.custody.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
