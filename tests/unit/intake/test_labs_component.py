"""The laboratory step on a synthesized trial: the same values as its LB domain, and the same again when replayed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyreadstat
import pytest
from kfp.dsl import HTML, Dataset

from components.intake import ingest_hl7, ingest_sdtm
from components.privacy import deidentify
from tests.support.homes import leave, live_in
from trialops.intake.lab_inbox import LabInbox
from trialops.privacy.deidentify import HIPAAComplianceOperator
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.synthetic import generate
from trialops.synthetic.analytes import ANALYTES, UCUM

CODES = {a.loinc: a.code for a in ANALYTES}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    out = tmp_path / "trial"
    generate(out, subjects=60, sites=3, seed=4, formats=("sdtm", "hl7"))
    return out


def output(home: Path, kind: type, name: str):  # type: ignore[no-untyped-def]
    return kind(name=name, uri=str(home / "out" / name), metadata={})


def know_subjects(home: Path, trial: Path) -> None:
    raw = output(home, Dataset, "dm_raw")
    ingest_sdtm.python_func(str(trial / "sdtm"), raw, output(home, Dataset, "q0"), output(home, HTML, "r0"))
    clean = output(home, Dataset, "clean")
    deidentify.python_func(raw, clean, output(home, Dataset, "withheld"), output(home, HTML, "r1"))


def ingest(home: Path, source: Path, number: int) -> dict[str, object]:
    outs = {name: output(home, Dataset, f"{name}{number}") for name in ("raw", "quarantine", "unmatched")}
    outs["report"] = output(home, HTML, f"report{number}")
    ingest_hl7.python_func(str(source), **outs)
    return outs


def expected(trial: Path) -> pl.DataFrame:
    """LB of the trial with corrections applied, as (subject, time, test, value, unit, range, flag)."""
    parts = [trial / "sdtm" / "lb.xpt", *sorted((trial / "sdtm" / "corrections").rglob("lb.xpt"))]
    frames = [pl.from_pandas(pyreadstat.read_xport(str(p))[0]) for p in parts]
    labs = pl.concat(frames, how="diagonal").unique(["USUBJID", "LBSEQ"], keep="last", maintain_order=True)
    columns = ["USUBJID", "LBDTC", "LBTESTCD", "LBORRES", "LBORRESU", "LBORNRLO", "LBORNRHI", "LBNRIND", "LBSTRESN"]
    return labs.select(columns).with_columns(pl.col("LBORRESU").replace(UCUM)).sort(columns)


def test_values_equal_the_lb_domain_and_replays_change_nothing(home: Path, trial: Path) -> None:
    know_subjects(home, trial)
    first = ingest(home, trial, 1)
    run = Step("look", {}, settings())
    labs = run.unseal(first["raw"])["LB"]  # type: ignore[arg-type]
    want = expected(trial)
    got = labs.select(want.columns).sort(want.columns)
    texts = want.columns[:-1]
    assert got.select(texts).equals(want.select(texts)) and labs["LBLOINC"].replace_strict(CODES).equals(
        labs["LBTESTCD"]
    )
    off = (got["LBSTRESN"] / want["LBSTRESN"] - 1).abs()
    assert off.max() < 3e-4 and labs["LBSTRESU"].null_count() == 0  # type: ignore[operator]
    assert run.read_table(first["quarantine"]).is_empty() and run.read_table(first["unmatched"]).is_empty()  # type: ignore[arg-type]

    # The rows are LB rows: de-identification takes them in place of the LB data set.
    tables = run.unseal(output(home, Dataset, "dm_raw"))
    clean = HIPAAComplianceOperator().run({"DM": tables["DM"], "LB": labs}, "strict", run.vault).tables["LB"]
    assert clean.height == want.height and not set(clean["USUBJID"]) & set(labs["USUBJID"])
    assert {"LBDY", "LBTESTCD", "LBSTRESN"} <= set(clean.columns) and not {"MESSAGE_ID", "LBREFID"} & set(clean.columns)

    # The same messages cut to other files, twice, in another order, some of them over the wire.
    other = home / "other" / "hl7"
    other.mkdir(parents=True)
    data = (trial / "hl7" / "labs-0000.hl7").read_bytes()
    messages = [b"MSH" + m for m in data.split(b"BTS|")[0].split(b"MSH")[1:]]
    (other / "late.hl7").write_bytes(b"".join(reversed(messages)))
    (other / "again.hl7").write_bytes(b"".join(messages[::2]))
    inbox = LabInbox(run.vault, run.objects)
    assert {inbox.receive(m).fate for m in messages[:20]} == {"stored"}
    assert {inbox.receive(m).fate for m in messages[:20]} == {"known"}
    again = ingest(home, other.parent, 2)
    values = want.columns
    replayed = Step("look", {}, settings()).unseal(again["raw"])["LB"]  # type: ignore[arg-type]
    assert replayed.select([c for c in values if c in replayed.columns]).equals(
        labs.select([c for c in values if c in labs.columns])
    )
    third = ingest(home, other.parent, 3)
    assert Path(third["raw"].path).read_text() == Path(again["raw"].path).read_text()  # type: ignore[attr-defined]


def test_nobody_known_means_everything_waits(home: Path, trial: Path) -> None:
    outs = ingest(home, trial, 1)
    run = Step("look", {}, settings())
    queue = run.read_table(outs["unmatched"])  # type: ignore[arg-type]
    assert set(queue["REASON"]) == {"NO_SUBJECTS"} and run.unseal(outs["raw"])["LB"].is_empty()  # type: ignore[arg-type]
    know_subjects(home, trial)
    shutil.rmtree(trial / "hl7")
    # What waited is matched as soon as the trial knows its subjects, although nothing is delivered again.
    (trial / "hl7").mkdir()
    later = ingest(home, trial, 2)
    assert Step("look", {}, settings()).unseal(later["raw"])["LB"].height == expected(trial).height  # type: ignore[arg-type]
