"""Laboratory results: what a message says, which statement counts, whose it is, and whether it was ordered."""

from __future__ import annotations

from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.intake.external import find_files
from trialops.intake.hl7_intake import LabIntake, ingest
from trialops.intake.hl7_labs import read_file
from trialops.intake.hl7_orders import read_requisitions
from trialops.intake.hl7_page import lab_page
from trialops.intake.hl7_values import instant, is_loinc, iso_time, limits, structured_number
from trialops.intake.subjects import Subjects
from trialops.pages import render
from trialops.synthetic.analytes import ANALYTES


class Plain:
    """Pseudonyms a test can read."""

    def pseudonym(self, kind: str, value: str) -> str:
        return f"{kind}:{value}"


def subjects(**more: object) -> Subjects:
    return Subjects(Plain(), {"subject:S1": "F", "subject:S2": "M"}, **more)  # type: ignore[arg-type]


def obx(
    status: str = "F",
    value: str = "5.1",
    kind: str = "NM",
    test: str = "1742-6^ALT^LN",
    time: str = "20260301",
    range_: str = "6-34",
    flag: str = "L",
    sub: str = "1",
    unit: str = "U/L^^UCUM",
) -> str:
    return f"OBX|1|{kind}|{test}|{sub}|{value}|{unit}|{range_}|{flag}|||{status}|||{time}"


def message(
    *results: str,
    control: str = "M1",
    sent: str = "20260302081500",
    ids: str = "S1^^^TRIAL^PI",
    sex: str = "F",
    order: str = "P1",
    accession: str = "A1",
    reported: str = "",
) -> str:
    head = rf"MSH|^~\&|LIS|LAB|T|1|{sent}||ORU^R01^ORU_R01|{control}|P|2.5.1"
    obr = f"OBR|1|{order}|{accession}|PANEL^Panel^L|||20260301" + "|" * 15 + reported
    return "\r".join([head, f"PID|1||{ids}||Quimby^Ada||19480229|{sex}", obr, *results]) + "\r"


def take(tmp_path: Path, *texts: str, who: Subjects | None = None, **more: object) -> LabIntake:
    folder = tmp_path / f"d{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    for i, text in enumerate(texts):
        (folder / f"{i}.hl7").write_bytes(text.encode())
    return ingest(find_files(folder, "hl7"), [], who or subjects(), study="T", **more)  # type: ignore[arg-type]


def values(intake: LabIntake) -> list[str | None]:
    return intake.results.rows["LBORRES"].to_list()


def fates(intake: LabIntake) -> list[str]:
    return sorted(intake.results.dispositions["DISPOSITION"].to_list())


# -- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "iso"),
    [
        ("2026", "2026"),
        ("202603", "2026-03"),
        ("20260301", "2026-03-01"),
        ("2026030108", "2026-03-01T08:00"),
        ("202603010815", "2026-03-01T08:15"),
        ("20260301081530", "2026-03-01T08:15:30"),
        ("20260301081530.1234+0130", "2026-03-01T08:15:30.1234+01:30"),
        ("20240229", "2024-02-29"),
        ("", ""),
        ("20260229", None),
        ("20261301", None),
        ("2026030124", None),
        ("202603010860", None),
        ("yesterday", None),
        ("20260301+0100", "2026-03-01"),
        ("0000", None),
    ],
)
def test_times(sent: str, iso: str | None) -> None:
    assert iso_time(sent) == iso


def test_instants_are_comparable() -> None:
    assert instant("2026-03-01T00:30+01:00") == "2026-02-28T23:30:00.000"
    assert instant("2026") == "2026-01-01T00:00:00.000" and instant("") == ""


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([">", "100"], ">100"),
        (["", "1", ":", "128"], "1:128"),
        (["", "10", "-", "20"], "10-20"),
        (["", "2", "+"], "2+"),
        (["=", "5"], "5"),
        (["~", "5"], None),
        (["", "x"], None),
        (["", "1", ":", "y"], None),
        ([""], None),
        (["", "1", "", "2"], None),
    ],
)
def test_structured_numbers(parts: list[str], text: str | None) -> None:
    assert structured_number(parts) == text


def test_ranges() -> None:
    assert limits("3.5-5.0") == ("3.5", "5.0") and limits("-2 - 3") == ("-2", "3") and limits("<200") == ("", "200")
    assert limits(">= 60") == ("60", "") and limits("negative") == ("", "")


