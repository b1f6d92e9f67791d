"""External data ingestion end to end: laboratory messages, images and genomes of the synthesized trial."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pydicom
import pyreadstat
import pytest
from kfp.dsl import HTML, Dataset

from components.intake import ingest_dicom, ingest_hl7, ingest_sdtm, ingest_vcf
from components.privacy import deidentify
from tests.local.main_job import Home
from tests.support.dicom_maker import encode, image
from tests.support.homes import leave, live_in
from tests.support.vcf_maker import vcf
from trialops.settings import Settings
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store
from trialops.stores.vault import open_vault
from trialops.synthetic import generate

TABLES = (
    "labs/unmatched", "quarantine/labs", "imaging/instances", "imaging/unmatched", "quarantine/imaging",
    "controlled/files", "controlled/samples", "controlled/unmatched", "quarantine/genomes",
)  # fmt: skip


def lake(home: Home) -> Lake:
    return Lake(str(home.path / "lake"), open_store(str(home.path)))


def newest(home: Home, table: str) -> pl.DataFrame:
    store = lake(home)
    version = store.versions(table)[0]
    from trialops.stores.refs import TableRef

    return store.read(TableRef(table, version["version"], version["rows"], version["digest"]))


def record(home: Home, run_id: str, step: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((home.path / "runs" / run_id / "steps" / step / "record.json").read_text())
    return found


def succeeds(home: Home, *arguments: str) -> dict[str, object]:
    done = home.trialops(*arguments)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return home.run()


def deliver(folder: Path, dm: pl.DataFrame) -> None:
    """Images and genomes beside the laboratory messages; among them what must be set aside."""
    subjects, sexes = dm["USUBJID"].to_list(), dm["SEX"].to_list()
    images = folder / "dicom"
    images.mkdir()
    for i in range(4):
        for number in (1, 2):
            data = encode(image(subjects[i], number=number, sex=sexes[i]))
            (images / f"quimby-{i}-{number}.dcm").write_bytes(data)
    (images / "again.dcm").write_bytes((images / "quimby-0-1.dcm").read_bytes())
    (images / "burned.dcm").write_bytes(encode(image(subjects[5], sex=sexes[5], burned=None)))
    (images / "stranger.dcm").write_bytes(encode(image("MRN-1", sex="F")))
    (images / "cut.dcm").write_bytes(encode(image(subjects[6], sex=sexes[6]))[:-40])
    shipped = Path(pydicom.__file__).parent / "data" / "test_files"
    for name in ("CT_small.dcm", "MR_small.dcm", "rtstruct.dcm", "rtplan.dcm"):
        (images / name).write_bytes((shipped / name).read_bytes())
    genomes = folder / "vcf"
    genomes.mkdir()
    (genomes / "family.vcf").write_text(vcf(subjects[:3], sexes[:3], seed=1))
    (genomes / "other-build.vcf").write_text(vcf(subjects[3:4], sexes[3:4], build="GRCh37"))
    (genomes / "stranger.vcf").write_text(vcf(["NA12878"], ["F"]))
    swapped = ["F" if s == "M" else "M" for s in sexes[3:5]]
    (genomes / "swapped.vcf").write_text(vcf(subjects[3:5], swapped, seed=2))


def output(home: Path, kind: type, name: str):  # type: ignore[no-untyped-def]
    return kind(name=name, uri=str(home / "out" / name), metadata={})


def know_subjects(home: Path, trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run of the data pipeline leaves that matching needs: the clean DM table."""
    live_in(home, monkeypatch, "subjects")
    raw = output(home, Dataset, "raw")
    ingest_sdtm.python_func(str(trial / "sdtm"), raw, output(home, Dataset, "q"), output(home, HTML, "r"))
    deidentify.python_func(raw, output(home, Dataset, "c"), output(home, Dataset, "w"), output(home, HTML, "s"))
    leave()


