"""Scores of liver and comorbidity: FIB-4, MELD 3.0, Charlson's index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.features import conditions

if TYPE_CHECKING:
    import polars as pl

#: umol/L per mg/dL: creatinine 113.12 g/mol (rounded as in the publications), bilirubin 584.66 g/mol.
CREATININE = 88.4
BILIRUBIN = 17.104
#: Arguments of Charlson's index: 1 where a person has a condition of the group, 0 where not.
GROUPS = tuple(conditions.weights("charlson_1987"))


def fib_4(age: pl.Expr, ast: pl.Expr, alt: pl.Expr, platelets: pl.Expr) -> pl.Expr:
    """Fibrosis-4 index, without unit: age x AST / (platelets x sqrt(ALT)).

    Source: Sterling RK et al., Hepatology 2006;43:1317-25. The authors give no bounds.

    Args:
        age: Age in years.
        ast: Aspartate aminotransferase in U/L.
        alt: Alanine aminotransferase in U/L.
        platelets: Platelets in 10^9/L.
    """
    import polars as pl

    known = (age > 0) & (ast > 0) & (alt > 0) & (platelets > 0)
    return pl.when(known).then(age * ast / (platelets * alt.sqrt()))


def meld_3(
    bilirubin: pl.Expr,
    creatinine: pl.Expr,
    inr: pl.Expr,
    sodium: pl.Expr,
    albumin: pl.Expr,
    sex_female: pl.Expr,
    dialysis: pl.Expr,
) -> pl.Expr:
    """Model for End-Stage Liver Disease, version 3.0: points from 6 to 40.

    Source: Kim WR et al., Gastroenterology 2021;161:1887-95: 1.33 [female] + 4.56 ln(bilirubin) + 0.82 (137 - Na)
    - 0.24 (137 - Na) ln(bilirubin) + 9.09 ln(INR) + 11.14 ln(creatinine) + 1.85 (3.5 - albumin)
    - 1.83 (3.5 - albumin) ln(creatinine) + 6, in mg/dL, mmol/L and g/dL, rounded. Bounds as there: bilirubin,
    creatinine and INR at least 1.0, creatinine at most 3.0 (and 3.0 with dialysis), sodium 125 to 137, albumin
    1.5 to 3.5. The range of 6 to 40 is that of the allocation policy of the OPTN.

    Args:
        bilirubin: Total bilirubin in umol/L.
        creatinine: Serum creatinine in umol/L.
        inr: International normalised ratio.
        sodium: Serum sodium in mmol/L.
        albumin: Serum albumin in g/L.
        sex_female: 1 female, 0 male.
        dialysis: 1 with two or more dialyses, or 24 h of haemofiltration, in the last week, else 0.
    """
    import polars as pl

    on_dialysis = dialysis == 1
    bili = (bilirubin * (1 / BILIRUBIN)).clip(lower_bound=1.0).log()
    crea = pl.when(on_dialysis).then(3.0).otherwise((creatinine * (1 / CREATININE)).clip(1.0, 3.0)).log()
    clot = inr.clip(lower_bound=1.0).log()
    salt = 137 - sodium.clip(125, 137)
    protein = 3.5 - (albumin * 0.1).clip(1.5, 3.5)
    points = (
        pl.when(sex_female == 1).then(1.33).otherwise(0.0)
        + 4.56 * bili
        + 0.82 * salt
        - 0.24 * salt * bili
        + 9.09 * clot
        + 11.14 * crea
        + 1.85 * protein
        - 1.83 * protein * crea
        + 6
    )
    positive = (bilirubin > 0) & (creatinine > 0) & (inr > 0) & (sodium > 0) & (albumin > 0)
    known = positive & sex_female.is_not_null() & dialysis.is_not_null()
    return pl.when(known).then((points + 0.5).floor().clip(6, 40))


def charlson_1987(**flags: pl.Expr) -> pl.Expr:
    """Charlson comorbidity index with its original weights, 0 to 29 points.

    Source: Charlson ME et al., J Chronic Dis 1987;40:373-83, in the ICD-10 coding of Quan H et al., Med Care
    2005;43:1130-9. Of two grades of one disease the severer counts.

    Args:
        **flags: Group of conditions.yaml -> 1, 0, or null where not known; one unknown group makes the index null.
    """
    return conditions.index("charlson_1987", flags)


def charlson_quan_2011(**flags: pl.Expr) -> pl.Expr:
    """Charlson comorbidity index with updated weights, 0 to 24 points.

    Source: Quan H et al., Am J Epidemiol 2011;173:676-82, table 2; coding and grades as in `charlson_1987`.

    Args:
        **flags: As in `charlson_1987`.
    """
    return conditions.index("charlson_quan_2011", flags)
