"""Grades of results by CTCAE: criteria applied to a whole table at once, in three-valued logic.

A condition whose inputs are missing is neither true nor false. A grade is given when one of its conditions is true;
grade 0 only when every condition of every grade is false; anything else is not graded, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trialops.safety.criteria import Condition, Criterion, criteria
from trialops.safety.criteria_units import amount_column, unit_plan

if TYPE_CHECKING:
    import polars as pl

INPUTS = {
    "TEST": "String",
    "LOINC": "String",
    "VALUE": "Float64",
    "SIGN": "String",
    "UNIT": "String",
    "LLN": "Float64",
    "ULN": "Float64",
    "BASE": "Float64",
    "BASE_UNIT": "String",
    "BASE_HIGH": "Boolean",
    "AT_BASELINE": "Boolean",
    "SPECIMEN": "String",
    "FASTING": "Boolean",
}
"""Columns the engine reads and their types; TEST (or LOINC) and VALUE must be there, the others may be."""

OUTPUTS = ("ROW", "TERM", "DIRECTION", "GRADE", "REASON", "NOTE", "COMPARED", "COMPARED_UNIT")

NO_RESULT = "no result"
NOT_BLOOD = "the specimen is not blood"
NO_SPECIMEN = "no blood specimen is stated"
BOUND = "known only as beyond a limit of quantification"
NO_LLN, NO_ULN, NO_BASE = "no lower limit of normal", "no upper limit of normal", "no baseline"
NO_BASE_RANGE = "not known whether the baseline was abnormal"
AT_LEAST = "at least this grade"
NOT_FASTING = "not known to be fasting: grades 1 and 2 need that"
IN_RANGE = "no baseline; a result within range is not above an abnormal one either"


def grade(
    results: pl.DataFrame, version: str = "5.0", *, domain: str = "LB", alone: bool = False, digits: int | None = None
) -> pl.DataFrame:
    """Grade results by every criterion that applies to their test.

    Comparisons are of numbers rounded to ``digits`` significant digits on both sides, so that a limit reached by
    multiplication or conversion is the limit and not a hair beside it.

    Args:
        results: One row per result. TEST: SDTM test code (LOINC is looked at where there is none). VALUE, SIGN ("<" or
            ">" where only a bound was reported), UNIT: as collected. LLN, ULN: in UNIT. BASE, BASE_UNIT, BASE_HIGH: the
            baseline, and whether it was above its own range. AT_BASELINE: the result is at or before the baseline: it
            is graded as if the baseline were normal, and shows no change. SPECIMEN: "blood", "other" or nothing.
            FASTING. Columns that are not there count as not known.
        version: "4.03" or "5.0".
        domain: "LB", "VS" or "EG".
        alone: Grade by the result alone, without what a criterion assumes beside it (symptoms, treatment).
        digits: Significant digits; those of the criteria by default.

    Returns:
        One row per result and criterion, in the order of results, then of terms. ROW (position in ``results``, UInt32),
        TERM, DIRECTION, GRADE (Int8, 0 to 4; null where not graded), REASON (why not; else empty), NOTE (what to know
        about a grade; else empty), COMPARED and COMPARED_UNIT (the number that was compared, and its unit). A result
        whose test has no criterion has no row.
    """
    import polars as pl

    known = criteria(version, domain)
    there = set(results.columns)
    frame = results.select(
        *(
            (pl.col(name) if name in there else pl.lit(None)).cast(getattr(pl, kind)).alias(name)
            for name, kind in INPUTS.items()
        )
    ).with_row_index("ROW")
    frame = frame.with_columns(
        pl.col(pl.Float64).fill_nan(None),
        pl.col("SIGN").fill_null(""),
        pl.col("UNIT").fill_null("").str.strip_chars(),
        pl.col("SPECIMEN").fill_null(""),
        pl.col("AT_BASELINE").fill_null(False),
        _KEY=pl.when(pl.col("TEST").fill_null("") != "").then("TEST").otherwise("LOINC"),
        BASE_UNIT=pl.coalesce("BASE_UNIT", "UNIT").fill_null("").str.strip_chars(),
    )
    by_key = {str(key[0]): part for key, part in frame.partition_by("_KEY", as_dict=True).items()}
    parts = []
    for criterion in known.items:
        mine = [by_key[key] for key in _keys(criterion) if key in by_key]
        if mine:
            rows = pl.concat(mine).sort("ROW")
            if criterion.fasting is not None:
                rows = rows.filter(pl.col("FASTING").fill_null(False) == criterion.fasting)
            parts.append(_graded(rows, criterion, digits or known.digits, alone))
    empty = pl.DataFrame(
        schema={"ROW": pl.UInt32, "TERM": pl.String, "DIRECTION": pl.String, "GRADE": pl.Int8, "REASON": pl.String}
        | {"NOTE": pl.String, "COMPARED": pl.Float64, "COMPARED_UNIT": pl.String}
    )
    return pl.concat([empty, *parts]).sort("ROW", "TERM", maintain_order=True)


def _keys(criterion: Criterion) -> list[str]:
    """Test codes and LOINC codes of a criterion."""
    from trialops.standards.analytes import find_analyte

    codes = list(criterion.tests) + list(criterion.loinc)
    for test in criterion.tests:
        analyte = find_analyte(test)
        codes += analyte.loinc if analyte is not None else ()
    return list(dict.fromkeys(codes))


def _graded(rows: pl.DataFrame, criterion: Criterion, digits: int, alone: bool) -> pl.DataFrame:
    """The rows of a criterion's tests with grade, reason and note."""
    import polars as pl

    rules = criterion.alone if alone else criterion.grades
    used = [condition for conditions in rules.values() for condition in conditions]
    pairs = rows.select("UNIT", "BASE_UNIT").unique(maintain_order=True)
    plan = unit_plan(criterion, used, pairs.rows())
    frame = rows.join(plan, on=["UNIT", "BASE_UNIT"], how="left", maintain_order="left")

    def target(column: str, prefix: str = "_") -> pl.Expr:
        return pl.col(column) * pl.col(f"{prefix}factor") + pl.col(f"{prefix}offset")

    # A result beyond a limit of quantification lies just beyond it, at the least.
    just = 10.0 ** (1 - digits)
    value = target("VALUE")
    beyond = (
        pl.when(pl.col("SIGN") == "<").then(value * (1 - just)).when(pl.col("SIGN") == ">").then(value * (1 + just))
    )
    outward = "<" if criterion.direction == "low" else ">"
    frame = frame.with_columns(
        _plain=value,
        _none=pl.col("VALUE").is_null(),
        VALUE=pl.when(pl.col("SIGN") == outward).then(beyond).otherwise(value).round_sig_figs(digits),
        LLN=target("LLN"),
        ULN=target("ULN"),
        BASE=target("BASE", "_base_"),
    )
    truths = {g: pl.any_horizontal([_holds(c, digits) for c in conditions]) for g, conditions in rules.items()}
    frame = frame.with_columns(truth.alias(f"_g{g}") for g, truth in truths.items())
    order = sorted(rules, reverse=True)
    found = pl.coalesce([pl.when(pl.col(f"_g{g}")).then(pl.lit(g, pl.Int8)) for g in order])
    unknown = pl.any_horizontal([pl.col(f"_g{g}").is_null() for g in order])
    higher = pl.any_horizontal([pl.lit(False), *(pl.col(f"_g{g}").is_null() & (found < g) for g in order)])
    frame = frame.with_columns(
        _found=pl.coalesce(found, pl.when(~unknown).then(pl.lit(0, pl.Int8))), _higher=higher.fill_null(False)
    )
    outward_sign, inward_sign = pl.col("SIGN") == outward, (pl.col("SIGN") != "") & (pl.col("SIGN") != outward)
    graded = pl.col("_found").fill_null(0)
    # Below a limit: a low grade may be higher still, and none may yet be one; a high grade may not be one.
    lost = (outward_sign & (graded == 0)) | (inward_sign & (graded > 0))
    missing = [pl.when(pl.col(c).is_null()).then(pl.lit(text)) for c, text in _needed(criterion, used)]
    if any(condition.when.startswith(("baseline normal", "baseline abn")) for condition in used):
        unclear = pl.col("BASE").is_not_null() & pl.col("BASE_HIGH").is_null() & ~pl.col("AT_BASELINE")
        missing.append(pl.when(unclear).then(pl.lit(NO_BASE_RANGE)))
    required = [pl.col(name).is_null() for name in criterion.requires]
    reason = (
        pl.when("_none")
        .then(pl.lit(NO_RESULT))
        .when(pl.col("SPECIMEN").is_in(["", "blood"]).not_())
        .then(pl.lit(NOT_BLOOD))
        .when((pl.col("SPECIMEN") == "") & pl.lit(criterion.specimen == "stated"))
        .then(pl.lit(NO_SPECIMEN))
        .when(pl.col("_why") != "")
        .then(pl.col("_why"))
        .when(lost)
        .then(pl.lit(BOUND))
        .when(pl.col("_found").is_null() | pl.any_horizontal([pl.lit(False), *required]))
        .then(pl.concat_str(missing, separator="; ", ignore_nulls=True) if missing else pl.lit(""))
        .otherwise(pl.lit(""))
    )
    frame = frame.with_columns(REASON=reason).with_columns(GRADE=pl.when(pl.col("REASON") == "").then(pl.col("_found")))
    return frame.select(
        "ROW",
        TERM=pl.lit(criterion.term),
        DIRECTION=pl.lit(criterion.direction),
        GRADE=pl.col("GRADE"),
        REASON=pl.col("REASON"),
        NOTE=_note(criterion, used, alone, outward),
        COMPARED=pl.col("_plain").round_sig_figs(12),
        COMPARED_UNIT=pl.col("_unit"),
    )


