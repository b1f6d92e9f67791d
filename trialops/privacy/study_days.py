"""Dates become days: study day, the day a row was known, and the shifted dates of a limited data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.intake import partial_dates
from trialops.intake.domains import RECEIVED, catalog, current_rows, day_column

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.policy import Policy

__all__ = ["day_column", "known_day", "references", "shifted", "study_day", "visits"]

REFERENCE = "_reference"
OFFSET = "_offset"
CONTACT = "_contact"
LAST = "_last"
VISIT = "_visit"
# Columns joined to a raw table while its days are computed; none is released.
HELPERS = (REFERENCE, OFFSET, CONTACT, LAST, VISIT)
# Where day 1 of a subject can come from, in this order.
SOURCES = ("RFSTDTC", "RFXSTDTC", "EXSTDTC", "first contact")


def study_day(date: pl.Expr, reference: pl.Expr) -> pl.Expr:
    """SDTM study day as Int32: 1 on the reference day, -1 the day before, never 0 (SDTMIG 3.3, 4.4.4)."""
    import polars as pl

    days = (date - reference).dt.total_days()
    return pl.when(days >= 0).then(days + 1).otherwise(days).cast(pl.Int32)


def references(tables: dict[str, pl.DataFrame], policy: Policy) -> pl.DataFrame:
    """Day 1 of every subject in DM, and between which days anything of the subject could be known.

    Day 1 is RFSTDTC of the newest version of the DM row; where that is missing or partial RFXSTDTC, then the
    earliest exact EXSTDTC, and only then the first contact: the earliest exact date among the columns the
    policy names, or of the subject at all.

    Returns:
        One row per subject: USUBJID, `_reference`, `_contact` and `_last` (Date; null when the subject has no
        exact date at all), `source` (one of `SOURCES`, or "none"), `treated` (has a row in EX), and
        `contradicts` (a partial RFSTDTC that day 1 does not fall in).
    """
    import polars as pl

    dm = current_rows("DM", tables["DM"])
    first = "RFXSTDTC" if "RFXSTDTC" in dm.columns else None
    starts = dm.group_by("USUBJID").agg(
        partial_dates.exact_day("RFSTDTC").min().alias("RFSTDTC"),
        (partial_dates.exact_day(first).min() if first else pl.lit(None, pl.Date)).alias("RFXSTDTC"),
        partial_dates.earliest("RFSTDTC").min().alias("low"),
        partial_dates.latest("RFSTDTC").max().alias("high"),
    )
    named = [(d, c) for d, columns in policy.first_contact.items() for c in columns]
    known = [(d, c) for d, spec in catalog().domains.items() for c in spec.contacts]
    dates = _exact(tables, [*named, *known, ("DM", "RFSTDTC"), ("DM", "RFXSTDTC")], set(named))
    span = dates.group_by("USUBJID").agg(
        pl.col("day").filter("named").min().alias("contact"),
        pl.col("day").min().alias("any"),
        pl.col("day").max().alias(LAST),
    )
    joined = (
        starts.join(_exposed(tables), on="USUBJID", how="left")
        .join(span, on="USUBJID", how="left")
        .with_columns(pl.coalesce("contact", "any").alias(CONTACT), treated=pl.col("treated").fill_null(False))
        .with_columns(pl.coalesce("RFSTDTC", "RFXSTDTC", "EXSTDTC", CONTACT).alias(REFERENCE))
    )
    days = [pl.col(c) for c in ("RFSTDTC", "RFXSTDTC", "EXSTDTC", CONTACT)]
    source = pl.coalesce(
        *(pl.when(d.is_not_null()).then(pl.lit(s)) for d, s in zip(days, SOURCES, strict=True)), pl.lit("none")
    )
    day = pl.col(REFERENCE)
    outside = ((day < pl.col("low")) | (day > pl.col("high"))).fill_null(False)
    # The first dose is a contact too, and so is whatever else is the earliest.
    contact_day = pl.min_horizontal(CONTACT, REFERENCE)
    return joined.select(
        "USUBJID", day, contact_day.alias(CONTACT), LAST, "treated", source=source, contradicts=outside
    )


def _exact(
    tables: dict[str, pl.DataFrame], columns: list[tuple[str, str]], named: set[tuple[str, str]]
) -> pl.DataFrame:
    """USUBJID, every exact day of the columns that are there, and whether the column is among `named`."""
    import polars as pl

    parts = [
        tables[d].select("USUBJID", day=partial_dates.exact_day(c), named=pl.lit((d, c) in named)).drop_nulls()
        for d, c in dict.fromkeys(columns)
        if d in tables and c in tables[d].columns
    ]
    return pl.concat([pl.DataFrame(schema={"USUBJID": pl.String, "day": pl.Date, "named": pl.Boolean}), *parts])


def _exposed(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Treated subjects and the earliest exact start of exposure."""
    import polars as pl

    if "EX" not in tables:
        return pl.DataFrame(schema={"USUBJID": pl.String, "treated": pl.Boolean, "EXSTDTC": pl.Date})
    start = partial_dates.exact_day("EXSTDTC") if "EXSTDTC" in tables["EX"].columns else pl.lit(None, pl.Date)
    doses = current_rows("EX", tables["EX"]).select("USUBJID", day=start)
    return doses.group_by("USUBJID").agg(pl.lit(True).alias("treated"), pl.col("day").min().alias("EXSTDTC"))


