"""Row checks at the door: an unusable row is set aside with its position and a reason, never its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.intake import partial_dates
from trialops.intake.domains import RECEIVED, ROW, SOURCE, DomainSpec, catalog

if TYPE_CHECKING:
    import polars as pl

# Reason code -> what it says to the person who will mend the source. {column} and {other} are column names.
REASONS = {
    "MISSING_SUBJECT": "USUBJID is empty",
    "MISSING_KEY": "{column} is empty, so the row has no identity",
    "WRONG_STUDY": "STUDYID is not the study of this delivery",
    "WRONG_DOMAIN": "DOMAIN does not name the domain of this file",
    "NOT_A_NUMBER": "{column} must be a number and is not",
    "DATE_NOT_ISO8601": "{column} is not an ISO 8601 date",
    "DATE_IMPOSSIBLE": "{column} names a day or time that does not exist",
    "DATE_BEFORE_1900": "{column} is before 1900",
    "DATE_AFTER_RECEIPT": "{column} is later than the day the file was received",
    "END_BEFORE_START": "{column} is before {other}",
    "BIRTH_AFTER_CONTACT": "BRTHDTC is after {other}",
    "ORPHAN_SUBJECT": "the subject has no usable row in DM",
    "DUPLICATE_SUBJECT": "the subject has an earlier row in this delivery of DM",
    "DUPLICATE_KEY": "an earlier row of this delivery has the same {key}",
}
SCHEMA = {
    "file": "String",
    "row": "Int64",
    "domain": "String",
    "column": "String",
    "reason": "String",
    "message": "String",
    "all_reasons": "String",
}


@dataclass(frozen=True)
class Check:
    """A reason to set a row aside: `bad` is true for the rows concerned."""

    reason: str
    column: str
    bad: pl.Expr
    message: str


def empty() -> pl.DataFrame:
    """A quarantine table without rows: file, row (1-based), domain, column, reason, message, all_reasons."""
    import polars as pl

    return pl.DataFrame(schema={name: getattr(pl, kind) for name, kind in SCHEMA.items()})


def _check(reason: str, column: str, bad: pl.Expr, **names: str) -> Check:
    return Check(reason, column, bad.fill_null(False), REASONS[reason].format(column=column, **names))


def row_checks(spec: DomainSpec, columns: list[str], text: set[str], study: str) -> list[Check]:
    """The checks that need one row only.

    Args:
        spec: The domain.
        columns: Columns of the table.
        text: Those that are character.
        study: STUDYID that every row must have.

    Returns:
        Checks in order of precedence: the first that fires gives the row its reason.
    """
    import polars as pl

    have = set(columns)
    checks = [_check("MISSING_SUBJECT", "USUBJID", pl.col("USUBJID").is_null())]
    parts = [c for c in spec.key if c in have and c != "USUBJID"]
    checks += [_check("MISSING_KEY", c, pl.col(c).is_null()) for c in parts]
    checks.append(_check("WRONG_STUDY", "STUDYID", pl.col("STUDYID").ne_missing(study)))
    if "DOMAIN" in have:
        checks.append(_check("WRONG_DOMAIN", "DOMAIN", pl.col("DOMAIN") != spec.code))
    for c in sorted(text):
        if catalog().is_numeric(spec.code, c):
            wrong = pl.col(c).is_not_null() & pl.col(c).cast(pl.Float64, strict=False).is_null()
            checks.append(_check("NOT_A_NUMBER", c, wrong))
    dates = [c for c in columns if c.endswith("DTC") and c in text]
    for c in dates:
        first = partial_dates.earliest(c)
        checks.append(_check("DATE_NOT_ISO8601", c, partial_dates.not_iso(c)))
        checks.append(_check("DATE_IMPOSSIBLE", c, partial_dates.impossible(c)))
        checks.append(_check("DATE_BEFORE_1900", c, first.dt.year() < partial_dates.EARLIEST_YEAR))
        checks.append(_check("DATE_AFTER_RECEIPT", c, first > pl.col("_received_by")))
    for start, end in spec.start_end:
        if start in dates and end in dates:
            # Only when even the latest end is before the earliest start: a partial date gets the doubt.
            bad = partial_dates.latest(end) < partial_dates.earliest(start)
            checks.append(_check("END_BEFORE_START", end, bad, other=start))
    if "BRTHDTC" in dates:
        for contact in ("RFICDTC", "DMDTC", "RFSTDTC"):
            if contact in dates:
                bad = partial_dates.earliest("BRTHDTC") > partial_dates.latest(contact)
                checks.append(_check("BIRTH_AFTER_CONTACT", "BRTHDTC", bad, other=contact))
    return checks


def split(frame: pl.DataFrame, spec: DomainSpec, checks: list[Check]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divide rows into those that can be used and those set aside.

    A key that repeats counts only among rows without another fault: the first sound row stays.

    Args:
        frame: Rows with `_SOURCE`, `_ROW` and `_RECEIVED`.
        spec: The domain.
        checks: What to check.

    Returns:
        Loaded rows, and the quarantine table: one line per row set aside.
    """
    import polars as pl

    flags = {f"_flag{i}": check.bad for i, check in enumerate(checks)}
    marked = frame.with_columns(**flags).with_columns(_sound=~pl.any_horizontal(list(flags)))
    key = [c for c in spec.key if c in frame.columns]
    repeated = (pl.col("_sound").cast(pl.Int64).cum_sum().over([*key, RECEIVED]) > 1) & pl.col("_sound")
    duplicate = Check(
        "DUPLICATE_SUBJECT" if key == ["USUBJID"] else "DUPLICATE_KEY",
        key[-1],
        pl.col("_repeated"),
        REASONS["DUPLICATE_SUBJECT" if key == ["USUBJID"] else "DUPLICATE_KEY"].format(key=" and ".join(key)),
    )
    marked = marked.with_columns(_repeated=repeated.fill_null(False))
    bad = marked.filter(~pl.col("_sound") | pl.col("_repeated"))
    loaded = marked.filter(pl.col("_sound") & ~pl.col("_repeated")).select(frame.columns)
    if bad.is_empty():
        return loaded, empty()
    everything = [(pl.col(f), c) for f, c in zip(flags, checks, strict=True)]
    everything.append((pl.col("_repeated"), duplicate))
    quarantined = bad.select(
        file=pl.col(SOURCE),
        row=pl.col(ROW),
        domain=pl.lit(spec.code),
        column=pl.coalesce(pl.when(f).then(pl.lit(c.column)) for f, c in everything),
        reason=pl.coalesce(pl.when(f).then(pl.lit(c.reason)) for f, c in everything),
        message=pl.coalesce(pl.when(f).then(pl.lit(c.message)) for f, c in everything),
        all_reasons=pl.concat_list([pl.when(f).then(pl.lit(c.reason)) for f, c in everything])
        .list.drop_nulls()
        .list.unique(maintain_order=True)
        .list.join(";"),
    )
    return loaded, quarantined


def orphan_check(subjects: pl.Series) -> Check:
    """Rows of subjects that are not in `subjects`, the USUBJIDs of the DM rows that loaded."""
    import polars as pl

    known = pl.col("USUBJID").is_in(subjects.implode())
    return _check("ORPHAN_SUBJECT", "USUBJID", pl.col("USUBJID").is_not_null() & ~known)
