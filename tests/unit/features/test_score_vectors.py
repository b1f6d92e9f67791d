"""Clinical scores against the bands and examples of their publications and a second, scalar computation."""

from __future__ import annotations

import math
from itertools import pairwise

import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.features import conditions, scores


def value(score: str, **arguments: float | None) -> float | None:
    """One person's score."""
    frame = pl.DataFrame({k: [v] for k, v in arguments.items()}, schema=dict.fromkeys(arguments, pl.Float64))
    result = frame.select(scores.SCORES[score](**{k: pl.col(k) for k in arguments})).item()
    return None if result is None else float(result)


NORMAL = {
    "respiration": 16,
    "saturation": 97,
    "scale_2": 0,
    "oxygen": 0,
    "systolic": 120,
    "pulse": 70,
    "alert": 1,
    "temperature": 37.0,
}
#: Chart 1 of the Royal College of Physicians (2017): both ends of every band and its points.
CHART = {
    "respiration": [(3, 8, 3), (9, 11, 1), (12, 20, 0), (21, 24, 2), (25, 60, 3)],
    "saturation": [(60, 91, 3), (92, 93, 2), (94, 95, 1), (96, 100, 0)],
    "systolic": [(40, 90, 3), (91, 100, 2), (101, 110, 1), (111, 219, 0), (220, 280, 3)],
    "pulse": [(20, 40, 3), (41, 50, 1), (51, 90, 0), (91, 110, 1), (111, 130, 2), (131, 220, 3)],
    "temperature": [(30.0, 35.0, 3), (35.1, 36.0, 1), (36.1, 38.0, 0), (38.1, 39.0, 1), (39.1, 42.0, 2)],
}
SCALE_2 = {
    0: [(70, 83, 3), (84, 85, 2), (86, 87, 1), (88, 92, 0), (93, 100, 0)],
    1: [(70, 83, 3), (84, 85, 2), (86, 87, 1), (88, 92, 0), (93, 94, 1), (95, 96, 2), (97, 100, 3)],
}


@pytest.mark.parametrize("component", list(CHART))
def test_news2_follows_the_chart(component: str) -> None:
    for low, high, points in CHART[component]:
        for end in (low, high):
            assert value("news2", **{**NORMAL, component: end}) == points, (component, end)
            assert value("news2_red", **{**NORMAL, component: end}) == float(points == 3)


@pytest.mark.parametrize("oxygen", [0, 1])
def test_news2_on_the_second_scale(oxygen: int) -> None:
    for low, high, points in SCALE_2[oxygen]:
        for end in (low, high):
            got = value("news2", **{**NORMAL, "scale_2": 1, "oxygen": oxygen, "saturation": end})
            assert got == points + 2 * oxygen, end


def test_news2_whole_and_its_missing_components() -> None:
    assert value("news2", **NORMAL) == 0
    worst = {"respiration": 30, "saturation": 80, "scale_2": 0, "oxygen": 1, "systolic": 80, "pulse": 140, "alert": 0}
    assert value("news2", **worst, temperature=34.0) == 20  # the largest there is
    assert value("news2", **{**NORMAL, "alert": 0}) == 3
    for component in NORMAL:
        assert value("news2", **{**NORMAL, component: None}) is None, component
        assert value("news2_red", **{**NORMAL, component: None}) is None, component
    assert value("news2", **{**NORMAL, "saturation": 103}) is None


def fib_4(age: float, ast: float, alt: float, platelets: float) -> float:
    return age * ast / platelets / math.sqrt(alt)


@pytest.mark.parametrize(
    ("age", "ast", "alt", "platelets", "published"),
    [(50, 40, 40, 200, 1.58), (65, 80, 64, 100, 6.50), (60, 30, 25, 250, 1.44)],
)
def test_fib_4(age: float, ast: float, alt: float, platelets: float, published: float) -> None:
    got = value("fib_4", age=age, ast=ast, alt=alt, platelets=platelets)
    assert got == pytest.approx(fib_4(age, ast, alt, platelets), rel=1e-12)
    assert round(got, 2) == published
    for lost in ("age", "ast", "alt", "platelets"):
        whole = {"age": age, "ast": ast, "alt": alt, "platelets": platelets}
        assert value("fib_4", **{**whole, lost: None}) is None
        assert value("fib_4", **{**whole, lost: 0}) is None


