"""What there is to code in clinical tables: each distinct text with its context once, and its number of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

ICD_SYSTEM = "http://hl7.org/fhir/sid/icd-10-cm"
LOINC_SYSTEM = "http://loinc.org"


@dataclass(frozen=True)
class Source:
    """One distinct thing to code.

    Attributes:
        kind: "lab", "condition", "event" or "medication".
        system: The code system asked for.
        table, variable: Where it stands.
        verbatim: Text as collected.
        code: A code that came with it; empty where there was none.
        day: First day of the quarter it was recorded for, ISO 8601, where a full date is known.
        context: Unit, specimen, test code.
        numeric: Whether all, none or (None) some of its results are numbers.
        rows: Rows of the table.
    """

    kind: str
    system: str
    table: str
    variable: str
    verbatim: str
    code: str = ""
    day: str = ""
    context: Mapping[str, str] = field(default_factory=dict)
    numeric: bool | None = None
    rows: int = 0


def sources(tables: Mapping[str, pl.DataFrame], *, conditions_in: str) -> list[Source]:
    """Everything to code in SDTM and FHIR tables, in a fixed order.

    Args:
        tables: By SDTM domain or FHIR resource type, in any case.
        conditions_in: Code system of medical history texts: "MedDRA" or "ICD-10-CM".
    """
    found: list[Source] = []
    for name in sorted(tables, key=str.lower):
        frame, key = tables[name], name.rsplit("/", 1)[-1].lower()
        if frame.is_empty():
            continue
        if key in ("lb", "vs"):
            found += _sdtm_tests(frame, key.upper())
        elif key == "ae":
            found += _sdtm_terms(frame, "AE", "AETERM", "event", "MedDRA")
        elif key == "mh":
            variable = "MHDECOD" if conditions_in == "ICD-10-CM" and "MHDECOD" in frame.columns else "MHTERM"
            found += _sdtm_terms(frame, "MH", variable, "condition", conditions_in)
        elif key == "cm":
            found += _sdtm_terms(frame, "CM", "CMTRT", "medication", "WHODrug")
        elif key == "condition" and "json" in frame.columns:
            from trialops.standards.coding_resources import conditions

            found += conditions(frame)
        elif key == "observation" and "json" in frame.columns:
            from trialops.standards.coding_resources import observations

            found += observations(frame)
    return found


def _text(frame: pl.DataFrame, *names: str) -> pl.Expr:
    """The first of some columns that is not blank; empty text where all are."""
    import polars as pl

    there = [pl.col(name).cast(pl.String).str.strip_chars() for name in names if name in frame.columns]
    filled = [pl.when(column != "").then(column) for column in there]
    return pl.coalesce([*filled, pl.lit("")])


def _sdtm_tests(frame: pl.DataFrame, domain: str) -> list[Source]:
    """Distinct tests with unit and specimen; the category stands in where the specimen is missing."""
    import polars as pl

    place = ("LBSPEC", "LBCAT") if domain == "LB" else ("VSLOC",)
    result = _text(frame, f"{domain}ORRES", f"{domain}STRESC")
    counted = (
        frame.select(
            test=_text(frame, f"{domain}TEST", f"{domain}TESTCD"),
            testcd=_text(frame, f"{domain}TESTCD"),
            unit=_text(frame, f"{domain}ORRESU"),
            specimen=_text(frame, *place),
            loinc=_text(frame, f"{domain}LOINC"),
            number=result.str.strip_prefix("<").str.strip_prefix(">").cast(pl.Float64, strict=False).is_not_null(),
            empty=result == "",
        )
        .group_by("test", "testcd", "unit", "specimen", "loinc")
        .agg(rows=pl.len(), numbers=pl.col("number").sum(), results=(~pl.col("empty")).sum())
        .sort("test", "testcd", "unit", "specimen", "loinc")
    )
    return [
        Source(
            "lab",
            "LOINC",
            domain,
            f"{domain}TEST",
            row["test"],
            row["loinc"],
            context={
                "testcd": row["testcd"],
                "unit": row["unit"],
                "specimen": row["specimen"] or ("patient" if domain == "VS" else ""),
            },
            numeric=None if not row["results"] else row["numbers"] * 2 > row["results"],
            rows=row["rows"],
        )
        for row in counted.iter_rows(named=True)
        if row["test"]
    ]


def _sdtm_terms(frame: pl.DataFrame, domain: str, variable: str, kind: str, system: str) -> list[Source]:
    import polars as pl

    if variable not in frame.columns:
        return []
    counted = frame.select(term=_text(frame, variable)).group_by("term").agg(rows=pl.len()).sort("term")
    return [Source(kind, system, domain, variable, term, rows=rows) for term, rows in counted.iter_rows() if term]