def visits(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The day of every visit: USUBJID, VISITNUM (Float64) and `_visit` (Date)."""
    import polars as pl

    key = {"USUBJID": pl.String, "VISITNUM": pl.Float64}
    if "SV" not in tables or not {"VISITNUM", "SVSTDTC"} <= set(tables["SV"].columns):
        return pl.DataFrame(schema={**key, VISIT: pl.Date})
    rows = current_rows("SV", tables["SV"]).select(
        "USUBJID", pl.col("VISITNUM").cast(pl.Float64), partial_dates.latest("SVSTDTC").alias(VISIT)
    )
    return rows.drop_nulls().group_by(list(key)).agg(pl.col(VISIT).max())


def known_day(domain: str, columns: list[str]) -> pl.Expr:
    """The study day on which the sponsor could first know this version of the row, as Int32.

    The chain of the domain in domains.yaml decides. It is never before the first contact of the subject, nor
    before the receipt of the correction that brought the row; null only for a subject without any exact date.

    Args:
        domain: Domain code; one that is not in the catalogue has the last day of the subject.
        columns: Columns of the frame, with `_reference`, `_contact`, `_last` and, where rows have a
            VISITNUM, `_visit`.
    """
    import polars as pl

    spec = catalog().domains.get(domain)
    own = spec.own if spec and spec.own in columns else None
    collected = spec.collected if spec and spec.collected in columns else None
    nothing: pl.Expr = pl.lit(None, dtype=pl.Date)

    def told(day: pl.Expr) -> pl.Expr:
        # What has not happened yet cannot be told.
        return pl.when(day.is_not_null()).then(pl.max_horizontal(day, partial_dates.earliest(own)) if own else day)

    days = {
        "collected": told(partial_dates.latest(collected)) if collected else nothing,
        "visit": told(pl.col(VISIT)) if VISIT in columns else nothing,
        "own": partial_dates.latest(own) if own else nothing,
        "contact": pl.col(CONTACT),
        "last": pl.col(LAST),
    }
    chain = spec.known if spec else ("last",)
    floor = [CONTACT, *([RECEIVED] if RECEIVED in columns else [])]
    day = pl.max_horizontal(pl.coalesce(days[name] for name in chain), *floor)
    return study_day(day, pl.col(REFERENCE)).alias("KNOWNDY")


def shifted(column: str) -> pl.Expr:
    """The date text moved by `_offset` days at the precision it has.

    Exact dates move exactly, time of day kept. A month or a year moves with its middle, so that on average no
    interval grows or shrinks. A text with an unknown component before a known one is cut back to what comes
    before it.
    """
    import polars as pl

    parts = pl.col(column).str.split("/")
    first, last = _shifted(parts.list.first()), _shifted(parts.list.last())
    interval = pl.col(column).str.contains("/", literal=True)
    return pl.when(interval).then(pl.concat_str([first, last], separator="/")).otherwise(first)


def _shifted(text: pl.Expr) -> pl.Expr:
    import polars as pl

    offset = pl.duration(days=pl.col(OFFSET))
    day = text.str.extract(r"^(\d{4}-\d{2}-\d{2})", 1).str.to_date("%Y-%m-%d", strict=False)
    month = (text.str.extract(r"^(\d{4}-\d{2})(?:$|-)", 1) + "-15").str.to_date("%Y-%m-%d", strict=False)
    year = (text.str.extract(r"^(\d{4})(?:$|-)", 1) + "-07-02").str.to_date("%Y-%m-%d", strict=False)
    exact = pl.concat_str([(day + offset).dt.to_string("%Y-%m-%d"), text.str.slice(10)])
    return (
        pl.when(day.is_not_null())
        .then(exact)
        .when(month.is_not_null())
        .then((month + offset).dt.to_string("%Y-%m"))
        .otherwise((year + offset).dt.to_string("%Y"))
    )