def meld(bili: float, crea: float, inr: float, na: float, alb: float, female: int, dialysis: int = 0) -> int:
    """MELD 3.0 in the units of the publication, term by term, with Python's own arithmetic."""
    b, i = max(bili, 1.0), max(inr, 1.0)
    c = 3.0 if dialysis else min(max(crea, 1.0), 3.0)
    n, a = min(max(na, 125), 137), min(max(alb, 1.5), 3.5)
    terms = [
        1.33 if female else 0.0,
        4.56 * math.log(b),
        0.82 * (137 - n),
        -0.24 * (137 - n) * math.log(b),
        9.09 * math.log(i),
        11.14 * math.log(c),
        1.85 * (3.5 - a),
        -1.83 * (3.5 - a) * math.log(c),
        6.0,
    ]
    return min(max(math.floor(math.fsum(terms) + 0.5), 6), 40)


def meld_3(bili: float, crea: float, inr: float, na: float, alb: float, female: int, dialysis: int = 0) -> float | None:
    return value(
        "meld_3",
        bilirubin=bili * 17.104,
        creatinine=crea * 88.4,
        inr=inr,
        sodium=na,
        albumin=alb * 10,
        sex_female=female,
        dialysis=dialysis,
    )


def test_meld_3_equals_the_equation() -> None:
    cases = [
        (b, c, i, n, a, f, d)
        for b in (0.5, 2.3, 12.0)
        for c in (0.6, 1.7, 4.5)
        for i in (0.9, 1.4, 3.1)
        for n in (118, 131, 145)
        for a in (1.2, 2.6, 4.4)
        for f in (0, 1)
        for d in (0, 1)
    ]
    got = [meld_3(*case) for case in cases]
    assert got == [meld(*case) for case in cases]
    assert min(got) == 6 and max(got) == 40  # bounds are reached


def test_meld_3_at_its_bounds() -> None:
    assert meld_3(1, 1, 1, 137, 3.5, 0) == 6 and meld_3(1, 1, 1, 137, 3.5, 1) == 7  # 1.33 for women
    assert meld_3(0.2, 0.3, 0.8, 150, 5.0, 0) == 6
    assert meld_3(1, 1, 1, 137, 3.5, 0, 1) == meld_3(1, 3.0, 1, 137, 3.5, 0) == meld_3(1, 9.0, 1, 137, 3.5, 0) == 18
    assert meld_3(2, 1, 1, 125, 3.5, 0) == meld_3(2, 1, 1, 110, 3.5, 0)
    whole = {"bilirubin": 20.0, "creatinine": 90.0, "inr": 1.1, "sodium": 140.0, "albumin": 40.0}
    whole |= {"sex_female": 1.0, "dialysis": 0.0}
    assert value("meld_3", **whole) is not None
    for lost in whole:
        assert value("meld_3", **{**whole, lost: None}) is None, lost


def test_qtcf() -> None:
    assert value("qtcf", qt=400, rr=1000) == pytest.approx(400, rel=1e-12)  # at 60 beats/min nothing is corrected
    assert value("qtcf", qt=360, rr=729) == pytest.approx(400, rel=1e-12)  # 0.9 cubed is 0.729
    assert value("qtcf", qt=440, rr=1331) == pytest.approx(400, rel=1e-12)  # 1.1 cubed is 1.331
    assert value("qtcf_rate", qt=360, heart_rate=60 / 0.729) == pytest.approx(400, rel=1e-12)
    for score, other in (("qtcf", "rr"), ("qtcf_rate", "heart_rate")):
        assert value(score, **{"qt": None, other: 800.0}) is None and value(score, **{"qt": 400.0, other: 0.0}) is None


def test_cha2ds2_vasc_point_by_point() -> None:
    nobody = {"age": 50.0, "sex_female": 0.0}
    nobody |= dict.fromkeys(("heart_failure", "hypertension", "diabetes", "stroke", "vascular"), 0.0)
    assert value("cha2ds2_vasc", **nobody) == 0
    for factor in ("sex_female", "heart_failure", "hypertension", "diabetes", "vascular"):
        assert value("cha2ds2_vasc", **{**nobody, factor: 1.0}) == 1, factor
    assert value("cha2ds2_vasc", **{**nobody, "stroke": 1.0}) == 2
    assert [value("cha2ds2_vasc", **{**nobody, "age": a}) for a in (64, 65, 74, 75)] == [0, 1, 1, 2]
    assert value("cha2ds2_vasc", **dict.fromkeys(nobody, 1.0) | {"age": 80.0}) == 9  # the largest there is
    for lost in nobody:
        assert value("cha2ds2_vasc", **{**nobody, lost: None}) is None, lost


