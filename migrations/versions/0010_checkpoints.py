"""What a drained attempt leaves for the next one to go on from."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the column: the key of an object. Null means from the start."""
    op.execute("ALTER TABLE jobs ADD COLUMN checkpoint text CHECK (checkpoint <> '')")


def downgrade() -> None:
    """Drop it; jobs that were drained begin anew."""
    op.execute("ALTER TABLE jobs DROP COLUMN checkpoint")
