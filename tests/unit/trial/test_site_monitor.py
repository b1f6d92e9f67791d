"""Central monitoring on a synthetic trial: the planted site is found, pages tell no subject and no arm, trends."""

from __future__ import annotations

import json
from datetime import date

import polars as pl
import pytest

from tests.support.bad_site import delivered, largest_site, spoil
from trialops.pages import render
from trialops.safety.leaks import leaks
from trialops.synthetic import generate
from trialops.trial.kri_policy import site_policy
from trialops.trial.participation import participation
from trialops.trial.progress_page import course_document, course_page, overview_page
from trialops.trial.retention import by_arm_tables, retention_by_arm
from trialops.trial.site_monitor import (
    HISTORY_COLUMNS,
    SiteReport,
    TrialSiteMonitorOperator,
    sites_document,
    with_trend,
)
from trialops.trial.site_pages import flag_rows, hidden, sites_page
from trialops.trial.study_file import StudyFile, study_file
from trialops.trial.tables import TrialTables

DAY = date(2024, 2, 1)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialTables, TrialTables, str]:
    """A sound delivery, the same with a bad site, and that site."""
    folder = tmp_path_factory.mktemp("trial")
    generate(folder, subjects=240, sites=12, seed=4, formats=("sdtm",))
    sound, site = delivered(folder / "sdtm"), largest_site(folder / "sdtm")
    spoil(folder / "sdtm", site)
    return sound, delivered(folder / "sdtm"), site


@pytest.fixture(scope="module")
def study() -> StudyFile:
    return study_file()


@pytest.fixture(scope="module")
def report(trials: tuple[TrialTables, TrialTables, str], study: StudyFile) -> SiteReport:
    return TrialSiteMonitorOperator().run(trials[1], study, day=DAY)


def test_the_planted_site_is_found_and_only_with_what_was_planted(
    trials: tuple[TrialTables, TrialTables, str], study: StudyFile, report: SiteReport
) -> None:
    sound, _, site = trials
    before = TrialSiteMonitorOperator().run(sound, study, day=DAY)
    assert site not in before.flagged()
    assert report.flagged()[0] == site
    flags = dict(report.scores.filter(pl.col("site") == site).select("indicator", "flag").iter_rows())
    assert flags["ae_late"] == "red" and flags["visits_missing"] in ("amber", "red")
    verdicts = dict(report.reporting.select("site", "verdict").iter_rows())
    assert verdicts[site] == "under-reporting"
    assert list(verdicts.values()).count("under-reporting") == 1
    # What was not touched is what it was.
    for name in ("screen_failure", "discontinuation", "lab_abnormal"):
        pair = [r.scores.filter(pl.col("indicator") == name).select("site", "score") for r in (before, report)]
        assert pair[0].equals(pair[1])


def test_every_page_is_the_same_bytes_again_and_tells_no_subject_and_no_arm(
    trials: tuple[TrialTables, TrialTables, str], study: StudyFile, report: SiteReport
) -> None:
    trial = trials[1]
    sites, course = sites_document(report), course_document(report.course, study, DAY)
    pages = [sites_page(report), course_page(report.course, study, DAY), overview_page(sites, course)]
    texts = [render(page) for page in pages]
    again = TrialSiteMonitorOperator().run(trial, study, day=DAY)
    assert texts[0] == render(sites_page(again)) and texts[1] == render(course_page(again.course, study, DAY))
    subjects = trial.table("DM")["USUBJID"].to_list()
    for text in (*texts, json.dumps(sites), json.dumps(course)):
        assert not any(subject in text for subject in subjects)
        assert leaks(text, trial) == []
    assert leaks(report.scores, trial) == []
    assert f"Site {trials[2]}" in texts[0] and "Reporting of adverse events" in texts[0]
    assert texts[2].count(trials[2]) >= 1


def test_figures_about_the_health_of_few_are_not_on_the_page(report: SiteReport) -> None:
    policy = report.policy
    few = [
        (row["site"], policy.indicator(row["indicator"]).label)
        for row in report.scores.iter_rows(named=True)
        if hidden(policy.indicator(row["indicator"]), row["numerator"], row["denominator"])
    ]
    assert few, "the trial has sites with fewer than eleven serious events"
    for row in flag_rows(report):
        if (row[0], row[1]) in few:
            assert row[3] == "<11" and row[5] is None and row[8] is None
    serious = policy.indicator("sae_rate")
    assert hidden(serious, 10.0, 900.0) and not hidden(serious, 11.0, 900.0) and not hidden(serious, 0.0, 5.0)
    assert not hidden(policy.indicator("screen_failure"), 2.0, 3.0), "sites know how many they screened"
    assert hidden(policy.indicator("ae_late"), 0.0, 10.0), "ten adverse events are few, late or not"


