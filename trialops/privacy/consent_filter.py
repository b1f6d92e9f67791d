"""Consent at the moment of reading: which rows of FHIR and SDTM tables a use may see.

Two bases are kept apart. The conduct of the trial rests on the informed consent to take part; a withdrawal ends the
collection, and what was collected until that day stays. Any other use rests on a FHIR Consent that permits it on the
day of the use; a withdrawal ends that use.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.intake import partial_dates
from trialops.intake.domains import RECEIVED, catalog
from trialops.intake.fhir_tables import parse, patient_of
from trialops.privacy.consent import (
    DECISION_SCHEMA,
    ConsentPolicy,
    Decision,
    Request,
    by_subject,
    check_request,
    consent_policy,
    decide_one,
)

if TYPE_CHECKING:
    import polars as pl

    Audit = Any

STUDY_SYSTEM = "urn:trialops:study:"
TRIAL_REASONS = {
    "INFORMED_CONSENT": "informed consent to take part is documented",
    "ENROLMENT": "enrolment documents the consent: the delivery has no date of consent for anybody",
    "NO_INFORMED_CONSENT": "no informed consent is documented, and it is for others",
    "NOT_ENROLLED": "the subject is not enrolled",
}
NO_SUBJECT = "NO_SUBJECT"
AFTER_WITHDRAWAL = "AFTER_WITHDRAWAL"


@dataclass(frozen=True)
class Permitted:
    """What a use may see.

    Attributes:
        tables: The rows that are permitted, columns unchanged.
        decisions: subject, decision, reason, consent; for the trial itself also `withdrawn` (Date or null).
        withheld: table, reason, rows.
    """

    tables: dict[str, pl.DataFrame]
    decisions: pl.DataFrame
    withheld: pl.DataFrame

    @property
    def denied(self) -> int:
        """Subjects of whom nothing may be seen."""
        return int((self.decisions["decision"] == "deny").sum())

    @property
    def rows_withheld(self) -> int:
        """Rows that may not be seen."""
        return int(self.withheld["rows"].sum())


def permitted_resources(
    tables: Mapping[str, pl.DataFrame],
    *,
    purpose: str,
    at: dt.date,
    actor: str | None = None,
    policy: ConsentPolicy | None = None,
) -> Permitted:
    """Resources a use may see, kind of data by kind of data.

    Args:
        tables: Raw FHIR tables, consents among them.
        purpose: Code of the purpose of use.
        at: Day of the use.
        actor: Who uses it, or None.
        policy: The platform's own by default.

    Returns:
        The permitted resources; a subject's decision is "permit" when at least their Patient resource is permitted.

    Raises:
        TrialOpsError: The policy has no such purpose.
    """
    import polars as pl

    policy = policy or consent_policy()
    check_request(Request(purpose, at, actor), policy)
    own = by_subject(tables["Consent"]) if "Consent" in tables else {}
    impersonal = set(policy.content["impersonal_types"])
    kept: dict[str, pl.DataFrame] = {}
    withheld: list[tuple[str, str, int]] = []
    for kind, frame in sorted(tables.items()):
        if kind in impersonal:
            kept[kind] = frame
            continue
        request = Request(purpose, at, actor, kind)
        people = frame["subject"].drop_nulls().unique().sort().to_list()
        decided = _frame([(s, decide_one(own.get(s, []), request, policy)) for s in people])
        marked = frame.join(decided.select("subject", "decision", "reason"), on="subject", how="left")
        marked = marked.with_columns(pl.col("reason").fill_null(NO_SUBJECT))
        allowed = (pl.col("decision") == "permit").fill_null(False)
        kept[kind] = marked.filter(allowed).select(frame.columns)
        lost = marked.filter(~allowed).group_by("reason").len().sort("reason")
        withheld += [(kind, reason, int(rows)) for reason, rows in lost.iter_rows()]
    everybody = sorted({s for frame in tables.values() for s in frame["subject"].drop_nulls().unique()})
    whole = Request(purpose, at, actor, "Patient")
    decisions = _frame([(s, decide_one(own.get(s, []), whole, policy)) for s in everybody])
    return Permitted(kept, decisions, _withheld(withheld))


def _frame(made: list[tuple[str, Decision]]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(
        [(s, d.verdict, d.reason, d.consent) for s, d in made],
        schema={name: getattr(pl, kind) for name, kind in DECISION_SCHEMA.items()},
        orient="row",
    )


def _withheld(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    import polars as pl

    schema = {"table": pl.String, "reason": pl.String, "rows": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row").filter(pl.col("rows") > 0)


def study_subjects(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Patient id -> USUBJID, from ResearchSubject and Patient identifiers of system urn:trialops:study:<STUDYID>.

    Returns:
        patient, usubjid; one row per patient.
    """
    import polars as pl

    found: dict[str, str] = {}
    for kind in ("Patient", "ResearchSubject"):
        for text in tables[kind]["json"] if kind in tables else ():
            resource = parse(text)
            patient = (
                resource["id"] if kind == "Patient" else patient_of(resource.get("individual", {}).get("reference"))
            )
            for one in resource.get("identifier", []):
                if patient and one.get("system", "").startswith(STUDY_SYSTEM) and one.get("value"):
                    found[patient] = one["value"]
    return pl.DataFrame(sorted(found.items()), schema={"patient": pl.String, "usubjid": pl.String}, orient="row")


