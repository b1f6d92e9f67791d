"""Durations of steps and states of services over time, taken from the records of runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; both are made from records that are kept, and may be cut to what is looked at."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "step_durations",
        sa.Column("id", key, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(128), nullable=False),
        sa.Column("pipeline", sa.String(64), nullable=False),
        sa.Column("step", sa.String(128), nullable=False),
        *[sa.Column(name, sa.String(32), nullable=False) for name in ("state", "started")],
        *[sa.Column(name, sa.Float, nullable=False) for name in ("seconds", "queue_seconds", "cpu_seconds", "peak_mb")],
        sa.PrimaryKeyConstraint("id", name="pk_step_durations"),
        sa.UniqueConstraint("run_id", "step", name="uq_step_durations_run_id_step"),
    )
    op.create_index("ix_step_durations_pipeline_step", "step_durations", ["pipeline", "step", "started"])
    op.create_table(
        "health_states",
        sa.Column("id", key, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("run_id", sa.String(128), nullable=False),
        sa.Column("pipeline", sa.String(64), nullable=False),
        sa.Column("component", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_health_states"),
        sa.UniqueConstraint("run_id", "pipeline", "component", name="uq_health_states_run_id_pipeline_component"),
    )
    op.create_index("ix_health_states_at", "health_states", ["at"])
