"""Standard columns of laboratory rows: SDTM test code by LOINC, result and range in the SI-based unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

STANDARD = ("LBTESTCD", "LBSTRESC", "LBSTRESN", "LBSTRESU", "LBSTNRLO", "LBSTNRHI")


def standardised(rows: pl.DataFrame) -> pl.DataFrame:
    """Add `STANDARD` to rows with LBLOINC, LBORRES, LBORRESU, LBORNRLO and LBORNRHI.

    LBTESTCD is null where no analyte is known by the LOINC code. A number without a conversion keeps no standard
    value: LBSTRESC then repeats LBORRES, as SDTM has it for character results.
    """
    import polars as pl

    from trialops.standards.analytes import find_analyte
    from trialops.standards.units import cdisc_unit, convert_column

    codes = rows["LBLOINC"].unique().drop_nulls().to_list()
    found = {code: analyte for code in codes if (analyte := find_analyte(code)) is not None and analyte.domain == "LB"}
    testcd = rows["LBLOINC"].replace_strict({c: a.code for c, a in found.items()}, default=None, return_dtype=pl.String)
    target = rows["LBLOINC"].replace_strict({c: a.si for c, a in found.items()}, default="", return_dtype=pl.String)
    unit = rows["LBORRESU"].fill_null("")

    def standard(column: str) -> pl.Series:
        numbers = rows[column].cast(pl.Float64, strict=False)
        value = convert_column(numbers, unit, target, testcd)["value"]
        return pl.select(pl.when(testcd.is_not_null()).then(value)).to_series()

    result = standard("LBORRES")
    known = result.is_not_null()
    units = {u: cdisc_unit(u) for u in target.unique().to_list() if u}
    shown = result.map_elements(lambda v: f"{v:.6g}", return_dtype=pl.String)
    return rows.with_columns(
        LBTESTCD=testcd,
        LBSTRESN=result,
        LBSTRESC=pl.when(known).then(shown).otherwise(pl.col("LBORRES")),
        LBSTRESU=pl.when(known).then(target.replace_strict(units, default=None, return_dtype=pl.String)),
        LBSTNRLO=standard("LBORNRLO"),
        LBSTNRHI=standard("LBORNRHI"),
    )
