"""Audit trail, signatures, promotions, runs and pseudonym links."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables and the triggers that keep four of them append-only."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "audit_events",
        sa.Column("seq", key, autoincrement=False, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        *[
            sa.Column(name, sa.Text, nullable=False)
            for name in ("actor", "action", "object", "version", "reason", "run_id", "detail")
        ],
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit_events"),
    )
    op.create_index("ix_audit_events_run_id", "audit_events", ["run_id"])
    op.create_table(
        "signers",
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("printed_name", sa.Text, nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("scrypt", sa.Text, nullable=False),
        sa.Column("verifier", sa.String(64), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("changed", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_signers"),
    )
    op.create_table(
        "signer_keys",
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("public_key", sa.String(64), nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("audit_seq", key, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_signer_keys"),
    )
    op.create_index("ix_signer_keys_user_id", "signer_keys", ["user_id"])
    op.create_table(
        "signatures",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        *[
            sa.Column(name, sa.Text, nullable=False)
            for name in ("user_id", "printed_name", "meaning", "reason", "kind", "record")
        ],
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("signature", sa.String(128), nullable=False),
        sa.Column("audit_seq", key, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_signatures"),
    )
    op.create_index("ix_signatures_kind_record", "signatures", ["kind", "record"])
    op.create_table(
        "promotions",
        sa.Column("id", key, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        *[sa.Column(name, sa.Text, nullable=False) for name in ("model", "version", "alias")],
        sa.Column("action", sa.String(16), nullable=False),
        *[
            sa.Column(name, sa.Text, nullable=False)
            for name in ("from_version", "to_version", "reason", "decision", "run_id", "actor")
        ],
        sa.PrimaryKeyConstraint("id", name="pk_promotions"),
    )
    op.create_index("ix_promotions_model", "promotions", ["model"])
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started", sa.String(32), nullable=False),
        sa.Column("finished", sa.String(32), nullable=False),
        sa.Column("code_version", sa.Text, nullable=False),
        sa.Column("page", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_runs"),
    )
    op.create_index("ix_runs_pipeline_started", "runs", ["pipeline", "started"])
    op.create_table(
        "pseudonym_links",
        sa.Column("study", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("pseudonym", sa.Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("study", "kind", "pseudonym", name="pk_pseudonym_links"),
    )
    _append_only()


def _append_only() -> None:
    keys = {"audit_events": "seq", "signatures": "id", "signer_keys": "key_id", "promotions": "id"}
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION trialops_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ "
            "BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME "
            "USING ERRCODE = 'restrict_violation'; END $$"
        )
        for table in keys:
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION trialops_append_only()"
            )
            op.execute(
                f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION trialops_append_only()"
            )
        return
    for table, key in keys.items():
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}")
        # INSERT OR REPLACE removes a row without firing its delete trigger unless recursive_triggers is on.
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key}) {refuse}"
        )
