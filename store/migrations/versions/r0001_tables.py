"""The first tables. `store/tables.py` has the legend.

This file is a record of what was done to databases: it is never edited to follow the legend.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

POSITION = sa.BigInteger()
MOMENT = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
JSON_TEXT = sa.Text().with_variant(sa.JSON(), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "events",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column("position", POSITION, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("causation_id", sa.Text),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("depth", sa.Integer, nullable=False),
        sa.Column("timestamp", MOMENT, nullable=False),
        sa.Column("payload", JSON_TEXT, nullable=False),
        sa.Column("blackboard_pointer", sa.Text),
        sa.Column("metadata", JSON_TEXT, nullable=False),
        sa.Column("cost_micros", sa.BigInteger),
        sa.Column("currency", sa.Text),
        sa.Column("latency_us", sa.BigInteger),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("deliveries", JSON_TEXT, nullable=False),
    )
    op.create_index("events_project", "events", ["namespace", "project_id", "position"])
    op.create_index("events_type", "events", ["namespace", "type", "position"])
    op.create_index("events_actor", "events", ["namespace", "actor", "position"])
    op.create_index("events_correlation", "events", ["namespace", "correlation_id", "position"])
    op.create_index("events_timestamp", "events", ["namespace", "timestamp", "position"])
    has_cause = sa.text("causation_id IS NOT NULL")
    op.create_index(
        "events_causation",
        "events",
        ["namespace", "causation_id", "position"],
        postgresql_where=has_cause,
        sqlite_where=has_cause,
    )
    op.create_table(
        "event_index",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("position", POSITION, nullable=False),
    )
    op.create_table(
        "outcomes",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column("position", POSITION, primary_key=True, autoincrement=False),
        sa.Column("event_position", POSITION, nullable=False),
        sa.Column("subscriber", sa.Text, nullable=False),
        sa.Column("redelivery", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("elapsed_us", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
    )
    op.create_index("outcomes_delivery", "outcomes", ["namespace", "event_position", "subscriber"])
    op.create_table(
        "deliveries",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column("event_position", POSITION, primary_key=True, autoincrement=False),
        sa.Column("subscriber", sa.Text, primary_key=True),
        sa.Column("redelivery", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("settled_position", POSITION),
    )
    op.create_index("deliveries_state", "deliveries", ["namespace", "subscriber", "state"])
    op.create_table(
        "rejected",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("entry_id", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("raw", sa.Text, nullable=False),
    )
    op.create_table(
        "archive",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("last_entry", sa.Text, nullable=False),
    )
    op.create_table(
        "subscriptions",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column("subscriber", sa.Text, primary_key=True),
        sa.Column("types", JSON_TEXT, nullable=False),
        sa.Column("options", JSON_TEXT, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables, and all history with them."""
    for table in ("subscriptions", "archive", "rejected", "deliveries", "outcomes", "event_index", "events"):
        op.drop_table(table)
