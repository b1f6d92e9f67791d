"""Anomaly methods on made-up data with known answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from trialops.quality import anomalies, anomalies_copies, anomalies_panels, anomalies_sites
from trialops.quality.anomalies import measurements, methods

TESTS = {"GLUC": (5.2, "mmol/L"), "SODIUM": (140.0, "mmol/L"), "ALT": (20.0, "U/L"), "HGB": (8.4, "mmol/L")}


def laboratory(subjects: int = 60, visits: int = 8, seed: int = 0, spread: float = 0.05) -> pl.DataFrame:
    """Log-normal results around a level of each subject."""
    rng = np.random.default_rng(seed)
    rows = []
    for s in range(subjects):
        for code, (centre, unit) in TESTS.items():
            level = centre * math.exp(rng.normal(0, 0.02 if code == "SODIUM" else 0.12))
            for v in range(visits):
                value = level * math.exp(rng.normal(0, 0.01 if code == "SODIUM" else spread))
                rows.append((f"p{s:03d}", code, round(value, 3), unit, 14 * v + 1, float(v + 1)))
    names = ["USUBJID", "LBTESTCD", "LBSTRESN", "LBSTRESU", "LBDY", "VISITNUM"]
    return pl.DataFrame(rows, schema=names, orient="row")


def changed(frame: pl.DataFrame, row: int, value: float) -> pl.DataFrame:
    return frame.with_columns(frame["LBSTRESN"].scatter(row, value))


def flagged(name: str, frame: pl.DataFrame) -> list[int]:
    method: Any = {"robust_z": anomalies.robust_z, "delta": anomalies.delta, "scale_error": anomalies.scale_errors}
    marks = method[name](measurements(frame, "LB"), frame.height, **methods()[name])
    assert marks.flagged.len() == marks.applies.len() == frame.height
    return [int(i) for i in marks.flagged.arg_true()]


@pytest.mark.parametrize("name", ["robust_z", "delta", "scale_error"])
def test_sound_results_are_left_in_peace(name: str) -> None:
    assert flagged(name, laboratory()) == []


@pytest.mark.parametrize("name", ["robust_z", "delta", "scale_error"])
def test_nothing_is_judged_in_empty_null_or_negative_results(name: str) -> None:
    frame = laboratory(4)
    for values in (pl.lit(None, pl.Float64), pl.lit(-1.0)):
        assert flagged(name, frame.with_columns(LBSTRESN=values)) == []
    assert flagged(name, frame.clear()) == []


def test_robust_z_finds_a_result_far_from_all_and_judges_units_apart() -> None:
    frame = changed(laboratory(), 5, 90.0)
    assert flagged("robust_z", frame) == [5]
    as_us = pl.when(pl.int_range(pl.len()) == 5).then(pl.lit("mg/dL")).otherwise("LBSTRESU")
    assert (
        flagged("robust_z", frame.with_columns(LBSTRESU=as_us)) == []
    )  # alone in its unit there is nothing to compare


def test_delta_finds_a_leap_there_and_back_at_both_ends_and_not_a_step() -> None:
    frame = laboratory()
    sodium = [i for i, code in enumerate(frame["LBTESTCD"]) if code == "SODIUM"][:8]
    for place in (0, 3, 7):
        assert flagged("delta", changed(frame, sodium[place], 183.0)) == [sodium[place]]
    step = frame
    for place in (4, 5, 6, 7):
        step = changed(step, sodium[place], 180.0)
    assert flagged("delta", step) == []


@pytest.mark.parametrize(
    ("row", "factor", "label"),
    [(2, 18.0156, "unit"), (2, 1 / 18.0156, "unit"), (16, 10.0, "decimal point"), (26, 0.6206, "unit")],
)
def test_scale_errors_say_what_is_off(row: int, factor: float, label: str) -> None:
    frame = laboratory()
    wrong = changed(frame, row, frame["LBSTRESN"][row] * factor)
    marks = anomalies.scale_errors(measurements(wrong, "LB"), wrong.height, **methods()["scale_error"])
    assert marks.label is not None
    assert [(int(i), marks.label[int(i)]) for i in marks.flagged.arg_true()] == [(row, label)]


def test_half_a_history_in_the_other_unit_is_flagged_on_the_right_side() -> None:
    frame = laboratory()
    for row in (0, 2, 4, 6):
        frame = changed(frame, row, frame["LBSTRESN"][row] * 18.0156)
    assert flagged("scale_error", frame) == [0, 2, 4, 6]


def test_factors_come_from_the_analyte_table() -> None:
    found = anomalies._swap_factors("GLUC", "mmol/L", 5.0, 1.5)
    assert found == pytest.approx([-math.log(18.0156), math.log(18.0156)], abs=1e-3)
    assert anomalies._swap_factors("SODIUM", "mmol/L", 140.0, 1.5) == []
    assert anomalies._swap_factors("NO_SUCH_TEST", "mmol/L", 1.0, 1.5) == []


def panels(subjects: int = 30, tests: int = 15, visits: int = 4, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (f"p{s:03d}", f"T{t:02d}", round(float(rng.lognormal(3, 0.3)), 2), "u", 10 * v + 1)
        for s in range(subjects)
        for v in range(visits)
        for t in range(tests)
    ]
    return pl.DataFrame(rows, schema=["USUBJID", "LBTESTCD", "LBSTRESN", "LBSTRESU", "LBDY"], orient="row")


def copy(frame: pl.DataFrame, to: tuple[str, int], source: tuple[str, int], spoil: int = 0) -> pl.DataFrame:
    """Copy a panel onto another one, all values but the first few."""
    where = {k: (pl.col("USUBJID") == k[0]) & (pl.col("LBDY") == k[1]) for k in (to, source)}
    rows = {k: [int(i) for i in frame.select(w).to_series().arg_true()] for k, w in where.items()}
    values = frame["LBSTRESN"].gather(rows[source]).to_list()
    return frame.with_columns(frame["LBSTRESN"].scatter(rows[to][spoil:], values[spoil:]))


def test_copied_panels_within_a_subject_are_found_even_when_edited() -> None:
    settings = methods()["copied_panel"]
    frame = panels()
    assert anomalies_copies.copied_panels(measurements(frame, "LB"), **settings).is_empty()
    edited = copy(frame, ("p004", 31), ("p004", 11), spoil=2)
    found = anomalies_copies.copied_panels(measurements(edited, "LB"), **settings)
    assert found.rows() == [("p004", 31.0, 11.0)]


def test_duplicate_subjects_need_more_than_one_panel() -> None:
    settings = methods()["duplicate_subject"]
    frame = copy(panels(), ("p003", 1), ("p017", 1))
    assert anomalies_copies.duplicate_subjects(measurements(frame, "LB"), **settings).is_empty()
    frame = copy(copy(frame, ("p003", 11), ("p017", 11), spoil=1), ("p003", 21), ("p017", 31))
    found = anomalies_copies.duplicate_subjects(measurements(frame, "LB"), **settings)
    assert found.rows() == [("p003", "p017", 3)]


def pressures(preference: str | None = None, sites: int = 6, seed: int = 2) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    rows, people = [], []
    for s in range(sites):
        for i in range(20):
            who = f"{s}-{i}"
            people.append((who, f"S{s}"))
            for _ in range(10):
                value = int(rng.normal(130, 12))
                rows.append((who, "SYSBP", str(round(value / 10) * 10 if f"S{s}" == preference else value)))
    vs = pl.DataFrame(rows, schema=["USUBJID", "VSTESTCD", "VSORRES"], orient="row")
    return vs, pl.DataFrame(people, schema=["USUBJID", "SITEID"], orient="row")


def test_digit_preference_names_the_site_and_no_other() -> None:
    settings = methods()["digit_preference"]
    vs, dm = pressures()
    assert anomalies_sites.digit_preference(vs, "VS", dm, **settings)["flagged"].sum() == 0
    vs, dm = pressures("S2")
    found = anomalies_sites.digit_preference(vs, "VS", dm, **settings)
    assert found.filter("flagged").select("site", "test", "digit").rows() == [("S2", "SYSBP", 0)]
    assert found.height == 6


def test_benjamini_hochberg_is_the_step_up_procedure() -> None:
    """The example of the paper (JRSS B 1995, section 3.2): at 0.05 the four smallest of fifteen are called."""
    p = np.array(
        [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
        + [0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    )
    shuffled = np.random.default_rng(0).permutation(len(p))
    called = anomalies_sites.benjamini_hochberg(p[shuffled], 0.05)
    assert sorted(p[shuffled][called]) == [0.0001, 0.0004, 0.0019, 0.0095]
    assert anomalies_sites.benjamini_hochberg(np.array([]), 0.05).tolist() == []


def test_a_site_with_too_little_variation_is_found() -> None:
    frame = laboratory(120)
    dm = pl.DataFrame({"USUBJID": [f"p{s:03d}" for s in range(120)], "SITEID": [f"S{s % 6}" for s in range(120)]})
    settings = methods()["site_variance"]
    assert anomalies_sites.site_variance(measurements(frame, "LB"), dm, **settings)["flagged"].sum() == 0
    centre = pl.col("LBSTRESN").mean().over("USUBJID", "LBTESTCD")
    flat = pl.when(pl.col("USUBJID").str.slice(1).cast(pl.Int64) % 6 == 3).then(
        centre + (pl.col("LBSTRESN") - centre) / 5
    )
    made_up = frame.with_columns(LBSTRESN=flat.otherwise("LBSTRESN"))
    found = anomalies_sites.site_variance(measurements(made_up, "LB"), dm, **settings).filter("flagged")
    assert set(found["site"]) == {"S3"} and set(found["test"]) == set(TESTS) and (found["ratio"] < 0.5).all()


def test_weekend_visits_of_one_site_are_found() -> None:
    monday = np.datetime64("2024-01-01")
    rows = []
    for site in range(5):
        for i in range(60):
            day = monday + 7 * i + (5 if site == 4 and i % 2 else i % 5)
            rows.append((f"{site}-{i}", str(day), f"S{site}"))
    frame = pl.DataFrame(rows, schema=["USUBJID", "SVSTDTC", "SITEID"], orient="row")
    found = anomalies_sites.weekend_visits(frame, frame, **methods()["weekend"])
    assert found.filter("flagged")["site"].to_list() == ["S4"] and found.height == 5


def test_an_unlikely_combination_is_found_though_each_part_is_usual() -> None:
    rng = np.random.default_rng(4)
    n = 300
    alt = rng.normal(3, 0.4, n)
    values = {"ALT": alt, "AST": alt + rng.normal(0, 0.05, n), "GLUC": rng.normal(1.6, 0.1, n)}
    values["ALT"][7], values["AST"][7] = 3.8, 2.3
    rows = [(f"p{i}", test, float(np.exp(v[i])), "u", 1) for test, v in values.items() for i in range(n)]
    frame = pl.DataFrame(rows, schema=["USUBJID", "LBTESTCD", "LBSTRESN", "LBSTRESU", "LBDY"], orient="row")
    data = measurements(frame, "LB")
    settings = methods()["panel_distance"]
    found = anomalies_panels.panel_distances(data, **settings)
    assert found.height == n and found.filter("flagged")["subject"].to_list() == ["p7"]
    assert "p7" not in {frame["USUBJID"][i] for i in flagged("robust_z", frame)}
    assert anomalies_panels.panel_distances(data.head(50), **settings).is_empty()


def test_every_method_names_its_source() -> None:
    for about in methods().values():
        assert about["label"] and about["about"] and about["source"]
