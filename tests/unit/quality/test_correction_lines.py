"""Every line of a correction file is accepted, already so, or set aside with a reason."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.correction_home import HEADER
from tests.support.raw_trial import SUBJECTS, table
from trialops.errors import TrialOpsError
from trialops.quality.correction.file import COLUMNS, Received, read_corrections
from trialops.quality.correction.propose import REASONS, Proposal, propose
from trialops.quality.correction.register import Entry, corrected

TODAY = dt.date(2026, 3, 1)
GOOD = {
    "DOMAIN": "LB",
    "USUBJID": SUBJECTS[0],
    "RECORD": "LBSEQ=1",
    "VARIABLE": "LBSTRESN",
    "OLD": "31.0",
    "NEW": "13",
    "REASON": "digits swapped",
    "BY": "Site nurse",
    "AT": "2026-02-01",
}


def trial() -> dict[str, pl.DataFrame]:
    common = {"STUDYID": "T1", "LBTESTCD": "ALT", "LBORRES": "31", "LBSTRESU": "U/L"}
    lb = [
        common | {"USUBJID": s, "LBSEQ": float(n), "LBSTRESN": 31.0, "LBDTC": "2014-02-03"}
        for s in SUBJECTS[:2]
        for n in (1, 2)
    ]
    dm = [{"STUDYID": "T1", "USUBJID": s, "SITEID": "701", "RFSTDTC": "2014-01-02", "AGE": 63.0} for s in SUBJECTS[:2]]
    return {"DM": table("DM", dm), "LB": table("LB", lb)}


def lines(*changed: dict[str, str | None]) -> Received:
    rows = [GOOD | c for c in changed]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String)).with_columns(
        file=pl.lit("c.csv"), row=pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    )
    return Received(frame, {"c.csv": "0" * 64})


def proposed(*changed: dict[str, str | None]) -> Proposal:
    return propose(trial(), lines(*changed), today=TODAY)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"DOMAIN": "XX"}, "UNKNOWN_DOMAIN"),
        ({"DOMAIN": "AE"}, "UNKNOWN_DOMAIN"),  # known, but this trial has none
        ({"DOMAIN": None}, "UNKNOWN_DOMAIN"),
        ({"VARIABLE": "LBNOSUCH"}, "UNKNOWN_VARIABLE"),
        ({"VARIABLE": "_ROW"}, "UNKNOWN_VARIABLE"),
        ({"VARIABLE": "USUBJID"}, "IDENTITY"),
        ({"VARIABLE": "LBSEQ"}, "IDENTITY"),
        ({"VARIABLE": "STUDYID"}, "IDENTITY"),
        ({"RECORD": None}, "RECORD_NOT_NAMED"),
        ({"RECORD": "LBSEQ"}, "RECORD_NOT_NAMED"),
        ({"RECORD": "LBSEQ=1;VISITNUM=2"}, "RECORD_NOT_NAMED"),
        ({"RECORD": "LBSEQ=1;LBSEQ=2"}, "RECORD_NOT_NAMED"),
        ({"RECORD": "LBSEQ=9"}, "NO_SUCH_RECORD"),
        ({"USUBJID": "nobody"}, "NO_SUCH_RECORD"),
        ({"USUBJID": None}, "NO_SUCH_RECORD"),
        ({"OLD": "32"}, "OLD_VALUE_DIFFERS"),
        ({"OLD": None}, "OLD_VALUE_DIFFERS"),
        ({"NEW": "thirteen"}, "NOT_A_NUMBER"),
        ({"NEW": "inf"}, "NOT_A_NUMBER"),
        ({"REASON": None}, "NO_REASON"),
        ({"BY": None}, "NO_AUTHOR"),
        ({"AT": None}, "NO_TIME"),
        ({"AT": "last week"}, "NO_TIME"),
        ({"AT": "2026-03-02"}, "NO_TIME"),
        ({"VARIABLE": "LBDTC", "OLD": "2014-02-03", "NEW": "2014-02-31"}, "MAKES_ROW_INVALID"),
        ({"VARIABLE": "LBDTC", "OLD": "2014-02-03", "NEW": "2027-02-03"}, "MAKES_ROW_INVALID"),
        ({"VARIABLE": "LBDTC", "OLD": "2014-02-03", "NEW": "tomorrow"}, "MAKES_ROW_INVALID"),
    ],
)
def test_each_fault_has_its_reason(change: dict[str, str | None], reason: str) -> None:
    found = proposed(change)
    assert found.changes == () and found.rejected["reason"].to_list() == [reason]
    assert reason in REASONS and found.rejected["row"].to_list() == [1]
    text = found.rejected.write_csv()
    assert not any(str(v) in text for v in (change.get("USUBJID"), SUBJECTS[0], "31.0", "digits") if v)


def test_a_line_says_the_same_number_in_other_words() -> None:
    for old in ("31", "31.00", " 31.0"):
        assert len(proposed({"OLD": old.strip()}).changes) == 1
    assert proposed({"NEW": "31"}).already == 1


def test_two_lines_for_one_value() -> None:
    same = proposed({}, {})
    assert (len(same.changes), same.already, same.rejected.height) == (1, 1, 0)
    differ = proposed({}, {"NEW": "14"})
    assert (len(differ.changes), differ.rejected["reason"].to_list()) == (0, ["CONFLICT", "CONFLICT"])


def test_one_bad_value_sets_the_whole_record_aside() -> None:
    found = proposed({}, {"VARIABLE": "LBDTC", "OLD": "2014-02-03", "NEW": "2014-13-01"}, {"RECORD": "LBSEQ=2"})
    assert [c.record for c in found.changes] == ["LBSEQ=2"]
    assert set(found.rejected["reason"]) == {"MAKES_ROW_INVALID"}


def test_a_result_without_its_standard_form_is_odd() -> None:
    alone = proposed({"VARIABLE": "LBORRES", "OLD": "31", "NEW": "13"})
    assert len(alone.changes) == 1 and sum(alone.warnings.values()) == 1
    assert not proposed({"VARIABLE": "LBORRES", "OLD": "31", "NEW": "13"}, {}).warnings


def test_the_name_of_a_proposal_does_not_depend_on_the_day() -> None:
    received = lines({})
    later = propose(trial(), received, today=TODAY + dt.timedelta(days=3))
    assert later.digest == propose(trial(), received, today=TODAY).digest
    assert later.digest != proposed({"NEW": "12"}).digest


def entry(proposal: Proposal, sequence: int = 1) -> Entry:
    return Entry(sequence, proposal.digest, "2026-03-01T00:00:00.000000Z", "me", (), TODAY, proposal.changes)


def test_applied_rows_are_further_versions() -> None:
    tables, counts = corrected(trial(), [entry(proposed({}))])
    assert tables["LB"].height == trial()["LB"].height + 1 and list(counts.values()) == [[1, 0]]
    fresh = tables["LB"].tail(1).to_dicts()[0]
    assert (fresh["LBSTRESN"], fresh["_RECEIVED"], fresh["_ROW"]) == (13.0, TODAY, 1)
    assert fresh["_SOURCE"] == "corrections/2026-03-01.000001/c.csv"


def test_a_later_delivery_of_the_row_is_the_later_word() -> None:
    moved = trial()
    moved["LB"] = moved["LB"].with_columns(LBSTRESN=pl.lit(29.0))
    tables, counts = corrected(moved, [entry(proposed({}))])
    assert tables["LB"].equals(moved["LB"]) and list(counts.values()) == [[0, 1]]
    gone = {"DM": trial()["DM"]}
    assert list(corrected(gone, [entry(proposed({}))])[1].values()) == [[0, 1]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "DOMAIN": st.sampled_from(["LB", "DM", "XX", None]),
                "USUBJID": st.sampled_from([*SUBJECTS, None]),
                "RECORD": st.sampled_from(["LBSEQ=1", "LBSEQ=2", "LBSEQ=7", "", None, "a=b=c;", ";;="]),
                "VARIABLE": st.sampled_from(["LBSTRESN", "LBORRES", "LBDTC", "AGE", "NOPE", None]),
                "OLD": st.one_of(st.none(), st.sampled_from(["31", "63"]), st.text(max_size=6)),
                "NEW": st.one_of(st.none(), st.floats(allow_nan=True).map(str), st.text(max_size=12)),
                "AT": st.sampled_from(["2026-01-01", "2026-01-01T10:00:00+02:00", "", "x", None]),
            },
        ),
        max_size=12,
    )
)
def test_every_line_is_somewhere(changes: list[dict[str, str | None]]) -> None:
    found = propose(trial(), lines(*changes), today=TODAY)
    assert len(found.changes) + found.already + found.rejected.height == found.read == len(changes)
    tables, counts = corrected(trial(), [entry(found)])
    again = propose(tables, lines(*changes), today=TODAY)
    assert again.changes == ()  # applied once, there is nothing left to do
    assert sum(left for _, left in counts.values()) == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xff\xfe\x00D", "not UTF-8"),
        (b"DOMAIN,USUBJID\nLB,1\n", "no column"),
        (b"a\0b", "no text"),
        (HEADER.encode() + b"\nLB,1,2,3,4,5,6,7,8,9,10,11\n", "equal lines"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(TrialOpsError, match=why) as caught:
        read_corrections(tmp_path / "c.csv")
    assert caught.value.where == "c.csv" and caught.value.fix


def test_a_folder_of_files_with_a_mark_and_other_columns(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(
        "\ufeff" + HEADER + ",COMMENT\nlb, 1 ,LBSEQ=1,lbstresn,,5,r,b,2026-01-01,x\n", "utf-8"
    )
    (tmp_path / "a.csv").write_text(HEADER + "\n")
    (tmp_path / "readme.txt").write_text("no corrections")
    received = read_corrections(tmp_path)
    assert list(received.files) == ["a.csv", "b.csv"]
    assert (
        received.lines.to_dicts()[0] | {"OLD": None, "DOMAIN": "LB", "USUBJID": "1", "VARIABLE": "LBSTRESN"}
        == received.lines.to_dicts()[0]
    )
    with pytest.raises(TrialOpsError, match="does not exist"):
        read_corrections(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrialOpsError, match=r"no \.csv"):
        read_corrections(tmp_path / "empty")
