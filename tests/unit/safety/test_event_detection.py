"""Events the results show: findings, what was reported, questions, shifts, liver, the page and the step."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest

from tests.support.graded_trial import alt, lab, trial
from trialops.errors import TrialOpsError
from trialops.safety.criteria import VERSIONS, criteria
from trialops.safety.detection import NEW, NOT_REPORTED, REPORTED, UNKNOWN, WORSENED, Detection, detect, reported_terms
from trialops.safety.graded import graded_results
from trialops.safety.grading import RULES, Grading, cut_day, grade_trial
from trialops.safety.grading_page import counts, grading_page
from trialops.safety.grading_policy import grading_policy
from trialops.safety.hys_law import CANDIDATE, CHOLESTASIS, CHOLESTATIC, HYS, NO_ALP, TEMPLES, liver_safety
from trialops.safety.results import FOLLOW_UP, ON, results
from trialops.safety.safety_policy import safety_policy
from trialops.safety.shift import NOT_GRADED, shifts, worsened
from trialops.trial.study_file import study_file
from trialops.trial.tables import TrialTables

POLICY = grading_policy()
ALT = "Alanine aminotransferase increased"


def found(made: TrialTables, **change: Any) -> Detection:
    policy = replace(POLICY, **change)
    return detect(graded_results(made, policy), made, policy)


def event(term: str, start: Any, end: Any = None, **more: Any) -> dict[str, Any]:
    return {"DECOD": term, "TERM": term.lower(), "STDTC": start, "ENDTC": end} | more


BASE = alt(30, "2014-01-02")


def test_a_run_of_worse_results_is_one_finding_and_a_better_one_ends_it() -> None:
    days = ("2014-02-01", "2014-02-08", "2014-02-15", "2014-03-01", "2014-03-08")
    rows = [BASE, *(alt(v, d) for v, d in zip((50, 300, 130, 35, 125), days, strict=True))]
    findings = found(trial(LB=rows)).findings
    columns = ("FIRST_DAY", "LAST_DAY", "WORST_DAY", "RESULTS", "TIMES", "GRADE", "BASE_GRADE", "KIND", "SEQ")
    shown = [
        tuple(str(v) if "DAY" in c else v for c, v in zip(columns, row, strict=True))
        for row in findings.select(columns).rows()
    ]
    assert shown == [
        ("2014-02-01", "2014-02-15", "2014-02-08", 3, 1, 3, 0, NEW, 3.0),
        ("2014-03-08", "2014-03-08", "2014-03-08", 1, 0, 2, 0, NEW, 6.0),
    ]


def test_only_what_is_worse_than_the_baseline_is_a_finding() -> None:
    rows = [alt(60, "2014-01-02"), alt(90, "2014-02-01"), alt(170, "2014-03-01")]
    # Version 5 looks at multiples of an abnormal baseline: 90 is 1.5 times 60, grade 1 as before; 170 is not above 3.
    assert found(trial(LB=rows)).findings.height == 0
    worse = found(trial(LB=[*rows, alt(190, "2014-04-01")])).findings
    assert worse.select("KIND", "GRADE", "BASE_GRADE").rows() == [(WORSENED, 2, 1)]
    v4 = found(trial(LB=rows), ctcae="4.03").findings
    assert v4.select("GRADE", "BASE_GRADE").rows() == [(2, 1)]


def test_a_result_without_a_baseline_is_a_finding_that_says_so() -> None:
    findings = found(trial(LB=[alt(300, "2014-02-01")])).findings
    assert findings.select("KIND", "GRADE", "BASE_GRADE").rows() == [(UNKNOWN, 3, None)]


def test_both_directions_of_one_analyte() -> None:
    row = {"ORRESU": "mmol/L", "ORNRLO": 3.5, "ORNRHI": 5.0}
    rows = [lab("K", v, d, **row) for v, d in ((4, "2014-01-02"), (7.1, "2014-02-01"), (2.4, "2014-03-01"))]
    findings = found(trial(LB=rows)).findings
    assert findings.select("TERM", "DIRECTION", "GRADE").rows() == [
        ("Hyperkalemia", "high", 4),
        ("Hypokalemia", "low", 4),
    ]


@pytest.mark.parametrize(
    ("term", "start", "end", "status"),
    [
        ("ALANINE AMINOTRANSFERASE INCREASED", "2014-02-05", None, REPORTED),
        ("Hepatic enzyme increased", "2014-02-01", "2014-02-02", REPORTED),
        ("ALANINE AMINOTRANSFERASE INCREASED", "2014-01-01", "2014-01-17", NOT_REPORTED),
        ("ALANINE AMINOTRANSFERASE INCREASED", "2014-01-01", "2014-01-18", REPORTED),
        ("ALANINE AMINOTRANSFERASE INCREASED", "2014-03-03", None, REPORTED),
        ("ALANINE AMINOTRANSFERASE INCREASED", "2014-03-04", None, NOT_REPORTED),
        ("ALANINE AMINOTRANSFERASE INCREASED", "2014", None, REPORTED),
        ("ALANINE AMINOTRANSFERASE INCREASED", None, None, REPORTED),
        ("HEADACHE", "2014-02-01", None, NOT_REPORTED),
    ],
)
def test_a_finding_is_reported_by_an_event_near_it(term: str, start: Any, end: Any, status: str) -> None:
    made = trial(LB=[BASE, alt(300, "2014-02-01")], AE=[event(term, start, end)])
    result = found(made)
    assert result.findings["STATUS"].to_list() == [status]
    assert (result.queries.height == 0) == (status == REPORTED)
    other = trial(LB=[BASE, alt(300, "2014-02-01")], AE=[event(term, start, end, USUBJID="b")])
    assert found(other).findings["STATUS"].to_list() == [NOT_REPORTED]


def test_british_spelling_and_the_reported_term_match_too_and_the_nearest_is_named() -> None:
    row = {"ORRESU": "g/dL", "ORNRLO": 12, "ORNRHI": 16}
    rows = [lab("HGB", v, d, **row) for v, d in ((13, "2014-01-02"), (7.9, "2014-02-01"))]
    events = [
        event("ANAEMIA", "2013-01-01"),
        event("Haemoglobin decreased", "2014-02-02"),
        event("OTHER", "2014-02-01"),
    ]
    findings = found(trial(LB=rows, AE=events)).findings
    assert findings.select("STATUS", "AESEQ", "AETERM").rows() == [(REPORTED, 2.0, "haemoglobin decreased")]


def test_a_question_is_asked_from_the_declared_grade_by_the_declared_reading() -> None:
    row = {"ORRESU": "mg/dL", "ORNRLO": 3, "ORNRHI": 7}
    urate = trial(LB=[lab("URATE", v, d, **row) for v, d in ((5, "2014-01-02"), (9, "2014-02-01"))])
    assert found(urate).findings.select("GRADE", "GRADE_ALONE").rows() == [(3, 1)]
    assert found(urate).queries.height == 0
    assert found(urate, query_alone=False).queries.height == 1
    moderate = trial(LB=[BASE, alt(150, "2014-02-01")])
    assert found(moderate).queries.height == 0 and found(moderate, query_from_grade=2).queries.height == 1
    severe = found(trial(LB=[BASE, alt(900, "2014-02-01")])).queries
    assert severe["severity"].to_list() == ["critical"]
    assert "grade 4 on 2014-02-01 (grade 0 at baseline" in severe["text"][0]


def test_one_high_blood_pressure_is_not_asked_about_and_two_are() -> None:
    pressure = [
        {"TESTCD": "SYSBP", "ORRES": v, "ORRESU": "mmHg", "DTC": d}
        for v, d in ((118, "2014-01-02"), (165, "2014-02-01"), (150, "2014-02-08"), (171, "2014-02-15"))
    ]
    assert found(trial(VS=pressure[:3])).queries.height == 0
    asked = found(trial(VS=pressure)).queries
    # Known by the first result of that grade: it is the same question when a worse one follows.
    assert asked.select("domain", "sequence").rows() == [("VS", 2.0)]


def test_every_gradable_term_can_be_matched() -> None:
    terms = {c.term for v in VERSIONS for d in ("LB", "VS", "EG") for c in criteria(v, d).items}
    assert terms == set(reported_terms())


def test_shifts_count_subjects_by_baseline_and_worst_grade() -> None:
    rows = [
        *(alt(v, d, USUBJID="a") for v, d in ((30, "2014-01-02"), (130, "2014-02-01"), (50, "2014-03-01"))),
        *(alt(v, d, USUBJID="b") for v, d in ((60, "2014-01-02"), (60, "2014-02-01"), (900, "2014-09-01"))),
        *(alt(v, d, USUBJID="c") for v, d in ((300, "2014-02-01"),)),
        *(alt(v, d, USUBJID="d") for v, d in ((30, "2014-01-02"),)),
    ]
    graded = graded_results(trial(LB=rows), POLICY)
    cells = shifts(graded, periods=(ON, FOLLOW_UP))
    assert cells.select("PERIOD", "BASE", "WORST", "SUBJECTS").rows() == [
        (FOLLOW_UP, "1", "3", 1),
        (ON, "0", "2", 1),
        (ON, "1", "0", 1),
        (ON, NOT_GRADED, NOT_GRADED, 1),
    ]
    assert worsened(cells).select("PERIOD", "SUBJECTS", "WORSE", "SEVERE", "NOT_GRADED").rows() == [
        (FOLLOW_UP, 1, 1, 1, 0),
        (ON, 3, 1, 0, 1),
    ]
    arms = pl.DataFrame({"USUBJID": ["a", "b"], "GROUP": ["X", "Y"]})
    assert shifts(graded, groups=arms)["GROUP"].to_list() == ["X", "Y"]
    assert set(cells["GROUP"]) == {"all"}
    with pytest.raises(ValueError, match="period"):
        shifts(graded, periods=("some time",))


def liver(*rows: tuple[str, float, str]) -> Any:
    """Liver tests as multiples of their upper limit (ALT 40, AST 40, BILI 1.2, ALP 100)."""
    limits = {"ALT": 40.0, "AST": 40.0, "BILI": 1.2, "ALP": 100.0}
    made = [lab(t, round(x * limits[t], 6), d, ORRESU="U/L", ORNRHI=limits[t]) for t, x, d in rows]
    base = [lab(t, limits[t] / 2, "2014-01-02", ORRESU="U/L", ORNRHI=limits[t]) for t in limits]
    return liver_safety(results(trial(LB=base + made), "LB", POLICY), POLICY)


@pytest.mark.parametrize(
    ("rows", "quadrant", "classes"),
    [
        ([("ALT", 3.0, "2014-02-01"), ("BILI", 2.1, "2014-02-01"), ("ALP", 1.9, "2014-02-01")], HYS, [CANDIDATE]),
        ([("AST", 8.0, "2014-02-01"), ("BILI", 2.1, "2014-03-03"), ("ALP", 1.0, "2014-02-20")], HYS, [CANDIDATE]),
        ([("ALT", 2.99, "2014-02-01"), ("BILI", 2.1, "2014-02-01"), ("ALP", 1.0, "2014-02-01")], CHOLESTASIS, []),
        ([("ALT", 9.0, "2014-02-01"), ("BILI", 2.0, "2014-02-01"), ("ALP", 1.0, "2014-02-01")], TEMPLES, []),
        ([("ALT", 9.0, "2014-02-01"), ("BILI", 2.1, "2014-02-01"), ("ALP", 2.0, "2014-02-01")], HYS, [CHOLESTATIC]),
        ([("ALT", 9.0, "2014-02-01"), ("BILI", 2.1, "2014-02-01")], HYS, [NO_ALP]),
        ([("ALT", 9.0, "2014-02-01"), ("BILI", 2.1, "2014-03-04"), ("ALP", 1.0, "2014-02-01")], HYS, []),
        ([("BILI", 2.1, "2014-02-01"), ("ALT", 9.0, "2014-02-02"), ("ALP", 1.0, "2014-02-01")], HYS, []),
    ],
)
def test_hys_law(rows: list[tuple[str, float, str]], quadrant: str, classes: list[str]) -> None:
    shown = liver(*rows)
    assert shown.peaks["QUADRANT"].to_list() == [quadrant]
    assert shown.cases["CLASS"].to_list() == classes
    assert shown.queries.height == (1 if classes in ([CANDIDATE], [NO_ALP]) else 0)


def whole(**domains: Any) -> Grading:
    return grade_trial(trial(**domains), POLICY, safety_policy(study_file()))


def cohort(n: int, severe: int) -> list[dict[str, Any]]:
    rows = []
    for number in range(n):
        subject = f"S-{number:03}"
        rows.append(alt(30, "2014-01-02", USUBJID=subject))
        rows.append(alt(300 if number < severe else 20, "2014-02-01", USUBJID=subject))
    return rows


def test_a_graded_trial_and_its_page_tell_of_nobody() -> None:
    made = {"LB": cohort(40, 3), "AE": [event("ALANINE AMINOTRANSFERASE INCREASED", "2014-02-01", USUBJID="S-000")]}
    done = whole(**made)
    assert done.queries["rule"].to_list() == ["GRD01", "GRD01"]
    events = done.events.select("USUBJID", "RESULT_TERM", "RESULT_GRADE").rows()
    assert events == [("S-000", ALT, 3)]
    from trialops.pages import render

    html = render(grading_page(done, POLICY))
    assert not re.search(r"S-\d{3}", html) and "2014-0" not in html
    cells = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", html)
    # Three of forty: neither they, nor the thirty-seven that would give them away.
    assert "3" not in cells and "37" not in cells and "40" in cells and "&lt;11" in cells
    assert counts(done)["queries"] == 2
    assert set(RULES) == {"GRD01", "GRD02", "GRD03"}


def test_a_cut_is_a_day_or_the_day_of_a_time_at_the_safety_desk() -> None:
    assert str(cut_day("2014-01-31", "America/New_York")) == "2014-01-31"
    assert str(cut_day("2014-01-31T02:00:00Z", "America/New_York")) == "2014-01-30"
    assert str(cut_day("2014-01-31T02:00:00Z", "Europe/Berlin")) == "2014-01-31"
    with pytest.raises(TrialOpsError, match="ISO 8601"):
        cut_day("January", "UTC")


def test_the_same_trial_gives_the_same_tables_and_page() -> None:
    from trialops.pages import render

    rows = cohort(15, 12)
    events = [event("HEADACHE", "2014-02-01")]
    # Sequence numbers stay with their rows, whatever the order in which these come.
    numbered = [row | {"SEQ": float(n)} for n, row in enumerate(rows)]
    first, second = (whole(LB=order, AE=events) for order in (numbered, numbered[::-1]))
    for name, frame in first.sealed().items():
        assert frame.equals(second.sealed()[name]), name
    assert render(grading_page(first, POLICY)) == render(grading_page(second, POLICY))


@pytest.mark.slow
def test_the_step_seals_what_it_found_and_keeps_the_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from components.safety import grade_adverse_events
    from pipelines.cli import cli
    from tests.support.homes import artifact, leave, live_in
    from trialops.quality.queries import Queries
    from trialops.settings import settings
    from trialops.stores import step

    home = live_in(tmp_path / "home", monkeypatch)
    try:
        made = trial(LB=cohort(12, 12), AE=[event("HEADACHE", "2014-02-01", USUBJID="S-001", SEV="MILD", SER="N")])
        raw, graded, review = (cast("Any", artifact(home, name)) for name in ("raw", "graded", "review"))
        with step("intake") as run:
            run.seal(raw, dict(made.tables), {})
        asked = grade_adverse_events.python_func(raw=raw, graded=graded, review=review, ctcae_version="4.03")
        assert asked == 12
        with step("look") as run:
            tables = run.unseal(graded)
            assert tables["findings"]["GRADE"].to_list() == [3] * 12
            kept = Queries(run.engine, "T").table()
        assert kept["rule"].to_list() == ["GRD01"] * 12 and not kept["message"].str.contains(r"\d").any()
        shown = Path(graded.path).read_text() + Path(review.path).read_text()
        assert "S-0" not in shown
        # Looked at again at an earlier cut: nothing is asked, and no question is closed for it.
        again = artifact(home, "graded-2")
        early = {"raw": raw, "graded": again, "review": review, "cut": "2014-01-31"}
        assert grade_adverse_events.python_func(**early) == 0
        with step("look") as run:
            assert Queries(run.engine, "T").table(states=("open",)).height == 12
        # Twice the same is one grading; the command shows the newest to the role that may, and to no other.
        monkeypatch.setattr("trialops.stores.study.bound_study", lambda objects: "T")
        command = ["safety", "grading", "--purpose", "Review of liver findings"]
        told = CliRunner().invoke(cli, command)
        assert told.exit_code != 0 and "S-0" not in told.output and "role" in told.output
        monkeypatch.setenv("TRIALOPS_ROLE", "safety physician")
        settings.cache_clear()
        told = CliRunner().invoke(cli, [*command, "--subject", "S-003"], catch_exceptions=False)
        assert told.exit_code == 0 and told.output.count("S-003") == 1 and "S-004" not in told.output
        target = tmp_path / "out" / "queries.csv"
        CliRunner().invoke(cli, [*command, "--table", "queries", "--out", str(target)], catch_exceptions=False)
        assert pl.read_csv(target).height == 12
        refused = CliRunner().invoke(cli, [*command, "--out", str(home / "x.csv")])
        assert refused.exit_code != 0 and not (home / "x.csv").exists()
    finally:
        leave()
