"""Indexes by event and by subscriber that give order too, and one of the deliveries that are not done.

PostgreSQL builds them while nobody writes these tables; readers wait for a moment.

This file is a record of what was done to databases: it is never edited to follow the legend.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Each index that changes its columns: before, and after.
CHANGED = {
    "outcomes_delivery": ("outcomes", "event_position, subscriber", "event_position, position"),
    "dead_letters_delivery": ("dead_letters", "event_position, subscriber", "event_position, resolution, position"),
    "dead_letters_resolution": ("dead_letters", "resolution, position", "resolution, position, event_position"),
    "deliveries_state": (
        "deliveries",
        "subscriber, state",
        "state, event_position, subscriber, redelivery) WHERE (state <> 'done'",
    ),
}


def upgrade() -> None:
    """Make them anew."""
    for name, (table, _, after) in CHANGED.items():
        op.execute(f"DROP INDEX {name}")
        op.execute(f"CREATE INDEX {name} ON {table} (namespace, {after})")
    op.execute("CREATE INDEX deliveries_subscriber ON deliveries (namespace, subscriber, event_position, redelivery)")


def downgrade() -> None:
    """Make those of before."""
    op.execute("DROP INDEX deliveries_subscriber")
    for name, (table, before, _) in CHANGED.items():
        op.execute(f"DROP INDEX {name}")
        op.execute(f"CREATE INDEX {name} ON {table} (namespace, {before})")
