"""Safety queries and what the sites answered: the register of queries on one side, the event table on the other."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from trialops.safety.seriousness import RULES

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step

ANSWERABLE = ("SAF02", "SAF03", "SAF05")
"""Rules whose query, once a person has closed it, says that the event was not serious."""


def confirmed(run: Step, study: str, queries: pl.DataFrame) -> pl.DataFrame:
    """Rows about which the site has answered that they were not serious: the query was closed by a person.

    Args:
        run: The step.
        study: STUDYID.
        queries: Of the event table.

    Returns:
        USUBJID, AESEQ.
    """
    import polars as pl

    from trialops.quality.queries import Queries, query_id

    known = Queries(run.engine, study).table(states=("closed",))
    closed = set(known.filter(pl.col("cause") == "person")["query"])
    about = _findings(run, queries.filter(pl.col("rule").is_in(ANSWERABLE)))
    columns = ("USUBJID", "sequence", "rule", "domain", "pseudonym", "record")
    rows = [
        (subject, number)
        for subject, number, *asked in about.select(columns).iter_rows()
        if query_id(study, *asked) in closed
    ]
    return pl.DataFrame(rows, schema={"USUBJID": pl.String, "AESEQ": pl.Float64}, orient="row")


def keep_queries(run: Step, study: str, queries: pl.DataFrame, version: str) -> pl.DataFrame:
    """Open, re-open and close the safety queries of a study.

    Args:
        run: The step.
        study: STUDYID.
        queries: Of the event table, before any answer was taken in.
        version: Digest of the policy, for the audit trail.

    Returns:
        The study's safety queries with state and age.
    """
    import polars as pl

    from trialops.quality.queries import Queries

    findings = _findings(run, queries).select("rule", "priority", "domain", "record", "message", USUBJID="pseudonym")
    known = Queries(run.engine, study)
    done = known.sync(findings, set(RULES), actor=run.settings.who, run_id=run.run_id)
    run.audit("queries.sync", study, version, **asdict(done))
    return known.table().filter(pl.col("rule").is_in(list(RULES)))


def _findings(run: Step, queries: pl.DataFrame) -> pl.DataFrame:
    """The queries as their register takes them, with USUBJID and sequence beside pseudonym and record."""
    import polars as pl

    pseudonyms = run.vault.pseudonyms("subject", queries["USUBJID"].to_list())
    number = pl.format("AESEQ={}", pl.col("sequence").cast(pl.Int64)).fill_null("")
    return queries.with_columns(
        pseudonym=pl.Series(pseudonyms, dtype=pl.String),
        record=number,
        priority=pl.col("severity"),
        message=pl.col("text"),
    )