def test_loinc_check_digits() -> None:
    assert all(is_loinc(a.loinc) for a in ANALYTES) and len(ANALYTES) > 10
    assert not any(is_loinc(code) for code in ("1742-7", "1742", "", "1742-66", "abc-1", "17426"))


@pytest.mark.parametrize(
    ("kind", "sent", "result", "code"),
    [
        ("NM", "+5.10", "+5.10", ""),
        ("SN", ">^100", ">100", ""),
        ("ST", r"a\T\b", "a&b", ""),
        ("TX", "one~two", "one\ntwo", ""),
        ("CE", "10828004^Positive^SCT", "Positive", "10828004^SCT"),
        ("CWE", "^^^^^^^^seen", "seen", ""),
        ("CE", "POS", "POS", "POS^"),
    ],
)
def test_value_types(tmp_path: Path, kind: str, sent: str, result: str, code: str) -> None:
    intake = take(tmp_path, message(obx(kind=kind, value=sent)))
    assert values(intake) == [result] and (intake.results.rows["LBORRES_CODE"][0] or "") == code


@pytest.mark.parametrize(
    ("segment", "reason"),
    [
        (obx(value="high"), "NOT_A_NUMBER"),
        (obx(value="1~2"), "REPEATED_VALUE"),
        (obx(value="1e5"), "NOT_A_NUMBER"),
        (obx(kind="SN", value="a^b"), "NOT_A_NUMBER"),
        (obx(value=""), "NO_VALUE"),
        (obx(value='""'), "NO_VALUE"),
        (obx(kind=""), "NO_VALUE_TYPE"),
        (obx(kind="ED"), "VALUE_TYPE"),
        (obx(status=""), "STATUS_UNKNOWN"),
        (obx(status="Q"), "STATUS_UNKNOWN"),
        (obx(test="^^"), "NO_TEST"),
        (obx(test="1742-7^ALT^LN"), "INVALID_LOINC"),
        (obx(time="20269901"), "BAD_TIME"),
        (obx(time="20270301"), "COLLECTED_AFTER_SENT"),
        (obx(status="U", value=""), "NOTHING_TO_CONFIRM"),
    ],
)
def test_results_set_aside(tmp_path: Path, segment: str, reason: str) -> None:
    intake = take(tmp_path, message(segment, obx(test="1920-8^AST^LN")))
    assert intake.quarantine["reason"].to_list() == [reason]
    assert "segment 4" in intake.quarantine["column"][0] and intake.quarantine["row"].to_list() == [1]
    assert intake.results.rows["LBLOINC"].to_list() == ["1920-8"]
    assert intake.dispositions.select("read", "loaded", "quarantined", "ignored").row(0) == (2, 1, 1, 0)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("ORU^R01", "ADT^A01", "NOT_A_RESULT"),
        ("ORU^R01", "ORU^R30", "WRONG_EVENT"),
        ("|P|2.5.1", "|T|2.5.1", "NOT_PRODUCTION"),
        ("2.5.1", "2.8", "WRONG_VERSION"),
        ("|M1|", "||", "NO_CONTROL_ID"),
        ("PID", "ZID", "NO_PATIENT"),
        ("OBX", "ZBX", "NO_RESULTS"),
        ("OBR", "ZBR", "SEGMENT_ORDER"),
        ("20260302081500", "soon", "BAD_TIME"),
        ("P1|A1", "|", "NO_ORDER"),
        ("OBX|", "obx|", "SEGMENT_NAME"),
    ],
)
def test_messages_set_aside(tmp_path: Path, old: str, new: str, reason: str) -> None:
    intake = take(tmp_path, message(obx()).replace(old, new, 1))
    assert intake.quarantine["reason"].to_list() == [reason] and values(intake) == []


def test_what_an_order_hands_down(tmp_path: Path) -> None:
    text = message("OBX|1|NM|1742-6^ALT^LN||5|U/L|6-34|LL~A|||F").replace("OBR|1|P1|A1", "ORC|RE|P7|A7\rOBR|1||")
    row = take(tmp_path, text.replace("|||20260301", "|||202603010930", 1)).results.rows.to_dicts()[0]
    assert (row["LBREFID"], row["PLACER"], row["LBDTC"], row["LBNRIND"]) == ("A7", "P7", "2026-03-01T09:30", "LOW")
    assert row["PANEL"] == "Panel" and row["LBNAM"] == "LAB" and row["_RECEIVED"].isoformat() == "2026-03-02"


