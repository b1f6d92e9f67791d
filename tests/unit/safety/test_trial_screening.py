"""Screening inside a blinded trial: the step's decision follows the events, and tells no arm."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from types import MappingProxyType

import polars as pl
import pytest

from trialops.intake.sdtm import read_folder
from trialops.pages import render
from trialops.safety.blinding import leaks
from trialops.safety.screening import NOT_REACHED, NOTHING, REACHED, screen
from trialops.synthetic import generate
from trialops.trial.study_file import StudyFile, study_file
from trialops.trial.tables import TrialTables


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> TrialTables:
    folder = tmp_path_factory.mktemp("trial")
    generate(folder / "out", subjects=120, sites=3, seed=3, formats=("sdtm",))
    tables = read_folder(folder / "out" / "sdtm").tables
    return TrialTables(
        "T1", {n: f.select([c for c in f.columns if not c.startswith("_")]) for n, f in tables.items()}, "1" * 64
    )


def watching(term: str, accepted: float) -> StudyFile:
    study = study_file()
    stated = ({"name": "watched", "terms": (term,), "accepted": accepted},) if term else ()
    return replace(study, safety=MappingProxyType({**study.safety, "monitoring_boundaries": stated}))


def test_a_frequent_event_reaches_its_boundary_and_a_rare_one_does_not(trial: TrialTables) -> None:
    common = trial.table("AE")["AEDECOD"].value_counts(sort=True)["AEDECOD"][0]
    found = screen(trial, watching(common, 0.005))
    (watch,) = found.watches
    assert found.decision == REACHED and watch.events >= watch.limit > 0
    assert found.numbers["watched"]["reached"] is True and "events" not in found.numbers["watched"]
    page = render(found.page)
    assert "1 of 1 boundaries reached" in page and not leaks(page, trial)
    assert screen(trial, watching(common, 0.9)).decision == NOT_REACHED
    assert screen(trial, watching("NO SUCH TERM", 0.005)).watches[0].events == 0
    assert screen(trial, watching("", 0.1)).decision == NOTHING


def test_what_comes_after_the_day_does_not_count(trial: TrialTables) -> None:
    common = trial.table("AE")["AEDECOD"].value_counts(sort=True)["AEDECOD"][0]
    days = trial.table("DM")["RFICDTC"].drop_nulls().sort()
    early = date.fromisoformat(days[len(days) // 4][:10])
    whole, then = (screen(trial, watching(common, 0.1), day=day).watches[0] for day in (None, early))
    assert 0 < then.subjects < whole.subjects and then.events <= whole.events


def test_untreated_subjects_are_nobodys_risk(trial: TrialTables) -> None:
    without = replace(trial, tables={**trial.tables, "EX": trial.table("EX").filter(pl.lit(False))})
    bare = without.tables["DM"].with_columns(RFXSTDTC=pl.lit(None, pl.String), RFXENDTC=pl.lit(None, pl.String))
    found = screen(replace(without, tables={**without.tables, "DM": bare}), watching("HEADACHE", 0.1))
    assert (found.watches[0].subjects, found.watches[0].events, found.decision) == (0, 0, NOT_REACHED)
