"""Put together what a data quality run judges: received and clean SDTM, OMOP, FHIR, anomalies, source verification."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trialops.quality.contracts import contract
from trialops.quality.dqd import omop_rules
from trialops.quality.engine import ClinicalDataValidatorOperator, QualityReport
from trialops.quality.evaluation import ordered
from trialops.quality.rules import RuleBook, anomaly_rules, source_rules
from trialops.quality.source_records import fhir_events, fhir_findings

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step

    Tables = dict[str, pl.DataFrame]

AS_RECEIVED = "As received"
FHIR_ZONE = "clean_fhir"
FHIR_NAMES = {
    name.lower(): name
    for name in ("Patient", "Observation", "AdverseEvent", "Encounter", "Condition", "ResearchSubject", "Consent")
}
"""Tables are named in lower case in the lake; contracts name a resource type as FHIR spells it."""


def books(
    clean: Tables,
    *,
    received: Tables | None = None,
    omop: Tables | None = None,
    fhir: Tables | None = None,
) -> dict[str, tuple[Tables, RuleBook]]:
    """The rule books for what is at hand, beside that for clean SDTM.

    Args:
        clean: Clean SDTM tables.
        received: The same as received, with dates and identifiers.
        omop: OMOP CDM tables.
        fhir: FHIR tables by resource type, de-identified as the clean tables are.
    """
    found: dict[str, tuple[Tables, RuleBook]] = {}
    if received:
        found[AS_RECEIVED] = (received, contract("sdtm", received))
    found["Anomalies"] = (clean, anomaly_rules())
    if fhir:
        found["FHIR"] = (fhir, contract("fhir", sorted(fhir)))
        sources: Tables = {}
        if "Observation" in fhir:
            findings = fhir_findings(fhir, clean.get("DM"))
            sources |= {"SOURCE.LB": findings, "SOURCE.VS": findings}
        if "AdverseEvent" in fhir:
            sources["SOURCE.AE"] = fhir_events(fhir, clean.get("DM"))
        if sources:
            found["Against FHIR"] = ({**clean, **sources}, source_rules())
    if omop:
        found["OMOP"] = (omop, omop_rules())
    return found


def validate(
    clean: Tables,
    *,
    received: Tables | None = None,
    omop: Tables | None = None,
    fhir: Tables | None = None,
    pseudonyms: Callable[[list[str]], list[str]] | None = None,
    as_of: dt.date | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> QualityReport:
    """Judge everything at hand in one score.

    Args:
        clean: Clean SDTM tables.
        received: The same as received; needs `pseudonyms`.
        omop: OMOP CDM tables.
        fhir: De-identified FHIR tables by resource type.
        pseudonyms: Turns USUBJIDs as received into pseudonyms, so that a query names nobody.
        as_of: The day no record can be later than; today (UTC) by default.
        progress: Called with a message and the fraction done.

    Raises:
        ValueError: Tables as received without a way to name their subjects.
    """
    if received and pseudonyms is None:
        raise ValueError("tables as received need pseudonyms for their queries")
    more = books(clean, received=received, omop=omop, fhir=fhir)
    report = ClinicalDataValidatorOperator().run(clean, more=more, as_of=as_of, progress=progress)
    if not received or pseudonyms is None:
        return report
    return replace(report, queries=_named(report.queries, set(more[AS_RECEIVED][1].ids), pseudonyms))


def _named(queries: pl.DataFrame, rules: set[str], pseudonyms: Callable[[list[str]], list[str]]) -> pl.DataFrame:
    """The queries with pseudonyms where they were raised on tables as received."""
    import polars as pl

    own = pl.col("rule").is_in(list(rules))
    # A site is named as it was received too; such a query goes without, its finding stays in the results.
    kept = queries.filter(~own | pl.col("USUBJID").is_not_null())
    raw = kept.filter(own)["USUBJID"].unique().sort().to_list()
    names = dict(zip(raw, pseudonyms(raw), strict=True))
    if not names:
        return kept
    named = pl.when(own).then(pl.col("USUBJID").replace_strict(names, default=None)).otherwise(pl.col("USUBJID"))
    return ordered(kept.with_columns(USUBJID=named))


def latest_omop(run: Step) -> Tables:
    """The tables of the newest OMOP load; none before the first one."""
    from trialops.standards.cdm import empty, spec
    from trialops.standards.omop_run import DATASET

    links = run.lake.manifests(DATASET)
    if not links:
        return {}
    tables = links[-1].snapshot.tables
    found: dict[str, pl.DataFrame] = {}
    for name, ref in sorted(tables.items()):
        if name in spec():
            found[name] = run.lake.read(ref)
    read = {name: f"{tables[name].table}@{tables[name].version}" for name in found}
    run.audit("data.read", DATASET, links[-1].snapshot.digest, tables=read)
    # A table of the CDM that a load has no rows for exists in every database made of it, empty.
    return {name: found[name] if name in found else empty(name) for name in spec()}


def latest_fhir(run: Step) -> Tables:
    """The newest de-identified FHIR tables of the types that are judged; none where no FHIR was taken in."""
    found: dict[str, pl.DataFrame] = {}
    for table in run.lake.tables():
        zone, _, name = table.partition("/")
        if zone == FHIR_ZONE and name in FHIR_NAMES:
            frame = run.read_latest(table)
            if frame is not None:
                found[FHIR_NAMES[name]] = frame
    return found


def keep_queries(run: Step, report: QualityReport, study: str) -> tuple[pl.DataFrame, str]:
    """Bring the queries of the study in line with a report.

    Returns:
        All queries with state and age, and a sentence on what changed.
    """
    import polars as pl

    from trialops.quality.queries import Queries

    # A rule that looked and found no row it is about has judged, too: the row that raised its query is gone.
    looked = pl.col("status").is_in(["pass", "fail"]) | (pl.col("denominator") == 0).fill_null(False)
    judged = set(report.results.filter(looked)["rule"])
    known = Queries(run.engine, study)
    synced = known.sync(report.queries, judged, actor=run.settings.who, run_id=run.run_id)
    changes: dict[str, Any] = {
        "opened": synced.opened,
        "reopened": synced.reopened,
        "closed": synced.closed,
        "unchanged": synced.unchanged,
    }
    run.audit("queries.sync", study, report.rules_version, **changes)
    note = (
        f"This run opened {synced.opened} queries, re-opened {synced.reopened}, and closed {synced.closed} whose "
        f"finding is gone; {synced.unchanged} are as they were."
    )
    return known.table(), note
