"""Individual case safety reports on their way: outbox and acknowledgements."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from trialops.stores.migrations.append_only import make_append_only

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

EVENTS, ACKS = "report_events", "report_acknowledgements"


def upgrade() -> None:
    """Create the tables.

    A message is its rows, numbered without gaps: of two senders that both believe a message to be theirs, the
    second one to write finds its number taken. An acknowledgement is kept once, whether it fits a message or not.
    """
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        EVENTS,
        sa.Column("id", key, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("study", sa.String(128), nullable=False),
        sa.Column("message_id", sa.String(128), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("case_id", sa.String(128), nullable=False),
        sa.Column("case_version", sa.Integer, nullable=False),
        sa.Column("authority", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("due", sa.String(32), nullable=False),
        sa.Column("until", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        *[sa.Column(name, sa.Text, nullable=False) for name in ("detail", "actor", "run_id")],
        sa.PrimaryKeyConstraint("id", name=f"pk_{EVENTS}"),
        sa.UniqueConstraint("study", "message_id", "seq", name=f"uq_{EVENTS}_study_message_id_seq"),
    )
    op.create_index(f"ix_{EVENTS}_study_case_id", EVENTS, ["study", "case_id"])
    op.create_table(
        ACKS,
        sa.Column("id", key, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("study", sa.String(128), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("object_key", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("message_id", sa.String(128), nullable=False),
        *[sa.Column(name, sa.Text, nullable=False) for name in ("detail", "actor", "run_id")],
        sa.PrimaryKeyConstraint("id", name=f"pk_{ACKS}"),
        sa.UniqueConstraint("study", "digest", name=f"uq_{ACKS}_study_digest"),
    )
    op.create_index(f"ix_{ACKS}_study_message_id", ACKS, ["study", "message_id"])
    for table in (EVENTS, ACKS):
        make_append_only(table)
