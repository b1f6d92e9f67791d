"""Sites and retention of the CDISC pilot: scores computed another way, Kaplan-Meier and log-rank, published counts."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.support.bad_site import delivered
from trialops.trial.kri import holm
from trialops.trial.kri_policy import site_policy
from trialops.trial.lag import schedule
from trialops.trial.participation import participation
from trialops.trial.retention import retention_by_arm, times_to_discontinuation
from trialops.trial.site_monitor import SiteReport, TrialSiteMonitorOperator
from trialops.trial.study_file import StudyFile, parse_study
from trialops.trial.survival import kaplan_meier
from trialops.trial.tables import TrialTables, last_day
from trialops.trial.underreporting import compare_sites, cumulative_events, visits_reached

VISITS = [(3, 1), (4, 14), (5, 28), (7, 42), (8, 56), (9, 84), (10, 112), (11, 140), (12, 168), (13, 182)]
PILOT: dict[str, Any] = {
    "protocol": {
        "number": "H2Q-MC-LZZT",
        "title": "Xanomeline transdermal system in mild to moderate Alzheimer's disease (CDISC pilot)",
        "phase": "II",
        "planned_enrolment": 300,
        "blinded": True,
        "treatment_days": 182,
        "visits": [{"number": n, "name": f"VISIT {n}", "day": d, "window_days": 7} for n, d in VISITS],
    },
    "safety": {"causality": {"related": ["POSSIBLE", "PROBABLE"], "not_related": ["NONE", "REMOTE"]}},
}


@pytest.fixture(scope="module")
def study() -> StudyFile:
    return parse_study(PILOT)


@pytest.fixture(scope="module")
def pilot(request: pytest.FixtureRequest) -> TrialTables:
    return delivered(Path(request.getfixturevalue("anchors")) / "cdiscpilot01" / "sdtm")


@pytest.fixture(scope="module")
def report(pilot: TrialTables, study: StudyFile) -> SiteReport:
    return TrialSiteMonitorOperator().run(pilot, study, day=last_day(pilot))


def _rows(trial: TrialTables, name: str) -> list[dict[str, Any]]:
    return list(trial.table(name).iter_rows(named=True))


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text[:10]) if text and len(text) >= 10 else None


def _counted(trial: TrialTables) -> dict[str, dict[str, list[float]]]:
    """Numerators and denominators of the 17 sites by plain loops over rows, dates as Python's."""
    cut = last_day(trial)
    reasons = {r["USUBJID"]: r["DSDECOD"] for r in _rows(trial, "DS") if r["DSCAT"] == "DISPOSITION EVENT"}
    left = {r["USUBJID"]: _day(r["DSSTDTC"]) for r in _rows(trial, "DS") if r["DSCAT"] == "DISPOSITION EVENT"}
    begun = {r["USUBJID"]: _day(r["DSSTDTC"]) for r in _rows(trial, "DS") if r["DSDECOD"] == "RANDOMIZED"}
    site, start, figures = {}, {}, {}
    for row in _rows(trial, "DM"):
        subject, name = row["USUBJID"], row["SITEID"]
        one = figures.setdefault(name, {k: [0.0, 0.0] for k in ("ae", "fail", "stop", "late", "lab", "visit")})
        one["fail"][1] += 1
        if row["ARMCD"] == "Scrnfail":
            one["fail"][0] += 1
            continue
        site[subject], start[subject] = name, begun[subject]
        ends = [d for d in (left[subject], _day(row["RFPENDTC"])) if d]
        one["stop"][1] += 1
        one["stop"][0] += reasons[subject] != "COMPLETED"
        one["ae"][1] += (min(max(ends), cut) - begun[subject]).days + 1
    for row in _rows(trial, "AE"):
        subject, text = row["USUBJID"], row["AESTDTC"] or ""
        if subject not in site:
            continue
        first = start[subject]
        latest = (
            text[:10] if len(text) >= 10 else f"{text}-31" if len(text) == 7 else f"{text}-12-31" if text else "9999"
        )
        if latest >= first.isoformat():
            figures[site[subject]]["ae"][0] += 1
        onset, collected = _day(text), _day(row["AEDTC"])
        if onset and collected and onset >= first and collected >= onset:
            figures[site[subject]]["late"][1] += 1
            figures[site[subject]]["late"][0] += (collected - onset).days > 14
    for row in _rows(trial, "LB"):
        if row["USUBJID"] in site and row["LBNRIND"]:
            figures[site[row["USUBJID"]]]["lab"][1] += 1
            figures[site[row["USUBJID"]]]["lab"][0] += row["LBNRIND"] in ("LOW", "HIGH", "ABNORMAL")
    held = {(r["USUBJID"], r["VISITNUM"]) for r in _rows(trial, "SV")}
    for subject, name in site.items():
        for number, day in VISITS:
            closed = start[subject].toordinal() + day - 1 + 7
            if closed <= min(cut, left[subject]).toordinal():
                figures[name]["visit"][1] += 1
                figures[name]["visit"][0] += (subject, float(number)) not in held
    return {key: {s: f[key] for s, f in figures.items()} for key in ("ae", "fail", "stop", "late", "lab", "visit")}


