import math
import statistics
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.clean_trial import make_trial
from tests.support.leakage import disturbed
from trialops.errors import TrialOpsError
from trialops.features import study_time
from trialops.features.definition_file import load
from trialops.features.definitions import Definitions
from trialops.features.views import KEYS, ages, feature_views

DEFINITIONS = load()
ONE = {"DM": pl.DataFrame({"USUBJID": ["A"], "AGE": [60.0], "SEX": ["F"], "KNOWNDY": [-7]})}


def as_known(rows: list[dict[str, Any]], source: Any, today: int) -> list[dict[str, Any]]:
    """Slow and plain: the current version of each record of one subject on an ordinal day."""
    best: dict[Any, tuple[Any, dict[str, Any]]] = {}
    for position, row in enumerate(rows):
        if row["KNOWNDY"] is None:
            continue
        known = study_time.ordinal_of(row["KNOWNDY"])
        happened = row[source.event] if source.event else row["KNOWNDY"]
        event = study_time.ordinal_of(happened) if happened is not None else known
        if max(event, known) <= today:
            key = row[source.id] if source.id else 0
            order = (known, position)
            if key not in best or order > best[key][0]:
                best[key] = (order, {**row, "_event": event, "_id": key, "_arrival": max(event, known)})
    return [row for _, row in best.values()]


def over(row: dict[str, Any], visits: list[dict[str, Any]]) -> float:
    """When the end of an adverse event takes effect: with the row, or with the first visit that can have told it."""
    if row["AEENDY"] is None:
        return math.inf
    end = study_time.ordinal_of(row["AEENDY"])
    if end < row["_arrival"]:
        return row["_arrival"]
    seen = [(study_time.ordinal_of(v["SVSTDY"]), study_time.ordinal_of(v["KNOWNDY"])) for v in visits]
    told = [max(on, known) for on, known in seen if on > row["_arrival"] and on >= end]
    return max(min(told), end + 1) if told else math.inf


