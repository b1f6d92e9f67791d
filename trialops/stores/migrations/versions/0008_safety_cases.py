"""Safety cases: their versions, clocks and decisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from trialops.stores.migrations.append_only import make_append_only

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _key() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False)


def _at() -> sa.Column[str]:
    return sa.Column("at", sa.String(32), nullable=False)


def upgrade() -> None:
    """Create the tables. They say nothing of what happened to whom: that is in sealed objects."""
    op.create_table(
        "safety_cases",
        _key(),
        _at(),
        *_texts("study", "case"),
        sa.Column("event", sa.String(64), nullable=False),
        *_texts("subject", "actor", "run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_safety_cases"),
        sa.UniqueConstraint("case", name="uq_safety_cases_case"),
        sa.UniqueConstraint("study", "event", name="uq_safety_cases_study"),
    )
    op.create_table(
        "safety_case_versions",
        _key(),
        _at(),
        *_texts("case"),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("sealed", sa.String(64), nullable=False),
        sa.Column("aware", sa.String(32), nullable=False),
        *_texts("basis", "changed", "facts", "rulings"),
        sa.Column("policy_digest", sa.String(64), nullable=False),
        sa.Column("delivery", sa.String(64), nullable=False),
        *_texts("actor", "run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_safety_case_versions"),
        sa.UniqueConstraint("case", "version", name="uq_safety_case_versions_case"),
    )
    op.create_table(
        "safety_assessments",
        _key(),
        _at(),
        *_texts("case"),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("related", sa.String(16), nullable=False),
        *_texts("reason", "actor", "role", "run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_safety_assessments"),
        sa.UniqueConstraint("case", "version", name="uq_safety_assessments_case"),
    )
    op.create_table(
        "safety_case_actions",
        _key(),
        _at(),
        *_texts("case"),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("authority", sa.String(16), nullable=False),
        sa.Column("moment", sa.String(32), nullable=False),
        *_texts("reason", "detail", "actor", "role", "run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_safety_case_actions"),
    )
    op.create_index("ix_safety_case_actions_case", "safety_case_actions", ["case"])
    for table in ("safety_cases", "safety_case_versions", "safety_assessments", "safety_case_actions"):
        make_append_only(table)
