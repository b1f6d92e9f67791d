"""Check types over anomalies.yaml: each runs a method once per table and counts what it flags."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trialops.quality import anomalies, anomalies_copies, anomalies_panels, anomalies_sites
from trialops.quality.checks import Context, Counted, NotApplicable, RowMeasure, check, require, table
from trialops.quality.rules import Rule

if TYPE_CHECKING:
    import polars as pl

ROW_METHODS: dict[str, Callable[..., anomalies.Marks]] = {
    "robust_z": anomalies.robust_z,
    "delta": anomalies.delta,
    "scale_error": anomalies.scale_errors,
}


def _data(context: Context, domain: str) -> pl.DataFrame:
    """The measurements of a table, put in shape once."""
    require(context, domain, "USUBJID", f"{domain}TESTCD", f"{domain}STRESN", f"{domain}STRESU")
    built: pl.DataFrame = context.memo(
        (domain, "measurements"), lambda: anomalies.measurements(context.tables[domain], domain)
    )
    if built.is_empty():
        raise NotApplicable(f"table {domain} has no numeric results")
    return built


def _sites(context: Context) -> pl.DataFrame:
    require(context, "DM", "USUBJID", "SITEID")
    return context.tables["DM"]


def _items(frame: pl.DataFrame, subject: str | None, record: pl.Expr) -> pl.DataFrame:
    import polars as pl

    who = pl.col(subject) if subject else pl.lit(None, pl.String)
    return frame.select(USUBJID=who, record=record)


@check("anomaly")
def anomaly(rule: Rule, context: Context) -> RowMeasure:
    """A method that marks single results; `label` picks one kind of what it marks."""
    import polars as pl

    method, data = rule.arguments["method"], _data(context, rule.domain)
    settings = anomalies.methods()[method]
    height = context.tables[rule.domain].height
    marks = context.memo((rule.domain, method), lambda: ROW_METHODS[method](data, height, **settings))
    flagged = marks.flagged
    if "label" in rule.arguments:
        flagged = flagged & (marks.label == rule.arguments["label"]).fill_null(False)
    return RowMeasure(pl.lit(marks.applies), pl.lit(flagged))


@check("copied_panel")
def copied_panel(rule: Rule, context: Context) -> Counted:
    """Visits whose panel repeats an earlier one of the subject; out of all panels."""
    import polars as pl

    data = _data(context, rule.domain)
    found = anomalies_copies.copied_panels(data, **anomalies.methods()["copied_panel"])
    panels = data.select("subject", "at").n_unique()
    day = pl.format(f"{rule.domain}DY {{}}", pl.col("at").cast(pl.Int64, strict=False))
    return Counted(found.height, panels, items=_items(found, "subject", day))


@check("duplicate_subject")
def duplicate_subject(rule: Rule, context: Context) -> Counted:
    """Pairs of subjects with the same laboratory panels; out of all subjects."""
    import polars as pl

    data = _data(context, "LB")
    require(context, rule.domain, "USUBJID")
    found = anomalies_copies.duplicate_subjects(data, **anomalies.methods()["duplicate_subject"])
    record = pl.format("same as {}", pl.col("other_subject"))
    return Counted(found.height, data["subject"].n_unique(), items=_items(found, "subject", record))


@check("panel_distance")
def panel_distance(rule: Rule, context: Context) -> Counted:
    """Panels whose results do not go together; out of all complete panels."""
    import polars as pl

    settings = anomalies.methods()["panel_distance"]
    found = anomalies_panels.panel_distances(_data(context, rule.domain), **settings)
    flagged = found.filter("flagged")
    day = pl.format(f"{rule.domain}DY {{}}", pl.col("at").cast(pl.Int64, strict=False))
    return Counted(flagged.height, found.height, items=_items(flagged, "subject", day))


def _by_site(found: pl.DataFrame) -> Counted:
    """Sites and tests flagged, out of those judged."""
    import polars as pl

    flagged = found.filter("flagged")
    record = pl.format("SITEID {}, {}", "site", "test")
    return Counted(flagged.height, found.height, items=_items(flagged, None, record))


@check("digit_preference")
def digit_preference(rule: Rule, context: Context) -> Counted:
    """Sites whose last digits differ from those of the others."""
    require(context, rule.domain, "USUBJID", f"{rule.domain}TESTCD", f"{rule.domain}ORRES")
    settings: dict[str, Any] = anomalies.methods()["digit_preference"]
    frame = table(context, rule.domain)
    return _by_site(anomalies_sites.digit_preference(frame, rule.domain, _sites(context), **settings))


@check("site_variance")
def site_variance(rule: Rule, context: Context) -> Counted:
    """Sites whose results vary unlike those of the others."""
    settings = anomalies.methods()["site_variance"]
    return _by_site(anomalies_sites.site_variance(_data(context, rule.domain), _sites(context), **settings))


@check("weekend_visits")
def weekend_visits(rule: Rule, context: Context) -> Counted:
    """Sites with unlike many or few visits at weekends; needs real dates, so it is for tables as received."""
    require(context, rule.domain, "USUBJID", "SVSTDTC")
    settings = anomalies.methods()["weekend"]
    return _by_site(anomalies_sites.weekend_visits(table(context, rule.domain), _sites(context), **settings))
