"""Messages of E2B(R3): written, read, the same again; what is no message is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from tests.support.e2b_case import STAMP, full_case, meddra
from trialops.errors import TrialOpsError
from trialops.safety.case import Case, Document, Dosage, Drug, Null, Quantity, Reaction, Test
from trialops.safety.e2b.elements import elements
from trialops.safety.e2b.mapping import case_of, values_of
from trialops.safety.e2b.paths import normalised, null_of, predicates, repaired, split
from trialops.safety.e2b.reader import parse, read_messages
from trialops.safety.e2b.times import hl7_time, iso_time
from trialops.safety.e2b.values import Value, read_batch, read_values
from trialops.safety.e2b.writer import BatchHeader, MessageHeader, write_batch

BATCH = BatchHeader("batch-1", "123456789", "ZZFDA_PREMKT", STAMP)
MESSAGE = MessageHeader("US-TESTSPONSOR-0001", "123456789", "CDER_IND", STAMP)
SECRET = "Zebedee-4711"


def written(case: Case, *, fda: bool = True) -> bytes:
    return write_batch(BATCH, [(MESSAGE, case)], fda=fda)


def read_back(case: Case) -> Case:
    (message,) = read_messages(written(case))[1]
    return message.case


# --- there and back --------------------------------------------------------------------------------------------------


def test_a_case_with_every_field_comes_back_equal() -> None:
    header, (message,) = read_messages(written(full_case()))
    assert message.case == full_case()
    assert (header, message.header) == (BATCH, MESSAGE)


def test_every_element_with_a_path_is_written_and_read() -> None:
    values = read_values(parse(written(full_case())))
    assert {number for number, element in elements().items() if element.paths} - set(values) == set()


def test_the_message_says_exactly_what_the_case_says() -> None:
    """Three ways against each other: fields by their numbers, XML by hand, reading by the table of elements."""
    values = read_values(parse(written(full_case())))
    apart = {"E#id", "G#id", "G.k.9.i.1"}
    said = {
        number: places
        for number, places in values.found.items()
        if number not in apart and not number.startswith("N.") and not number.endswith("#representation")
    }
    assert said == values_of(full_case()).found


def test_without_fda_nothing_regional_is_written() -> None:
    document = written(full_case(), fda=False)
    values = read_values(parse(document))
    assert not [number for number in values if number.startswith("FDA.")]
    assert b"2.16.840.1.113883.3.989.5.1.2" not in document
    assert set(values_of(full_case(), fda=False)) <= set(values)


def test_the_same_case_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    program = (
        "import sys; from tests.support.e2b_case import full_case, STAMP\n"
        "from trialops.safety.e2b.writer import BatchHeader, MessageHeader, write_batch\n"
        "b = BatchHeader('batch-1', '123456789', 'ZZFDA_PREMKT', STAMP)\n"
        "m = MessageHeader('US-TESTSPONSOR-0001', '123456789', 'CDER_IND', STAMP)\n"
        "sys.stdout.buffer.write(write_batch(b, [(m, full_case())]))\n"
    )
    root = Path(__file__).parents[3]
    other = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo", "PYTHONPATH": str(root)},
    )
    assert other.stdout == written(full_case())


def test_ids_are_derived_from_the_report_and_differ_between_reports() -> None:
    first = read_values(parse(written(full_case())))
    other = replace(full_case(), report=replace(full_case().report, safety_report_id="US-TESTSPONSOR-0009"))
    second = read_values(parse(written(other)))
    ids = [*first.texts("E#id"), *first.texts("G#id"), *second.texts("E#id"), *second.texts("G#id")]
    assert len(ids) == len(set(ids)) == 10


def test_messages_of_a_batch_are_read_one_by_one() -> None:
    cases = [
        replace(full_case(), report=replace(full_case().report, safety_report_id=f"US-TESTSPONSOR-{number:04d}"))
        for number in range(3)
    ]
    messages = [(replace(MESSAGE, number=case.report.safety_report_id), case) for case in cases]
    document = write_batch(BATCH, messages)
    header, read = read_messages(document)
    assert header == BATCH
    assert [(message.header, message.case) for message in read] == messages
    assert [values.first("N.1.4") for values in read_batch(parse(document))] == ["ZZFDA_PREMKT"] * 3
    with pytest.raises(TrialOpsError, match="3 messages"):
        read_values(parse(document))


# --- places and null flavours ----------------------------------------------------------------------------------------


def test_places_count_drugs_reactions_and_opinions() -> None:
    values = read_values(parse(written(full_case())))
    assert values.get("G.k.9.i.2.r.1", (1, 1, 2)) == Value("Sponsor")
    assert values.get("G.k.9.i.2.r.3", (1, 2, 1)) == Value("Suspected")
    assert set(values.all("G.k.9.i.3.1a")) == {(1, 1), (1, 3)}
    assert values.all("G.k.1") == {(1,): Value("1"), (2,): Value("2")}
    assert values.texts("C.1.10.r") == ["US-TESTSPONSOR-0002", "US-TESTSPONSOR-0003"]
    assert values.get("E.i.4", (2,)) == Value(None, "MSK")
    assert values.nulls("C.2.r.2.7") == ["NASK"]
    assert values.first("no such element") is None
    assert values.all("no such element") == {}


def test_a_telecom_null_flavour_has_the_scheme_without_colon() -> None:
    """FDA's rule for FDA.C.2.r.2.8."""
    root = parse(written(full_case()))
    nulls = [each for each in root.iterfind(".//{*}telecom") if each.get("nullFlavor")]
    assert [(each.get("nullFlavor"), each.get("value")) for each in nulls] == [("NASK", "tel"), ("MSK", "mailto")]


