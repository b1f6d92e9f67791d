"""FHIR and SDTM of one trial as one source: people joined, days put on one calendar, the same fact loaded once.

The SDTM tables are the trial's database of record. A FHIR resource that tells the same is left out, and counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.standards.omop_dates import first_day, last_day
from trialops.standards.omop_source import Source, part

if TYPE_CHECKING:
    import polars as pl

SAME = "the SDTM tables have the same fact"
NO_CALENDAR = "its study days cannot be put on the calendar of the SDTM tables"

PAIRS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("Observation", ("LB", "VS"), ("subject", "first", "number", "term")),
    ("AdverseEvent", ("AE",), ("subject", "first", "term")),
    ("Condition", ("MH",), ("subject", "term")),
    ("MedicationAdministration", ("EX",), ("subject", "first", "last")),
)
"""FHIR type, SDTM domains, and what two events must share to be the same fact. term is a code or the text."""


def combine(fhir: Source, sdtm: Source, days: pl.DataFrame, *, study_days: bool) -> Source:
    """Put two sources into one.

    Args:
        fhir: Read with the same `Codes` as `sdtm`.
        sdtm: The trial's tables.
        days: subject and consent_day, the study day of informed consent (DM.RFICDY). In FHIR day 1 is the start of
            participation, in SDTM the first dose; the day of consent is known in both and joins them.
        study_days: Whether dates are study days.
    """
    import polars as pl

    moved = dict[str, "pl.DataFrame"]()
    lost: list[pl.DataFrame] = []
    for name in ("events", "visits", "notes"):
        frame: pl.DataFrame = getattr(fhir, name)
        if study_days:
            frame, gone = _moved(frame, days)
            lost.append(gone)
        moved[name] = frame
    events, twice = _told_once(moved["events"], sdtm, study_days=study_days)
    visits, again = _visited_once(moved["visits"], sdtm, study_days=study_days)
    outcomes = pl.concat([fhir.outcomes, sdtm.outcomes, *lost, twice, again])
    return Source(
        codes=sdtm.codes,
        persons=pl.concat([fhir.persons, sdtm.persons]),
        visits=pl.concat([visits, sdtm.visits]),
        sites=pl.concat([fhir.sites, sdtm.sites]),
        providers=pl.concat([fhir.providers, sdtm.providers]),
        notes=pl.concat([moved["notes"], sdtm.notes]),
        events=pl.concat([events, sdtm.events]),
        outcomes=outcomes,
        read=fhir.read | sdtm.read,
        ignored=fhir.ignored | sdtm.ignored,
    )


def _moved(frame: pl.DataFrame, days: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Study days that count from consent as study days that count from the first dose."""
    import polars as pl

    known = days.drop_nulls().unique("subject", keep="any")
    joined = frame.join(known, on="subject", how="left", maintain_order="left")
    without = pl.col("consent_day").is_null() & pl.col("start_day").is_not_null()
    bad = joined.filter(without)
    gone = part(
        "outcomes",
        bad.unique(["kind", "id"], keep="first", maintain_order=True).with_columns(
            disposition=pl.lit("quarantined"), reason=pl.lit(NO_CALENDAR)
        ),
    )
    named = [name for name in ("start_day", "end_day") if name in frame.columns]
    ordinal = _ordinal(pl.col("consent_day"))
    shifted = joined.filter(~without).with_columns(_day(_ordinal(pl.col(name)) + ordinal).alias(name) for name in named)
    return shifted.select(frame.columns), gone


def _ordinal(day: pl.Expr) -> pl.Expr:
    """Study day -> days since day 1."""
    import polars as pl

    return pl.when(day > 0).then(day - 1).otherwise(day)


def _day(ordinal: pl.Expr) -> pl.Expr:
    import polars as pl

    return pl.when(ordinal >= 0).then(ordinal + 1).otherwise(ordinal)


def _told_once(events: pl.DataFrame, sdtm: Source, *, study_days: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """FHIR events without those that the SDTM tables tell too, and the outcomes of these."""
    import polars as pl

    texts = sdtm.codes.codings()
    terms = pl.concat([texts.select("key", term="code"), texts.select("key", term="text")]).drop_nulls().unique()
    mine = _dated(events, study_days=study_days).with_row_index("row")
    theirs = _dated(sdtm.events, study_days=study_days)
    found = []
    for kind, domains, keys in PAIRS:
        left = mine.filter(pl.col("kind") == kind).join(terms, left_on="concept", right_on="key")
        right = theirs.filter(pl.col("kind").is_in(domains)).join(terms, left_on="concept", right_on="key")
        if "term" not in keys:
            left = mine.filter(pl.col("kind") == kind)
        same = left.join(right.select(keys).drop_nulls("subject").unique(), on=list(keys), how="semi", nulls_equal=True)
        found.append(same.select("row").unique())
    rows = pl.concat(found)
    twice = mine.join(rows, on="row", how="semi")
    kept = mine.join(rows, on="row", how="anti", maintain_order="left")
    whole = twice.join(kept, on=["kind", "id"], how="anti").unique(["kind", "id"], keep="any")
    return kept.select(events.columns), _same(whole)


def _visited_once(visits: pl.DataFrame, sdtm: Source, *, study_days: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """FHIR visits without those that begin on the day of a trial visit of the same name."""
    mine = _dated(visits, study_days=study_days)
    theirs = _dated(sdtm.visits, study_days=study_days).select("subject", "first", "label").drop_nulls().unique()
    same = mine.join(theirs, on=["subject", "first", "label"], how="semi")
    kept = mine.join(theirs, on=["subject", "first", "label"], how="anti", maintain_order="left")
    return kept.select(visits.columns), _same(same)


def _dated(frame: pl.DataFrame, *, study_days: bool) -> pl.DataFrame:
    return frame.with_columns(
        first=first_day("start", "start_day", study_days=study_days),
        last=last_day("end", "end_day", study_days=study_days),
    )


def _same(rows: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return part("outcomes", rows.with_columns(disposition=pl.lit("ignored"), reason=pl.lit(SAME)))


def consent_days(dm: pl.DataFrame) -> pl.DataFrame:
    """Who consented on which study day (columns subject, consent_day), by a clean DM table."""
    import polars as pl

    day = pl.col("RFICDY").cast(pl.Int64) if "RFICDY" in dm.columns else pl.lit(None, pl.Int64)
    return dm.select(subject="USUBJID", consent_day=day)