def expected(tables: dict[str, pl.DataFrame], subject: str, today: int) -> dict[str, float | None]:
    """A sample of the shipped features, written down a second time without any cleverness."""
    now = {
        name: as_known(frame.filter(pl.col("USUBJID") == subject).to_dicts(), DEFINITIONS.tables[name], today)
        for name, frame in tables.items()
        if name in DEFINITIONS.tables
    }
    out: dict[str, float | None] = {}

    def series(table: str, code: str, keep: bool = True) -> list[dict[str, Any]]:
        rows = [r for r in now[table] if r[f"{table}TESTCD"] == code and r[f"{table}STRESN"] is not None]
        rows = [r for r in rows if table != "VS" or r["VSPOS"] != "STANDING"] if keep else rows
        return sorted(rows, key=lambda r: (r["_event"], r["_id"]))

    for table, code, name in (
        ("VS", "SYSBP", "systolic_bp"),
        ("VS", "PULSE", "pulse"),
        ("VS", "WEIGHT", "weight"),
        ("LB", "ALT", "alt"),
        ("LB", "CREAT", "creatinine"),
        ("LB", "K", "potassium"),
    ):
        rows = series(table, code)
        base = [r for r in rows if r["_event"] <= 0]
        last = rows[-1][f"{table}STRESN"] if rows else None
        out[name] = last
        later = rows and rows[-1]["_event"] > 0
        out[f"{name}_change"] = last - base[-1][f"{table}STRESN"] if base and later else None
        if table == "VS":
            out[f"{name}_sd"] = statistics.stdev(r["VSSTRESN"] for r in rows) if len(rows) > 1 else None
        if name in ("alt", "creatinine"):
            out[f"{name}_uln_ratio"] = last / rows[-1]["LBSTNRHI"] if rows else None
    latest = [series("LB", code)[-1] for code in ("ALT", "CREAT", "K") if series("LB", code)]
    if latest:

        def outside(r: dict[str, Any]) -> bool:
            return r["LBNRIND"] != "NORMAL" if r["LBNRIND"] else not r["LBSTNRLO"] <= r["LBSTRESN"] <= r["LBSTNRHI"]

        out["labs_out_of_range"] = float(sum(outside(r) for r in latest))
        out["lab_abnormal_share"] = out["labs_out_of_range"] / len(latest)
        last_lab = max(r["_event"] for r in latest)
        out["labs_last_day"] = last_lab + 1 if last_lab >= 0 else last_lab
    height, weight = series("VS", "HEIGHT"), series("VS", "WEIGHT")
    out["bmi"] = weight[-1]["VSSTRESN"] / (height[-1]["VSSTRESN"] / 100) ** 2 if height and weight else None

    contact, ae = bool(now["DM"]), now["AE"]
    begun = contact or bool(ae)
    visits = tables["SV"].filter(pl.col("USUBJID") == subject).to_dicts()
    past = [r for r in ae if over(r, visits) <= today]
    grade = {"MILD": 1, "MODERATE": 2, "SEVERE": 3}
    counts = {
        "ae_count": len(ae),
        "ae_terms": len({r["AEDECOD"].upper() for r in ae} - {""}),
        "ae_moderate_severe_count": sum(r["AESEV"] != "MILD" for r in past),
        "ae_severity_max": max((grade[r["AESEV"]] for r in past), default=0),
        "ae_related_count": sum(r["AEREL"] == "PROBABLE" for r in past),
        "ae_skin_count": sum("SKIN" in r["AEBODSYS"] for r in ae),
        "ae_ongoing": len(ae) - len(past),
    }
    out |= {name: float(n) if begun else None for name, n in counts.items()}
    out["ae_first_day"] = min((r["AESTDY"] for r in ae), default=None)
    out["ae_last_day"] = max((r["AESTDY"] for r in ae), default=None)

    began = contact or any(now[t] for t in ("SV", "CM", "MH", "EX"))
    sv, ex = now["SV"], sorted(now["EX"], key=lambda r: r["EXSTDY"])
    late = [r["_event"] - study_time.ordinal_of(int(r["VISITDY"])) for r in sv]
    gap = [b["EXSTDY"] - a["EXENDY"] - 1 for a, b in zip(ex, ex[1:], strict=False)]
    regimens = {(r["CMDECOD"], r["CMDOSE"]) for r in now["CM"]}
    started = {(r["CMDECOD"], r["CMDOSE"]) for r in now["CM"] if r["CMSTDY"] is not None}
    counts = {
        "visits_attended": len(sv),
        "visits_unscheduled": sum("Unscheduled" in r["VISIT"] for r in sv),
        "conmed_count": len(regimens),
        "conmed_started_count": len(started),
        "history_count": len(now["MH"]),
        "exposure_gap_days": sum(max(g, 0) for g in gap),
        "exposure_gaps": sum(g > 0 for g in gap),
    }
    out |= {name: float(n) if began else None for name, n in counts.items()}
    out["visit_delay_days"] = statistics.mean(late) if late else None
    age = now["DM"][0]["AGE"] if now["DM"] else None
    out["age"] = age
    out["sex_female"] = {"F": 1.0, "M": 0.0}.get(now["DM"][0]["SEX"]) if now["DM"] else None
    return out


def on(views: dict[str, pl.DataFrame], subject: str, today: int) -> dict[str, float | None]:
    """The views' latest rows at or before an ordinal day."""
    moment = study_time.DAY_ONE + study_time.timedelta(days=today)
    found: dict[str, float | None] = {}
    for frame in views.values():
        rows = frame.filter((pl.col("subject_id") == subject) & (pl.col("event_timestamp") <= moment))
        found |= {c: rows[c][-1] if rows.height else None for c in frame.columns if c not in KEYS}
    return found


def assert_same(tables: dict[str, pl.DataFrame], days: list[int]) -> int:
    views = feature_views(tables)
    compared = 0
    for subject in tables["DM"]["USUBJID"].unique().sort():
        for today in days:
            got, want = on(views, subject, today), expected(tables, subject, today)
            for name, value in want.items():
                same = (
                    got[name] is None
                    if value is None
                    else (got[name] is not None and math.isclose(got[name], value, rel_tol=1e-9, abs_tol=1e-6))
                )
                assert same, (subject, today, name, got[name], value)
                compared += value is not None
    return compared


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10_000))
def test_views_equal_a_plain_recomputation(seed: int) -> None:
    assert assert_same(make_trial(6, seed), [-8, 0, 14, 27, 45, 90]) > 500


