"""Corrections end to end, step by step: what changes, what stays, what can still be read as of yesterday."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.support.correction_home import CorrectionHome, correction_home
from tests.support.homes import leave
from trialops.quality.correction.history import as_of, changes_of
from trialops.quality.correction.register import Register
from trialops.stores.refs import Snapshot


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CorrectionHome]:
    yield correction_home(tmp_path, monkeypatch)
    leave()


def alt_of(home: CorrectionHome) -> dict[str, object]:
    """One late ALT of a treated subject."""
    lb = home.raw()["LB"].filter(pl.col("LBTESTCD") == "ALT", pl.col("_RECEIVED").is_null(), pl.col("LBSTRESN") > 0)
    return lb.sort("USUBJID", "LBDTC").row(len(lb) // 2, named=True)


def lines_for(row: dict[str, object], new: str) -> list[str]:
    subject, record = row["USUBJID"], f"LBSEQ={row['LBSEQ']:.0f}"
    return [
        f"LB,{subject},{record},{name},{row[name]},{new},transcription error,Site nurse,2026-01-05"
        for name in ("LBORRES", "LBSTRESC", "LBSTRESN")
    ]


def clean_rows(home: CorrectionHome, reference: Path, name: str) -> pl.DataFrame:
    snapshot = Snapshot.from_dict(json.loads(reference.read_text()))
    return home.lake.read(snapshot.tables[name])


def test_one_subject_is_made_anew_and_yesterday_is_still_there(
    home: CorrectionHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = home.data_pipeline()
    before = home.tables()
    yesterday = dt.datetime.now(dt.UTC)
    row = alt_of(home)
    pseudonym = home.step().vault.pseudonym("subject", str(row["USUBJID"]))

    touched: dict[str, set[str]] = {"clean": set(), "features": set()}
    from trialops.features import views
    from trialops.privacy import deidentify

    clean_table, feature_views = deidentify.clean_table, views.feature_views

    def watched_clean(domain: str, frame: pl.DataFrame, *rest: object, **more: object) -> pl.DataFrame:
        touched["clean"] |= set(frame["USUBJID"])
        return clean_table(domain, frame, *rest, **more)  # type: ignore[arg-type]

    def watched_views(tables: dict[str, pl.DataFrame], *rest: object, **more: object) -> object:
        for frame in tables.values():
            touched["features"] |= set(frame["USUBJID"])
        return feature_views(tables, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(deidentify, "clean_table", watched_clean)
    monkeypatch.setattr(views, "feature_views", watched_views)
    decision, out = home.correct(home.file(*lines_for(row, "251")), apply=True)
    monkeypatch.setattr(deidentify, "clean_table", clean_table)
    monkeypatch.setattr(views, "feature_views", feature_views)

    assert decision == "apply"
    assert touched == {"clean": {row["USUBJID"]}, "features": {pseudonym}}
    after = home.tables()
    assert {name for name in after if after[name] != before[name]} == {
        "clean/lb",
        *(f"features/{view}" for view in ("labs", "labs_trends", "organ_scores", "follow_up")),
    }
    old, new = clean_rows(home, Path(first["clean"].path), "LB"), clean_rows(home, Path(out["validated"].path), "LB")
    others = pl.col("USUBJID") != pseudonym
    assert new.filter(others).equals(old.filter(others))
    assert new.height == old.height + 1  # a further version, nothing replaced
    fresh = new.filter(~others).join(old.filter(~others), on=old.columns, how="anti", nulls_equal=True)
    assert fresh["LBSTRESN"].to_list() == [251.0] and fresh["_SOURCE"].str.starts_with("delivery ").all()

    sequence = fresh["LBSEQ"][0]
    one = (pl.col("USUBJID") == pseudonym) & (pl.col("LBSEQ") == sequence)
    lake = home.lake
    assert as_of(lake, "clean", "LB", yesterday).filter(one)["LBSTRESN"].to_list() == [row["LBSTRESN"]]
    assert as_of(lake, "clean", "LB", dt.datetime.now(dt.UTC)).filter(one)["LBSTRESN"].to_list() == [251.0]
    known = fresh["KNOWNDY"][0]
    asked = as_of(lake, "clean", "LB", dt.datetime.now(dt.UTC), day=known - 1).filter(one)
    assert asked["LBSTRESN"].to_list() == [row["LBSTRESN"]]  # known only from its receipt on

    # A full run from the files and the register gives the same versions, byte for byte.
    again = home.data_pipeline()
    assert home.tables() == after
    assert clean_rows(home, Path(again["clean"].path), "LB").equals(new)
    assert (
        json.loads(Path(again["permitted"].path).read_text())["digest"]
        == json.loads(Path(out["corrected"].path).read_text())["digest"]
    )

    entries = Register(home.step().vault, home.step().objects).entries()
    (first_change, *_) = changes_of(entries, subjects=[str(row["USUBJID"])])
    assert first_change["old"] == row["LBORRES"] and first_change["reason"] == "transcription error"
    assert home.step().trail.verify().ok


def test_applying_again_changes_nothing(home: CorrectionHome) -> None:
    home.data_pipeline()
    file = home.file(*lines_for(alt_of(home), "251"))
    home.correct(file, apply=True)
    after = home.tables()
    decision, out = home.correct(file, apply=True)
    assert decision == "nothing" and home.tables() == after
    assert json.loads(Path(out["proposal"].path).read_text())["already"] == 3
    assert len(Register(home.step().vault, home.step().objects).entries()) == 1


def test_a_second_correction_builds_on_the_first_without_a_full_run(home: CorrectionHome) -> None:
    home.data_pipeline()
    row = alt_of(home)
    home.correct(home.file(*lines_for(row, "251")), apply=True)
    second = row | {"LBORRES": "251", "LBSTRESC": "251", "LBSTRESN": "251"}
    _, out = home.correct(home.file(*lines_for(second, "25.1"), name="again.csv"), apply=True)
    record = json.loads((home.path / f"runs/run-{home.runs}/steps/apply-corrections/record.json").read_text())
    assert record["metrics"]["subjects"] == 1
    corrected = home.tables()
    home.data_pipeline()
    assert home.tables() == corrected
    back = home.lake.manifests("clean")
    assert len({link.snapshot.digest for link in back}) == 3


def test_a_changed_delivery_is_made_anew_as_a_whole(home: CorrectionHome) -> None:
    home.data_pipeline()
    row = alt_of(home)
    (home.source / "mh.xpt").unlink()
    home.correct(home.file(*lines_for(row, "251")), apply=True)
    record = json.loads((home.path / f"runs/run-{home.runs}/steps/apply-corrections/record.json").read_text())
    assert record["metrics"]["subjects"] == record["metrics"]["of"]


def test_a_dry_run_changes_nothing_and_hides_values(home: CorrectionHome) -> None:
    home.data_pipeline()
    before = home.tables()
    row = alt_of(home)
    decision, out = home.correct(home.file(*lines_for(row, "98765.4321")), apply=False)
    assert decision == "dry run" and home.tables() == before
    assert Register(home.step().vault, home.step().objects).entries() == []
    run = home.path / f"runs/run-{home.runs}"
    shown = "".join(p.read_text(errors="ignore") for p in run.rglob("*") if p.is_file())
    assert "98765.4321" not in shown and str(row["USUBJID"]) not in shown


def test_the_day_of_day_one_moves_every_domain_of_the_subject(home: CorrectionHome) -> None:
    home.data_pipeline()
    before = home.tables()
    dm = home.raw()["DM"].filter(pl.col("RFSTDTC").is_not_null()).sort("USUBJID").row(3, named=True)
    later = (dt.date.fromisoformat(dm["RFSTDTC"][:10]) + dt.timedelta(days=1)).isoformat()
    line = f"DM,{dm['USUBJID']},,RFSTDTC,{dm['RFSTDTC']},{later},wrong day,Monitor,2026-02-01"
    decision, _ = home.correct(home.file(line), apply=True)
    assert decision == "apply"
    after = home.tables()
    changed = {name for name in after if after[name] != before[name]}
    assert {"clean/dm", "clean/lb", "clean/vs", "clean/ex"} <= changed
    home.data_pipeline()
    assert home.tables() == after
