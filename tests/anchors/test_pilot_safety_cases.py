"""The CDISC pilot's adverse events as cases: the deaths flagged not serious, the clock of one of them, the blind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from tests.support.homes import artifact, leave, live_in
from tests.support.safety_trial import deliver
from tests.support.vaults import settle_vault
from trialops.governance.signatures import Signatures
from trialops.intake.sdtm import read_folder
from trialops.regulatory.cut import make_cut
from trialops.safety.blinding import arms_named, blind, leaks
from trialops.safety.case_page import cases_page
from trialops.safety.case_run import Assessed, assess_cases, keep_delivery
from trialops.safety.clock_times import moment
from trialops.safety.events import SafetyEvents, safety_events
from trialops.safety.register import CaseRegister
from trialops.safety.release import look, prepare, settle
from trialops.safety.safety_policy import alert_levels, safety_policy
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.study import bind_study
from trialops.trial.study_file import StudyFile, parse_study
from trialops.trial.tables import TrialTables

WHY = "Anchor test of the case register"
INFARCTION = ("01-710-1083", "E04")


@pytest.fixture(scope="module")
def pilot(anchors: Path) -> TrialTables:
    folder = anchors / "cdiscpilot01" / "sdtm"
    intake = read_folder(folder)
    cut = make_cut(intake.tables, {path.name: path.read_bytes() for path in sorted(folder.glob("*.xpt"))})
    # No case quotes electrocardiograms or visits; they are a third of the rows.
    kept = {name: table for name, table in cut.tables.items() if name not in ("EG", "SV")}
    return TrialTables("CDISCPILOT01", kept, "0" * 64)


@pytest.fixture(scope="module")
def stated() -> StudyFile:
    return parse_study(
        {
            "protocol": {"number": "CDISCPILOT01", "title": "Pilot", "planned_enrolment": 300, "blinded": True},
            "safety": {
                "products": [
                    {"name": "Xanomeline", "role": "investigational", "treatments": ["XANOMELINE"]},
                    {"name": "Placebo", "role": "placebo", "treatments": ["PLACEBO"]},
                ],
                "ind_number": "999999",
                "time_zone": "America/New_York",
                "reference_safety_information": [{"version": "IB", "valid_from": date(2010, 1, 1), "terms": []}],
            },
            "sender": {"organisation": "Sponsor", "address": {"country": "US"}},
        }
    )


@pytest.fixture(scope="module")
def found(pilot: TrialTables, stated: StudyFile) -> SafetyEvents:
    return safety_events(blind(pilot), safety_policy(stated))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    settle_vault(tmp_path)
    live_in(tmp_path, monkeypatch)
    monkeypatch.setenv("TRIALOPS_ROLE", "safety physician")
    settings.cache_clear()
    made = Step("assess", {}, settings())
    bind_study(made.objects, "CDISCPILOT01")
    yield made
    leave()


def delivered(run: Step, pilot: TrialTables) -> TrialTables:
    raw, opened = deliver(run, pilot)
    keep_delivery(run, raw, opened)
    return opened


def assess(run: Step, opened: TrialTables, stated: StudyFile, at: str) -> Assessed:
    now = moment(at)
    return assess_cases(run, opened, stated, safety_policy(stated), now=now, received=now, back=True)


def test_six_events_are_serious_and_three_deaths_were_flagged_not(found: SafetyEvents) -> None:
    events = found.events
    assert (events.height, events["USUBJID"].n_unique()) == (1191, 225)
    serious = events.filter(pl.col("SERIOUS") == "serious")
    assert sorted(zip(serious["USUBJID"], serious["SERIOUS_BASIS"], strict=True)) == [
        ("01-701-1211", "fatal"),
        ("01-704-1445", "fatal"),
        ("01-709-1424", "flag"),
        ("01-710-1083", "fatal"),
        ("01-718-1170", "flag"),
        ("01-718-1371", "flag"),
    ]
    critical = found.queries.filter(pl.col("severity") == "critical")
    assert critical["rule"].to_list() == ["SAF01"] * 3
    assert critical["USUBJID"].to_list() == ["01-701-1211", "01-704-1445", "01-710-1083"]


def test_what_the_sites_must_confirm_is_counted_apart(found: SafetyEvents) -> None:
    doubtful = found.events.filter(pl.col("SERIOUS") == "to confirm")
    assert dict(doubtful["SERIOUS_BASIS"].value_counts().iter_rows()) == {"criterion": 30, "important term": 24}
    asked = dict(found.queries["rule"].value_counts().iter_rows())
    assert asked == {"SAF01": 3, "SAF02": 30, "SAF03": 24}
    # The cancer flag is no criterion of ICH E2A: those that are doubtful are so by another criterion, or by their term.
    cancer = found.events.filter(pl.col("AESCAN") == "Y")
    assert cancer.height == 4 and set(cancer["SERIOUS_BASIS"]) == {"criterion", "important term"}


def test_the_infarction_of_a_blinded_subject_has_a_seven_day_clock_and_needs_a_decision(
    run: Step, pilot: TrialTables, stated: StudyFile
) -> None:
    opened = delivered(run, pilot)
    assessed = assess(run, opened, stated, "2013-08-08T16:00:00Z")
    row = assessed.cases.filter((pl.col("USUBJID") == INFARCTION[0]) & (pl.col("EVENT") == INFARCTION[1]))
    case = row["case"][0]
    (clock,) = assessed.clocks[case]
    # Written down on 3 August 2013, day 0; due at the end of the 10th in New York.
    assert (clock.kind, clock.day_0, clock.due_day) == ("grave", date(2013, 8, 3), date(2013, 8, 10))
    assert clock.due == moment("2013-08-11T03:59:59.999999Z") and clock.state == "open"
    assert clock.alert(assessed.now, alert_levels()) == "50 %" and clock.used(assessed.now) == pytest.approx(5.5 / 8)
    ruling = assessed.rulings[case]["FDA"]
    assert (ruling["rule"], ruling["citation"]) == ("SUSAR 7-day", "21 CFR 312.32(c)(2)")
    assert ruling["unblind"], "a decision is needed: what the subject had is not known to those who look"
    # The safety physician decides: the subject had placebo, the clock ends, and nobody else is told why.
    register = CaseRegister(run.engine, "CDISCPILOT01")
    signatures = Signatures(run.engine, run.vault, cost=2**4)
    signatures.enrol("doc", "Dr Doc", "a long passphrase 1", actor="tester")
    prepared = prepare(run, register, stated, case, purpose=WHY)
    assert prepared.rulings["FDA"].reason == "the subject had placebo"
    signed = signatures.sign(user="doc", passphrase="a long passphrase 1", meaning="approved", kind="safety case",
                             record=prepared.record, digest=prepared.digest)  # fmt: skip
    assert settle(run, register, prepared, signature=signed.id, reason="Decided")["FDA"].action == "decided"
    after = assess(run, opened, stated, "2100-01-01T00:00:00Z")
    assert [c.state for c in after.clocks[case]] == ["void"]


def test_fifty_cases_and_no_arm_in_what_a_blinded_role_reads(run: Step, pilot: TrialTables, stated: StudyFile) -> None:
    opened = delivered(run, pilot)
    assessed = assess(run, opened, stated, "2015-06-01T00:00:00Z")
    assert len(assessed.clocks) == 50 and assessed.cases["USUBJID"].n_unique() == 38
    decided = [rulings["FDA"]["rule"] for rulings in assessed.rulings.values()]
    assert {rule: decided.count(rule) for rule in set(decided)} == {
        "SUSAR 7-day": 2,
        "SUSAR 15-day": 1,
        "SAE not expedited": 28,
        "undecided: treated as expedited until seriousness is confirmed": 19,
    }
    assert sum(assess(run, opened, stated, "2015-06-02T00:00:00Z").added.values()) == 0
    report = artifact(Path(run.settings.home), "report")
    run.show(report, cases_page(assessed, safety_policy(stated), alert_levels()))
    register = CaseRegister(run.engine, "CDISCPILOT01")
    contents = [look(run, register, case, purpose=WHY)[1] for case in list(assessed.clocks)[:10]]
    with run.engine.connect() as connection:
        rows = {
            table: [list(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]
            for table in ("audit_events", "safety_cases", "safety_case_versions", "quality_queries")
        }
    written = {"page": Path(report.path), "cases": contents, "table": assessed.cases, "rows": rows}
    assert arms_named(pilot) == (
        "PLACEBO", "Pbo", "Placebo", "XANOMELINE", "Xan_Hi", "Xan_Lo", "Xanomeline High Dose", "Xanomeline Low Dose",
    )  # fmt: skip
    assert leaks(written, pilot) == [] and leaks(blind(pilot).tables, pilot) == []
    assert len(leaks(pilot.tables, pilot)) > 20, "the same scan finds the arms in the delivery"
    text = Path(report.path).read_text()
    assert not any(subject in text for subject in pilot.table("DM")["USUBJID"])
