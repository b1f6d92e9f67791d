"""The CDISC Pilot 01 trial: read whole, known by its published numbers, de-identified, through the gate."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path

import polars as pl
import pytest

from trialops.intake.facts import trial_facts
from trialops.intake.sdtm import Intake, read_folder
from trialops.privacy.deidentify import HIPAAComplianceOperator
from trialops.privacy.report import Deidentified
from trialops.quality.engine import ClinicalDataValidatorOperator, QualityReport


class Keys:
    """A vault with fixed keys."""

    def pseudonyms(self, kind: str, values: list[str]) -> list[str]:
        return [hmac.new(b"key", f"{kind}\0{v}".encode(), hashlib.sha256).hexdigest()[:16] for v in values]

    def offset_days(self, subject: str) -> int:
        return 1 + hmac.new(b"days", subject.encode(), hashlib.sha256).digest()[0]


@pytest.fixture(scope="module")
def intake(anchors: Path) -> Intake:
    return read_folder(anchors / "cdiscpilot01" / "sdtm")


@pytest.fixture(scope="module")
def clean(intake: Intake) -> Deidentified:
    return HIPAAComplianceOperator().run(intake.tables, "strict", Keys())


@pytest.fixture(scope="module")
def report(clean: Deidentified) -> QualityReport:
    return ClinicalDataValidatorOperator().run(clean.tables)


def test_every_row_loads(intake: Intake) -> None:
    rows = {domain: table.height for domain, table in intake.tables.items()}
    assert (rows["DM"], rows["AE"], rows["LB"]) == (306, 1191, 59580)
    assert rows == {
        "AE": 1191,
        "CM": 7510,
        "DM": 306,
        "DS": 850,
        "EG": 26717,
        "EX": 591,
        "LB": 59580,
        "MH": 1818,
        "SV": 3559,
        "VS": 29643,
    }
    assert intake.quarantine.is_empty()
    ignored = intake.dispositions.filter(pl.col("ignored") > 0)
    assert dict(ignored.select("file", "ignored").iter_rows()) == {
        "suppae.xpt": 1191,
        "suppdm.xpt": 1197,
        "suppds.xpt": 3,
    }
    total = intake.dispositions.select(pl.col("read", "loaded", "quarantined", "ignored").sum()).row(0)
    assert total[0] == sum(total[1:])
    assert intake.study == "CDISCPILOT01"


def test_character_columns_that_are_all_missing_are_text(intake: Intake) -> None:
    assert intake.tables["AE"].schema["AEACN"] == pl.String
    assert intake.tables["DM"].schema["RFICDTC"] == pl.String
    assert intake.tables["AE"].schema["AEPTCD"] == pl.Float64


@pytest.mark.parametrize("which", ["raw", "clean"])
def test_trial_facts(intake: Intake, clean: Deidentified, which: str) -> None:
    facts = trial_facts(intake.tables if which == "raw" else clean.tables)
    assert (facts["subjects"], facts["randomised"], facts["screen_failures"]) == (306, 254, 52)
    assert facts["sites"] == 17
    assert facts["arms"] == {"Placebo": 86, "Xanomeline High Dose": 84, "Xanomeline Low Dose": 84}
    assert (facts["completed"], facts["discontinued"]) == (110, 144)
    assert facts["reasons"]["ADVERSE EVENT"] == 92
    assert sum(facts["reasons"].values()) == 144


def test_strict_tables_hold_no_identifier_and_no_date(intake: Intake, clean: Deidentified) -> None:
    raw = {s for t in intake.tables.values() for s in t["USUBJID"].unique()}
    date = re.compile(r"(?:19|20)\d\d-\d\d")
    for table in clean.tables.values():
        assert not any(kind.is_temporal() for kind in table.schema.values())
        assert not any(c.endswith("DTC") for c in table.columns)
        for column in table.select(pl.col(pl.String)).iter_columns():
            texts = set(column.unique().drop_nulls())
            assert not texts & raw
            assert not any(date.search(text) for text in texts)
    assert clean.report.unlisted_columns == []
    assert clean.quarantine.is_empty()
    assert {"AETERM", "AESPID"} & set(clean.tables["AE"].columns) == set()


def test_days_agree_with_the_source(clean: Deidentified) -> None:
    """The sponsor's own days are reproduced, but for one event and for EG: its EGDY is the planned day."""
    assert clean.report.day_disagreements == {"AESTDTC": 1, "EGDTC": 21183}
    assert clean.report.subjects_without_reference == 0
    day_one = {"RFSTDTC": 254, "RFXSTDTC": 0, "EXSTDTC": 0, "first contact": 52, "none": 0, "first contact, treated": 0}
    assert clean.report.day_one == day_one and clean.report.day_one_outside == 0


