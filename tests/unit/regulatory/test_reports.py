"""Reports: periods, what is due, the operator's choices, the step and its page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType

import polars as pl
import pytest

from tests.support.homes import Made, artifact, leave, live_in
from tests.support.released_cases import STUDY, Registered
from trialops.errors import TrialOpsError
from trialops.intake.sdtm import read_folder
from trialops.pages import render
from trialops.regulatory.documents.register import versions
from trialops.regulatory.reports.basis import make_basis
from trialops.regulatory.reports.case_facts import said_of, sent_reports
from trialops.regulatory.reports.generate import generate
from trialops.regulatory.reports.kinds import PARTS, Material, SentReport, put_together
from trialops.regulatory.reports.operator import first_consent
from trialops.regulatory.reports.periods import catalogue, cut_for, due_kinds, kinds, period_of
from trialops.safety.blinding import leaks
from trialops.safety.case_versions import event_hash
from trialops.safety.events import safety_events
from trialops.safety.register import CaseRegister
from trialops.safety.safety_policy import safety_policy
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.synthetic import generate as synthesize
from trialops.trial.study_file import StudyFile, study_file
from trialops.trial.tables import TrialTables

BEGUN = date(2023, 1, 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trial")
    synthesize(place / "out", subjects=60, sites=3, seed=11, formats=("sdtm",))
    return place / "out" / "sdtm"


@pytest.fixture(scope="module")
def trial(folder: Path) -> TrialTables:
    tables = read_folder(folder).tables
    return TrialTables(
        "T1", {n: f.select([c for c in f.columns if not c.startswith("_")]) for n, f in tables.items()}, "1" * 64
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    live_in(tmp_path, monkeypatch)
    yield Step("generate-reports", {}, settings())
    leave()


@pytest.fixture
def raw(run: Step, folder: Path, tmp_path: Path) -> Made:
    intake = read_folder(folder)
    out = artifact(tmp_path, "raw")
    run.seal(out, intake.tables, files={path.name: path for path in sorted(folder.glob("*.xpt"))})
    return out


def stated(**change: object) -> StudyFile:
    study = study_file()
    return replace(study, safety=MappingProxyType({**study.safety, **change}))


# -- periods -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "cut", "since"),
    [
        ("trial_progress", date(2024, 2, 29), date(2024, 2, 1)),
        ("dsmb", date(2024, 6, 30), date(2024, 4, 1)),
        ("dsur", date(2024, 11, 13), date(2023, 11, 14)),
        ("dsur", date(2024, 11, 14), date(2024, 11, 14)),
        ("dsur", date(2023, 6, 1), BEGUN),  # not before the trial began
        ("ind_annual", date(2024, 12, 13), date(2023, 12, 14)),
    ],
)
def test_the_period_that_ends_with_a_cut(kind: str, cut: date, since: date) -> None:
    found = period_of(kind, study_file(), begun=BEGUN, cut=cut)
    assert (found.since, found.cut) == (since, cut)
    assert (found.due - cut).days == {"trial_progress": 14, "dsmb": 30}.get(kind, 60)


def test_without_a_cut_it_is_the_last_end_of_a_period() -> None:
    latest = date(2024, 11, 20)
    ends = {kind: cut_for(kind, study_file(), begun=BEGUN, latest=latest) for kind in kinds()}
    assert ends == {
        "trial_progress": date(2024, 10, 31),
        "dsmb": date(2024, 9, 30),
        "dsur": date(2024, 11, 13),
        "ind_annual": date(2023, 12, 13),
        "eu_annual_safety": date(2024, 11, 13),
    }
    assert cut_for("dsur", study_file(), begun=BEGUN, latest=date(2023, 3, 1)) == date(2023, 3, 1)
    assert cut_for("trial_progress", study_file(), begun=BEGUN, latest=date(2024, 10, 31)) == date(2024, 10, 31)


def test_an_anniversary_on_a_leap_day() -> None:
    leap = stated(development_birth_date=date(2020, 2, 29))
    assert cut_for("dsur", leap, begun=BEGUN, latest=date(2025, 3, 1)) == date(2025, 2, 27)
    assert cut_for("dsur", leap, begun=BEGUN, latest=date(2024, 3, 1)) == date(2024, 2, 28)


def test_what_is_due_at_the_beginning_of_a_month() -> None:
    def due(day: date) -> tuple[str, ...]:
        return due_kinds(study_file(), begun=BEGUN, today=day)

    assert due(date(2024, 3, 1)) == ("trial_progress",)
    assert due(date(2024, 4, 1)) == ("trial_progress", "dsmb")
    assert due(date(2024, 12, 1)) == ("trial_progress", "dsur", "eu_annual_safety")
    assert due(date(2025, 1, 1)) == ("trial_progress", "dsmb", "ind_annual")
    # Over a year each is due as often as it says.
    months = [due(date(2024 + (m > 12), (m - 1) % 12 + 1, 1)) for m in range(2, 14)]
    assert [sum(kind in month for month in months) for kind in kinds()] == [12, 4, 1, 1, 1]


# -- content -------------------------------------------------------------------------------------------------------


def test_every_part_named_is_made_and_every_part_made_is_named() -> None:
    named = {part for rule in catalogue()["reports"].values() for _, _, parts in rule["chapters"] for part in parts}
    assert named == set(PARTS)


def test_safety_reports_of_the_period_are_listed(trial: TrialTables) -> None:
    cut = date(2024, 12, 13)
    basis = make_basis(trial, study_file(), cut=cut, since=date(2023, 12, 14), audience="blinded")
    sent = [
        SentReport("US-X-1", 1, "FDA", "SUSAR 15-day", date(2024, 1, 5), "accepted"),
        SentReport("US-X-2", 1, "FDA", "SUSAR 7-day", date(2023, 12, 13), "accepted"),
    ]
    document = put_together(
        "ind_annual", Material(basis, sent), due=cut, stamp=datetime(2025, 1, 1, tzinfo=UTC), program="p" * 16
    )
    listing = next(item for item in document.numbered() if item.number == "(b)(2).1")
    assert [row[0] for row in listing.rows] == ["US-X-1"]  # type: ignore[union-attr]


def test_what_the_register_knows_is_in_the_reports(run: Step, raw: Made, trial: TrialTables) -> None:
    """A sponsor's word on an event, and a report that went out shortly before midnight UTC."""
    policy = safety_policy(study_file())
    known = Registered(run)
    judged = safety_events(trial, policy).events.filter(pl.col("SERIOUS") == "serious").row(0, named=True)
    case, number = known.version(event=event_hash(run, judged["USUBJID"], judged["EVENT"]))
    register = CaseRegister(run.engine, STUDY)
    register.assess(
        case, related=True, reason="Close in time, and known of the class", actor="doc", role="safety physician"
    )
    register.mark_sent(case, number, "FDA", at="2024-01-06T04:30:00.000000Z", message="M1", actor="doc")
    said = said_of(run, replace(trial, study=STUDY), policy)
    assert said.sponsor.rows() == [(judged["USUBJID"], judged["EVENT"], True)]
    cut = date(2024, 12, 13)
    basis = make_basis(trial, study_file(), cut=cut, since=BEGUN, audience="blinded", said=said)
    assert basis.events.filter(pl.col("RELATED_SPONSOR")).height == 1
    (sent,) = sent_reports(run, STUDY, policy)
    # New York had 5 January.
    assert (sent.case, sent.rule, sent.sent, sent.state) == (case, "SUSAR", date(2024, 1, 5), "sent by a person")


