"""The score of a set of rule results, and the sentences that explain it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from trialops.quality.rules import RuleBook


STATUSES = ("pass", "fail", "not applicable", "error")


@dataclass(frozen=True)
class Contribution:
    """What a failed rule costs: its weight, points of the score, and the violations to mend until it passes."""

    rule: str
    severity: str
    weight: float
    points: float
    to_mend: int


@dataclass(frozen=True)
class Score:
    """A score between 0 and 100, whether it passes the gate, and why.

    Attributes:
        value: 100 x weight of passed rules / weight of passed and failed rules; 0 when none could be judged.
        passed: Whether the value reaches the gate.
        explanation: Sentences with the numbers behind it.
        losses: Failed rules, dearest first.
    """

    value: float
    passed: bool
    explanation: list[str]
    losses: tuple[Contribution, ...] = ()


def score(results: pl.DataFrame, book: RuleBook) -> Score:
    """Score rule results.

    A rule that does not apply or that ended in an error is in neither sum, so it can never raise the score. A
    failed fatal rule caps the score below the gate, and so does an error in one: what could not be checked is
    not assured.

    Args:
        results: Columns `rule`, `severity`, `status`, `violated`, `denominator` and `threshold`.
        book: Weights, gate and cap.
    """
    import polars as pl

    weight = pl.col("severity").replace_strict(book.weights, return_dtype=pl.Float64)
    passed = float(results.filter(pl.col("status") == "pass").select(weight.sum()).item() or 0)
    failed = float(results.filter(pl.col("status") == "fail").select(weight.sum()).item() or 0)
    fatal = pl.col("severity") == "fatal"
    fatal_failed = results.filter(fatal & (pl.col("status") == "fail")).height
    fatal_errors = results.filter(fatal & (pl.col("status") == "error")).height
    counts = {s: results.filter(pl.col("status") == s).height for s in STATUSES}
    value = 100.0 * passed / (passed + failed) if passed + failed else 0.0
    lines = [
        f"{counts['pass']} rules passed, {counts['fail']} failed, {counts['not applicable']} do not apply, "
        f"{counts['error']} ended in an error.",
        f"Weighted: {passed:g} of {passed + failed:g} passed = {value:.2f}.",
    ]
    if fatal_failed or fatal_errors:
        value = min(value, book.fatal_cap)
        lines.append(f"{fatal_failed} fatal rules failed and {fatal_errors} could not be checked: at most {value:.2f}.")
    ok = value >= book.gate
    lines.append(f"The gate is {book.gate:g}: {'passed' if ok else 'not passed'}.")
    losses = _losses(results, book, passed + failed)
    if not ok and losses:
        lines.append(_way_up(losses, passed, passed + failed, book, fatal_errors))
    return Score(value, ok, lines, losses)


def _losses(results: pl.DataFrame, book: RuleBook, total: float) -> tuple[Contribution, ...]:
    """Failed rules with what they cost; fatal ones first, since they hold the whole score down."""
    import polars as pl

    found = []
    columns = ("rule", "severity", "violated", "denominator", "threshold")
    for rule, severity, violated, denominator, threshold in (
        results.filter(pl.col("status") == "fail").select(columns).iter_rows()
    ):
        weight = book.weights[severity]
        allowed = int(threshold * denominator / 100 + 1e-9)
        found.append(Contribution(rule, severity, weight, 100 * weight / total, violated - allowed))
    return tuple(sorted(found, key=lambda c: (c.severity != "fatal", -c.weight, c.to_mend, c.rule)))


def _way_up(losses: tuple[Contribution, ...], passed: float, total: float, book: RuleBook, fatal_errors: int) -> str:
    """The shortest list of rules that, once they pass, open the gate; in the order of `losses`."""
    needed: list[str] = []
    for loss in losses:
        if 100 * passed / total >= book.gate and loss.severity != "fatal":
            break
        needed.append(loss.rule)
        passed += loss.weight
    more = f", {len(needed) - 10} more" if len(needed) > 10 else ""
    also = f" and the {fatal_errors} fatal rules in error can be checked" if fatal_errors else ""
    return f"It passes once these do: {', '.join(needed[:10])}{more}{also}."
