"""A small raw trial for the tests of de-identification, and a vault with fixed keys."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from typing import Any

import polars as pl

from trialops.privacy.deidentify import HIPAAComplianceOperator
from trialops.privacy.report import Deidentified

SUBJECTS = ["01-701-1015", "01-701-1023", "01-702-0007", "01-702-0009"]


class Keys:
    """A vault with fixed keys."""

    def pseudonyms(self, kind: str, values: list[str]) -> list[str]:
        return [hmac.new(b"key", f"{kind}\0{v}".encode(), hashlib.sha256).hexdigest()[:16] for v in values]

    def offset_days(self, subject: str) -> int:
        return 1 + hmac.new(b"days", subject.encode(), hashlib.sha256).digest()[0]


def table(domain: str, rows: list[dict[str, Any]], received: dt.date | None = None) -> pl.DataFrame:
    stem = "" if received is None else f"corrections/{received}/"
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.lit(f"{stem}{domain.lower()}.xpt").alias("_SOURCE"),
        pl.int_range(1, len(rows) + 1, dtype=pl.Int64).alias("_ROW"),
        pl.lit(received, pl.Date).alias("_RECEIVED"),
    )


def trial() -> dict[str, pl.DataFrame]:
    common = {"STUDYID": "T1", "DOMAIN": "DM", "SEX": "F", "COUNTRY": "USA", "AGEU": "YEARS"}
    dm = [
        {"USUBJID": SUBJECTS[0], "RFSTDTC": "2014-01-02", "DMDTC": "2013-12-26", "AGE": 63.0},
        {"USUBJID": SUBJECTS[1], "RFSTDTC": "2014-02-28", "DMDTC": "2014-02-20", "AGE": 92.0},
        {"USUBJID": SUBJECTS[2], "RFSTDTC": None, "DMDTC": "2014-03-05", "AGE": 89.0},
        {"USUBJID": SUBJECTS[3], "RFSTDTC": "2014-05", "DMDTC": "2014", "AGE": 1100.0, "AGEU": "MONTHS"},
    ]
    for i, row in enumerate(dm):
        number = SUBJECTS[i][-4:]
        row |= {"SUBJID": number, "SITEID": SUBJECTS[i][3:6], "BRTHDTC": "1950-12-26", "INVNAM": "Dr Who"}
    ae = [
        {"USUBJID": SUBJECTS[0], "AESTDTC": "2014-01-01", "AEENDTC": "2014-01-02", "AEDTC": "2014-01-16"},
        {"USUBJID": SUBJECTS[0], "AESTDTC": "2014-01-20", "AEENDTC": None, "AEDTC": "2014-01-16"},
        {"USUBJID": SUBJECTS[1], "AESTDTC": "2014-03", "AEENDTC": "2015", "AEDTC": "2014-03"},
        {"USUBJID": SUBJECTS[2], "AESTDTC": "2014-03-01", "AEENDTC": "2014-03-06", "AEDTC": None},
    ]
    for i, row in enumerate(ae):
        row |= {"STUDYID": "T1", "AESEQ": float(i + 1), "AETERM": "fell at home in Springfield"}
        row |= {"AEDECOD": "FALL", "AESPID": "E07", "AESTDY": 99.0, "AESECRET": "kept by nobody"}
    sv = [{"STUDYID": "T1", "USUBJID": SUBJECTS[2], "VISITNUM": 1.0, "SVSTDTC": "2014-03-03", "VISITDY": -7.0}]
    return {"DM": table("DM", [common | r for r in dm]), "AE": table("AE", ae), "SV": table("SV", sv)}


def run(mode: str = "strict", tables: dict[str, pl.DataFrame] | None = None, **options: Any) -> Deidentified:
    return HIPAAComplianceOperator().run(tables or trial(), mode, Keys(), synthetic=mode == "off", **options)


def by_subject(result: Deidentified, domain: str, subject: str) -> dict[str, list[Any]]:
    """Rows of a raw subject, in sequence."""
    name = Keys().pseudonyms("subject", [subject])[0]
    return result.tables[domain].filter(pl.col("USUBJID") == name).to_dict(as_series=False)