def test_a_null_flavour_that_is_not_allowed_is_found_too() -> None:
    """A checker must see it: D.3 knows no null flavour in the table."""
    document = written(full_case()).replace(b'value="70.5" unit="kg"', b'nullFlavor="UNK" unit="kg"')
    assert read_values(parse(document)).get("D.3") == Value(None, "UNK")


@pytest.mark.parametrize(
    ("comparator", "low", "high"),
    [
        ("<", {"nullFlavor": "NINF"}, {"value": "10", "unit": "mg", "inclusive": "false"}),
        ("<=", {"nullFlavor": "NINF"}, {"value": "10", "unit": "mg", "inclusive": "true"}),
        (">", {"value": "10", "unit": "mg", "inclusive": "false"}, {"nullFlavor": "PINF"}),
        (">=", {"value": "10", "unit": "mg", "inclusive": "true"}, {"nullFlavor": "PINF"}),
    ],
    ids=["below", "at most", "above", "at least"],
)
def test_a_bound_is_an_interval_open_to_the_other_side(
    comparator: str, low: dict[str, str], high: dict[str, str]
) -> None:
    case = replace(full_case(), tests=(Test(name="CRP", value="10", unit="mg", comparator=comparator),))
    value = parse(written(case)).find(".//{*}observation/{*}value/{*}low/..")
    assert dict(value.find("{*}low").attrib) == low
    assert dict(value.find("{*}high").attrib) == high
    assert read_back(case) == case


# --- random cases ----------------------------------------------------------------------------------------------------

_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=40,
).filter(lambda text: bool(text.strip()))
_DATE = st.one_of(
    st.dates().map(lambda day: f"{day:%Y-%m-%d}".zfill(10)),
    st.integers(1900, 2100).map(str),
    st.tuples(st.integers(1900, 2100), st.integers(1, 12)).map(lambda pair: f"{pair[0]}-{pair[1]:02d}"),
    st.just("2026-02-03T04:05:06.7-05:00"),
)
_NULL = st.sampled_from(["masked", "asked but unknown", "not asked"]).map(Null)
_QUANTITY = st.tuples(st.decimals(0, 9999, places=2, allow_nan=False).map(str), st.sampled_from(["d", "wk", "{DF}"]))


