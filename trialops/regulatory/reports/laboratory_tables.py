"""Tables of the laboratory: grades under treatment against those before, and liver tests that fit Hy's law."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.regulatory.documents.content import Cell, DataTable, rows_of, share

if TYPE_CHECKING:
    from trialops.regulatory.reports.basis import Basis


def shift_table(basis: Basis, number: str) -> DataTable:
    """Of each graded term and group: subjects with a result under treatment, who worsened, who reached grade 3 or 4."""
    import polars as pl

    from trialops.safety.graded import graded_results
    from trialops.safety.grading_policy import grading_policy
    from trialops.safety.shift import shifts, worsened

    policy = grading_policy()
    graded = graded_results(basis.trial, policy).filter(pl.col("DOMAIN") == "LB")
    groups = basis.safety.select("USUBJID", GROUP="group")
    table = worsened(shifts(graded, groups=groups)).filter(pl.col("SUBJECTS") > 0)
    rows: list[list[Cell]] = [
        [
            row["TERM"],
            row["GROUP"],
            row["SUBJECTS"],
            share(row["WORSE"], row["SUBJECTS"]),
            share(row["SEVERE"], row["SUBJECTS"]),
            row["NOT_GRADED"],
        ]
        for row in table.iter_rows(named=True)
    ]
    return DataTable(
        number,
        f"Laboratory results by CTCAE {policy.ctcae}: worst grade under treatment against baseline",
        basis.safety_population,
        ("Term", "Group", "With a result", "Grade rose n (%)", "To grade 3 or 4 n (%)", "Not graded"),
        rows_of(rows),
        ("Criteria that need a normal range or a baseline are not applied where it is missing: see the last column.",),
    )


def liver_table(basis: Basis, number: str) -> DataTable:
    """Subjects by what their liver tests show: quadrants of eDISH, and candidates for Hy's law."""
    import polars as pl

    from trialops.safety.grading_policy import grading_policy
    from trialops.safety.hys_law import CHOLESTASIS, HYS, NEITHER, TEMPLES, liver_safety
    from trialops.safety.results import results

    policy = grading_policy()
    found = liver_safety(results(basis.trial, "LB", policy), policy)
    groups = basis.safety.select("USUBJID", "group")
    peaks = found.peaks.join(groups, on="USUBJID", how="inner")
    cases = found.cases.join(groups, on="USUBJID", how="inner")
    kinds = ((HYS, HYS), (TEMPLES, TEMPLES), (CHOLESTASIS, CHOLESTASIS), (NEITHER, NEITHER))
    rows: list[list[Cell]] = []
    for group in basis.groups:
        part = peaks.filter(pl.col("group") == group)
        n = part["USUBJID"].n_unique()
        counts = [part.filter(pl.col("QUADRANT") == kind)["USUBJID"].n_unique() for _, kind in kinds]
        candidates = cases.filter((pl.col("group") == group) & (pl.col("CLASS") == "candidate"))["USUBJID"].n_unique()
        rows.append([group, n, *(share(count, n) for count in counts), candidates])
    columns = (
        "Group",
        "With liver tests",
        *(f"{label[0].upper()}{label[1:]} n (%)" for label, _ in kinds),
        "Candidates",
    )
    return DataTable(
        number,
        "Liver tests: peaks under treatment by quadrant, and candidates for Hy's law",
        basis.safety_population,
        columns,
        rows_of(rows),
        (
            "Quadrants by the peaks of aminotransferases and bilirubin, whenever they were. Candidate: both criteria "
            "within the window, alkaline phosphatase not raised.",
        ),
    )
