"""One clean table from one raw table: the expression that each column's action stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trialops.intake import partial_dates
from trialops.intake.domains import RECEIVED, ROW, SOURCE, delivery_label
from trialops.privacy import study_days
from trialops.privacy.patterns import DATE, plain_results
from trialops.privacy.study_days import HELPERS, REFERENCE, day_column

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.policy import Policy

# Units of age in a mean Gregorian year; a decade is the longest in the codelist AGEU or in use.
PER_YEAR = {"YEARS": 1.0, "MONTHS": 12.0, "WEEKS": 52.1775, "DAYS": 365.2425, "HOURS": 8765.82, "DECADES": 0.1}
PER_YEAR |= {name[:-1]: per for name, per in PER_YEAR.items()}
DURATION_YEARS = {"Y": 1.0, "M": 12.0, "W": 52.1775, "D": 365.2425}
_GONE = "_gone:"


@dataclass
class Withheld:
    """Values that became empty so as not to be released, by column; filled while tables are cleaned.

    Attributes:
        values: "DOMAIN.COLUMN" -> results that are neither numbers nor coded, and texts with a date in them.
        days: "DOMAIN.COLUMN" -> study days and durations that only somebody over the age limit can have.
        ages: Ages that became the top category.
        units: Ages without a known unit, so that nobody can tell whether they are over the limit.
        renumbered: --SEQ columns counted across subjects and counted again within each.
    """

    values: dict[str, int] = field(default_factory=dict)
    days: dict[str, int] = field(default_factory=dict)
    ages: int = 0
    units: int = 0
    renumbered: list[str] = field(default_factory=list)


def action_of(policy: Policy, domain: str, column: str, mode: str) -> str:
    """The action for a column. What the intake added is treated alike in every mode: it tells of the raw files."""
    rule = policy.rule(domain, column)
    if column in (SOURCE, ROW, RECEIVED):
        return rule.strict if rule else "drop"
    if mode == "off":
        return "keep"
    return rule.action(mode) if rule else "drop"


def clean_table(
    domain: str,
    frame: pl.DataFrame,
    mode: str,
    policy: Policy,
    names: dict[str, pl.DataFrame],
    deliveries: dict[str, int],
    withheld: Withheld,
    *,
    renumber: bool | None = None,
) -> pl.DataFrame:
    """Apply the policy to one table.

    Args:
        domain: Domain code.
        frame: Raw rows joined with the columns of `study_days.HELPERS`.
        mode: strict, limited or off.
        policy: The column policy.
        names: Per key space, a table of `raw` value and `pseudonym`.
        deliveries: File name -> number of its delivery.
        withheld: Takes the counts of what became empty.
        renumber: Whether --SEQ is counted again within each subject; None finds out from the frame, which then has
            to hold all subjects.

    Returns:
        The clean columns, the study day of every date, and KNOWNDY.
    """
    import polars as pl

    columns = [c for c in frame.columns if c not in HELPERS]
    out: dict[str, pl.Expr] = {}
    # Column -> the kind of value withheld and what it was before.
    before: dict[str, tuple[str, pl.Expr]] = {}
    for column in columns:
        rule = policy.rule(domain, column)
        action = action_of(policy, domain, column, mode)
        how = rule.how if rule and action == "generalise" else ""
        text = pl.col(column).cast(pl.String)
        if action == "drop":
            continue
        if column.endswith("DTC"):
            # Days since birth would give the birth date away: BRTHDTC has no study day.
            if column != "BRTHDTC":
                day = study_days.study_day(partial_dates.exact_day(column), pl.col(REFERENCE))
                before[day_column(column)] = ("days", day)
                out[day_column(column)] = _within_limit(day, mode, policy)
            if action != "day":
                out[column] = study_days.shifted(column) if action == "shift" else pl.col(column)
        elif action == "day" or (column.endswith("DY") and column != "VISITDY" and column[:-2] + "DTC" in columns):
            # A study day of the source stays only where its date is not in the table.
            if column[:-2] + "DTC" not in columns:
                day = pl.col(column).cast(pl.Int32)
                before[column], out[column] = ("days", day), _within_limit(day, mode, policy)
        elif action in ("cap_age", "age_years"):
            out |= _ages(columns, policy, cap=action == "cap_age")
        elif rule and action == "pseudonymise":
            table = names[rule.kind]
            out[column] = text.replace_strict(table["raw"], table["pseudonym"], return_dtype=pl.String)
        elif how == "delivery":
            labels = [delivery_label(n, domain) for n in deliveries.values()]
            out[column] = text.replace_strict(list(deliveries), labels, default=None, return_dtype=pl.String)
        elif how == "no_old_age":
            before[column], out[column] = ("days", text), pl.when(~_long(text, policy)).then(text)
        elif action in ("coded", "generalise"):
            if action == "coded":
                fine = text.is_in(plain_results(frame[column].cast(pl.String), policy.result_terms).implode())
            else:
                fine = ~text.str.contains(DATE)
            before[column], out[column] = ("values", text), pl.when(fine).then(text)
        elif column == f"{domain}SEQ":
            again = counted_across(domain, frame, mode) if renumber is None else renumber
            out[column] = _sequence(column, again, withheld)
        else:
            # AGEU comes after AGE and must not undo its change.
            out.setdefault(column, pl.col(column))
    gone = {f"{_GONE}{c}": value.is_not_null() & out[c].is_null() for c, (_, value) in before.items()}
    cleaned = frame.select(**out, **gone, KNOWNDY=study_days.known_day(domain, frame.columns))
    for column, (kind, _) in before.items():
        if n := int(cleaned[f"{_GONE}{column}"].sum()):
            counts = withheld.days if kind == "days" else withheld.values
            counts[f"{domain}.{column}"] = n
    if "AGE" in columns and action_of(policy, domain, "AGE", mode) == "cap_age":
        years = age_in_years(columns)
        withheld.ages += _sum(frame, over_age(columns, policy))
        withheld.units += _sum(frame, pl.col("AGE").is_not_null() & years.is_null())
    return cleaned.drop(list(gone))


def _within_limit(day: pl.Expr, mode: str, policy: Policy) -> pl.Expr:
    """A study day that does not tell an age over the limit: who was born that long ago is older."""
    import polars as pl

    return pl.when(day >= -policy.days_over_age).then(day) if mode == "strict" else day


def age_in_years(columns: list[str]) -> pl.Expr:
    """AGE in years by AGEU; null where the unit is not known."""
    import polars as pl

    if "AGEU" not in columns:
        return pl.lit(None, pl.Float64)
    unit = pl.col("AGEU").cast(pl.String).str.strip_chars().str.to_uppercase()
    return pl.col("AGE").cast(pl.Float64) / unit.replace_strict(PER_YEAR, default=None, return_dtype=pl.Float64)


def over_age(columns: list[str], policy: Policy) -> pl.Expr:
    """True where completed years of age are over the limit."""
    return age_in_years(columns) >= policy.age_over + 1


def _ages(columns: list[str], policy: Policy, *, cap: bool) -> dict[str, pl.Expr]:
    """AGE in years, and AGEU saying so.

    With `cap`, everything over the limit is one category, and an age without a known unit is withheld: 10 can be
    decades. Without, such an age stays as it is.
    """
    import polars as pl

    years = age_in_years(columns)
    known = years.is_not_null()
    if cap:
        age = pl.when(over_age(columns, policy)).then(pl.lit(float(policy.age_capped))).otherwise(years)
        rest: pl.Expr = pl.lit(None, pl.String)
    else:
        age = pl.coalesce(years, pl.col("AGE").cast(pl.Float64))
        rest = pl.col("AGEU") if "AGEU" in columns else pl.lit(None, pl.String)
    # Without an age the unit given stays: there is nothing it could be the wrong unit of.
    unit = pl.col("AGEU") if "AGEU" in columns else pl.lit(None, pl.String)
    kept = pl.when(known).then(pl.lit("YEARS")).when(pl.col("AGE").is_null()).then(unit).otherwise(rest)
    return {"AGE": age, "AGEU": kept}


def _long(text: pl.Expr, policy: Policy) -> pl.Expr:
    """True where an ISO 8601 duration is longer than the age limit."""
    import polars as pl

    date = text.str.extract(r"^[+-]?P([^T]*)", 1)
    parts = [date.str.extract(rf"(\d+(?:[.,]\d+)?){u}", 1).str.replace(",", ".", literal=True) for u in DURATION_YEARS]
    counts = zip(parts, DURATION_YEARS.values(), strict=True)
    return pl.sum_horizontal(p.cast(pl.Float64, strict=False).fill_null(0) / per for p, per in counts) > policy.age_over


def counted_across(domain: str, frame: pl.DataFrame, mode: str) -> bool:
    """Whether --SEQ counts across subjects, so that it would tell their order; in mode off nobody minds.

    Args:
        domain: Domain code.
        frame: Rows of all subjects.
        mode: strict, limited or off.
    """
    column = f"{domain}SEQ"
    if mode == "off" or column not in frame.columns or frame["USUBJID"].n_unique() < 2:
        return False
    keys = frame.select("USUBJID", column).drop_nulls().unique()
    return bool(keys[column].n_unique() == keys.height)


def _sequence(column: str, again: bool, withheld: Withheld) -> pl.Expr:
    """--SEQ as Int64, counted again within each subject where it would tell their order."""
    import polars as pl

    number = pl.col(column).cast(pl.Int64)
    if not again:
        return number
    withheld.renumbered.append(f"{column[:-3]}.{column}")
    return number.rank("dense").over("USUBJID").cast(pl.Int64)


def _sum(frame: pl.DataFrame, condition: pl.Expr) -> int:
    return int(frame.select(condition.sum()).item() or 0)