# -- which statement counts -----------------------------------------------------------------------------------------


def said(status: str, value: str, day: int, control: str = "") -> str:
    return message(
        obx(status, value),
        control=control or f"M{day}{status}{value}",
        sent=f"202603{day:02d}120000",
        reported=f"202603{day:02d}110000",
    )


@pytest.mark.parametrize(
    ("statements", "result", "lost"),
    [
        ([said("P", "5", 2), said("F", "6", 3)], ["6"], ["SUPERSEDED", "loaded"]),
        ([said("F", "6", 3), said("P", "5", 4)], ["6"], ["SUPERSEDED", "loaded"]),
        ([said("F", "6", 3), said("C", "7", 4)], ["7"], ["SUPERSEDED", "loaded"]),
        ([said("F", "6", 3), said("C", "7", 3)], ["7"], ["SUPERSEDED", "loaded"]),
        ([said("C", "7", 4), said("C", "8", 5), said("F", "6", 3)], ["8"], ["SUPERSEDED", "SUPERSEDED", "loaded"]),
        # The old final result sent again is no news, whatever its date.
        ([said("F", "6", 3), said("C", "7", 4), said("F", "6", 9)], ["7"], ["REPLAYED", "SUPERSEDED", "loaded"]),
        ([said("F", "6", 3), said("W", "6", 4)], [], ["WITHDRAWAL", "WITHDRAWN"]),
        ([said("F", "6", 3), said("D", "", 4)], [], ["WITHDRAWAL", "WITHDRAWN"]),
        ([said("F", "6", 3), said("W", "6", 4), said("F", "9", 5)], ["9"], ["SUPERSEDED", "WITHDRAWAL", "loaded"]),
        ([said("P", "5", 2), said("U", "", 3)], ["5"], ["SUPERSEDED", "loaded"]),
        ([said("X", "", 3)], [None], ["loaded"]),
        ([said("I", "", 3), said("F", "6", 4)], ["6"], ["loaded"]),
    ],
)
def test_what_counts_in_any_order(tmp_path: Path, statements: list[str], result: list[str], lost: list[str]) -> None:
    for seed in range(4):
        shuffled = statements[:]
        Random(seed).shuffle(shuffled)
        # In files of their own, or all in one.
        intake = take(tmp_path, *(shuffled if seed % 2 else ["".join(shuffled)]))
        assert values(intake) == result and fates(intake) == lost, seed
        if result == [None]:
            assert intake.results.rows["LBSTAT"].to_list() == ["NOT DONE"]
        counts = intake.dispositions.sum()
        assert (
            counts["read"][0]
            == counts["loaded"][0] + counts["quarantined"][0] + counts["ignored"][0]
            == len(statements)
        )


POOL = [said(s, v, d, control=f"{s}{v}{d}") for s in "PFCWDX" for v in ("5", "6") for d in (2, 3, 4)]


