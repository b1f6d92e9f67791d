"""The numbers a trial is known by."""

from __future__ import annotations

import polars as pl

from trialops.intake.facts import trial_facts


def test_facts_use_the_newest_version_only() -> None:
    dm = pl.DataFrame(
        {
            "USUBJID": ["1", "2", "3", "4", "2"],
            "SITEID": ["A", "A", "B", "B", "A"],
            "ARMCD": ["X", "X", "SCRNFAIL", None, "Y"],
            "ARM": ["X arm", "X arm", "Screen Failure", None, "Y arm"],
            "ARMNRS": [None, None, None, "SCREEN FAILURE", None],
            "_SOURCE": ["dm.xpt"] * 4 + ["corrections/001/dm.xpt"],
        }
    )
    ds = pl.DataFrame(
        {
            "USUBJID": ["1", "2", "3", "2"],
            "DSSEQ": [1, 1, 1, 2],
            "DSCAT": ["DISPOSITION EVENT"] * 3 + ["PROTOCOL MILESTONE"],
            "DSDECOD": ["COMPLETED", "DEATH", "SCREEN FAILURE", "RANDOMIZED"],
            "_SOURCE": ["ds.xpt"] * 4,
        }
    )
    facts = trial_facts({"DM": dm, "DS": ds})
    assert facts["subjects"] == 4
    assert facts["arms"] == {"X arm": 1, "Y arm": 1}
    assert facts["randomised"] == 2
    assert facts["screen_failures"] == 2
    assert facts["sites"] == 2
    assert (facts["completed"], facts["discontinued"]) == (1, 1)
    assert facts["reasons"] == {"DEATH": 1}
    assert facts["rows"] == {"DM": 5, "DS": 4}


def test_facts_without_disposition() -> None:
    facts = trial_facts({"DM": pl.DataFrame({"USUBJID": ["1"], "ARMCD": ["X"]})})
    assert facts["randomised"] == 1 and facts["sites"] is None and "completed" not in facts
