"""HL7 v2 text: separators, escapes, character sets, batch files; fields compared with hl7apy."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.intake.hl7_ack import escape
from trialops.intake.hl7_labs import read_file
from trialops.intake.hl7_parse import Delimiters, Hl7Error, Message, delimiters_of, parse, split_file, unescape
from trialops.synthetic import generate

MSH = r"MSH|^~\&|LIS|LAB|TRIALOPS|701|20260302081500||ORU^R01^ORU_R01|M1|P|2.5.1"


def message(*segments: str, head: str = MSH) -> Message:
    return parse([s.encode() for s in (head, *segments)])


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"\E\F\E\ ", "\\F\\ "),
        (r"1\X0A0D\2", "1\n\r2"),
        (r"\H\bold\N\ text", "bold text"),
        (r"line\.br\two", "line\ntwo"),
        (r"10\Z1\3", r"10\Z1\3"),
        (r"open \F", r"open \F"),
        (r"\XZZ\ ", r"\XZZ\ "),
        (r"\E\E\E\ ", r"\E" + "\\ "),
        (r"C:\F\x", "C:|x"),
    ],
)
def test_escapes(sent: str, text: str) -> None:
    assert unescape(sent, Delimiters()) == text


@given(st.text(alphabet=st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])))
@settings(max_examples=300, deadline=None)
def test_what_is_escaped_comes_back(text: str) -> None:
    d = Delimiters()
    sent = escape(text, d)
    assert not set(sent) & set("|^~&") and unescape(sent, d) == text


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_every_byte_belongs_somewhere(data: bytes) -> None:
    """Whatever the bytes: no exception, and what is read is loaded or named."""
    result = read_file(MSH.encode() + b"\r" + data, "f", "sha")
    aside = len({f.row for f in result.findings})
    assert result.count.read == len(result.statements) + aside >= 1


@given(st.lists(st.sampled_from(["MSH", "PID", "OBR", "OBX", "FHS", "BHS", "BTS", "FTS", "ZZZ", "|", "\r", "\n", "\\",
                                 "^~\\&", "1", "F", "ORU^R01", "2.5.1", "\x0b", "\x1c\r"]), max_size=60))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_pieces_in_any_order(pieces: list[str]) -> None:
    result = read_file("".join(pieces).encode(), "f", "sha")
    assert result.count.read == len(result.statements) + len({f.row for f in result.findings})


@pytest.mark.parametrize(
    "head", ["MSH", "MSH|", "MSHA^~", "MSH|^^~\\&|", "MSH|||x", "MSH|^~\\&#$|x", "MSH|a~\\&|x", "MSH 1"]
)
def test_wrong_separators(head: str) -> None:
    with pytest.raises(Hl7Error) as caught:
        delimiters_of(head)
    assert caught.value.reason == "WRONG_DELIMITERS"


def test_other_separators_are_read() -> None:
    found = parse([b"MSH$%*!@$LIS$LAB$T$S$20260302$$ORU%R01$M1$P$2.5.1", b"PID$1$$A%%%X@1.2@ISO*B$$O!F!Neil%Ada"])
    pid = found.segments[1]
    assert [found.components(r)[0] for r in found.repetitions(pid.get(3))] == ["A", "B"]
    assert found.part(pid.get(3), 4) == "X" and found.part(pid.get(5)) == "O$Neil"
    assert found.part(pid.get(3), 4, 2) == "1.2" and found.part(pid.get(3), 9) == ""


@pytest.mark.parametrize(
    ("charset", "codec"),
    [("", "ascii"), ("UNICODE UTF-8", "utf-8"), ("8859/1", "iso8859-1"), ("8859/2", "iso8859-2"),
     ("8859/15", "iso8859-15"), ("GB 18030-2000", "gb18030")],
)  # fmt: skip
def test_charsets(charset: str, codec: str) -> None:
    text = {"ascii": "Muller", "iso8859-2": "Řehoř", "gb18030": "王"}.get(codec, "Müller")
    head = MSH + "||||||" + charset
    found = parse([head.encode(), f"PID|1||7||{text}".encode(codec)])
    assert found.part(found.segments[1].get(5)) == text


def test_charset_that_lies() -> None:
    for charset, reason in (("8859/99", "CHARSET_UNKNOWN"), ("UNICODE UTF-8", "CHARSET_WRONG"), ("", "CHARSET_WRONG")):
        with pytest.raises(Hl7Error) as caught:
            parse([(MSH + "||||||" + charset).encode(), b"PID|1||7||M\xfcller"])
        assert caught.value.reason == reason
    told = parse([MSH.encode(), "PID|1||7||Müller".encode()])
    assert told.notes == ("character set not stated, read as UTF-8",)


def test_line_ends_and_framing() -> None:
    body = [MSH, "PID|1||7", "OBR|1|P|F", "OBX|1|NM|1742-6^ALT^LN||5|U/L|||||F|||20260301"]
    plain = read_file("\r".join(body).encode() + b"\r", "f", "s")
    assert len(plain.statements) == 1 and not plain.count.notes
    for end, note in (("\r\n", "CR LF"), ("\n", "LF")):
        other = read_file(end.join(body).encode() + end.encode(), "f", "s")
        assert [r[9:] for r in other.statements] == [r[9:] for r in plain.statements]
        assert any(note in n for n in other.count.notes)
    framed = read_file(b"\x0b" + "\r".join(body).encode() + b"\r\x1c\r", "f", "s")
    assert len(framed.statements) == 1 and "MLLP framing inside the file dropped" in framed.count.notes
    # A line feed inside a value is content where segments end in a carriage return.
    inside = "\r".join([*body[:3], "OBX|1|ST|1742-6^ALT^LN||five\nsix|U/L|||||F|||20260301"]) + "\r"
    assert read_file(inside.encode(), "f", "s").statements[0][22] == "five\nsix"


def test_a_file_cut_in_the_middle_gives_up_its_last_message() -> None:
    whole = "\r".join([MSH, "PID|1||7", "OBR|1|P|F", "OBX|1|NM|1742-6^ALT^LN||56|U/L|||||F|||20260301"])
    cut = read_file(whole.encode()[:-26], "f", "s")
    assert not cut.statements and [f.reason for f in cut.findings] == ["TRUNCATED"]
    batch = f"FHS|^~\\&|LIS\rBHS|^~\\&|LIS\r{whole}\r{whole}\r"
    missing = read_file(batch.encode(), "f", "s")
    # Where a trailer is missing nobody knows whether the last message is whole.
    assert len(missing.statements) == 1 and [f.reason for f in missing.findings] == ["TRUNCATED"]
    assert "FHS without FTS" in missing.count.reason and "BHS without BTS" in missing.count.reason


@pytest.mark.parametrize(
    ("trailers", "problem"),
    [
        ("BTS|2\rFTS|1\r", "BTS-1 promises 2 messages, 1 are there"),
        ("BTS|1\rFTS|3\r", "FTS-1 promises 3 batches, 1 are there"),
        ("BTS|many\rFTS|1\r", "BTS-1 promises something that is no number messages, 1 are there"),
        ("BTS|1\rFTS|1\rBTS|0\r", "BTS without a header before it"),
        ("BTS|1\rFTS|1\r", ""),
        ("BTS\rFTS\r", ""),
    ],
)
def test_counts_of_trailers(trailers: str, problem: str) -> None:
    batch = split_file(f"FHS|^~\\&|L\rBHS|^~\\&|L\r{MSH}\rPID|1\r{trailers}".encode())
    assert "; ".join(words for _, words in batch.problems) == problem and len(batch.messages) == 1


def test_segments_outside_messages_are_counted() -> None:
    result = read_file(f"junk\rmore\r{MSH}\rPID|1\rBTS|1\rtail\r".encode(), "f", "s")
    assert [f.reason for f in result.findings] == ["NO_RESULTS", "OUTSIDE_MESSAGE", "OUTSIDE_MESSAGE"]
    assert result.count.read == 3


# -- the oracle -----------------------------------------------------------------------------------------------------


def leaves(oracle: Any, name: str) -> list[str]:
    return [field.to_er7() for field in getattr(oracle, name.lower())]


def test_hl7apy_reads_the_same_fields(tmp_path: Path) -> None:
    parser = importlib.import_module("hl7apy.parser")
    validation = importlib.import_module("hl7apy.consts").VALIDATION_LEVEL.TOLERANT
    generate(tmp_path, subjects=15, sites=2, seed=6, formats=("hl7",))
    data = b"".join(p.read_bytes() for p in sorted((tmp_path / "hl7").glob("*.hl7")))
    framed = split_file(data).messages
    compared = 0
    for item in framed[:: len(framed) // 9]:
        ours = parse(item.lines)
        text = b"\r".join(item.lines).decode()
        oracle = parser.parse_message(text, validation_level=validation, find_groups=False)
        assert parser.parse_message(text, validation_level=validation).validate() is True
        assert [s.name for s in ours.segments] == [s.name for s in oracle.children]
        for mine, theirs in zip(ours.segments, oracle.children, strict=True):
            for number in range(3 if mine.name == "MSH" else 1, len(mine.fields)):
                if not mine.get(number):
                    continue
                fields = leaves(theirs, f"{mine.name}_{number}")
                assert ours.repetitions(mine.get(number)) == fields, (mine.name, number)
                for mine_rep, their_rep in zip(ours.repetitions(mine.get(number)), fields, strict=True):
                    assert mine_rep.split("^") == their_rep.split("^")
                compared += 1
    assert compared > 1000


def test_hl7apy_reads_what_is_acknowledged() -> None:
    from trialops.intake.hl7_ack import acknowledge, header_of

    parser = importlib.import_module("hl7apy.parser")
    for version in ("2.3", "2.3.1", "2.4", "2.5", "2.5.1"):
        head = header_of(MSH.replace("2.5.1", version).encode())
        for errors in ((), (Hl7Error("BAD_TIME", "no | time", location="OBX^1^14", code="102"),)):
            body = acknowledge(head, errors, at="20260302081600")
            assert body is not None
            oracle = parser.parse_message(body.decode(), find_groups=False)
            assert oracle.msa.msa_1.to_er7() == ("AE" if errors else "AA") and oracle.msa.msa_2.to_er7() == "M1"
            assert oracle.msh.msh_3.to_er7() == "TRIALOPS" and oracle.msh.msh_5.to_er7() == "LIS"
            # hl7apy cannot validate the composite types of 2.3.
            assert version == "2.3" or oracle.validate() is True
