"""Regulatory documents: versions, data cut, digest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from trialops.stores.migrations.append_only import make_append_only

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLE = "documents"


def upgrade() -> None:
    """Create the table; a document's versions are its rows, numbered without gaps."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        TABLE,
        sa.Column("id", key, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("document", sa.String(160), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        *[sa.Column(name, sa.String(64), nullable=False) for name in ("kind", "audience", "cut", "stamp")],
        *[sa.Column(name, sa.String(64), nullable=False) for name in ("content", "manifest", "source", "program")],
        *[sa.Column(name, sa.Text, nullable=False) for name in ("files", "actor", "run_id")],
        sa.PrimaryKeyConstraint("id", name="pk_documents"),
        sa.UniqueConstraint("document", "version", name="uq_documents_document"),
    )
    make_append_only(TABLE)