def test_site_scores_equal_the_formulas_computed_another_way(pilot: TrialTables, report: SiteReport) -> None:
    """Plain loops and the math module, no polars and no numpy, on the 17 sites; within 1e-6 (here 1e-9)."""
    names = {
        "ae": ("ae_rate", False), "fail": ("screen_failure", True), "stop": ("discontinuation", True),
        "late": ("ae_late", True), "lab": ("lab_abnormal", True), "visit": ("visits_missing", True),
    }  # fmt: skip
    compared = 0
    for key, by_site in _counted(pilot).items():
        name, binary = names[key]
        cells = {s: (n, d) for s, (n, d) in by_site.items() if d > 0}
        mu = sum(n for n, _ in cells.values()) / sum(d for _, d in cells.values())
        unit = mu * (1 - mu) if binary else mu
        z = {s: (n / d - mu) / math.sqrt(unit / d) for s, (n, d) in cells.items()}
        phi = sum(v * v for v in z.values()) / len(z)
        expected = {s: (n / d - mu) / math.sqrt(phi * unit / d) for s, (n, d) in cells.items()}
        own = report.scores.filter(pl.col("indicator") == name)
        found = dict(own.select("site", "score").iter_rows())
        assert {s: (n, d) for s, n, d in own.select("site", "numerator", "denominator").iter_rows()} == cells
        assert found.keys() == expected.keys() and len(found) == 17
        for site, score in expected.items():
            assert found[site] == pytest.approx(score, abs=1e-9)
            compared += 1
        assert report.scored[name].phi == pytest.approx(phi, abs=1e-9)
    assert compared == 6 * 17


def test_counts_of_the_pilot(report: SiteReport) -> None:
    total = report.measures.sum().row(0, named=True)
    assert (total["screened"], total["randomised"], total["screen_failures"]) == (306, 254, 52)
    assert total["discontinued"] == 144 and report.measures.height == 17
    assert total["serious_events"] == 6, "the fatal ones that are flagged not serious among them"