def decide_study_subjects(
    resources: Mapping[str, pl.DataFrame],
    subjects: list[str],
    *,
    purpose: str,
    at: dt.date,
    actor: str | None = None,
    policy: ConsentPolicy | None = None,
) -> pl.DataFrame:
    """Secondary use of SDTM data: decisions for USUBJIDs from the FHIR Consents of the patients behind them.

    Args:
        resources: Raw FHIR tables: Consent, and Patient or ResearchSubject with the study's identifiers.
        subjects: USUBJIDs to decide on; one that no patient stands behind is denied.
        purpose: Code of the purpose of use.
        at: Day of the use.
        actor: Who uses it, or None.
        policy: The platform's own by default.

    Returns:
        subject (USUBJID), decision, reason, consent.
    """
    policy = policy or consent_policy()
    request = Request(purpose, at, actor)
    check_request(request, policy)
    own = by_subject(resources["Consent"]) if "Consent" in resources else {}
    patients: dict[str, list[str]] = {}
    for patient, subject in study_subjects(resources).iter_rows():
        patients.setdefault(subject, []).append(patient)
    made = []
    for subject in sorted(set(subjects)):
        consents = [c for patient in patients.get(subject, []) for c in own.get(patient, [])]
        made.append((subject, decide_one(consents, request, policy)))
    return _frame(made)


def trial_basis(tables: Mapping[str, pl.DataFrame], policy: ConsentPolicy | None = None) -> pl.DataFrame:
    """On what the conduct of the trial rests for each subject, and until when data was collected under it.

    Args:
        tables: Raw SDTM tables; DM and, where delivered, DS.
        policy: The platform's own by default.

    Returns:
        subject, decision, reason, consent (empty), withdrawn (Date or null); every USUBJID of any table.
    """
    import polars as pl

    rules = (policy or consent_policy()).content["trial"]
    dm = tables["DM"]
    ids = pl.concat([f.select(subject="USUBJID") for f in tables.values() if "USUBJID" in f.columns])
    everybody = ids.drop_nulls().unique().sort("subject")
    documented = [pl.DataFrame(schema={"subject": pl.String})]
    if "RFICDTC" in dm.columns:
        documented.append(dm.filter(pl.col("RFICDTC").is_not_null()).select(subject="USUBJID"))
    withdrawn = pl.DataFrame(schema={"subject": pl.String, "withdrawn": pl.Date})
    if "DS" in tables:
        ds = tables["DS"].with_columns(_term=_term(tables["DS"]))
        documented.append(ds.filter(pl.col("_term").is_in(rules["consent_terms"])).select(subject="USUBJID"))
        day = partial_dates.latest("DSSTDTC") if "DSSTDTC" in ds.columns else pl.lit(None, pl.Date)
        ended = ds.filter(pl.col("_term").is_in(rules["withdrawal_terms"]))
        withdrawn = ended.group_by(subject="USUBJID").agg(withdrawn=day.min())
    signed = pl.concat(documented).drop_nulls().unique()
    enrolled = dm.select(subject="USUBJID").drop_nulls().unique()
    nobody = signed.is_empty() and rules["enrolment_suffices_where_no_consent_is_delivered"]
    reason = (
        pl.when(~pl.col("subject").is_in(enrolled["subject"].implode()))
        .then(pl.lit("NOT_ENROLLED"))
        .when(pl.col("subject").is_in(signed["subject"].implode()))
        .then(pl.lit("INFORMED_CONSENT"))
        .otherwise(pl.lit("ENROLMENT" if nobody else "NO_INFORMED_CONSENT"))
    )
    sound = pl.col("reason").is_in(["INFORMED_CONSENT", "ENROLMENT"])
    return (
        everybody.with_columns(reason=reason)
        .with_columns(decision=pl.when(sound).then(pl.lit("permit")).otherwise(pl.lit("deny")), consent=pl.lit(""))
        .join(withdrawn, on="subject", how="left")
        .select("subject", "decision", "reason", "consent", "withdrawn")
        .sort("subject")
    )


