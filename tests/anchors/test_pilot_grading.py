"""The CDISC pilot, graded: populations, both rules of treatment-emergence, grades in both unit systems, findings."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from trialops.intake.sdtm import read_folder
from trialops.regulatory.cut import make_cut
from trialops.safety.ctcae import NOT_BLOOD
from trialops.safety.detection import REPORTED, detect
from trialops.safety.ecg import DISAGREE, FROM_RR, fridericia, qtc_results
from trialops.safety.graded import graded_results
from trialops.safety.grading_policy import grading_policy
from trialops.safety.hys_law import CHOLESTATIC, HYS, liver_safety
from trialops.safety.results import results
from trialops.safety.shift import shifts
from trialops.safety.teae import BEFORE, ON, WINDOW, WORSENED, compare_rules, treatment_emergent
from trialops.trial.populations import populations
from trialops.trial.tables import TrialTables

POLICY = grading_policy()


@pytest.fixture(scope="module")
def pilot(anchors: Path) -> TrialTables:
    folder = anchors / "cdiscpilot01" / "sdtm"
    files = {p.name: p.read_bytes() for p in folder.glob("*.xpt") if p.stem in ("suppae", "suppdm")}
    intake = read_folder(folder)
    return TrialTables(intake.study, make_cut(intake.tables, files).tables, "")


@pytest.fixture(scope="module")
def graded(pilot: TrialTables) -> pl.DataFrame:
    return graded_results(pilot, POLICY)


def test_populations_are_those_the_sponsor_flagged(pilot: TrialTables) -> None:
    found = populations(pilot)
    assert found.select(pl.col(pl.Boolean).sum()).rows() == [(254, 254, 52)]
    flagged = pilot.table("SUPPDM").filter((pl.col("QNAM") == "SAFETY") & (pl.col("QVAL") == "Y"))["USUBJID"]
    assert set(found.filter("treated")["USUBJID"]) == set(flagged) and len(set(flagged)) == 254
    # Six subjects have an exposure without an end; every other first and last dose is what DM says.
    assert found.filter(pl.col("treated") & pl.col("last_dose").is_null()).height == 6
    dm = pilot.table("DM").join(found, on="USUBJID").filter("treated")
    assert (dm["first_dose"].cast(pl.String) == dm["RFXSTDTC"].str.slice(0, 10)).all()
    ended = dm.filter(pl.col("last_dose").is_not_null())
    assert (ended["last_dose"].cast(pl.String) == ended["RFXENDTC"].str.slice(0, 10)).all()


def test_both_rules_of_emergence_and_the_difference(pilot: TrialTables) -> None:
    assert pilot.table("AE").height == 1191 and pilot.table("AE")["USUBJID"].n_unique() == 225
    assert treatment_emergent(pilot, "sponsor")["TEAE"].sum() == 1127
    assert treatment_emergent(pilot, "reported")["TEAE"].sum() == 1126
    table = compare_rules(pilot)
    assert table.select("basis", "sponsor", "reported", "rows", "subjects", "differs").rows() == [
        (BEFORE, False, False, 64, 36, False),
        (WINDOW, True, True, 35, 24, False),
        (ON, True, True, 1091, 215, False),
        # Hypertension from before the first dose, mild until then, moderate under treatment: the flag looks at the
        # onset alone.
        (WORSENED, True, False, 1, 1, True),
    ]
    one = treatment_emergent(pilot).filter(pl.col("TEAE_BASIS") == WORSENED).row(0)
    event = pilot.table("AE").filter((pl.col("USUBJID") == one[0]) & (pl.col("AESEQ") == one[1])).row(0, named=True)
    assert (event["AEDECOD"], event["AESEV"]) == ("HYPERTENSION", "MODERATE")


def test_grade_1_is_what_the_laboratory_called_out_of_range(pilot: TrialTables, graded: pl.DataFrame) -> None:
    """The flags came with the data: for criteria that start at a limit of normal both must agree row by row."""
    lb = pilot.table("LB").select("USUBJID", "LBNRIND", SEQ=pl.col("LBSEQ"))
    sides = {
        "Anemia": "LOW",
        "Cholesterol high": "HIGH",
        "CPK increased": "HIGH",
        "Hyperkalemia": "HIGH",
        "Hypernatremia": "HIGH",
        "Hyperuricemia": "HIGH",
        "Hypokalemia": "LOW",
        "Hyponatremia": "LOW",
        "Platelet count decreased": "LOW",
        "White blood cell decreased": "LOW",
        "Hypoglycemia": "LOW",
        "Hypoalbuminemia": "LOW",
    }
    rows = graded.filter((pl.col("DOMAIN") == "LB") & pl.col("TERM").is_in(list(sides))).join(lb, on=["USUBJID", "SEQ"])
    side = pl.col("TERM").replace_strict(sides)
    beyond = rows.with_columns(side=side, out=pl.col("GRADE") > 0).filter(pl.col("LBNRIND").is_not_null())
    # An absolute limit may reach into the range of a laboratory: then the grade is above 1.
    wrong = beyond.filter((pl.col("out") != (pl.col("LBNRIND") == pl.col("side"))) & ~(pl.col("GRADE") > 1))
    assert rows.height > 20_000 and wrong.height == 0


def test_the_system_a_result_was_collected_in_rules_and_why(pilot: TrialTables) -> None:
    """LB holds the original (conventional) and the standard (SI) result: graded as collected, and from SI alone."""
    lb = pilot.table("LB")
    si = lb.with_columns(pl.lit(None, pl.String).alias(c) for c in ("LBORRES", "LBORRESU", "LBORNRLO", "LBORNRHI"))
    other = TrialTables(pilot.study, {**pilot.tables, "LB": si}, "")
    key = ["USUBJID", "SEQ", "TERM"]
    both = (
        graded_results(pilot, POLICY)
        .filter(pl.col("DOMAIN") == "LB")
        .join(graded_results(other, POLICY).filter(pl.col("DOMAIN") == "LB"), on=key, suffix="_SI", nulls_equal=True)
    )
    assert both.filter(pl.col("COMPARED_UNIT") != pl.col("COMPARED_UNIT_SI")).height > 15_000
    graded_both = both.filter(pl.col("GRADE").is_not_null() & pl.col("GRADE_SI").is_not_null())
    differing = graded_both.filter(pl.col("GRADE") != pl.col("GRADE_SI"))
    assert graded_both.height > 43_000
    # 52 results lie on a limit of normal. Converted limits were rounded on their way (12.5 g/dL to 7.76 mmol/L, the
    # result itself to 7.7575), and cholesterol of 300 mg/dL is 7.758 mmol/L, beyond a printed 7.75. The laboratory says
    # normal to all of them, and so does the grade as collected.
    assert dict(differing["TERM"].value_counts().iter_rows()) == {
        "Creatinine increased": 29,
        "Anemia": 13,
        "Hyperuricemia": 5,
        "Hypocalcemia": 4,
        "Cholesterol high": 1,
    }
    said = differing.join(lb.select("USUBJID", "LBNRIND", SEQ=pl.col("LBSEQ")), on=["USUBJID", "SEQ"])
    assert set(said["LBNRIND"]) == {"NORMAL"} and set(said["GRADE"]) == {0}


def test_urine_is_not_graded_as_blood(graded: pl.DataFrame) -> None:
    ph = graded.filter(pl.col("TERM").is_in(["Acidosis", "Alkalosis"]))
    assert ph.height == 1748 and ph["GRADE"].null_count() == 1748 and set(ph["REASON"]) == {NOT_BLOOD}


def test_qtcf_of_the_pilot_and_the_recordings_that_contradict_themselves(pilot: TrialTables) -> None:
    found = qtc_results(pilot, POLICY)
    assert found.height == 8208
    assert dict(found["REMARK"].value_counts().iter_rows()) == {DISAGREE: 8027, FROM_RR: 181}
    # Computed a second way from the rows as delivered.
    eg = pilot.table("EG").filter(pl.col("EGTESTCD").is_in(["QT", "RR"]))
    key = ["USUBJID", "EGDTC", "EGTPTNUM"]
    wide = eg.group_by(key).agg(
        qt=pl.col("EGSTRESN").filter(pl.col("EGTESTCD") == "QT").first(),
        rr=pl.col("EGSTRESN").filter(pl.col("EGTESTCD") == "RR").first(),
    )
    values = wide.with_columns(
        SERIES=pl.col("EGTPTNUM").cast(pl.String), again=(pl.col("qt") / (pl.col("rr") / 1000) ** (1 / 3)).round(0)
    )
    joined = found.filter(pl.col("VALUE").is_not_null()).join(
        values.rename({"EGDTC": "DTC"}), on=["USUBJID", "DTC", "SERIES"]
    )
    assert joined.height == 181 and (joined["VALUE"] == joined["again"]).all()
    assert wide.select(fridericia(pl.col("qt"), pl.col("rr")).is_null().sum()).item() < 20


def test_findings_shifts_and_liver_of_the_pilot(pilot: TrialTables, graded: pl.DataFrame) -> None:
    found = detect(graded, pilot, POLICY)
    laboratory = found.findings.filter(pl.col("DOMAIN") == "LB")
    severe = laboratory.filter((pl.col("GRADE_ALONE") >= 3) & (pl.col("STATUS") != REPORTED))
    asked = found.queries.filter((pl.col("rule") == "GRD01") & (pl.col("domain") == "LB"))
    assert asked.height == severe.height == 5
    named = found.findings.filter(pl.col("STATUS") == REPORTED).select("TERM", "AETERM").unique().rows()
    assert ("Blood bilirubin increased", "HYPERBILIRUBINAEMIA") in named
    assert ("CPK increased", "BLOOD CREATINE PHOSPHOKINASE INCREASED") in named
    assert found.queries.filter(pl.col("rule") == "GRD03").height == 254
    anemia = shifts(graded).filter(pl.col("TERM") == "Anemia")
    assert anemia.select("BASE", "WORST", "SUBJECTS").rows() == [
        ("0", "0", 217),
        ("0", "1", 19),
        ("0", "2", 1),
        ("1", "0", 1),
        ("1", "1", 9),
    ]
    liver = liver_safety(results(pilot, "LB", POLICY), POLICY)
    assert liver.peaks.height == 247 and liver.peaks.filter(pl.col("QUADRANT") == HYS).height == 1
    # One subject has both criteria, with an alkaline phosphatase of 5.8 x ULN: cholestatic, no candidate.
    assert liver.cases["CLASS"].to_list() == [CHOLESTATIC] and liver.queries.height == 0
    assert liver.cases.select(pl.col("AT", "BILI", "ALP").round(2)).rows() == [(3.97, 6.08, 5.84)]
