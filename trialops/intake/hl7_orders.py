"""Results against requisitions: what was ordered and did not come, what came and was not ordered.

A requisition file (``requisitions.csv`` in the delivery) has the columns order (placer or accession number),
USUBJID, and where known collected (ISO 8601 day) and tests (LOINC codes, blank-separated).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

REQUISITIONS = "requisitions.csv"
COLUMNS = ("ORDER", "USUBJID", "COLLECTED", "TESTS")
TOLERANCE_DAYS = 1
"""Days by which the collection may differ from the requisition: midnight and time zones."""


@dataclass(frozen=True)
class Reconciliation:
    """How orders and results agree; counts of orders, the last two of results.

    Attributes:
        ordered: Requisitions.
        resulted: Requisitions with at least one result.
        open: Requisitions without a result.
        unordered: Accessions with results and no requisition.
        days_disagree: Requisitions whose results were collected on another day.
        tests_missing: Ordered tests without a result, of requisitions that have results.
        tests_unasked: Results of tests that their requisition does not name.
    """

    ordered: int
    resulted: int
    open: int
    unordered: int
    days_disagree: int
    tests_missing: int
    tests_unasked: int


def read_requisitions(path: Path) -> pl.DataFrame | None:
    """The requisitions of a delivery; None where it has no such file.

    Raises:
        TrialOpsError: A column is missing, or an order belongs to two subjects.
    """
    import polars as pl

    if not path.is_file():
        return None
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        names = {(name or "").strip().upper(): name for name in reader.fieldnames or ()}
        if "ORDER" not in names or "USUBJID" not in names:
            raise TrialOpsError(
                "The requisition file lacks a column.", where=path.name, fix="It needs the columns order and USUBJID."
            )
        rows = [tuple((row.get(names.get(c, "")) or "").strip() for c in COLUMNS) for row in reader]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row").filter(pl.col("ORDER") != "")
    frame = frame.unique(maintain_order=True)
    if frame.select("ORDER", "USUBJID").unique()["ORDER"].is_duplicated().any():
        raise TrialOpsError(
            "An order of the requisition file belongs to two subjects.", where=path.name, fix="Correct the file."
        )
    return frame.unique("ORDER", keep="first", maintain_order=True)


def ordered_for(statements: pl.DataFrame, requisitions: pl.DataFrame) -> pl.Series:
    """USUBJID of the requisition of each statement, by placer number or else accession; null where there is none."""
    subject = dict(requisitions.select("ORDER", "USUBJID").iter_rows())
    found = statements.select("PLACER", "ACCESSION").with_columns(
        placer=statements["PLACER"].replace_strict(subject, default=None),
        accession=statements["ACCESSION"].replace_strict(subject, default=None),
    )
    return found["placer"].fill_null(found["accession"])


def reconcile(results: pl.DataFrame, requisitions: pl.DataFrame) -> Reconciliation:
    """Compare results (rows of LB with PLACER) with requisitions."""
    import polars as pl

    orders = set(requisitions["ORDER"])
    named = results.with_columns(
        ORDER=pl.when(pl.col("PLACER").is_in(orders))
        .then("PLACER")
        .when(pl.col("LBREFID").is_in(orders))
        .then("LBREFID")
    )
    joined = named.filter(pl.col("ORDER").is_not_null()).join(
        requisitions.select("ORDER", "COLLECTED", "TESTS"), on="ORDER", how="left"
    )
    day = pl.col("LBDTC").str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    asked = pl.col("COLLECTED").str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    other_day = joined.filter((day - asked).dt.total_days().abs() > TOLERANCE_DAYS)["ORDER"].n_unique()
    wanted = (
        requisitions.filter(pl.col("ORDER").is_in(joined["ORDER"].implode()) & (pl.col("TESTS") != ""))
        .select("ORDER", LBLOINC=pl.col("TESTS").str.split(" "))
        .explode("LBLOINC")
        .filter(pl.col("LBLOINC") != "")
    )
    missing = wanted.join(joined, on=["ORDER", "LBLOINC"], how="anti").height
    named_tests = joined.filter(pl.col("TESTS") != "")
    unasked = named_tests.join(wanted, on=["ORDER", "LBLOINC"], how="anti").height
    resulted = joined["ORDER"].n_unique()
    return Reconciliation(
        requisitions.height,
        resulted,
        requisitions.height - resulted,
        named.filter(pl.col("ORDER").is_null())["LBREFID"].n_unique(),
        other_day,
        missing,
        unasked,
    )
