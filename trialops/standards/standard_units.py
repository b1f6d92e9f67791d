"""Standard results of SDTM findings: LBSTRESN, LBSTRESU and their like from the original result and unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trialops.errors import TrialOpsError
from trialops.standards.units import cdisc_unit, convert_column, find_analyte, ucum_code

if TYPE_CHECKING:
    import polars as pl

DOMAINS = ("LB", "VS")
Convention = Literal["si", "us"]
Notation = Literal["cdisc", "ucum"]


def standard_units(
    frame: pl.DataFrame, domain: str, *, convention: Convention = "si", notation: Notation = "cdisc"
) -> pl.DataFrame:
    """Give a findings table standard results; the original result and unit are kept as they are.

    Args:
        frame: Columns --TESTCD, --ORRES, --ORRESU (``--`` is the domain); reference ranges --ORNRLO and --ORNRHI
            are converted with it where they are there.
        domain: "LB" or "VS".
        convention: "si" or "us": the standard unit of each analyte in ``analytes.yaml``. A test that the table does
            not know keeps its unit.
        notation: Units as CDISC submission values or as UCUM codes.

    Returns:
        The frame with --STRESC, --STRESN, --STRESU (and --STNRLO, --STNRHI) replaced, and --STREASN: why a row has
        no standard number, or was left in its unit; empty otherwise. A result below or above a limit ("<0.2") has
        a converted --STRESC and no number.

    Raises:
        TrialOpsError: The domain is another, or columns are missing.
    """
    import polars as pl

    if domain not in DOMAINS:
        raise TrialOpsError(f"{domain} has no units to standardise.", where=domain, fix=f"Use {' or '.join(DOMAINS)}.")
    test, result, unit = (f"{domain}{name}" for name in ("TESTCD", "ORRES", "ORRESU"))
    missing = [name for name in (test, result, unit) if name not in frame.columns]
    if missing:
        raise TrialOpsError(f"Columns {', '.join(missing)} are missing.", where=domain)
    text = pl.col(result).cast(pl.String).str.strip_chars().fill_null("")
    parts = frame.select(
        test=pl.col(test).cast(pl.String).fill_null(""),
        unit=pl.col(unit).cast(pl.String).fill_null(""),
        text=text,
        sign=text.str.extract(r"^([<>]=?)\s*[\d.]", 1).fill_null(""),
        number=text.str.strip_prefix("<").str.strip_prefix(">").str.strip_prefix("=").cast(pl.Float64, strict=False),
    )
    target = _targets(parts.select("test", "unit").unique(maintain_order=True), convention)
    parts = parts.join(target, on=["test", "unit"], how="left", maintain_order="left")
    made = convert_column(parts["number"], parts["unit"], parts["target"], parts["test"])
    known = parts.select(
        value=made["value"],
        reason=pl.when(pl.col("text") == "")
        .then(pl.lit("no result"))
        .when(pl.col("number").is_null())
        .then(pl.lit("the result is no number"))
        .when(made["reason"] != "")
        .then(made["reason"])
        .when(pl.col("sign") != "")
        .then(pl.lit("beyond a limit of quantification"))
        .otherwise(pl.col("kept")),
        shown=pl.col("label_ucum") if notation == "ucum" else pl.col("label_cdisc"),
        sign="sign",
        text="text",
    )
    exact = pl.col("value").is_not_null() & (pl.col("sign") == "")
    number = pl.col("value").round_sig_figs(12)
    columns = known.select(
        pl.when(pl.col("value").is_not_null())
        .then(pl.concat_str(["sign", number.cast(pl.String).str.strip_suffix(".0")]))
        .otherwise("text")
        .alias(f"{domain}STRESC"),
        pl.when(exact).then(number).alias(f"{domain}STRESN"),
        pl.when(pl.col("value").is_not_null()).then("shown").otherwise(pl.lit("")).alias(f"{domain}STRESU"),
        pl.col("reason").alias(f"{domain}STREASN"),
    )
    return frame.with_columns(*columns, *_ranges(frame, parts, domain))


def _targets(pairs: pl.DataFrame, convention: Convention) -> pl.DataFrame:
    """The standard unit of each distinct test and unit, with its labels."""
    import polars as pl

    rows = []
    for test, unit in pairs.iter_rows():
        analyte = find_analyte(test)
        code = ucum_code(unit, test or None)
        kept = ""
        if analyte is None:
            kept = "the test has no standard unit; the collected one is kept"
            target = code or unit
        else:
            target = analyte.si if convention == "si" else analyte.us
        plain = target == "1"
        rows.append((test, unit, target, kept, "" if plain else target, "" if plain else cdisc_unit(target)))
    names = ("test", "unit", "target", "kept", "label_ucum", "label_cdisc")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String()), orient="row")


def _ranges(frame: pl.DataFrame, parts: pl.DataFrame, domain: str) -> list[pl.Series]:
    """Reference limits in the standard unit; null where they are no numbers or have no conversion."""
    import polars as pl

    out = []
    for side in ("LO", "HI"):
        name = f"{domain}ORNR{side}"
        if name in frame.columns:
            numbers = frame[name].cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
            made = convert_column(numbers, parts["unit"], parts["target"], parts["test"])
            out.append(made["value"].round_sig_figs(12).alias(f"{domain}STNR{side}"))
    return out


def range_indicator(frame: pl.DataFrame, domain: str = "LB") -> pl.Series:
    """--NRIND from the original result and the original reference range.

    LOW if the result is below the lower limit, HIGH if it is above the upper one, else NORMAL: the limits belong to
    the range. Comparison is of numbers, in the collected unit, so no rounding of a conversion can move a result
    across a limit. Where the result or both limits are no numbers there is no indicator; with one limit it is judged
    on that side alone and NORMAL otherwise.

    Args:
        frame: Columns --ORRES, --ORNRLO, --ORNRHI.
        domain: Prefix of the columns.
    """
    import polars as pl

    value, low, high = (
        pl.col(f"{domain}{name}").cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
        for name in ("ORRES", "ORNRLO", "ORNRHI")
    )
    indicator = (
        pl.when(value.is_null() | (low.is_null() & high.is_null()))
        .then(None)
        .when(value < low)
        .then(pl.lit("LOW"))
        .when(value > high)
        .then(pl.lit("HIGH"))
        .otherwise(pl.lit("NORMAL"))
    )
    return frame.select(indicator.alias(f"{domain}NRIND")).to_series()
