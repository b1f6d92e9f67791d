"""An index that the unique constraint beside it makes needless: it cost every write, and upkeep reported it."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the index; uq_rollouts_rollout begins with the same column."""
    op.drop_index("ix_rollouts_rollout", "rollouts")
