"""The SDTM files of one trial agree with each other and with the protocol."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat
import pytest

from trialops.synthetic import Summary

Tables = dict[str, pd.DataFrame]

#: Molar masses (g/mol) and units stated here a second time, on purpose.
MOLAR = {
    "BILI": (584.66, 1e4),
    "BUN": (28.014, 10),
    "CA": (40.078, 10),
    "CHOL": (386.65, 10),
    "CREAT": (113.12, 1e4),
    "GLUC": (180.156, 10),
    "HGB": (16114.5, 1e4),
}
POWER = {"ALB": 10.0}


def _day(date: pd.Series, start: pd.Series) -> pd.Series:
    days = (pd.to_datetime(date.str[:10]) - pd.to_datetime(start)).dt.days
    return days + (days >= 0)


def test_columns_follow_the_pilot(tables: Tables, anchors: Path) -> None:
    ours_only = {
        "LB": set(),
        "VS": set(),
        "DM": set(),
        "AE": set(),
        "EX": set(),
        "CM": set(),
        "SV": set(),
        "SUPPDM": set(),
    }
    for name, extra in ours_only.items():
        _, meta = pyreadstat.read_xport(
            str(anchors / "cdiscpilot01" / "sdtm" / f"{name.lower()}.xpt"), metadataonly=True
        )
        assert set(tables[name].columns) - set(meta.column_names) == extra
    dm, _ = pyreadstat.read_xport(str(anchors / "cdiscpilot01" / "sdtm" / "lb.xpt"))
    pilot = {(r.LBTESTCD, r.LBTEST, r.LBORRESU, r.LBSTRESU) for r in dm.drop_duplicates("LBTESTCD").itertuples()}
    ours = {
        (r.LBTESTCD, r.LBTEST, r.LBORRESU, r.LBSTRESU) for r in tables["LB"].drop_duplicates("LBTESTCD").itertuples()
    }
    assert len(ours) == 16 and ours <= pilot
    visits = {(r.VISITNUM, r.VISIT, r.VISITDY) for r in tables["SV"].itertuples()}
    sv, _ = pyreadstat.read_xport(str(anchors / "cdiscpilot01" / "sdtm" / "sv.xpt"))
    assert visits <= {(r.VISITNUM, r.VISIT, r.VISITDY) for r in sv.itertuples()}


def test_every_subject_is_in_dm_and_rows_are_sorted(tables: Tables) -> None:
    known = set(tables["DM"]["USUBJID"])
    assert len(known) == len(tables["DM"]) == 250
    for name, frame in tables.items():
        assert set(frame["USUBJID"]) <= known, name
        assert frame["USUBJID"].is_monotonic_increasing, name
        sequence = f"{name}SEQ"
        if sequence in frame:
            assert (frame.groupby("USUBJID").cumcount() + 1 == frame[sequence]).all(), name


def test_dates_lie_inside_participation(tables: Tables) -> None:
    dm = tables["DM"].set_index("USUBJID")
    dm["FIRST"] = dm["RFICDTC"]
    for name, column in [
        ("LB", "LBDTC"),
        ("VS", "VSDTC"),
        ("SV", "SVSTDTC"),
        ("AE", "AESTDTC"),
        ("AE", "AEDTC"),
        ("AE", "AEENDTC"),
        ("EX", "EXSTDTC"),
        ("EX", "EXENDTC"),
        ("DS", "DSSTDTC"),
        ("CM", "CMENDTC"),
    ]:
        frame = tables[name].join(dm[["FIRST", "RFPENDTC"]], on="USUBJID")
        frame = frame[frame[column] != ""]
        assert len(frame), column
        assert (frame[column].str[:10] >= frame["FIRST"]).all(), column
        assert (frame[column].str[:10] <= frame["RFPENDTC"]).all(), column
    treated = dm[dm["RFSTDTC"] != ""]
    assert (treated["RFXENDTC"] <= treated["RFENDTC"]).all() and (treated["RFXSTDTC"] <= treated["RFXENDTC"]).all()
    born, consent = (dm[c].str.split("-", expand=True).astype(int) for c in ("BRTHDTC", "RFICDTC"))
    before = (consent[1] * 100 + consent[2]) < (born[1] * 100 + born[2])
    assert (consent[0] - born[0] - before == dm["AGE"]).all()


def test_nothing_is_measured_after_withdrawal(tables: Tables) -> None:
    end = tables["DM"].set_index("USUBJID")["RFENDTC"]
    for name, column in [("LB", "LBDTC"), ("VS", "VSDTC"), ("SV", "SVSTDTC"), ("EX", "EXENDTC")]:
        frame = tables[name]
        last = frame["USUBJID"].map(end)
        treated = last != ""
        assert (frame[column].str[:10] <= last)[treated].all(), name
    events = tables["AE"]
    late = events["AESTDTC"] > events["USUBJID"].map(end)
    assert 0 < late.sum() < 0.1 * len(events)


@pytest.mark.parametrize(
    ("name", "date", "day"),
    [
        ("LB", "LBDTC", "LBDY"),
        ("VS", "VSDTC", "VSDY"),
        ("AE", "AESTDTC", "AESTDY"),
        ("AE", "AEENDTC", "AEENDY"),
        ("EX", "EXSTDTC", "EXSTDY"),
        ("EX", "EXENDTC", "EXENDY"),
        ("DS", "DSSTDTC", "DSSTDY"),
        ("DM", "DMDTC", "DMDY"),
    ],
)
def test_study_days(tables: Tables, name: str, date: str, day: str) -> None:
    frame = tables[name]
    start = frame["USUBJID"].map(tables["DM"].set_index("USUBJID")["RFSTDTC"])
    known = (start != "") & (frame[date] != "")
    assert (frame[day][known] == _day(frame[date][known], start[known])).all()
    assert not (frame[day] == 0).any()
    assert frame[day][~known].isna().all()


def test_units_agree(tables: Tables) -> None:
    labs = tables["LB"]
    factor = labs["LBTESTCD"].map({k: p / m for k, (m, p) in MOLAR.items()} | POWER).fillna(1.0)
    expected = labs["LBORRES"].astype(float) * factor
    assert np.allclose(labs["LBSTRESN"], expected, rtol=1e-5)
    assert np.allclose(labs["LBSTRESC"].astype(float), labs["LBSTRESN"], rtol=1e-12)
    assert np.allclose(labs["LBSTNRHI"], labs["LBORNRHI"].astype(float) * factor, rtol=1e-5)
    value, low, high = (labs[c].astype(float) for c in ("LBORRES", "LBORNRLO", "LBORNRHI"))
    indicator = np.where(value < low, "LOW", np.where(value > high, "HIGH", "NORMAL"))
    assert (labs["LBNRIND"] == indicator).all() and set(indicator) == {"LOW", "HIGH", "NORMAL"}
    vitals = tables["VS"].set_index("VSTESTCD")
    weight = vitals.loc["WEIGHT"]
    assert np.allclose(weight["VSSTRESN"], weight["VSORRES"].astype(float) * 0.45359237, atol=0.006)
    warm = vitals.loc["TEMP"]
    assert np.allclose(warm["VSSTRESN"], (warm["VSORRES"].astype(float) - 32) / 1.8, atol=0.006)


def test_laboratory_values_behave(tables: Tables) -> None:
    labs = tables["LB"]
    wide = labs.pivot_table(index=["USUBJID", "VISITNUM"], columns="LBTESTCD", values="LBSTRESN")
    assert np.log(wide["ALT"]).corr(np.log(wide["AST"])) > 0.5
    assert abs(wide["SODIUM"].corr(wide["PLAT"])) < 0.2
    men = labs["USUBJID"].map(tables["DM"].set_index("USUBJID")["SEX"]) == "M"
    hgb = labs["LBTESTCD"] == "HGB"
    assert labs["LBSTRESN"][hgb & men].mean() > 1.04 * labs["LBSTRESN"][hgb & ~men].mean()
    assert (labs["LBNRIND"] == "NORMAL").mean() > 0.9
    flagged = labs[labs["LBBLFL"] == "Y"]
    assert not flagged.duplicated(["USUBJID", "LBTESTCD"]).any() and set(flagged["VISIT"]) == {"SCREENING 1"}


def test_disposition_agrees_with_arms_and_deaths(tables: Tables, trial: tuple[Path, Summary]) -> None:
    summary = trial[1]
    dm = tables["DM"].set_index("USUBJID")
    ended = tables["DS"][tables["DS"]["DSCAT"] == "DISPOSITION EVENT"].set_index("USUBJID")
    assert len(ended) == len(dm) and ended.index.is_unique
    failed = ended["DSDECOD"] == "SCREEN FAILURE"
    assert set(ended.index[failed]) == set(dm.index[dm["ARMCD"] == "Scrnfail"])
    randomised = tables["DS"][tables["DS"]["DSDECOD"] == "RANDOMIZED"]
    assert set(randomised["USUBJID"]) == set(dm.index[dm["ARMCD"] != "Scrnfail"]) == set(tables["EX"]["USUBJID"])
    assert (ended["DSDECOD"] == "DEATH").equals((dm["DTHFL"] == "Y").reindex(ended.index))
    left = ~ended["DSDECOD"].isin(["COMPLETED", "SCREEN FAILURE"])
    assert (summary.screen_failures, summary.discontinued) == (int(failed.sum()), int(left.sum()))
    assert 0.3 < left.sum() / (~failed).sum() < 0.55
    withdrawn = tables["AE"][tables["AE"]["AEACN"] == "DRUG WITHDRAWN"]
    assert set(ended.index[ended["DSDECOD"] == "ADVERSE EVENT"]) <= set(withdrawn["USUBJID"])
    arms = dm["ARMCD"].value_counts()
    assert max(arms["Pbo"], arms["TRX_Lo"], arms["TRX_Hi"]) - min(arms["Pbo"], arms["TRX_Lo"], arms["TRX_Hi"]) < 25


def test_reports_come_after_onset_and_some_come_late(tables: Tables) -> None:
    events = tables["AE"]
    delay = (pd.to_datetime(events["AEDTC"]) - pd.to_datetime(events["AESTDTC"])).dt.days
    assert delay.min() >= 0 and delay.median() <= 7 and delay.max() >= 20
    serious = events[["AESDTH", "AESHOSP", "AESLIFE"]].eq("Y").any(axis=1)
    assert (events["AESER"].eq("Y") == serious).all() and serious.any()


def test_corrections_replace_rows_by_key_and_come_later(tables: Tables, trial: tuple[Path, Summary]) -> None:
    folder = trial[0] / "sdtm" / "corrections"
    days = sorted(p.name for p in folder.iterdir())
    assert 1 < len(days) <= 24
    for name, date, value in (("LB", "LBDTC", "LBORRES"), ("AE", "AEDTC", "AESEV")):
        original = tables[name].set_index(["USUBJID", f"{name}SEQ"])
        rows = 0
        for path in sorted(folder.glob(f"*/{name.lower()}.xpt")):
            fixed, _ = pyreadstat.read_xport(str(path))
            assert list(fixed.columns) == list(tables[name].columns)
            fixed = fixed.set_index(["USUBJID", f"{name}SEQ"])
            before = original.loc[fixed.index]
            assert (before[value] != fixed[value]).all() and (before[date] == fixed[date]).all()
            lag = (pd.Timestamp(path.parent.name) - pd.to_datetime(fixed[date].str[:10])).dt.days
            assert lag.between(5, 40).all()
            if name == "AE":
                assert (fixed["AEENDTC"] <= path.parent.name).all()
                rank = {"MILD": 0, "MODERATE": 1, "SEVERE": 2}
                assert (fixed["AESEV"].map(rank) == before["AESEV"].map(rank) + 1).all()
            rows += len(fixed)
        assert rows == trial[1].counts[f"{name} corrections"] > 0
        assert rows < 0.03 * len(original)


def test_protocol_and_sites(tables: Tables, trial: tuple[Path, Summary]) -> None:
    out, summary = trial
    facts = json.loads((out / "trial.json").read_text())
    assert facts["counts"] == summary.counts and facts["arguments"]["seed"] == 11
    assert {name: len(frame) for name, frame in tables.items()}.items() <= summary.counts.items()
    with (out / "sites.csv").open() as file:
        sites = {row["SITEID"]: row for row in csv.DictReader(file)}
    screened = tables["DM"]["SITEID"].value_counts()
    assert {s: int(r["SCREENED"]) for s, r in sites.items() if r["SCREENED"] != "0"} == screened.to_dict()
    assert screened.max() > 2 * screened.min()
    start = tables["DM"]["SITEID"].map({s: r["ACTIVATED"] for s, r in sites.items()})
    assert (tables["DM"]["RFICDTC"] >= start).all()
