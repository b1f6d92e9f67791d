"""The CDISC pilot through the exchange formats: every data set read, written and read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyreadstat
import pytest
from jsonschema import Draft201909Validator
from lxml import etree

from tests.support.cdisc_schemas import dataset_json_schema, define_schema
from tests.support.submissions import files
from trialops.intake.sdtm import read_folder
from trialops.intake.xport import XportWriter
from trialops.intake.xport_read import read_transport
from trialops.regulatory.cut import make_cut
from trialops.regulatory.dataset_json import read_json, write_json
from trialops.regulatory.define_rules import check_define, parse_define
from trialops.regulatory.define_xml import write_define
from trialops.regulatory.metadata import Metadata, Study, describe
from trialops.regulatory.standard import domain_of, variable_of
from trialops.regulatory.submission import verify_submission, write_submission
from trialops.synthetic.columns import COLUMNS

DATA_SETS = ["ae", "cm", "dm", "ds", "eg", "ex", "lb", "mh", "suppae", "suppdm", "suppds", "sv", "vs"]


@pytest.fixture(scope="module")
def pilot(anchors: Path) -> Path:
    return anchors / "cdiscpilot01" / "sdtm"


def test_the_list_of_data_sets_is_whole(pilot: Path) -> None:
    assert sorted(p.stem for p in pilot.glob("*.xpt")) == DATA_SETS


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_domain_read_written_and_read_is_equal(pilot: Path, tmp_path: Path, name: str) -> None:
    source = pilot / f"{name}.xpt"
    first = read_transport(source.read_bytes())
    copy = tmp_path / source.name
    with XportWriter(copy, first.name, first.label, first.columns) as writer:
        writer.write(first.frame, first.special)
    second = read_transport(copy.read_bytes())
    assert second.frame.equals(first.frame) and second.columns == first.columns
    assert (second.name, second.label) == (first.name, first.label)
    # The rows are the very bytes that were read.
    obs = b"HEADER RECORD*******OBS     HEADER RECORD"
    assert copy.read_bytes().split(obs)[1] == source.read_bytes().split(obs)[1]


@pytest.mark.parametrize("name", DATA_SETS)
def test_our_reader_and_pyreadstat_agree(pilot: Path, name: str) -> None:
    mine = read_transport((pilot / f"{name}.xpt").read_bytes())
    other, meta = pyreadstat.read_xport(str(pilot / f"{name}.xpt"), disable_datetime_conversion=True)
    assert list(other.columns) == mine.frame.columns and len(other) == mine.frame.height
    assert [label or "" for label in meta.column_labels] == [c.label for c in mine.columns]
    for column in mine.columns:
        if column.kind == "num":
            assert np.array_equal(
                other[column.name].to_numpy(dtype=float), mine.frame[column.name].to_numpy(), equal_nan=True
            )
        else:
            assert other[column.name].fillna("").tolist() == mine.frame[column.name].to_list()


@pytest.fixture(scope="module")
def described(pilot: Path) -> Metadata:
    tables = {p.stem.upper(): read_transport(p.read_bytes()).frame for p in pilot.glob("*.xpt")}
    return describe(tables, Study("CDISCPILOT01"))


def test_the_pilot_s_define_is_valid_and_keeps_every_rule(described: Metadata, tmp_path: Path) -> None:
    document = write_define(described)
    schema = etree.XMLSchema(etree.parse(str(define_schema())))
    assert schema.validate(etree.fromstring(document)), schema.error_log
    found = check_define(document, files(described, tmp_path))
    assert found == [], sorted({(f.rule, f.where) for f in found})
    items = parse_define(document).by_kind["ItemDef"]
    assert len([oid for oid in items if oid.startswith("IT.LB.LBORRES.")]) == 47


def test_the_pilot_as_dataset_json_is_valid_and_equal(described: Metadata, tmp_path: Path) -> None:
    schema = Draft201909Validator(json.loads(dataset_json_schema().read_text()))
    for data_set in described.data_sets:
        for lines in (False, True):
            path = tmp_path / f"{data_set.name}.{'ndjson' if lines else 'json'}"
            write_json(path, data_set, described, lines=lines)
            back = read_json(path)
            whole = {i.name: pl.Int64 for i in data_set.items if i.typed.data_type == "integer"}
            assert back.frame.equals(data_set.frame.cast(whole)), data_set.name
            assert list(schema.iter_errors({**back.header, "rows": []})) == []


@pytest.mark.slow
def test_the_pilot_as_a_submission_package(pilot: Path, tmp_path: Path) -> None:
    intake = read_folder(pilot)
    cut = make_cut(intake.tables, {p.name: p.read_bytes() for p in pilot.glob("*.xpt")})
    written = write_submission(tmp_path / "package", cut, Study(intake.study))
    assert sorted(d.name.lower() for d in written.metadata.data_sets) == DATA_SETS and written.findings == ()
    assert verify_submission(tmp_path / "package", expected=written.digest) == ([], [])
    sdtm = tmp_path / "package/m5/datasets/cdiscpilot01/tabulations/sdtm"
    for name in DATA_SETS:
        source, sent = (read_transport((f / f"{name}.xpt").read_bytes()) for f in (pilot, sdtm))
        assert sent.frame.height == source.frame.height and sent.frame.columns == source.frame.columns
        assert all(c.label for c in sent.columns) and sent.label
        text = {c.name for c in source.columns if c.kind == "char"}
        kinds = {c: pl.String for c in sent.frame.columns if sent.frame.schema[c] == pl.String and c not in text}
        # What the pilot holds as all-missing numbers is text in the standard, and intake trims blanks in front of a
        # value (95 of DSSPID); nothing else changes but the order.
        trimmed = source.frame.with_columns(pl.col(pl.String).str.strip_chars_start(" "))
        wanted = trimmed.with_columns(pl.lit("").alias(c) for c in kinds).sort(pl.all())
        assert sent.frame.sort(pl.all()).equals(wanted), name


def test_labels_in_use_are_those_of_the_standard(pilot: Path) -> None:
    """Labels of the synthetic trial's files, written independently of the submission's metadata, agree with it."""
    differing = {
        f"{name}.{c.name}": (c.label, variable_of(name if name.startswith("SUPP") else domain_of(name), c.name).label)
        for name, columns in COLUMNS.items()
        for c in columns
        if c.label != variable_of(name if name.startswith("SUPP") else domain_of(name), c.name).label
    }
    assert differing == {}
