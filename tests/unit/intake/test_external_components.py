"""The steps of external data on deliveries that lack a kind, or arrive before the trial knows its subjects."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp.dsl import HTML, Dataset

from components.intake import ingest_dicom, ingest_hl7, ingest_vcf
from tests.support.dicom_maker import encode, image
from tests.support.homes import leave, live_in
from tests.support.vcf_maker import vcf
from trialops.errors import TrialOpsError
from trialops.intake import vcf_intake
from trialops.intake.external import find_files
from trialops.settings import settings
from trialops.stores.context import Step


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def run_all(home: Path, source: Path, number: int = 1) -> dict[str, Dataset]:
    """All three steps; their tables by name."""
    made = {}
    for step, first in ((ingest_hl7, "raw"), (ingest_dicom, "instances"), (ingest_vcf, "variants")):
        outs = {}
        for name in (first, "quarantine", "unmatched"):
            label = f"{first}-{name}-{number}"
            outs[name] = made[f"{first}/{name}"] = Dataset(name=label, uri=str(home / "out" / label), metadata={})
        outs["report"] = HTML(name="report", uri=str(home / "out" / f"{first}-report-{number}"), metadata={})
        step.python_func(str(source), **outs)
        made[f"{first}/report"] = outs["report"]
    return made


def test_any_kind_may_be_absent(home: Path, tmp_path: Path) -> None:
    delivery = tmp_path / "delivery" / "vcf"
    delivery.mkdir(parents=True)
    (delivery / "one.vcf").write_text(vcf(["s1"], ["F"], autosomal=3, on_x=0))
    (delivery / "subjects.csv").write_text("identifier,USUBJID\ns1,01-701-1001\n")
    made = run_all(home, delivery.parent)
    run = Step("look", {}, settings())
    files = run.read(made["variants/variants"])["files"]
    assert files["LOADED"].to_list() == [3] and files["TIER"].to_list() == ["controlled"]
    assert run.read_table(made["instances/instances"]).is_empty() and run.unseal(made["raw/raw"])["LB"].is_empty()
    assert "0 laboratory records read" in Path(made["raw/report"].path).read_text()
    back = tmp_path / "back.vcf.gz"
    vcf_intake.fetch(files["KEY"][0], run.vault, run.objects, back)
    columns = next(
        line for line in gzip.decompress(back.read_bytes()).decode().splitlines() if line.startswith("#CHROM")
    )
    assert columns.split("\t")[9:] == [run.vault.pseudonym("subject", "01-701-1001")]


def test_before_the_trial_knows_its_subjects_everything_waits(home: Path, tmp_path: Path) -> None:
    delivery = tmp_path / "delivery"
    for kind in ("dicom", "vcf"):
        (delivery / kind).mkdir(parents=True)
    (delivery / "dicom" / "one.dcm").write_bytes(encode(image("01-701-1001")))
    (delivery / "vcf" / "one.vcf").write_text(vcf(["01-701-1001"], ["F"], autosomal=3, on_x=0))
    made = run_all(home, delivery)
    run = Step("look", {}, settings())
    for kind in ("instances", "variants"):
        assert run.read_table(made[f"{kind}/unmatched"])["REASON"].to_list() == ["NO_SUBJECTS"]
        assert run.read_table(made[f"{kind}/quarantine"])["reason"].to_list() == ["NO_SUBJECTS"]
    (delivery / "dicom" / "subjects.csv").write_text("identifier,USUBJID\n01-701-1001,01-701-1001\n")
    later = run_all(home, delivery, 2)
    assert run.read_table(later["instances/instances"]).height == 1


def test_labels_say_nothing_and_do_not_depend_on_names(tmp_path: Path) -> None:
    for name in ("quimby.dcm", "b/ada.dcm"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name[:1].encode())
    one = [(f.label, f.sha256) for f in find_files(tmp_path, "dicom")]
    (tmp_path / "quimby.dcm").rename(tmp_path / "zzz.dcm")
    assert [(f.label, f.sha256) for f in find_files(tmp_path, "dicom")] == one
    assert not any("quimby" in label or "ada" in label for label, _ in one)


def test_a_delivery_that_does_not_exist(home: Path, tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="does not exist"):
        run_all(home, tmp_path / "nowhere")


def test_crosswalk_that_contradicts_itself(home: Path, tmp_path: Path) -> None:
    delivery = tmp_path / "delivery" / "dicom"
    delivery.mkdir(parents=True)
    (delivery / "subjects.csv").write_text("identifier,USUBJID\n7,01-701-1001\n7,01-701-1002\n")
    with pytest.raises(TrialOpsError, match="two subjects"):
        run_all(home, delivery.parent)
