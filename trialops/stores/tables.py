"""The database's tables as SQLAlchemy Core objects.

This is the only module that imports SQLAlchemy at its top; import it inside functions.

Times are UTC text in ISO 8601 with microseconds and a final Z, on both dialects: text is what the audit
digest covers, so it must come back from the database byte for byte as it went in.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives the row-id fast path only to a column declared exactly INTEGER.
_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

audit_events = sa.Table(
    "audit_events",
    metadata,
    sa.Column("seq", _KEY, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False, index=True),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
)

signers = sa.Table(
    "signers",
    metadata,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("printed_name", sa.Text, nullable=False),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("scrypt", sa.Text, nullable=False),
    sa.Column("verifier", sa.String(64), nullable=False),
    sa.Column("sealed_key", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("changed", sa.String(32), nullable=False),
)

signer_keys = sa.Table(
    "signer_keys",
    metadata,
    sa.Column("key_id", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.Text, nullable=False, index=True),
    sa.Column("public_key", sa.String(64), nullable=False),
    sa.Column("certificate", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("audit_seq", _KEY, nullable=False),
)

signatures = sa.Table(
    "signatures",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("printed_name", sa.Text, nullable=False),
    sa.Column("meaning", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("signature", sa.String(128), nullable=False),
    sa.Column("audit_seq", _KEY, nullable=False),
    sa.Index("ix_signatures_kind_record", "kind", "record"),
)

promotions = sa.Table(
    "promotions",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("model", sa.Text, nullable=False, index=True),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("alias", sa.Text, nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("from_version", sa.Text, nullable=False),
    sa.Column("to_version", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("parameters", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("started", sa.String(32), nullable=False),
    sa.Column("finished", sa.String(32), nullable=False),
    sa.Column("code_version", sa.Text, nullable=False),
    sa.Column("page", sa.Text, nullable=False),
    sa.Index("ix_runs_pipeline_started", "pipeline", "started"),
)

pseudonym_links = sa.Table(
    "pseudonym_links",
    metadata,
    sa.Column("study", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("pseudonym", sa.Text, primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
)

legal_holds = sa.Table(
    "legal_holds",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("hold", sa.String(36), nullable=False, index=True),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("record_class", sa.Text, nullable=False),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

privacy_requests = sa.Table(
    "privacy_requests",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("request", sa.String(36), nullable=False, index=True),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("study", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False, index=True),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)

coding_items = sa.Table(
    "coding_items",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("item", sa.String(64), nullable=False, index=True),
    sa.Column("study", sa.Text, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("system", sa.Text, nullable=False),
    sa.Column("verbatim", sa.Text, nullable=False),
    sa.Column("context", sa.Text, nullable=False),
    sa.Column("candidates", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("release", sa.Text, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("reviewers", sa.Integer, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
)

coding_decisions = sa.Table(
    "coding_decisions",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("item", sa.String(64), nullable=False, index=True),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("display", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("assignee", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("seen", _KEY, nullable=False),
)

share_events = sa.Table(
    "share_events",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("share", sa.String(64), nullable=False, index=True),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("agreement", sa.Text, nullable=False),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("expires", sa.String(10), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)

quality_queries = sa.Table(
    "quality_queries",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("query", sa.String(16), nullable=False, unique=True),
    sa.Column("study", sa.Text, nullable=False, index=True),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("priority", sa.String(16), nullable=False),
    sa.Column("domain", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
)

quality_query_events = sa.Table(
    "quality_query_events",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("query", sa.String(16), nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("cause", sa.String(16), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
)

rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("rollout", sa.String(128), nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("event", sa.String(16), nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("percent", sa.Float, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("policy_digest", sa.String(64), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.UniqueConstraint("rollout", "seq", name="uq_rollouts_rollout"),
)

documents = sa.Table(
    "documents",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("document", sa.String(160), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("audience", sa.String(64), nullable=False),
    sa.Column("cut", sa.String(64), nullable=False),
    sa.Column("stamp", sa.String(64), nullable=False),
    sa.Column("content", sa.String(64), nullable=False),
    sa.Column("manifest", sa.String(64), nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("program", sa.String(64), nullable=False),
    sa.Column("files", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.UniqueConstraint("document", "version", name="uq_documents_document"),
)

report_events = sa.Table(
    "report_events",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
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
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.UniqueConstraint("study", "message_id", "seq"),
    sa.Index("ix_report_events_study_case_id", "study", "case_id"),
)

report_acknowledgements = sa.Table(
    "report_acknowledgements",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("study", sa.String(128), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("object_key", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("message_id", sa.String(128), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.UniqueConstraint("study", "digest"),
    sa.Index("ix_report_acknowledgements_study_message_id", "study", "message_id"),
)

safety_cases = sa.Table(
    "safety_cases",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("study", sa.Text, nullable=False),
    sa.Column("case", sa.Text, nullable=False, unique=True),
    sa.Column("event", sa.String(64), nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.UniqueConstraint("study", "event", name="uq_safety_cases_study"),
)

safety_case_versions = sa.Table(
    "safety_case_versions",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("case", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("sealed", sa.String(64), nullable=False),
    sa.Column("aware", sa.String(32), nullable=False),
    sa.Column("basis", sa.Text, nullable=False),
    sa.Column("changed", sa.Text, nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
    sa.Column("rulings", sa.Text, nullable=False),
    sa.Column("policy_digest", sa.String(64), nullable=False),
    sa.Column("delivery", sa.String(64), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.UniqueConstraint("case", "version", name="uq_safety_case_versions_case"),
)

safety_assessments = sa.Table(
    "safety_assessments",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("case", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("related", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.UniqueConstraint("case", "version", name="uq_safety_assessments_case"),
)

safety_case_actions = sa.Table(
    "safety_case_actions",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("case", sa.Text, nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("authority", sa.String(16), nullable=False),
    sa.Column("moment", sa.String(32), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
)

alert_events = sa.Table(
    "alert_events",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("study", sa.String(128), nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("event", sa.String(16), nullable=False),
    sa.Column("episode", sa.Integer, nullable=False),
    sa.Column("origin", sa.String(16), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.UniqueConstraint("study", "fingerprint", "seq"),
)

alert_messages = sa.Table(
    "alert_messages",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("study", sa.String(128), nullable=False),
    sa.Column("message", sa.String(64), nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("receiver", sa.String(64), nullable=False),
    sa.Column("until", sa.String(32), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.UniqueConstraint("study", "message", "seq"),
)

alert_silences = sa.Table(
    "alert_silences",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("study", sa.String(128), nullable=False),
    sa.Column("silence", sa.String(36), nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("matchers", sa.Text, nullable=False),
    sa.Column("starts", sa.String(32), nullable=False),
    sa.Column("ends", sa.String(32), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.UniqueConstraint("study", "silence", "seq"),
)

alert_measures = sa.Table(
    "alert_measures",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("study", sa.String(128), nullable=False),
    sa.Column("run_id", sa.String(128), nullable=False),
    sa.Column("finished", sa.String(32), nullable=False),
    sa.Column("metric", sa.String(128), nullable=False),
    sa.Column("labels", sa.String(512), nullable=False),
    sa.Column("value", sa.Float, nullable=False),
    sa.UniqueConstraint("run_id", "finished", "metric", "labels"),
    sa.Index("ix_alert_measures_study_metric", "study", "metric"),
)

step_durations = sa.Table(
    "step_durations",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.String(128), nullable=False),
    sa.Column("pipeline", sa.String(64), nullable=False),
    sa.Column("step", sa.String(128), nullable=False),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("started", sa.String(32), nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("queue_seconds", sa.Float, nullable=False),
    sa.Column("cpu_seconds", sa.Float, nullable=False),
    sa.Column("peak_mb", sa.Float, nullable=False),
    sa.UniqueConstraint("run_id", "step"),
    sa.Index("ix_step_durations_pipeline_step", "pipeline", "step", "started"),
)

health_states = sa.Table(
    "health_states",
    metadata,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("run_id", sa.String(128), nullable=False),
    sa.Column("pipeline", sa.String(64), nullable=False),
    sa.Column("component", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.UniqueConstraint("run_id", "pipeline", "component"),
    sa.Index("ix_health_states_at", "at"),
)

APPEND_ONLY = (
    "audit_events",
    "signatures",
    "signer_keys",
    "promotions",
    "legal_holds",
    "privacy_requests",
    "coding_items",
    "coding_decisions",
    "share_events",
    "quality_queries",
    "quality_query_events",
    "rollouts",
    "documents",
    "safety_cases",
    "safety_case_versions",
    "safety_assessments",
    "safety_case_actions",
    "report_events",
    "report_acknowledgements",
    "alert_events",
    "alert_messages",
    "alert_silences",
    "alert_measures",
)
"""Tables whose rows are never changed or removed, by trigger (21 CFR 11.10(e))."""