def test_row_order_of_the_input_does_not_matter(trial: dict[str, pl.DataFrame]) -> None:
    # A correction known on a later day is a later row; only such ties as the trial does not have go by position.
    mixed = {name: frame.sample(fraction=1.0, shuffle=True, seed=3) for name, frame in trial.items()}
    first, second = feature_views(trial), feature_views(mixed)
    assert all(first[name].equals(second[name]) for name in first)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("landmark", [1, 28])
def test_nothing_after_the_landmark_reaches_it(trial: dict[str, pl.DataFrame], landmark: int, seed: int) -> None:
    other = disturbed(trial, landmark, seed)
    assert not other["LB"].equals(trial["LB"])
    before, after = feature_views(trial), feature_views(other)
    moment = study_time.timestamp_of(landmark)
    for name, frame in before.items():
        past = [v.filter(pl.col("event_timestamp") <= moment) for v in (frame, after[name])]
        assert past[0].height > 20 or frame.is_empty()  # this trial has no ECG and no coded history
        assert past[0].equals(past[1]), name  # bit for bit
    assert not before["labs"].equals(after["labs"])


def test_frames_have_the_contract(trial: dict[str, pl.DataFrame]) -> None:
    views = feature_views(trial)
    assert list(views) == list(DEFINITIONS.views)
    assert list(views)[:5] == ["demographics", "vitals", "labs", "events", "conduct"]
    for name, frame in views.items():
        assert tuple(frame.columns[:3]) == KEYS
        assert frame.columns[3:] == list(DEFINITIONS.columns(name))
        assert frame.schema["event_timestamp"] == pl.Datetime("us", "UTC")
        assert set(frame.dtypes[3:]) == {pl.Float64}
        assert frame.equals(frame.sort("subject_id", "event_timestamp"))
        assert not frame.select("subject_id", "event_timestamp").is_duplicated().any()
        assert frame["created"].equals(frame["event_timestamp"], check_names=False)
        assert not frame.select(pl.any_horizontal(pl.col(pl.Float64).is_infinite().fill_null(False))).to_series().any()
    assert views.notes == ()


def labs(rows: list[tuple[int, str, float | None, str, int, int]]) -> dict[str, pl.DataFrame]:
    names = ["LBSEQ", "LBTESTCD", "LBSTRESN", "LBSTRESU", "LBDY", "KNOWNDY"]
    frame = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        USUBJID=pl.lit("A"), LBNRIND=pl.lit("NORMAL"), LBSTNRHI=pl.lit(40.0), LBSTNRLO=pl.lit(5.0)
    )
    return ONE | {"LB": frame}


def alt(tables: dict[str, pl.DataFrame]) -> dict[int, float | None]:
    frame = feature_views(tables)["labs"]
    return {study_time.day_of(t): v for t, v in frame.select("event_timestamp", "alt").iter_rows()}


def test_a_late_older_value_never_replaces_a_newer_one() -> None:
    tables = labs([(1, "ALT", 20.0, "U/L", -3, -3), (2, "ALT", 30.0, "U/L", 15, 15), (3, "ALT", 99.0, "U/L", 8, 20)])
    assert alt(tables) == {-3: 20.0, 15: 30.0, 20: 30.0}


def test_a_correction_counts_from_the_day_it_came() -> None:
    tables = labs([(1, "ALT", 20.0, "U/L", 10, 10), (1, "ALT", 25.0, "U/L", 10, 30)])
    assert alt(tables) == {10: 20.0, 30: 25.0}


def test_a_withdrawn_value_falls_back_to_the_one_before() -> None:
    tables = labs([(1, "ALT", 20.0, "U/L", 10, 10), (2, "ALT", 50.0, "U/L", 12, 12), (2, "ALT", None, "U/L", 12, 30)])
    assert alt(tables) == {10: 20.0, 12: 50.0, 30: 20.0}


def test_a_moved_date_is_followed() -> None:
    tables = labs([(1, "ALT", 20.0, "U/L", 10, 10), (2, "ALT", 50.0, "U/L", 12, 12), (2, "ALT", 50.0, "U/L", 5, 30)])
    assert alt(tables) == {10: 20.0, 12: 50.0, 30: 20.0}


