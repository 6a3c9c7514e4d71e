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
ADDED = {"deliveries_subscriber": ("deliveries", "subscriber, event_position, redelivery")}


def upgrade() -> None:
    """Make them anew."""
    _replace({name: (table, after) for name, (table, _, after) in CHANGED.items()}, ADDED)


def downgrade() -> None:
    """Make those of before."""
    _replace({name: (table, before) for name, (table, before, _) in CHANGED.items()}, {})
    op.execute("DROP INDEX deliveries_subscriber")


def _replace(changed: dict[str, tuple[str, str]], added: dict[str, tuple[str, str]]) -> None:
    """Make all indexes, then drop those whose places they take: readers have to wait for that alone.

    Whoever locked a row of `archive` is waited for before any other table is touched: he may need that one too.
    """
    if op.get_bind().dialect.name == "postgresql":
        op.execute("LOCK TABLE archive IN EXCLUSIVE MODE")
        for name, (table, columns) in (added | {f"{name}_new": index for name, index in changed.items()}).items():
            op.execute(f"CREATE INDEX {name} ON {table} (namespace, {columns})")
        for name in changed:
            op.execute(f"DROP INDEX {name}")
            op.execute(f"ALTER INDEX {name}_new RENAME TO {name}")
        return
    for name in changed:
        op.execute(f"DROP INDEX {name}")
    for name, (table, columns) in (changed | added).items():
        op.execute(f"CREATE INDEX {name} ON {table} (namespace, {columns})")
