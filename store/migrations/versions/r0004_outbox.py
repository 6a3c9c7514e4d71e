"""The outbox and the inbox: events and effects that commit with a caller's own transaction.

This file is a record of what was done to databases: it is never edited to follow the legend.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOMENT = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True),
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("added_at", MOMENT, nullable=False),
        sa.Column("tried_at", MOMENT),
        sa.Column("position", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_event", "outbox", ["namespace", "event_id"], unique=True)
    op.create_index("outbox_state", "outbox", ["namespace", "state", "id"])
    op.create_table(
        "inbox",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column("subscriber", sa.Text, primary_key=True),
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("step", sa.Text, primary_key=True),
        sa.Column("delivery", sa.Text, nullable=False),
        sa.Column("handled_at", MOMENT, nullable=False),
    )


def downgrade() -> None:
    """Drop them; what is not published yet is gone, and what was handled may be handled again."""
    op.drop_table("inbox")
    op.drop_table("outbox")
    op.get_bind().exec_driver_sql("DELETE FROM archive WHERE stream = 'outbox'")
