"""Time the criteria of entry, three-valued with evidence, against SQL written by hand for the same criteria.

    python -m benchmarks.eligibility --subjects 100000 --repeats 3

Thirty criteria over SDTM tables as delivered (text dates, results in the laboratory's unit): twelve laboratory values
at their most recent within 28 days before screening, ten conditions, six medicines going on at screening, age and sex.
The hand-written statement is what an analyst would write for DuckDB: one pass per table, dates cast, units multiplied,
verdicts three-valued. It gives outcomes alone: no row that decides, nothing on what is missing, no partial dates, and
one factor per test, where ours looks at the unit of every row. Both start from the same Arrow tables and end with one
column per criterion; they must agree for every subject and criterion.

Prints one JSON object: seconds of each run, the ratio of the medians, outcomes by kind, rows, peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from trialops.trial.eligibility import evaluate
from trialops.trial.eligibility_criteria import parse_criteria
from trialops.trial.eligibility_rules import Criteria
from trialops.trial.tables import TrialTables

# Test, unit delivered, unit of the criterion, factor between them, limit in the unit of the criterion, centre of data.
LABS = (
    ("CREAT", "mg/dL", "umol/L", 10_000 / 113.12, 140.0, 1.0),
    ("GLUC", "mg/dL", "mmol/L", 10 / 180.156, 9.0, 110.0),
    ("CHOL", "mg/dL", "mmol/L", 10 / 386.66, 7.0, 200.0),
    ("BILI", "mg/dL", "umol/L", 10_000 / 584.673, 25.0, 0.9),
    ("ALT", "U/L", "U/L", 1.0, 60.0, 30.0),
    ("AST", "U/L", "U/L", 1.0, 60.0, 30.0),
    ("GGT", "U/L", "U/L", 1.0, 90.0, 35.0),
    ("ALP", "U/L", "U/L", 1.0, 140.0, 80.0),
    ("SODIUM", "mmol/L", "mmol/L", 1.0, 150.0, 140.0),
    ("K", "mmol/L", "mmol/L", 1.0, 5.5, 4.3),
    ("HGB", "g/dL", "g/L", 10.0, 170.0, 14.0),
    ("WBC", "10^9/L", "10*9/L", 1.0, 11.0, 7.0),
)
CONDITIONS = tuple(f"CONDITION {i:02d}" for i in range(10))
MEDICINES = tuple(f"MEDICINE {i:02d}" for i in range(6))


def trial(subjects: int, seed: int = 0) -> TrialTables:
    """SDTM tables: two results of most tests, some outside the window; histories and medicines of most subjects."""
    rng = np.random.default_rng(seed)
    names = pl.Series([f"01-{i % 97 + 701}-{i:06d}" for i in range(subjects)])
    day0 = np.datetime64("2023-01-01")
    screening = rng.integers(60, 400, subjects)

    def iso(days: Any) -> pl.Series:
        return pl.Series(np.datetime_as_string(day0 + np.asarray(days)))

    dm = pl.DataFrame(
        {
            "STUDYID": pl.repeat("BENCH", subjects, eager=True),
            "USUBJID": names,
            "SITEID": names.str.slice(3, 3),
            "AGE": rng.integers(45, 90, subjects).astype(float),
            "AGEU": pl.repeat("YEARS", subjects, eager=True),
            "SEX": pl.Series(rng.choice(["F", "M"], subjects)),
            "ARMCD": pl.repeat("", subjects, eager=True),
            "RFICDTC": iso(screening - 1),
            "DMDTC": iso(screening),
        }
    )
    who = np.repeat(np.arange(subjects), 2 * len(LABS))
    test = np.tile(np.repeat(np.arange(len(LABS)), 2), subjects)
    kept = rng.random(len(who)) < 0.9
    who, test = who[kept], test[kept]
    centre = np.array([lab[5] for lab in LABS])[test]
    values = np.round(centre * rng.lognormal(0, 0.3, len(who)), 2)
    days = screening[who] - rng.integers(-5, 40, len(who))
    lb = pl.DataFrame(
        {
            "USUBJID": names.gather(who),
            "LBSEQ": pl.Series(_numbers(who)),
            "LBTESTCD": pl.Series([lab[0] for lab in LABS]).gather(test),
            "LBORRES": pl.Series(values).cast(pl.String),
            "LBORRESU": pl.Series([lab[1] for lab in LABS]).gather(test),
            "LBDTC": iso(days),
        }
    )
    mh = _events(rng, names, subjects, "MH", CONDITIONS, 0.15, lambda n: iso(rng.integers(-3000, 60, n)))
    cm = _events(rng, names, subjects, "CM", MEDICINES, 0.3, lambda n: iso(rng.integers(-300, 350, n)))
    ends = iso(rng.integers(350, 500, cm.height))
    cm = cm.with_columns(CMENDTC=pl.when(pl.Series(rng.random(cm.height) < 0.5)).then(ends).otherwise(pl.lit("")))
    cm = cm.with_columns(CMENRTPT=pl.when(pl.col("CMENDTC") == "").then(pl.lit("ONGOING")).otherwise(pl.lit("")))
    return TrialTables("BENCH", {"DM": dm, "LB": lb, "MH": mh, "CM": cm}, "bench")


def _numbers(who: Any) -> Any:
    """1, 2, 3, ... within each subject; rows are sorted by subject."""
    first = np.flatnonzero(np.r_[True, who[1:] != who[:-1]])
    return np.arange(len(who)) - np.repeat(first, np.diff(np.r_[first, len(who)])) + 1


def _events(
    rng: Any,
    names: pl.Series,
    subjects: int,
    domain: str,
    terms: tuple[str, ...],
    share: float,
    start: Callable[..., Any],
) -> pl.DataFrame:
    who, term = np.nonzero(rng.random((subjects, len(terms))) < share)
    return pl.DataFrame(
        {
            "USUBJID": names.gather(who),
            f"{domain}SEQ": pl.Series(_numbers(who)),
            f"{domain}DECOD": pl.Series(terms).gather(term),
            f"{domain}STDTC": start(len(who)),
        }
    )


def criteria() -> Criteria:
    """The thirty criteria as data."""
    window = {"of": "screening", "from": -28, "to": 0}
    found: list[dict[str, Any]] = [
        {"id": "AGE", "kind": "inclusion", "rule": {"age": {"at_least": 50}}},
        {"id": "SEX", "kind": "inclusion", "rule": {"subject": {"SEX": ["F", "M"]}}},
    ]
    for test, _, unit, _, limit, _ in LABS:
        rule: dict[str, Any] = {"value": {"test": test, "unit": unit, "above": limit, "window": window}}
        found.append({"id": test, "kind": "exclusion", "rule": rule})
    for i, term in enumerate(CONDITIONS):
        rule = {"has": {"domain": "MH", "where": {"MHDECOD": term}, "window": {"of": "screening"}}}
        found.append({"id": f"MH{i}", "kind": "exclusion", "rule": rule})
    for i, term in enumerate(MEDICINES):
        during = {"of": "screening", "from": -14, "to": 0, "overlaps": True}
        rule = {"has": {"domain": "CM", "where": {"CMDECOD": term}, "window": during}}
        found.append({"id": f"CM{i}", "kind": "exclusion", "rule": rule})
    document = [{**item, "text": item["id"], "reference": "benchmark"} for item in found]
    return parse_criteria({"protocol": "BENCH", "version": 1, "criteria": document})


def by_hand(tables: TrialTables) -> pl.DataFrame:
    """The same outcomes with SQL as an analyst writes it."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    for name in ("DM", "LB", "MH", "CM"):
        connection.register(name.lower(), tables.table(name).to_arrow())
    labs = ", ".join(
        f"arg_max(try_cast(LBORRES AS DOUBLE) * {factor!r}, (day, LBSEQ)) FILTER (WHERE LBTESTCD = '{test}' "
        f"AND day BETWEEN screening - 28 AND screening) > {limit} AS {test}"
        for test, _, _, factor, limit, _ in LABS
    )
    conditions = ", ".join(
        f"bool_or(MHDECOD = '{term}' AND try_cast(MHSTDTC AS DATE) <= screening) AS MH{i}"
        for i, term in enumerate(CONDITIONS)
    )
    medicines = ", ".join(
        f"bool_or(CMDECOD = '{term}' AND try_cast(CMSTDTC AS DATE) <= screening AND (CMENRTPT = 'ONGOING' OR "
        f"try_cast(CMENDTC AS DATE) >= screening - 14)) AS CM{i}"
        for i, term in enumerate(MEDICINES)
    )
    sql = f"""
    WITH s AS (SELECT USUBJID, try_cast(DMDTC AS DATE) AS screening, AGE >= 50 AS AGE, SEX IN ('F', 'M') AS SEX
          FROM dm),
    l AS (SELECT USUBJID, {labs} FROM (SELECT *, try_cast(LBDTC AS DATE) AS day FROM lb JOIN s USING (USUBJID))
          GROUP BY USUBJID),
    m AS (SELECT USUBJID, {conditions} FROM mh JOIN s USING (USUBJID) GROUP BY USUBJID),
    c AS (SELECT USUBJID, {medicines} FROM cm JOIN s USING (USUBJID) GROUP BY USUBJID)
    SELECT * EXCLUDE (screening) FROM s LEFT JOIN l USING (USUBJID) LEFT JOIN m USING (USUBJID)
    LEFT JOIN c USING (USUBJID) ORDER BY USUBJID
    """
    return pl.DataFrame(connection.sql(sql).to_arrow_table())


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and the result."""
    started = time.perf_counter()
    found = work()
    return round(time.perf_counter() - started, 3), found


def main() -> int:
    """Run the comparison.

    Returns:
        0 when both ways agree everywhere, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    wanted = criteria()
    names = [c.id for c in wanted.criteria]
    small = trial(200)
    evaluate(small, wanted), by_hand(small)  # imports and first use are not part of the comparison
    tables = trial(arguments.subjects)
    seconds: dict[str, list[float]] = {"criteria": [], "by_hand": []}
    agree = True
    for _ in range(arguments.repeats):
        took, ours = timed(lambda: evaluate(tables, wanted))
        seconds["criteria"].append(took)
        took, theirs = timed(lambda: by_hand(tables))
        seconds["by_hand"].append(took)
        agree &= ours.verdicts.sort("USUBJID").select(names).equals(theirs.select(names), null_equal=True)
    medians = {way: statistics.median(runs) for way, runs in seconds.items()}
    outcomes = ours.outcomes()
    result = {
        "subjects": arguments.subjects,
        "criteria": len(names),
        "rows": {name: frame.height for name, frame in tables.tables.items()},
        "evidence_rows": ours.evidence.height,
        "seconds": seconds,
        "ratio": round(medians["criteria"] / medians["by_hand"], 2),
        "outcomes": {kind: int(outcomes[kind].sum()) for kind in ("met", "not_met", "unknown")},
        "agree": agree,
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(result, indent=1))
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