def _holds(condition: Condition, digits: int) -> pl.Expr:
    """Whether a condition holds: true, false, or null where its inputs are missing."""
    import polars as pl

    value, base, lln, uln = (pl.col(name) for name in ("VALUE", "BASE", "LLN", "ULN"))
    left = value
    extra: pl.Expr | float = pl.col(amount_column(condition)) if condition.amounts else 0.0
    if condition.of == "value":
        limit = pl.lit(extra) if isinstance(extra, float) else extra
    elif condition.of in ("ULN", "LLN", "baseline"):
        limit = {"ULN": uln, "LLN": lln, "baseline": base}[condition.of] * condition.factor + extra
    else:
        change = pl.col("_plain") - base
        if condition.of.endswith("%"):
            change = pl.when(base > 0).then(100.0 * change / base)
        left = (-change if condition.of.startswith("decrease") else change).round_sig_figs(digits)
        limit = pl.lit(condition.factor)
    limit = limit.round_sig_figs(digits)
    compared = {"<": left < limit, "<=": left <= limit, ">": left > limit, ">=": left >= limit}[condition.op]
    if condition.when == "baseline abnormal":
        # An abnormal baseline lies above the range: what is within it is not above the baseline.
        within = base.is_null() & (value <= uln.round_sig_figs(digits)).fill_null(False)
        compared = pl.when(within).then(pl.lit(False)).otherwise(compared)
    above = base.round_sig_figs(digits) > uln.round_sig_figs(digits)
    at = pl.col("AT_BASELINE")
    only = {
        "": pl.lit(True),
        "baseline normal": at | ~pl.col("BASE_HIGH"),
        "baseline abnormal": ~at & pl.col("BASE_HIGH"),
        "baseline above ULN": ~at & above,
        "baseline not above ULN": at | ~above,
        "below LLN": value < lln.round_sig_figs(digits),
    }[condition.when]
    if condition.when in ("baseline normal", "baseline not above ULN"):
        # The same rule without a baseline: nothing is lost by taking it as normal when the result is within range.
        within = base.is_null() & (value <= uln.round_sig_figs(digits)).fill_null(False)
        compared = pl.when(within).then(pl.lit(False)).otherwise(compared)
    holds = only & compared
    if condition.of not in ("value", "ULN", "LLN"):
        holds = pl.when(at).then(pl.lit(False)).otherwise(holds)
    return holds


