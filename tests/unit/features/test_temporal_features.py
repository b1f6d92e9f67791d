"""Trends, missing measurements, comorbidity, ECG and follow-up against a plain recomputation, day by day."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.support.leakage import disturbed
from tests.support.temporal_trial import temporal_trial
from tests.unit.features.test_views import as_known, on
from trialops.features import study_time
from trialops.features.conditions import groups, weights
from trialops.features.definition_file import load
from trialops.features.definitions import ENTITIES
from trialops.features.views import feature_views

DEFINITIONS = load()
DAYS = [-16, -8, 0, 14, 27, 45, 60, 90]
REST = "AFTER LYING DOWN FOR 5 MINUTES"


def member(code: str, group: str) -> bool:
    """Whether a code belongs to a group, by comparing beginnings."""
    return any(code.replace(".", "").startswith(prefix) for prefix in groups()[group])


def plain(tables: dict[str, pl.DataFrame], subject: str, today: int) -> dict[str, float | None]:
    """What is known on an ordinal day, from the rows one by one."""
    own = {n: f.filter(pl.col("USUBJID") == subject).to_dicts() for n, f in tables.items() if n in DEFINITIONS.tables}
    now = {n: as_known(rows, DEFINITIONS.tables[n], today) for n, rows in own.items()}
    out: dict[str, float | None] = {}
    for name in ("vitals_trends", "labs_trends"):
        view = DEFINITIONS.views[name]
        # The row in force is of the last day on which one of the view's tables changed.
        last = last_change(own, (view.table, "SV"), view, today)
        for test, trend in view.trends.items():
            code = view.tests[test].code
            rows = readings(now, view, code)
            for days, statistics in trend.windows.items():
                inside = [r for r in rows if last is not None and last - days < r["_event"]]
                for s in statistics:
                    out[f"{test}_{s}_{days}d"] = None if last is None else summary(s, inside, view.table)
            event = max((r["_event"] for r in rows), default=None)
            if "day" in trend.measures:
                out[f"{test}_day"] = None if event is None else float(event + 1 if event >= 0 else event)
            if "measured" in trend.measures:
                out[f"{test}_measured"] = None if last is None else float(bool(rows))
            if "missing_share" in trend.measures:
                seen = {r["VISITNUM"] for c in view.tests.values() for r in readings(now, view, c.code)}
                happened = ({r["VISITNUM"] for r in now["SV"]} | seen) & set(view.planned)
                done = {r["VISITNUM"] for r in rows} & set(view.planned)
                out[f"{test}_missing_share"] = 1 - len(done) / len(happened) if happened else None
    return out | history(now)


def last_change(own: dict[str, list[dict[str, Any]]], names: tuple[str, ...], view: Any, today: int) -> int | None:
    """Last ordinal day up to today on which the current rows of some tables changed."""
    wanted = {t.code for t in view.tests.values()}
    days = set()
    for name in names:
        rows = own[name]
        if name == view.table:
            rows = [r for r in rows if r[view.columns["test"]] in wanted and r.get("VSPOS", "") != "STANDING"]
            # A withdrawn value takes the place of the one before it, but is no reading.
            keep = own[name]
        else:
            keep = rows
        source = DEFINITIONS.tables[name]
        chosen = {id(r) for r in rows}
        for record in {r[source.id] for r in keep}:
            versions = sorted((r for r in keep if r[source.id] == record), key=lambda r: r["KNOWNDY"])
            arrivals = [
                max(study_time.ordinal_of(r["KNOWNDY"]), study_time.ordinal_of(r[source.event])) for r in versions
            ]
            for i, row in enumerate(versions):
                until = min(arrivals[i + 1 :], default=math.inf)
                counts = id(row) in chosen and (name != view.table or row[view.columns["value"]] is not None)
                if counts and until > arrivals[i]:
                    days |= {arrivals[i], until}
    return max((d for d in days if d <= today), default=None)  # type: ignore[return-value]


def readings(now: dict[str, list[dict[str, Any]]], view: Any, code: str) -> list[dict[str, Any]]:
    names = view.columns
    rows = [r for r in now[view.table] if r[names["test"]] == code and r[names["value"]] is not None]
    return [r for r in rows if r.get("VSPOS", "") != "STANDING"]


def summary(statistic: str, rows: list[dict[str, Any]], table: str) -> float | None:
    values = [r[f"{table}STRESN"] for r in rows]
    if statistic == "count":
        return float(len(values))
    if not values:
        return None
    if statistic == "slope":
        days = [r["_event"] for r in rows]
        return float(np.polyfit(days, values, 1)[0]) if len(set(days)) > 1 else None
    return {"mean": math.fsum(values) / len(values), "min": min(values), "max": max(values)}[statistic]


def history(now: dict[str, list[dict[str, Any]]]) -> dict[str, float | None]:
    """Comorbidity, ECG and FIB-4."""
    out: dict[str, float | None] = {}
    codes = [r["MHICD10"] for r in now["MH"]]
    began = bool(now["DM"]) or bool(codes)
    for name, group in DEFINITIONS.views["comorbidity"].features.items():
        there = any(c and member(c, group) for c in codes)
        out[name] = None if not began or (not there and "" in codes) else float(there)
    flags = {g: out[n] for n, g in DEFINITIONS.views["comorbidity"].features.items()}
    for score, index in (("charlson", "charlson_quan_2011"), ("charlson_original", "charlson_1987")):
        points = weights(index)
        total = sum(points[g] for g in points if flags[g])
        total -= points["liver_mild"] if flags["liver_mild"] and flags["liver_severe"] else 0
        total -= points["diabetes"] if flags["diabetes"] and flags["diabetes_complicated"] else 0
        total -= points["malignancy"] if flags["malignancy"] and flags["metastatic"] else 0
        out[score] = None if any(flags[g] is None for g in points) else float(total)
    latest: dict[str, dict[str, Any]] = {}
    for row in sorted(now["EG"], key=lambda r: (r["_event"], r["_id"])):
        if row["EGTPT"] == REST:
            latest[row["EGTESTCD"]] = row
    qt, rr = latest.get("QT"), latest.get("RR")
    paired = qt and rr and qt["_event"] == rr["_event"]
    out["qtcf"] = qt["EGSTRESN"] / (rr["EGSTRESN"] / 1000) ** (1 / 3) if qt and rr and paired else None
    return out


@pytest.mark.parametrize("seed", range(6))
def test_views_equal_a_plain_recomputation(seed: int) -> None:
    tables = temporal_trial(6, seed)
    views = feature_views(tables)
    compared = 0
    for subject in tables["DM"]["USUBJID"].unique().sort():
        for today in DAYS:
            got, want = on(views, subject, today), plain(tables, subject, today)
            for name, value in want.items():
                same = got[name] is None if value is None else got[name] is not None
                assert same and (value is None or math.isclose(got[name], value, rel_tol=1e-9, abs_tol=1e-9)), (
                    subject,
                    today,
                    name,
                    got[name],
                    value,
                )
                compared += value is not None
    assert compared > 1000


@pytest.fixture(scope="module")
def trial() -> dict[str, pl.DataFrame]:
    return temporal_trial(40, seed=7)


@pytest.mark.parametrize("landmark", [1, 28])
def test_nothing_after_the_landmark_reaches_subjects_and_visits(trial: dict[str, pl.DataFrame], landmark: int) -> None:
    other = disturbed(trial, landmark, 5)
    moment = study_time.timestamp_of(landmark)
    before, after = (feature_views(t, entities=("subject", "subject_visit")) for t in (trial, other))
    for name, frame in before.items():
        past = [v.filter(pl.col("event_timestamp") <= moment) for v in (frame, after[name])]
        assert past[0].height > 20 and past[0].equals(past[1]), name
    assert not before["labs_trends"].equals(after["labs_trends"])


def test_a_subject_alone_has_the_same_rows(trial: dict[str, pl.DataFrame]) -> None:
    everybody = feature_views(trial, entities=("subject", "subject_visit"))
    for subject in trial["DM"]["USUBJID"].sort()[:8]:
        own = {name: rows.filter(pl.col("USUBJID") == subject) for name, rows in trial.items()}
        alone = feature_views(own, entities=("subject", "subject_visit"))
        for name, view in everybody.items():
            assert view.filter(pl.col("subject_id") == subject).equals(alone[name]), (name, subject)


def test_new_views_leave_the_others_as_they_are(trial: dict[str, pl.DataFrame]) -> None:
    old = ("demographics", "vitals", "labs", "events", "conduct")
    few = {name: DEFINITIONS.views[name] for name in old}
    from dataclasses import replace

    alone = feature_views(trial, replace(DEFINITIONS, views=few, entity_views={}, ages={}))
    whole = feature_views(trial, entities=tuple(ENTITIES))
    assert all(alone[name].equals(whole[name]) for name in old)


ONE = {"DM": pl.DataFrame({"USUBJID": ["A"], "AGE": [60.0], "SEX": ["F"], "KNOWNDY": [-7], "CUTDY": [56]})}


def weights_of(rows: list[tuple[int, float | None, int, int, float]]) -> dict[str, pl.DataFrame]:
    names = ["VSSEQ", "VSSTRESN", "VSDY", "KNOWNDY", "VISITNUM"]
    frame = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        USUBJID=pl.lit("A"), VSTESTCD=pl.lit("WEIGHT"), VSSTRESU=pl.lit("kg"), VSPOS=pl.lit("")
    )
    return ONE | {"VS": frame}


def test_a_slope_is_per_day_and_a_correction_moves_it() -> None:
    tables = weights_of([(1, 80.0, 1, 1, 3), (2, 78.0, 11, 11, 4), (3, 76.0, 21, 21, 5), (3, 86.0, 21, 40, 5)])
    frame = feature_views(tables)["vitals_trends"]
    slopes = dict(zip((study_time.day_of(t) for t in frame["event_timestamp"]), frame["weight_slope_84d"], strict=True))
    assert slopes[1] is None and slopes[21] == pytest.approx(-0.2) and slopes[40] == pytest.approx(0.3)


def test_a_window_ends_on_the_day_of_the_row() -> None:
    tables = weights_of([(1, 80.0, 1, 1, 3), (2, 70.0, 84, 84, 9), (3, 60.0, 85, 85, 9)])
    frame = feature_views(tables)["vitals_trends"]
    # 84 days up to day 84 begin on day 1; up to day 85 on day 2.
    assert frame["weight_mean_84d"].to_list() == [80.0, 75.0, 65.0]


def test_a_missed_measurement_counts_once_the_visit_is_known() -> None:
    sv = pl.DataFrame({"USUBJID": "A", "VISITNUM": [3.0, 4.0, 4.1], "SVSTDY": [1, 14, 16], "KNOWNDY": [1, 20, 20]})
    tables = weights_of([(1, 80.0, 1, 1, 3)]) | {"SV": sv.with_columns(VISITDY=pl.lit(1.0), VISIT=pl.lit("WEEK"))}
    frame = feature_views(tables)["vitals_trends"]
    # The visit of day 14 was reported on day 20; an unplanned one is not expected to have a weight.
    assert [study_time.day_of(t) for t in frame["event_timestamp"]] == [1, 20]
    assert frame["weight_missing_share"].to_list() == [0.0, 0.5]
    assert frame["weight_measured"].to_list() == [1.0, 1.0]


def test_follow_up_ends_at_the_cut() -> None:
    frame = feature_views(weights_of([(1, 80.0, 1, 1, 3), (2, 78.0, 11, 11, 4)]))["follow_up"]
    assert frame["followup_day"].to_list() == [-7.0, 1.0, 11.0, 56.0]
    without = {**ONE, "DM": ONE["DM"].drop("CUTDY")}
    assert feature_views(without)["follow_up"]["followup_day"].to_list() == [-7.0]
    assert "followup_day" not in DEFINITIONS.features


def test_history_without_codes_gives_no_index() -> None:
    uncoded = pl.DataFrame({"USUBJID": "A", "MHSEQ": [1, 2], "KNOWNDY": [-7, -7]})
    assert feature_views(ONE | {"MH": uncoded})["comorbidity"].is_empty()
    half = uncoded.with_columns(MHICD10=pl.Series(["I21.4", ""]))
    frame = feature_views(ONE | {"MH": half})["comorbidity"]
    assert frame["has_myocardial_infarction"].to_list() == [1.0]  # what is coded is there
    assert frame["has_dementia"].to_list() == [None] and frame["charlson"].to_list() == [None]
    coded = uncoded.with_columns(MHICD10=pl.Series(["i21.4", "G309"]))
    frame = feature_views(ONE | {"MH": coded})["comorbidity"]
    assert frame["charlson"].to_list() == [2.0] and frame["charlson_original"].to_list() == [2.0]
    assert frame["cha2ds2_vasc"].to_list() == [2.0]  # female, vascular disease
