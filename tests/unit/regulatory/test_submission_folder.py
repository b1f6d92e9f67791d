"""The submission folder: same cut, same bytes; a changed byte is found; large data sets are split; nothing half-way."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from random import Random

import polars as pl
import pytest
from lxml import etree

from tests.support import submissions
from tests.support.cdisc_schemas import define_schema
from trialops.errors import TrialOpsError
from trialops.intake.xport import Column, XportWriter
from trialops.intake.xport_read import read_transport
from trialops.regulatory import submission as module
from trialops.regulatory.cut import Cut, make_cut
from trialops.regulatory.package import CHECKSUMS, MANIFEST
from trialops.regulatory.submission import folder_name, verify_submission, write_submission
from trialops.stores.folders import folder_digest

SDTM = "m5/datasets/t1/tabulations/sdtm"


def cut(**more: pl.DataFrame) -> Cut:
    return Cut({**submissions.tables(), **more}, {}, ("A note.",))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "package"
    return write_submission(folder, cut(), submissions.STUDY, source="abc").folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(written, tmp_path / "package")
    return tmp_path / "package"


def test_tree_and_manifest(folder: Path) -> None:
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    names = ["ae", "dm", "lb", "suppae", "ts"]
    assert found == sorted(
        [f"{SDTM}/{n}.xpt" for n in names]
        + [f"m5/datasets/t1/misc/dataset-json/{n}.json" for n in names]
        + [f"{SDTM}/{n}" for n in ("define.xml", "define.html", "csdrg.html")]
        + ["README.txt", MANIFEST, CHECKSUMS]
    )
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["study"] == "T1" and manifest["source"] == "abc" and manifest["created"] == "2026-01-02T03:04:05"
    assert manifest["records"] == {"AE": 3, "DM": 3, "LB": 4, "SUPPAE": 1, "TS": 1}
    assert verify_submission(folder) == ([], [])


def test_checksums_are_what_md5sum_computes(folder: Path) -> None:
    done = subprocess.run(["md5sum", "-c", CHECKSUMS], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.count(": OK") == 14, done.stderr


def test_links_of_define_xml_lead_to_files(folder: Path) -> None:
    document = etree.parse(str(folder / SDTM / "define.xml"))
    schema = etree.XMLSchema(etree.parse(str(define_schema())))
    assert schema.validate(document), schema.error_log
    hrefs = document.xpath("//@xlink:href", namespaces={"xlink": "http://www.w3.org/1999/xlink"})
    assert len(hrefs) == 7 and all((folder / SDTM / href).is_file() for href in hrefs)


def test_same_cut_same_bytes_but_for_the_stamp(folder: Path, tmp_path: Path) -> None:
    shuffled = Cut({n: f.sample(fraction=1.0, shuffle=True, seed=1) for n, f in submissions.tables().items()}, {},
                   ("A note.",))  # fmt: skip
    again = write_submission(tmp_path / "again", shuffled, submissions.STUDY, source="abc")
    assert folder_digest(again.folder) == folder_digest(folder)
    later = write_submission(tmp_path / "later", cut(), replace(submissions.STUDY, created="2026-05-05T00:00:00"))
    assert folder_digest(later.folder) != folder_digest(folder)


def test_guide_and_definitions_are_pages_that_count(folder: Path) -> None:
    guide = (folder / SDTM / "csdrg.html").read_text()
    assert "A note." in guide and "AE.AEACN has no value in any record." in guide and "Laboratory Test Results" in guide
    page = (folder / SDTM / "define.html").read_text()
    assert "IT.LB" not in page and "described value by value of LBTESTCD" in page and "C66731" in page
    assert "T1-01-001" not in guide + page


@pytest.mark.parametrize("seed", range(12))
def test_a_changed_byte_is_found(folder: Path, seed: int) -> None:
    random = Random(seed)
    path = random.choice([p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != MANIFEST])
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)
    problems, _ = verify_submission(folder)
    assert [p.path for p in problems] == [path.relative_to(folder).as_posix()]


def test_missing_added_and_rewritten_files_are_found(folder: Path) -> None:
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    assert verify_submission(folder, expected=digest) == ([], [])
    (folder / SDTM / "ae.xpt").unlink()
    (folder / "extra.txt").write_text("x")
    assert [p.text for p in verify_submission(folder)[0]] == [
        "the file is not part of the package",
        "the file is missing",
    ]
    # Somebody who changes a file and its entry is found by the digest that was recorded elsewhere.
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["files"][f"{SDTM}/ae.xpt"]
    (folder / "extra.txt").unlink()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert verify_submission(folder)[0] == []
    assert [p.path for p in verify_submission(folder, expected=digest)[0]] == [MANIFEST]
    assert verify_submission(folder)[1], "and by the definitions, which still name the data set"


@pytest.mark.parametrize("name", ["manifest.json", "nothing"])
def test_what_is_no_package_is_said_so(folder: Path, name: str) -> None:
    (folder / MANIFEST).write_text("[]")
    with pytest.raises(TrialOpsError, match="not a package"):
        verify_submission(folder if name == "manifest.json" else folder / "nothing")


def _long(rows: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "STUDYID": ["T1"] * rows,
            "DOMAIN": ["VS"] * rows,
            "USUBJID": [f"T1-{i // 7:04d}" for i in range(rows)],
            "VSSEQ": [float(i % 7 + 1) for i in range(rows)],
            "VSTESTCD": ["PULSE"] * rows,
            "VSTEST": ["Pulse Rate"] * rows,
            "VSORRES": [str(50 + i % 60) for i in range(rows)],
        }
    )


@pytest.mark.parametrize("limit", [4_000, 5_000, 9_000])
def test_large_data_sets_are_also_split_by_subject(tmp_path: Path, limit: int) -> None:
    frame = _long(420)
    written = write_submission(tmp_path / "p", cut(VS=frame), submissions.STUDY, most_bytes=limit)
    sdtm = tmp_path / "p" / SDTM
    whole = read_transport((sdtm / "vs.xpt").read_bytes())
    parts = [p for p in written.split if p[0] == "VS"]
    read = [read_transport((sdtm / "split" / name).read_bytes()) for _, name, _ in parts]
    assert len(parts) > 1 and pl.concat([r.frame for r in read]).equals(whole.frame)
    assert all((sdtm / "split" / name).stat().st_size <= limit + 80 for _, name, _ in parts)
    assert [r.name for r in read] == [f"VS{i + 1:02d}" for i in range(len(read))]
    ends = {r.frame["USUBJID"][-1] for r in read[:-1]} & {r.frame["USUBJID"][0] for r in read[1:]}
    assert not ends, "no subject is cut in two"
    assert verify_submission(tmp_path / "p") == ([], [])
    assert "vs01.xpt" in (sdtm / "csdrg.html").read_text()


def test_a_subject_larger_than_a_part_is_cut(tmp_path: Path) -> None:
    frame = _long(420).with_columns(pl.lit("T1-0001").alias("USUBJID"), pl.Series("VSSEQ", range(420)).cast(pl.Float64))
    written = write_submission(tmp_path / "p", cut(VS=frame), submissions.STUDY, most_bytes=4_000)
    assert sum(rows for name, _, rows in written.split if name == "VS") == 420


def test_a_limit_below_one_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="single row"):
        write_submission(tmp_path / "p", cut(), submissions.STUDY, most_bytes=900)
    assert not list(tmp_path.iterdir())


def test_a_value_that_does_not_fit_leaves_the_earlier_package(folder: Path) -> None:
    before = folder_digest(folder)
    ae = submissions.tables()["AE"].with_columns(pl.lit("x" * 201).alias("AETERM"))
    with pytest.raises(TrialOpsError, match="AETERM") as caught:
        write_submission(folder, cut(AE=ae), submissions.STUDY)
    assert "ae.xpt" in caught.value.where and caught.value.fix
    with pytest.raises(TrialOpsError, match="not ASCII"):
        write_submission(folder, cut(AE=ae.with_columns(pl.lit("\u00e9").alias("AETERM"))), submissions.STUDY)
    assert folder_digest(folder) == before and [p.name for p in folder.parent.iterdir()] == ["package"]


def test_a_writer_that_lies_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = XportWriter.write
    monkeypatch.setattr(XportWriter, "write", lambda self, frame, special=None: honest(self, frame.reverse(), special))
    with pytest.raises(TrialOpsError, match="read back is not"):
        write_submission(tmp_path / "p", cut(), submissions.STUDY)
    assert module.KIND == "submission" and not list(tmp_path.iterdir())


def test_folder_names_follow_ectd() -> None:
    assert folder_name("CDISC_Pilot/01") == "cdisc-pilot-01"
    with pytest.raises(TrialOpsError):
        folder_name("***")


def _xpt(path: Path, name: str, frame: pl.DataFrame) -> bytes:
    columns = [Column(c, "char", 40, c) for c in frame.columns]
    with XportWriter(path, name, "", columns) as writer:
        writer.write(frame)
    return path.read_bytes()


def test_the_cut_takes_newest_rows_and_later_deliveries(tmp_path: Path) -> None:
    given = submissions.tables()
    dm = given["DM"].with_columns(pl.lit("dm.xpt").alias("_SOURCE"))
    newer = dm.head(1).with_columns(pl.lit("corrections/2024-05-01/dm.xpt").alias("_SOURCE"), pl.lit("M").alias("SEX"))
    supp = given["SUPPAE"]
    later = pl.concat([supp.with_columns(pl.lit("N").alias("QVAL")), supp.with_columns(pl.lit("2").alias("IDVARVAL"))])
    received = {
        "delivery 2/suppae.xpt": _xpt(tmp_path / "a", "SUPPAE", later),
        "suppae.xpt": _xpt(tmp_path / "b", "SUPPAE", supp),
        "dm.xpt": _xpt(tmp_path / "c", "DM", given["DM"].select("STUDYID")),
    }
    made = make_cut({"DM": pl.concat([dm, newer])}, received)
    assert set(made.tables) == {"DM", "SUPPAE"}
    assert made.tables["DM"].height == 3 and made.tables["DM"].filter(USUBJID="T1-01-001")["SEX"].to_list() == ["M"]
    assert "_SOURCE" not in made.tables["DM"].columns
    assert sorted(made.tables["SUPPAE"].select("IDVARVAL", "QVAL").rows()) == [("1", "N"), ("2", "Y")]
    assert "1 record(s) were corrected" in made.comments["DM"] and any("replaced by a later" in n for n in made.notes)


def test_a_cut_without_subjects_is_refused() -> None:
    with pytest.raises(TrialOpsError, match="no DM"):
        make_cut({"AE": submissions.tables()["AE"]}, {})