def _needed(criterion: Criterion, used: Iterable[Condition]) -> list[tuple[str, str]]:
    """Columns that a criterion looks at, and what is said when one is missing."""
    used = list(used)
    limits = {c.of for c in used} | set(criterion.requires) | ({"ULN"} if any("ULN" in c.when for c in used) else set())
    needed = []
    if "LLN" in limits or any(c.when == "below LLN" for c in used):
        needed.append(("LLN", NO_LLN))
    if "ULN" in limits:
        needed.append(("ULN", NO_ULN))
    if any(c.uses_baseline for c in used):
        needed.append(("BASE", NO_BASE))
    return needed


def _note(criterion: Criterion, used: list[Condition], alone: bool, outward: str) -> pl.Expr:
    """What a reader should know about a grade that was given."""
    import polars as pl

    given = pl.col("GRADE").is_not_null()
    parts = [pl.when(pl.col("_higher") | ((pl.col("SIGN") == outward) & (pl.col("GRADE") > 0))).then(pl.lit(AT_LEAST))]
    if criterion.assumes and not alone:
        parts.append(pl.when(pl.col("GRADE") > 0).then(pl.lit(f"assumes {criterion.assumes}")))
    if criterion.fasting is False:
        parts.append(pl.when(pl.col("FASTING").is_null()).then(pl.lit(NOT_FASTING)))
    if any(c.when.startswith("baseline") for c in used):
        missing = pl.col("BASE").is_null() & ~pl.col("AT_BASELINE") & ~pl.col("BASE_HIGH").eq_missing(False)
        parts.append(pl.when(missing & (pl.col("GRADE") == 0)).then(pl.lit(IN_RANGE)))
    return pl.when(given).then(pl.concat_str(parts, separator="; ", ignore_nulls=True)).otherwise(pl.lit(""))
