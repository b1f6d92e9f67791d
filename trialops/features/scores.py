"""Clinical scores, as scalars and as polars expressions, each from its publication.

A score states its units and refuses others: a creatinine in mg/dL taken for umol/L gives a plausible and
wrong eGFR.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.features.scores_bedside import news2, news2_red
from trialops.features.scores_heart import cha2ds2_vasc, qtcf, qtcf_rate
from trialops.features.scores_organ import GROUPS, charlson_1987, charlson_quan_2011, fib_4, meld_3

if TYPE_CHECKING:
    import polars as pl

#: umol/L per mg/dL of creatinine (molar mass 113.12 g/mol).
CREATININE_UMOL_PER_MG_DL = 88.4
#: The units each argument of a score is taken in; the definitions are checked against this when they are
#: loaded.
_NEWS2 = {
    "respiration": "breaths/min",
    "saturation": "%",
    "scale_2": "1",
    "oxygen": "1",
    "systolic": "mmHg",
    "pulse": "beats/min",
    "alert": "1",
    "temperature": "C",
}
UNITS: dict[str, dict[str, str]] = {
    "bmi": {"weight": "kg", "height": "cm"},
    "egfr_ckd_epi_2021": {"creatinine": "umol/L", "age": "years", "sex_female": "1"},
    "fib_4": {"age": "years", "ast": "U/L", "alt": "U/L", "platelets": "GI/L"},
    "meld_3": {
        "bilirubin": "umol/L",
        "creatinine": "umol/L",
        "inr": "1",
        "sodium": "mmol/L",
        "albumin": "g/L",
        "sex_female": "1",
        "dialysis": "1",
    },
    "charlson_1987": dict.fromkeys(GROUPS, "1"),
    "charlson_quan_2011": dict.fromkeys(GROUPS, "1"),
    "news2": _NEWS2,
    "news2_red": _NEWS2,
    "qtcf": {"qt": "ms", "rr": "ms"},
    "qtcf_rate": {"qt": "ms", "heart_rate": "beats/min"},
    "cha2ds2_vasc": {
        "age": "years",
        **dict.fromkeys(("sex_female", "heart_failure", "hypertension", "diabetes", "stroke", "vascular"), "1"),
    },
}


def check_units(score: str, given: dict[str, str]) -> None:
    """Refuse arguments in other units than the score takes.

    Args:
        score: Name of the score.
        given: Argument -> unit.

    Raises:
        TrialOpsError: The score is unknown, an argument is missing or unknown, or its unit differs.
    """
    if score not in UNITS:
        raise TrialOpsError("The score is not known.", where=score, fix="Use one of " + ", ".join(UNITS) + ".")
    expected = UNITS[score]
    for argument in sorted(expected.keys() | given.keys()):
        if expected.get(argument) != given.get(argument):
            raise TrialOpsError(
                f"The score takes {argument} in {expected.get(argument, 'no unit at all')}, "
                f"not {given.get(argument, 'left out')}.",
                where=f"{score}, argument {argument}",
                fix="Convert the value first, or correct the definition.",
            )


def bmi(weight: pl.Expr, height: pl.Expr) -> pl.Expr:
    """Body mass index in kg/m2 from weight in kg and height in cm; null unless both are positive."""
    import polars as pl

    metres = height * 0.01
    return pl.when((weight > 0) & (height > 0)).then(weight / (metres * metres))


def egfr_ckd_epi_2021(creatinine: pl.Expr, age: pl.Expr, sex_female: pl.Expr) -> pl.Expr:
    """Estimated GFR in mL/min/1.73 m2, CKD-EPI 2021 creatinine equation, without race.

    Source: Inker LA et al., N Engl J Med 2021;385:1737-49, equation for creatinine:
    142 x min(Scr/k, 1)^a x max(Scr/k, 1)^-1.200 x 0.9938^age x 1.012 [female], Scr in mg/dL,
    k = 0.7 (female) or 0.9 (male), a = -0.241 (female) or -0.302 (male).

    Args:
        creatinine: Serum creatinine in umol/L.
        age: Age in years; the equation holds for adults, below 18 the result is null.
        sex_female: 1 female, 0 male, null unknown.
    """
    import polars as pl

    female = sex_female == 1
    # Multiplied, not divided by: polars divides by a number that all rows share in another way than by a column or a
    # single row, and the last digit would depend on who else is in the table.
    per_kappa = pl.when(female).then(1 / 0.7).otherwise(1 / 0.9)
    alpha = pl.when(female).then(-0.241).otherwise(-0.302)
    factor = pl.when(female).then(1.012).otherwise(1.0)
    ratio = creatinine * (1 / CREATININE_UMOL_PER_MG_DL) * per_kappa
    low = pl.min_horizontal(ratio, pl.lit(1.0)).pow(alpha)
    high = pl.max_horizontal(ratio, pl.lit(1.0)).pow(-1.2)
    value = 142 * low * high * pl.lit(0.9938).pow(age) * factor
    return pl.when((creatinine > 0) & (age >= 18) & sex_female.is_not_null()).then(value)


SCORES: dict[str, Callable[..., pl.Expr]] = {
    "bmi": bmi,
    "egfr_ckd_epi_2021": egfr_ckd_epi_2021,
    "fib_4": fib_4,
    "meld_3": meld_3,
    "charlson_1987": charlson_1987,
    "charlson_quan_2011": charlson_quan_2011,
    "news2": news2,
    "news2_red": news2_red,
    "qtcf": qtcf,
    "qtcf_rate": qtcf_rate,
    "cha2ds2_vasc": cha2ds2_vasc,
}
