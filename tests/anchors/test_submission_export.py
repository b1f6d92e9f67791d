"""The CDISC pilot through the exchange formats: every data set read, written and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyreadstat
import pytest

from trialops.intake.xport import XportWriter
from trialops.intake.xport_read import read_transport

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
