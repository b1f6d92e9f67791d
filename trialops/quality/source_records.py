"""What a source says, in a shape that can be laid beside SDTM: for source data verification.

Records are matched by subject, test and time: the study day where both sides have one (de-identified data), else the
date. Several results of one test at one time are matched in the order of their values, so that repeats do not cross.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trialops.intake.domains import current_rows
from trialops.standards.calendar import STUDY_DAY_URL, STUDY_EPOCH, dates, days

if TYPE_CHECKING:
    import polars as pl

KEY = ("USUBJID", "TEST", "AT", "N")
SAME = {"PULSE": "HR"}
"""SDTM test codes that share their LOINC code with another one."""


def _numbered(frame: pl.DataFrame) -> pl.DataFrame:
    """Number what shares subject, test and time; leave out what cannot be matched."""
    import polars as pl

    known = frame.drop_nulls(["USUBJID", "TEST", "AT"])
    order = [c for c in ("VALUE", "TERM") if c in known.columns]
    key = ["USUBJID", "TEST", "AT"]
    return known.sort(*key, *order, maintain_order=True).with_columns(N=pl.int_range(pl.len()).over(key))


def _at(frame: pl.DataFrame, day: str, date: str) -> pl.Expr:
    """The time of an SDTM row: "day 12" where a date is not there, else the date."""
    import polars as pl

    by_day = pl.format("day {}", pl.col(day).cast(pl.Int64)) if day in frame.columns else pl.lit(None, pl.String)
    if date not in frame.columns:
        return by_day
    return pl.coalesce(pl.col(date).str.slice(0, 10), by_day)


def sdtm_findings(frame: pl.DataFrame, domain: str) -> pl.DataFrame:
    """LB or VS rows with a number: ROW (position), key, VALUE, UNIT."""
    import polars as pl

    unit = f"{domain}ORRESU"
    value = pl.col(f"{domain}ORRES").cast(pl.String).cast(pl.Float64, strict=False)
    made = frame.select(
        ROW=pl.int_range(pl.len(), dtype=pl.UInt32),
        USUBJID="USUBJID",
        TEST=pl.col(f"{domain}TESTCD").replace(SAME),
        AT=_at(frame, f"{domain}DY", f"{domain}DTC"),
        VALUE=value,
        UNIT=pl.col(unit).fill_null("") if unit in frame.columns else pl.lit(""),
    )
    return _numbered(made.drop_nulls("VALUE"))


def sdtm_events(frame: pl.DataFrame) -> pl.DataFrame:
    """AE rows: ROW, key (TEST is the coded term), SERIOUS, OUTCOME, SEVERITY."""
    import polars as pl

    def column(name: str) -> pl.Expr:
        return pl.col(name) if name in frame.columns else pl.lit(None, pl.String)

    made = frame.select(
        ROW=pl.int_range(pl.len(), dtype=pl.UInt32),
        USUBJID="USUBJID",
        TEST=pl.col("AEDECOD").str.to_uppercase(),
        AT=_at(frame, "AESTDY", "AESTDTC"),
        SERIOUS=column("AESER"),
        OUTCOME=column("AEOUT"),
        SEVERITY=column("AESEV"),
    )
    return _numbered(made)


def hl7_findings(frame: pl.DataFrame) -> pl.DataFrame:
    """Laboratory results as HL7 intake leaves them: key, VALUE, UNIT."""
    import polars as pl

    value = pl.col("LBORRES").cast(pl.Float64, strict=False)
    made = frame.select(
        USUBJID="USUBJID",
        TEST=_code_of(frame["LBLOINC"]),
        AT=pl.col("LBDTC").str.slice(0, 10),
        VALUE=value,
        UNIT=pl.col("LBORRESU").fill_null(""),
    )
    return _numbered(made.drop_nulls("VALUE"))


def _code_of(loinc: pl.Series) -> pl.Series:
    """LOINC code -> SDTM test code; null where the table of analytes does not know it."""
    import polars as pl

    from trialops.standards.units import find_analyte

    distinct = loinc.drop_nulls().unique().sort().to_list()
    found = {code: known.code for code in distinct if (known := find_analyte(code)) is not None}
    if not found:
        return pl.Series("TEST", [None] * loinc.len(), pl.String)
    return loinc.replace_strict(found, default=None, return_dtype=pl.String)


def _subjects(tables: Mapping[str, pl.DataFrame]) -> dict[str, str]:
    """Patient id -> subject identifier of the study; in de-identified tables they are the same already."""
    participation = tables.get("ResearchSubject")
    if participation is None or participation.is_empty():
        return {}
    pairs = participation.select("subject", name=_text("$.identifier[0].value")).drop_nulls()
    return dict(pairs.iter_rows())


def _text(path: str) -> pl.Expr:
    import polars as pl

    return pl.col("json").str.json_path_match(path)


def _day(element: str) -> pl.Expr:
    """The study day that de-identification left of an element."""
    import polars as pl

    extension = pl.col("json").str.extract(
        rf'"_{element}":\{{"extension":\[\{{[^\]]*"url":"{STUDY_DAY_URL}"[^\]]*?"valueInteger":(-?\d+)'
    )
    turned = pl.col("json").str.extract(
        rf'"_{element}":\{{"extension":\[\{{[^\]]*"valueInteger":(-?\d+)[^\]]*?"url":"{STUDY_DAY_URL}"'
    )
    return pl.coalesce(extension, turned).cast(pl.Int64)


def _placed(made: pl.DataFrame, dm: pl.DataFrame | None) -> pl.DataFrame:
    """DAY and DATE of a FHIR record as AT, in the study days of SDTM.

    Day 1 of FHIR data is that of the consent, day 1 of SDTM the first dose: RFICDY of DM leads from one to the other.
    Without it, days are taken to be those of SDTM.
    """
    import polars as pl

    day = pl.col("DAY")
    if dm is not None and "RFICDY" in dm.columns:
        consent = current_rows("DM", dm).select("USUBJID", RFICDY=pl.col("RFICDY").cast(pl.Int64)).unique("USUBJID")
        made = made.join(consent, on="USUBJID", how="left", maintain_order="left")
        day = days(dates(day) + (dates(pl.col("RFICDY")) - pl.lit(STUDY_EPOCH)))
    at = pl.when(pl.col("DAY").is_null()).then(pl.col("DATE").str.slice(0, 10)).otherwise(pl.format("day {}", day))
    return made.with_columns(AT=at).drop("DAY", "DATE", "RFICDY", strict=False)


def fhir_findings(tables: Mapping[str, pl.DataFrame], dm: pl.DataFrame | None = None) -> pl.DataFrame:
    """Observations with a quantity: key, VALUE, UNIT (UCUM), both LB and VS.

    Args:
        tables: FHIR tables by resource type.
        dm: The clean DM they are laid beside; its RFICDY says where the study days of FHIR begin.
    """
    import polars as pl

    frame = tables["Observation"]
    made = frame.select(
        USUBJID=_named(tables),
        LOINC=_text("$.code.coding[0].code"),
        DAY=_day("effectiveDateTime"),
        DATE=_text("$.effectiveDateTime"),
        VALUE=_text("$.valueQuantity.value").cast(pl.Float64, strict=False),
        UNIT=pl.coalesce(_text("$.valueQuantity.code"), _text("$.valueQuantity.unit"), pl.lit("")),
    )
    made = _placed(made.drop_nulls("VALUE"), dm)
    return _numbered(made.with_columns(TEST=_code_of(made["LOINC"])))


def _named(tables: Mapping[str, pl.DataFrame]) -> pl.Expr:
    """The subject of a resource as SDTM names it."""
    import polars as pl

    names = {k: v for k, v in _subjects(tables).items() if v}
    if not names:
        return pl.col("subject")
    return pl.col("subject").replace(names)


OUTCOMES = {
    "fatal": "FATAL",
    "resolved": "RECOVERED/RESOLVED",
    "ongoing": "NOT RECOVERED/NOT RESOLVED",
    "resolvedWithSequelae": "RECOVERED/RESOLVED WITH SEQUELAE",
    "recovering": "RECOVERING/RESOLVING",
    "unknown": "UNKNOWN",
}
"""FHIR adverse-event-outcome -> CDISC codelist OUT."""


def fhir_events(tables: Mapping[str, pl.DataFrame], dm: pl.DataFrame | None = None) -> pl.DataFrame:
    """Adverse events: key, SERIOUS, OUTCOME, SEVERITY in the terms of SDTM; arguments as in `fhir_findings`."""
    import polars as pl

    frame = tables["AdverseEvent"]
    serious = _text("$.seriousness.coding[0].code").replace_strict(
        {"Serious": "Y", "serious": "Y", "Non-serious": "N", "non-serious": "N"}, default=None, return_dtype=pl.String
    )
    outcome = _text("$.outcome.coding[0].code").replace_strict(OUTCOMES, default=None, return_dtype=pl.String)
    made = frame.select(
        USUBJID=_named(tables),
        TEST=_text("$.event.text").str.to_uppercase(),
        DAY=_day("date"),
        DATE=_text("$.date"),
        SERIOUS=serious,
        OUTCOME=outcome,
        SEVERITY=_text("$.severity.coding[0].code").str.to_uppercase(),
    )
    return _numbered(_placed(made, dm))