def charlson(index: str, *present: str) -> float | None:
    return value(index, **{g: float(g in present) for g in scores.GROUPS})


def test_charlson_weights_and_grades() -> None:
    assert charlson("charlson_1987") == charlson("charlson_quan_2011") == 0
    # Quan 2011, table 2, and Charlson 1987, table 3, group by group.
    updated = [0, 2, 0, 0, 2, 1, 1, 0, 2, 0, 1, 2, 1, 2, 4, 6, 4]
    original = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 6, 6]
    assert [charlson("charlson_quan_2011", g) for g in scores.GROUPS] == updated
    assert [charlson("charlson_1987", g) for g in scores.GROUPS] == original
    assert charlson("charlson_1987", "diabetes", "diabetes_complicated") == 2
    assert charlson("charlson_1987", "malignancy", "metastatic") == 6
    assert charlson("charlson_quan_2011", "liver_mild", "liver_severe") == 4
    assert charlson("charlson_quan_2011", *scores.GROUPS) == 24 and charlson("charlson_1987", *scores.GROUPS) == 29
    for lost in scores.GROUPS:
        flags: dict[str, float | None] = dict.fromkeys(scores.GROUPS, 0.0)
        assert value("charlson_quan_2011", **flags | {lost: None}) is None, lost


@pytest.mark.parametrize(
    ("code", "group"),
    [
        ("I21.4", "myocardial_infarction"),
        ("i252", "myocardial_infarction"),
        ("I42.7", "heart_failure"),
        ("I13.2", "heart_failure"),
        ("Z95.8", "peripheral_vascular"),
        ("I64", "cerebrovascular"),
        ("F03.90", "dementia"),
        ("G30.1", "dementia"),
        ("J44.9", "pulmonary"),
        ("M35.3", "rheumatic"),
        ("K27.1", "peptic_ulcer"),
        ("K71.4", "liver_mild"),
        ("E11.9", "diabetes"),
        ("E11.42", "diabetes_complicated"),
        ("G83.2", "plegia"),
        ("N18.3", "renal"),
        ("C34.10", "malignancy"),
        ("K76.6", "liver_severe"),
        ("C78.7", "metastatic"),
        ("B20", "aids"),
    ],
)
def test_codes_of_quan_2005(code: str, group: str) -> None:
    frame = pl.DataFrame({"code": [code]})
    within = [g for g in scores.GROUPS if frame.select(conditions.belongs(pl.col("code"), g)).item()]
    assert within == [group]


def test_codes_that_belong_to_no_group() -> None:
    frame = pl.DataFrame({"code": ["I20.0", "I42.1", "K70.5", "E15", "C44.9", "B23", "G31.0", "J48", "K29.0", "Z94.1"]})
    for group in scores.GROUPS:
        assert not frame.select(conditions.belongs(pl.col("code"), group).any()).item(), group
    assert (
        pl.DataFrame({"c": [None]}, schema={"c": pl.String}).select(conditions.belongs(pl.col("c"), "aids")).item()
        is None
    )


def test_groups_do_not_overlap_within_the_index() -> None:
    prefixes = sorted((p, g) for g in scores.GROUPS for p in conditions.groups()[g])
    assert len(prefixes) > 200
    for (first, _), (second, _) in pairwise(prefixes):
        assert first != second and not second.startswith(first)


@pytest.mark.parametrize("score", list(scores.SCORES))
def test_every_score_states_its_units_and_refuses_others(score: str) -> None:
    units = scores.UNITS[score]
    scores.check_units(score, dict(units))
    for argument, unit in units.items():
        with pytest.raises(TrialOpsError, match=f"takes {argument} in {unit}"):
            scores.check_units(score, {**units, argument: "furlong"})
        with pytest.raises(TrialOpsError, match="left out"):
            scores.check_units(score, {k: v for k, v in units.items() if k != argument})
    everything_missing = value(score, **dict.fromkeys(units))
    assert everything_missing is None
