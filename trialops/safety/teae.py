"""Treatment-emergent adverse events by declared rules: the sponsor's window, or the flag as it was delivered.

Onsets are days, possibly partial. The rule never guesses a date: it looks at the first and the last day that the
onset can have been, and the policy says what counts when they lie on both sides of a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.tables import TrialTables

Rule = Literal["sponsor", "reported"]
RULES = ("sponsor", "reported")

ON = "on treatment"
WORSENED = "worsened on treatment"
WINDOW = "in the window after the last dose"
MAYBE = "partial date, may lie in the period"
NO_DATE = "no date, may lie in the period"
NO_START = "first dose of a treated subject not known"
BEFORE = "before the first dose"
AFTER = "after the window"
UNTREATED = "subject not treated"
FLAGGED, UNFLAGGED, NO_FLAG = "flagged treatment-emergent", "flagged not treatment-emergent", "no flag delivered"

COUNTS = (ON, WORSENED, WINDOW)
DOUBTFUL = (MAYBE, NO_DATE, NO_START)


@dataclass(frozen=True)
class TeaePolicy:
    """teae.yaml.

    Attributes:
        window_days: Days after the last dose on which an onset counts.
        worst_case: Whether an onset that may lie in the period counts.
        worsening: Whether a row that records a worsening of an earlier event counts.
        same_event: Columns that, with subject, term and onset, make rows one event.
        severity: AESEV from least to most.
        qualifiers: Names of a delivered flag.
        yes, no: Its values.
        digest: SHA-256 of the document.
    """

    version: str
    window_days: int
    worst_case: bool
    worsening: bool
    same_event: tuple[str, ...]
    severity: tuple[str, ...]
    qualifiers: tuple[str, ...]
    yes: tuple[str, ...]
    no: tuple[str, ...]
    digest: str

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> TeaePolicy:
        """Check a policy document.

        Raises:
            TrialOpsError: A value is not one of those allowed.
        """
        from trialops.stores.digest import document_digest

        sponsor, reported = content["sponsor"], content["reported"]
        if sponsor["partial"] not in ("worst case", "best case"):
            raise TrialOpsError(
                f"sponsor.partial is {sponsor['partial']!r}", where="teae.yaml", fix="Write worst case or best case."
            )
        if isinstance(sponsor["window_days"], bool) or not 0 <= int(sponsor["window_days"]) <= 3650:
            raise TrialOpsError("sponsor.window_days is no number of days", where="teae.yaml", fix="Write 0 to 3650.")
        return cls(
            version=str(content["version"]),
            window_days=int(sponsor["window_days"]),
            worst_case=sponsor["partial"] == "worst case",
            worsening=bool(sponsor["worsening"]),
            same_event=tuple(sponsor["same_event"]),
            severity=tuple(sponsor["severity"]),
            qualifiers=tuple(reported["qualifiers"]),
            yes=tuple(reported["yes"]),
            no=tuple(reported["no"]),
            digest=document_digest(content),
        )


@cache
def teae_policy(path: str = "") -> TeaePolicy:
    """The policy in a file; the one beside this module by default."""
    import yaml

    file = Path(path) if path else Path(__file__).with_name("teae.yaml")
    return TeaePolicy.from_dict(yaml.safe_load(file.read_text("utf-8")))


def treatment_emergent(trial: TrialTables, rule: Rule = "sponsor", policy: TeaePolicy | None = None) -> pl.DataFrame:
    """Whether each adverse event is treatment-emergent.

    ``sponsor``: onset from the day of the first dose to the last dose and ``window_days``; days alone, so an onset on
    the day of the first dose counts. An onset lies no later than the end of the event and the day it was collected.
    ``reported``: the flag as delivered.

    Args:
        trial: The delivery; blinded tables serve as well, for no treatment is looked at.
        rule: "sponsor" or "reported".
        policy: teae.yaml by default.

    Returns:
        One row per AE row, in its order: USUBJID, AESEQ, ``TEAE`` (bool; null where no flag was delivered) and
        ``TEAE_BASIS``, the class the row falls in.

    Raises:
        TrialOpsError: The rule is another, or there is no AE.
    """
    import polars as pl

    policy = policy or teae_policy()
    if rule not in RULES:
        raise TrialOpsError(f"There is no rule {rule!r} for treatment-emergent events", fix=f"Use {', '.join(RULES)}.")
    events = trial.table("AE")
    basis = _reported(trial, policy) if rule == "reported" else _sponsor(trial, policy)
    counted = [*COUNTS, FLAGGED, *(DOUBTFUL if policy.worst_case else ())]
    said = pl.when(pl.col("TEAE_BASIS") != NO_FLAG).then(pl.col("TEAE_BASIS").is_in(counted))
    classed = events.select("USUBJID", "AESEQ").with_columns(basis.alias("TEAE_BASIS"))
    return classed.select("USUBJID", "AESEQ", TEAE=said, TEAE_BASIS="TEAE_BASIS")


def compare_rules(trial: TrialTables, policy: TeaePolicy | None = None) -> pl.DataFrame:
    """Both rules side by side: every class of rows, what each rule says of it, and where they differ.

    Returns:
        Sorted: ``basis`` (the sponsor rule's class), ``sponsor`` (bool), ``reported`` (bool; null without a flag),
        ``rows``, ``subjects``, ``differs`` (bool; false where there is no flag to differ from).
    """
    import polars as pl

    sponsor = treatment_emergent(trial, "sponsor", policy)
    reported = treatment_emergent(trial, "reported", policy)
    both = sponsor.select("USUBJID", basis="TEAE_BASIS", sponsor="TEAE").with_columns(reported=reported["TEAE"])
    counted = both.group_by("basis", "sponsor", "reported").agg(rows=pl.len(), subjects=pl.col("USUBJID").n_unique())
    differs = (pl.col("sponsor") != pl.col("reported")).fill_null(False)
    return counted.with_columns(differs=differs).sort("basis", "reported")


def _sponsor(trial: TrialTables, policy: TeaePolicy) -> pl.Series:
    """The class of each row of AE."""
    import polars as pl

    from trialops.trial.populations import populations

    window = pl.duration(days=policy.window_days)
    events = _bounds(trial.table("AE")).join(
        populations(trial).select("USUBJID", "treated", "first_dose", "last_dose"),
        on="USUBJID",
        how="left",
        maintain_order="left",
    )
    low, high, first = pl.col("_low"), pl.col("_high"), pl.col("first_dose")
    end = pl.col("last_dose") + window
    after = (low > end).fill_null(False)
    inside = (low >= first) & (high <= end).fill_null(pl.col("last_dose").is_null())
    basis = (
        pl.when(~pl.col("treated").fill_null(False))
        .then(pl.lit(UNTREATED))
        .when(first.is_null())
        .then(pl.lit(NO_START))
        .when((high < first).fill_null(False))
        .then(pl.when(_worsened(events, policy)).then(pl.lit(WORSENED)).otherwise(pl.lit(BEFORE)))
        .when(after)
        .then(pl.lit(AFTER))
        .when(inside & (high <= pl.col("last_dose")).fill_null(True))
        .then(pl.lit(ON))
        .when(inside & (low > pl.col("last_dose")).fill_null(False))
        .then(pl.lit(WINDOW))
        .when(inside)
        .then(pl.lit(ON))
        .when(low.is_null())
        .then(pl.lit(NO_DATE))
        .otherwise(pl.lit(MAYBE))
    )
    return events.with_columns(basis.alias("TEAE_BASIS"))["TEAE_BASIS"]


def _bounds(events: pl.DataFrame) -> pl.DataFrame:
    """``_low`` and ``_high``: first and last day the onset can have been; the end and the collection bound it above."""
    import polars as pl

    from trialops.intake.partial_dates import earliest, exact_day, latest

    nothing: pl.Expr = pl.lit(None, pl.Date)
    there = set(events.columns)
    low = earliest("AESTDTC") if "AESTDTC" in there else nothing
    high = latest("AESTDTC") if "AESTDTC" in there else nothing
    known = [latest(c) for c in ("AEENDTC", "AEDTC") if c in there]
    collected = exact_day("AEDTC") if "AEDTC" in there else nothing
    bounded = events.with_columns(_low=low, _high=high, _collected=collected).with_columns(
        _latest=pl.min_horizontal(known) if known else nothing
    )
    # An end or a collection before the onset contradicts it: then the onset stands as it was written.
    told = (pl.col("_latest") >= pl.col("_low")).fill_null(pl.col("_low").is_null() & pl.col("_latest").is_not_null())
    narrowed = pl.when(told).then(pl.min_horizontal("_high", "_latest")).otherwise("_high")
    return bounded.with_columns(_high=narrowed)


def _worsened(events: pl.DataFrame, policy: TeaePolicy) -> pl.Expr:
    """True in rows collected after the first dose with a severity above all that the event had up to then."""
    import polars as pl

    if not policy.worsening or not {"AESEV", "AEDTC"} <= set(events.columns):
        return pl.lit(False)
    rank = (
        pl.col("AESEV")
        .str.strip_chars()
        .str.to_uppercase()
        .replace_strict(list(policy.severity), list(range(len(policy.severity))), default=None, return_dtype=pl.Int8)
    )
    term = "AEDECOD" if "AEDECOD" in events.columns else "AETERM"
    key = ["USUBJID", *(c for c in (term, "AESTDTC", *policy.same_event) if c in events.columns)]
    earlier = rank.filter(pl.col("_collected") <= pl.col("first_dose")).max().over(key)
    return ((pl.col("_collected") > pl.col("first_dose")) & (rank > earlier)).fill_null(False)


def _reported(trial: TrialTables, policy: TeaePolicy) -> pl.Series:
    """The delivered flag of each row of AE, as a class."""
    import polars as pl

    events = trial.table("AE").select("USUBJID", "AESEQ", *(c for c in policy.qualifiers if c in trial.table("AE")))
    flags = [pl.col(c) for c in events.columns[2:]]
    supp = trial.get("SUPPAE")
    if supp is not None:
        number = pl.col("IDVARVAL").cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
        chosen = (
            supp.filter(pl.col("QNAM").is_in(policy.qualifiers) & (pl.col("IDVAR") == "AESEQ"))
            .select("USUBJID", AESEQ=number, _flag=pl.col("QVAL"))
            .unique(["USUBJID", "AESEQ"], keep="first", maintain_order=True)
        )
        events = events.with_columns(pl.col("AESEQ").cast(pl.Float64)).join(
            chosen, on=["USUBJID", "AESEQ"], how="left", maintain_order="left"
        )
        flags.append(pl.col("_flag"))
    flag = pl.coalesce(flags) if flags else pl.lit(None, pl.String)
    flag = flag.str.strip_chars().str.to_uppercase()
    basis = (
        pl.when(flag.is_in(policy.yes))
        .then(pl.lit(FLAGGED))
        .when(flag.is_in(policy.no))
        .then(pl.lit(UNFLAGGED))
        .otherwise(pl.lit(NO_FLAG))
    )
    return events.with_columns(basis.alias("TEAE_BASIS"))["TEAE_BASIS"]