def test_nothing_is_withheld_and_every_row_is_known_from_first_contact_on(clean: Deidentified) -> None:
    report = clean.report
    assert (report.withheld, report.days_over_age, report.capped_ages, report.ages_without_unit) == ({}, {}, 0, 0)
    assert (report.absent_columns, report.renumbered) == ([], [])
    assert report.scanned["identifiers"] > 5_000  # 306 subjects, 17 sites, and every date in three forms
    contact = pl.concat(
        clean.tables[d].select("USUBJID", day=c) for d, c in (("SV", "SVSTDY"), ("DM", "DMDY"), ("LB", "LBDY"))
    )
    first = contact.group_by("USUBJID").agg(pl.col("day").min())
    for domain, table in clean.tables.items():
        assert table["KNOWNDY"].null_count() == 0, domain
        assert (table.join(first, on="USUBJID").select((pl.col("KNOWNDY") < pl.col("day")).sum()).item()) == 0, domain


def test_no_column_tells_the_order_of_the_delivery(intake: Intake, clean: Deidentified) -> None:
    """Neither the order of a clean table nor any whole number in it ranks the subjects as their identifiers do."""
    raw = intake.tables["DM"]["USUBJID"].sort()
    rank = pl.DataFrame({"USUBJID": Keys().pseudonyms("subject", raw.to_list()), "_raw": range(raw.len())})
    for domain, table in clean.tables.items():
        assert table["_SOURCE"].unique().to_list() == [f"delivery 1/{domain}"] and "_ROW" not in table.columns
        frame = table.with_columns(_place=pl.int_range(pl.len())).join(rank, on="USUBJID")
        numbers = [c for c, kind in frame.schema.items() if kind.is_integer() and c != "_raw"]
        first = frame.group_by("USUBJID").agg(pl.col("_raw").first(), *(pl.col(c).min() for c in numbers))
        for column in numbers:
            known = first.drop_nulls(column)
            if known.height >= 20 and known[column].n_unique() > 1:
                assert abs(known.select(pl.corr("_raw", column, method="spearman")).item()) < 0.3, (domain, column)


def test_limited_shifts_and_says_so(intake: Intake) -> None:
    limited = HIPAAComplianceOperator().run(intake.tables, "limited", Keys())
    assert "not Safe Harbor" in limited.report.label
    lengths = pl.col("CMSTDTC").str.len_chars()
    before, after = (t.select(lengths.alias("n"))["n"] for t in (intake.tables["CM"], limited.tables["CM"]))
    assert before.value_counts().sort("n").equals(after.value_counts().sort("n"))
    assert not limited.tables["LB"]["LBDTC"].sort().equals(intake.tables["LB"]["LBDTC"].sort())


def test_gate_passes_with_its_findings(report: QualityReport) -> None:
    assert report.passed, report.explanation
    assert report.score == pytest.approx(100 * 306 / 317)
    failed = set(report.results.filter(pl.col("status") == "fail")["rule"])
    assert failed == {"AE-FATAL-SERIOUS", "AE-CRITERIA-SERIOUS", "AE-ACTION-GIVEN", "AE-END-KNOWN", "SV-AFTER-DEATH"}
    assert report.results.filter(pl.col("status") == "error").is_empty()
    assert json.dumps(report.decision())


def test_fatal_events_not_marked_serious_are_critical_queries(intake: Intake, report: QualityReport) -> None:
    critical = report.queries.filter(pl.col("priority") == "critical")
    assert critical.height == 3
    assert set(critical["rule"]) == {"AE-FATAL-SERIOUS"}
    # Whoever holds the key finds the rows in the delivery: pseudonym and record key lead there.
    named = Keys().pseudonyms("subject", intake.tables["AE"]["USUBJID"].to_list())
    record = pl.lit("AESEQ ") + pl.col("AESEQ").cast(pl.Int64).cast(pl.String)
    raw = intake.tables["AE"].select("AEDECOD", USUBJID=pl.Series(named), record=record)
    rows = critical.join(raw, on=["USUBJID", "record"])
    assert sorted(rows["AEDECOD"]) == ["COMPLETED SUICIDE", "MYOCARDIAL INFARCTION", "SUDDEN DEATH"]
    assert set(critical["delivery"]) == {1}


def test_defects_lower_the_score(clean: Deidentified, report: QualityReport) -> None:
    tables = dict(clean.tables)
    tables["AE"] = tables["AE"].with_columns(AESEV=pl.lit("TERRIBLE"), AEENDY=pl.col("AESTDY") - 1)
    tables["LB"] = tables["LB"].with_columns(LBSTRESN=pl.col("LBSTRESN") * 100)
    worse = ClinicalDataValidatorOperator().run(tables)
    assert worse.score < report.score - 3
    assert not worse.passed
    failed = set(worse.results.filter(pl.col("status") == "fail")["rule"])
    assert {"AE-SEV", "AE-DAYS", "LB-RANGE"} <= failed
    twice = dict(clean.tables) | {"DM": pl.concat([clean.tables["DM"], clean.tables["DM"].head(1)])}
    assert ClinicalDataValidatorOperator().run(twice).score <= 94.9
