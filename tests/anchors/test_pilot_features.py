"""Features, labels and the training set on the CDISC pilot study (306 subjects)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import polars as pl
import pytest

from tests.support.leakage import disturbed
from trialops.features import study_time
from trialops.features.definition_file import load
from trialops.features.labels import attrition, label
from trialops.features.training_set import build
from trialops.features.views import FeatureViews, feature_views
from trialops.models.task import load_task

DOMAINS = ("dm", "ae", "lb", "vs", "ex", "ds", "sv", "cm", "mh")
KNOWN = {
    "DM": "DMDTC",
    "AE": "AEDTC",
    "LB": "LBDTC",
    "VS": "VSDTC",
    "EX": "EXSTDTC",
    "DS": "DSDTC",
    "SV": "SVSTDTC",
    "CM": "CMDTC",
    "MH": "MHDTC",
}
NOT_DAYS = ("BRTHDTC", "RFSTDTC", "RFICDTC")


def date(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String).str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)


def study_day(column: str) -> pl.Expr:
    days = (date(column) - pl.col("_ref")).dt.total_days().cast(pl.Int32)
    return pl.when(days >= 0).then(days + 1).otherwise(days)


def clean(folder: Path) -> dict[str, pl.DataFrame]:
    """Study days from dates, and the day each row was collected; a stand-in for de-identification."""
    import pyreadstat

    raw = {
        d.upper(): pl.from_pandas(pyreadstat.read_xport(str(folder / f"{d}.xpt"))[0], nan_to_null=True) for d in DOMAINS
    }
    dated = {n: [c for c in f.columns if c.endswith("DTC") and c not in NOT_DAYS] for n, f in raw.items()}
    contact = pl.concat([f.select("USUBJID", date(c).alias("d")) for n, f in raw.items() for c in dated[n]])
    first = contact.group_by("USUBJID").agg(pl.col("d").min())
    reference = raw["DM"].select("USUBJID", date("RFSTDTC").alias("r")).join(first, on="USUBJID", how="left")
    reference = reference.select("USUBJID", _ref=pl.coalesce("r", "d"))
    out = {}
    for name, frame in raw.items():
        frame = frame.join(reference, on="USUBJID", how="left")
        days = [study_day(c).alias(f"{c[:-3]}DY") for c in dated[name]]
        frame = frame.with_columns(*days, KNOWNDY=study_day(KNOWN[name]))
        if f"{name}SEQ" in frame.columns:
            frame = frame.with_columns(pl.col(f"{name}SEQ").cast(pl.Int64))
        out[name] = frame.drop([c for c in frame.columns if c.endswith("DTC")] + ["_ref"])
    return out


@pytest.fixture(scope="module")
def pilot(anchors: Path) -> dict[str, pl.DataFrame]:
    return clean(anchors / "cdiscpilot01" / "sdtm")


@pytest.fixture(scope="module")
def views(pilot: dict[str, pl.DataFrame]) -> FeatureViews:
    return feature_views(pilot)


def test_flow_of_subjects(pilot: dict[str, pl.DataFrame]) -> None:
    task = load_task()
    labels = label(pilot, task)
    flow = attrition(labels)
    assert flow["subjects"].to_list() == [306, 254, 254, 254, 229, 218, 218]
    assert labels["label"].sum() == 108
    anyone = dataclasses.replace(task, population=dataclasses.replace(task.population, on_treatment_at_landmark=False))
    still = label(pilot, anyone)
    assert still["label"].is_not_null().sum() == 229 and still["label"].sum() == 119


def test_labels_agree_with_the_source(pilot: dict[str, pl.DataFrame]) -> None:
    ds = pilot["DS"].filter((pl.col("DSCAT") == "DISPOSITION EVENT") & (pl.col("DSSTDY") > 28))
    ends = (
        pilot["EX"]
        .group_by("USUBJID")
        .agg(pl.col("EXENDY").max().alias("end"), pl.col("EXENDY").is_null().any().alias("open"))
    )
    ds = ds.join(ends, on="USUBJID").filter(pl.col("open") | (pl.col("end") >= 28))
    want = dict(ds.select("USUBJID", (pl.col("DSDECOD") != "COMPLETED").cast(pl.Int8)).iter_rows())
    got = label(pilot, load_task()).filter(pl.col("excluded").is_null())
    assert dict(got.select("subject_id", "label").iter_rows()) == want


def test_nothing_is_left_out_unsaid(pilot: dict[str, pl.DataFrame], views: FeatureViews) -> None:
    assert views.notes == ()
    assert views["demographics"].height == 306
    resting = pilot["VS"].filter((pl.col("VSPOS") != "STANDING") & pl.col("VSSTRESN").is_not_null())
    assert views["vitals"].height == resting.select("USUBJID", "KNOWNDY").n_unique() == 2736


def test_last_values_at_the_landmark_are_those_in_the_source(
    pilot: dict[str, pl.DataFrame], views: FeatureViews
) -> None:
    moment = study_time.timestamp_of(28)
    latest = (
        views["labs"].filter(pl.col("event_timestamp") <= moment).group_by("subject_id", maintain_order=True).last()
    )
    rows = pilot["LB"].filter((pl.col("LBTESTCD") == "CREAT") & (pl.col("LBDY") <= 28)).sort("USUBJID", "LBDY", "LBSEQ")
    want = rows.group_by("USUBJID", maintain_order=True).agg(pl.col("LBSTRESN").last())
    both = latest.join(want, left_on="subject_id", right_on="USUBJID")
    assert both.height == 254
    assert both["creatinine"].equals(both["LBSTRESN"], check_names=False)


def test_adverse_events_count_from_collection_not_onset(pilot: dict[str, pl.DataFrame], views: FeatureViews) -> None:
    moment = study_time.timestamp_of(28)
    latest = views["events"].filter(pl.col("event_timestamp") <= moment).group_by("subject_id").last()
    ae = pilot["AE"]
    onset = ae.filter(pl.col("AESTDY") <= 28).height
    known = ae.filter((pl.col("KNOWNDY") <= 28) & (pl.col("AESTDY").is_null() | (pl.col("AESTDY") <= 28))).height
    assert latest["ae_count"].sum() == known < onset


def test_plausible_ranges(views: FeatureViews) -> None:
    bmi, egfr = views["vitals"]["bmi"].drop_nulls(), views["labs"]["egfr"].drop_nulls()
    assert 12 < bmi.min() < bmi.max() < 50 and 22 < bmi.median() < 27
    assert 15 < egfr.min() < egfr.max() < 130
    assert views["conduct"]["exposure_gap_days"].max() == 0  # the study's dosing intervals follow each other


def test_training_set_ignores_everything_after_the_landmark(
    pilot: dict[str, pl.DataFrame], views: FeatureViews, tmp_path: Path
) -> None:
    task = dataclasses.replace(load_task(), features=(), baseline_features=())  # every feature there is
    labels = label(pilot, task)
    before = build(views, labels, task, tmp_path / "before")
    assert before.shape == (218, 4 + len(load().features) + 3)
    for seed in (1, 2):
        other = disturbed(pilot, task.landmark_day, seed)
        assert not other["VS"].equals(pilot["VS"])
        assert before.equals(build(feature_views(other), labels, task, tmp_path / str(seed)))


def test_training_set_of_the_shipped_task_is_nearly_complete(
    pilot: dict[str, pl.DataFrame], views: FeatureViews, tmp_path: Path
) -> None:
    task = load_task()
    frame = build(views, label(pilot, task), task, tmp_path)
    assert frame.columns[4:-3] == list(task.features)
    assert max(frame[f].null_count() for f in task.features) <= 2
    assert set(frame["group_age_band"].unique()) == set(task.groups["age_band"])
