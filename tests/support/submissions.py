"""A small study as tables of a submission, with what each format makes difficult."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from trialops.intake.xport import XportWriter
from trialops.intake.xport_read import Transport, read_transport
from trialops.regulatory.metadata import Metadata, Study, describe

STUDY = Study("T1", "A small study", created="2026-01-02T03:04:05")


def tables() -> dict[str, pl.DataFrame]:
    """DM, AE, LB, TS and SUPPAE: partial dates, missing numbers, decimals, an empty column, a sponsor's own term."""
    subjects = ["T1-01-001", "T1-01-002", "T1-02-001"]
    dm = pl.DataFrame(
        {
            "STUDYID": ["T1"] * 3,
            "DOMAIN": ["DM"] * 3,
            "USUBJID": subjects,
            "SUBJID": ["001", "002", "001"],
            "RFSTDTC": ["2024-01-02", None, "2024-02-28"],
            "SITEID": ["01", "01", "02"],
            "AGE": [63.0, 71.0, None],
            "AGEU": ["YEARS", "YEARS", None],
            "SEX": ["F", "M", "F"],
            "RACE": ["WHITE", "MARTIAN", "ASIAN"],
            "ARMCD": ["PBO", "ACT", "PBO"],
            "ARM": ["Placebo", "Active", "Placebo"],
            "COUNTRY": ["USA"] * 3,
            "_SOURCE": ["dm.xpt"] * 3,
        }
    )
    ae = pl.DataFrame(
        {
            "STUDYID": ["T1"] * 3,
            "DOMAIN": ["AE"] * 3,
            "USUBJID": [subjects[0], subjects[0], subjects[2]],
            "AESEQ": [2.0, 1.0, 1.0],
            "AETERM": ["Nausea, mild", "Headache", 'Fall "at home"'],
            "AEDECOD": ["NAUSEA", "HEADACHE", "FALL"],
            "AESEV": ["MILD", "SEVERE", None],
            "AESER": ["N", "Y", "N"],
            "AEACN": [None, None, None],
            "AESTDTC": ["2024-01-05", "2024-01", "2024-03-01T10:30"],
            "AESTDY": [4.0, None, 3.0],
        },
        schema_overrides={"AEACN": pl.Float64},
    )
    lb = pl.DataFrame(
        {
            "STUDYID": ["T1"] * 4,
            "DOMAIN": ["LB"] * 4,
            "USUBJID": [subjects[0]] * 2 + [subjects[1]] * 2,
            "LBSEQ": [1.0, 2.0, 1.0, 2.0],
            "LBTESTCD": ["ALB", "COLOR", "ALB", "COLOR"],
            "LBTEST": ["Albumin", "Color", "Albumin", "Color"],
            "LBORRES": ["4.2", "YELLOW", "3.95", "AMBER"],
            "LBORRESU": ["g/dL", None, "g/dL", None],
            "LBSTRESC": ["42", "YELLOW", "39.5", "AMBER"],
            "LBSTRESN": [42.0, None, 39.5, None],
            "LBSTRESU": ["g/L", None, "g/L", None],
            "VISITNUM": [1.0] * 4,
            "LBDTC": ["2024-01-02T08:00", "2024-01-02T08:00", "2024-01-09T09:15", "2024-01-09T09:15"],
        }
    )
    ts = pl.DataFrame(
        {
            "STUDYID": ["T1"],
            "DOMAIN": ["TS"],
            "TSSEQ": [1.0],
            "TSPARMCD": ["TITLE"],
            "TSPARM": ["Trial Title"],
            "TSVAL": ["A small study"],
        }
    )
    supp = pl.DataFrame(
        {
            "STUDYID": ["T1"],
            "RDOMAIN": ["AE"],
            "USUBJID": [subjects[0]],
            "IDVAR": ["AESEQ"],
            "IDVARVAL": ["1"],
            "QNAM": ["AETRTEM"],
            "QLABEL": ["Treatment emergent flag"],
            "QVAL": ["Y"],
            "QORIG": ["DERIVED"],
        }
    )
    return {"AE": ae, "DM": dm, "LB": lb, "SUPPAE": supp, "TS": ts}


def metadata(given: dict[str, pl.DataFrame] | None = None) -> Metadata:
    """The description of the small study."""
    return describe(tables() if given is None else given, STUDY, {"LB": "Central laboratory."})


def files(described: Metadata, folder: Path) -> dict[str, Transport]:
    """Every data set written and read back."""
    read = {}
    for data_set in described.data_sets:
        path = folder / f"{data_set.name.lower()}.xpt"
        with XportWriter(path, data_set.name, data_set.label, data_set.columns) as writer:
            writer.write(data_set.frame)
        read[data_set.name] = read_transport(path.read_bytes())
    return read
