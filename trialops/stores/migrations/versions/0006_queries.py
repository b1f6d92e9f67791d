"""Queries to the sites, and what became of each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = ("quality_queries", "quality_query_events")


def upgrade() -> None:
    """Create both tables; an answer, a closure and a re-opening are further rows, and nothing is changed."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "quality_queries",
        sa.Column("id", key, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("query", sa.String(16), nullable=False),
        *[sa.Column(name, sa.Text, nullable=False) for name in ("study", "rule")],
        sa.Column("priority", sa.String(16), nullable=False),
        *[sa.Column(name, sa.Text, nullable=False) for name in ("domain", "subject", "record", "message", "run_id")],
        sa.PrimaryKeyConstraint("id", name="pk_quality_queries"),
        sa.UniqueConstraint("query", name="uq_quality_queries_query"),
    )
    op.create_index("ix_quality_queries_study", "quality_queries", ["study"])
    op.create_table(
        "quality_query_events",
        sa.Column("id", key, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("query", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("cause", sa.String(16), nullable=False),
        *[sa.Column(name, sa.Text, nullable=False) for name in ("actor", "reason", "run_id")],
        sa.PrimaryKeyConstraint("id", name="pk_quality_query_events"),
    )
    op.create_index("ix_quality_query_events_query", "quality_query_events", ["query"])
    for table in TABLES:
        _append_only(table)


def _append_only(table: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION trialops_append_only()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION trialops_append_only()"
        )
        return
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
    op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}")
    op.execute(
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id) {refuse}"
    )