@st.composite
def random_cases(draw: st.DrawFn) -> Case:
    optional_date = st.none() | _DATE | _NULL
    span = st.none() | _QUANTITY.map(lambda pair: Quantity(*pair))
    reactions = tuple(
        Reaction(
            term=meddra(10000000 + number),
            outcome=draw(st.sampled_from(["fatal", "unknown", "recovered with sequelae"])),
            text=draw(st.none() | _TEXT),
            start=draw(optional_date),
            end=draw(optional_date),
            duration=draw(span),
            death=draw(st.booleans()),
            medically_confirmed=draw(st.none() | st.booleans()),
        )
        for number in range(draw(st.integers(0, 3)))
    )
    drugs = tuple(
        Drug(
            name=draw(_TEXT),
            role=draw(st.sampled_from(["suspect", "concomitant"])),
            blinded=draw(st.booleans()),
            dosages=tuple(
                Dosage(
                    start=draw(optional_date),
                    last=draw(optional_date),
                    duration=draw(span),
                    interval_count=draw(st.none() | st.just("2")),
                    interval_unit=draw(st.none() | st.just("d")),
                    text=draw(_TEXT),
                    route=draw(st.none() | _TEXT | _NULL),
                )
                for _ in range(draw(st.integers(0, 2)))
            ),
        )
        for _ in range(draw(st.integers(0, 2)))
    )
    base = full_case()
    patient = replace(
        base.patient,
        name=draw(_TEXT | _NULL),
        birth_date=draw(optional_date),
        history_text=draw(st.none() | _TEXT | _NULL),
        parent=None,
        history=(),
    )
    return replace(
        base,
        patient=patient,
        reactions=reactions,
        drugs=drugs,
        tests=(),
        study=draw(st.sampled_from([None, base.study])),
        narrative=replace(base.narrative, text=draw(_TEXT)),
    )


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(random_cases())
def test_any_case_comes_back_equal(case: Case) -> None:
    assert read_back(case) == case
    assert Case.from_dict(case.to_dict()) == case


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_reaction_without_a_code_cannot_be_written() -> None:
    case = replace(full_case(), drugs=(), reactions=(Reaction(outcome="unknown", text=SECRET),))
    with pytest.raises(TrialOpsError) as error:
        written(case)
    assert "E.i.2.1" in error.value.where
    assert SECRET not in str(error.value)


def test_a_batch_without_messages_is_refused() -> None:
    with pytest.raises(TrialOpsError, match="without messages"):
        write_batch(BATCH, [])


@pytest.mark.parametrize("stamp", ["2026-03-01", "yesterday", ""])
def test_a_time_of_transmission_is_a_time(stamp: str) -> None:
    with pytest.raises(TrialOpsError):
        BatchHeader("1", "2", "3", stamp)
    with pytest.raises(TrialOpsError):
        MessageHeader("1", "2", "3", stamp)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        (
            b'code="2" codeSystem="2.16.840.1.113883.3.989.2.1.1.2"',
            b'code="9" codeSystem="2.16.840.1.113883.3.989.2.1.1.2"',
            "C.1.3",
        ),
        (b'<availabilityTime value="20260228"/>', b'<availabilityTime value="Zebedee-4711"/>', "C.1.5"),
        (b'<availabilityTime value="20260228"/>', b"", "C.1.5"),
        (b'<birthTime value="195006"/>', b'<birthTime nullFlavor="ZZ"/>', "D.2.1"),
        (b'value="75" unit="a"', b'value="75"', "D.2.2"),
        (
            b'<productUseReference classCode="SBADM" moodCode="EVN">',
            b'<productUseReference classCode="SBADM" moodCode="EVN"><id root="x"/>',
            "G.k",
        ),
    ],
    ids=[
        "unknown code",
        "no date",
        "required missing",
        "unknown null flavour",
        "quantity without unit",
        "unknown drug",
    ],
)
def test_what_cannot_be_told_as_a_case_names_the_element(old: bytes, new: bytes, where: str) -> None:
    document = written(full_case())
    assert old in document
    with pytest.raises(TrialOpsError) as error:
        read_messages(document.replace(old, new, 1))
    assert where in error.value.where
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (b"<ichicsr><safetyreport/></ichicsr>", "no batch"),
        (b"<MCCI_IN200100UV01/>", "no batch"),
        (b"<MCCI_IN200100UV01 xmlns='urn:hl7-org:v3'/>", "without messages"),
        (b"<MCCI_IN200100UV01 xmlns='urn:hl7-org:v3'>", "not well-formed"),
        (b"", "not well-formed"),
    ],
    ids=["R2 message", "no namespace", "empty batch", "cut off", "empty file"],
)
def test_what_is_no_message_is_refused(document: bytes, what: str) -> None:
    with pytest.raises(TrialOpsError, match=what):
        read_messages(document)


