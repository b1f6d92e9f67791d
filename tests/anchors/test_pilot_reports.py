"""The reports of the CDISC pilot: known counts in their tables, the same from the same cut, no arm where blinded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pytest
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from trialops.intake.sdtm import read_folder
from trialops.regulatory.cut import make_cut
from trialops.regulatory.documents.content import Audience, DataTable, Document
from trialops.regulatory.documents.html import to_html
from trialops.regulatory.documents.pdf import to_pdf
from trialops.regulatory.reports.basis import Basis, make_basis
from trialops.regulatory.reports.kinds import Material, put_together
from trialops.regulatory.reports.periods import kinds, period_of
from trialops.safety.blinding import arms_named, leaks
from trialops.trial.participation import participation
from trialops.trial.retention import times_to_discontinuation
from trialops.trial.study_file import study_file
from trialops.trial.tables import TrialTables, last_day

STAMP = datetime(2026, 1, 1, tzinfo=UTC)
BEGUN = date(2012, 7, 6)


@pytest.fixture(scope="module")
def trial(anchors: Path) -> TrialTables:
    folder = anchors / "cdiscpilot01" / "sdtm"
    intake = read_folder(folder)
    cut = make_cut(intake.tables, {path.name: path.read_bytes() for path in folder.glob("*.xpt")})
    return TrialTables("CDISCPILOT01", cut.tables, "0" * 64)


def basis_of(trial: TrialTables, audience: str, kind: str = "dsmb", cut: date | None = None) -> Basis:
    day = cut or last_day(trial)
    period = period_of(kind, study_file(), begun=BEGUN, cut=day)
    return make_basis(trial, study_file(), cut=day, since=period.since, audience=cast(Audience, audience))


def made(basis: Basis, kind: str) -> Document:
    return put_together(kind, Material(basis), due=basis.cut, stamp=STAMP, program="0" * 16)


@pytest.fixture(scope="module")
def unblinded(trial: TrialTables) -> Basis:
    return basis_of(trial, "unblinded")


@pytest.fixture(scope="module")
def board(unblinded: Basis) -> dict[str, DataTable]:
    document = made(unblinded, "dsmb")
    return {item.number: item for item in document.numbered() if isinstance(item, DataTable)}


def row(table: DataTable, label: str) -> list[object]:
    return next(list(cells) for cells in table.rows if str(cells[0]).strip().lower() == label.lower())


def test_disposition_has_the_published_counts(board: dict[str, DataTable]) -> None:
    assert row(board["1.1"], "Total") == ["Total", 306, 52, 254, 254]
    assert len(board["1.1"].rows) - 1 == 17
    table = board["1.2"]
    assert [head.rpartition("N = ")[2].rstrip(")") for head in table.columns[1:]] == ["86", "84", "84", "254"]
    assert str(row(table, "Completed")[-1]).startswith("110 ") and str(row(table, "Discontinued")[-1]).startswith(
        "144 "
    )
    assert str(row(table, "Adverse event")[-1]).startswith("92 ")


def test_six_serious_events_three_deaths_and_the_rest_beside_them(
    unblinded: Basis, board: dict[str, DataTable]
) -> None:
    serious, beside = board["5.1"], board["5.2"]
    assert sum(int(str(cells[-1])) for cells in serious.rows if str(cells[0]).startswith("  ")) == 6
    assert str(row(board["4.1"], "Serious")[-2]).startswith("6 ")
    confirm = unblinded.in_safety.filter(pl.col("SERIOUS") == "to confirm").height
    assert sum(int(str(cells[-1])) for cells in beside.rows if str(cells[0]).startswith("  ")) == confirm > 20
    died = {str(cells[0]) for cells in board["5.4"].rows}
    assert died == {"01-701-1211", "01-704-1445", "01-710-1083"}


def test_retention_equals_another_computation(unblinded: Basis, board: dict[str, DataTable]) -> None:
    table = board["1.3"]
    people = times_to_discontinuation(participation(unblinded.trial, unblinded.cut), unblinded.cut)
    known = people.join(unblinded.randomised.select("USUBJID", "group"), on="USUBJID")
    days, left = known["days"].to_numpy().astype(float), known["event"].to_numpy().astype(int)
    for group, day, _, share, _ in table.rows:
        part = known["group"].to_numpy() == group
        curve = SurvfuncRight(days[part], left[part])
        before = curve.surv_times <= cast(float, day)
        assert float(cast(str, share)) == pytest.approx(curve.surv_prob[before][-1], abs=5e-5)
    statistic, p = survdiff(days, left, known["group"].to_numpy())
    told = next(note for note in table.notes if note.startswith("Log-rank"))
    assert f"chi-square {statistic:.2f} on 2 degrees of freedom, p = {p:.2g}" in told


def test_what_stands_out_is_what_the_pilot_is_known_for(unblinded: Basis) -> None:
    """Skin reactions at the patch: the trial's published safety finding."""
    from trialops.safety.arm_comparison import compare_arms
    from trialops.safety.incidence import incidence

    emergent = unblinded.emergent.select("USUBJID", "AEBODSYS", "AEDECOD", day="DAY")
    found = {
        c.arm: c
        for c in compare_arms(
            incidence(emergent, unblinded.safety.select("USUBJID", "group", "days")), unblinded.control
        )
    }
    assert unblinded.control == "Placebo" and set(found) == {"Xanomeline High Dose", "Xanomeline Low Dose"}
    flagged = found["Xanomeline High Dose"].terms.filter("flagged")["AEDECOD"].to_list()
    assert {"PRURITUS", "APPLICATION SITE PRURITUS"} <= set(flagged) and len(flagged) <= 6


