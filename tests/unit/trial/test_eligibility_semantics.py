"""The compiled SQL against a row-by-row judge, on random rules and random data, three-valued."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.eligibility_oracle import Person, both, judge, opposite
from trialops.trial.eligibility import ELIGIBLE, NOT_ELIGIBLE, UNDECIDED, evaluate
from trialops.trial.eligibility_criteria import parse_criteria
from trialops.trial.tables import TrialTables

SUBJECTS = [f"S{i}" for i in range(5)]
DATES = ["", "2020", "2020-03", "2020-02", "2020-03-01", "2020-03-05", "2020-03-10", "2020-03-10T08:30", "2020-03-20",
         "2020-02-20", "2020-03-31", "2019-12-31", "2020-04-15"]  # fmt: skip
pick = st.sampled_from


def table(
    domain: str, columns: dict[str, st.SearchStrategy[Any]], most: int
) -> st.SearchStrategy[list[dict[str, Any]]]:
    row = st.fixed_dictionaries({"USUBJID": pick(SUBJECTS), **columns})

    def numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, f"{domain}SEQ": i} for i, row in enumerate(rows, start=1)]

    return st.lists(row, min_size=most // 2, max_size=most).map(numbered)


dm = st.fixed_dictionaries(
    {
        "AGE": pick([None, 49.0, 50.0, 51.0, 600.0]),
        "AGEU": pick(["YEARS", "YEARS", "MONTHS", ""]),
        "SEX": pick(["F", "M", "U", ""]),
        "ARMCD": pick(["A", "A", "Scrnfail", "NOTASSGN", ""]),
        "RFICDTC": pick(["2020-03-01", "2020-03", ""]),
        "DMDTC": pick(["2020-03-05", "2020-03-05", "", "2020"]),
        "RFSTDTC": pick(["2020-03-15", "2020-03-10", ""]),
        "SITEID": pick(["701", "702"]),
        "STUDYID": st.just("T"),
    }
)
demographics = st.lists(dm, min_size=len(SUBJECTS), max_size=len(SUBJECTS)).map(
    lambda rows: [{**row, "USUBJID": name} for row, name in zip(rows, SUBJECTS, strict=True)]
)
history = table(
    "MH",
    {
        "MHDECOD": pick(["ASTHMA", "Asthma ", "GOUT", "", None]),
        "MHCAT": pick(["PRIMARY", "OTHER", ""]),
        "MHDTC": pick(["", "2020-03-05", "2020-03-18", "2020-03"]),
        "MHSTDTC": pick(DATES),
        "MHENDTC": pick(DATES),
        "MHENRTPT": pick(["", "ONGOING"]),
        "MHOCCUR": pick(["", "Y", "N", "U"]),
        "MHSTAT": pick(["", "", "NOT DONE"]),
    },
    9,
)
medicines = table(
    "CM", {"CMDECOD": pick(["ASPIRIN", "DONEPEZIL", ""]), "CMSTDTC": pick(DATES), "CMENDTC": pick(DATES)}, 6
)
labs = table(
    "LB",
    {
        "LBTESTCD": pick(["CREAT", "CREAT", "ALT"]),
        "LBORRES": pick(["1.0", "1.5", "2.0", "<1.5", ">1.5", "140", "TRACE", ""]),
        "LBORRESU": pick(["mg/dL", "mg/dL", "umol/L", "furlong", ""]),
        "LBORNRHI": pick(["1.0", "0.7", ""]),
        "LBCAT": pick(["CHEM", "OTHER"]),
        "LBSTAT": pick(["", "", "NOT DONE"]),
        "LBDTC": pick(DATES),
    },
    20,
)
exceptions = table("IE", {"IETESTCD": pick(["C1", "c2", "C3"]), "IEDTC": pick(["2020-03-05", ""])}, 4)

window = st.builds(
    lambda of, start, end, overlaps: (
        {"of": of, "to": end, "overlaps": overlaps} | ({} if start is None else {"from": min(start, end)})
    ),
    pick(["screening", "consent", "randomisation"]),
    pick([None, -30, -14, -4, 0]),
    pick([-5, 0, 5, 14]),
    st.booleans(),
)


def rows_(domain: str, where: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda conditions, win, absence: (
            {"domain": domain, "absence": absence, **conditions} | ({"window": win} if win else {})
        ),
        where,
        st.none() | window,
        pick(["collected", "closed", "open"]),
    )


mh = rows_(
    "MH",
    pick(
        [
            {"where": {"MHDECOD": "asthma"}},
            {"where": {"MHDECOD": ["ASTHMA", "GOUT"], "MHCAT": "PRIMARY"}},
            {"like": {"MHDECOD": "%OUT%"}},
            {"like": {"MHCAT": "PRI%"}},
        ]
    ),
)
cm = rows_("CM", pick([{"where": {"CMDECOD": "ASPIRIN"}}, {"where": {"CMDECOD": ["ASPIRIN", "DONEPEZIL"]}}]))
limits = st.dictionaries(pick(["at_least", "above", "at_most", "below"]), pick([1, 1.5, 2]), min_size=1, max_size=2)
counts = st.dictionaries(pick(["at_least", "above", "at_most", "below"]), pick([0, 1, 2]), min_size=1, max_size=2)
value = st.builds(
    lambda test, unit, limit, picked, win, where: {
        "value": {"test": test, "unit": unit, "pick": picked, **limit, **({"window": win} if win else {}), **where}
    },
    pick(["CREAT", "CREAT", "ALT"]),
    pick(["mg/dL", "umol/L", "ULN"]),
    limits,
    pick(["most_recent", "first", "any", "all"]),
    st.none() | st.none() | window,
    pick([{}, {}, {"where": {"LBCAT": "CHEM"}}]),
)
leaf = st.one_of(
    st.builds(
        lambda limit, unit: {"age": {**limit, "unit": unit}},
        st.sampled_from([{"at_least": 50}, {"below": 51}]),
        pick(["years", "months"]),
    ),  # fmt: skip
    pick([{"subject": {"SEX": "F"}}, {"subject": {"SEX": ["F", "M"]}}]),
    (mh | cm).map(lambda rows: {"has": rows}),
    st.builds(lambda rows, limit: {"count": {**rows, **limit}}, mh | cm, counts),
    value,
    value,
    st.builds(
        lambda a, b, least, most: {"order": {"first": a, "then": b, "least_days": least, "most_days": least + most}},
        mh,
        mh | cm,
        pick([0, 1]),
        pick([5, 400]),
    ),
    st.just({"investigator": {}}),
)
rule = st.recursive(
    leaf,
    lambda parts: st.builds(
        lambda op, p: {op: p}, pick(["all", "any", "none"]), st.lists(parts, min_size=1, max_size=3)
    ),
    max_leaves=5,
)


def frame(rows: list[dict[str, Any]], columns: list[str]) -> pl.DataFrame:
    schema: dict[str, Any] = {c: pl.Float64 if c.endswith("SEQ") or c == "AGE" else pl.String for c in columns}
    return pl.DataFrame([{c: row.get(c) for c in columns} for row in rows], schema=schema)


COLUMNS = {
    "DM": ["STUDYID", "USUBJID", "SITEID", "AGE", "AGEU", "SEX", "ARMCD", "RFICDTC", "DMDTC", "RFSTDTC"],
    "MH": ["USUBJID", "MHSEQ", "MHDECOD", "MHCAT", "MHDTC", "MHSTDTC", "MHENDTC", "MHENRTPT", "MHOCCUR", "MHSTAT"],
    "CM": ["USUBJID", "CMSEQ", "CMDECOD", "CMSTDTC", "CMENDTC"],
    "LB": ["USUBJID", "LBSEQ", "LBTESTCD", "LBORRES", "LBORRESU", "LBORNRHI", "LBCAT", "LBSTAT", "LBDTC"],
    "IE": ["USUBJID", "IESEQ", "IETESTCD", "IEDTC"],
}


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(demographics, history, medicines, labs, exceptions, st.lists(rule, min_size=4, max_size=8), st.data())
def test_sql_says_what_a_row_by_row_judge_says(
    subjects: list[dict[str, Any]],
    mh_rows: list[dict[str, Any]],
    cm_rows: list[dict[str, Any]],
    lb_rows: list[dict[str, Any]],
    ie_rows: list[dict[str, Any]],
    rules: list[dict[str, Any]],
    data: st.DataObject,
) -> None:
    tables = {"DM": subjects, "MH": mh_rows, "CM": cm_rows, "LB": lb_rows, "IE": ie_rows}
    if data.draw(st.booleans(), "no CM"):
        del tables["CM"]
    document = {
        "protocol": "T",
        "version": 1,
        "criteria": [
            {"id": f"C{i}", "kind": "inclusion" if i % 2 else "exclusion", "text": "t", "reference": "r", "rule": item}
            for i, item in enumerate(rules, start=1)
        ],
    }
    criteria = parse_criteria(document)
    trial = TrialTables("T", {n: frame(rows, COLUMNS[n]) for n, rows in tables.items()}, "d")
    found = evaluate(trial, criteria)
    by_subject = {row["USUBJID"]: row for row in found.verdicts.iter_rows(named=True)}
    for name in SUBJECTS:
        person = Person(tables, name, list(tables))
        outcomes = {c.id: judge(c.rule, c, person) for c in criteria.criteria}
        assert {c: by_subject[name][c] for c in outcomes} == outcomes, document
        whole = both([outcomes[c.id] if c.inclusion else opposite(outcomes[c.id]) for c in criteria.criteria])
        assert by_subject[name]["verdict"] == {True: ELIGIBLE, False: NOT_ELIGIBLE, None: UNDECIDED}[whole]
    said = set(found.evidence.select("USUBJID", "criterion").unique().rows())
    assert said == {(name, c.id) for name in SUBJECTS for c in criteria.criteria}, "every outcome has a reason"
    unknown = found.evidence.filter(pl.col("outcome") == "unknown")
    assert unknown["missing"].null_count() == 0 and (unknown["value_class"] == "open").all()
    assert (
        found.evidence.filter(pl.col("outcome") != "unknown")["missing"].null_count()
        == found.evidence.height - unknown.height
    )
