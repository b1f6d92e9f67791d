"""The queue of medical coding: items that wait for a person, and what people decided."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = ("coding_items", "coding_decisions")


def upgrade() -> None:
    """Create both tables; an item with new candidates and a changed mind are further rows, nothing is changed."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "coding_items",
        sa.Column("id", key, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("item", sa.String(64), nullable=False),
        sa.Column("study", sa.Text, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        *[
            sa.Column(name, sa.Text, nullable=False)
            for name in ("system", "verbatim", "context", "candidates", "reason", "release")
        ],
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("reviewers", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_coding_items"),
    )
    op.create_index("ix_coding_items_item", "coding_items", ["item"])
    op.create_table(
        "coding_decisions",
        sa.Column("id", key, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("item", sa.String(64), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        *[sa.Column(name, sa.Text, nullable=False) for name in ("code", "display", "actor", "assignee", "reason")],
        sa.Column("seen", key, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_coding_decisions"),
    )
    op.create_index("ix_coding_decisions_item", "coding_decisions", ["item"])
    _append_only()


def _append_only() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in TABLES:
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION trialops_append_only()"
            )
            op.execute(
                f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION trialops_append_only()"
            )
        return
    for table in TABLES:
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}")
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id) {refuse}"
        )
