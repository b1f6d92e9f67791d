"""Check types of source data verification: is what the source says in SDTM, and does it say the same?

A source is a table named SOURCE.<domain>, made by `source_records`. Only subjects the source knows are compared: whose
consent keeps them out of it is no finding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.quality.checks import Context, Counted, RowMeasure, check, require, table
from trialops.quality.rules import Rule
from trialops.quality.source_records import KEY, sdtm_events, sdtm_findings

if TYPE_CHECKING:
    import polars as pl


def _ours(context: Context, domain: str) -> pl.DataFrame:
    """Our records in the shape of the source's."""

    def build() -> pl.DataFrame:
        frame = table(context, domain)
        if domain == "AE":
            require(context, domain, "USUBJID", "AEDECOD")
            return sdtm_events(frame)
        require(context, domain, "USUBJID", f"{domain}TESTCD", f"{domain}ORRES")
        return sdtm_findings(frame, domain)

    ours: pl.DataFrame = context.memo((domain, "records"), build)
    return ours


def _matched(context: Context, domain: str) -> pl.DataFrame:
    """Our records with the source's beside them (columns with _source), null where it has none."""
    import polars as pl

    def build() -> pl.DataFrame:
        source, ours = table(context, f"SOURCE.{domain}"), _ours(context, domain)
        fields = [c for c in source.columns if c not in KEY and c in ours.columns]
        there = source.select(*KEY, *(pl.col(c).alias(f"{c}_source") for c in fields), found=pl.lit(True))
        known = ours.join(source.select("USUBJID").unique(), on="USUBJID", how="semi", maintain_order="left")
        return known.join(there, on=list(KEY), how="left", maintain_order="left")

    found: pl.DataFrame = context.memo((domain, "matched"), build)
    return found


def _rows(context: Context, domain: str, judged: pl.DataFrame) -> RowMeasure:
    """Marks on the rows of our table from judged records: ROW, bad."""
    import polars as pl

    height = context.tables[domain].height
    rows = pl.DataFrame({"ROW": pl.int_range(height, dtype=pl.UInt32, eager=True)})
    marked = rows.join(judged.select("ROW", "bad"), on="ROW", how="left", maintain_order="left")["bad"]
    return RowMeasure(pl.lit(marked.is_not_null()), pl.lit(marked.fill_null(False)))


@check("source_missing")
def source_missing(rule: Rule, context: Context) -> Counted:
    """Records of the source that SDTM lacks; out of those of subjects and tests that SDTM has."""
    import polars as pl

    source, ours = table(context, f"SOURCE.{rule.domain}"), _ours(context, rule.domain)
    asked = source.join(ours.select("USUBJID").unique(), on="USUBJID", how="semi")
    if rule.domain != "AE":
        asked = asked.join(ours.select("TEST").unique(), on="TEST", how="semi")
    lost = asked.join(ours, on=list(KEY), how="anti").sort(*KEY)
    return Counted(
        lost.height,
        asked.height,
        items=lost.select(
            USUBJID="USUBJID", record=pl.format("{} at {}", "TEST", "AT") if rule.domain != "AE" else "AT"
        ),
    )


@check("source_extra")
def source_extra(rule: Rule, context: Context) -> RowMeasure:
    """Records that the source does not have."""
    import polars as pl

    judged = _matched(context, rule.domain).with_columns(bad=pl.col("found").is_null())
    return _rows(context, rule.domain, judged)


@check("source_value")
def source_value(rule: Rule, context: Context) -> RowMeasure:
    """The number agrees with the source's within `tolerance` (relative), after conversion to our unit."""
    import polars as pl

    from trialops.standards.units import convert_column

    both = _matched(context, rule.domain).filter(pl.col("found"))
    turned = convert_column(both["VALUE_source"], both["UNIT_source"], both["UNIT"], both["TEST"])["value"]
    gap = (turned - both["VALUE"]).abs()
    bad = (gap > rule.arguments["tolerance"] * both["VALUE"].abs() + 1e-12).fill_null(True)
    return _rows(context, rule.domain, both.with_columns(bad=bad))


@check("source_field")
def source_field(rule: Rule, context: Context) -> RowMeasure:
    """A `field` agrees with the source's, where both have a value."""
    import polars as pl

    field = rule.arguments["field"]
    both = _matched(context, rule.domain).filter(pl.col("found"))
    judged = both.drop_nulls([field, f"{field}_source"]).with_columns(bad=pl.col(field) != pl.col(f"{field}_source"))
    return _rows(context, rule.domain, judged)
