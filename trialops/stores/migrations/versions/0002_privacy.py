"""Legal holds, and requests of data subjects."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("legal_holds", "privacy_requests")


def upgrade() -> None:
    """Create both tables; each row is an event, so a release or a decision is a further row and nothing is changed."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "legal_holds",
        sa.Column("id", key, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("hold", sa.String(36), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        *[sa.Column(name, sa.Text, nullable=False) for name in ("record_class", "object", "actor", "reason")],
        sa.PrimaryKeyConstraint("id", name="pk_legal_holds"),
    )
    op.create_index("ix_legal_holds_hold", "legal_holds", ["hold"])
    op.create_table(
        "privacy_requests",
        sa.Column("id", key, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("request", sa.String(36), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        *[
            sa.Column(name, sa.Text, nullable=False)
            for name in ("kind", "study", "subject", "actor", "reason", "detail")
        ],
        sa.PrimaryKeyConstraint("id", name="pk_privacy_requests"),
    )
    op.create_index("ix_privacy_requests_request", "privacy_requests", ["request"])
    op.create_index("ix_privacy_requests_subject", "privacy_requests", ["subject"])
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
