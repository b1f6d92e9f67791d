"""Alerts: what happened to each, messages, silences, what runs have measured; rows that are only ever added."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from trialops.stores.migrations.append_only import make_append_only

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TABLES = ("alert_events", "alert_messages", "alert_silences", "alert_measures")


def upgrade() -> None:
    """Create the tables; rows of one alert, message or silence are numbered without gaps."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

    def head() -> list[sa.Column[object]]:
        return [
            sa.Column("id", key, autoincrement=True, nullable=False),
            sa.Column("at", sa.String(32), nullable=False),
            sa.Column("study", sa.String(128), nullable=False),
        ]

    def tail() -> list[sa.Column[object]]:
        return [sa.Column(name, sa.Text, nullable=False) for name in ("detail", "actor", "run_id")]

    op.create_table(
        "alert_events",
        *head(),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("episode", sa.Integer, nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        *tail(),
        sa.PrimaryKeyConstraint("id", name="pk_alert_events"),
        sa.UniqueConstraint("study", "fingerprint", "seq", name="uq_alert_events_study_fingerprint_seq"),
    )
    op.create_table(
        "alert_messages",
        *head(),
        sa.Column("message", sa.String(64), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("receiver", sa.String(64), nullable=False),
        sa.Column("until", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        *tail(),
        sa.PrimaryKeyConstraint("id", name="pk_alert_messages"),
        sa.UniqueConstraint("study", "message", "seq", name="uq_alert_messages_study_message_seq"),
    )
    op.create_table(
        "alert_silences",
        *head(),
        sa.Column("silence", sa.String(36), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("matchers", sa.Text, nullable=False),
        sa.Column("starts", sa.String(32), nullable=False),
        sa.Column("ends", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        *tail(),
        sa.PrimaryKeyConstraint("id", name="pk_alert_silences"),
        sa.UniqueConstraint("study", "silence", "seq", name="uq_alert_silences_study_silence_seq"),
    )
    op.create_table(
        "alert_measures",
        *head(),
        sa.Column("run_id", sa.String(128), nullable=False),
        sa.Column("finished", sa.String(32), nullable=False),
        sa.Column("metric", sa.String(128), nullable=False),
        sa.Column("labels", sa.String(512), nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alert_measures"),
        sa.UniqueConstraint(
            "run_id", "finished", "metric", "labels", name="uq_alert_measures_run_id_finished_metric_labels"
        ),
    )
    op.create_index("ix_alert_measures_study_metric", "alert_measures", ["study", "metric"])
    for table in TABLES:
        make_append_only(table)
