"""What would give a subject away although no column of identifiers is left: order, results, days, ages, texts."""

from __future__ import annotations

import datetime as dt
import random

import polars as pl
import pytest

from tests.support.raw_trial import SUBJECTS, Keys, by_subject, run, table, trial
from trialops.errors import TrialOpsError
from trialops.privacy import needles
from trialops.privacy.patterns import DATE, PATTERNS, plain_results
from trialops.privacy.policy import default_policy


def many(n: int = 120, *, across: bool = False) -> dict[str, pl.DataFrame]:
    """Subjects as delivered, in the order of their identifiers; AESEQ counted within or across subjects."""
    draw = random.Random(7)
    subjects = [f"01-{701 + i % 9}-{2000 + i}" for i in range(n)]
    subjects.sort()
    starts = [dt.date(2013, 1, 1) + dt.timedelta(days=draw.randrange(700)) for _ in subjects]
    dm = [
        {
            "USUBJID": s,
            "SUBJID": s[-4:],
            "SITEID": s[3:6],
            "INVNAM": f"Kowalski {s[3:6]}",
            "RFSTDTC": d.isoformat(),
            "DMDTC": (d - dt.timedelta(days=draw.randrange(1, 30))).isoformat(),
            "AGE": float(draw.randrange(20, 80)),
            "AGEU": "YEARS",
        }
        for s, d in zip(subjects, starts, strict=True)
    ]
    ae, lb = [], []
    for s, d in zip(subjects, starts, strict=True):
        for k in range(1, 1 + draw.randrange(1, 4)):
            day = (d + dt.timedelta(days=draw.randrange(100))).isoformat()
            number = float(len(ae) + 1 if across else k)
            ae.append({"USUBJID": s, "AESEQ": number, "AEDECOD": "FALL", "AESTDTC": day, "AEDTC": day})
            lb.append({"USUBJID": s, "LBSEQ": float(k), "LBORRES": str(draw.randrange(9000)), "LBDTC": day})
    return {"DM": table("DM", dm), "AE": table("AE", ae), "LB": table("LB", lb)}


@pytest.mark.parametrize("across", [False, True])
def test_neither_order_nor_any_whole_number_ranks_the_subjects(across: bool) -> None:
    """The rank correlation of whatever orders the clean rows with the raw identifiers is that of chance."""
    tables = many(across=across)
    raw = sorted(tables["DM"]["USUBJID"])
    rank = dict(zip(Keys().pseudonyms("subject", raw), range(len(raw)), strict=True))
    result = run(tables=tables)
    assert result.report.renumbered == (["AE.AESEQ"] if across else [])
    for domain, frame in result.tables.items():
        frame = frame.with_columns(_raw=pl.col("USUBJID").replace_strict(rank), _place=pl.int_range(pl.len()))
        numbers = [c for c, kind in frame.schema.items() if kind.is_integer() and c != "_raw"]
        assert "_place" in numbers and "_ROW" not in numbers
        first = frame.group_by("USUBJID").agg(pl.col("_raw").first(), *(pl.col(c).min() for c in numbers))
        for column in numbers:
            known = first.drop_nulls(column)
            if known.height >= 20 and known[column].n_unique() > 1:
                related = known.select(pl.corr("_raw", column, method="spearman")).item()
                assert abs(related) < 0.4, (domain, column)  # four standard errors for 120 subjects


@pytest.mark.parametrize("mode", ["strict", "limited", "off"])
def test_file_names_do_not_survive(mode: str) -> None:
    tables = {d: t.with_columns(_SOURCE=pl.lit(f"{d}_site701_Springfield.xpt")) for d, t in trial().items()}
    clean = run(mode, tables).tables
    assert {d: set(t["_SOURCE"]) for d, t in clean.items()} == {d: {f"delivery 1/{d}"} for d in tables}
    assert not any("_ROW" in t.columns for t in clean.values())