def test_another_unit_is_left_out_and_counted() -> None:
    tables = labs([(1, "ALT", 20.0, "U/L", 10, 10), (2, "ALT", 0.5, "ukat/L", 12, 12), (3, "ALT", 9.0, "", 13, 13)])
    views = feature_views(tables)
    assert alt(tables) == {10: 20.0}
    assert [(n.table, n.rows) for n in views.notes] == [("LB", 2)]
    assert "ALT in another unit than U/L" in views.notes[0].what


def test_rows_never_known_are_left_out_and_counted() -> None:
    tables = labs([(1, "ALT", 20.0, "U/L", 10, 10), (2, "ALT", 77.0, "U/L", None, None)])
    views = feature_views(tables)
    assert alt(tables) == {10: 20.0}
    assert [n.rows for n in views.notes] == [1]


def test_egfr_uses_age_and_sex_known_by_then() -> None:
    tables = labs([(1, "CREAT", 79.56, "umol/L", 10, 10)])
    assert feature_views(tables)["labs"]["egfr"].to_list() == [pytest.approx(73.19, abs=0.01)]  # 0.9 mg/dL, 60, F
    late = tables | {"DM": tables["DM"].with_columns(KNOWNDY=pl.lit(20))}
    assert feature_views(late)["labs"]["egfr"][0] is None


def test_a_severity_correction_is_a_change_not_a_second_event() -> None:
    ae = pl.DataFrame(
        {
            "USUBJID": ["A", "A"],
            "AESEQ": [1, 1],
            "AESTDY": [5, 5],
            "KNOWNDY": [6, 40],
            "AESEV": ["MILD", "SEVERE"],
            "AEDECOD": ["RASH", "RASH"],
            "AEREL": ["NONE", "PROBABLE"],
            "AEBODSYS": ["SKIN", "SKIN"],
            "AEENDY": [None, 9],
        },
        schema_overrides={"AEENDY": pl.Int32},
    )
    events = feature_views(ONE | {"AE": ae})["events"]
    days = [study_time.day_of(t) for t in events["event_timestamp"]]
    assert days == [-7, 6, 40]
    assert events["ae_count"].to_list() == [0, 1, 1]
    assert events["ae_moderate_severe_count"].to_list() == [0, 0, 1]
    assert events["ae_severity_max"].to_list() == [0, 0, 3]  # while it lasts its severity is open
    assert events["ae_related_count"].to_list() == [0, 0, 1]
    assert events["ae_ongoing"].to_list() == [0, 1, 0]  # its end became known on day 40 only


def one_event(end: int | None, severity: str, visits: list[int], collected: int = 10) -> dict[int, tuple[float, ...]]:
    """Day -> (ae_count, ae_severity_max, ae_related_count, ae_ongoing) of a subject with one event."""
    ae = pl.DataFrame(
        {"USUBJID": "A", "AESEQ": 1, "AESTDY": 8, "KNOWNDY": collected, "AESEV": severity, "AEDECOD": "RASH"}
        | {"AEREL": "PROBABLE", "AEBODSYS": "SKIN", "AEENDY": pl.Series([end], dtype=pl.Int32)}
    )
    sv = pl.DataFrame({"USUBJID": "A", "VISITNUM": pl.Series(range(len(visits)), dtype=pl.Float64)}).with_columns(
        SVSTDY=pl.Series(visits, dtype=pl.Int32), KNOWNDY=pl.Series(visits, dtype=pl.Int32)
    )
    events = feature_views(ONE | {"AE": ae, "SV": sv})["events"]
    names = ("event_timestamp", "ae_count", "ae_severity_max", "ae_related_count", "ae_ongoing")
    return {study_time.day_of(row[0]): row[1:] for row in events.select(names).iter_rows()}


LASTS, OVER = (1, 0, 0, 1), (1, 3, 1, 0)


