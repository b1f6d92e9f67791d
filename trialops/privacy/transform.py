"""One clean table from one raw table: the expression that each column's action stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.intake import partial_dates
from trialops.privacy import study_days
from trialops.privacy.scan import DATE
from trialops.privacy.study_days import OFFSET, REFERENCE, day_column

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.policy import Policy, Rule

# Days and hours in a mean Gregorian year.
PER_YEAR = {"YEARS": 1.0, "MONTHS": 12.0, "WEEKS": 52.1775, "DAYS": 365.2425, "HOURS": 8765.82}


def action_of(rule: Rule | None, mode: str) -> str:
    """The action for a column. The receipt date goes in every mode: KNOWNDY carries it."""
    if rule is not None and rule.columns == ("_RECEIVED",):
        return "drop"
    if mode == "off":
        return "keep"
    return rule.action(mode) if rule else "drop"


def clean_table(
    domain: str,
    frame: pl.DataFrame,
    mode: str,
    policy: Policy,
    names: dict[str, pl.DataFrame],
    deliveries: dict[str, str],
) -> pl.DataFrame:
    """Apply the policy to one table.

    Args:
        domain: Domain code.
        frame: Raw rows joined with `_reference` (and `_offset` in mode limited).
        mode: strict, limited or off.
        policy: The column policy.
        names: Per key space, a table of `raw` value and `pseudonym`.
        deliveries: File name -> the name that stands for it.

    Returns:
        The clean columns, the study day of every date, and KNOWNDY.
    """
    import polars as pl

    columns = [c for c in frame.columns if c not in (REFERENCE, OFFSET)]
    out: dict[str, pl.Expr] = {}
    for column in columns:
        rule = policy.rule(domain, column)
        action = action_of(rule, mode)
        if action == "drop":
            continue
        if column.endswith("DTC"):
            # Days since birth would give the birth date away: BRTHDTC has no study day.
            if column != "BRTHDTC":
                day = study_days.study_day(partial_dates.exact_day(column), pl.col(REFERENCE))
                out[day_column(column)] = day
            if action != "day":
                out[column] = study_days.shifted(column) if action == "shift" else pl.col(column)
        elif action == "day" or (column.endswith("DY") and column != "VISITDY" and column[:-2] + "DTC" in columns):
            # A study day of the source stays only where its date is not in the table.
            if column[:-2] + "DTC" not in columns:
                out[column] = pl.col(column).cast(pl.Int32)
        elif action == "cap_age":
            out |= _capped(columns, policy)
        elif rule and action == "pseudonymise":
            table = names[rule.kind]
            text = pl.col(column).cast(pl.String)
            out[column] = text.replace_strict(table["raw"], table["pseudonym"], return_dtype=pl.String)
        elif rule and action == "generalise" and rule.how == "delivery":
            out[column] = pl.col(column).replace(list(deliveries), list(deliveries.values()))
        elif action == "generalise":
            out[column] = pl.when(~pl.col(column).str.contains(DATE)).then(pl.col(column))
        elif column == f"{domain}SEQ":
            out[column] = pl.col(column).cast(pl.Int64)
        else:
            # AGEU comes after AGE and must not undo its change.
            out.setdefault(column, pl.col(column))
    return frame.select(**out, KNOWNDY=study_days.known_day(domain, columns))


def age_in_years(columns: list[str]) -> pl.Expr:
    """AGE in years, by AGEU where it is there."""
    import polars as pl

    if "AGEU" not in columns:
        return pl.col("AGE")
    factor = pl.col("AGEU").str.to_uppercase().replace_strict(PER_YEAR, default=1.0, return_dtype=pl.Float64)
    return pl.col("AGE") / factor


def over_age(columns: list[str], policy: Policy) -> pl.Expr:
    """True where completed years of age are over the limit."""
    return age_in_years(columns) >= policy.age_over + 1


def _capped(columns: list[str], policy: Policy) -> dict[str, pl.Expr]:
    """AGE with everything over the limit as one category, in years."""
    import polars as pl

    over = over_age(columns, policy)
    out = {"AGE": pl.when(over).then(pl.lit(float(policy.age_capped))).otherwise(pl.col("AGE"))}
    if "AGEU" in columns:
        out["AGEU"] = pl.when(over).then(pl.lit("YEARS")).otherwise(pl.col("AGEU"))
    return out
