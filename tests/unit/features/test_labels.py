from dataclasses import replace

import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.features import study_time
from trialops.features.labels import (
    LEFT_EARLY,
    NOT_RANDOMISED,
    NOT_RECORDED,
    NOT_TREATED,
    OFF_TREATMENT,
    REASONS,
    WINDOW_OPEN,
    age_band,
    attrition,
    label,
)
from trialops.models.task import load_task

TASK = replace(load_task(), planned_end_day=182, reporting_days=10)

# subject: (arm, randomised, exposure end ("" none at all, None open), disposition day, term, last visit)
FLOW = {
    "A": ("P", True, 180, 182, "COMPLETED", 182),
    "B": ("P", True, 60, 61, "ADVERSE EVENT", 61),
    "C": ("P", True, 28, 29, "DEATH", 29),
    "D": ("P", True, 20, 28, "ADVERSE EVENT", 28),
    "E": ("P", True, 20, 90, "LOST TO FOLLOW-UP", 40),
    "F": ("P", True, None, 90, "WITHDRAWAL BY SUBJECT", 90),
    "G": ("P", True, "", 2, "WITHDRAWAL BY SUBJECT", 2),
    "H": ("SCRNFAIL", False, "", -3, "SCREEN FAILURE", -3),
    "I": ("P", True, None, None, None, 100),
}


def tables() -> dict[str, pl.DataFrame]:
    ids = list(FLOW)
    dm = pl.DataFrame(
        {
            "USUBJID": ids,
            "SITEID": "S1",
            "AGE": [64.0, 65.0, 74.0, 75.0, 80.0, 81.0, 90.0, 40.0, None],
            "SEX": "F",
            "RACE": ["White", "", None, "ASIAN", "ASIAN", "ASIAN", "ASIAN", "ASIAN", "ASIAN"],
            "ARMCD": [v[0] for v in FLOW.values()],
            "KNOWNDY": -7,
            "CUTDY": 200,
        }
    )
    ds = [(s, 1, "RANDOMIZED", "PROTOCOL MILESTONE", 1, 1) for s, v in FLOW.items() if v[1]]
    ds += [(s, 2, v[4], "DISPOSITION EVENT", v[3], v[3]) for s, v in FLOW.items() if v[3] is not None]
    ex = [(s, 1, 1, v[2], 1) for s, v in FLOW.items() if v[2] != ""]
    sv = [(s, 9, v[5], v[5]) for s, v in FLOW.items()]
    return {
        "DM": dm,
        "DS": pl.DataFrame(ds, schema=["USUBJID", "DSSEQ", "DSDECOD", "DSCAT", "DSSTDY", "KNOWNDY"], orient="row"),
        "EX": pl.DataFrame(ex, schema=["USUBJID", "EXSEQ", "EXSTDY", "EXENDY", "KNOWNDY"], orient="row"),
        "SV": pl.DataFrame(sv, schema=["USUBJID", "VISITNUM", "SVSTDY", "KNOWNDY"], orient="row"),
    }


def by_subject(frame: pl.DataFrame, column: str) -> dict[str, object]:
    return dict(frame.select("subject_id", column).iter_rows())


def test_reasons_and_labels() -> None:
    out = label(tables(), TASK)
    assert by_subject(out, "excluded") == {
        "A": None,
        "B": None,
        "C": None,
        "D": LEFT_EARLY,
        "E": OFF_TREATMENT,
        "F": None,
        "G": NOT_TREATED,
        "H": NOT_RANDOMISED,
        "I": NOT_RECORDED,
    }
    assert by_subject(out, "label") == {
        "A": 0,
        "B": 1,
        "C": 1,
        "D": None,
        "E": None,
        "F": 1,
        "G": None,
        "H": None,
        "I": None,
    }
    assert out.schema["label"] == pl.Int8
    assert out["event_timestamp"].unique().to_list() == [study_time.timestamp_of(28)]


def test_flow_reconciles() -> None:
    flow = attrition(label(tables(), TASK))
    assert flow["subjects"].to_list() == [9, 8, 7, 7, 6, 5, 4]
    assert flow["subjects"][0] == flow["subjects"][-1] + flow["left"].sum()
    assert flow["reason"].drop_nulls().to_list() == list(REASONS)
    with pytest.raises(TrialOpsError, match="add up"):
        attrition(label(tables(), TASK).with_columns(excluded=pl.lit("because")))


def test_horizon_bounds_the_label_and_needs_follow_up() -> None:
    out = label(tables(), replace(TASK, horizon_day=70))
    assert by_subject(out, "label") == {
        "A": 0,
        "B": 1,
        "C": 1,
        "D": None,
        "E": None,
        "F": 0,
        "G": None,
        "H": None,
        "I": 0,
    }
    longer = label(tables(), replace(TASK, horizon_day=120))
    assert by_subject(longer, "excluded")["I"] == NOT_RECORDED  # last seen on day 100


def test_a_visit_that_was_corrected_away_is_no_follow_up() -> None:
    trial = tables()
    fixed = trial["SV"].filter(pl.col("USUBJID") == "I").with_columns(SVSTDY=pl.lit(40), KNOWNDY=pl.lit(150))
    trial["SV"] = pl.concat([trial["SV"], fixed.cast(trial["SV"].schema)])
    assert by_subject(label(trial, replace(TASK, horizon_day=70)), "excluded")["I"] == NOT_RECORDED


