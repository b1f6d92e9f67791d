"""Every gradable result of a trial with its grade, its baseline grade and its period: laboratory, vital signs, ECG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.safety.ctcae import NO_BASE, NO_BASE_RANGE, grade
from trialops.safety.ecg import DISAGREE, qtc_results
from trialops.safety.results import results

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.grading_policy import GradingPolicy
    from trialops.trial.tables import TrialTables

DOMAINS = ("LB", "VS", "EG")


def graded_results(trial: TrialTables, policy: GradingPolicy, version: str = "") -> pl.DataFrame:
    """Grade the laboratory, the vital signs and the QTc of a trial.

    Args:
        trial: The delivery, cut or not, blinded or not.
        policy: grading.yaml.
        version: CTCAE version; the policy's by default.

    Returns:
        One row per result and term, sorted by domain, subject, term, time and sequence: USUBJID, DOMAIN, SEQ, TEST,
        SERIES, DTC, DAY, PERIOD, IS_BASELINE, AT_BASELINE, TERM, DIRECTION, GRADE, GRADE_ALONE (by the result alone,
        without what a criterion assumes), PROVISIONAL (the grade as if the baseline had been normal, where nothing but
        the baseline is missing), BASE_GRADE, BASE_GRADE_ALONE, REASON, NOTE, COMPARED, COMPARED_UNIT.
    """
    import polars as pl

    version = version or policy.ctcae
    parts = []
    for domain in DOMAINS:
        found = qtc_results(trial, policy) if domain == "EG" else results(trial, domain, policy)
        parts.append(_graded(found, domain, version))
    return pl.concat(parts).sort("DOMAIN", "USUBJID", "TERM", "DTC", "SEQ", "SERIES", nulls_last=True)


def _graded(found: pl.DataFrame, domain: str, version: str) -> pl.DataFrame:
    import polars as pl

    rows = grade(found, version, domain=domain)
    alone = grade(found, version, domain=domain, alone=True)
    # As if every baseline had been normal: shown beside, for results that cannot be graded for want of one.
    normal = grade(found.with_columns(AT_BASELINE=pl.lit(True)), version, domain=domain)
    wanting = pl.col("REASON").is_in([NO_BASE, NO_BASE_RANGE])
    rows = rows.with_columns(GRADE_ALONE=alone["GRADE"], _normal=normal["GRADE"]).with_columns(
        PROVISIONAL=pl.when(wanting).then("_normal")
    )
    who = found.select(
        "USUBJID", "SEQ", "TEST", "SERIES", "DTC", "DAY", "PERIOD", "IS_BASELINE", "AT_BASELINE", "REMARK"
    ).with_row_index("ROW")
    joined = rows.join(who, on="ROW", how="left", maintain_order="left")
    key = ["USUBJID", "TEST", "SERIES", "TERM"]
    base = joined.filter("IS_BASELINE").select(*key, BASE_GRADE="GRADE", BASE_GRADE_ALONE="GRADE_ALONE").unique(key)
    joined = joined.join(base, on=key, how="left", maintain_order="left", nulls_equal=True)
    remark = pl.when(pl.col("REMARK") != "").then("REMARK")
    note = pl.concat_str([pl.when(pl.col("NOTE") != "").then("NOTE"), remark], separator="; ", ignore_nulls=True)
    given = pl.col("GRADE").is_not_null()
    contradicted = ~given & (pl.col("REMARK") == DISAGREE)
    return joined.select(
        "USUBJID",
        pl.lit(domain).alias("DOMAIN"),
        "SEQ",
        "TEST",
        "SERIES",
        "DTC",
        "DAY",
        "PERIOD",
        "IS_BASELINE",
        "AT_BASELINE",
        "TERM",
        "DIRECTION",
        "GRADE",
        "GRADE_ALONE",
        "PROVISIONAL",
        "BASE_GRADE",
        "BASE_GRADE_ALONE",
        REASON=pl.when(contradicted).then("REMARK").otherwise("REASON"),
        NOTE=pl.when(given).then(note).otherwise(pl.lit("")),
        COMPARED="COMPARED",
        COMPARED_UNIT="COMPARED_UNIT",
    )
