"""The commands of medical coding, and the component."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from components.standards import code_terms
from pipelines.cli import cli
from tests.support.coding_dictionaries import DRUGS, write_dictionaries, write_meddra
from tests.support.homes import Made, artifact, leave, live_in
from trialops.settings import settings
from trialops.stores import step

LB = pl.DataFrame(
    {
        "LBTESTCD": ["GLUC"] * 12 + ["XQ"],
        "LBTEST": ["Glucose"] * 12 + ["Xylophone"],
        "LBORRES": [str(90 + i) for i in range(12)] + ["1"],
        "LBORRESU": ["mg/dL"] * 12 + ["mg/dL"],
        "LBCAT": ["CHEMISTRY"] * 13,
    }
)
AE = pl.DataFrame({"AETERM": ["HEADACHE", "queasy feelng"]})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def run(home: Path, vocabulary: str = "") -> tuple[int, dict[str, Made]]:
    made = {name: artifact(home, name) for name in ("clean", "coded", "review", "report")}
    with step("prepare") as prepare:
        prepare.write(made["clean"], {"LB": LB, "AE": AE}, zone="clean")  # type: ignore[arg-type]
    waiting = code_terms.python_func(made["clean"], made["coded"], made["review"], made["report"], vocabulary)
    return waiting, made


def cli_run(home: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(cli, ["--home", str(home), "coding", *arguments])
    settings.cache_clear()
    return result


def table(made: Made, name: str) -> pl.DataFrame:
    with step("look") as look:
        return look.read(made)[name]  # type: ignore[arg-type]


def test_component_and_decision_between_runs(home: Path, tmp_path: Path) -> None:
    vocabulary = str(write_dictionaries(tmp_path / "vocabulary"))
    waiting, made = run(home, vocabulary)
    assert waiting == 2
    terms = table(made["coded"], "terms")
    status = dict(terms.select("verbatim", "status").iter_rows())
    assert status == {"Glucose": "auto", "Xylophone": "review", "HEADACHE": "auto", "queasy feelng": "review"}
    lb = table(made["coded"], "LB")
    assert lb["LBSTRESN"][0] == pytest.approx(4.9957, rel=1e-4) and lb["LBORRES"].equals(LB["LBORRES"])
    assert table(made["review"], "rows").height == 2
    page = Path(made["report"].path).read_text()
    assert "2 texts wait for a person" in page and "2345-7" in page
    assert "queasy" not in page and "Xylophone" not in page  # on fewer rows than a page may show

    listing = cli_run(home, "queue").output
    key = next(line for line in listing.splitlines() if "queasy" in line).split()[0]
    cli_run(home, "import-meddra", str(tmp_path / "vocabulary" / "meddra"))
    accepted = cli_run(home, "accept", key, "90000005", "--reason", "same meaning", "--actor", "ann")
    assert "accepted 90000005 Queasy feeling" in accepted.output, accepted.output
    waiting, made = run(home, vocabulary)
    assert waiting == 1
    terms = table(made["coded"], "terms").filter(pl.col("verbatim") == "queasy feelng")
    assert terms.select("status", "code").row(0) == ("remembered", "90000005")


def test_queue_show_reject_assign_reopen(home: Path, tmp_path: Path) -> None:
    run(home)
    key = cli_run(home, "queue").output.split()[0]
    shown = cli_run(home, "show", key).output
    assert "Xylophone" in shown and "open" in shown and "testcd" in shown
    assert "on" not in cli_run(home, "queue", "--assignee", "bob").output.splitlines()[:-1]
    cli_run(home, "assign", key, "bob", "--reason", "chemistry")
    assert key in cli_run(home, "queue", "--assignee", "bob").output
    assert "rejected" in cli_run(home, "reject", key, "--reason", "no such test").output
    assert "0 of 0 items" in cli_run(home, "queue").output
    assert key in cli_run(home, "queue", "--all").output
    twice = cli_run(home, "reject", key, "--reason", "again")
    assert twice.exit_code != 0
    assert "open" in cli_run(home, "reopen", key, "--reason", "it exists").output
    by_number = cli_run(home, "accept", key, "99", "--reason", "x")
    assert by_number.exit_code != 0


def test_imports(home: Path, tmp_path: Path) -> None:
    order = tmp_path / "icd10cm-order-2019.txt"
    order.write_text(f"00001 R05     1 {'Cough':<60} Cough\n")
    loinc = tmp_path / "Loinc.csv"
    loinc.write_text(
        "LOINC_NUM,COMPONENT,PROPERTY,TIME_ASPCT,SYSTEM,SCALE_TYP,METHOD_TYP,LONG_COMMON_NAME\n"
        "2345-7,Glucose,MCnc,Pt,Ser/Plas,Qn,,Glucose [Mass/volume] in Serum or Plasma\n"
    )
    drugs = tmp_path / "list.csv"
    drugs.write_text(DRUGS)
    assert "1 codes of fiscal year 2019" in cli_run(home, "import-icd10", str(order)).output
    assert "1 terms" in cli_run(home, "import-loinc", str(loinc)).output
    assert "2 terms" in cli_run(home, "import-whodrug", str(drugs)).output
    assert "7 terms" in cli_run(home, "import-meddra", str(write_meddra(tmp_path / "m"))).output
    assert sorted(p.name for p in (home / "dictionaries").rglob("*") if p.is_file()) == [
        *("Loinc.csv", "icd10cm-order-2019.txt", "llt.asc", "mdhier.asc", "pt.asc", "whodrug.csv"),
    ]
    assert "Aspirin" in cli_run(home, "lookup", "WHODrug", "aspirin").output
    assert "Glucose [Mass/volume]" in cli_run(home, "lookup", "LOINC", "glucose").output
    assert "nothing fits" in cli_run(home, "lookup", "MedDRA", "qqqqq").output
    order.write_text("broken")
    assert cli_run(home, "import-icd10", str(order)).exit_code != 0


def test_a_broken_dictionary_fails_the_step_with_a_remedy(home: Path, tmp_path: Path) -> None:
    folder = write_dictionaries(tmp_path / "vocabulary")
    (folder / "meddra" / "pt.asc").write_text("broken\n")
    with pytest.raises(Exception, match=r"MedDRA|Line 1"):
        run(home, str(folder))
    record = json.loads(next((home).rglob("steps/code-terms/record.json")).read_text())
    assert record["state"] == "failed" and record["error"]["where"] == "pt.asc"