def test_a_result_stays_only_as_a_number_or_a_coded_term() -> None:
    told = "see Dr. Kowalski, site 701, tel 617-555-1234, March 12, 2013"
    results = ["12.5", "<0.2", "1:640", "Abnormal", "trace", told, "patient fell", "20130312", None]
    rows = [
        {"USUBJID": SUBJECTS[0], "EGSEQ": float(i), "EGTESTCD": "INTP", "EGORRES": r, "EGDTC": "2014-01-03"}
        for i, r in enumerate(results)
    ]
    for mode in ("strict", "limited"):
        result = run(mode, trial() | {"EG": table("EG", rows)})
        assert result.tables["EG"].sort("EGSEQ")["EGORRES"].to_list() == [*results[:5], None, None, None, None]
        assert result.report.withheld == {"EG.EGORRES": 3}
        assert result.tables["EG"].height == len(results)


@pytest.mark.parametrize(
    "text",
    [
        "2013-01-07",
        "2013-01-07-x",
        "2013-01",
        "2013/03/12",
        "2013.3.12",
        "20130312",
        "20130312T0930",
        "03/12/13",
        "12.3.2013",
        "on 07-01-2013.",
        "01/2013",
        "13MAR13",
        "12-Mar-2013",
        "seen 12 March 2013",
        "12th of March",
        "March 12, 2013",
        "Mar 2013",
        "7 janvier 2013",
        "5. Mai 2013",
    ],
)
def test_dates_are_found_however_they_are_written(text: str) -> None:
    assert pl.Series([text, f"seen {text}, again"]).str.contains(DATE).all()


@pytest.mark.parametrize(
    "text",
    [
        "2013",
        "WEEK 12",
        "UNSCHEDULED 3.1",
        "2012.5",
        "120/80",
        "DECREASED 12",
        "MARKER 2",
        "APR-246",
        "1742-6",
        "10^9/L",
        "-P2Y",
        "AFTER STANDING FOR 3 MINUTES",
        "OMEPRAZOLE DR TABLETS",
        "VITAMIN B12",
        "OCT4",
        "100012",
    ],
)
def test_terms_of_trials_are_no_finds(text: str) -> None:
    assert not any(pl.Series([text]).str.contains(pattern)[0] for pattern in (DATE, *PATTERNS.values()))


@pytest.mark.parametrize(
    "leak",
    [
        "told by Kowalski",
        "KOWALSKI",
        "see site 701",
        "Site no. 702",
        "subject 7",
        "01 701 1015",
        "01/701/1015",
        "sample BX-00417",
        "device 88A41",
        "tel 617-555-1234",
        "(617) 555-1234",
        "+44 20 7946 0958",
        "phone 5551234",
        "a.person@clinic.org",
        "www.clinic.org",
        "123-45-6789",
        "zip 02139-1234",
        "Dr. Who",
        "MRN 884213",
        "born 26121950",
        "261250",
        "12 March 2013",
    ],
)
@pytest.mark.parametrize("mode", ["strict", "limited"])
def test_every_kind_of_identifier_stops_the_release(leak: str, mode: str) -> None:
    tables = trial()
    names = ["Jane Kowalski", "J. White", "J. White", "J. White"]
    tables["DM"] = tables["DM"].with_columns(INVNAM=pl.Series(names), SUBJID=pl.Series(["1015", "1023", "7", "9"]))
    tables["AE"] = tables["AE"].with_columns(
        AEREFID=pl.Series(["BX-00417", "BX-00418", None, None]), SPDEVID=pl.Series([None, None, "88A41", None])
    )
    run(mode, tables)
    tables["AE"] = tables["AE"].with_columns(AEDECOD=pl.Series(["FALL", "FALL", leak, "FALL"]))
    with pytest.raises(TrialOpsError) as caught:
        run(mode, tables)
    assert "AE.AEDECOD" in caught.value.where and "1 values" in caught.value.where
    assert leak not in str(caught.value)


def test_what_is_equal_by_chance_is_no_find() -> None:
    """A dose in the name of an arm, a code, a colour that is a name, a number of every subject's record."""
    tables = many(30)
    tables["DM"] = tables["DM"].with_columns(
        ARM=pl.lit("Drug 2005 mg"), RACE=pl.lit("WHITE"), INVNAM=pl.lit("J. White")
    )
    tables["AE"] = tables["AE"].with_columns(AESPID=pl.lit("E001"), AETOXGR=pl.lit("1"))
    tables["LB"] = tables["LB"].with_columns(LBLOINC=pl.lit("2005-4"), LBORRES=pl.lit("2005"))
    assert run(tables=tables).tables["DM"]["ARM"].unique().to_list() == ["Drug 2005 mg"]
    tables["DM"] = tables["DM"].with_columns(ARM=pl.lit("Drug of subject 2005"))
    with pytest.raises(TrialOpsError, match="still hold identifiers"):
        run(tables=tables)


