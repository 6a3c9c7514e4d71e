"""The projects' shared state, versioned, and the record of what was redacted.

This file is a record of what was done to databases: it is never edited to follow the legend.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MOMENT = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "blackboard",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column("project_id", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("value", JSON),
        sa.Column("exact", sa.Text),
        sa.Column("data", sa.LargeBinary),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("written_at", MOMENT, nullable=False),
        sa.Column("actor", sa.Text),
        sa.Column("event_id", sa.Text),
    )
    op.create_table(
        "redactions",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("paths", JSON, nullable=False),
        sa.Column("redacted_at", MOMENT, nullable=False),
    )
    op.create_index("inbox_event", "inbox", ["namespace", "event_id"])


def downgrade() -> None:
    """Drop them, and every value of the blackboard with them."""
    op.drop_index("inbox_event", "inbox")
    op.drop_table("redactions")
    op.drop_table("blackboard")