def test_retention_and_log_rank_are_statsmodels_and_end_at_the_published_counts(pilot: TrialTables) -> None:
    """Completed 58, 25, 27 and left for an adverse event 8, 44, 40 (placebo, low, high): the study report's counts."""
    from statsmodels.duration.survfunc import SurvfuncRight, survdiff

    day = last_day(pilot)
    people = participation(pilot, day)
    rows = times_to_discontinuation(people, day).join(
        pilot.table("DM").select("USUBJID", "ARMCD"), on="USUBJID", maintain_order="left"
    )
    days, event, arm = rows["days"].to_numpy().astype(float), rows["event"].to_numpy(), rows["ARMCD"].to_numpy()
    found = retention_by_arm(pilot, people, day)
    statistic, p = survdiff(days, event.astype(int), arm)
    assert found.test.statistic == pytest.approx(statistic, abs=1e-9) and found.test.p == pytest.approx(p, abs=1e-15)
    assert found.test.statistic == pytest.approx(29.6962, abs=1e-4) and found.test.degrees == 2
    for name, curve in [*found.curves.items(), ("", kaplan_meier(days, event))]:
        own = arm == name if name else np.ones(len(arm), dtype=bool)
        other = SurvfuncRight(days[own], event[own].astype(int))
        at = curve.events > 0
        assert np.allclose(curve.survival[at], other.surv_prob, atol=1e-12)
        assert np.allclose(curve.error[at], other.surv_prob_se, atol=1e-12)
    completed = rows.filter(~pl.col("event")).group_by("ARMCD").len()
    assert dict(completed.iter_rows()) == {"Pbo": 58, "Xan_Lo": 25, "Xan_Hi": 27}
    events = found.reasons.filter(pl.col("reason") == "ADVERSE EVENT").select("arm", "subjects")
    assert dict(events.iter_rows()) == {"Pbo": 8, "Xan_Lo": 44, "Xan_Hi": 40}
    assert {k: v.quantile()[0] for k, v in found.curves.items()} == {"Pbo": None, "Xan_Hi": 77.0, "Xan_Lo": 104.0}


@pytest.mark.slow
def test_reporting_on_the_pilots_own_subjects(pilot: TrialTables, study: StudyFile, report: SiteReport) -> None:
    """Subjects dealt out over the 17 sites anew (nothing injected), then a third of the events left at one site."""
    day = last_day(pilot)
    people = participation(pilot, day).filter("randomised").with_row_index("row")
    days = np.array([v.day for v in schedule(study, pilot, site_policy())])
    last = ((people["end"] - people["start"]).dt.total_days() + 1).to_numpy()
    ae = pilot.table("AE").select("USUBJID", on=pl.col("AESTDTC").str.slice(0, 10).str.to_date(strict=False))
    known = ae.join(people.select("USUBJID", "row", "start"), on="USUBJID").filter(pl.col("on") >= pl.col("start"))
    onset = ((known["on"] - known["start"]).dt.total_days() + 1).to_numpy()
    counts = cumulative_events(onset, known["row"].to_numpy().astype(int), people.height, days)
    reached = visits_reached(last, days)
    site = np.unique(people["SITEID"].to_numpy().astype(str), return_inverse=True)[1]
    largest = int(np.bincount(site).argmax())
    rng, simulations = np.random.default_rng(11), 300
    false = hit = 0
    for _ in range(simulations):
        dealt = rng.permutation(site)
        false += _any_low(compare_sites(counts, reached, dealt, 17, share=0.75, minimum_subjects=3, minimum_pool=20))[0]
        steps = np.diff(counts, axis=1, prepend=0)
        thinned = np.cumsum(np.where((dealt == largest)[:, None], rng.binomial(steps, 1 / 3), steps), axis=1)
        rows = compare_sites(thinned, reached, dealt, 17, share=0.75, minimum_subjects=3, minimum_pool=20)
        hit += largest in _any_low(rows)[1]
    assert false / simulations <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / simulations)
    assert hit / simulations >= 0.8
    verdicts = dict(report.reporting.select("site", "verdict").iter_rows())
    assert "under-reporting" not in verdicts.values()
    assert [s for s, v in verdicts.items() if v == "over-reporting"] == ["717"]
    assert [s for s, v in verdicts.items() if v == "not judged"] == ["702", "706", "707"]
    print(f"pilot, {simulations} simulations: false {false / simulations:.3f}, power {hit / simulations:.3f}")


def _any_low(rows: list[Any]) -> tuple[bool, list[int]]:
    judged = [row for row in rows if not math.isnan(row[7])]
    found = [row[0] for row, p in zip(judged, holm([row[7] for row in judged]), strict=True) if p <= 0.05]
    return bool(found), found