def test_a_message_cannot_make_us_open_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    entity = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{secret}">]>'.encode()
    head, _, rest = written(full_case()).partition(b"\n")
    document = head + b"\n" + entity + rest.replace(b"A woman of 75 years", b"&e;", 1)
    assert SECRET not in etree.tostring(parse(document)).decode()


def test_entities_that_multiply_are_refused() -> None:
    lines = ["<!DOCTYPE x [", '<!ENTITY e0 "aaaaaaaaaa">']
    lines += [f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10)]
    head, _, rest = written(full_case()).partition(b"\n")
    bomb = head + b"\n" + "\n".join([*lines, "]>"]).encode() + rest.replace(b"A woman of 75 years", b"&e9;", 1)
    with pytest.raises(TrialOpsError, match="not well-formed"):
        parse(bomb)


def test_a_large_enclosed_document_comes_back() -> None:
    content = "QUJD" * 3_000_000
    document = Document(title="Imaging", content=content, media_type="application/dicom", file_name="scan.dcm")
    case = replace(full_case(), report=replace(full_case().report, documents=(document,)))
    assert read_back(case) == case


def test_drugs_and_reactions_are_found_by_id_wherever_they_stand() -> None:
    """The order of the parts is the sender's; assessments refer by id."""
    root = parse(written(full_case()))
    role = root.find(".//{*}primaryRole")
    parts = role.findall("{*}subjectOf2")
    for part in parts:
        role.remove(part)
    for part in sorted(parts, key=lambda each: each.find("{*}organizer") is None):
        role.append(part)
    values = read_values(root)
    assert case_of(values) == full_case()
    assert values.get("G.k.9.i.2.r.1", (1, 1, 2)) == Value("Sponsor")


# --- times and paths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iso", "hl7"),
    [
        ("2022", "2022"),
        ("2022-06", "202206"),
        ("2022-06-15", "20220615"),
        ("2022-06-15T10", "2022061510"),
        ("2022-06-15T10:05", "202206151005"),
        ("2022-06-15T10:05-05:00", "202206151005-0500"),
        ("2022-06-15T10:05:06+01:00", "20220615100506+0100"),
        ("2022-06-15T10:05:06.25+00:00", "20220615100506.25+0000"),
    ],
)
def test_times_keep_their_precision(iso: str, hl7: str) -> None:
    assert hl7_time(iso) == hl7
    assert iso_time(hl7) == iso


def test_paths_of_the_table_are_repaired_by_rules() -> None:
    assert repaired("See X-Path Reference") == ""
    assert repaired("/a/ b[@x=’1’]/\nc/code@codeSystemVersion") == "/a/b[@x='1']/c/code/@codeSystemVersion"
    assert normalised("/a[@classCode='X'][@moodCode='Y'][1]/@v") == "/a[1]/@v"
    assert normalised("/a[@typeCode='SAS'][@typeCode='PERT']/@v") == "/a[@typeCode='SAS']/@v"
    assert normalised("substring(/a/t[starts-with(@value, 'tel:')]/@value, 5)") == (
        "/a/t[starts-with(@value,'tel:')]/@value"
    )
    assert null_of("/a/b[@codeSystem='1']/@code") == "/a/b/@nullFlavor"
    assert null_of("/a/name[1]/text()") == "/a/name[1]/@nullFlavor"
    assert split("/a[b/c='x/y']/d") == ["", "a[b/c='x/y']", "d"]
    assert predicates("a[b[c]/d][2]") == ("a", ["b[c]/d", "2"])