# -- the step ------------------------------------------------------------------------------------------------------


def test_a_run_makes_registers_and_shows(run: Step, raw: Made, trial: TrialTables) -> None:
    told = {"kinds": "dsmb, trial_progress", "cut": "2024-03-31", "as_of": "2024-04-02"}
    first = generate(run, raw, **told)
    assert first.metrics == {"documents": 2, "new": 2}
    again = generate(run, raw, **told, stamp="2027-01-01")
    assert again.metrics == {"documents": 2, "new": 0} and len(versions(run)) == 2
    corrected = generate(run, raw, **told | {"cut": "2024-02-29"})
    assert corrected.metrics["new"] == 2 and len(versions(run)) == 4
    page = render(first.page) + json.dumps(first.manifest)
    assert "2 documents" in page and "by 2024-04-14" not in page and "2024-04-14" in page
    assert not leaks(page, trial)
    assert not any(subject in page for subject in trial.table("DM")["USUBJID"].to_list())


def test_late_and_unsigned_is_said(run: Step, raw: Made) -> None:
    late = generate(run, raw, kinds="trial_progress", cut="2024-03-31", as_of="2024-06-01")
    assert late.page.verdict is not None and late.page.verdict.tone == "bad" and "past" in late.page.verdict.text
    nothing = generate(run, raw, kinds="", as_of="2024-06-01")
    assert nothing.metrics["documents"] == 0 and nothing.page.verdict is not None


def test_unblinded_needs_the_role_and_a_purpose(run: Step, raw: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"kinds": "dsmb", "cut": "2024-03-31", "as_of": "2024-04-02", "audience": "unblinded"}
    with pytest.raises(TrialOpsError, match="may not use this: unblinded documents"):
        generate(run, raw, **told, purpose="closed session of the board")
    monkeypatch.setenv("TRIALOPS_ROLE", "statistician (unblinded)")
    settings.cache_clear()
    admitted = Step("generate-reports", {}, settings())
    with pytest.raises(TrialOpsError, match="needs a purpose"):
        generate(admitted, raw, **told)
    done = generate(admitted, raw, **told, purpose="closed session of the board")
    assert done.metrics["new"] == 1 and versions(run)[0].audience == "unblinded"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": "annual"}, "no report called 'annual'"),
        ({"audience": "public"}, "no audience 'public'"),
        ({"cut": "31.12.2024"}, "is no day"),
        ({"stamp": "noon"}, "is no time"),
        ({"cut": "2019-01-01"}, "Nobody had been screened"),
    ],
)
def test_what_cannot_be_made_is_said(run: Step, raw: Made, change: dict[str, str], message: str) -> None:
    told = {"kinds": "dsmb", "cut": "2024-03-31", "as_of": "2024-04-02"} | change
    with pytest.raises(TrialOpsError, match=message):
        generate(run, raw, **told)


def test_the_first_consent_is_needed(trial: TrialTables) -> None:
    bare = replace(trial, tables={"DM": trial.table("DM").drop("RFICDTC", "RFSTDTC", "DMDTC", strict=False)})
    with pytest.raises(TrialOpsError, match="date of consent"):
        first_consent(bare)
