"""A criterion compiled to SQL: three-valued, with the rows that decided it.

SQL's booleans are Kleene's: AND, OR and NOT with NULL for unknown are his strong logic, so a tree of groups becomes an
expression over one column per fact. A fact is a CTE of one row per subject: ``t`` (true, false, null), ``e`` (the row
that decides, packed) and ``gap`` (why nothing decides). Every value of a criterion is a parameter; names of columns
are those that :mod:`trialops.trial.eligibility_facts` has checked against the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trialops.trial.eligibility_facts import BEYOND, LATE, NOT_ASKED, PARTIAL, UNCODED
from trialops.trial.eligibility_pieces import DAY_BITS, SEQ_BITS, WHY_BITS, interval, pack
from trialops.trial.eligibility_rules import (
    Age,
    Count,
    Criterion,
    Group,
    Has,
    Investigator,
    Leaf,
    Limits,
    Node,
    Order,
    Rows,
    Subject,
    Value,
    Window,
)
from trialops.trial.eligibility_subjects import ALWAYS, NEVER, YEARS

NO_VALUE, NO_ANCHOR, NOT_COLLECTED, NOT_DELIVERED, AMBIGUOUS, NO_FACT, NOT_JUDGED = range(1, 8)
"""Why a fact is open where no row says so."""

CODED = ("DECOD", "LLT", "LLTCD", "PTCD", "HLT", "HLTCD", "HLGT", "HLGTCD", "BODSYS", "BDSYCD", "SOC", "SOCCD", "CLAS",
         "CLASCD")  # fmt: skip
"""Ends of the names of coded columns: a row that is not coded yet may be what is looked for."""

FOREVER = 10 * ALWAYS


@dataclass(frozen=True)
class Fact:
    """What is known of a leaf apart from the data.

    Attributes:
        domain: Domain of the evidence.
        missing: What is missing where no row was found.
        anchor: Column of subjects that the window starts from; empty without a window.
        kind: "value", "rows" or another.
    """

    domain: str
    missing: str
    anchor: str
    kind: str


@dataclass
class Compiled:
    """A criterion as SQL.

    Attributes:
        sql: SELECT of one row per subject: s, met, and for fact i the columns t<i>, e<i>, g<i>, c<i> (whether it
            contributes to the outcome).
        parameters: Values of $1, $2, ...
        facts: The leaves, left to right.
    """

    criterion: Criterion
    sql: str = ""
    parameters: list[Any] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)


def compile_criterion(
    criterion: Criterion, delivered: Sequence[str], measures: dict[tuple[str, str, str], str]
) -> Compiled:
    """Compile one criterion.

    Args:
        criterion: Checked criterion.
        delivered: Domains that are there.
        measures: Names of the tables of values, from :class:`trialops.trial.eligibility_facts.Facts`.
    """
    made = Compiled(criterion)
    builder = _Builder(made, frozenset(delivered), measures)
    agreements: list[str] = []
    root = builder.node(criterion.rule, agreements)
    names = range(len(made.facts))
    columns = [
        f"{root} AS met",
        *(f"l{i}.t AS t{i}, l{i}.e AS e{i}, l{i}.gap AS g{i}" for i in names),
        *(f"({agreement}) AS c{i}" for i, agreement in enumerate(agreements)),
    ]
    joins = " ".join(f"JOIN l{i} USING (s)" for i in names)
    ctes = ",\n".join(builder.ctes)
    made.sql = f"WITH {ctes}\nSELECT u.s, {', '.join(columns)}\nFROM subjects u {joins}"
    return made


class _Builder:
    def __init__(self, made: Compiled, delivered: frozenset[str], measures: dict[tuple[str, str, str], str]) -> None:
        self.made, self.delivered, self.measures = made, delivered, measures
        self.ctes: list[str] = []

    def bind(self, value: Any) -> str:
        """A placeholder for a value."""
        self.made.parameters.append(value)
        return f"${len(self.made.parameters)}"

    def node(self, node: Node, agreements: list[str]) -> str:
        """The expression of a node; collects for every leaf below when it contributes.

        A leaf contributes when it and all groups above it say what the criterion says, turned round under "none".
        """
        if not isinstance(node, Group):
            number = len(self.made.facts)
            self.ctes.append(f"l{number} AS ({self.leaf(node)})")
            agreements.append("TRUE")
            return f"l{number}.t"
        spans, parts = [], []
        for part in node.parts:
            start = len(agreements)
            parts.append(self.node(part, agreements))
            spans.append((start, len(agreements)))
        joined = f"({' AND '.join(parts)})" if node.op == "all" else f"({' OR '.join(parts)})"
        for (start, end), part_sql in zip(spans, parts, strict=True):
            # Below a "none", what agrees is the group that was turned round: both sides are compared before that.
            for i in range(start, end):
                agreements[i] = f"{part_sql} IS NOT DISTINCT FROM {joined} AND {agreements[i]}"
        return f"(NOT {joined})" if node.op == "none" else joined

    def leaf(self, leaf: Leaf) -> str:
        """The SELECT of a fact: s, t, e, gap."""
        if isinstance(leaf, Age):
            return self._of_subject(interval(self._scaled(leaf), "round(u.age, 9)", "round(u.age, 9)"), "age", "age")
        if isinstance(leaf, Subject):
            test = f'u."{leaf.column}" = ANY({self.bind(list(leaf.values))})'
            return self._of_subject(test, leaf.column, leaf.column)
        if isinstance(leaf, Investigator):
            return self._judged()
        if isinstance(leaf, Value):
            return self._value(leaf)
        if isinstance(leaf, Order):
            return self._order(leaf)
        return self._rows(leaf)

    def _scaled(self, leaf: Age) -> list[tuple[str, str]]:
        factor = YEARS[leaf.unit.upper()]
        return [(op, self.bind(round(bound * factor, 9))) for op, bound in leaf.limits.bounds]

    def _bound(self, limits: Limits) -> list[tuple[str, str]]:
        return [(op, self.bind(bound)) for op, bound in limits.bounds]

    def _of_subject(self, test: str, name: str, what: str) -> str:
        self.made.facts.append(Fact("DM", f"no {name} in DM", "", what))
        gap = f"CASE WHEN t IS NULL THEN {NO_FACT} ELSE 0 END"
        return f"SELECT s, t, NULL::BIGINT AS e, {gap} AS gap FROM (SELECT u.s, {test} AS t FROM subjects u)"

    def _judged(self) -> str:
        code = self.bind(self.made.criterion.code.upper())
        self.made.facts.append(Fact("IE", "the investigator has not decided", "", "judged"))
        violated = "FALSE" if self.made.criterion.inclusion else "TRUE"
        packed = f"min({pack('0', 'day', 'day', 'seq', '0')})"
        return (
            f"SELECT u.s, CASE WHEN x.s IS NOT NULL THEN {violated} WHEN u.randomised THEN NOT {violated} END AS t, "
            f"x.e AS e, CASE WHEN x.s IS NULL AND NOT u.randomised THEN {NOT_JUDGED} ELSE 0 END AS gap FROM subjects u "
            f"LEFT JOIN (SELECT s, {packed} AS e FROM exceptions WHERE code = {code} GROUP BY s) x USING (s)"
        )

    def _absent(self, missing: str, domain: str, window: Window | None, kind: str) -> str | None:
        """The SELECT for a domain that was not delivered; None where it was. Notes the fact either way."""
        self.made.facts.append(Fact(domain, missing, window.anchor if window else "", kind))
        if domain in self.delivered:
            return None
        return f"SELECT s, NULL::BOOLEAN AS t, NULL::BIGINT AS e, {NOT_DELIVERED} AS gap FROM subjects"

    # -- rows -----------------------------------------------------------------------------------------------------

    def _hits(self, rows: Rows) -> str:
        """Rows that match or may: s, m (matches), o (occurred), c (in time for certain), lo, hi, seq, k (evidence)."""
        match = " AND ".join([*(self._equal(c, v) for c, v in rows.where), *(self._like(c, v) for c, v in rows.like)])
        certain, possible = self._dated(rows.window)
        occurred = (
            "CASE WHEN NOT r.done THEN NULL WHEN r.occurs IS NULL OR r.occurs = 'Y' THEN TRUE "
            "WHEN r.occurs = 'N' THEN FALSE END"
        )
        why = (
            f"CASE WHEN m IS NULL THEN {UNCODED} WHEN o IS NULL THEN {NOT_ASKED} WHEN NOT sure THEN {LATE} "
            f"WHEN NOT c THEN {PARTIAL} ELSE 0 END"
        )
        prefer = "CASE WHEN m AND o AND c AND sure THEN 0 ELSE 1 END"
        return (
            f"SELECT s, m, o, c AND sure AS c, lo, hi, seq, {pack(prefer, 'lo', 'hi', 'seq', why)} AS k FROM ("
            f"SELECT r.s, ({match}) AS m, ({occurred}) AS o, {certain} AS c, r.sure, r.lo, r.hi, r.seq "
            f'FROM "rows_{rows.domain}" r JOIN subjects u ON u.s = r.s '
            f"WHERE ({match}) IS NOT FALSE AND {possible})"
        )

    def _equal(self, column: str, values: tuple[str, ...]) -> str:
        test = f'r."{column}" = ANY({self.bind(list(values))})'
        return test if column[2:] in CODED else f"coalesce({test}, FALSE)"

    def _like(self, column: str, patterns: tuple[str, ...]) -> str:
        test = " OR ".join(f'r."{column}" LIKE {self.bind(pattern)}' for pattern in patterns)
        return f"({test})" if column[2:] in CODED else f"coalesce(({test}), FALSE)"

    def _dated(self, window: Window | None) -> tuple[str, str]:
        """Whether a row is in a window for certain, and whether it may be."""
        if window is None:
            return "TRUE", "TRUE"
        low = str(NEVER) if window.start is None else f"u.{window.anchor} + {self.bind(window.start)}"
        high = f"u.{window.anchor} + {self.bind(window.end)}"
        if window.overlaps:
            certain, possible = f"r.elo >= {low} AND r.hi <= {high}", f"r.ehi >= {low} AND r.lo <= {high}"
        else:
            certain, possible = f"r.lo >= {low} AND r.hi <= {high}", f"r.hi >= {low} AND r.lo <= {high}"
        return f"coalesce({certain}, FALSE)", f"coalesce({possible}, TRUE)"

    def _definite(self, rows: Rows, seen: str, denied: str) -> str:
        """Whether no row means no."""
        return {"closed": "TRUE", "collected": f"{seen} IS NOT NULL", "open": f"coalesce({denied}, FALSE)"}[
            rows.absence
        ]

    def _rows(self, leaf: Has | Count) -> str:
        rows = leaf.rows
        when = f" {rows.window}" if rows.window else ""
        counted = f"how many {rows.domain} rows the subject has{when} is not known"
        missing = counted if isinstance(leaf, Count) else f"no {rows.domain} rows of the subject{when}"
        absent = self._absent(missing, rows.domain, rows.window, "rows")
        if absent:
            return absent
        hits, definite, sure = self._hits(rows), self._definite(rows, "n.s", "a.denied"), "m AND o AND c"
        if isinstance(leaf, Has):
            t = f"CASE WHEN a.yes > 0 THEN TRUE WHEN a.maybe > 0 THEN NULL WHEN {definite} THEN FALSE END"
        else:
            most = f"CASE WHEN {definite} THEN coalesce(a.maybe, 0) ELSE {FOREVER} END"
            t = interval(self._bound(leaf.limits), "coalesce(a.yes, 0)", most)
        return (
            f"SELECT u.s, {t} AS t, CASE WHEN t IS NULL THEN coalesce(a.doubt, a.e) ELSE a.e END AS e, "
            f"{self._gap(rows.window, 'a.maybe', NOT_COLLECTED)} AS gap "
            f"FROM subjects u LEFT JOIN (SELECT s, count_if({sure}) AS yes, count_if(o IS NOT FALSE) AS maybe, "
            f"bool_or(m AND o IS FALSE) AS denied, min(k) FILTER (WHERE o IS NOT FALSE) AS e, "
            f"min(k) FILTER (WHERE o IS NOT FALSE AND NOT coalesce({sure}, FALSE)) AS doubt "
            f"FROM ({hits}) GROUP BY s) a "
            f'USING (s) LEFT JOIN (SELECT DISTINCT s FROM "rows_{rows.domain}") n USING (s)'
        )

    def _gap(self, window: Window | None, rows: str, otherwise: int) -> str:
        anchor = f"WHEN u.{window.anchor} IS NULL THEN {NO_ANCHOR} " if window else ""
        return f"CASE {anchor}WHEN coalesce({rows}, 0) = 0 THEN {otherwise} ELSE 0 END"

    # -- values ---------------------------------------------------------------------------------------------------

    def _value(self, leaf: Value) -> str:
        rows = leaf.rows
        when = f" {rows.window}" if rows.window else ""
        missing = f"no {leaf.test} result{when}"
        absent = self._absent(missing, rows.domain, rows.window, "value")
        if absent:
            return absent
        further = [(c, v) for c, v in rows.where if c != f"{rows.domain}TESTCD"]
        conditions = [*(self._equal(c, v) for c, v in further), *(self._like(c, v) for c, v in rows.like)]
        certain, possible = self._dated(rows.window)
        t = interval(self._bound(leaf.limits), "r.vlo", "r.vhi", open_low="r.above", open_high="r.below")
        match = " AND ".join([possible, *(f"coalesce({c}, FALSE)" for c in conditions)])
        why = (
            f"CASE WHEN why > 0 THEN why WHEN t IS NULL THEN {BEYOND} WHEN NOT sure THEN {LATE} WHEN NOT c THEN "
            f"{PARTIAL} ELSE 0 END"
        )
        prefer = {
            "any": "CASE WHEN c AND sure AND t THEN 0 WHEN t IS NULL OR t THEN 1 ELSE 2 END",
            "all": "CASE WHEN c AND sure AND NOT t THEN 0 WHEN t IS NULL OR NOT t THEN 1 ELSE 2 END",
        }.get(leaf.pick, "0")
        hits = (
            f"SELECT s, t, c AND sure AS c, lo, hi, clock, seq, {pack(prefer, 'lo', 'hi', 'seq', why)} AS k FROM ("
            f"SELECT r.s, {t} AS t, {certain} AS c, r.sure, r.lo, r.hi, r.clock, r.seq, r.why "
            f"FROM {self.measures[rows.domain, leaf.test, leaf.unit]} r JOIN subjects u ON u.s = r.s WHERE {match})"
        )
        picked = self._extreme if leaf.pick in ("most_recent", "first") else self._every
        return picked(leaf, hits)

    def _every(self, leaf: Value, hits: str) -> str:
        decided = "t" if leaf.pick == "any" else "NOT t"
        outcome = "TRUE" if leaf.pick == "any" else "FALSE"
        return (
            f"SELECT u.s, CASE WHEN a.yes > 0 THEN {outcome} WHEN a.maybe > 0 THEN NULL "
            f"WHEN a.n > 0 THEN NOT {outcome} END AS t, a.e AS e, "
            f"{self._gap(leaf.rows.window, 'a.rows', NO_VALUE)} AS gap FROM subjects u LEFT JOIN ("
            f"SELECT s, count_if(c AND {decided}) AS yes, count_if(t IS NULL OR {decided}) AS maybe, count_if(c) AS n, "
            f"count(*) AS rows, min(k) AS e FROM ({hits}) GROUP BY s) a USING (s)"
        )

    def _extreme(self, leaf: Value, hits: str) -> str:
        """The most recent, or the first: rows of one day by their time, then by --SEQ.

        A row with a partial date that may be the one sought leaves the fact open, unless it says the same.
        """
        recent = leaf.pick == "most_recent"
        day, extreme, best = ("lo", "max", "arg_max") if recent else ("hi", "min", "arg_min")
        code = "CASE WHEN t IS NULL THEN 2 WHEN t THEN 1 ELSE 0 END"
        place = f"((({day} - {NEVER})::BIGINT << 33) | (clock::BIGINT << 22) | (seq::BIGINT << 2) | {code})"
        rival = f"h.hi >= ((w.p >> 33) + {NEVER})" if recent else f"h.lo <= ((w.p >> 33) + {NEVER})"
        return (
            f"WITH h AS ({hits}), w AS (SELECT s, {extreme}({place}) FILTER (WHERE c) AS p, "
            f"{best}(k, {place}) FILTER (WHERE c) AS e, min(k) AS other, count(*) AS rows FROM h GROUP BY s), "
            f"b AS (SELECT DISTINCT h.s FROM h JOIN w USING (s) WHERE h.lo < h.hi AND {rival} "
            f"AND ({code}) <> (w.p & 3)) "
            f"SELECT u.s, CASE WHEN b.s IS NOT NULL THEN NULL WHEN (w.p & 3) = 1 THEN TRUE WHEN (w.p & 3) = 0 THEN "
            f"FALSE END AS t, coalesce(w.e, w.other) AS e, CASE WHEN b.s IS NOT NULL THEN {AMBIGUOUS} ELSE "
            f"{self._gap(leaf.rows.window, 'w.rows', NO_VALUE)} END AS gap "
            f"FROM subjects u LEFT JOIN w USING (s) LEFT JOIN b USING (s)"
        )

    # -- order ----------------------------------------------------------------------------------------------------

    def _order(self, leaf: Order) -> str:
        first, then = leaf.first, leaf.then
        missing = f"whether a {first.domain} row is followed by a {then.domain} row in time is not known"
        window = first.window or then.window
        if first.domain not in self.delivered or then.domain not in self.delivered:
            self.made.facts.append(Fact(then.domain, missing, "", "rows"))
            return f"SELECT s, NULL::BOOLEAN AS t, NULL::BIGINT AS e, {NOT_DELIVERED} AS gap FROM subjects"
        self.made.facts.append(Fact(then.domain, missing, window.anchor if window else "", "rows"))
        a, b = self._hits(first), self._hits(then)
        least, most = self.bind(leaf.least), self.bind(FOREVER if leaf.most is None else leaf.most)
        # A row does not follow itself.
        other = "AND a.seq <> b.seq" if first.domain == then.domain else ""
        both = "a.m AND a.o AND a.c AND b.m AND b.o AND b.c"
        certain = f"{both} AND b.lo - a.hi >= {least} AND b.hi - a.lo <= {most}"
        possible = f"b.hi - a.lo >= {least} AND b.lo - a.hi <= {most}"
        pair = (
            f"SELECT a.s, count_if({certain}) AS yes, count(*) AS maybe, min(b.k + CASE WHEN {certain} THEN 0 ELSE "
            f"{1 << (DAY_BITS + SEQ_BITS + WHY_BITS)} END) AS e FROM ({a}) a JOIN ({b}) b ON a.s = b.s {other} "
            f"WHERE a.o IS NOT FALSE AND b.o IS NOT FALSE AND {possible} GROUP BY a.s"
        )
        sides = ""
        for name, rows, hits in (("x", first, a), ("y", then, b)):
            sides += (
                f" LEFT JOIN (SELECT s, count_if(o IS NOT FALSE) AS rows, bool_or(m AND o IS FALSE) AS denied "
                f'FROM ({hits}) GROUP BY s) {name} USING (s) LEFT JOIN (SELECT DISTINCT s FROM "rows_{rows.domain}") '
                f"{name}n USING (s)"
            )
        known_a, known_b = self._definite(first, "xn.s", "x.denied"), self._definite(then, "yn.s", "y.denied")
        no_a, no_b = "coalesce(x.rows, 0) = 0", "coalesce(y.rows, 0) = 0"
        false = f"({known_a} AND {known_b}) OR ({known_a} AND {no_a}) OR ({known_b} AND {no_b})"
        return (
            f"SELECT u.s, CASE WHEN p.yes > 0 THEN TRUE WHEN p.maybe > 0 THEN NULL WHEN {false} THEN FALSE END AS t, "
            f"p.e AS e, {self._gap(window, 'p.maybe', NOT_COLLECTED)} AS gap FROM subjects u LEFT JOIN ({pair}) p "
            f"USING (s){sides}"
        )
