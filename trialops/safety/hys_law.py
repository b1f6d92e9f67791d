"""Screening for Hy's law: hepatocellular injury with jaundice, and the points of an eDISH plot.

FDA Guidance for Industry, Drug-Induced Liver Injury: Premarketing Clinical Evaluation (July 2009): aminotransferases at
least three times the upper limit of normal, with total bilirubin above twice the limit and no initial cholestasis
(alkaline phosphatase not raised). A subject who fits is a candidate: other causes are for a physician to rule out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.safety.results import BEFORE

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.grading_policy import GradingPolicy

CANDIDATE, CHOLESTATIC, NO_ALP = "candidate", "alkaline phosphatase raised", "alkaline phosphatase not measured"
HYS, TEMPLES, CHOLESTASIS, NEITHER = "Hy's law", "Temple's corollary", "hyperbilirubinemia", "neither"
QUERY = "GRD02"


@dataclass(frozen=True)
class LiverSafety:
    """What the liver tests of a trial show. Identifiable: never leaves a step but sealed.

    Attributes:
        peaks: USUBJID, AT and BILI (largest multiple of ULN under treatment and after), QUADRANT: the eDISH points.
        cases: Subjects with both criteria within the window: USUBJID, AT_DAY, AT_SEQ, AT, BILI_DAY, BILI, ALP
            (multiples of ULN; null where not measured), R (AT over ALP), CLASS.
        queries: rule, USUBJID, domain, sequence, severity, text: one per candidate.
    """

    peaks: pl.DataFrame
    cases: pl.DataFrame
    queries: pl.DataFrame


def liver_safety(laboratory: pl.DataFrame, policy: GradingPolicy) -> LiverSafety:
    """Screen the liver tests.

    The two criteria need not fall on one day: bilirubin counts from the day of the aminotransferase to ``within_days``
    after it. Alkaline phosphatase is the highest from that day back over the same window to the day of the bilirubin;
    a single raised value makes the case cholestatic. A result without an upper limit of normal says nothing.

    Args:
        laboratory: :func:`trialops.safety.results.results` of LB.
        policy: The limits.
    """
    import polars as pl

    rule = policy.hys_law
    days = pl.duration(days=int(rule["within_days"]))
    multiple = pl.col("VALUE") / pl.when(pl.col("ULN") > 0).then("ULN")
    tests = (
        laboratory.filter(
            pl.col("TEST").is_in(["ALT", "AST", "BILI", "ALP"])
            & (pl.col("SPECIMEN") != "other")
            & (pl.col("PERIOD") != BEFORE)
            & ~pl.col("AT_BASELINE")
            & pl.col("DAY").is_not_null()
        )
        # The same five digits as everywhere: three times the limit is three times the limit.
        .select("USUBJID", "SEQ", "TEST", "DAY", X=multiple.round_sig_figs(5))
        .drop_nulls("X")
    )
    at = tests.filter(pl.col("TEST").is_in(["ALT", "AST"]))
    bili, alp = (tests.filter(pl.col("TEST") == t).select("USUBJID", "DAY", "X") for t in ("BILI", "ALP"))
    raised = at.filter(pl.col("X") >= rule["aminotransferase"]).select("USUBJID", AT_DAY="DAY", AT_SEQ="SEQ", AT="X")
    yellow = bili.filter(pl.col("X") > rule["bilirubin"]).rename({"DAY": "BILI_DAY", "X": "BILI"})
    both = raised.join(yellow, on="USUBJID").filter(
        (pl.col("BILI_DAY") >= pl.col("AT_DAY")) & (pl.col("BILI_DAY") <= pl.col("AT_DAY") + days)
    )
    key = ["USUBJID", "AT_DAY", "AT_SEQ", "BILI_DAY"]
    near = both.join(alp, on="USUBJID").filter(
        (pl.col("DAY") >= pl.col("AT_DAY") - days) & (pl.col("DAY") <= pl.col("BILI_DAY"))
    )
    with_alp = both.join(near.group_by(key).agg(ALP=pl.col("X").max()), on=key, how="left")
    judged = with_alp.with_columns(
        R=pl.col("AT") / pl.col("ALP"),
        CLASS=pl.when(pl.col("ALP").is_null())
        .then(pl.lit(NO_ALP))
        .when(pl.col("ALP") < rule["alkaline_phosphatase"])
        .then(pl.lit(CANDIDATE))
        .otherwise(pl.lit(CHOLESTATIC)),
    )
    # The strongest of a subject's pairs: a candidate before one without, then the highest aminotransferase.
    rank = pl.col("CLASS").replace_strict({CANDIDATE: 0, NO_ALP: 1, CHOLESTATIC: 2})
    cases = (
        judged.with_columns(_rank=rank)
        .sort("USUBJID", "_rank", "AT", "BILI", "AT_SEQ", descending=[False, False, True, True, False])
        .unique("USUBJID", keep="first", maintain_order=True)
        .select("USUBJID", "AT_DAY", "AT_SEQ", "AT", "BILI_DAY", "BILI", "ALP", "R", "CLASS")
    )
    return LiverSafety(_peaks(at, bili, rule["aminotransferase"], rule["bilirubin"]), cases, _queries(cases))


def _peaks(at: pl.DataFrame, bili: pl.DataFrame, at_limit: float, bili_limit: float) -> pl.DataFrame:
    """The eDISH points: peaks at any time, each with its quadrant."""
    import polars as pl

    peaks = (
        at.group_by("USUBJID")
        .agg(AT=pl.col("X").max())
        .join(bili.group_by("USUBJID").agg(BILI=pl.col("X").max()), on="USUBJID", how="inner")
    )
    high, yellow = pl.col("AT") >= at_limit, pl.col("BILI") > bili_limit
    quadrant = (
        pl.when(high & yellow)
        .then(pl.lit(HYS))
        .when(high)
        .then(pl.lit(TEMPLES))
        .when(yellow)
        .then(pl.lit(CHOLESTASIS))
        .otherwise(pl.lit(NEITHER))
    )
    return peaks.with_columns(QUADRANT=quadrant).sort("USUBJID")


def _queries(cases: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    asked = cases.filter(pl.col("CLASS") != CHOLESTATIC)
    text = pl.format(
        "Possible Hy's law case: aminotransferase {} x ULN on {} and bilirubin {} x ULN on {}, {}. Report it as a "
        "serious event, repeat the tests and look for other causes.",
        pl.col("AT").round(1),
        pl.col("AT_DAY").dt.to_string("%Y-%m-%d"),
        pl.col("BILI").round(1),
        pl.col("BILI_DAY").dt.to_string("%Y-%m-%d"),
        pl.when(pl.col("ALP").is_null())
        .then(pl.lit("alkaline phosphatase not measured"))
        .otherwise(pl.format("alkaline phosphatase {} x ULN", pl.col("ALP").fill_null(0).round(1))),
    )
    return asked.select(
        rule=pl.lit(QUERY),
        USUBJID="USUBJID",
        domain=pl.lit("LB"),
        sequence=pl.col("AT_SEQ").cast(pl.Float64),
        severity=pl.lit("critical"),
        text=text,
    ).sort("USUBJID")