@given(st.lists(st.sampled_from(POOL), min_size=1, max_size=7), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_replays_and_deliveries_do_not_matter(texts: list[str], random: Random) -> None:
    def rows(*parts: str) -> pl.DataFrame:
        before = None
        for part in parts:
            result = read_file(part.encode(), "f", f"sha{hash(part)}")
            from trialops.intake.hl7_labs import statements_frame

            now = statements_frame([result])
            before = now if before is None else pl.concat([before, now])
        from trialops.intake.hl7_results import current

        found = current(before, subjects(), study="T", labels={}).rows
        return found.drop("FILE_SHA", "_SOURCE", "_ROW", "SEGMENT_NO", "MESSAGE_ID", "_RECEIVED")

    once = rows("".join(texts))
    shuffled = texts + random.sample(texts, len(texts) // 2)
    random.shuffle(shuffled)
    cut = random.randint(0, len(shuffled))
    assert rows(*[p for p in ("".join(shuffled[:cut]), "".join(shuffled[cut:])) if p]).equals(once)


def test_a_final_result_that_changes_without_saying_so_is_reported(tmp_path: Path) -> None:
    intake = take(tmp_path, said("F", "6", 3), said("F", "7", 4))
    assert values(intake) == ["7"] and intake.results.changed == 1


def test_a_control_id_used_twice(tmp_path: Path) -> None:
    intake = take(tmp_path, said("F", "6", 3, "SAME"), said("F", "7", 4, "SAME"))
    assert values(intake) == ["6"] and intake.quarantine["reason"].to_list() == ["MESSAGE_ID_REUSED"]


def test_flags_that_contradict_their_range_are_counted(tmp_path: Path) -> None:
    intake = take(tmp_path, message(obx(value="50", flag="L"), obx(value="20", flag="N", test="1920-8^AST^LN")))
    assert intake.results.flags_disagree == 1


def test_the_same_file_twice_and_the_next_delivery(tmp_path: Path) -> None:
    text = message(obx())
    twice = take(tmp_path, text, text)
    assert twice.dispositions["loaded"].sum() == 1 and twice.dispositions["ignored"].sum() == 1
    later = take(tmp_path, said("C", "9", 9), before=twice.statements)
    assert values(later) == ["9"] and later.dispositions["read"].to_list() == [1]


# -- whose, and ordered by whom -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "sex", "reason"),
    [
        ("S9^^^TRIAL", "F", "SUBJECT_UNKNOWN"),
        ("", "F", "NO_IDENTIFIER"),
        ("S1~S2", "", "SUBJECT_AMBIGUOUS"),
        ("S1", "M", "SEX_DISAGREES"),
        ("S1", "U", ""),
        ("99^^^SITE^MR~S2", "M", ""),
    ],
)
def test_matching(tmp_path: Path, ids: str, sex: str, reason: str) -> None:
    intake = take(tmp_path, message(obx(), ids=ids, sex=sex))
    assert intake.quarantine["reason"].to_list() == ([reason] if reason else [])
    assert intake.results.unmatched["REASON"].to_list() == ([reason] if reason else [])
    if reason == "SUBJECT_UNKNOWN":
        assert intake.results.unmatched["QUEUE"].to_list() == ["external_identifier:TRIAL\0S9"]


def test_crosswalk_and_decisions(tmp_path: Path) -> None:
    text = message(obx(), ids="77^^^SITE701^MR", sex="F")
    assert values(take(tmp_path, text)) == []
    assert values(take(tmp_path, text, who=subjects(crosswalk={("77", "SITE701"): "S1"}))) == ["5.1"]
    assert values(take(tmp_path, text, who=subjects(crosswalk={("77", "SITE702"): "S1"}))) == []
    assert values(take(tmp_path, text, who=subjects(decisions={"external_identifier:SITE701\x0077": "S1"}))) == ["5.1"]


def test_an_accession_of_two_subjects(tmp_path: Path) -> None:
    intake = take(tmp_path, message(obx()), message(obx(), ids="S2", sex="M", control="M2"))
    assert intake.quarantine["reason"].to_list() == ["ORDER_OF_TWO_SUBJECTS"] * 2 and values(intake) == []


def test_requisitions(tmp_path: Path) -> None:
    path = tmp_path / "requisitions.csv"
    path.write_text(
        "order,USUBJID,collected,tests\nP1,S1,2026-03-01,1742-6 1920-8\nA2,S2,2026-03-09,\nP3,S1,2026-03-01,\nP4,S1,,\n"
    )
    texts = [
        message(obx(), obx(test="2160-0^Creatinine^LN")),
        message(obx(), ids="S2", sex="M", control="M2", order="P2", accession="A2"),
        message(obx(), ids="S2", sex="M", control="M3", order="P3", accession="A3"),
        message(obx(), control="M5", order="P5", accession="A5"),
    ]
    intake = take(
        tmp_path / "x" if (tmp_path / "x").mkdir() is None else tmp_path, *texts, requisitions=read_requisitions(path)
    )
    assert intake.quarantine["reason"].to_list() == ["REQUISITION_DISAGREES"]
    found = intake.reconciliation
    assert found is not None
    assert (found.ordered, found.resulted, found.open, found.unordered) == (4, 2, 2, 1)
    assert (found.days_disagree, found.tests_missing, found.tests_unasked) == (1, 1, 1)
    page = render(lab_page(intake))
    assert "Against requisitions" in page and "Quimby" not in page and "S2" not in page
    path.write_text("order,USUBJID\nP1,S1\nP1,S2\n")
    with pytest.raises(TrialOpsError, match="two subjects"):
        read_requisitions(path)
