"""define.xml: valid by the published schema, and every rule beside the schema catches its own mutant and no other."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from lxml import etree

from tests.support import submissions
from tests.support.cdisc_schemas import define_schema
from trialops.errors import TrialOpsError
from trialops.intake.xport import Column
from trialops.intake.xport_read import Transport
from trialops.regulatory.define_rules import RULES, check_define, leaf_paths, parse_define
from trialops.regulatory.define_xml import DEF, ODM, write_define
from trialops.regulatory.metadata import Metadata, describe

DOCUMENTS = {"LF.csdrg": ("csdrg.html", "Reviewer's guide")}
Files = dict[str, Transport]


@pytest.fixture(scope="module")
def described() -> Metadata:
    return submissions.metadata()


@pytest.fixture(scope="module")
def define(described: Metadata) -> bytes:
    return write_define(described, DOCUMENTS)


@pytest.fixture
def files(described: Metadata, tmp_path: Path) -> Files:
    return submissions.files(described, tmp_path)


def validate(document: bytes) -> list[str]:
    schema = etree.XMLSchema(etree.parse(str(define_schema())))
    schema.validate(etree.fromstring(document))
    return [str(error.message) for error in schema.error_log]


def test_valid_by_the_published_schema(define: bytes) -> None:
    assert validate(define) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b' def:Structure="One record per subject"', b""),
        (b'DataType="partialDatetime"', b'DataType="partialdate"'),
        (b'Mandatory="Yes"', b'Mandatory="Maybe"'),
        (b'Type="Derived"', b'Type="Computed"'),
        (b"<def:Standards>", b"<def:Standard>"),
    ],
)
def test_the_schema_is_really_applied(define: bytes, old: bytes, new: bytes) -> None:
    assert old in define
    broken = define.replace(old, new)
    try:
        assert validate(broken)
    except etree.XMLSyntaxError:
        assert old == b"<def:Standards>"


def test_keeps_every_rule(define: bytes, files: Files) -> None:
    assert check_define(define, files) == []


def test_types_lengths_and_value_level(define: bytes) -> None:
    definition = parse_define(define)
    items = definition.by_kind["ItemDef"]

    def facts(oid: str) -> tuple[str | None, str | None, str | None]:
        return tuple(items[oid].get(a) for a in ("DataType", "Length", "SignificantDigits"))  # type: ignore[return-value]

    assert facts("IT.DM.RFSTDTC") == ("date", None, None)
    assert facts("IT.AE.AESTDTC") == ("partialDatetime", None, None)
    assert facts("IT.LB.LBDTC") == ("datetime", None, None)
    assert facts("IT.DM.AGE") == ("integer", "2", None)
    assert facts("IT.LB.LBSTRESN") == ("float", "4", "1")
    assert facts("IT.AE.AEACN") == ("text", "1", None)
    assert facts("IT.LB.LBORRES.ALB") == ("float", "4", "2")
    assert facts("IT.LB.LBORRES.COLOR") == ("text", "6", None)
    assert items["IT.SUPPAE.QVAL.AETRTEM"].findtext(f"{{{ODM}}}Description/{{{ODM}}}TranslatedText") == (
        "Treatment emergent flag"
    )
    lists = definition.by_kind["CodeList"]
    race = {e.get("CodedValue"): e.get(f"{{{DEF}}}ExtendedValue") for e in lists["CL.RACE"] if e.get("CodedValue")}
    assert race == {"ASIAN": None, "MARTIAN": "Yes", "WHITE": None}
    assert [e.get("CodedValue") for e in lists["CL.LBTESTCD"].iter(f"{{{ODM}}}CodeListItem")] == ["ALB", "COLOR"]
    assert leaf_paths(define) == {
        "LF.csdrg": "csdrg.html",
        **{f"LF.{n}": f"{n.lower()}.xpt" for n in ("TS", "DM", "AE", "LB", "SUPPAE")},
    }


def test_same_data_in_another_order_gives_the_same_bytes(define: bytes) -> None:
    shuffled = {n: f.sample(fraction=1.0, shuffle=True, seed=3) for n, f in reversed(submissions.tables().items())}
    assert write_define(submissions.metadata(shuffled), DOCUMENTS) == define


def test_findings_count_and_never_quote(described: Metadata) -> None:
    assert "AE.AEACN has no value in any record." in described.findings
    assert any("RACE" in f and "1 term" in f for f in described.findings)
    assert "MARTIAN" not in " ".join(described.findings)


@pytest.mark.parametrize(
    ("name", "column", "value", "what"),
    [
        ("DM", "SHOESIZE", "44", "not one that a submission can describe"),
        ("QQ", "USUBJID", "x", "not one that a submission can describe"),
        ("DM", "AGE", "old", "not numbers"),
    ],
)
def test_what_the_standard_does_not_know_is_refused(name: str, column: str, value: str, what: str) -> None:
    given = submissions.tables()
    frame = given.get(name, given["DM"].select("STUDYID"))
    given[name] = frame.with_columns(pl.lit(value).alias(column))
    with pytest.raises(TrialOpsError, match=what) as caught:
        describe(given, submissions.STUDY)
    assert caught.value.fix and value not in caught.value.what


def _sub(old: str, new: str, count: int = 1) -> Callable[[bytes, Files], tuple[bytes, Files]]:
    def change(document: bytes, files: Files) -> tuple[bytes, Files]:
        text, done = re.subn(old, new, document.decode(), count=count, flags=re.DOTALL)
        assert done, f"the mutant {old!r} changes nothing"
        return text.encode(), files

    return change


def _file(name: str, change: Callable[[Transport], Transport | None]) -> Callable[[bytes, Files], tuple[bytes, Files]]:
    def apply(document: bytes, files: Files) -> tuple[bytes, Files]:
        changed = change(files[name])
        rest = {n: f for n, f in files.items() if n != name}
        return document, rest if changed is None else {**rest, name: changed}

    return apply


def _frame(name: str, *columns: pl.Expr) -> Callable[[bytes, Files], tuple[bytes, Files]]:
    return _file(name, lambda f: replace(f, frame=f.frame.with_columns(*columns)))


MUTANTS: list[tuple[str, Callable[[bytes, Files], tuple[bytes, Files]]]] = [
    ("D01", _sub(r'(<def:CommentDef.*?</def:CommentDef>)', r"\1\1")),
    ("D02", _sub(r' def:CommentOID="COM.LB"', r' def:CommentOID="COM.XX"')),
    ("D02", _sub(r'CodeListOID="CL.SEX"', r'CodeListOID="CL.GENDER"')),
    ("D02", _sub(r'WhereClauseOID="WC.LB.LBTESTCD.ALB"', r'WhereClauseOID="WC.NONE"')),
    ("D02", _sub(r'MethodOID="MT.DY"', r'MethodOID="MT.NONE"')),
    ("D02", _sub(r'def:StandardOID="STD.SDTMIG"', r'def:StandardOID="STD.NONE"')),
    ("D02", _sub(r'def:ItemOID="IT.LB.LBTESTCD"', r'def:ItemOID="IT.NONE"')),
    ("D03", _sub(r'<CodeListRef CodeListOID="CL.SEX"/>', "")),
    ("D03", _sub(r'<ItemRef ItemOID="IT.AE.AESTDY"[^>]*/>', "")),
    ("D04", _sub(r'OrderNumber="2"', r'OrderNumber="7"')),
    ("D04", _sub(r'KeySequence="1"', r'KeySequence="9"')),
    ("D05", _sub(r'(<ItemGroupDef OID="IG.TS".*?</ItemGroupDef>)(.*)(<ItemDef OID="IT.TS.STUDYID")', r"\2\1\3")),
    ("D06", _sub(r'DataType="text" Length="\d+"', r'DataType="text"')),
    ("D06", _sub(r'(DataType="float" Length="\d+") SignificantDigits="\d+"', r"\1")),
    ("D06", _sub(r'DataType="date"', r'DataType="date" Length="10"')),
    ("D07", _sub(r'(IT.AE.AESTDY"[^>]*) MethodOID="MT.DY"', r"\1")),
    ("D08", _sub(r'(<EnumeratedItem CodedValue="F".*?</EnumeratedItem>)', r"\1\1")),
    ("X01", _file("AE", lambda f: None)),
    ("X01", lambda d, files: (d, {**files, "CM": files["AE"]})),
    ("X02", _file("AE", lambda f: replace(f, columns=(replace(f.columns[0], label="Study"), *f.columns[1:])))),
    ("X02", _file("AE", lambda f: replace(f, columns=f.columns[::-1]))),
    ("X02", _file("AE", lambda f: replace(f, label="Events"))),
    ("X03", _file("DM", lambda f: replace(f, columns=tuple(
        Column(c.name, "char", 8, c.label) if c.name == "AGE" else c for c in f.columns)))),
    ("X04", _frame("AE", pl.col("AETERM") + pl.lit(" and much more than was declared"))),
    ("X04", _frame("LB", pl.col("LBSTRESN") + 0.0625)),
    ("X05", _frame("DM", pl.lit("X").alias("SEX"))),
    ("X06", _frame("LB", pl.col("LBTESTCD").replace({"COLOR": "GLUC"}))),
    ("X07", _frame("AE", pl.lit("T1-01-001").alias("USUBJID"), pl.lit(1.0).alias("AESEQ"),
                   pl.lit("FALL").alias("AEDECOD"), pl.lit("2024-01").alias("AESTDTC"))),
    ("X08", _frame("AE", pl.when(pl.col("AETERM") != "Headache").then("AETERM").alias("AETERM"))),
    ("X09", _frame("AE", pl.lit("A").alias("AEACN"))),
    ("X09", _sub(r' def:HasNoData="Yes"', "")),
]  # fmt: skip


def test_every_rule_has_a_mutant() -> None:
    assert {rule for rule, _ in MUTANTS} == set(RULES)


@pytest.mark.parametrize(("rule", "mutate"), MUTANTS, ids=[f"{r}-{i}" for i, (r, _) in enumerate(MUTANTS)])
def test_a_rule_catches_its_mutant(
    rule: str, mutate: Callable[[bytes, Files], tuple[bytes, Files]], define: bytes, files: Files
) -> None:
    found = check_define(*mutate(define, files))
    assert rule in {f.rule for f in found}
    assert all("T1-01" not in f.where + f.text and "Headache" not in f.text for f in found)


@pytest.mark.parametrize("document", [b"", b"<a/>", b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e 'y'>]><x>&e;</x>"])
def test_not_a_define_is_said_so(document: bytes) -> None:
    with pytest.raises(TrialOpsError):
        parse_define(document)
