"""What operators do: limits and pauses of subscribers, and dead letters with what became of them.

This file is a record of what was done to databases: it is never edited to follow the legend.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON_TEXT = sa.Text().with_variant(sa.JSON(), "postgresql")


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("subscriptions", sa.Column("steering", JSON_TEXT, nullable=False, server_default="{}"))
    op.create_table(
        "dead_letters",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("event_position", sa.BigInteger, nullable=False),
        sa.Column("subscriber", sa.Text, nullable=False),
        sa.Column("redelivery", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("traceback", sa.Text, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("raw", sa.Text, nullable=False),
        sa.Column("resolution", sa.Text, nullable=False),
        sa.Column("resolved_position", sa.BigInteger),
    )
    op.create_index("dead_letters_delivery", "dead_letters", ["namespace", "event_position", "subscriber"])
    op.create_index("dead_letters_resolution", "dead_letters", ["namespace", "resolution", "position"])


def downgrade() -> None:
    """Drop them; what operators set, and the texts of dead letters, are gone with them."""
    op.drop_table("dead_letters")
    op.drop_column("subscriptions", "steering")
