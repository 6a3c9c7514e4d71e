"""Large tables are partitioned by position on PostgreSQL, a month a partition; JSON there is jsonb.

What is there already becomes the first partition. Changing json to jsonb rewrites `events` and its indexes
once, and nobody writes or reads it meanwhile. `exact` keeps the text of what jsonb would not give back as it
was written.

This file is a record of what was done to databases: it is never edited to follow the legend.
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Each table, the column it is partitioned by, its key, and its other indexes.
PARTITIONED = {
    "events": (
        "position",
        "namespace, position",
        {
            "project": "(namespace, project_id, position)",
            "type": "(namespace, type, position)",
            "actor": "(namespace, actor, position)",
            "correlation": "(namespace, correlation_id, position)",
            "timestamp": '(namespace, "timestamp", position)',
            "causation": "(namespace, causation_id, position) WHERE causation_id IS NOT NULL",
        },
    ),
    "outcomes": ("position", "namespace, position", {"delivery": "(namespace, event_position, subscriber)"}),
    "deliveries": (
        "event_position",
        "namespace, event_position, subscriber, redelivery",
        {"state": "(namespace, subscriber, state)"},
    ),
}
LATEST = 2**53
JSON_COLUMNS = {
    "events": ("payload", "metadata", "deliveries"),
    "subscriptions": ("types", "options", "steering"),
}
# Numbers that jsonb rewrites: 1e300 loses its exponent, -0.0 its sign.
INEXACT = r"[0-9][eE][-+0-9]|-0(\.0*)?[^.0-9]"


def upgrade() -> None:
    """Add the column; on PostgreSQL change the types and put partitioned tables over the old ones."""
    op.add_column("events", sa.Column("exact", sa.Text))
    if op.get_bind().dialect.name != "postgresql":
        return
    op.get_bind().exec_driver_sql(
        "UPDATE events SET exact = json_build_object('payload', payload, 'metadata', metadata)::text "
        f"WHERE payload::text ~ '{INEXACT}' OR metadata::text ~ '{INEXACT}'"
    )
    _retype("jsonb")
    _sql(f"DELETE FROM deliveries WHERE event_position >= {LATEST}")  # of entries that were no deliveries
    for table, (column, key, indexes) in PARTITIONED.items():
        highest = op.get_bind().exec_driver_sql(f"SELECT coalesce(max({column}), 0) FROM {table}").scalar_one()
        _rename(table, f"{table}_first", indexes)
        _sql(f"CREATE TABLE {table} (LIKE {table}_first INCLUDING DEFAULTS) PARTITION BY RANGE ({column})")
        _index(table, key, indexes)
        _sql(
            f"ALTER TABLE {table} ATTACH PARTITION {table}_first "
            f"FOR VALUES FROM (MINVALUE) TO ({_next_month(int(highest))})"
        )


def downgrade() -> None:
    """Copy every partition back into one table; on PostgreSQL that takes as long as it takes."""
    if op.get_bind().dialect.name == "postgresql":
        for table, (_, key, indexes) in PARTITIONED.items():
            _rename(table, f"{table}_partitioned", indexes)
            _sql(f"CREATE TABLE {table} (LIKE {table}_partitioned INCLUDING DEFAULTS)")
            _sql(f"INSERT INTO {table} SELECT * FROM {table}_partitioned")
            _sql(f"DROP TABLE {table}_partitioned")
            _index(table, key, indexes)
        _retype("json")
        _sql(
            "UPDATE events SET payload = (exact::json)->'payload', metadata = (exact::json)->'metadata' "
            "WHERE exact IS NOT NULL"
        )
    op.drop_column("events", "exact")


def _rename(table: str, name: str, indexes: dict[str, str]) -> None:
    _sql(f"ALTER TABLE {table} RENAME TO {name}")
    for suffix in ("pkey", *indexes):
        _sql(f"ALTER INDEX {table}_{suffix} RENAME TO {name}_{suffix}")


def _index(table: str, key: str, indexes: dict[str, str]) -> None:
    _sql(f"ALTER TABLE {table} ADD CONSTRAINT {table}_pkey PRIMARY KEY ({key})")
    for suffix, columns in indexes.items():
        _sql(f"CREATE INDEX {table}_{suffix} ON {table} {columns}")


def _retype(kind: str) -> None:
    for table, columns in JSON_COLUMNS.items():
        if table == "subscriptions":
            _sql("ALTER TABLE subscriptions ALTER COLUMN steering DROP DEFAULT")
        changes = ", ".join(f"ALTER COLUMN {name} TYPE {kind} USING {name}::{kind}" for name in columns)
        _sql(f"ALTER TABLE {table} {changes}")
        if table == "subscriptions":
            _sql(f"ALTER TABLE subscriptions ALTER COLUMN steering SET DEFAULT '{{}}'::{kind}")


def _sql(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement)


def _next_month(position: int) -> int:
    """Return the first position of the month after now, and after that position."""
    latest = max(datetime.now(UTC), datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=position))
    first = (latest.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