def _term(ds: pl.DataFrame) -> pl.Expr:
    """The standardised disposition term, else the one that was reported."""
    import polars as pl

    names = [c for c in ("DSDECOD", "DSTERM") if c in ds.columns]
    return pl.coalesce([pl.col(c).str.to_uppercase().str.strip_chars() for c in names])


def permitted_rows(
    tables: Mapping[str, pl.DataFrame], basis: pl.DataFrame, policy: ConsentPolicy | None = None
) -> Permitted:
    """Rows of SDTM tables that a use may see.

    Args:
        tables: Raw SDTM tables.
        basis: Decisions by USUBJID: of :func:`trial_basis`, or of :func:`decide_study_subjects` for secondary use.
        policy: The platform's own by default.

    Returns:
        The permitted rows. With a column `withdrawn` in `basis`, a row collected after that day is withheld; see the
        policy for rows whose day is not known.
    """
    import polars as pl

    undated = (policy or consent_policy()).content["withdrawal"]["undated_and_not_received_after"]
    decided = basis if "withdrawn" in basis.columns else basis.with_columns(withdrawn=pl.lit(None, pl.Date))
    known = decided.select(USUBJID="subject", _decision="decision", _reason="reason", _until="withdrawn")
    kept: dict[str, pl.DataFrame] = {}
    withheld: list[tuple[str, str, int]] = []
    for domain, frame in sorted(tables.items()):
        if "USUBJID" not in frame.columns:
            kept[domain] = frame
            continue
        marked = frame.join(known, on="USUBJID", how="left", maintain_order="left")
        day = _collected(domain, frame)
        received = pl.col(RECEIVED) > pl.col("_until") if RECEIVED in frame.columns else pl.lit(None, pl.Boolean)
        late = pl.coalesce(day > pl.col("_until"), received, pl.lit(undated == "withhold"))
        late = pl.col("_until").is_not_null() & late
        denied = (pl.col("_decision") != "permit").fill_null(True)
        why = (
            pl.when(denied).then(pl.col("_reason").fill_null("NOT_ENROLLED")).when(late).then(pl.lit(AFTER_WITHDRAWAL))
        )
        marked = marked.with_columns(_why=why)
        kept[domain] = marked.filter(pl.col("_why").is_null()).select(frame.columns)
        lost = marked.filter(pl.col("_why").is_not_null()).group_by("_why").len().sort("_why")
        withheld += [(domain, reason, int(rows)) for reason, rows in lost.iter_rows()]
    return Permitted(kept, basis, _withheld(withheld))


def _collected(domain: str, frame: pl.DataFrame) -> pl.Expr:
    """The first day a row can have been collected: its collection date, else its own; null where neither is there."""
    import polars as pl

    spec = catalog().domains.get(domain)
    names = [c for c in (spec.collected, spec.own) if c in frame.columns] if spec else []
    if not names:
        return pl.lit(None, pl.Date)
    return pl.coalesce([partial_dates.earliest(c) for c in names if c])