@pytest.mark.parametrize("kind", kinds())
def test_no_arm_in_a_blinded_report(trial: TrialTables, kind: str) -> None:
    document = made(basis_of(trial, "blinded", kind, date(2014, 12, 31)), kind)
    # That there is a placebo is the design, and what the products of the trial are is told to everybody.
    chapters = [
        replace(c, items=tuple(item for item in c.items if getattr(item, "title", "") != "Products of the trial"))
        for c in document.chapters
    ]
    assert not leaks(to_html(replace(document, chapters=tuple(chapters))), trial)


def test_the_scan_sees_the_arms_of_an_unblinded_report(trial: TrialTables, unblinded: Basis) -> None:
    assert len(arms_named(trial)) > 2 and leaks(to_html(made(unblinded, "trial_progress")), trial)


def test_the_same_cut_gives_the_same_bytes_and_another_one_does_not(trial: TrialTables) -> None:
    day = date(2014, 6, 30)
    shuffled = replace(
        trial, tables={name: frame.sample(fraction=1.0, shuffle=True, seed=5) for name, frame in trial.tables.items()}
    )
    for kind in ("dsur", "trial_progress"):
        first, again = (made(basis_of(trial, "blinded", kind, day), kind) for _ in range(2))
        assert to_pdf(first) == to_pdf(again) and to_html(first) == to_html(again)
        # The order in which rows are delivered is not content.
        assert made(basis_of(shuffled, "blinded", kind, day), kind).digest == first.digest
        assert made(basis_of(trial, "blinded", kind, date(2014, 5, 31)), kind).digest != first.digest


def test_nothing_of_after_the_cut_is_in_a_report(trial: TrialTables) -> None:
    day = date(2013, 6, 30)
    basis = basis_of(trial, "unblinded", "dsmb", day)
    there = {
        row["USUBJID"]
        for row in trial.table("DM").iter_rows(named=True)
        if any(row[c] and row[c][:10] <= "2013-06-30" for c in ("RFICDTC", "RFSTDTC", "DMDTC"))
    }
    assert set(basis.subjects["USUBJID"].to_list()) == there and 100 < len(there) < 306
    assert basis.events["ONSET_EARLIEST"].max() <= day  # type: ignore[operator]
    assert (basis.safety["days"].to_numpy() <= (np.datetime64(day) - np.datetime64(BEGUN)).astype(int) + 1).all()
