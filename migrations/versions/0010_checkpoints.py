"""Checkpoints: the state that a drained attempt saves for the next attempt to resume from."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the column: the key of an object. Null means that the attempt starts at step 0."""
    op.execute("ALTER TABLE jobs ADD COLUMN checkpoint text CHECK (checkpoint <> '')")


def downgrade() -> None:
    """Drop the column. Drained jobs start again at step 0."""
    op.execute("ALTER TABLE jobs DROP COLUMN checkpoint")