def test_a_site_that_got_worse_is_pointed_out(
    trials: tuple[TrialTables, TrialTables, str], study: StudyFile, report: SiteReport
) -> None:
    sound, spoilt, site = trials
    earlier = TrialSiteMonitorOperator().run(sound, study, day=date(2024, 1, 1)).history(None)
    assert tuple(earlier.columns) == HISTORY_COLUMNS
    now = TrialSiteMonitorOperator().run(spoilt, study, day=DAY, history=earlier)
    late = now.scores.filter((pl.col("site") == site) & (pl.col("indicator") == "ae_late")).row(0, named=True)
    assert (late["trend"], late["flag"]) == ("worse", "red") and late["previous"] < late["score"]
    assert {"site": site, "label": "Adverse events reported late"} in sites_document(now)["worse"]
    assert set(report.scores["trend"]) == {""}, "nothing to compare with"
    kept = now.history(earlier)
    assert kept.equals(now.history(kept)), "a second run at the same cut replaces the first"
    assert sorted(kept["as_of"].unique()) == ["2024-01-01", "2024-02-01"]


def test_trends_follow_flags_first_and_scores_then() -> None:
    def frame(**cells: tuple[float, str]) -> pl.DataFrame:
        return pl.DataFrame(
            [{"indicator": "i", "site": site, "score": score, "flag": flag} for site, (score, flag) in cells.items()]
        )

    before = frame(a=(1.9, "green"), b=(2.5, "amber"), c=(-1.0, "green"), d=(0.5, "green"), e=(4.0, "red"))
    then = before.with_columns(study=pl.lit("T"), as_of=pl.lit("2024-01-01"))
    after = frame(a=(2.1, "amber"), b=(1.5, "green"), c=(-1.9, "green"), d=(-1.9, "green"), f=(1.0, "green"))
    found = with_trend(after, then, "T", DAY, site_policy())
    assert dict(found.select("site", "trend").iter_rows()) == {
        "a": "worse",
        "b": "better",
        "c": "same",
        "d": "worse",
        "f": "",
    }
    other = with_trend(after, then, "ANOTHER", DAY, site_policy())
    assert set(other["trend"]) == {""}


def test_queries_make_three_indicators(trials: tuple[TrialTables, TrialTables, str], study: StudyFile) -> None:
    sites = trials[0].table("DM")["SITEID"].unique().sort().to_list()
    rows = [(site, "open", 45 if site == sites[0] else 5) for site in sites for _ in range(8)]
    queries = pl.DataFrame(rows, schema=["SITEID", "state", "age"], orient="row")
    report = TrialSiteMonitorOperator().run(trials[0], study, day=DAY, queries=queries)
    assert {"query_rate", "query_age", "findings"} <= set(report.scored)
    old = report.scores.filter((pl.col("indicator") == "query_age") & (pl.col("flag") == "red"))
    assert old["site"].to_list() == [sites[0]]
    assert report.lags.filter(pl.col("site") == sites[0])["query_age"].to_list() == [45.0]


def test_the_unblinded_variant_tells_the_arms_and_the_scanner_sees_it(
    trials: tuple[TrialTables, TrialTables, str],
) -> None:
    sound = trials[0]
    tables = by_arm_tables(retention_by_arm(sound, participation(sound, DAY), DAY))
    assert leaks(tables["test"], sound) != []
    assert tables["test"]["degrees"].to_list() == [2, 2, 2]
    assert tables["reasons"]["subjects"].sum() == int(tables["test"]["observed"].sum())


def test_before_anybody_is_randomised_there_is_a_page_and_no_error(
    trials: tuple[TrialTables, TrialTables, str], study: StudyFile
) -> None:
    day = date(2023, 1, 20)
    early = TrialSiteMonitorOperator().run(trials[0], study, day=day)
    assert early.course.retention is None and early.flagged() == [] and early.reporting.is_empty()
    assert "Nobody has been randomised yet" in render(course_page(early.course, study, day))
    assert "No site stands out" in render(sites_page(early))
    assert course_document(early.course, study, day)["randomised"] == 0
    assert early.course.milestones[1].actual is None


def test_a_delivery_of_demographics_alone_is_scored_on_what_it_has(
    trials: tuple[TrialTables, TrialTables, str], study: StudyFile
) -> None:
    sound = trials[0]
    bare = TrialTables(sound.study, {"DM": sound.table("DM"), "DS": sound.table("DS")}, "source")
    found = TrialSiteMonitorOperator().run(bare, study, day=DAY)
    assert set(found.scored) == {"screen_failure", "discontinuation"}, "no table has visits: none is missing"
    assert "Not in the data: Adverse events" in render(sites_page(found))
