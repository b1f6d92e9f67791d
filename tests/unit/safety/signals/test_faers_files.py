"""FAERS quarters: the latest version of a case, roles, deleted cases, verbatim oddities."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.safety.signals.counting import count_reports
from trialops.safety.signals.faers import read_faers

DEMO = "primaryid$caseid$caseversion$fda_dt$init_fda_dt$age$age_cod$sex$reporter_country"
DRUG = "primaryid$caseid$drug_seq$role_cod$drugname$prod_ai"
REAC = "primaryid$caseid$pt$drug_rec_act"


def write(folder: Path, quarter: str, demo: list[str], drug: list[str], reac: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, header, lines in (("DEMO", DEMO, demo), ("DRUG", DRUG, drug), ("REAC", REAC, reac)):
        (folder / f"{kind}{quarter}.txt").write_bytes("\n".join([header, *lines, ""]).encode("latin-1"))


@pytest.fixture
def quarters(tmp_path: Path) -> Path:
    root = tmp_path / "faers"
    write(
        root / "faers_ascii_2024Q1" / "ASCII",
        "24Q1",
        [
            "1001$100$1$20240105$20240105$55$YR$F$US",
            "2001$200$1$20240110$20231230$18$MON$M$DE",
            "3001$300$1$20240111$20240111$$$$US",
            "5001$500$1$20240111$20240111$7$DEC$F$US",
        ],
        [
            '1001$100$1$PS$ "ASPIRIN" 5" tab $ aspirin',
            "1001$100$2$C$METFORMIN$METFORMIN",
            "2001$200$1$PS$Café pills$",
            "3001$300$1$PS$DRUG C$C",
            "5001$500$1$SS$DRUG D$D",
        ],
        ["1001$100$Nausea$", "2001$200$Rash$", "3001$300$Death$", "5001$500$Rash$", "5001$500$Nausea$"],
    )
    write(
        root / "faers_ascii_2024Q2" / "ascii",
        "24q2",
        [
            "1002$100$2$20240405$20240105$56$YR$F$US",  # a later version of case 100
            "2002$200$2$20240110$20231230$19$MON$M$DE",  # the same day: the higher primary id
        ],
        ["1002$100$1$PS$ASPIRIN$aspirin", "1002$100$2$I$WARFARIN$warfarin", "2002$200$1$PS$Café pills$"],
        ["1002$100$Nausea$", "1002$100$Haemorrhage$", "1002$100$Haemorrhage$", "2002$200$Rash$"],
    )
    (root / "faers_ascii_2024Q2" / "deleted").mkdir()
    (root / "faers_ascii_2024Q2" / "deleted" / "DELE24Q2.txt").write_text("300\n")
    return root


def pairs(folder: Path, out: Path, **options: object) -> list[tuple[int, str, str]]:
    made = read_faers(folder, out, **options)  # type: ignore[arg-type]
    rows = pl.read_parquet(made.path).drop_nulls(["product", "event"]).select("report", "product", "event")
    return sorted(rows.rows())


def test_latest_version_primary_suspects_no_deleted_case(quarters: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.parquet"
    assert pairs(quarters, out) == [
        (100, "ASPIRIN", "HAEMORRHAGE"),
        (100, "ASPIRIN", "NAUSEA"),
        (200, "CAFÉ PILLS", "RASH"),
    ]
    made = read_faers(quarters, out)
    assert (made.versions, made.cases, made.older, made.deleted, made.broken) == (6, 3, 2, 1, 0)
    counts = count_reports(made.rows(("sex", "age", "year")))
    assert counts.reports == 2
    assert set(counts.strata) - {"(conflicting)"} == {"F | 45-64 | 2024", "M | 0-1 | 2023", "F | 65-74 | 2024"}
    assert counts.aside == {"no product": 2}, "case 500 has a secondary suspect alone"


def test_roles_and_names_are_parameters(quarters: Path, tmp_path: Path) -> None:
    found = pairs(quarters, tmp_path / "a.parquet", roles=("PS", "SS", "I"))
    assert (100, "WARFARIN", "NAUSEA") in found
    assert (500, "D", "RASH") in found
    verbatim = pairs(quarters, tmp_path / "b.parquet", roles=("SS",), ingredient=False)
    assert verbatim == [(500, "DRUG D", "NAUSEA"), (500, "DRUG D", "RASH")]


def test_quotes_are_characters_and_broken_lines_are_told(quarters: Path, tmp_path: Path) -> None:
    for path in quarters.rglob("*24q2.txt"):
        path.unlink()
    found = pairs(quarters, tmp_path / "a.parquet", ingredient=False)
    assert found[0] == (100, '"ASPIRIN" 5" TAB', "NAUSEA")
    with (quarters / "faers_ascii_2024Q1" / "ASCII" / "REAC24Q1.txt").open("a") as file:
        file.write("9001$900$Rash$$$too$many$fields\n")
    assert read_faers(quarters, tmp_path / "b.parquet").broken == 1


def test_what_cannot_be_read_is_said(quarters: Path, tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="Unknown role: XX"):
        read_faers(quarters, tmp_path / "a.parquet", roles=("PS", "XX"))
    for path in list(quarters.rglob("REAC*.txt")):
        path.unlink()
    with pytest.raises(TrialOpsError, match="no REAC file"):
        read_faers(quarters, tmp_path / "a.parquet")
    (quarters / "REAC12Q3.txt").write_text("ISR$PT\n1$Rash\n")
    with pytest.raises(TrialOpsError, match="lacks primaryid"):
        read_faers(quarters, tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()
