"""A small trial for the tests of grading: results in a few lines, doses from 2014-01-10 to 2014-06-30."""

from __future__ import annotations

from typing import Any

import polars as pl

from trialops.trial.tables import TrialTables

DOSES = {"EXSTDTC": "2014-01-10", "EXENDTC": "2014-06-30", "EXDOSE": 5.0}


def table(domain: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows of a findings domain: keys without the domain's letters; --SEQ is counted where it is not there."""
    named = []
    for number, row in enumerate(rows):
        whole = {"SEQ": number + 1.0} | row
        named.append({key if key == "USUBJID" else f"{domain}{key}": value for key, value in whole.items()})
    frame = pl.DataFrame(named, infer_schema_length=None)
    return frame.with_columns(pl.col(pl.Null).cast(pl.String))


def trial(treated: bool = True, **domains: list[dict[str, Any]]) -> TrialTables:
    """A trial of one or more subjects with the rows given; ORRES may be a number."""
    tables = {}
    for domain, rows in domains.items():
        if not rows:
            continue
        texts = [
            {k: str(v) if k in ("ORRES", "ORNRLO", "ORNRHI") and v is not None else v for k, v in r.items()}
            for r in rows
        ]
        tables[domain] = table(domain, [{"USUBJID": "a"} | row for row in texts])
    subjects = sorted({s for frame in tables.values() for s in frame["USUBJID"]} | {"a"})
    tables["DM"] = pl.DataFrame({"STUDYID": "T", "USUBJID": subjects, "ARMCD": "P"})
    if treated:
        tables["EX"] = pl.DataFrame([{"USUBJID": s} | DOSES for s in subjects])
    return TrialTables("T", tables, "digest")


def lab(test: str, value: Any, day: str, **more: Any) -> dict[str, Any]:
    """A laboratory result."""
    return {"TESTCD": test, "ORRES": value, "DTC": day} | more


def alt(value: Any, day: str, **more: Any) -> dict[str, Any]:
    """An ALT in U/L with an upper limit of 40."""
    return lab("ALT", value, day, ORRESU="U/L", ORNRLO=5, ORNRHI=40, **more)
