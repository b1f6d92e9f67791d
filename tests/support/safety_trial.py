"""A small blinded trial with a few events, as SDTM tables, and its study file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from tests.support.homes import Made, artifact
from trialops.stores.context import Step
from trialops.trial.study_file import StudyFile, parse_study
from trialops.trial.tables import TrialTables, trial_tables

ARMS = ("Verum High", "Verum Low", "Placebo")
CODES = {"Verum High": "VH", "Verum Low": "VL", "Placebo": "P"}
SUBJECTS = 30

STUDY: dict[str, Any] = {
    "protocol": {
        "number": "SAF01",
        "title": "A small trial",
        "planned_enrolment": 40,
        "blinded": True,
        "indication": "Testing",
    },
    "safety": {
        "products": [
            {"name": "Verum", "role": "investigational", "active_substance": "verumab", "treatments": ["VERUM"]},
            {"name": "Placebo", "role": "placebo", "treatments": ["PLACEBO"]},
        ],
        "ind_number": "123456",
        "ctis_number": "2023-500000-00-00",
        "time_zone": "America/New_York",
        "meddra_version": "27.0",
        "reference_safety_information": [{"version": "IB 1", "valid_from": date(2023, 1, 1), "terms": ["HEADACHE"]}],
    },
    "sender": {
        "organisation": "Sponsor",
        "organisation_type": "1",
        "identifier": "SPONSOR",
        "address": {"street": "1 Street", "city": "City", "state": "MA", "postcode": "00000", "country": "US"},
    },
}


def study(folder: Path | None = None, **safety: Any) -> StudyFile:
    """The study file, with keys of its safety section replaced; written to a folder where one is given."""
    document = {**STUDY, "safety": {**STUDY["safety"], **safety}}
    if folder is not None:
        (folder / "study.yaml").write_text(yaml.safe_dump(document))
    return parse_study(document)


def deliver(run: Step, made: TrialTables) -> tuple[Made, TrialTables]:
    """Seal tables as an intake does, and open them as a step does."""
    raw = artifact(Path(run.settings.home), "raw")
    run.seal(raw, made.tables)
    run.inputs.clear()
    return raw, trial_tables(run, raw, reason="The test")


def subject(number: int) -> str:
    return f"SAF01-{number:03d}"


def arm(number: int) -> str:
    return ARMS[number % 3]


EVENT: dict[str, Any] = {
    "AETERM": "Headache",
    "AEDECOD": "HEADACHE",
    "AELLTCD": 10019211.0,
    "AESEV": "MODERATE",
    "AESER": "N",
    "AEREL": "NOT RELATED",
    "AEACN": "DOSE NOT CHANGED",
    "AEOUT": "RECOVERED/RESOLVED",
    "AESDTH": "N",
    "AESLIFE": "N",
    "AESHOSP": "N",
    "AESDISAB": "N",
    "AESCONG": "N",
    "AESMIE": "N",
    "AESCAN": "N",
    "AESOD": "N",
    "AEDTC": "2023-03-05",
    "AESTDTC": "2023-03-01",
    "AEENDTC": "2023-03-04",
}


def trial(events: Sequence[Mapping[str, Any]], **replaced: pl.DataFrame) -> TrialTables:
    """The trial with these events; an event names its subject's number and what differs from a mild headache."""
    people = range(1, SUBJECTS + 1)
    dm = pl.DataFrame(
        {
            "STUDYID": "SAF01",
            "USUBJID": [subject(n) for n in people],
            "SITEID": [f"{100 + n % 4}" for n in people],
            "AGE": [float(40 + n) for n in people],
            "AGEU": "YEARS",
            "SEX": ["F" if n % 2 else "M" for n in people],
            "RACE": "WHITE",
            "COUNTRY": "USA",
            "ARM": [arm(n) for n in people],
            "ARMCD": [CODES[arm(n)] for n in people],
            "ACTARM": [arm(n) for n in people],
            "ACTARMCD": [CODES[arm(n)] for n in people],
            "RFSTDTC": "2023-02-01",
            "RFICDTC": "2023-01-20",
            "DTHFL": None,
            "DTHDTC": None,
        },
        schema_overrides={"DTHFL": pl.String, "DTHDTC": pl.String},
    )
    rows = []
    for number, event in enumerate(events, start=1):
        row = {"STUDYID": "SAF01", "DOMAIN": "AE", **EVENT, **event}
        row["USUBJID"] = subject(row.pop("subject"))
        row["AESEQ"] = float(row.get("AESEQ", number))
        rows.append(row)
    columns = ["STUDYID", "DOMAIN", "USUBJID", "AESEQ", *EVENT]
    extra = sorted({k for row in rows for k in row} - set(columns))
    kinds = {c: pl.Float64 if c in ("AESEQ", "AELLTCD") else pl.String for c in [*columns, *extra]}
    # Two rows of exposure for those whose dose went up: the number of rows alone tells the arm.
    ex = pl.DataFrame(
        [
            {
                "STUDYID": "SAF01",
                "DOMAIN": "EX",
                "USUBJID": subject(n),
                "EXSEQ": float(part + 1),
                "EXTRT": "PLACEBO" if arm(n) == "Placebo" else "VERUM",
                "EXDOSE": 0.0 if arm(n) == "Placebo" else 10.0 * (part + 1),
                "EXDOSU": "mg",
                "EXDOSFRM": "TABLET",
                "EXROUTE": "ORAL",
                "EXSTDTC": ("2023-02-01", "2023-02-15")[part],
                "EXENDTC": ("2023-02-14", "2023-04-30")[part] if arm(n) == "Verum High" else "2023-04-30",
            }
            for n in people
            for part in range(2 if arm(n) == "Verum High" else 1)
        ]
    )
    lb = pl.DataFrame(
        {
            "STUDYID": "SAF01",
            "USUBJID": [subject(n) for n in people] * 2,
            "LBSEQ": [1.0] * SUBJECTS + [2.0] * SUBJECTS,
            "LBTESTCD": ["ALT"] * SUBJECTS + ["VERUM"] * SUBJECTS,
            "LBTEST": ["Alanine Aminotransferase"] * SUBJECTS + ["Verum concentration"] * SUBJECTS,
            "LBSTRESN": [90.0] * SUBJECTS + [float(n % 3) for n in people],
            "LBSTRESU": "U/L",
            "LBSTNRLO": 5.0,
            "LBSTNRHI": 40.0,
            "LBNRIND": "HIGH",
            "LBDTC": "2023-03-01T08:00",
        }
    )
    cm = pl.DataFrame(
        {
            "STUDYID": "SAF01",
            "USUBJID": [subject(n) for n in people],
            "CMSEQ": 1.0,
            "CMTRT": "Aspirin",
            "CMDECOD": "ACETYLSALICYLIC ACID",
            "CMINDC": "PAIN",
            "CMDOSE": 100.0,
            "CMDOSU": "mg",
            "CMSTDTC": "2022-01",
            "CMENDTC": None,
        },
        schema_overrides={"CMENDTC": pl.String},
    )
    mh = pl.DataFrame(
        {"STUDYID": "SAF01", "USUBJID": [subject(n) for n in people], "MHSEQ": 1.0, "MHDECOD": "HYPERTENSION"}
    )
    tables = {"DM": dm, "AE": pl.DataFrame(rows, schema=kinds), "EX": ex, "LB": lb, "CM": cm, "MH": mh, **replaced}
    return TrialTables("SAF01", tables, "0" * 64)