def ingest_again(home: Path, delivery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three steps once more, as a further run."""
    live_in(home, monkeypatch, "again")
    for step in (ingest_hl7, ingest_dicom, ingest_vcf):
        outs = [output(home, Dataset, name) for name in ("first", "quarantine", "unmatched")]
        step.python_func(str(delivery), *outs, output(home, HTML, "report"))
    leave()


@pytest.mark.slow
def test_three_kinds_from_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, trial = Home(tmp_path / "home"), tmp_path / "trial"
    generate(trial, subjects=60, sites=4, seed=8, formats=("sdtm", "hl7"))
    dm = pl.from_pandas(pyreadstat.read_xport(str(trial / "sdtm" / "dm.xpt"))[0])
    delivery = tmp_path / "delivery"
    delivery.mkdir()
    (trial / "hl7").rename(delivery / "hl7")
    deliver(delivery, dm)

    know_subjects(home.path, trial, monkeypatch)
    run = succeeds(home, "run", "external_data_ingestion", "--source", str(delivery))
    run_id = str(run["run_id"])
    metrics = {step: record(home, run_id, step)["metrics"] for step in ("ingest-hl7", "ingest-dicom", "ingest-vcf")}
    labs, images, genomes = metrics.values()
    assert labs["results"] > 5000 and labs["quarantined"] == labs["unmatched"] == 0  # type: ignore[index]
    assert images == {"files_read": 16, "landed": 8, "quarantined": 7}
    assert genomes == {"files_read": 4, "variants": 520, "quarantined": 520 + 1 + 1}
    reasons = dict(newest(home, "quarantine/imaging")["reason"].value_counts().iter_rows())
    assert reasons == {"BURNED_IN": 3, "NO_PREAMBLE": 1, "SUBJECT_UNKNOWN": 2, "TRUNCATED": 1}
    assert set(newest(home, "quarantine/genomes")["reason"]) == {"SEX_DISAGREES", "SUBJECT_UNKNOWN", "WRONG_BUILD"}
    held = newest(home, "imaging/instances")
    assert held["SUBJECT"].n_unique() == 4 and held["SERIES_UID"].n_unique() == 4 and set(held["MODALITY"]) == {"CT"}
    clean = newest(home, "clean/dm")
    assert set(held["SUBJECT"]) | set(newest(home, "controlled/samples")["SUBJECT"]) <= set(clean["USUBJID"])

    # The same delivery again: no new version of anything.
    before = {t: [(v["version"], v["digest"]) for v in lake(home).versions(t)] for t in (*TABLES, "labs/history")}
    ingest_again(home.path, delivery, monkeypatch)
    after = {t: [(v["version"], v["digest"]) for v in lake(home).versions(t)] for t in (*TABLES, "labs/history")}
    assert before == after

    # A person decides whose the stranger's image is; it lands, and its subject's offset and pseudonym are known.
    listed = json.loads(home.trialops("labs", "unmatched", "--json", "--identify", "--reason", "phone call").stdout)
    stranger = next(line for line in listed if line.get("identifier") == "MRN-1")
    female = dm.filter(pl.col("SEX") == "F")["USUBJID"][0]
    assert home.trialops("labs", "match", stranger["queue"], female, "--reason", "site confirmed").returncode == 0
    ingest_again(home.path, delivery, monkeypatch)
    assert newest(home, "imaging/instances").height == 9

    # Nothing that names anybody left the sealed zone.
    objects = open_store(str(home.path))
    vault = open_vault(Settings(home=home.path), objects)
    for key in newest(home, "imaging/instances")["KEY"]:
        body = vault.decrypt(objects.get(key), key)
        assert b"Quimby" not in body and b"19480229" not in body and b"20260302" not in body
    for path in [*home.path.glob("runs/**/*.html"), *home.path.glob("runs/**/*.json"), *home.path.glob("lake/**/*")]:
        if path.is_file():
            text = path.read_bytes()
            assert b"uimby" not in text and b"MRN-1" not in text and b"NA12878" not in text, path
    pages = [p.read_text() for p in home.path.glob("runs/**/page.html")]
    assert any("controlled tier" in page for page in pages)
