"""The numbers a trial is known by: subjects, arms, sites, disposition; from raw or clean SDTM alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trialops.intake.domains import current_rows

if TYPE_CHECKING:
    import polars as pl

SCREEN_FAILURE = ("SCRNFAIL",)
#: ARMCD of subjects who were never assigned a treatment (SDTMIG 3.3, DM), in upper case.
NOT_ASSIGNED = ("SCRNFAIL", "NOTASSGN", "NOTTRT", "")
RANDOMISED = "RANDOMIZED"


def randomised_subjects(dm: pl.DataFrame, ds: pl.DataFrame | None = None) -> pl.Series:
    """USUBJID of the randomised: ARMCD names an arm, or DS has the milestone.

    The milestone counts beside ARMCD because a running blinded trial may keep ARMCD empty; ARMCD counts beside
    the milestone because not every study records one.

    Args:
        dm: Current rows of DM.
        ds: Current rows of DS, where there are any.

    Returns:
        Distinct subjects, sorted.
    """
    import polars as pl

    code = pl.col("ARMCD").cast(pl.String).str.strip_chars().str.to_uppercase().fill_null("")
    assigned = dm.filter(~code.is_in(NOT_ASSIGNED))["USUBJID"]
    if ds is None:
        return assigned.unique().sort()
    term = pl.col("DSDECOD").cast(pl.String).str.strip_chars().str.to_uppercase()
    return pl.concat([assigned, ds.filter(term == RANDOMISED)["USUBJID"]]).unique().sort()


def trial_facts(tables: dict[str, pl.DataFrame]) -> dict[str, Any]:
    """Count subjects and what became of them.

    Only the newest version of a corrected row counts. Who is randomised, see `randomised_subjects`; a subject is a
    screen failure when ARMCD or ARMNRS says so (SDTMIG 3.3 and 3.4, DM). Disposition is the DISPOSITION EVENT
    row of DS.

    Args:
        tables: Tables by domain; DM is needed, DS where disposition is wanted.

    Returns:
        subjects, randomised, arms {ARM: n}, screen_failures, sites, completed, discontinued,
        reasons {DSDECOD: n}, rows {domain: n}. Keys of the inner dicts are sorted.
    """
    import polars as pl

    dm = current_rows("DM", tables["DM"]).unique("USUBJID", keep="first", maintain_order=True)
    code = pl.col("ARMCD").str.to_uppercase()
    ds = current_rows("DS", tables["DS"]) if "DS" in tables else None
    randomised = dm.filter(pl.col("USUBJID").is_in(randomised_subjects(dm, ds).implode()))
    failed = code.is_in(SCREEN_FAILURE).fill_null(False)
    if "ARMNRS" in dm.columns:
        failed |= (pl.col("ARMNRS") == "SCREEN FAILURE").fill_null(False)
    arm = "ARM" if "ARM" in dm.columns else "ARMCD"
    facts: dict[str, Any] = {
        "subjects": dm.height,
        "randomised": randomised.height,
        "arms": _counts(randomised, arm),
        "screen_failures": dm.filter(failed).height,
        "sites": dm["SITEID"].drop_nulls().n_unique() if "SITEID" in dm.columns else None,
    }
    if ds is not None:
        ds = ds.filter(pl.col("DSCAT") == "DISPOSITION EVENT")
        ds = ds.filter(pl.col("USUBJID").is_in(randomised["USUBJID"].implode()))
        left = ds.filter(pl.col("DSDECOD") != "COMPLETED")
        facts["completed"] = ds.filter(pl.col("DSDECOD") == "COMPLETED")["USUBJID"].n_unique()
        facts["discontinued"] = left["USUBJID"].n_unique()
        facts["reasons"] = _counts(left.unique(["USUBJID", "DSDECOD"]), "DSDECOD")
    facts["rows"] = {domain: tables[domain].height for domain in sorted(tables)}
    return facts


def _counts(frame: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(frame.drop_nulls(column).group_by(column).len().sort(column).iter_rows())
