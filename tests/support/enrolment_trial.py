"""Small trials written row by row, for tests of eligibility and enrolment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from trialops.trial.eligibility_criteria import parse_criteria
from trialops.trial.eligibility_rules import Criteria
from trialops.trial.tables import TrialTables

Row = Mapping[str, Any]


def small_trial(subjects: Sequence[Row] | None = None, **domains: Sequence[Row]) -> TrialTables:
    """A trial of one subject S1, screened 2020-03-05 and not randomised, or of the subjects given."""
    dm = [{"USUBJID": f"S{i}", **row} for i, row in enumerate(subjects or [{}], start=1)]
    base = {"STUDYID": "T", "SITEID": "701", "AGE": 60.0, "AGEU": "YEARS", "SEX": "F", "ARMCD": "",
            "RFICDTC": "2020-03-01", "DMDTC": "2020-03-05", "RFSTDTC": ""}  # fmt: skip
    tables = {"DM": pl.DataFrame([{**base, **row} for row in dm])}
    for name, rows in domains.items():
        numbered = [{"USUBJID": "S1", f"{name}SEQ": float(i), **row} for i, row in enumerate(rows, start=1)]
        tables[name] = pl.DataFrame(numbered, infer_schema_length=None)
    return TrialTables("T", tables, "digest")


def lab(value: str, unit: str = "mg/dL", day: str = "2020-03-04", test: str = "CREAT", **more: Any) -> dict[str, Any]:
    """A row of LB."""
    return {"LBTESTCD": test, "LBORRES": value, "LBORRESU": unit, "LBDTC": day, **more}


def one_rule(rule: Mapping[str, Any], kind: str = "inclusion", **more: Any) -> Criteria:
    """A file with a single criterion C1."""
    item = {"id": "C1", "kind": kind, "text": "text", "reference": "5.1", "rule": rule, **more}
    return parse_criteria({"protocol": "T", "version": 1, "criteria": [item]})
