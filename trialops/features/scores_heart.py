"""Scores of the heart: the QT interval corrected for rate, stroke risk in atrial fibrillation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def qtcf(qt: pl.Expr, rr: pl.Expr) -> pl.Expr:
    """QT interval by Fridericia, in ms: QT / (RR / 1 s)^(1/3).

    Source: Fridericia LS, Acta Med Scand 1920;53:469-86; ICH E14 names it as a correction to report.

    Args:
        qt: QT interval in ms.
        rr: RR interval of the same recording in ms.
    """
    import polars as pl

    return pl.when((qt > 0) & (rr > 0)).then(qt / (rr * 0.001).pow(1 / 3))


def qtcf_rate(qt: pl.Expr, heart_rate: pl.Expr) -> pl.Expr:
    """`qtcf` from the heart rate: RR = 60,000 ms / rate.

    Args:
        qt: QT interval in ms.
        heart_rate: Heart rate of the same recording in beats/min.
    """
    import polars as pl

    return pl.when((qt > 0) & (heart_rate > 0)).then(qt * (heart_rate * (1 / 60)).pow(1 / 3))


def cha2ds2_vasc(
    age: pl.Expr,
    sex_female: pl.Expr,
    heart_failure: pl.Expr,
    hypertension: pl.Expr,
    diabetes: pl.Expr,
    stroke: pl.Expr,
    vascular: pl.Expr,
) -> pl.Expr:
    """Stroke risk in atrial fibrillation, 0 to 9 points.

    Source: Lip GYH et al., Chest 2010;137:263-72: two points for an age of 75 and more and for stroke, transient
    attack or thromboembolism; one each for an age of 65 to 74, female sex, heart failure, hypertension, diabetes
    and vascular disease. The score is for patients with atrial fibrillation: whether it applies is the user's part.

    Args:
        age: Age in years, adults.
        sex_female: 1 female, 0 male.
        heart_failure: Congestive heart failure or left ventricular dysfunction: 1 present, 0 not.
        hypertension: 1 present, 0 not.
        diabetes: 1 present, 0 not.
        stroke: Stroke, transient ischaemic attack or thromboembolism: 1 present, 0 not.
        vascular: Myocardial infarction, peripheral artery disease or aortic plaque: 1 present, 0 not.
    """
    import polars as pl

    flags = [sex_female, heart_failure, hypertension, diabetes, vascular]
    known = pl.all_horizontal(f.is_not_null() for f in [*flags, stroke]) & (age >= 18)
    by_age = pl.when(age >= 75).then(2.0).when(age >= 65).then(1.0).otherwise(0.0)
    points = by_age + 2.0 * (stroke == 1).cast(pl.Float64) + pl.sum_horizontal((f == 1).cast(pl.Float64) for f in flags)
    return pl.when(known).then(points)
