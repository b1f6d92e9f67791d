"""Our verdict against the sites' records: TI names the criteria of the protocol, IE those a subject does not fulfil.

A disagreement is a query. A randomised subject who does not fulfil a criterion may be a protocol deviation: critical.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.trial.eligibility_rules import Criteria, Criterion, Investigator, leaves

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.eligibility import Eligibility
    from trialops.trial.tables import TrialTables

DEVIATION, DISPUTED, UNVERIFIED, UNRECORDED = "ELIG001", "ELIG002", "ELIG003", "ELIG004"
RULES = {
    DEVIATION: ("critical", "A randomised subject does not fulfil an entry criterion: potential protocol deviation."),
    DISPUTED: ("major", "The site recorded that an entry criterion is not fulfilled; by the data it is."),
    UNVERIFIED: ("major", "A randomised subject's entry criterion cannot be verified: what it needs is missing."),
    UNRECORDED: ("minor", "A screen failure does not fulfil an entry criterion that the site did not record in IE."),
}
"""Rule of a query, its severity, its text."""

QUERY = ("rule", "severity", "USUBJID", "SITEID", "domain", "sequence", "criterion", "text")


@dataclass(frozen=True)
class Coverage:
    """Criteria of the protocol (TI) against those with a rule.

    Attributes:
        delivered: Whether there is a TI.
        listed: Criteria in TI, newest version of each.
        without_rule: Code and text of those in TI that no rule stands for.
        judged_by_site: Codes of criteria that are left to the investigator alone.
        not_in_ti: Codes of our criteria that TI does not have; empty without a TI.
    """

    delivered: bool
    listed: int
    without_rule: tuple[tuple[str, str], ...]
    judged_by_site: tuple[str, ...]
    not_in_ti: tuple[str, ...]


def coverage(trial: TrialTables, criteria: Criteria) -> Coverage:
    """Which criteria of the protocol can be judged from data."""
    import polars as pl

    own = {c.code.upper() for c in criteria.criteria}
    site = tuple(c.code for c in criteria.criteria if _left_to_site(c))
    ti = trial.get("TI")
    if ti is None or "IETESTCD" not in ti.columns:
        return Coverage(False, 0, (), site, ())
    version = pl.col("TIVERS").cast(pl.String) if "TIVERS" in ti.columns else pl.lit("")
    text = pl.col("IETEST").cast(pl.String) if "IETEST" in ti.columns else pl.lit("")
    rows = (
        ti.select(code=pl.col("IETESTCD").str.strip_chars().str.to_uppercase(), text=text, version=version)
        .sort("code", "version")
        .unique("code", keep="last", maintain_order=True)
    )
    missing = rows.filter(~pl.col("code").is_in(sorted(own)))
    extra = tuple(sorted(own - set(rows["code"])))
    return Coverage(True, rows.height, tuple(missing.select("code", "text").rows()), site, extra)


def _left_to_site(criterion: Criterion) -> bool:
    return all(isinstance(leaf, Investigator) for leaf in leaves(criterion.rule))


def compare_with_site(trial: TrialTables, found: Eligibility) -> pl.DataFrame:
    """Queries where verdict and site disagree, or a randomised subject's verdict stays open.

    Returns:
        Columns of QUERY, sorted; identifiable. ``domain`` and ``sequence`` point at the row that decides, or at the
        row of IE that is disputed.
    """
    import polars as pl

    by_site = [c.id for c in found.criteria.criteria if _left_to_site(c)]
    codes = {c.id: c.code.upper() for c in found.criteria.criteria}
    empty = {"USUBJID": pl.String, "SITEID": pl.String, "randomised": pl.Boolean, "criterion": pl.String}
    states = pl.concat(
        [
            pl.DataFrame(schema={**empty, "fulfilled": pl.Boolean}),
            *(
                found.verdicts.select(
                    "USUBJID",
                    "SITEID",
                    "randomised",
                    criterion=pl.lit(c.id),
                    fulfilled=pl.col(c.id) if c.inclusion else ~pl.col(c.id),
                )
                for c in found.criteria.criteria
                if c.id not in by_site
            ),
        ]
    )
    recorded = _exceptions(trial)
    failed = _screen_failures(trial)
    # The row that decides: the first contributing fact with one.
    deciding = (
        found.evidence.with_columns(pl.col("USUBJID", "criterion", "domain").cast(pl.String))
        .sort("USUBJID", "criterion", pl.col("sequence").is_null(), "fact", maintain_order=True)
        .unique(["USUBJID", "criterion"], keep="first", maintain_order=True)
        .select("USUBJID", "criterion", "domain", "sequence")
    )
    states = (
        states.with_columns(code=pl.col("criterion").replace_strict(codes, return_dtype=pl.String))
        .join(recorded, on=["USUBJID", "code"], how="left")
        .join(deciding, on=["USUBJID", "criterion"], how="left")
        .with_columns(failed=pl.col("USUBJID").is_in(failed.implode()), said=pl.col("ie").is_not_null())
    )
    rule = (
        pl.when(pl.col("randomised") & ~pl.col("fulfilled"))
        .then(pl.lit(DEVIATION))
        .when(pl.col("said") & pl.col("fulfilled"))
        .then(pl.lit(DISPUTED))
        .when(pl.col("randomised") & pl.col("fulfilled").is_null())
        .then(pl.lit(UNVERIFIED))
        .when(pl.col("failed") & ~pl.col("fulfilled") & ~pl.col("said") & pl.lit(trial.get("IE") is not None))
        .then(pl.lit(UNRECORDED))
    )
    disputed = pl.col("rule") == DISPUTED
    return (
        states.with_columns(rule=rule)
        .filter(pl.col("rule").is_not_null())
        .with_columns(
            severity=pl.col("rule").replace_strict({k: v[0] for k, v in RULES.items()}, return_dtype=pl.String),
            text=pl.col("rule").replace_strict({k: v[1] for k, v in RULES.items()}, return_dtype=pl.String),
            domain=pl.when(disputed).then(pl.lit("IE")).otherwise("domain"),
            sequence=pl.when(disputed).then("ie").otherwise("sequence"),
        )
        .select(QUERY)
        .sort("rule", "USUBJID", "criterion")
    )


def _exceptions(trial: TrialTables) -> pl.DataFrame:
    """Per subject and code, the first row of IE that says so."""
    import polars as pl

    ie = trial.get("IE")
    if ie is None or "IETESTCD" not in ie.columns:
        return pl.DataFrame(schema={"USUBJID": pl.String, "code": pl.String, "ie": pl.Int32})
    number = pl.col("IESEQ").cast(pl.Int32, strict=False).fill_null(0) if "IESEQ" in ie.columns else pl.lit(0, pl.Int32)
    rows = ie.select("USUBJID", code=pl.col("IETESTCD").str.strip_chars().str.to_uppercase(), ie=number)
    return rows.group_by("USUBJID", "code").agg(pl.col("ie").min())


def _screen_failures(trial: TrialTables) -> pl.Series:
    from trialops.trial.populations import populations

    return populations(trial).filter("screen_failure")["USUBJID"]