@pytest.mark.parametrize(
    ("end", "visits", "closed"),
    [
        (60, [10, 28, 84], 84),  # resolved after the landmark, as severe
        (26, [10, 30, 42], 30),  # resolved before it, told after it
        (26, [10, 27], 27),
        (28, [10, 28], 29),  # an end takes effect on the day after it
        (10, [10, 28], 28),  # over on the day it was collected: the end may have been entered later
        (9, [10, 28], 10),  # over when it was collected
        (60, [10, 28], None),  # no visit since
        (None, [10, 28, 84], None),
    ],
)
def test_an_event_shows_its_final_values_once_its_end_can_be_known(
    end: int | None, visits: list[int], closed: int | None
) -> None:
    seen = one_event(end, "SEVERE", visits)
    states = [(day, OVER if closed is not None and day >= closed else LASTS) for day in seen if day >= 10]
    assert [(day, seen[day]) for day, _ in states] == states
    assert closed is None or closed in seen


def test_without_visits_an_end_after_collection_is_never_known(trial: dict[str, pl.DataFrame]) -> None:
    views = feature_views({"DM": trial["DM"], "AE": trial["AE"]})
    assert any("no visits in SV" in note.what for note in views.notes)
    whole = feature_views(trial)["events"]
    assert views["events"]["ae_related_count"].sum() < whole["ae_related_count"].sum()


def test_an_interval_that_goes_on_leaves_no_gap() -> None:
    def gap(*ends: int | None) -> float:
        ex = pl.DataFrame({"USUBJID": "A", "EXSEQ": [1, 2, 3], "EXSTDY": [1, 15, 25], "KNOWNDY": [1, 15, 25]})
        ex = ex.with_columns(EXENDY=pl.Series(ends, dtype=pl.Int32))
        return float(feature_views(ONE | {"EX": ex})["conduct"]["exposure_gap_days"][-1])

    assert gap(10, 20, None) == 4 + 4
    assert gap(10, None, None) == gap(10, 25, None) == gap(10, 400, 30) == 4  # on day 25 the three look alike
    assert gap(None, 16, None) == gap(90, 16, None) == 0


def test_absent_tables_are_unknown_and_empty_ones_are_zero(trial: dict[str, pl.DataFrame]) -> None:
    views = feature_views({"DM": trial["DM"], "AE": trial["AE"].clear()})
    assert views["events"]["ae_count"].unique().to_list() == [0.0]
    assert views["conduct"]["history_count"].unique().to_list() == [None]
    assert views["labs"].height == 0 and views["vitals"].columns == [*KEYS, *DEFINITIONS.columns("vitals")]


def test_an_absent_column_is_unknown_not_zero(trial: dict[str, pl.DataFrame]) -> None:
    views = feature_views(trial | {"CM": trial["CM"].drop("CMDECOD")})
    assert views["conduct"]["conmed_count"].null_count() == views["conduct"].height
    assert [n.what for n in views.notes] == ["lack the column CMDECOD: features that need it stay empty"]
    with pytest.raises(TrialOpsError, match="LBSTRESN"):
        feature_views(trial | {"LB": trial["LB"].drop("LBSTRESN")})


@pytest.mark.parametrize("column", ["LBDY", "KNOWNDY"])
def test_day_zero_is_refused_by_place(trial: dict[str, pl.DataFrame], column: str) -> None:
    bad = trial["LB"].with_columns(pl.lit(0, pl.Int32).alias(column))
    with pytest.raises(TrialOpsError, match=f"column {column}"):
        feature_views(trial | {"LB": bad})


def test_missing_columns_and_tables_are_named(trial: dict[str, pl.DataFrame]) -> None:
    with pytest.raises(TrialOpsError, match="lacks KNOWNDY"):
        feature_views(trial | {"AE": trial["AE"].drop("KNOWNDY")})
    with pytest.raises(TrialOpsError, match="demographics"):
        feature_views({"LB": trial["LB"]})


def test_ages_count_across_the_missing_day() -> None:
    frame = pl.DataFrame({"labs_last_day": [-7.0, 1.0, 28.0, None]})
    out = ages(frame, DEFINITIONS, 28)
    assert out["days_since_labs"].to_list() == [34.0, 27.0, 0.0, None]
    assert isinstance(DEFINITIONS, Definitions) and "days_since_visit" not in out.columns


def test_progress_is_reported(trial: dict[str, pl.DataFrame]) -> None:
    seen: list[float] = []
    feature_views(trial, progress=lambda _message, share: seen.append(share))
    assert seen == sorted(seen) and seen[-1] == 1.0