@pytest.mark.parametrize("horizon", [None, 70])
def test_nobody_enters_before_the_window_has_passed_whatever_happened(horizon: int | None) -> None:
    task = replace(TASK, horizon_day=horizon)
    settled = task.settled_day
    assert settled == (192 if horizon is None else 80)
    trial = tables()
    trial["DM"] = trial["DM"].with_columns(
        CUTDY=pl.when(pl.col("USUBJID").is_in(["A", "B"])).then(settled - 1).otherwise(settled)
    )
    out = by_subject(label(trial, task), "excluded")
    assert out["A"] == out["B"] == WINDOW_OPEN  # one completed, the other left
    assert out["C"] is None and out["D"] == LEFT_EARLY
    trial["DM"] = trial["DM"].with_columns(CUTDY=pl.lit(None, pl.Int32))  # a cut too soon after the start for a day
    reasons = set(by_subject(label(trial, task), "excluded").values())
    assert reasons == {NOT_RANDOMISED, NOT_TREATED, WINDOW_OPEN}


def test_a_running_trial_without_a_cut_is_refused_and_one_that_is_over_needs_none() -> None:
    trial = tables()
    trial["DM"] = trial["DM"].drop("CUTDY")
    with pytest.raises(TrialOpsError, match="running") as caught:
        label(trial, TASK)
    assert caught.value.where == "table DM, column CUTDY"
    done = {name: frame.filter(pl.col("USUBJID") != "I") for name, frame in trial.items()}
    assert label(done, TASK)["label"].count() == 4
    # A trial is not over because exposure of those still in it has not been entered yet.
    with pytest.raises(TrialOpsError, match="running"):
        label(trial | {"EX": trial["EX"].filter(pl.col("USUBJID") != "I")}, TASK)


def test_off_treatment_subjects_stay_when_the_task_says_so() -> None:
    task = replace(TASK, population=replace(TASK.population, on_treatment_at_landmark=False))
    assert by_subject(label(tables(), task), "label")["E"] == 1


def test_a_trial_without_randomisation_takes_every_treated_subject() -> None:
    trial = tables()
    trial["DM"] = trial["DM"].with_columns(ARMCD=pl.lit("NOTASSGN"))
    trial["DS"] = trial["DS"].filter(pl.col("DSCAT") == "DISPOSITION EVENT")
    assert label(trial, TASK)["label"].count() == 0
    single = replace(TASK, population=replace(TASK.population, randomised=False))
    assert by_subject(label(trial, single), "label")["B"] == 1


def test_a_corrected_disposition_counts_once_with_its_last_version() -> None:
    trial = tables()
    fixed = trial["DS"].filter((pl.col("USUBJID") == "B") & (pl.col("DSSEQ") == 2))
    fixed = fixed.with_columns(DSDECOD=pl.lit("completed "), KNOWNDY=pl.lit(200, pl.Int64))
    out = label(trial | {"DS": pl.concat([fixed, trial["DS"]])}, TASK)
    assert out.height == 9 and by_subject(out, "label")["B"] == 0


def test_randomised_by_arm_or_by_milestone() -> None:
    trial = tables()
    events = trial["DS"].filter(pl.col("DSCAT") == "DISPOSITION EVENT")
    assert by_subject(label(trial | {"DS": events}, TASK), "excluded")["H"] == NOT_RANDOMISED
    assert by_subject(label(trial | {"DS": events}, TASK), "label")["B"] == 1
    blinded = trial["DM"].with_columns(ARMCD=pl.lit(None, pl.String))
    assert by_subject(label(trial | {"DM": blinded}, TASK), "label")["B"] == 1


def test_groups_use_the_task_s_bands() -> None:
    bands = ("<65", "65-74", "75+")
    out = label(tables(), replace(TASK, groups={"age_band": bands}))
    assert out["group_age_band"].to_list() == [
        "<65",
        "65-74",
        "65-74",
        "75+",
        "75+",
        "75+",
        "75+",
        "<65",
        None,
    ]
    assert out["group_race"].to_list()[:3] == ["WHITE", None, None]
    assert label(tables(), TASK)["group_age_band"].to_list()[3:7] == ["65-80", "65-80", ">80", ">80"]
    assert label(tables(), replace(TASK, groups={}))["group_age_band"].null_count() == 9
    with pytest.raises(TrialOpsError, match="cannot be read"):
        age_band(pl.col("AGE"), ["old"])


def test_columns_the_standard_lets_a_study_leave_out() -> None:
    trial = tables()
    trial["DM"], trial["EX"] = trial["DM"].drop("RACE"), trial["EX"].drop("EXENDY")
    out = label(trial, TASK)
    assert out["group_race"].null_count() == 9
    assert by_subject(out, "excluded")["E"] is None  # its exposure has no end that anybody recorded


def test_missing_tables_are_named() -> None:
    trial = tables()
    del trial["EX"]
    with pytest.raises(TrialOpsError, match="exposure") as caught:
        label(trial, TASK)
    assert caught.value.where == "table EX"