def test_identifiers_come_from_every_column_the_policy_marks() -> None:
    tables = trial()
    tables["DM"] = tables["DM"].with_columns(INVID=pl.lit("INV77"))
    found = needles.collect(tables, default_policy())
    assert {"01-701-1015", "DR WHO"} <= set(found.anywhere)
    assert {"1015", "INV77", "20140102", "26121950", "261250"} <= set(found.tokens)
    assert "20130103" not in found.tokens and "E07" not in (*found.tokens, *found.whole)
    assert {"701", "702"} <= set(found.whole) & set(found.announced)
    assert "017011015" in found.squeezed


def test_results_are_judged_without_their_case() -> None:
    texts = pl.Series(["Negative", "NEGATIVE", "negative-ish", "5 %", "555-1234", "2013-01"])
    assert plain_results(texts, ["NEGATIVE"]).to_list() == ["5 %", "NEGATIVE", "Negative"]


def test_days_that_tell_an_age_over_89_are_withheld() -> None:
    old, young = SUBJECTS[1], SUBJECTS[0]
    rows = [
        {"USUBJID": old, "MHSEQ": 1.0, "MHSTDTC": "1918-05-01", "MHDUR": "P95Y"},
        {"USUBJID": old, "MHSEQ": 2.0, "MHSTDTC": "1990-05-01", "MHDUR": "P23Y11M"},
        {"USUBJID": young, "MHSEQ": 1.0, "MHSTDTC": "1951-05-01", "MHDUR": "P1100M"},
    ]
    tables = trial() | {"MH": table("MH", [r | {"MHTERM": "x", "MHDECOD": "CONGENITAL"} for r in rows])}
    result = run(tables=tables)
    history = by_subject(result, "MH", old)
    assert history["MHSTDY"][0] is None and history["MHSTDY"][1] < -8000
    assert history["MHDUR"] == [None, "P23Y11M"]
    assert result.report.days_over_age == {"MH.MHSTDY": 1, "MH.MHDUR": 2}
    assert by_subject(run("limited", tables), "MH", old)["MHSTDY"][0] < -34000


@pytest.mark.parametrize(
    ("age", "unit", "shown"),
    [
        (9.5, "DECADES", (90.0, "YEARS")),
        (3.0, "Decades", (30.0, "YEARS")),
        (1068.0, "MONTHS", (89.0, "YEARS")),
        (1080.0, "MONTHS", (90.0, "YEARS")),
        (4800.0, "WEEKS", (90.0, "YEARS")),
        (40000.0, "DAYS", (90.0, "YEARS")),
        (1200.0, "YR.", (None, None)),
        (9.5, None, (None, None)),
        (92.0, "YEARS", (90.0, "YEARS")),
    ],
)
def test_age_in_any_unit(age: float, unit: str | None, shown: tuple[float | None, str | None]) -> None:
    tables = trial()
    first = pl.col("USUBJID") == SUBJECTS[0]
    tables["DM"] = tables["DM"].with_columns(
        AGE=pl.when(first).then(pl.lit(age)).otherwise("AGE"),
        AGEU=pl.when(first).then(pl.lit(unit, pl.String)).otherwise("AGEU"),
    )
    result = run(tables=tables)
    dm = by_subject(result, "DM", SUBJECTS[0])
    assert (dm["AGE"][0], dm["AGEU"][0]) == (pytest.approx(shown[0]) if shown[0] else None, shown[1])
    assert result.report.ages_without_unit == (shown[0] is None)
    assert result.report.capped_ages == 2 + (shown[0] == 90.0)


def test_age_without_any_unit_is_withheld_and_counted() -> None:
    tables = trial()
    tables["DM"] = tables["DM"].drop("AGEU")
    result = run(tables=tables)
    assert result.tables["DM"]["AGE"].null_count() == result.report.ages_without_unit == 4
    assert "DM.AGEU" in result.report.absent_columns
