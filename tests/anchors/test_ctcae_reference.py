"""CTCAE grades against an independent reading: the published R expressions, run by a small interpreter of their own.

The reference is pharmaverse/admiral's machine reading of the NCI text (SI units, significant digits). Every criterion
of both versions is compared on a grid at, just under and just over every limit, with limits of normal and baselines
present and missing. The NCI's own sentences are read a second time for the conventional units.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trialops.safety.criteria import criteria
from trialops.safety.ctcae import grade

DIGITS = 5
Row = dict[str, Any]
FILES = {"4.03": "ncictcaev4.json", "5.0": "ncictcaev5.json"}
UNITS = {"10^9/L": "10*9/L", "MMOL/L": "mmol/L", "UMOL/L": "umol/L"}


def signif(x: float | None, digits: int = DIGITS) -> float | None:
    """R's signif, by decimal arithmetic."""
    if x is None or x == 0:
        return x
    exact = Decimal(repr(x))
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - digits + 1), rounding=ROUND_HALF_EVEN))


class Reader:
    """R's case_when over is.na, signif, comparisons, %in%, !, &, |, + and *; NA as None."""

    TOKEN = re.compile(r'\s*(%in%|<=|>=|[A-Za-z_.]+(?:\.[A-Za-z]+)?|\d+\.?\d*|"[^"]*"|[<>!&|()*+,~-])')

    def __init__(self, text: str) -> None:
        self.tokens = self.TOKEN.findall(text)
        assert "".join(self.tokens) == re.sub(r"\s+", "", text), text
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.peek()
        assert not wanted or token == wanted, (token, wanted)
        self.at += 1
        return token

    def clauses(self) -> list[tuple[Callable[[Row], Any], str | None]]:
        found = []
        while self.peek():
            test = self.either()
            self.take("~")
            result = self.take()
            found.append((test, None if result == "NA_character_" else result.strip('"')))
            if self.peek():
                self.take(",")
        return found

    def either(self) -> Callable[[Row], Any]:
        left = self.both()
        while self.peek() == "|":
            self.take()
            left = (lambda a, b: lambda r: _or(a(r), b(r)))(left, self.both())
        return left

    def both(self) -> Callable[[Row], Any]:
        left = self.negated()
        while self.peek() == "&":
            self.take()
            left = (lambda a, b: lambda r: _and(a(r), b(r)))(left, self.negated())
        return left

    def negated(self) -> Callable[[Row], Any]:
        if self.peek() == "!":
            self.take()
            inner = self.negated()
            return lambda r: None if inner(r) is None else not inner(r)
        return self.compared()

    def compared(self) -> Callable[[Row], Any]:
        left = self.total()
        operator = self.peek()
        if operator == "%in%":
            self.take()
            self.take("high_indicator")
            return lambda r: left(r) in ("HIGH", "HIGH HIGH")
        if operator not in ("<", "<=", ">", ">="):
            return left
        self.take()
        right = self.total()

        def compare(r: Row) -> bool | None:
            a, b = left(r), right(r)
            if a is None or b is None:
                return None
            return bool({"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[operator])

        return compare

    def total(self) -> Callable[[Row], Any]:
        left = self.product()
        while self.peek() == "+":
            self.take()
            left = (lambda a, b: lambda r: None if a(r) is None or b(r) is None else a(r) + b(r))(left, self.product())
        return left

    def product(self) -> Callable[[Row], Any]:
        left = self.atom()
        while self.peek() == "*":
            self.take()
            left = (lambda a, b: lambda r: None if a(r) is None or b(r) is None else a(r) * b(r))(left, self.atom())
        return left

    def atom(self) -> Callable[[Row], Any]:
        token = self.take()
        if token == "(":
            inner = self.either()
            self.take(")")
            return inner
        if token == "-":
            value = float(self.take())
            return lambda r: -value
        if token == "is.na":
            self.take("(")
            name = self.take()
            self.take(")")
            return lambda r: r[name] is None
        if token == "signif":
            self.take("(")
            inner = self.total()
            self.take(",")
            self.take("signif_dig")
            self.take(")")
            return lambda r: signif(inner(r))
        if token[0].isdigit():
            number = float(token)
            return lambda r: number
        return lambda r: r[token]


def _and(a: bool | None, b: bool | None) -> bool | None:
    return False if a is False or b is False else (None if a is None or b is None else True)


def _or(a: bool | None, b: bool | None) -> bool | None:
    return True if a is True or b is True else (None if a is None or b is None else False)


def program(entry: Row) -> Callable[[Row], int | None]:
    """The entry's grade of a row, in the order NA, 4, 3, 2, 1, and 0 where nothing matched."""
    codes = [entry.get(f"GRADE_{g}_CODE") for g in ("NA", "4", "3", "2", "1")]
    clauses = [clause for code in codes if code for clause in Reader(code).clauses()]

    def run(row: Row) -> int | None:
        for test, result in clauses:
            if test(row):
                return None if result is None else int(result)
        return 0

    return run


def around(limits: set[float]) -> list[float]:
    """At, just under and just over each limit at the digits of the comparison, and within what they round away."""
    steps = (0, 1e-7, -1e-7, 1.2e-4, -1.2e-4, 1e-3, -1e-3, 0.01, -0.01, 0.07, -0.07, 0.2, -0.2)
    return sorted({limit * (1 + step) for limit in limits for step in steps})


def grid(entry: Row) -> Iterator[Row]:
    """Rows around every limit of an entry, with what it looks at there and missing."""
    text = " ".join(str(entry.get(f"GRADE_{g}_CODE", "")) for g in (4, 3, 2, 1))
    absolute = {float(n) for n in re.findall(r"AVAL, signif_dig\) *[<>]=? *(?:signif\()?(\d+\.?\d*)(?![\d.*])", text)}
    centre = sorted(absolute)[len(absolute) // 2] if absolute else 100.0
    # Limits of normal between the absolute limits and beyond them all, so that none hides another.
    low = max(absolute, default=70.0) * (6 if "PCHG" in text else 1.3)
    high = min(absolute, default=130.0) * 0.7
    used = {name for name in ("ANRLO", "ANRHI", "BASE", "BNRIND", "PCHG") if name in text}
    multiples = {float(n) for n in re.findall(r"(\d+\.?\d*)\*(?:ANRHI|ANRLO|BASE)", text)} | {1.0}
    added = {float(n) for n in re.findall(r"(?:ANRHI|BASE) \+ (\d+)", text)} | {0.0}
    changes = {1 - float(n) / 100 for n in re.findall(r"-(\d+)", text)} | {1.0}
    lows = (low, centre * 0.97, None) if "ANRLO" in used else (None,)
    highs = (high, centre * 1.01, None) if "ANRHI" in used else (None,)
    needs_base = used & {"BASE", "BNRIND", "PCHG"}
    near = low if "PCHG" in used else high
    bases = (near * 1.4, near * 1.2, near * 0.5, near * 0.8, near, near * 8, None) if needs_base else (None,)
    flags = ("HIGH", "NORMAL", None) if "BNRIND" in used else (None,)
    for lln, uln, base, flag in itertools.product(lows, highs, bases, flags):
        limits = set(absolute)
        for reference in (lln, uln, base):
            if reference is not None:
                limits |= {m * reference for m in multiples} | {reference + a for a in added}
                limits |= {reference * c for c in changes} if "PCHG" in used else set()
        for value in [*around(limits), None]:
            change = None if value is None or base is None else 100 * (value - base) / base
            yield {"AVAL": value, "ANRLO": lln, "ANRHI": uln, "BASE": base, "BNRIND": flag, "PCHG": change}


# Where the engine differs from the reference, and why: a predicate for each, looked at only where the grades differ.
RELATIVE = {
    "Alanine aminotransferase increased",
    "Alkaline phosphatase increased",
    "Aspartate aminotransferase increased",
    "Blood bilirubin increased",
    "GGT increased",
}


def declared(version: str, term: str, row: Row, mine: int | None, reference: int | None) -> str:
    """The declared reason for a difference; empty when there is none."""
    value, base = row["AVAL"], row["BASE"]
    if version == "5.0" and term in RELATIVE and mine is None and (row["BNRIND"] is None or base is None):
        return "v5: without a baseline, or its range, a result above normal is not graded"
    if version == "5.0" and term == "GGT increased" and mine == 1 and signif(value) == signif(2 * base):
        return "v5 GGT: 2.0 x baseline is grade 1, as the text has it"
    if term == "Hypertriglyceridemia" and mine == 1 and signif(value) == 1.71:
        return "triglycerides: 1.71 mmol/L is grade 1, as the text has it"
    if version == "5.0" and term == "Creatinine increased" and mine is None and base is None and reference == 0:
        return "v5 creatinine: without a baseline a result within range is not graded"
    if version == "4.03" and term == "Hemoglobin increased" and mine is None and base is None:
        return "v4 hemoglobin: without a baseline a result above normal is not graded"
    return ""


def entries(anchors: Path, version: str) -> list[Row]:
    found: list[Row] = json.loads((anchors / "ctcae" / FILES[version]).read_text("utf-8"))
    return found


def engine(version: str, term: str, rows: list[Row], unit: str) -> list[int | None]:
    """The engine's grades of rows of one term."""
    criterion = next(c for c in criteria(version).items if c.term == term)
    frame = pl.DataFrame(
        {
            "TEST": criterion.tests[0],
            "VALUE": [r["AVAL"] for r in rows],
            "UNIT": unit,
            "LLN": [r["ANRLO"] for r in rows],
            "ULN": [r["ANRHI"] for r in rows],
            "BASE": [r["BASE"] for r in rows],
            "BASE_HIGH": [None if r["BNRIND"] is None else r["BNRIND"] == "HIGH" for r in rows],
            "SPECIMEN": "blood",
            "FASTING": criterion.fasting,
        },
        schema_overrides={c: pl.Float64 for c in ("VALUE", "LLN", "ULN", "BASE")}
        | {"BASE_HIGH": pl.Boolean, "FASTING": pl.Boolean},
    )
    found = grade(frame, version).filter(pl.col("TERM") == term)
    assert found["ROW"].to_list() == list(range(len(rows)))
    return found["GRADE"].to_list()


@pytest.mark.parametrize("version", ["4.03", "5.0"])
def test_every_criterion_of_the_reference_is_here_and_no_other(anchors: Path, version: str) -> None:
    theirs = {e["TERM"]: e for e in entries(anchors, version)}
    mine = {c.term: c for c in criteria(version).items}
    assert set(mine) == set(theirs) and len(mine) == {"4.03": 42, "5.0": 40}[version]
    assert all("GRADE_NA_CODE" in e for e in theirs.values())
    for term, entry in theirs.items():
        assert mine[term].direction == {"L": "low", "H": "high"}[entry["DIRECTION"]], term
        assert set(mine[term].grades) == {int(g) for g in "1234" if f"GRADE_{g}_CODE" in entry}, term
        if "UNIT_CHECK" in entry:
            assert mine[term].units[0] == UNITS.get(entry["UNIT_CHECK"], entry["UNIT_CHECK"]), term
        assert bool(mine[term].assumes) == ("worst case" in str(entry.get("COMMENT"))), term


@pytest.mark.parametrize("version", ["4.03", "5.0"])
def test_no_grade_differs_from_the_reference_but_where_it_is_declared(anchors: Path, version: str) -> None:
    undeclared: list[tuple[str, Row, int | None, int | None]] = []
    reasons: dict[str, int] = {}
    points = 0
    for entry in entries(anchors, version):
        run, rows = program(entry), list(grid(entry))
        unit = str(UNITS.get(entry.get("UNIT_CHECK", ""), entry.get("UNIT_CHECK", "")))
        points += len(rows)
        for row, mine in zip(rows, engine(version, entry["TERM"], rows, unit), strict=True):
            theirs = run(row)
            if mine != theirs:
                why = declared(version, entry["TERM"], row, mine, theirs)
                reasons[why] = reasons.get(why, 0) + 1
                if not why:
                    undeclared.append((entry["TERM"], row, mine, theirs))
    assert undeclared == [], undeclared[:5]
    assert points > 8_000
    # The declared differences are all met: none of them is a licence that nothing needs.
    assert len(reasons) == {"4.03": 2, "5.0": 4}[version], reasons


def printed(entry: Row, unit: str) -> dict[int, float]:
    """Limits in a conventional unit as the NCI prints them, by grade: the first number of the part with the unit."""
    found = {}
    for g in range(1, 5):
        for part in re.split(r";", entry[f"GRADE_{g}"]):
            part = re.sub(r"\([^)]*\)", "", part)
            if unit not in part or "absolute" in part:
                continue
            inside = part[: part.index(unit)]
            numbers = re.findall(r"\d[\d,]*\.?\d*", inside)
            if numbers and not re.search(r"[<>]\s*(?:ULN|LLN)", inside) and "above" not in entry[f"GRADE_{g}"]:
                found[g] = float(numbers[0].replace(",", ""))
                break
    return found


TEXT_UNITS = {"/uL": "/mm3", "g/dL": "g/dL", "mg/dL": "mg/dL"}


@pytest.mark.parametrize("version", ["4.03", "5.0"])
def test_conventional_limits_are_those_the_nci_prints(anchors: Path, version: str) -> None:
    checked = 0
    for entry in entries(anchors, version):
        criterion = next(c for c in criteria(version).items if c.term == entry["TERM"])
        unit = criterion.units[1] if len(criterion.units) > 1 else ""
        if not unit or entry["TERM"] in ("Fibrinogen decreased", "Hemoglobin increased"):
            continue  # Their conventional numbers stand inside a sentence; the vectors of tests/unit have them.
        # What is not fasting has no grades 1 and 2: the text gives those for fasting glucose.
        text = {g: t for g, t in printed(entry, TEXT_UNITS[unit]).items() if g > 2 or entry["TERM"] != "Hyperglycemia"}
        amounts = {g: c.amounts[1] for g, rules in criterion.grades.items() for c in rules if c.of == "value"}
        assert text == amounts, (entry["TERM"], text, amounts)
        checked += len(text)
        # Graded in that unit, at, just under and just over what is printed.
        far = {"low": 3 * max(text.values()), "high": min(text.values()) / 3}[criterion.direction]
        rows = [
            {"AVAL": v, "ANRLO": far, "ANRHI": far, "BASE": None, "BNRIND": None}
            for v in around(set(text.values()))
            if (v < far if criterion.direction == "low" else v > far)
        ]
        plain = 1 if 1 in criterion.grades and 1 not in text else 0
        for row, mine in zip(rows, engine(version, entry["TERM"], rows, unit), strict=True):
            value = signif(row["AVAL"])
            assert value is not None
            beyond = {g for g, t in text.items() if (value < t if criterion.direction == "low" else value > t)}
            beyond |= {g for g, t in text.items() if value == t and entry["TERM"] == "Hypertriglyceridemia" and g == 1}
            plainly = {"Hyperuricemia": 3}.get(entry["TERM"], plain)
            assert mine == max(beyond, default=plainly), (entry["TERM"], unit, row["AVAL"], mine)
    assert checked > 40
