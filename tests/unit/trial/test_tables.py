"""The trial's tables at a data cut."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.trial.tables import TrialTables, cut_at, last_day


@pytest.fixture
def trial() -> TrialTables:
    dm = pl.DataFrame(
        {"USUBJID": ["S1", "S2"], "RFICDTC": ["2020-01-01", "2021-01-01"], "RFSTDTC": ["2020-01-10", "2021-01-09"]}
    )
    ae = pl.DataFrame(
        {
            "USUBJID": ["S1", "S1", "S1", "S2"],
            "AESEQ": [1.0, 2.0, 3.0, 1.0],
            "AESTDTC": ["2020-02", "2020-07-02", "", "2021-02-01"],
            "AEENDTC": ["2020-07-09", "", "", ""],
        }
    )
    supp = pl.DataFrame(
        {"USUBJID": ["S1", "S1", "S2"], "IDVAR": "AESEQ", "IDVARVAL": ["1", "2", "1"], "QVAL": ["a", "b", "c"]}
    )
    return TrialTables("T", {"DM": dm, "AE": ae, "SUPPAE": supp}, "digest")


def test_a_cut_leaves_what_had_begun_and_empties_what_had_not_happened(trial: TrialTables) -> None:
    cut = cut_at(trial, date(2020, 6, 30))
    assert cut.cut == date(2020, 6, 30) and cut.table("DM")["USUBJID"].to_list() == ["S1"]
    assert cut.table("AE")["AESEQ"].to_list() == [1.0, 3.0]
    assert cut.table("AE")["AEENDTC"].to_list() == [None, ""]
    assert cut.table("SUPPAE")["QVAL"].to_list() == ["a"]
    assert trial.table("AE").height == 4


def test_a_start_counts_from_the_earliest_day_it_can_mean(trial: TrialTables) -> None:
    assert cut_at(trial, date(2020, 2, 1)).table("AE").height == 2
    assert cut_at(trial, date(2020, 1, 31)).table("AE").height == 1


def test_the_last_day_is_that_of_the_last_subject_in_a_small_trial(trial: TrialTables) -> None:
    assert last_day(trial) == date(2021, 2, 1)


def test_what_is_missing_is_said(trial: TrialTables) -> None:
    with pytest.raises(TrialOpsError, match="no EX") as caught:
        trial.table("EX")
    assert "ex.xpt" in caught.value.fix
    assert trial.get("EX") is None
    bare = TrialTables("T", {"DM": pl.DataFrame({"USUBJID": ["S1"], "DMDTC": ["2020"]})}, "")
    with pytest.raises(TrialOpsError, match="exact date"):
        last_day(bare)
